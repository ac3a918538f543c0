"""Puts frontiers and comparisons together as documents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helixplan.assembly import plan_hardware, plan_layout, plan_workload, warnings_of
from helixplan.cost.case import Case
from helixplan.cost.memory import memory_limit
from helixplan.cost.score import score_case
from helixplan.cost.step import attention_part, ffn_part
from helixplan.curves import Comparison, Comparisons, Frontier, Point, PointCost, PointMemory
from helixplan.inputs.workload import Request
from helixplan.layout import Layouts
from helixplan.plans import PlanModel
from helixplan.search.comparison import Compared, kvp_is_idle
from helixplan.search.frontier import FrontierPoint
from helixplan.version import COST_MODEL_VERSION, SCHEMA_VERSION, __version__

IDLE_KVP = "no layer's cache grows with the context (all attend to a window), so KVP buys nothing here"


def points(case: Case, found: list[FrontierPoint]) -> list[Point]:
    """What each point costs and holds, exchange and chunks resolved."""
    if not found:
        return []
    rows, batches = Layouts.of(*(point.layout for point in found)), np.array([point.batch for point in found])
    brief = case.brief()
    attention, ffn = attention_part(brief, rows, batches), ffn_part(brief, rows, batches)
    resolved = replace(rows, exchange=attention.exchange, overlap_chunks=attention.chunks)
    ideal = score_case(case.ideal(), resolved, batches).ttl_s
    stages = [one + other for one, other in zip(attention.memory, ffn.memory, strict=True)]
    total = np.stack([np.broadcast_to(stage.total_bytes, batches.shape) for stage in stages])
    fullest = np.argmax(total, axis=0)

    def held(name: str) -> list[float]:
        kinds = np.stack([np.broadcast_to(getattr(stage, name), batches.shape) for stage in stages])
        return np.asarray(kinds[fullest, np.arange(len(batches))]).tolist()  # type: ignore[no-any-return]

    weights, cache, whole = held("weights_bytes"), held("kv_cache_bytes"), held("total_bytes")
    ttl, limit = (attention.seconds + ffn.seconds).tolist(), memory_limit(case)
    return [
        Point(
            family=point.family,
            layout=plan_layout(case, resolved.row(i), point.batch, point.family),
            cost=PointCost(
                ttl_s=ttl[i],
                ttl_ideal_s=float(ideal[i]),
                tokens_per_s_per_user=1 / ttl[i],
                tokens_per_s_per_gpu=point.batch / (ttl[i] * point.layout.gpus),
            ),
            memory=PointMemory(weights_bytes=weights[i], kv_cache_bytes=cache[i], total_bytes=whole[i], limit_bytes=limit),
        )
        for i, point in enumerate(found)
    ]


def frontier_document(
    case: Case, request: Request, families: tuple[str, ...], found: list[FrontierPoint], candidates: int
) -> Frontier:
    """The frontier of some families together."""
    return Frontier(
        schema_version=SCHEMA_VERSION,
        helixplan_version=__version__,
        cost_model_version=COST_MODEL_VERSION,
        model=PlanModel(name=case.model.name, sha256=case.model.sha256),
        hardware=plan_hardware(case),
        workload=plan_workload(case, request).model_copy(update={"family": "+".join(families)}),
        families=list(families),
        candidates=candidates,
        points=points(case, found),
        warnings=warnings_of(case),
    )


def comparison(case: Case, baselines: tuple[str, ...], found: Compared) -> Comparison:
    """One comparison as a part of the document."""
    ratios = {"interactivity": found.interactivity, "throughput": found.throughput, "users": found.users}
    sides = points(case, [point for best in ratios.values() for point in (best.baseline, best.helix)])
    return Comparison(
        model=case.model.name,
        hardware=case.hardware.name,
        context_tokens=case.workload.context_tokens,
        floor_scale=case.workload.clock,
        baselines=list(baselines),
        interactivity_ratio=found.interactivity.ratio,
        throughput_ratio=found.throughput.ratio,
        at_tokens_per_s_per_user=found.throughput.baseline.tokens_per_s_per_user,
        user_ratio=found.users.ratio,
        overlap_loss=found.overlap_loss,
        baseline=dict(zip(ratios, sides[0::2], strict=True)),
        helix=dict(zip(ratios, sides[1::2], strict=True)),
        note=IDLE_KVP if kvp_is_idle(case) else None,
    )


def comparisons(found: list[Comparison]) -> Comparisons:
    return Comparisons(
        schema_version=SCHEMA_VERSION, helixplan_version=__version__, cost_model_version=COST_MODEL_VERSION, comparisons=found
    )
