"""CP-SAT: the proof that nothing left is better, and the smallest conflict where nothing is allowed. Alone imports ortools.

A layout is an attention half and an FFN half that agree on a point (key and batch). So the model has one boolean a half,
exactly one of each chosen, and for every point "chosen attention halves = chosen FFN halves"; memory, TTL and objective are
then linear sums of the two. All coefficients are whole numbers, with one worker and a fixed seed: the same answer every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from helixplan.numeric import Bools, Floats, Ints

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

SECONDS = 10**12
"""TTL is counted in picoseconds."""
OBJECTIVE_UNITS = 10**13
"""The best value known beforehand, in the objective's own unit: a unit is far below what counts as a tie."""


@dataclass(frozen=True)
class HalfRows:
    """Halves the solver may choose: the point each stands on, its share of TTL (s), memory (bytes, a row a kind of stage)
    and objective."""

    point: Ints
    seconds: Floats
    bytes: Floats
    objective: Floats

    def __getitem__(self, rows: Ints) -> HalfRows:
        return HalfRows(self.point[rows], self.seconds[rows], self.bytes[:, rows], self.objective[rows])


@dataclass(frozen=True)
class Solution:
    """What CP-SAT said; no objective where it found nothing."""

    status: str
    objective: float | None
    bound: float | None


def solve(
    attention: HalfRows,
    ffn: HalfRows,
    memory_limit: float,
    ttl_limit_s: float | None,
    scale: float,
    keeps: Callable[[int, int], bool],
) -> Solution:
    """The pair of halves with the least objective (in units of ``scale``, a positive number) and the proof of it.

    Coefficients are rounded, so limits get a little slack; ``keeps`` is the exact test of a pair of rows, and a pair that fails
    it is forbidden and the search goes on.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    a, f = _choose(model, attention), _choose(model, ffn)
    _agree(model, a, attention.point, f, ffn.point)
    both = a + f
    for held in np.concatenate([attention.bytes, ffn.bytes], axis=1):
        model.add(cp_model.LinearExpr.weighted_sum(both, _whole(held)) <= int(memory_limit) + 2)
    if ttl_limit_s is not None:
        seconds = np.concatenate([attention.seconds, ffn.seconds])
        model.add(cp_model.LinearExpr.weighted_sum(both, _whole(seconds * SECONDS)) <= int(ttl_limit_s * SECONDS) + 2)
    goal = np.concatenate([attention.objective, ffn.objective])
    model.minimize(cp_model.LinearExpr.weighted_sum(both, _whole(goal / scale * OBJECTIVE_UNITS)))
    while True:
        solver = _solver()
        status = solver.solve(model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return Solution(solver.status_name(status).lower(), None, None)
        one, other = (next(i for i, row in enumerate(rows) if solver.boolean_value(row)) for rows in (a, f))
        if keeps(one, other):
            unit = scale / OBJECTIVE_UNITS
            objective, bound = solver.objective_value * unit, solver.best_objective_bound * unit
            return Solution(solver.status_name(status).lower(), objective, bound)
        model.add_bool_or([~a[one], ~f[other]])


def smallest_conflict(broken: Ints, members: int, preference: list[int]) -> list[int]:
    """The fewest assumptions of which every candidate breaks at least one: drop any, and some candidate keeps the rest.

    ``broken`` holds a bit for each assumption a candidate breaks, every distinct combination once; ``preference`` says, for
    each of the ``members`` assumptions, how early it is to be named where several sets are as small.
    """
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    named = [model.new_bool_var("") for _ in range(members)]
    for combination in broken.tolist():
        model.add_bool_or([named[bit] for bit in range(members) if combination >> bit & 1])
    few = 1 + sum(preference)
    model.minimize(cp_model.LinearExpr.weighted_sum(named, [few + place for place in preference]))
    solver = _solver()
    if solver.solve(model) != cp_model.OPTIMAL:
        raise RuntimeError("some candidate breaks no assumption, so there is no conflict")
    return [bit for bit in range(members) if solver.boolean_value(named[bit])]


def undominated(rows: HalfRows) -> Ints:
    """Rows that no other of the same point beats or equals in seconds and in every kind of stage's bytes."""
    keep: Bools = np.ones(len(rows.point), dtype=bool)
    kept: list[int] = []
    for row in np.lexsort((rows.bytes.sum(axis=0), rows.seconds, rows.point)).tolist():
        if kept and rows.point[kept[0]] != rows.point[row]:
            kept = []
        keep[row] = not any(np.all(rows.bytes[:, other] <= rows.bytes[:, row]) for other in kept)
        if keep[row]:
            kept.append(row)
    return np.flatnonzero(keep)


def _choose(model: cp_model.CpModel, rows: HalfRows) -> list[Any]:
    chosen = [model.new_bool_var("") for _ in range(len(rows.point))]
    model.add_exactly_one(chosen)
    return chosen


def _agree(model: cp_model.CpModel, a: list[Any], a_point: Ints, f: list[Any], f_point: Ints) -> None:
    """On every point as many attention halves as FFN halves are chosen: none or one."""
    sides: dict[int, tuple[list[Any], list[Any]]] = {}
    for side, (rows, points) in enumerate(((a, a_point), (f, f_point))):
        for row, point in zip(rows, points.tolist(), strict=True):
            sides.setdefault(point, ([], []))[side].append(row)
    for attention, ffn in sides.values():
        model.add(sum(attention) == sum(ffn))


def _whole(values: Floats) -> list[int]:
    return [int(value) for value in np.rint(values).tolist()]


def _solver() -> cp_model.CpSolver:
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 0
    # OR-Tools 9.15's probing in presolve can lose the optimum of these models; without presolve they are also solved sooner.
    solver.parameters.cp_model_presolve = False
    return solver
