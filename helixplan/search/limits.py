"""What an engine's limits cost against the free optimum, and which of them costs it."""

from __future__ import annotations

from dataclasses import dataclass

from helixplan.cost.case import Case
from helixplan.engines import engine_of, free
from helixplan.engines.limits import Limit, limits_of
from helixplan.inputs.workload import Request
from helixplan.search.gaps import TIE
from helixplan.search.optimum import Optimum, find_optimum


@dataclass(frozen=True)
class Lifted:
    """One limit lifted alone: the ``objective`` then, and its ``gain``, the share of the free objective that comes back."""

    limit: Limit
    objective: float
    gain: float


@dataclass(frozen=True)
class CostOfLimits:
    """``share``: of the free optimum's objective what the engine's lacks; below 0 where its own communication beats the paper's.

    ``free`` and ``share`` are None where nothing but that keeps the request. ``lifted``: every limit lifted alone, dearest first;
    none where the limits cost nothing.
    """

    free: Optimum | None
    share: float | None
    lifted: list[Lifted]


def cost_of_limits(case: Case, request: Request, found: Optimum) -> CostOfLimits | None:
    """Of the optimum of a request under the case's engine; None without one. Every case is searched as any plan is."""
    engine = engine_of(case)
    if engine is None:
        return None
    best = find_optimum(free(case), request)
    if best is None:
        return CostOfLimits(None, None, [])
    share = 1 - _merit(request, found) / _merit(request, best)
    if share <= TIE:
        return CostOfLimits(best, share, [])
    lifted = []
    for limit in limits_of(engine, case):
        without = find_optimum(limit.without, request)
        if without is None:
            raise RuntimeError(f"without {limit.name} a search finds nothing where with it there is a layout")
        gain = (_merit(request, without) - _merit(request, found)) / _merit(request, best)
        lifted.append(Lifted(limit, without.proof.objective, gain))
    return CostOfLimits(best, share, sorted(lifted, key=lambda one: (-one.gain, one.limit.name)))


def _merit(request: Request, optimum: Optimum) -> float:
    """The objective as something that is better the more there is of it."""
    value = optimum.proof.objective
    return value if request.goal in ("throughput", "users") else 1 / value
