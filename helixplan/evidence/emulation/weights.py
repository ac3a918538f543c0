"""Random weights, caches and tokens of a small model, whole and in float64: ranks slice them, the reference takes them whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.inputs.model import GroupedQueryAttention, LatentAttention, Model, MoE
from helixplan.numeric import Floats, Ints

Tensors = dict[str, Floats]


@dataclass(frozen=True)
class World:
    """The model's tensors by layer, what the requests' caches hold before the first step, and the tokens they are given.

    ``prefill`` by layer: keys and values (requests, tokens, KV heads, d), or latents (requests, tokens, r_kv + d_rope).
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
        attention, ffn, hidden = by_layer[layer].attention, by_layer[layer].ffn, model.hidden
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
            prefill.append({"kv": matrix(requests, prefilled, 1, attention.kv_elements_per_head, fan=1)})
        else:
            assert isinstance(attention, GroupedQueryAttention)
            size, kv = attention.head_dim, attention.kv_heads
            own = {
                "query": matrix(hidden, heads, size, fan=hidden, scale=sharpness),
                "key": matrix(hidden, kv, size, fan=hidden),
                "value": matrix(hidden, kv, size, fan=hidden),
                "out": matrix(heads, size, hidden, fan=heads * size),
            }
            prefill.append({"kv": matrix(requests, prefilled, kv, 2 * size, fan=1)})
        if isinstance(ffn, MoE):
            own["router"] = matrix(hidden, ffn.experts, fan=hidden)
            own |= _swiglu(matrix, "expert", hidden, ffn.width, (ffn.experts,))
            own |= _swiglu(matrix, "shared", hidden, ffn.shared_width, ()) if ffn.shared_width else {}
        else:
            own |= _swiglu(matrix, "dense", hidden, ffn.width, ())
        layers.append(own)
    return World(
        layers,
        matrix(model.vocabulary, model.hidden, fan=1),
        matrix(model.hidden, model.vocabulary, fan=model.hidden),
        prefill,
        draw.integers(0, model.vocabulary, (steps, requests)),
    )


def _swiglu(matrix: object, name: str, hidden: int, width: int, many: tuple[int, ...]) -> Tensors:
    assert callable(matrix)
    return {
        f"{name}_in": matrix(*many, hidden, 2, width, fan=hidden),
        f"{name}_out": matrix(*many, width, hidden, fan=max(width, 1)),
    }
