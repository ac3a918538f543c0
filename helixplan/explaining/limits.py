"""Which of the requests and rules a plan keeps bind it: without them the best layout would be better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from helixplan.cost.case import Case
from helixplan.explaining.figures import Answer
from helixplan.explaining.sensitivity import varied
from helixplan.explanation import Held
from helixplan.inputs.workload import MAX_GPUS, Request
from helixplan.search.gaps import TIE
from helixplan.search.optimum import find_best
from helixplan.search.rules import (
    BATCH,
    EP_WITHIN_EXPERTS,
    MEMORY,
    SAME_GPUS_BOTH_PHASES,
    TPA_WITHIN_KV_HEADS,
    TTL,
    budget_rule,
    rules_asked_for,
)
from helixplan.search.space import Space, build_space, replica_sizes

ROOM = 1000.0
"""So many times a GPU's memory is as good as no limit."""


def limits(plan: Answer) -> list[Held]:
    """Every request and rule: how near the plan is to it, and the best layout without it.

    Without the budget means on up to twice the most GPUs; without memory's limit, on a thousand times the memory.
    """
    goal = replace(plan.request, objective=plan.request.goal)
    return [*_requests(plan, goal), *_rules(plan, goal)]


def _requests(plan: Answer, request: Request) -> Iterator[Held]:
    found = plan.found
    if request.ttl_s is not None:
        free = replace(request, ttl_s=None)
        yield _held(plan, TTL, (found.cost.ttl_s, request.ttl_s, "s"), plan.case, free, build_space(plan.case, free))
    memory = (found.memory.total_bytes, found.memory.limit_bytes, "bytes")
    roomy = varied(plan.case, "capacity", ROOM)
    yield _held(plan, MEMORY, memory, roomy, request, build_space(roomy, request))
    most = max(replica_sizes(plan.case, request))
    # Fewer GPUs than the most were searched already, unless just so many were asked for.
    others = [*range(1 if request.gpus is not None else most + 1, min(2 * most, MAX_GPUS) + 1)]
    wider = build_space(plan.case, request, others) if others else None
    yield _held(plan, budget_rule(request), (plan.layout.gpus, most, "GPUs"), plan.case, request, wider)
    if request.batch is not None:
        free = replace(request, batch=None)
        yield _held(plan, BATCH, (plan.batch, request.batch, "requests"), plan.case, free, build_space(plan.case, free))
    for name, value in request.pins.items():
        rest = {pin: kept for pin, kept in request.pins.items() if pin != name}
        free = replace(request, pins=rest)
        yield _held(plan, f"pin {name}={value}", (value, value, name), plan.case, free, build_space(plan.case, free))


def _rules(plan: Answer, request: Request) -> Iterator[Held]:
    """Rules of the family and of the engine. One that no candidate breaks cannot bind, and is not searched without."""
    layout, model = plan.layout, plan.case.model
    spoken = {
        TPA_WITHIN_KV_HEADS.name: (layout.tpa, model.kv_heads, "tpa"),
        EP_WITHIN_EXPERTS.name: (layout.ep, max(model.experts, 1), "ep"),
        SAME_GPUS_BOTH_PHASES.name: (layout.ffn_group, layout.gpus_per_stage, "GPUs"),
    }
    kept = build_space(plan.case, request)
    for name in (rule.name for rule in rules_asked_for(plan.case, request)):
        case = replace(plan.case, lifted=plan.case.lifted | {name})
        free = build_space(case, request)
        wider = len(free.attention.rows) + len(free.ffn.rows) > len(kept.attention.rows) + len(kept.ffn.rows)
        yield _held(plan, name, spoken.get(name), case, request, free if wider else None)


def _held(
    plan: Answer, name: str, near: tuple[float, float, str] | None, case: Case, request: Request, space: Space | None
) -> Held:
    """``space``: the candidates without it; None where there are no more than with it, so that it cannot bind."""
    best = find_best(case, request, space) if space is not None else None
    answer = plan if best is None else Answer(case, request, best.layout, best.batch)
    gain = plan.improvement(answer)
    used, limit, unit = near or (None, None, None)
    return Held(
        rule=name,
        used=used,
        limit=limit,
        unit=unit,
        binds=gain > TIE,
        without=answer.figures if gain > TIE else None,
        gain=max(gain, 0.0) if gain > TIE else 0.0,
    )
