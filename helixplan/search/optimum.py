"""The search from request to answer: narrow the batches, let the solver prove the optimum, break ties as promised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.memory import memory_limit
from helixplan.inputs.workload import Request
from helixplan.layout import Layout, Layouts
from helixplan.numeric import Ints
from helixplan.search.batch import Contenders, Narrowed, Narrowing, Standing, break_order, primary
from helixplan.search.gaps import TIE, Halved, Pairs
from helixplan.search.solver import HalfRows, Solution, solve, undominated
from helixplan.search.space import Space, build_space

ALTERNATIVES = 5


@dataclass(frozen=True)
class Proof:
    """Why nothing allowed is better. ``objective`` and ``bound`` in the objective's own unit (see ``UNITS``)."""

    status: str
    objective: float
    bound: float
    unit: str
    candidates: int
    points: int
    rows: int


@dataclass(frozen=True)
class Optimum:
    """The best layout at its batch, the proof of it, and the best of the layouts that differ from it."""

    layout: Layout
    batch: int
    proof: Proof
    alternatives: list[tuple[Layout, int]]


UNITS = {"throughput": "tokens/s/GPU", "interactivity": "s", "users": "requests", "gpus": "GPUs"}


@dataclass(frozen=True)
class Best:
    """What ``Optimum`` says, but for the proof."""

    layout: Layout
    batch: int
    alternatives: list[tuple[Layout, int]]


def find_optimum(case: Case, request: Request) -> Optimum | None:
    """The optimum of a request, or None where no allowed layout keeps it."""
    space = build_space(case, request)
    narrowed = _narrowed(case, space, request)
    if narrowed is None:
        return None
    attention, ffn, solution = _prove(case, space, request, narrowed)
    winner = break_ties(space, request, narrowed.pairs)
    _agree(request, space, narrowed, solution, winner)
    return Optimum(
        layout=_layout(space, narrowed.pairs, winner),
        batch=int(narrowed.pairs.batch[winner]),
        proof=_proof(request, space, narrowed, solution, winner, rows=len(attention.point) + len(ffn.point)),
        alternatives=_alternatives(space, narrowed, winner),
    )


def find_best(case: Case, request: Request, space: Space | None = None) -> Best | None:
    """The optimum by exact scores alone: what the solver is held to, in half the time. For questions that take many searches.

    ``space``: candidates instead of the request's own.
    """
    space = space or build_space(case, request)
    narrowed = _narrowed(case, space, request)
    if narrowed is None:
        return None
    winner = break_ties(space, request, narrowed.pairs)
    found = _layout(space, narrowed.pairs, winner)
    return Best(found, int(narrowed.pairs.batch[winner]), _alternatives(space, narrowed, winner))


def find_contenders(case: Case, request: Request, space: Space, than: Standing) -> Layouts:
    """Every layout of a space that keeps the request and at some batch stands no worse than ``than``; some more than once."""
    return Contenders(case, space, request, than).layouts()


def _narrowed(case: Case, space: Space, request: Request) -> Narrowed | None:
    """What may be the best of a space, or None where nothing in it keeps the request."""
    if not space.keys:
        return None
    narrowed = Narrowing(case, space, request, keep=ALTERNATIVES + 1).run()
    return narrowed if len(narrowed.pairs) else None


def feasible(case: Case, request: Request) -> bool:
    """Whether any allowed layout keeps the request. Latency and memory are least at the smallest batch."""
    space = build_space(case, request)
    return bool(space.keys) and len(Narrowing(case, space, request, keep=1).working_pairs()) > 0


def feasible_sizes(case: Case, request: Request, sizes: list[int]) -> list[int]:
    """Those of ``sizes`` on which some allowed layout keeps the request but for its number of GPUs."""
    space = build_space(case, request, sizes)
    return Narrowing(case, space, request, keep=1).working_sizes() if space.keys else []


def feasible_values(case: Case, request: Request, name: str) -> list[int]:
    """The values of one dimension that some allowed layout has which keeps the request, at its batch or at one request."""
    space = build_space(case, request)
    if not space.keys:
        return []
    pairs = Narrowing(case, space, request, keep=1).working_pairs()
    return sorted({*getattr(space.whole(pairs.attention, pairs.ffn), name).tolist()})


def break_ties(space: Space, request: Request, pairs: Pairs) -> int:
    """The pair that wins: of those that tie, fewer GPUs, lower TTL, smaller pp, dp, kvp, tpa, ep, larger batch, latent first."""
    gpus = space.gpus[pairs.key]
    left = np.arange(len(pairs))

    def least(values: Ints) -> Ints:
        lowest = np.min(values[left])
        return np.asarray(left[values[left] <= lowest + TIE * abs(lowest)])

    for values in (primary(request.goal, pairs.ttl_s, gpus, pairs.batch), *break_order(space, pairs)):
        left = least(values)
    return int(left[0])


def _prove(case: Case, space: Space, request: Request, narrowed: Narrowed) -> tuple[HalfRows, HalfRows, Solution]:
    """CP-SAT on every half of the points left, those beaten on their own point apart."""
    attention = _half_rows(space, request, narrowed, narrowed.attention, carries_size=True)
    ffn = _half_rows(space, request, narrowed, narrowed.ffn, carries_size=False)
    attention, ffn = attention[undominated(attention)], ffn[undominated(ffn)]
    gpus = space.gpus[narrowed.pairs.key]
    scale = float(np.abs(primary(request.goal, narrowed.pairs.ttl_s, gpus, narrowed.pairs.batch)).max())
    limit = memory_limit(case)

    def keeps(a: int, f: int) -> bool:
        in_time = request.ttl_s is None or attention.seconds[a] + ffn.seconds[f] <= request.ttl_s
        return bool(in_time and np.all(attention.bytes[:, a] + ffn.bytes[:, f] <= limit))

    return attention, ffn, solve(attention, ffn, limit, request.ttl_s, scale, keeps)


def _half_rows(space: Space, request: Request, narrowed: Narrowed, half: Halved, *, carries_size: bool) -> HalfRows:
    """A half's share of the objective: of a time, its own seconds' worth; of users or GPUs all of it or none."""
    can = np.flatnonzero(np.isfinite(half.seconds))
    point, seconds = half.point[can], half.seconds[can]
    gpus, batch = space.gpus[narrowed.key[point]], narrowed.batch[point]
    if request.goal in ("throughput", "interactivity"):
        share = primary(request.goal, seconds, gpus, batch)
    else:
        share = primary(request.goal, seconds, gpus, batch) * float(carries_size)
    return HalfRows(point, seconds, half.bytes[:, can], share)


def _agree(request: Request, space: Space, narrowed: Narrowed, solution: Solution, winner: int) -> None:
    """The solver's optimum and the exact scores of what it chose from must be one number; anything else is a bug."""
    pairs = narrowed.pairs
    won = float(primary(request.goal, pairs.ttl_s[winner], space.gpus[pairs.key[winner]], pairs.batch[winner]))
    if solution.objective is None or abs(solution.objective - won) > 10 * TIE * abs(won):
        raise RuntimeError(f"the solver found {solution.objective} ({solution.status}) where exact scores give {won}")


def _proof(request: Request, space: Space, narrowed: Narrowed, solution: Solution, winner: int, rows: int) -> Proof:
    pairs = narrowed.pairs
    ttl, gpus, batch = float(pairs.ttl_s[winner]), int(space.gpus[pairs.key[winner]]), int(pairs.batch[winner])
    value = {"throughput": batch / (ttl * gpus), "interactivity": ttl, "users": batch, "gpus": gpus}[request.goal]
    # Whole-number coefficients round at the 13th digit; a bound that close to the objective is the objective.
    assert solution.objective is not None
    assert solution.bound is not None
    slack = solution.objective - solution.bound
    share = 0.0 if slack <= TIE * abs(solution.objective) else slack / abs(solution.objective)
    better = 1 + share if request.goal in ("throughput", "users") else 1 - share
    return Proof(
        status=solution.status,
        objective=float(value),
        bound=float(value) * better,
        unit=UNITS[request.goal],
        candidates=narrowed.candidates,
        points=narrowed.points,
        rows=rows,
    )


def _alternatives(space: Space, narrowed: Narrowed, winner: int) -> list[tuple[Layout, int]]:
    """The best layouts that split the model otherwise than the winner does, each at its best batch and exchange."""
    rows, pairs, best = space.attention.rows, narrowed.pairs, narrowed.best
    same = (
        (best.key == pairs.key[winner])
        & (best.ffn == pairs.ffn[winner])
        & (rows.kvp[best.attention] == rows.kvp[pairs.attention[winner]])
    )
    others = best[~same]
    return [(_layout(space, others, i), int(others.batch[i])) for i in range(min(len(others), ALTERNATIVES))]


def _layout(space: Space, pairs: Pairs, index: int) -> Layout:
    return space.whole(pairs.attention[[index]], pairs.ffn[[index]]).row(0)
