"""One layer's attention at the model's own head sizes over a long context, as the plan's ranks share it, against the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from helixplan.evidence.emulation import mathematics
from helixplan.evidence.emulation.attention import Merge
from helixplan.evidence.emulation.mathematics import partial_attention
from helixplan.evidence.emulation.ranks import owned_blocks
from helixplan.inputs.model import Attending, CompressedAttention, LatentAttention
from helixplan.numeric import Floats
from helixplan.plans import Plan, PlanRank

FULL_SIZE_TOKENS = 65_536 + 17
"""64k and an uneven rest."""


def full_size_error(
    plan: Plan,
    attention: Attending,
    tokens: int = FULL_SIZE_TOKENS,
    merge: Merge = mathematics.merged,
    tell: Callable[[str], None] = lambda said: None,
) -> float:
    """The largest error of any head's output, relative to the largest entry, for one request of so many tokens, in float64.

    The ranks of the first attention group hold the blocks and compute the heads that the plan says; each merges its own heads.
    """
    worst = 0.0
    slices: dict[tuple[int, ...], list[PlanRank]] = {}
    for rank in plan.ranks:
        if rank.stage == 0 and rank.dp == 0:
            slices.setdefault(tuple(rank.query_heads), []).append(rank)
    for index, (heads, ranks) in enumerate(slices.items()):
        tell(f"full-size attention, slice {index + 1} of {len(slices)}")
        for query, keys, values, served in _caches(attention, heads, tokens):
            owners = {rank.rank: _owned(rank, tokens) for rank in ranks}
            parts = [partial_attention((query @ keys[owned].T)[None], values[None, None, owned]) for owned in owners.values()]
            outputs, lse = (np.stack(side) for side in zip(*parts, strict=True))
            known = _whole(query @ keys.T, values)
            for rank in ranks:
                mine = [head for head in served if rank.output_heads[0] <= head < rank.output_heads[1]]
                rows = [served.index(head) for head in mine]
                if rows:
                    found = merge(outputs[:, :, rows], lse[:, :, rows])[0]
                    worst = max(worst, float(np.abs(found - known[rows]).max() / np.abs(known).max()))
    return worst


def _owned(rank: PlanRank, tokens: int) -> np.ndarray:
    """Where the rank's blocks are."""
    index, of, block = owned_blocks(rank)
    return np.flatnonzero(np.arange(tokens) // block % of == index)


def _whole(scores: Floats, values: Floats) -> Floats:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True) @ values)


def _caches(attention: Attending, heads: tuple[int, ...], tokens: int) -> Iterator[tuple[Floats, Floats, Floats, list[int]]]:
    """Of each KV head that these query heads read: scaled queries, keys, values (tokens, width), and whom it serves."""
    draw = np.random.default_rng(heads[0])
    if isinstance(attention, (LatentAttention, CompressedAttention)):
        cache = draw.standard_normal((tokens, attention.kv_elements_per_head))
        query = draw.standard_normal((heads[1] - heads[0], attention.kv_elements_per_head))
        width = attention.head_dim if isinstance(attention, CompressedAttention) else attention.nope_dim + attention.rope_dim
        yield query / np.sqrt(width), cache, cache[:, : attention.output_dim], list(range(*heads))
        return
    each = attention.query_heads // attention.kv_heads
    for kv in range(heads[0] // each, (heads[1] - 1) // each + 1):
        served = [head for head in range(*heads) if head // each == kv]
        keys, values = draw.standard_normal((2, tokens, attention.head_dim))
        query = draw.standard_normal((len(served), attention.head_dim))
        yield query / np.sqrt(attention.head_dim), keys, values, served
