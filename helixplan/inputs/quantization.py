"""What weights are stored in, component by component: ``quantization_config``, or ``hf_quant_config.json`` beside a config.json.

A checkpoint names one format and the modules that stay bf16. Which components those are is found by asking, for the modules that
each component has in every layer, whether the checkpoint's patterns name them; the most of a component decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import translate
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from helixplan.errors import InputError, shown
from helixplan.inputs.model import LayerGroup, MoE, RecurrentAttention, WeightPrecision
from helixplan.inputs.validation import validate

MOST_PATTERNS, LONGEST_PATTERN, MOST_MATCHES = 4096, 200, 500_000
"""Of entries, of characters in one, of entries times modules: twice what any known checkpoint has, a third of a second."""
SAFE_REGEX = re.compile(r"(?:\.\*|\.|\\\.|\\d\+|\[0-9\]\+|[\w^$]|\([\w|.\\]+\)|-)+")
"""Expressions that cannot take long: literals, any one character, ``.*``, digits, and choices between literals."""
ALGORITHMS = {
    "fp8": "fp8",
    "fp8_pb_wo": "fp8",
    "fp8_pb_real": "fp8",
    "nvfp4": "nvfp4",
    "nvfp4_awq": "nvfp4",
    "w4a16_nvfp4": "nvfp4",
    "mxfp4": "mxfp4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_fp8": "mxfp4",
    "w4a16_awq": "int4",
    "w4a16": "int4",
    "int4_awq": "int4",
}
"""NVIDIA ModelOpt's names of what it quantised to."""
BITS_AND_KINDS = {(8, "float"): "fp8", (4, "int"): "int4"}
EXPERT_DTYPES = {"fp4": "mxfp4", "fp8": "fp8"}
"""``expert_dtype`` of DeepSeek-V4's configs: fp4 has an 8-bit exponent to every 32 numbers."""
METHODS = ("fp8", "mxfp4", "compressed-tensors", "modelopt", "awq", "gptq")


class Quantization(BaseModel):
    """``quantization_config``: what the weights are stored in. Keys that decide nothing here are let be."""

    model_config = ConfigDict(extra="allow", strict=True)

    quant_method: str = "compressed-tensors"
    quant_algo: str | None = None
    quantized_layers: dict[str, Any] | None = None
    bits: int | None = None
    config_groups: dict[str, Any] | None = None
    modules_to_not_convert: list[str] | None = None
    ignore: list[str] | None = None
    exclude_modules: list[str] | None = None


class _SidecarBody(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    quant_algo: str | None = None
    quantized_layers: dict[str, Any] | None = None
    exclude_modules: list[str] = []


class _Sidecar(BaseModel):
    """``hf_quant_config.json``, as NVIDIA's ModelOpt writes it."""

    model_config = ConfigDict(extra="allow", strict=True)

    quantization: _SidecarBody


Wrong = Callable[[str, str], InputError]
"""(key, message) -> the InputError to raise."""


@dataclass(frozen=True)
class Stated:
    """A ``quantization_config``, or what stands for one, and the file and key that state it."""

    quantization: Quantization
    file: str
    key: str = "quantization_config"

    def wrong(self, key: str, message: str) -> InputError:
        return InputError(message, file=self.file, field=f"{self.key}.{key}")


def read_sidecar(data: dict[str, Any], file: str) -> Stated | None:
    """``hf_quant_config.json`` as the ``quantization_config`` it stands for. Raises InputError where it is none."""
    body = validate(_Sidecar, data, file).quantization
    if body.quant_algo is None:
        return None
    stands_for = Quantization(
        quant_method="modelopt",
        quant_algo=body.quant_algo,
        quantized_layers=body.quantized_layers,
        exclude_modules=body.exclude_modules,
    )
    return Stated(stands_for, file, "quantization")


MODULES = {
    "attention": "self_attn.o_proj",
    "recurrent": "self_attn.o_proj",
    "dense": "mlp.gate_proj",
    "experts": "mlp.experts.0.gate_proj",
    "shared": "mlp.shared_experts.gate_proj",
}
"""What most checkpoints call one module of each component, in a layer; "recurrent" is attention with a state."""
BEFORE_LAYERS = ("model.language_model.", "language_model.model.", "language_model.", "backbone.", "model.")
"""What stands before "layers." in a checkpoint: wrappers put the language model one level down, Nemotron-H has a backbone."""


def precision_of(
    stated: Stated | None,
    groups: Iterable[LayerGroup],
    names: Mapping[str, str] = MODULES,
    expert_dtype: str | None = None,
) -> WeightPrecision:
    """Each component's dtype. Raises InputError where the format is none that helixplan prices.

    ``names``: what the checkpoint calls a module of each component, where that is not ``MODULES``. ``expert_dtype``: what
    DeepSeek-V4's releases say of the experts beside their fp8 format for everything else.
    """
    if stated is None:
        return WeightPrecision()
    stored, kept = _stored(stated.quantization, stated.wrong), _kept(stated.quantization, stated.wrong)
    dtypes: dict[str, str] = {}
    by_component = _modules(groups, MODULES | dict(names))
    asked = sum(map(len, by_component.values()))
    if len(kept) * asked > MOST_MATCHES:
        message = f"keeps {len(kept):,} entries in bf16, of {asked:,} modules; at most {MOST_MATCHES:,} pairs of them are read"
        raise InputError(message, file=stated.file, field=stated.key)
    for component, modules in by_component.items():
        found = Counter("bf16" if any(named(module) for named in kept) else stored(module) for module in modules)
        # Of as many in bf16 as not, the others decide.
        dtypes[component] = max(found, key=lambda dtype: (found[dtype], dtype != "bf16"))
    if expert_dtype is not None and stated.quantization.quant_method == "fp8":
        if expert_dtype not in EXPERT_DTYPES:
            allowed = ", ".join(EXPERT_DTYPES)
            raise InputError(f"got {expert_dtype!r}; allowed: {allowed}", file=stated.file, field="expert_dtype")
        dtypes["experts"] = EXPERT_DTYPES[expert_dtype]
    return WeightPrecision(**dtypes)


def _stored(quantization: Quantization, wrong: Wrong) -> Callable[[str], str]:
    """What each module that is not kept is stored in: one format, or where those are mixed its own or its parent's."""
    if (quantization.quant_algo or "").upper() != "MIXED_PRECISION" or quantization.quantized_layers is None:
        dtype = _dtype(quantization, wrong)
        return lambda module: dtype
    own = {}
    for name, said in quantization.quantized_layers.items():
        algorithm = said.get("quant_algo") if isinstance(said, dict) else None
        own[_from_layers(name)] = _of_algorithm(algorithm, wrong, f"quantized_layers.{name[:LONGEST_PATTERN]}")

    def of(module: str) -> str:
        while module not in own and "." in module:
            module = module.rpartition(".")[0]
        return own.get(module, "bf16")

    return of


def _kept(quantization: Quantization, wrong: Wrong) -> list[Callable[[str], bool]]:
    """Whether a module stays bf16, by each of the patterns that say so."""
    patterns = []
    for key in ("modules_to_not_convert", "ignore", "exclude_modules"):
        entries = getattr(quantization, key) or []
        if len(entries) > MOST_PATTERNS:
            raise wrong(key, f"has {len(entries)} entries; at most {MOST_PATTERNS:,} are read")
        patterns += [_pattern(text, partial(wrong, key)) for text in entries]
    return patterns


def _dtype(quantization: Quantization, wrong: Wrong) -> str:
    """What is not kept is stored in."""
    method = quantization.quant_method
    if method not in METHODS:
        raise wrong("quant_method", _advice(method, METHODS))
    if method in ("fp8", "mxfp4"):
        return method
    if method in ("awq", "gptq"):
        if quantization.bits != 4:
            raise wrong("bits", _advice(quantization.bits, (4,)))
        return "int4"
    if quantization.quant_algo is not None:
        return _of_algorithm(quantization.quant_algo, wrong, "quant_algo")
    return _of_groups(quantization.config_groups or {}, wrong)


def _of_algorithm(algorithm: object, wrong: Wrong, key: str) -> str:
    dtype = ALGORITHMS.get(algorithm.lower()) if isinstance(algorithm, str) else None
    if dtype is None:
        raise wrong(key, _advice(algorithm, sorted(ALGORITHMS)))
    return dtype


def _of_groups(groups: dict[str, Any], wrong: Wrong) -> str:
    """The dtype that ``config_groups`` tell by bits, kind of number and size of the groups that share a scale."""
    field = "config_groups"
    found = set()
    for name, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            raise wrong(f"{field}.{name}", "says nothing of weights")
        bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
        dtype = next((dtype for known, dtype in BITS_AND_KINDS.items() if known == (bits, kind)), None)
        if (bits, kind) == (4, "float"):
            dtype = "nvfp4" if size == 16 else "mxfp4" if size == 32 else None
        if dtype is None:
            told = f"{_plain(bits)}-bit {_plain(kind)} in groups of {_plain(size)}"
            raise wrong(f"{field}.{name}.weights", f"got {told}, which helixplan does not price; name one with --weights")
        found.add(dtype)
    if len(found) != 1:
        said = ", ".join(sorted(found)) or "none"
        raise wrong(field, f"has {said}; helixplan reads one format and the modules that stay bf16")
    return found.pop()


def _plain(value: object) -> str:
    """What was given, without the quotes of a text."""
    return shown(value).strip("'")


def _advice(given: object, known: Iterable[object]) -> str:
    allowed = ", ".join(str(one) for one in known)
    return f"got {shown(given)}, but helixplan reads {allowed}; drop the key and name the precision with --weights"


def _modules(groups: Iterable[LayerGroup], names: Mapping[str, str]) -> dict[str, list[str]]:
    """The names that checkpoints give the modules of each component, one a layer, from "layers." on."""
    modules: dict[str, list[str]] = {}
    for group in groups:
        parts = []
        if group.attention is not None:
            kind = "recurrent" if isinstance(group.attention, RecurrentAttention) else "attention"
            parts.append(("attention", names[kind]))
        if isinstance(group.ffn, MoE):
            parts.append(("experts", names["experts"]))
            if group.ffn.shared_width:
                parts.append(("shared", names["shared"]))
        elif group.ffn is not None:
            parts.append(("dense", names["dense"]))
        for component, name in parts:
            modules.setdefault(component, []).extend(f"layers.{layer}.{name}" for layer in group.layers)
    return modules


def _from_layers(name: str) -> str:
    """A module's name without what stands before its layers."""
    return name.removeprefix(next((before for before in BEFORE_LAYERS if name.startswith(before)), ""))


def _pattern(text: str, wrong: Callable[[str], InputError]) -> Callable[[str], bool]:
    """Whether a module is one that the pattern names: an expression after "re:", a glob, or a module or part of its path."""
    if len(text) > LONGEST_PATTERN:
        raise wrong(f"has an entry of {len(text)} characters; at most {LONGEST_PATTERN} are read")
    if text.startswith("re:"):
        body = text.removeprefix("re:")
        if not SAFE_REGEX.fullmatch(body):
            raise wrong(f"has {text[:60]!r}, an expression of a kind helixplan does not read")
        # Between ".*" and ".*" the first place that fits is as good as any: without going back no expression takes long.
        first, *others = body.split(".*")
        last = [f".*{others.pop()}"] if others else []
        try:
            expression = re.compile("".join([first, *(f"(?>.*?{piece})" for piece in others), *last]))
        except re.error as error:
            raise wrong(f"has {text[:60]!r}, which is no expression ({error.msg})") from None
        return lambda module: any(expression.match(before + module) for before in BEFORE_LAYERS)
    name = _from_layers(text)
    if "*" in name or "?" in name:
        glob = re.compile("|".join(translate(one) for one in (name, f"{name}.*")))
        return lambda module: glob.match(module) is not None
    part = f".{name}."
    return lambda module: part in f".{module}."
