"""One layer's attention at the model's own head sizes over a long context: every KVP rank's shard, merged, against the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from helixplan.append import AppendSchedule
from helixplan.evidence.emulation.mathematics import merged, partial_attention
from helixplan.inputs.model import Attention, GroupedQueryAttention, LatentAttention
from helixplan.numeric import Floats

FULL_SIZE_TOKENS = 65_536 + 17
"""64k and an uneven rest."""


def full_size_error(
    attention: Attention, kvp: int, block: int, tokens: int = FULL_SIZE_TOKENS, tell: Callable[[str], None] = lambda said: None
) -> float:
    """The largest error of any head's output, relative to the largest entry, for one request of so many tokens, in float64."""
    schedule, worst = AppendSchedule(kvp, block), 0.0
    owners = np.asarray(schedule.owner(np.arange(tokens)))
    for index, (scores, values) in enumerate(_heads(attention, tokens)):
        tell(f"full-size attention, KV head {index + 1} of {attention.kv_heads}")
        known = _whole(scores, values)
        parts = [partial_attention(scores[None, :, owners == rank], values[None, None, owners == rank]) for rank in range(kvp)]
        found = merged(np.stack([output for output, _ in parts]), np.stack([lse for _, lse in parts]))[0]
        worst = max(worst, float(np.abs(found - known).max() / np.abs(known).max()))
    return worst


def _whole(scores: Floats, values: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True) @ values)


def _heads(attention: Attention, tokens: int) -> Iterator[tuple[Floats, Floats]]:
    """Scores (query heads, tokens) and values (tokens, width) of every KV head in turn."""
    draw = np.random.default_rng(0)
    if isinstance(attention, LatentAttention):
        cache = draw.standard_normal((tokens, attention.kv_elements_per_head))
        query = draw.standard_normal((attention.query_heads, attention.kv_elements_per_head))
        yield query @ cache.T / np.sqrt(attention.nope_dim + attention.rope_dim), cache[:, : attention.kv_rank]
        return
    assert isinstance(attention, GroupedQueryAttention)
    for _ in range(attention.kv_heads):
        keys, values = draw.standard_normal((2, tokens, attention.head_dim))
        query = draw.standard_normal((attention.query_heads // attention.kv_heads, attention.head_dim))
        yield query @ keys.T / np.sqrt(attention.head_dim), values
