"""What a model was read to be: a record for programs, and words and figures for people."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from helixplan.inputs.model import (
    FFN,
    Attention,
    CompressedAttention,
    LatentAttention,
    LayerGroup,
    Model,
    MoE,
    RecurrentAttention,
)
from helixplan.units import format_bytes, format_count, format_counted

KV_DTYPES = ("bf16", "fp8", "nvfp4")
COMPONENTS = ("attention", "dense", "experts", "shared", "router")
LIST_COLUMNS = ("name", "attention", "FFN", "layers", "total", "active", "KV fp8")
WIDEST_DTYPES = KV_DTYPES[:2]
GROUP_COLUMNS = ("group", "attention", "FFN", "layers", *(f"KV {dtype}" for dtype in WIDEST_DTYPES), "bounded")
"""KV: the bytes that each token adds to a request's cache. Bounded: what a request has whatever its context."""


def record(model: Model) -> dict[str, Any]:
    """All that was understood, exact, by names that the cost model uses."""
    return {
        "name": model.name,
        "sha256": model.sha256,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "max_context": model.max_context,
        "hidden": model.hidden,
        "vocabulary": model.vocabulary,
        "kv_bytes_per_token": {dtype: model.kv_bytes_per_token(dtype) for dtype in KV_DTYPES},
        "weights": {part: model.precision.of(part) for part in COMPONENTS},
        "groups": [
            {
                "name": group.name,
                "layers": len(group.layers),
                "kv_bytes_per_token": {dtype: group.kv_bytes_per_token(dtype) for dtype in KV_DTYPES},
                "attention": _described(group.attention),
                "ffn": _described(group.ffn),
            }
            for group in model.groups
        ],
    }


def list_row(model: Model) -> list[str]:
    """A line of the list of models."""
    return [
        model.name,
        ", ".join(sorted({_attention_words(attention) for _, attention, _ in model.attention_kinds})),
        ", ".join(sorted({_ffn_words(ffn) for _, ffn, _ in model.ffn_kinds})),
        str(model.layers),
        _billions(model.parameters),
        _billions(model.active_parameters),
        format_count(model.kv_bytes_per_token("fp8")),
    ]


def facts(model: Model) -> list[tuple[str, str]]:
    """What to look at first, a line each."""
    cache = ", ".join(f"{format_count(model.kv_bytes_per_token(dtype))} B in {dtype}" for dtype in KV_DTYPES)
    context = "not said" if model.max_context is None else f"{format_count(model.max_context)} tokens"
    return [
        ("parameters", f"{_billions(model.parameters)}, {_billions(model.active_parameters)} active a token"),
        ("layers", f"{model.layers} in {format_counted(len(model.groups), 'group')}, alike in each"),
        ("hidden", f"{format_count(model.hidden)}, vocabulary {format_count(model.vocabulary)}"),
        ("made for", context),
        ("KV a token", cache),
        ("weights", _weights(model)),
        ("sha256", model.sha256),
    ]


def group_rows(model: Model) -> list[list[str]]:
    """Each group of layers: its two halves, and the KV bytes that a token adds in all of its layers together."""
    return [
        [
            group.name,
            "none" if group.attention is None else _attention_words(group.attention),
            "none" if group.ffn is None else _ffn_words(group.ffn),
            str(len(group.layers)),
            *(format_count(group.kv_bytes_per_token(dtype)) for dtype in WIDEST_DTYPES),
            _bounded(group),
        ]
        for group in model.groups
    ]


def _described(half: Attention | FFN | None) -> dict[str, Any] | None:
    """What a half of a layer was read to be; None where layers have none."""
    if half is None:
        return None
    own = {field.name for field in fields(half) if field.init}
    return {"kind": type(half).__name__, **{name: value for name, value in asdict(half).items() if name in own}}


def _weights(model: Model) -> str:
    """ "experts mxfp4, the rest bf16"; components that the model has not are left out."""
    parts = {"dense": any(not isinstance(ffn, MoE) for _, ffn, _ in model.ffn_kinds)}
    experts = [ffn for _, ffn, _ in model.ffn_kinds if isinstance(ffn, MoE)]
    parts |= {"experts": bool(experts), "shared": any(ffn.shared_width for ffn in experts)}
    told = {part: model.precision.of(part) for part in COMPONENTS[:-1] if parts.get(part, True)}
    narrow = [f"{part} {dtype}" for part, dtype in told.items() if dtype != "bf16"]
    return ", ".join([*narrow, "the rest bf16"]) if narrow else "bf16"


def _bounded(group: LayerGroup) -> str:
    attention = group.attention
    if isinstance(attention, RecurrentAttention):
        held = attention.held_bytes(attention.query_heads, attention.kv_heads) * len(group.layers)
        return f"{format_bytes(held)} of state"
    window = getattr(attention, "window", None)
    said = f"{format_count(window)} tokens" if window else ""
    if isinstance(attention, CompressedAttention) and attention.state_bytes:
        return f"{said} + {format_bytes(attention.state_bytes * len(group.layers))}"
    return said


def _attention_words(attention: Attention) -> str:
    if isinstance(attention, LatentAttention):
        sparse = f" top {attention.indexer.top_k}" if attention.indexer else ""
        return f"MLA {attention.query_heads}{sparse}"
    if isinstance(attention, RecurrentAttention):
        return f"state {attention.query_heads}"
    if isinstance(attention, CompressedAttention) and attention.split_by_kvp:
        kind, chosen = ("CSA", f" top {attention.indexer.top_k}") if attention.indexer else ("HCA", "")
        return f"{kind} {attention.query_heads} 1/{attention.ratio}{chosen}"
    window = f" window {attention.window}" if attention.window else ""
    return f"GQA {attention.query_heads}/{attention.kv_heads}{window}"


def _ffn_words(ffn: FFN) -> str:
    if not isinstance(ffn, MoE):
        return "dense"
    return f"{ffn.experts_per_token}/{ffn.experts}" + (" shared" if ffn.shared_width else "")


def _billions(parameters: float) -> str:
    return f"{parameters / 1e9:,.1f}B"
