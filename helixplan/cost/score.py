"""A step's latency, throughput and memory for any number of layouts at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.memory import memory_limit
from helixplan.cost.step import Part, attention_part, ffn_part
from helixplan.layout import Layouts
from helixplan.numeric import Bools, Floats, Ints, blocks, shared_rows


@dataclass(frozen=True)
class Scores:
    """Arrays of length M, one entry a layout. Seconds, bytes, tokens a second."""

    ttl_s: Floats
    memory_bytes: Floats
    memory_limit_bytes: float
    batch: Ints
    gpus: Ints
    exchange: Ints
    overlap_chunks: Ints

    @property
    def fits(self) -> Bools:
        """Whether a GPU holds its share."""
        return self.memory_bytes <= self.memory_limit_bytes

    @property
    def tokens_per_s_per_user(self) -> Floats:
        return 1 / self.ttl_s

    @property
    def tokens_per_s_per_gpu(self) -> Floats:
        """B / (TTL n pp)"""
        return self.batch / (self.ttl_s * self.gpus)


def score_case(case: Case, layouts: Layouts, batch: int | Ints) -> Scores:
    """Scores of M layouts at a batch (a number, or one for each). The layouts' structure is taken as sound.

    Many layouts share an attention half or an FFN half; each distinct half is worked out once.
    """
    case = case.brief()
    requests = np.broadcast_to(np.asarray(batch, dtype=np.int64), (len(layouts),))
    if not len(layouts):
        nothing, none = np.zeros(0), np.zeros(0, dtype=np.int64)
        return Scores(nothing, nothing, memory_limit(case), none, none, none, none)
    one = layouts
    rows, to_attention = shared_rows(one.kvp, one.tpa, one.dp, one.pp, one.exchange, one.overlap_chunks, requests)
    halves = [attention_part(case, one[block], requests[block]) for block in blocks(rows)]
    attention_s, attention_bytes = _columns(halves)
    exchange = np.concatenate([half.exchange for half in halves])
    chunks = np.concatenate([half.chunks for half in halves])

    # Sorted by EP and requests first, so that a block asks for few different loads of the experts.
    rows, to_ffn = shared_rows(one.ep, requests, one.pp, one.kvp * one.tpa, one.dp, one.tpf)
    ffn_s, ffn_bytes = _columns([ffn_part(case, one[block], requests[block]) for block in blocks(rows)])

    return Scores(
        ttl_s=attention_s[to_attention] + ffn_s[to_ffn],
        memory_bytes=(attention_bytes[:, to_attention] + ffn_bytes[:, to_ffn]).max(axis=0),
        memory_limit_bytes=memory_limit(case),
        batch=requests,
        gpus=one.gpus,
        exchange=exchange[to_attention],
        overlap_chunks=chunks[to_attention],
    )


def _columns(halves: Sequence[Part]) -> tuple[Floats, Floats]:
    """Seconds (M,) and bytes (stage kinds, M) of halves worked out in blocks."""
    return np.concatenate([half.seconds for half in halves]), np.concatenate([half.held_bytes for half in halves], axis=1)
