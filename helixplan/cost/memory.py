"""The bytes a GPU holds: weights, KV cache, buffers, workspace. A sum of an attention part and an FFN part.

With a pipeline the stages hold different layers, and which of them is fullest depends on the layout. So each part is given
for every kind of stage (a model has one to three worth looking at), and a layout fits where every kind does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.roofline import STATISTIC_BYTES
from helixplan.cost.shares import Shares
from helixplan.inputs.model import Gemm, LatentAttention, Model, MoE
from helixplan.inputs.workload import ACTIVATION_BYTES, BYTES_PER_ELEMENT
from helixplan.layout import VALUE, dealt
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
        return Memory(
            self.weights_bytes + other.weights_bytes,
            self.kv_cache_bytes + other.kv_cache_bytes,
            self.buffers_bytes + other.buffers_bytes,
            self.workspace_bytes + other.workspace_bytes,
        )


@dataclass(frozen=True)
class StageLoad:
    """What a stage holds: layers of each attention kind and of each FFN kind, and vocabulary tables. Numbers or arrays (M,)."""

    attention: tuple[Amount, ...]
    ffn: tuple[Amount, ...]
    tables: Amount


def stage_loads(model: Model, pp: int) -> list[StageLoad]:
    """The load of every stage: the embedding on the first, the head on the last (one table, if they are tied and meet)."""
    loads = []
    for stage, (start, end) in enumerate(dealt(model.layers, pp)):
        tables = int(stage == 0) + int(stage == pp - 1)
        loads.append(
            StageLoad(
                tuple(sum(start <= layer < end for layer in layers) for _, _, layers in model.attention_kinds),
                tuple(sum(start <= layer < end for layer in layers) for _, _, layers in model.ffn_kinds),
                1 if pp == 1 and model.tied_embedding else tables,
            )
        )
    return loads


def fullest_loads(model: Model, pp: Floats) -> list[StageLoad]:
    """Of M pipelines the kinds of stages that may be the fullest, as many for each.  -> loads with arrays (M,)"""
    table = _load_table(model)[:, :, pp.astype(int)]
    kinds = len(model.attention_kinds)
    return [StageLoad(tuple(rows[:kinds]), tuple(rows[kinds:-1]), rows[-1]) for rows in table]


@lru_cache(maxsize=64)
def _load_table(model: Model) -> Floats:
    """The loads no other stage of the same pipeline tops in every count.  -> (stage kinds, counts, pp from 0 to L)

    A pipeline with fewer kinds of them than another repeats its last.
    """
    kinds = [layers for _, _, layers in model.attention_kinds] + [layers for _, _, layers in model.ffn_kinds]
    upto = np.zeros((len(kinds), model.layers + 1), dtype=np.int64)
    for row, layers in enumerate(kinds):
        upto[row, 1:] = np.cumsum(np.isin(np.arange(model.layers), layers))
    tops = []
    for pp in range(1, model.layers + 1):
        bounds = np.array(dealt(model.layers, pp))
        tables = (bounds[:, 0] == 0).astype(np.int64) + (bounds[:, 1] == model.layers)
        tables = np.minimum(tables, 1) if model.tied_embedding else tables
        loads = np.unique(np.vstack([upto[:, bounds[:, 1]] - upto[:, bounds[:, 0]], tables]), axis=1).T
        beaten = [any((other >= load).all() and (other != load).any() for other in loads) for load in loads]
        tops.append(loads[~np.array(beaten)])
    most = max(len(loads) for loads in tops)
    table = np.zeros((most, len(kinds) + 1, model.layers + 1))
    for pp, loads in enumerate(tops, start=1):
        table[:, :, pp] = loads[np.minimum(np.arange(most), len(loads) - 1)]
    return table


def attention_memory(shares: Shares, exchange: Amount, loads: list[StageLoad]) -> list[Memory]:
    """Projections, cache and exchange buffers, on stages with these loads. ``exchange`` holds codes."""
    case, hidden = shares.case, shares.case.model.hidden
    buffers = Memory(buffers_bytes=_exchange_buffers(shares, exchange))
    a_layer = []
    for _, attention, _ in case.model.attention_kinds:
        held = shares.heads(attention)
        up = np.where(np.asarray(exchange) == VALUE, held.query, held.output)
        weights = _gemm_bytes(shares, attention.gemms(hidden, held.query, held.kv, held.output, up))
        a_layer.append(Memory(weights_bytes=weights, kv_cache_bytes=shares.cached_requests * held.cache_bytes))
    return [_stage(buffers, a_layer, load.attention) for load in loads]


def ffn_memory(shares: Shares, loads: list[StageLoad]) -> list[Memory]:
    """FFN weights, embedding and head, buffers and workspace, on stages with these loads."""
    case, hidden = shares.case, shares.case.model.hidden
    table = ceil_div(case.model.vocabulary, shares.stage) * hidden * BYTES_PER_ELEMENT["bf16"]
    rest = Memory(
        buffers_bytes=2 * shares.stage_requests * hidden * ACTIVATION_BYTES,
        workspace_bytes=case.hardware.file.kernels.overheads.workspace_bytes,
    )
    a_layer = []
    for _, ffn, _ in case.model.ffn_kinds:
        if isinstance(ffn, MoE):
            shared = ffn.shared.gemms(hidden, shares.shared_group, component="shared") if ffn.shared else []
            experts = ceil_div(ffn.experts, shares.ep) * ffn.expert(hidden, shares.tpf).elements
            weights = _gemm_bytes(shares, [ffn.router(hidden), *ffn.projections(hidden), *shared])
            weights = weights + experts * BYTES_PER_ELEMENT[case.precision.experts]
        else:
            weights = _gemm_bytes(shares, ffn.gemms(hidden, shares.ffn_group))
        a_layer.append(Memory(weights_bytes=weights))
    return [_stage(rest + Memory(weights_bytes=load.tables * table), a_layer, load.ffn) for load in loads]


def _stage(besides: Memory, a_layer: list[Memory], counts: tuple[Amount, ...]) -> Memory:
    """So many layers of each kind, and what comes besides."""
    total = besides
    for layer, count in zip(a_layer, counts, strict=True):
        total += Memory(weights_bytes=count * layer.weights_bytes, kv_cache_bytes=count * layer.kv_cache_bytes)
    return total


def memory_limit(case: Case) -> float:
    """What a GPU may hold: its memory times the utilization asked for."""
    return case.workload.memory_utilization * case.hardware.gpu.memory_bytes


def _gemm_bytes(shares: Shares, gemms: list[Gemm]) -> Amount:
    return sum(gemm.elements * BYTES_PER_ELEMENT[shares.case.precision.of(gemm.component)] for gemm in gemms)


def _exchange_buffers(shares: Shares, exchange: Amount) -> Floats:
    """Room to send and to receive one layer's partial outputs, where there is an exchange."""
    widest = np.zeros(len(shares.layouts))
    for _, attention, _ in shares.case.model.attention_kinds:
        if attention.split_by_kvp:
            width: Amount = attention.output_dim
            if isinstance(attention, LatentAttention):
                width = np.where(np.asarray(exchange) == VALUE, attention.value_dim, attention.kv_rank)
            partial = width * ACTIVATION_BYTES + shares.case.communication.statistics * STATISTIC_BYTES
            widest = np.maximum(widest, 2 * shares.group_requests * shares.heads(attention).query * partial)
    return np.where(shares.kvp > 1, widest, 0.0)
