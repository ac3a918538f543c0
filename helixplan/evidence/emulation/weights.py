"""Random weights, caches and tokens of a small model, whole and in float64: ranks slice them, the reference takes them whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from helixplan.evidence.emulation.recurrent import State
from helixplan.inputs.model import FFN, Attention, CompressedAttention, LatentAttention, Model, MoE, RecurrentAttention
from helixplan.numeric import Floats, Ints

Tensors = dict[str, Floats]


class Matrix(Protocol):
    """Draws a matrix whose products stay of order 1 over ``fan`` inputs."""

    def __call__(self, *shape: int, fan: int, scale: float = 1.0) -> Floats: ...


@dataclass(frozen=True)
class World:
    """The model's tensors by layer, what the requests' caches hold before the first step, and the tokens they are given.

    ``prefill`` by layer: keys and values (requests, tokens, KV heads, d), or latents (requests, tokens, 1, r_kv + d_rope) with
    the indexer's keys (requests, tokens, d); of a recurrent layer its states and the convolution's inputs; of compressed tokens
    each token's own entry, and the inputs of its compressors.
    """

    layers: list[Tensors]
    embedding: Floats
    head: Floats
    prefill: list[Tensors]
    tokens: Ints
    """(steps, requests)"""


def make_world(model: Model, requests: int, prefilled: int, steps: int, seed: int, sharpness: float) -> World:
    """``sharpness`` multiplies queries: at 1 attention's logits are of order 1, at 1e4 of order 1e4."""
    draw = np.random.default_rng(seed)

    def matrix(*shape: int, fan: int, scale: float = 1.0) -> Floats:
        return np.asarray(draw.standard_normal(shape) * (scale / np.sqrt(fan)))

    layers, prefill = [], []
    by_layer = {layer: group for group in model.groups for layer in group.layers}
    for layer in range(model.layers):
        attention, ffn = by_layer[layer].attention, by_layer[layer].ffn
        own, cached = _attention(matrix, attention, model.hidden, requests, prefilled, sharpness)
        layers.append(own | _ffn(matrix, ffn, model.hidden))
        prefill.append(cached)
    return World(
        layers,
        matrix(model.vocabulary, model.hidden, fan=1),
        matrix(model.hidden, model.vocabulary, fan=model.hidden),
        prefill,
        draw.integers(0, model.vocabulary, (steps, requests)),
    )


def _attention(
    matrix: Matrix, attention: Attention | None, hidden: int, requests: int, prefilled: int, sharpness: float
) -> tuple[Tensors, Tensors]:
    """(weights, what the requests' caches hold) of one layer."""
    if attention is None:
        return {}, {}
    if isinstance(attention, RecurrentAttention):
        return _recurrent(matrix, attention, hidden, requests)
    if isinstance(attention, CompressedAttention):
        return _compressed(matrix, attention, hidden, requests, prefilled, sharpness)
    heads = attention.query_heads
    if isinstance(attention, LatentAttention):
        rank = attention.query_rank or hidden
        own = {
            "kv_down": matrix(hidden, attention.kv_rank + attention.rope_dim, fan=hidden),
            "query_up": matrix(rank, heads, attention.nope_dim + attention.rope_dim, fan=rank, scale=sharpness),
            "key_up": matrix(heads, attention.nope_dim, attention.kv_rank, fan=attention.nope_dim),
            "value_up": matrix(heads, attention.kv_rank, attention.value_dim, fan=attention.kv_rank),
            "out": matrix(heads, attention.value_dim, hidden, fan=heads * attention.value_dim),
        }
        if attention.query_rank:
            own["query_down"] = matrix(hidden, attention.query_rank, fan=hidden)
        cached = {"kv": matrix(requests, prefilled, 1, attention.kv_elements_per_head, fan=1)}
        width = attention.value_dim
        if attention.indexer is not None:
            index = attention.indexer
            own["index_query"] = matrix(rank, index.heads, index.head_dim, fan=rank)
            own["index_key"] = matrix(hidden, index.head_dim + index.heads, fan=hidden)
            cached["index"] = matrix(requests, prefilled, index.head_dim, fan=1)
    else:
        width, kv = attention.head_dim, attention.kv_heads
        own = {
            "query": matrix(hidden, heads, width, fan=hidden, scale=sharpness),
            "key": matrix(hidden, kv, width, fan=hidden),
            "value": matrix(hidden, kv, width, fan=hidden),
            "out": matrix(heads, width, hidden, fan=heads * width),
        }
        cached = {"kv": matrix(requests, prefilled, kv, 2 * width, fan=1)}
    if attention.output_gate:
        own["gate"] = matrix(hidden, heads, width, fan=hidden)
    return own, cached


def _compressed(
    matrix: Matrix, attention: CompressedAttention, hidden: int, requests: int, prefilled: int, sharpness: float
) -> tuple[Tensors, Tensors]:
    rank, heads, width, spans = attention.query_rank, attention.query_heads, attention.head_dim, attention.spans
    groups, low = attention.output_groups, attention.output_rank
    own = {
        "query_down": matrix(hidden, rank, fan=hidden),
        "query_up": matrix(rank, heads, width, fan=rank, scale=sharpness),
        "kv_down": matrix(hidden, width, fan=hidden),
        "out_down": matrix(heads, width, low, fan=heads // groups * width),
        "out": matrix(groups, low, hidden, fan=groups * low),
    }
    cached = {"kv": matrix(requests, prefilled, 1, width, fan=1)}
    if attention.split_by_kvp:
        own["compress"] = matrix(hidden, 2, spans, width, fan=hidden)
        cached["entries inputs"] = matrix(requests, prefilled, 2, spans, width, fan=1)
    if attention.indexer is not None:
        index = attention.indexer
        own["index_query"] = matrix(rank, index.heads, index.head_dim, fan=rank)
        own["index_compress"] = matrix(hidden, attention.projected(index.head_dim) + index.heads, fan=hidden)
        cached["index inputs"] = matrix(requests, prefilled, 2, spans, index.head_dim, fan=1)
    return own, cached


def _recurrent(matrix: Matrix, attention: RecurrentAttention, hidden: int, requests: int) -> tuple[Tensors, Tensors]:
    heads, kv, key, value = attention.query_heads, attention.kv_heads, attention.key_dim, attention.value_dim
    own = {
        "query": matrix(hidden, kv, key, fan=hidden),
        "key": matrix(hidden, kv, key, fan=hidden),
        "value": matrix(hidden, heads, value, fan=hidden),
        "scalars": matrix(hidden, heads, attention.scalars, fan=hidden),
        "out": matrix(heads, value, hidden, fan=heads * value),
    }
    if attention.gate_rank is None:
        own["gate"] = matrix(hidden, heads, value, fan=hidden)
    else:
        own["gate_down"] = matrix(hidden, attention.gate_rank, fan=hidden)
        own["gate_up"] = matrix(attention.gate_rank, heads, value, fan=attention.gate_rank)
    if attention.decay_rank is not None:
        own["decay_down"] = matrix(hidden, attention.decay_rank, fan=hidden)
        own["decay_up"] = matrix(attention.decay_rank, heads, key, fan=attention.decay_rank)
    kept = attention.convolution - 1
    return own, {
        "states": matrix(requests, heads, key, value, fan=key),
        "queries": matrix(requests, kept, kv, key, fan=1),
        "keys": matrix(requests, kept, kv, key, fan=1),
        "values": matrix(requests, kept, heads, value, fan=1),
    }


def prefilled_state(cached: Tensors) -> State:
    """The state that a recurrent layer starts from."""
    return State(cached["states"], (cached["queries"], cached["keys"], cached["values"]))


def _ffn(matrix: Matrix, ffn: FFN | None, hidden: int) -> Tensors:
    if ffn is None:
        return {}
    sides = 2 if ffn.gated else 1
    if not isinstance(ffn, MoE):
        return _swiglu(matrix, "dense", hidden, ffn.width, (), sides)
    own = {"router": matrix(hidden, ffn.experts, fan=hidden)}
    own |= _swiglu(matrix, "expert", ffn.token_width(hidden), ffn.width, (ffn.experts,), sides)
    own |= _swiglu(matrix, "shared", hidden, ffn.shared_width, (), sides) if ffn.shared_width else {}
    if ffn.latent is not None:
        own["latent_in"] = matrix(hidden, ffn.latent, fan=hidden)
        own["latent_out"] = matrix(ffn.latent, hidden, fan=ffn.latent)
    return own


def _swiglu(matrix: Matrix, name: str, hidden: int, width: int, many: tuple[int, ...], sides: int) -> Tensors:
    return {
        f"{name}_in": matrix(*many, hidden, sides, width, fan=hidden),
        f"{name}_out": matrix(*many, width, hidden, fan=max(width, 1)),
    }
