"""config.json -> Model. This module, ``config`` and ``families`` are all that knows Hugging Face's keys."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helixplan.errors import InputError, did_you_mean, shown
from helixplan.inputs.catalog import find_model
from helixplan.inputs.config import ConfigFile, Reader
from helixplan.inputs.families import ARCHITECTURES, DECISIVE, Architecture
from helixplan.inputs.model import FFN, Attention, CompressedAttention, LayerGroup, Model, MoE, RecurrentAttention
from helixplan.inputs.quantization import Stated, precision_of, read_sidecar
from helixplan.inputs.validation import parse_json, read_text, validate

MAX_CONFIG_BYTES, MOST_KEYS = 8_000_000, 1000
"""Some ten times the largest config there is, and its keys."""


def load_model(model: str | Path | dict[str, Any]) -> Model:
    """A bundled name, a path to a config.json (or its folder), or a dict of its shape. Raises InputError."""
    if isinstance(model, dict):
        return read_config(model, "model", name=str(model.get("name", "model")))
    path = find_model(str(model))
    return read_config(_parsed(path), str(path), name=_name(path), stored=_beside(path))


def import_model(path: Path) -> tuple[Model, dict[str, Any]]:
    """The model of a config.json, and a file that stands alone for it, of one reading. Raises InputError."""
    data, stored = _parsed(path), _beside(path)
    return read_config(data, str(path), name=_name(path), stored=stored), _bundled_style(data, stored, path.name)


def _name(path: Path) -> str:
    return path.parent.resolve().name if path.name == "config.json" else path.stem


def _parsed(path: Path) -> dict[str, Any]:
    """A config.json. Python writes Infinity into some, in keys that decide nothing here; none that do takes it."""
    return parse_json(read_text(path, MAX_CONFIG_BYTES), str(path), constants=True)


def _beside(path: Path) -> Stated | None:
    """What ``hf_quant_config.json`` beside a config.json says of the weights."""
    sidecar = path.parent / "hf_quant_config.json"
    if path.name != "config.json" or not (sidecar.exists() or sidecar.is_symlink()):
        return None
    return read_sidecar(parse_json(read_text(sidecar, MAX_CONFIG_BYTES), str(sidecar)), str(sidecar))


def language_model(data: dict[str, Any]) -> dict[str, Any]:
    """The keys of the language model: those of ``text_config`` in a model that also sees, its architecture the outer one."""
    inner = data.get("text_config")
    if not isinstance(inner, dict):
        return data
    outer = {key: data[key] for key in ("architectures", "quantization_config", "source", "name") if key in data}
    # Where both say, the inner model's own word counts, but for the tie: of either's classes some say true unless told otherwise.
    ties = [one["tie_word_embeddings"] for one in (data, inner) if "tie_word_embeddings" in one]
    tie = {"tie_word_embeddings": next((one for one in ties if one is not True), True)} if ties else {}
    return inner | outer | tie


def _bundled_style(data: dict[str, Any], stored: Stated | None, file: str) -> dict[str, Any]:
    """The keys of a config.json that helixplan reads, as a file that stands alone: the language model's, and its precision."""
    data = language_model(data)
    kept = {key: value for key, value in data.items() if key in ConfigFile.model_fields}
    if kept.get("quantization_config") is None and stored is not None:
        kept["quantization_config"] = stored.quantization.model_dump(exclude_none=True)
    return kept | {"source": data.get("source") or {"config": file}}


def read_config(data: dict[str, Any], file: str, name: str, stored: Stated | None = None) -> Model:
    """The model a config.json describes. Raises InputError naming ``file`` and the key that is wrong or missing.

    ``stored``: what the weights are stored in, where the config itself does not say.
    """
    data = language_model(data)
    if len(data) > MOST_KEYS:
        raise InputError(f"has {len(data):,} keys; at most {MOST_KEYS:,} are read", file=file)
    known = ARCHITECTURES.get(_named(data))
    _refuse_unread(data, known, file)
    if known is None:
        _refuse_unknown(data, file)
    filled = {**known.defaults, **known.implied(data)} if known else {}
    config = validate(ConfigFile, filled | data, file)
    _refuse_misspelt(data, file)
    assert known is not None
    reader = Reader(config, file)
    groups = _group(known.attention(reader), known.ffn(reader))
    stated = Stated(config.quantization_config, file) if config.quantization_config else stored
    return Model(
        name=name,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        tied_embedding=config.tie_word_embeddings,
        groups=groups,
        max_context=config.max_position_embeddings or config.model_max_length,
        precision=precision_of(stated, groups, known.modules, config.expert_dtype),
        streams=config.hc_mult or 1,
    )


def _named(data: dict[str, Any]) -> str:
    """The architecture that a config names first, or "" where it names none."""
    named = data.get("architectures")
    return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ""


def _says(data: dict[str, Any], key: str) -> bool:
    """Whether a key is there and is neither null nor 0."""
    value = data.get(key)
    return value is not None and not (isinstance(value, int) and value == 0)


def _refuse_unread(data: dict[str, Any], known: Architecture | None, file: str) -> None:
    """Raises InputError about a key of layers that the architecture is not known to have."""
    for key, what in DECISIVE.items():
        if known is not None and _says(data, key) and key not in known.reads:
            raise InputError(f"{_named(data)} with {what} is none that helixplan can price", file=file, field=key)


def _refuse_unknown(data: dict[str, Any], file: str) -> None:
    """Raises InputError about an architecture that is none of those known, if one is named, and what its layers are."""
    named = _named(data)
    if named:
        kinds = [f"{key} says {what}" for key, what in DECISIVE.items() if _says(data, key)]
        hint = did_you_mean(named, ARCHITECTURES) + (f"; {kinds[0]}" if kinds else "")
        message = f"{shown(named)} is not an architecture helixplan can place{hint}; known: {', '.join(ARCHITECTURES)}"
        raise InputError(message, file=file, field="architectures")


ROUTING_KEYS = {"n_group", "topk_group"}
"""Keys of a router's groups of experts, which decide no shape but look like others that do."""


def _refuse_misspelt(data: dict[str, Any], file: str) -> None:
    """A key one slip away from a known one that the file lacks would otherwise be passed over in silence."""
    known = set(ConfigFile.model_fields)
    for key in data.keys() - known - ROUTING_KEYS:
        near = difflib.get_close_matches(key, known - data.keys(), n=1, cutoff=0.93)
        if near:
            raise InputError(f"is not a known key; did you mean {near[0]!r}?", file=file, field=key)


def _group(attentions: Sequence[Attention | None], ffns: Sequence[FFN | None]) -> tuple[LayerGroup, ...]:
    """Layers that are alike under one name; the name says only what tells the groups apart."""
    members: dict[tuple[Attention | None, FFN | None], list[int]] = {}
    for layer, kind in enumerate(zip(attentions, ffns, strict=True)):
        members.setdefault(kind, []).append(layer)
    mixed_attention, mixed_ffn = len(set(attentions)) > 1, len(set(ffns)) > 1
    groups = []
    for (attention, ffn), layers in members.items():
        words = []
        if attention is not None and (mixed_attention or ffn is None):
            words.append(_attention_word(attention))
        if ffn is not None and (mixed_ffn or not mixed_attention or attention is None):
            words.append("moe" if isinstance(ffn, MoE) else "dense")
        groups.append(LayerGroup("-".join(words), attention, ffn, tuple(layers)))
    return tuple(groups)


def _attention_word(attention: Attention) -> str:
    if isinstance(attention, RecurrentAttention):
        return "linear" if attention.delta or not attention.scalars else "mamba"
    if isinstance(attention, CompressedAttention) and attention.split_by_kvp:
        return "csa" if attention.indexer else "hca"
    return "full" if attention.window is None else "sliding"
