"""The bytes a GPU holds: weights, KV cache, buffers, workspace. A sum of an attention part and an FFN part.

With a pipeline every layer kind counts as often as the stage with most of it has it, so the sum is an upper bound where
kinds are unevenly spread, and exact where pp is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.shares import Shares
from helixplan.inputs.model import Gemm, Model, MoE
from helixplan.inputs.workload import ACTIVATION_BYTES, BYTES_PER_ELEMENT
from helixplan.layout import VALUE, stage_bounds
from helixplan.numeric import Amount, Floats, ceil_div


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU, numbers or arrays (M,)."""

    weights_bytes: Amount = 0.0
    kv_cache_bytes: Amount = 0.0
    buffers_bytes: Amount = 0.0
    workspace_bytes: Amount = 0.0

    @property
    def total_bytes(self) -> Amount:
        return self.weights_bytes + self.kv_cache_bytes + self.buffers_bytes + self.workspace_bytes

    def __add__(self, other: Memory) -> Memory:
        return Memory(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def attention_memory(shares: Shares, exchange: Amount, stage: int | None = None) -> Memory:
    """Projections, cache and exchange buffers. ``exchange`` holds codes; ``stage`` None: of the fullest."""
    case, hidden = shares.case, shares.case.model.hidden
    total = Memory()
    for _, attention, layers in case.model.attention_kinds:
        held = shares.heads(attention)
        up = np.where(np.asarray(exchange) == VALUE, held.query, held.output)
        count = layers_held(case.model, layers, shares.pp, stage)
        weights = _gemm_bytes(shares, attention.gemms(hidden, held.query, held.kv, held.output, up))
        cache = shares.cached_requests * held.tokens * held.kv * attention.kv_elements_per_head * case.kv_bytes
        total += Memory(weights_bytes=count * weights, kv_cache_bytes=count * cache)
    return total + Memory(buffers_bytes=_exchange_buffers(shares))


def ffn_memory(shares: Shares, stage: int | None = None) -> Memory:
    """FFN weights, embedding and head, buffers and workspace. ``stage`` None: of the fullest."""
    case, hidden = shares.case, shares.case.model.hidden
    total = Memory()
    for _, ffn, layers in case.model.ffn_kinds:
        if isinstance(ffn, MoE):
            gemms = [
                ffn.router(hidden),
                *(ffn.shared.gemms(hidden, shares.ffn_group, component="shared") if ffn.shared else []),
            ]
            experts = ceil_div(ffn.experts, shares.ep) * ffn.expert_elements(hidden, shares.tpf)
            weights = _gemm_bytes(shares, gemms) + experts * BYTES_PER_ELEMENT[case.precision.experts]
        else:
            weights = _gemm_bytes(shares, ffn.gemms(hidden, shares.ffn_group))
        total += Memory(weights_bytes=layers_held(case.model, layers, shares.pp, stage) * weights)
    rows = ceil_div(case.model.vocabulary, shares.stage) * hidden * BYTES_PER_ELEMENT["bf16"]
    activations = 2 * shares.stage_requests * hidden * ACTIVATION_BYTES
    return total + Memory(
        weights_bytes=rows * _tables(case.model, shares.pp, stage),
        buffers_bytes=activations,
        workspace_bytes=case.hardware.file.kernels.overheads.workspace_bytes,
    )


def memory_limit(case: Case) -> float:
    """What a GPU may hold: its memory times the utilization asked for."""
    return case.workload.memory_utilization * case.hardware.gpu.memory_bytes


def layers_held(model: Model, layers: tuple[int, ...], pp: Floats, stage: int | None) -> Floats:
    """How many of ``layers`` a stage holds, or the stage with most of them.  -> (M,)"""
    most = {int(depth): _layers_by_stage(model.layers, layers, int(depth)) for depth in np.unique(pp)}
    if len(most) == 1:
        counts = next(iter(most.values()))
        return np.full(pp.shape, float(max(counts) if stage is None else counts[stage]))
    table = np.zeros(max(most) + 1)
    for depth, counts in most.items():
        table[depth] = max(counts) if stage is None else counts[stage]
    return np.asarray(table[pp.astype(int)])


@lru_cache(maxsize=8192)
def _layers_by_stage(total: int, layers: tuple[int, ...], pp: int) -> tuple[int, ...]:
    return tuple(sum(start <= layer < end for layer in layers) for start, end in stage_bounds(total, min(pp, total)))


def _tables(model: Model, pp: Floats, stage: int | None) -> Amount:
    """Vocabulary tables a GPU holds a share of: embedding on the first stage, head on the last; both, for the sum's sake,
    where any stage may be meant."""
    if stage is None:
        return np.where(pp > 1, 2.0, 1.0) if model.tied_embedding else 2.0
    first, last = stage == 0, stage == int(pp[0]) - 1
    if first and last:
        return 1.0 if model.tied_embedding else 2.0
    return float(first or last)


def _gemm_bytes(shares: Shares, gemms: list[Gemm]) -> Amount:
    return sum(gemm.elements * BYTES_PER_ELEMENT[shares.case.precision.of(gemm.component)] for gemm in gemms)


def _exchange_buffers(shares: Shares) -> Floats:
    """Room to send and receive one layer's partial outputs, where there is an exchange."""
    widest = np.zeros(len(shares.layouts))
    for _, attention, _ in shares.case.model.attention_kinds:
        if attention.window is None:
            partial = attention.output_dim * ACTIVATION_BYTES + 4
            widest = np.maximum(widest, 2 * shares.group_requests * shares.heads(attention).query * partial)
    return np.where(shares.kvp > 1, widest, 0.0)
