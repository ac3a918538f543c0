"""What changed between two answers, in which direction, and what moved it: the inputs or the code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from helixplan.cost.case import Case as Posed
from helixplan.evaluation import evaluate
from helixplan.inputs.workload import Request
from helixplan.plans import Plan
from helixplan.regress.metrics import NOISE, Change, changes, metrics_of
from helixplan.regress.results import UNASKED, Result
from helixplan.rule import broken_rules
from helixplan.search.rules import FAMILIES, MEMORY, TTL, rules_in_force

LAYOUT_FIELDS = ("family", "kvp", "tpa", "dp", "pp", "tpf", "ep", "overlap", "overlap_chunks", "exchange", "kv_block_tokens")


@dataclass(frozen=True)
class Cause:
    """``kind``: model, hardware, workload, cost model, rules, search, version; ``said`` is a sentence."""

    kind: str
    said: str


@dataclass(frozen=True)
class Difference:
    """Two answers side by side. ``layout`` holds what differs there: (field, before, after)."""

    layout: list[tuple[str, Any, Any]]
    metrics: list[Change]
    phases: list[tuple[str, float, float]]
    """Seconds of a step, of each phase that moved."""
    causes: list[Cause]

    @property
    def same(self) -> bool:
        return not self.layout and not any(change.moved for change in self.metrics) and not self.phases


def between_plans(before: Plan, after: Plan) -> Difference:
    """What changed from one plan to another, and which of all that a plan records moved it."""
    layout = [
        (name, getattr(before.layout, name), getattr(after.layout, name))
        for name in LAYOUT_FIELDS
        if getattr(before.layout, name) != getattr(after.layout, name)
    ]
    moved = changes(metrics_of(before.layout, before.cost, before.memory), metrics_of(after.layout, after.cost, after.memory))
    return Difference(layout, moved, list(_phases(before, after)), list(_plan_causes(before, after)))


def _phases(before: Plan, after: Plan) -> Iterator[tuple[str, float, float]]:
    sides = [
        {phase.name + (f" ({phase.group})" if phase.group else ""): phase.seconds for phase in plan.cost.phases}
        for plan in (before, after)
    ]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        pair = (sides[0].get(name, 0.0), sides[1].get(name, 0.0))
        if abs(pair[1] - pair[0]) > NOISE * max(abs(pair[0]), abs(pair[1])):
            yield name, *pair


def _plan_causes(before: Plan, after: Plan) -> Iterator[Cause]:
    yield from _inputs(before.model, after.model, before.hardware, after.hardware)
    asked = (before.workload.model_dump(), after.workload.model_dump())
    clock = ({"floor_scale": before.hardware.floor_scale}, {"floor_scale": after.hardware.floor_scale})
    yield from _questions(asked[0] | clock[0], asked[1] | clock[1])
    yield from _versions(before, after)


def _inputs(model: Any, new_model: Any, hardware: Any, new_hardware: Any) -> Iterator[Cause]:
    for kind, old, new in (("model", model, new_model), ("hardware", hardware, new_hardware)):
        if old.sha256 != new.sha256:
            what = f"the {kind} {new.name} changed" if old.name == new.name else f"the {kind} is {new.name}, not {old.name}"
            yield Cause(kind, f"{what} (sha256 {old.sha256[:12]} -> {new.sha256[:12]})")


def _questions(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Cause]:
    told = [
        f"{name} {before.get(name)} -> {after.get(name)}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    if told:
        yield Cause("workload", f"the question changed: {', '.join(told)}")


def _versions(before: Plan | Result, after: Plan | Result) -> Iterator[Cause]:
    if before.cost_model_version != after.cost_model_version:
        yield Cause("cost model", f"the cost model's version went from {before.cost_model_version} to {after.cost_model_version}")
    if before.helixplan_version != after.helixplan_version:
        yield Cause("version", f"helixplan's version went from {before.helixplan_version} to {after.helixplan_version}")


def causes_of(before: Result, after: Result, asked: Posed, request: Request) -> list[Cause]:
    """What moved a case's answer. Where no input did, the old layout is priced again: if it costs what it did, rules or search
    moved, else a formula."""
    found = [
        *_inputs(before.model, after.model, before.hardware, after.hardware),
        *_questions(UNASKED | before.question, UNASKED | after.question),
    ]
    if not found:
        found.append(_code(before, after, asked, request))
    return found + [cause for cause in _versions(before, after) if cause.kind not in {one.kind for one in found}]


def _code(before: Result, after: Result, asked: Posed, request: Request) -> Cause:
    """The program's own part in it."""
    if before.layout is None or before.metrics is None:
        return Cause("rules", f"rules, formulas or the search changed: it was infeasible by {', '.join(before.conflict or [])}")
    again = evaluate(asked, before.layout.layout, before.layout.batch)
    priced = changes(before.metrics, metrics_of(before.layout, again.cost, again.memory))
    moved = [change for change in priced if change.moved]
    if moved:
        first = moved[0]
        told = f"the baseline's own layout now has {first.name} {first.after:.6g}, not {first.before:.6g}"
        return Cause("cost model", f"a formula of the cost model changed: {told}")
    family = FAMILIES.get(before.layout.family)
    rules = rules_in_force(asked, family) if family else ()
    broken = [rule.name for rule in broken_rules(rules, asked, before.layout.layout)]
    broken += [] if again.memory.fits else [MEMORY]
    broken += [TTL] if request.ttl_s is not None and again.cost.ttl_s > request.ttl_s else []
    if broken:
        return Cause("rules", f"a rule changed: the baseline's layout now breaks {', '.join(broken)}")
    if before.rules != after.rules and after.feasible:
        return Cause("rules", f"the rules kept changed from {', '.join(before.rules)} to {', '.join(after.rules)}")
    if not after.feasible:
        return Cause("rules", f"a rule changed: the baseline's layout no longer keeps {', '.join(after.conflict or [])}")
    return Cause("search", "the search changed: the baseline's layout costs what it did and breaks no rule")
