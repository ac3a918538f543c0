"""What one layout costs and holds at a batch, exchange, chunks and collectives settled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from helixplan.cost.case import Case
from helixplan.cost.collectives import REDUCE_WAYS
from helixplan.cost.ffn import moe_ways
from helixplan.cost.memory import memory_limit
from helixplan.cost.step import COMMUNICATION, PHASE_ORDER, Part, Phase, attention_part, ffn_part
from helixplan.cost.timing import Timing
from helixplan.engines import engine_of
from helixplan.inputs.model import Model, MoE
from helixplan.inputs.workload import EXCHANGES
from helixplan.layout import Layout, Layouts
from helixplan.plans import PlanCost, PlanMemory, PlanPhase


@dataclass(frozen=True)
class Evaluated:
    """One layout at a batch: resolved, with its phases and memory."""

    layout: Layout
    batch: int
    cost: PlanCost
    memory: PlanMemory


def evaluate(case: Case, layout: Layout, batch: int) -> Evaluated:
    """The cost and memory of one layout at a batch, exchange and chunks resolved."""
    row = Layouts.of(layout)
    attention, ffn = attention_part(case, row, batch), ffn_part(case, row, batch)
    resolved = Layout(
        layout.kvp,
        layout.tpa,
        layout.tpf,
        layout.ep,
        layout.dp,
        layout.pp,
        exchange=EXCHANGES[int(attention.exchange[0])],
        overlap_chunks=int(attention.chunks[0]),
    )
    ttl = float(attention.seconds[0] + ffn.seconds[0])
    ideal, same = case.ideal(), Layouts.of(resolved)
    ideal_s = attention_part(ideal, same, batch).seconds[0] + ffn_part(ideal, same, batch).seconds[0]
    phases = _merged(attention.phases + ffn.phases)
    error, share = _constants_error(case, attention.phases + ffn.phases, ttl)
    stages = [one + other for one, other in zip(attention.memory, ffn.memory, strict=True)]
    held = max(stages, key=lambda kind: single(kind.total_bytes))
    total, limit = single(held.total_bytes), memory_limit(case)
    return Evaluated(
        resolved,
        batch,
        PlanCost(
            ttl_s=ttl,
            ttl_ideal_s=float(ideal_s),
            constants_error=error,
            constants_error_share=share,
            tokens_per_s_per_user=1 / ttl,
            tokens_per_s_per_gpu=batch / (ttl * layout.gpus),
            hidden_communication_s=_hidden(case, resolved, batch, phases),
            exposed_communication_s=sum(phase.seconds for phase in phases if phase.name in COMMUNICATION),
            phases=phases,
        ),
        PlanMemory(
            weights_bytes=single(held.weights_bytes),
            kv_cache_bytes=single(held.kv_cache_bytes),
            buffers_bytes=single(held.buffers_bytes),
            workspace_bytes=single(held.workspace_bytes),
            total_bytes=total,
            limit_bytes=limit,
            fits=total <= limit,
        ),
    )


def _constants_error(case: Case, phases: list[Phase], ttl: float) -> tuple[float | None, float | None]:
    """(median error of the constants weighted by time, share of the TTL that was so tested), where the profile's own are used."""
    if case.workload.clock != 1 or not case.hardware.kernels.calibrated:
        return None, None
    whole = sum((phase.timing for phase in phases), Timing())
    backed = single(whole.backed_s)
    return (single(whole.error_s) / backed, backed / ttl) if backed else (None, None)


def _hidden(case: Case, layout: Layout, batch: int, phases: list[PlanPhase]) -> float:
    """The exchange's seconds in one chunk less what is left of them in the layout's chunks."""
    if (layout.overlap_chunks or 1) == 1:
        return 0.0
    whole = attention_part(case, Layouts.of(replace(layout, overlap_chunks=1)), batch).phases
    in_one = sum(single(phase.timing.seconds) for phase in whole if phase.name == "attention.exchange")
    return in_one - sum(phase.seconds for phase in phases if phase.name == "attention.exchange")


def single(value: Any) -> float:
    """The one entry of an array of one, or the number itself."""
    return float(value[0]) if hasattr(value, "__len__") else float(value)


def _merged(phases: list[Phase]) -> list[PlanPhase]:
    """The phases of one layout in the order of a step, those that do not apply left out; the pipeline's halves as one."""
    whole: dict[tuple[str, str | None], Phase] = {}
    for phase in phases:
        key = (phase.name, phase.group)
        before = whole.get(key)
        timing = phase.timing if before is None else before.timing + phase.timing
        whole[key] = Phase(phase.name, phase.group, phase.layers, timing)
    listed = sorted(whole.values(), key=lambda phase: (PHASE_ORDER.index(phase.name), phase.group or ""))
    return [
        PlanPhase(
            name=phase.name,
            group=phase.group,
            layers=phase.layers,
            seconds=single(phase.timing.seconds),
            hbm_bytes=single(phase.timing.hbm_bytes),
            stored_bytes=single(phase.timing.stored_bytes),
            flops=single(phase.timing.flops),
            wire_bytes=single(phase.timing.wire_bytes),
            bound=phase.timing.bound,  # type: ignore[arg-type]
        )
        for phase in listed
        if single(phase.timing.seconds) != 0 or single(phase.timing.wire_bytes) or single(phase.timing.hbm_bytes)
    ]


def collectives_taken(case: Case, layout: Layout, batch: int) -> dict[str, str]:
    """The cheapest way of every reduction that there is, and of an engine's exchange: each tried in turn."""
    row = Layouts.of(layout)

    def best(name: str, ways: tuple[str, ...], half: Callable[[Case, Layouts, int], Part]) -> str:
        return min(ways, key=lambda way: half(replace(case, ways={name: way}), row, batch).seconds[0])

    taken = {}
    if engine_of(case) is not None and _exchanges(case.model, layout):
        taken["attention.exchange"] = best("attention.exchange", case.communication.exchange_ways, attention_part)
    if layout.attention_group > 1:
        taken["attention.reduce"] = best("attention.reduce", REDUCE_WAYS, attention_part)
    for name, ffn, _ in case.model.ffn_kinds if layout.gpus_per_stage > 1 else ():
        ways = moe_ways(layout) if isinstance(ffn, MoE) else REDUCE_WAYS
        taken[f"ffn.reduce {name}"] = best(f"ffn.reduce {name}", ways, ffn_part)
    return taken


def _exchanges(model: Model, layout: Layout) -> bool:
    """Whether any layer's attention is brought together over KVP ranks."""
    return layout.kvp > 1 and any(attention.split_by_kvp for _, attention, _ in model.attention_kinds)
