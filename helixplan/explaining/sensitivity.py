"""How a layout's figures move with what they depend on, and what a little more of each resource gives."""

from __future__ import annotations

import math
from dataclasses import replace

from helixplan.cost.case import Case
from helixplan.cost.score import score_case
from helixplan.explaining.figures import Answer
from helixplan.explanation import Elasticity, Investment, Resource
from helixplan.inputs.workload import MAX_BATCH, MAX_CONTEXT
from helixplan.layout import Layouts
from helixplan.search.optimum import find_best

STEP = 0.01
"""What is varied is varied by this share, up and down."""


def resources(plan: Answer) -> list[Resource]:
    """What a system may have more of; the link between domains only where the layout crosses it."""
    wires = plan.case.hardware.interconnect
    crossing: list[Resource] = ["scale_out_bandwidth"] if plan.layout.gpus > wires.domain_gpus else []
    return ["hbm_bandwidth", "link_bandwidth", *crossing, "compute", "floors", "capacity"]


def varied(case: Case, resource: Resource, factor: float) -> Case:
    """The case on a system with so many times the resource. Floors: launches, latencies and slopes, not efficiencies."""
    system = case.hardware
    gpu, wires = system.gpu, system.interconnect
    if resource == "floors":
        return replace(case, hardware=system.with_floors(factor))
    if resource == "hbm_bandwidth":
        gpu = replace(gpu, memory_bytes_per_s=gpu.memory_bytes_per_s * factor)
    elif resource == "capacity":
        gpu = replace(gpu, memory_bytes=gpu.memory_bytes * factor)
    elif resource == "compute":
        gpu = replace(gpu, flops_per_s={dtype: rate * factor for dtype, rate in gpu.flops_per_s.items()})
    elif resource == "link_bandwidth":
        wires = replace(wires, domain_bytes_per_s=wires.domain_bytes_per_s * factor)
    elif wires.scale_out_bytes_per_s is not None:
        wires = replace(wires, scale_out_bytes_per_s=wires.scale_out_bytes_per_s * factor)
    return replace(case, hardware=replace(system, gpu=gpu, interconnect=wires))


def elasticities(plan: Answer) -> list[Elasticity]:
    """Of TTL and tokens/s/GPU, exchange and chunks held too, with respect to context, batch and every resource."""
    return [_of_context(plan), _of_batch(plan), *(_of_resource(plan, resource) for resource in resources(plan))]


def _of_context(plan: Answer) -> Elasticity:
    tokens = plan.case.workload.context_tokens
    half = max(1, round(tokens * STEP))
    few, many = max(tokens - half, 1), min(tokens + half, MAX_CONTEXT)
    slope = _slope(ttl(plan, plan.case.at_context(few)), ttl(plan, plan.case.at_context(many)), few, many)
    return Elasticity(of="context", step=half / tokens, ttl=slope, tokens_per_s_per_gpu=-slope)


def _of_batch(plan: Answer) -> Elasticity:
    """Over one request more and one less in each group and stage: between those nothing moves."""
    stride = plan.layout.dp * plan.layout.pp
    few, many = max(plan.batch - stride, 1), min(plan.batch + stride, MAX_BATCH)
    slope = _slope(ttl(plan, plan.case, few), ttl(plan, plan.case, many), few, many)
    return Elasticity(of="batch", step=stride / plan.batch, ttl=slope, tokens_per_s_per_gpu=1 - slope)


def _of_resource(plan: Answer, resource: Resource) -> Elasticity:
    few, many = 1 - STEP, 1 + STEP
    slope = _slope(ttl(plan, varied(plan.case, resource, few)), ttl(plan, varied(plan.case, resource, many)), few, many)
    return Elasticity(of=resource, step=STEP, ttl=slope, tokens_per_s_per_gpu=-slope)


def _slope(before: float, after: float, few: float, many: float) -> float:
    """d ln(TTL) / d ln(what is varied)."""
    return math.log(after / before) / math.log(many / few) + 0.0


def ttl(plan: Answer, case: Case, batch: int | None = None) -> float:
    """The TTL of the plan's layout, exchange and chunks held, on another case or at another batch."""
    return float(score_case(case, Layouts.of(plan.found.layout), batch or plan.batch).ttl_s[0])


def investments(plan: Answer, memory_binds: bool) -> list[Investment]:
    """1 % more of every resource (1 % less of floors): for this layout, and for the best one then. The best first.

    Where memory does not bind, more of it moves nothing and is not searched with.
    """
    found = [_investment(plan, resource, memory_binds or resource != "capacity") for resource in resources(plan)]
    return sorted(found, key=lambda one: (-one.objective_change, one.ttl_change))


def _investment(plan: Answer, resource: Resource, matters: bool) -> Investment:
    change = -STEP if resource == "floors" else STEP
    case = varied(plan.case, resource, 1 + change)
    best = find_best(case, plan.request) if matters else None
    answer = plan if best is None else Answer(case, plan.request, best.layout, best.batch)
    faster = ttl(plan, case) / plan.found.cost.ttl_s
    return Investment(
        resource=resource,
        change=change,
        ttl_change=faster - 1,
        tokens_per_s_per_gpu_change=1 / faster - 1,
        replanned=answer.figures,
        objective_change=plan.improvement(answer),
    )
