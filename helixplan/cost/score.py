"""A step's latency, throughput and memory for any number of layouts at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.step import attention_part, ffn_part
from helixplan.layout import Layouts
from helixplan.numeric import Bools, Floats, Ints

BLOCK = 8192
"""Layouts scored at a time: few enough for the temporaries of a formula to stay in a core's cache."""


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
    """Scores of M layouts at a batch (a number, or one for each). The layouts' structure is taken as sound."""
    count = len(layouts)
    requests = np.broadcast_to(np.asarray(batch, dtype=np.int64), (count,))
    ttl, memory = np.empty(count), np.empty(count)
    exchange, chunks = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        attention = attention_part(case, layouts[rows], requests[rows])
        ffn = ffn_part(case, layouts[rows], requests[rows])
        ttl[rows] = attention.seconds + ffn.seconds
        memory[rows] = attention.memory.total_bytes + ffn.memory.total_bytes
        exchange[rows], chunks[rows] = attention.exchange, attention.chunks
    gpus = np.asarray(layouts.kvp) * layouts.tpa * layouts.dp * layouts.pp
    limit = case.workload.memory_utilization * case.hardware.gpu.memory_bytes
    return Scores(ttl, memory, limit, requests, gpus, exchange, chunks)
