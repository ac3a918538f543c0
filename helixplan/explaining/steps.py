"""One step up or down of each variable: it is pinned to its next value and everything else is chosen anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from helixplan.cost.case import Case
from helixplan.engines import engine_of
from helixplan.explaining.figures import Answer
from helixplan.explanation import Direction, Step, Variable
from helixplan.inputs.workload import MAX_BATCH, PINS, Request
from helixplan.plans import PlanConflict
from helixplan.search.infeasible import find_conflict
from helixplan.search.optimum import feasible, feasible_values, find_best
from helixplan.search.rules import BATCH, families_named, rules_asked_for
from helixplan.search.space import FFN_PINS, attention_halves, build_space, ffn_halves, replica_sizes
from helixplan.units import format_counted

SIZES: tuple[Variable, ...] = ("kvp", "tpa", "tpf", "ep", "pp", "dp")
CHOICES: dict[Variable, tuple[str, str]] = {"exchange": ("latent", "value"), "overlap": ("none", "hop-b")}
"""Each from its lower value to its upper."""
DIRECTIONS: tuple[Direction, ...] = ("up", "down")
STRUCTURE = "structure"
"""What stops a step that no rule stops: there is nothing further."""


def steps(plan: Answer) -> list[Step]:
    """Every variable's step up and down.

    A size goes to the next value that any layout of the plan's GPUs has, be it allowed or not; where there is none, to
    the next that the request allows on another number of GPUs, or else that any layout there has. The batch goes by one
    request in each group and stage. The exchange and the overlap change with all six sizes held. The best layout is then
    searched for on the plan's number of GPUs, and where none keeps the request there, on any that the request allows.
    """
    return [*_all(plan)]


def _all(plan: Answer) -> Iterator[Step]:
    for name in SIZES:
        yield from (_size(plan, name, direction) for direction in DIRECTIONS)
    yield from (_batch(plan, direction) for direction in DIRECTIONS)
    for name in CHOICES:
        yield from (_choice(plan, name, direction) for direction in DIRECTIONS)


def _size(plan: Answer, name: Variable, direction: Direction) -> Step:
    now = getattr(plan.layout, name)
    value = _nearest(_structural(plan, name, [plan.layout.gpus]), now, direction)
    if value is None and (direction == "up" or now > 1):
        rest = {pin: kept for pin, kept in plan.request.pins.items() if pin != name}
        value = _nearest(feasible_values(plan.case, replace(plan.request, pins=rest), name), now, direction)
    sizes = replica_sizes(plan.case, plan.request)
    if value is None and direction == "up":
        value = _nearest(_structural(plan, name, sizes), now, direction)
    if value is None:
        gpus = f"up to {max(sizes)} GPUs" if len(sizes) > 1 else format_counted(sizes[0], "GPU")
        said = f"{now} is the {'most' if direction == 'up' else 'least'} that any layout of {gpus} has"
        return _stopped(name, direction, None, [PlanConflict(rule=STRUCTURE, detail=said)])
    asked = replace(plan.request, pins=plan.request.pins | {name: value})
    return _answered(plan, name, direction, value, plan.case, asked)


def _structural(plan: Answer, name: Variable, sizes: list[int]) -> list[int]:
    """The values that layouts of so many GPUs have, rules apart."""
    found: set[int] = set()
    for family in families_named(plan.request.family):
        rows = attention_halves(plan.case, sizes, family)
        if name in FFN_PINS:
            rows = ffn_halves(rows, family, only_own_group=True)
        found |= {*np.unique(getattr(rows, name)).tolist()}
    return sorted(found)


def _nearest(values: list[int], now: int, direction: Direction) -> int | None:
    if direction == "up":
        return min((value for value in values if value > now), default=None)
    return max((value for value in values if value < now), default=None)


def _batch(plan: Answer, direction: Direction) -> Step:
    stride = plan.layout.dp * plan.layout.pp
    value = min(plan.batch + stride, MAX_BATCH) if direction == "up" else max(plan.batch - stride, 1)
    if value == plan.batch:
        said = f"{value:,} is the {'most' if direction == 'up' else 'least'} there may be"
        return _stopped("batch", direction, None, [PlanConflict(rule=STRUCTURE, detail=said)])
    return _answered(plan, "batch", direction, value, plan.case, replace(plan.request, batch=value))


def _choice(plan: Answer, name: Variable, direction: Direction) -> Step:
    low, high = CHOICES[name]
    value = high if direction == "up" else low
    why = _no_choice(plan, name, value)
    if why is not None:
        return _stopped(name, direction, None, [PlanConflict(rule=STRUCTURE, detail=why)])
    case = replace(plan.case, workload=replace(plan.case.workload, **{str(name): value}))  # type: ignore[arg-type]
    asked = replace(plan.request, pins={size: getattr(plan.layout, size) for size in PINS})
    step = _answered(plan, name, direction, value, case, asked)
    if step.found is not None and getattr(step.found.layout, name) != value:
        overlaps = any(family.overlaps for family in families_named(plan.request.family))
        why = (
            "a group's one request cannot be cut into chunks" if overlaps else f"the {plan.request.family} family never overlaps"
        )
        return _stopped(name, direction, None, [PlanConflict(rule=STRUCTURE, detail=why)])
    return step


def _no_choice(plan: Answer, name: Variable, value: str) -> str | None:
    """Why there is nothing to change, or None."""
    if plan.layout.kvp == 1:
        return "one KVP rank exchanges nothing"
    if name == "exchange" and not plan.case.model.is_latent:
        return "only MLA can exchange either latents or values"
    engine = engine_of(plan.case)
    if engine is not None and value in ("value", "hop-b"):
        runs = engine.communication.exchanges_values if value == "value" else engine.communication.overlaps
        if not runs:
            return f"{engine.title} does not run it"
    if getattr(plan.figures.layout, name) == value:
        return f"it is {value} already"
    return None


def _answered(plan: Answer, name: Variable, direction: Direction, value: int | str, case: Case, asked: Request) -> Step:
    """The best on the plan's number of GPUs, else on any; else what stops it."""
    here = replace(asked, gpus=plan.layout.gpus, max_gpus=None)
    best = find_best(case, here) or (find_best(case, asked) if asked.gpus is None else None)
    if best is None:
        return _stopped(name, direction, value, _stopping(plan, case, asked))
    answer = Answer(case, asked, best.layout, best.batch)
    return Step(
        variable=name,
        direction=direction,
        value=value,
        found=answer.figures,
        objective_change=plan.improvement(answer),
        loses_in=plan.loses_in(answer),
        stopped_by=[],
    )


def _stopping(plan: Answer, case: Case, asked: Request) -> list[PlanConflict]:
    """The one rule without which the step is possible, else a smallest conflict; what the step itself asks for left out.

    Where the pins of such a conflict are not all that stops it, what does without them comes after.
    """
    if not build_space(case, asked).keys:
        for rule in rules_asked_for(case, asked):
            if build_space(replace(case, lifted=case.lifted | {rule.name}), asked).keys:
                return [PlanConflict(rule=rule.name, detail=rule.reason)]
    conflict = find_conflict(case, asked, replica_sizes(case, asked))
    named = [PlanConflict(**vars(one)) for one in conflict if not _is_the_step(one.rule, plan.request, asked)]
    rules = {one.rule for one in named}
    free = replace(asked, pins={name: value for name, value in asked.pins.items() if f"pin {name}={value}" not in rules})
    return named if free.pins == asked.pins or feasible(case, free) else named + _stopping(plan, case, free)


def _is_the_step(rule: str, request: Request, asked: Request) -> bool:
    """Whether a member of a conflict is what the step itself asked for."""
    if rule == BATCH:
        return asked.batch != request.batch
    pins = asked.pins.items() - request.pins.items()
    return rule in {f"pin {name}={value}" for name, value in pins}


def _stopped(name: Variable, direction: Direction, value: int | str | None, by: list[PlanConflict]) -> Step:
    return Step(variable=name, direction=direction, value=value, found=None, objective_change=None, loses_in=None, stopped_by=by)
