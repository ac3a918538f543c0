"""One decode step: named phases of attention and FFN, their overlap, and the token-to-token latency (TTL).

A step is a sum of an attention part and an FFN part. They meet only in the GPUs and requests they share, which is what lets
the solver choose them side by side (docs/architecture.md, "Why the solver").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.collectives import all_reduce, best_chunks, overlapped, pipeline_hop
from helixplan.cost.exchange import Exchange, projected_heads
from helixplan.cost.ffn import dense_phases, moe_phases
from helixplan.cost.memory import Memory, attention_memory, ffn_memory, fullest_loads
from helixplan.cost.roofline import MICRO, attention_core, gemm, index_core, small_kernels, state_step
from helixplan.cost.shares import Heads, Shares
from helixplan.cost.timing import Timing
from helixplan.inputs.model import (
    Attending,
    Attention,
    CompressedAttention,
    Gemm,
    LatentAttention,
    Model,
    MoE,
    RecurrentAttention,
)
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.layout import AUTO, EXCHANGE_CODES, LATENT, VALUE, Layouts
from helixplan.numeric import Amount, Bools, Floats, Ints, ceil_div

SMALL_KERNELS_A_LAYER = 5
MIXING_KERNELS_A_HALF, COMPRESSING_KERNELS = 3, 2
"""Short kernels besides: where there are residual streams to mix, and of each compressor (what it keeps, what it makes)."""
COMMUNICATION = ("attention.exchange", "attention.reduce", "ffn.gather", "ffn.reduce")
PHASE_ORDER = (
    "attention.qkv",
    "attention.index",
    "attention.core",
    "attention.exchange",
    "attention.merge",
    "attention.value_up",
    "attention.out",
    "attention.reduce",
    "ffn.gather",
    "ffn.dense",
    "ffn.router",
    "ffn.latent",
    "ffn.experts",
    "ffn.shared",
    "ffn.reduce",
    "small",
    "head",
    "pipeline",
    "step",
)


@dataclass(frozen=True)
class Phase:
    """One named share of a step: its layers, and its timing over all of them."""

    name: str
    group: str | None
    layers: int
    timing: Timing


@dataclass(frozen=True)
class Part:
    """Half of a step: phases, their sum in seconds (M,), and the bytes it needs on each kind of stage."""

    phases: list[Phase]
    seconds: Floats
    memory: list[Memory]

    @property
    def held_bytes(self) -> Floats:
        """Bytes of a GPU.  -> (stage kinds, M)"""
        return np.stack([np.broadcast_to(kind.total_bytes, self.seconds.shape) for kind in self.memory])

    @property
    def cache_bytes(self) -> Floats:
        """Of those, the KV cache.  -> (stage kinds, M)"""
        return np.stack([np.broadcast_to(kind.kv_cache_bytes, self.seconds.shape) for kind in self.memory])


@dataclass(frozen=True)
class AttentionPart(Part):
    """``exchange`` (codes) and ``chunks`` are the ones taken, where the layouts left them open."""

    exchange: Ints
    chunks: Ints


def attention_part(case: Case, layouts: Layouts, batch: Amount) -> AttentionPart:
    """The attention half of a step for M layouts. Reads kvp, tpa, dp, pp, exchange and overlap_chunks only. (Helix 2.1)"""
    shares = Shares(case, layouts, batch)
    first, *others = [_attended(shares, way) for way in case.exchange_ways]
    for other in others:
        first = first.or_faster(other)
    phases = [*first.phases, _uneven_stages(shares, first.phases)]
    memory = attention_bytes(shares, first.exchange)
    return AttentionPart(phases, _seconds(phases), memory, first.exchange, first.chunks.astype(np.int64))


@dataclass(frozen=True)
class _Attended:
    """Attention's phases in some way, with the exchange codes and chunks they stand for."""

    phases: list[Phase]
    exchange: Ints
    chunks: Floats

    def or_faster(self, other: _Attended) -> _Attended:
        """Layout by layout whichever takes less time; this one where they tie."""
        return self.where(_seconds(self.phases) <= _seconds(other.phases), other)

    def where(self, mine: Bools, other: _Attended) -> _Attended:
        """This one where ``mine`` holds, the other elsewhere."""
        pairs = zip(self.phases, other.phases, strict=True)
        return _Attended(
            [replace(one, timing=one.timing.where(mine, two.timing)) for one, two in pairs],
            np.where(mine, self.exchange, other.exchange),
            np.where(mine, self.chunks, other.chunks),
        )


def _attended(shares: Shares, way: str) -> _Attended:
    """All of attention but what uneven stages add, in one of ``EXCHANGE_WAYS``."""
    exchange = _settled_exchange(shares)
    if np.any(exchange == AUTO):
        latent, value = (_core_phases(shares, np.where(exchange == AUTO, code, exchange), way) for code in (LATENT, VALUE))
        faster = _seconds(latent.phases) <= _seconds(value.phases)
        core = latent.where((exchange == LATENT) | ((exchange == AUTO) & faster), value)
    else:
        core = _core_phases(shares, exchange, way)
    return replace(core, phases=_projection_phases(shares, way) + core.phases)


def ffn_part(case: Case, layouts: Layouts, batch: Amount) -> Part:
    """The other half: FFN, head, pipeline hops, step overhead. Of attention it reads only kvp x tpa, dp and pp. (Helix 2.2)"""
    shares = Shares(case, layouts, batch)
    phases = []
    several = len(case.model.ffn_kinds) > 1
    for name, ffn, layers in case.model.ffn_kinds:
        timings = moe_phases(shares, name, ffn) if isinstance(ffn, MoE) else dense_phases(shares, name, ffn)
        phases += [Phase(p, name if several else None, len(layers), t.times(float(len(layers)))) for p, t in timings.items()]
    small = small_kernels(case.machine, SMALL_KERNELS_A_LAYER).times(case.model.halves / 2)
    further = _further_kernels(case.model)
    small = small + small_kernels(case.machine, further) if further else small
    phases.append(Phase("small", None, case.model.layers, small))
    excess = _uneven_stages(shares, phases)
    head = Gemm("head", case.model.hidden, ceil_div(case.model.vocabulary, shares.stage))
    phases.append(Phase("head", None, 1, gemm(case.machine, shares.stage_requests, head, "bf16")))
    hops = pipeline_hop(shares.fabric, shares.gpus, shares.group_requests * case.model.hidden * ACTIVATION_BYTES)
    excess = replace(excess, timing=excess.timing + hops.times(np.where(shares.pp > 1, shares.pp, 0.0)))
    phases += [excess, Phase("step", None, 1, Timing(case.workload.step_overhead_s))]
    return Part(phases, _seconds(phases), ffn_bytes(shares))


def _further_kernels(model: Model) -> int:
    """Short kernels of a step that only hyper-connections and compressors have."""
    compressed = [(kind, len(layers)) for _, kind, layers in model.attention_kinds if isinstance(kind, CompressedAttention)]
    compressing = COMPRESSING_KERNELS * sum(len(kind.compressors) * layers for kind, layers in compressed)
    return compressing + (MIXING_KERNELS_A_HALF * model.halves if model.streams > 1 else 0)


def attention_bytes(shares: Shares, exchange: Ints) -> list[Memory]:
    """What the attention half needs on each kind of stage."""
    return attention_memory(shares, exchange, fullest_loads(shares.case.model, shares.pp))


def ffn_bytes(shares: Shares) -> list[Memory]:
    """What the FFN half needs on each kind of stage."""
    return ffn_memory(shares, fullest_loads(shares.case.model, shares.pp))


def _seconds(phases: Iterable[Phase]) -> Floats:
    return np.asarray(sum(phase.timing.seconds for phase in phases), dtype=float)


def _settled_exchange(shares: Shares) -> Ints:
    """The exchange codes, with the choice made where there is none: one KVP rank, no latent attention, or the workload's."""
    asked = np.asarray(shares.layouts.exchange)
    asked = np.where(asked == AUTO, EXCHANGE_CODES[shares.case.exchange], asked)
    if not shares.case.model.is_latent:
        return np.full(len(shares.layouts), LATENT)
    return np.where(shares.kvp > 1, asked, LATENT)


def _uneven_stages(shares: Shares, phases: list[Phase]) -> Phase:
    """The slowest stage sets the pace: every layer's time counts ceil(L/pp) pp / L times; this is the excess."""
    layers = shares.case.model.layers
    excess = ceil_div(layers, shares.pp) * shares.pp / layers - 1
    return Phase("pipeline", None, layers, Timing(_seconds(phases) * excess))


def _kinds(shares: Shares) -> Iterator[tuple[str | None, Attention, Heads, int]]:
    """Each kind of attention layer: what its phases are called after (None where there is but one), heads held, layers."""
    kinds = shares.case.model.attention_kinds
    for name, attention, layers in kinds:
        yield name if len(kinds) > 1 else None, attention, shares.heads(attention), len(layers)


def _projection_phases(shares: Shares, way: str) -> list[Phase]:
    """What the choice between latents and values does not touch: projections in and out, and the all-reduce after them."""
    phases: list[Phase] = []
    size = shares.group_requests * shares.case.model.hidden * ACTIVATION_BYTES
    shot = shares.case.ways.get("attention.reduce")
    reduced = all_reduce(shares.fabric, shares.attention_group, shares.attention_group, size, way=shot)
    for group, attention, held, layers in _kinds(shares):
        timings = {"attention.reduce": reduced}
        queries = projected_heads(held, attention, way)
        for matrix in attention.gemms(shares.case.model.hidden, queries, held.kv, held.output, held.output):
            if matrix.phase != "attention.value_up":
                timings[matrix.phase] = timings.get(matrix.phase, Timing()) + _gemm(shares, matrix)
        if isinstance(attention, (LatentAttention, CompressedAttention)) and attention.indexer is not None:
            context = shares.case.workload.context_tokens
            scored_over = attention.entries(context) if isinstance(attention, CompressedAttention) else context
            scored = index_core(shares.case.machine, attention, attention.indexer, shares.group_requests, float(scored_over))
            timings["attention.index"] += scored
        phases += [Phase(name, group, layers, timing.times(float(layers))) for name, timing in timings.items()]
    return phases


def _gemm(shares: Shares, matrix: Gemm) -> Timing:
    return gemm(shares.case.machine, shares.group_requests, matrix, shares.case.precision.of(matrix.component))


def _core_phases(shares: Shares, exchange: Ints, way: str) -> _Attended:
    """Attention core, exchange, merge and value up-projection for settled exchange codes."""
    phases: list[Phase] = []
    chunks = np.ones(len(shares.layouts))
    for group, attention, held, layers in _kinds(shares):
        if isinstance(attention, RecurrentAttention):
            stepped = state_step(shares.case.machine, attention, shares.group_requests, held.query, held.kv)
            phases.append(Phase("attention.core", group, layers, stepped.times(float(layers))))
            continue
        timings = {}
        floor, core = attention_core(shares.case.machine, attention, shares.group_requests, held.tokens, held.query, held.kv)
        if attention.split_by_kvp:
            exposed, merged, chunks = _exchange(shares, attention, held, exchange, floor, core, way)
            timings = {"attention.exchange": exposed, "attention.merge": merged}
            floors = Timing(floor * chunks)
        else:
            floors = Timing(floor)
        if shares.case.detailed:
            floors = floors.judged(shares.case.machine.attention_kernel(attention).median_error)
        timings["attention.core"] = core + floors
        up = np.where(exchange == VALUE, held.query, held.output)
        for matrix in attention.gemms(shares.case.model.hidden, held.query, held.kv, held.output, up):
            if matrix.phase == "attention.value_up":
                again = np.where(exchange == VALUE, chunks - 1, 0.0)
                timings[matrix.phase] = _gemm(shares, matrix) + Timing(_value_up_floor(shares) * again)
        phases += [Phase(name, group, layers, timing.times(float(layers))) for name, timing in timings.items()]
    return _Attended(phases, exchange, chunks)


def _exchange(
    shares: Shares,
    attention: Attending,
    held: Heads,
    exchange: Ints,
    floor: float,
    core: Timing,
    way: str,
) -> tuple[Timing, Timing, Floats]:
    """What is exposed of the exchange, the merge, and the chunks taken. Nothing where there is one KVP rank.

    A rank sends its partial outputs and their statistics, whatever its shard holds: no context in it. HOP-B hides some of
    that, but not of the queries gathered before.
    """
    width: Amount = attention.output_dim
    if isinstance(attention, LatentAttention):
        width = np.where(exchange == VALUE, attention.value_dim, attention.kv_rank)
    run = Exchange(shares, held, attention, width, way)
    sent = run.after()
    exchange_floor = sent.seconds - sent.network_s
    handover = shares.case.hardware.kernels.overheads.chunk_handover_us * MICRO

    relaunch: Amount = 0.0
    if isinstance(attention, LatentAttention):
        relaunch = np.where(exchange == VALUE, _value_up_floor(shares), 0.0)
    chunks = _chunks(shares, floor, core.seconds, exchange_floor, sent.network_s, handover, relaunch)
    together = overlapped(floor, core.seconds, exchange_floor, sent.network_s, handover, chunks)
    exposed = np.where(shares.kvp > 1, together - (floor * chunks + core.seconds), 0.0)
    timing = replace(sent, seconds=exposed, network_s=np.minimum(sent.network_s, exposed))
    if shares.case.detailed:
        timing = timing.judged(run.median_error())
    return timing + run.before(), run.folded().times(np.where(shares.kvp > 1, 1.0, 0.0)), chunks


def _value_up_floor(shares: Shares) -> float:
    """A launch of the value up-projection: one a chunk where values are exchanged, for there it comes before the exchange."""
    return shares.case.machine.gemm_kernel(shares.case.precision.attention)[0].floor_us * MICRO


def _chunks(
    shares: Shares, floor: float, core: Floats, exchange_floor: Floats, exchange: Floats, handover: float, relaunch: Amount
) -> Floats:
    """HOP-B's chunks: as the layouts say, else the best that the case's ``overlap`` allows."""
    most, overlap = shares.group_requests, shares.case.overlap
    asked = np.asarray(shares.layouts.overlap_chunks, dtype=float)
    if overlap == "none":
        best = np.ones(len(shares.layouts))
    elif np.all(asked > 0):
        best = asked
    else:
        best = best_chunks(floor, core, exchange_floor, exchange, handover, most, relaunch)
        best = np.maximum(best, 2.0) if overlap == "hop-b" else best
    chosen = np.where(asked > 0, asked, best)
    return np.where(shares.kvp > 1, np.minimum(chosen, most), 1.0)
