"""Helix's frontier against the baselines': how much faster, how much more, and where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.score import score_case
from helixplan.inputs.workload import Request
from helixplan.layout import Layouts
from helixplan.search.frontier import FrontierPoint, find_frontier, joint
from helixplan.search.gaps import TIE
from helixplan.search.rules import FAMILIES

BASELINES = tuple(name for name in FAMILIES if name != "helix")
Rate = Callable[[FrontierPoint], float]


@dataclass(frozen=True)
class Best:
    """The largest ratio of one rate, and the points it lies between."""

    ratio: float
    baseline: FrontierPoint
    helix: FrontierPoint


@dataclass(frozen=True)
class Compared:
    """Helix's side, which may use any family, against the best of some baselines. Frontiers best interactivity first.

    ``throughput`` and ``users`` are the largest ratios, over the points of the baselines' frontier, of what Helix's side reaches
    at no less tokens/s/user: tokens/s a GPU, and concurrent requests a GPU.
    """

    helix: list[FrontierPoint]
    baseline: list[FrontierPoint]
    interactivity: Best
    throughput: Best
    users: Best
    overlap_loss: float
    """The most tokens/s/user, as a share, that a point of Helix's frontier loses with its exchange not overlapped."""


def compare(case: Case, request: Request, baselines: tuple[str, ...]) -> Compared | None:
    """Both sides under the same request, or None where one of them has no layout at all."""

    def frontier(names: tuple[str, ...], *, of_users: bool = False) -> list[FrontierPoint]:
        asked = [replace(request, family=name) for name in names]
        return joint([find_frontier(case, one, of_users=of_users).points for one in asked], of_users=of_users)

    helix, baseline = frontier(tuple(FAMILIES)), frontier(baselines)
    if not helix or not baseline:
        return None
    crowds = frontier(tuple(FAMILIES), of_users=True), frontier(baselines, of_users=True)
    return Compared(
        helix,
        baseline,
        Best(helix[0].tokens_per_s_per_user / baseline[0].tokens_per_s_per_user, baseline[0], helix[0]),
        largest_ratio(helix, baseline, lambda point: point.tokens_per_s_per_gpu),
        largest_ratio(*crowds, lambda point: point.users_per_gpu),
        overlap_loss(case, helix),
    )


def largest_ratio(helix: list[FrontierPoint], baseline: list[FrontierPoint], rate: Rate) -> Best:
    """Over the baseline's points, the most of one side at no less tokens/s/user over the other's.

    A side that reaches no such speed has no point to offer there; the largest ratio is of those where both have one.
    """
    ours = np.array([rate(point) for point in helix])
    ttl = np.array([point.ttl_s for point in helix])
    order = np.argsort(ttl, kind="stable")
    most = np.maximum.accumulate(ours[order])
    # Where the running maximum was last reached: the point that holds it.
    holder = np.maximum.accumulate(np.where(ours[order] == most, np.arange(len(order)), 0))
    as_fast = np.searchsorted(ttl[order], np.array([point.ttl_s for point in baseline]) * (1 + TIE), side="right")
    theirs = np.array([rate(point) for point in baseline])
    ratios = np.where(as_fast > 0, most[as_fast - 1] / theirs, -np.inf)
    best = int(np.argmax(ratios))
    return Best(float(ratios[best]), baseline[best], helix[order[holder[as_fast[best] - 1]]])


def overlap_loss(case: Case, points: list[FrontierPoint]) -> float:
    """The largest share of tokens/s/user lost where the same layouts at the same batches do not overlap their exchange."""
    batches = np.array([point.batch for point in points])
    once = [replace(point.layout, overlap_chunks=1) for point in points]
    plain = replace(case, workload=replace(case.workload, overlap="auto"))
    without = score_case(plain, Layouts.of(*once), batches).ttl_s
    return float(np.max(1 - np.array([point.ttl_s for point in points]) / without))


def kvp_is_idle(case: Case) -> bool:
    """Whether no layer's cache grows with the context, so that there is nothing for KVP to split."""
    return all(not attention.split_by_kvp for _, attention, _ in case.model.attention_kinds)
