"""Verdicts: each case's answer against its baseline, under stated tolerances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from helixplan.cost.case import Case as Posed
from helixplan.errors import InputError, did_you_mean
from helixplan.regress.differences import LAYOUT_FIELDS, Cause, causes_of
from helixplan.regress.metrics import METRICS, NOISE, OBJECTIVES, Change, changes
from helixplan.regress.results import Result
from helixplan.regress.suites import Case
from helixplan.units import format_seconds

VERDICTS = ("REGRESSION", "MISSING", "INFEASIBLE-NOW", "FEASIBLE-NOW", "NEW", "GAIN", "DRIFT", "SAME")
DEFAULT_TOLERANCE = 0.001
"""Of a case's own objective, where no tolerance is given."""


@dataclass(frozen=True)
class Judged:
    """One case's verdict. ``line`` of the suite, 0 for what only the baseline has; ``failures`` are sentences."""

    case: str
    line: int
    verdict: str
    failures: list[str] = field(default_factory=list)
    """Of the baseline."""
    unmet: list[str] = field(default_factory=list)
    """Of what the suite or the gate asks of any answer, whatever the baseline says."""
    metrics: list[Change] = field(default_factory=list)
    layout: list[tuple[str, object, object]] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    note: str = ""

    @property
    def fails(self) -> bool:
        return bool(self.failures or self.unmet)

    @property
    def sentences(self) -> list[str]:
        return [*self.failures, *self.unmet]


def parse_tolerances(texts: list[str]) -> dict[str, float]:
    """``ttl_s:2%`` as {"ttl_s": 0.02}. Raises InputError for anything else."""
    found: dict[str, float] = {}
    allowed = [name for name, metric in METRICS.items() if metric.good]
    for text in texts:
        name, colon, share = text.partition(":")
        if name not in allowed:
            known = f"{did_you_mean(name, allowed)}; allowed: {', '.join(allowed)}"
            raise InputError(f"got {name[:60]!r}{known}", field="--fail-on")
        try:
            value = float(share.removesuffix("%")) / 100
        except ValueError:
            value = -1.0
        if not colon or not share.endswith("%") or not 0 <= value < float("inf"):
            raise InputError(f"got {text[:60]!r}; write a metric and how much worse it may get, like ttl_s:2%", field="--fail-on")
        if name in found:
            raise InputError(f"{name} is given twice", field="--fail-on")
        found[name] = value
    return found


def judge(
    cases: list[Case],
    results: list[Result],
    baseline: dict[str, Result],
    tolerances: dict[str, float],
    pose: Callable[[Case], Posed],
    *,
    solver_proof: bool = False,
) -> list[Judged]:
    """A verdict for every case, in the suite's order, and for every baseline that no case asks for any more."""
    before = _partners(results, baseline)
    judged = []
    for case, result in zip(cases, results, strict=True):
        known = before.get(result.case)
        verdict = _new(case, result) if known is None else _against(case, result, known, tolerances, pose)
        judged.append(_expected(verdict, case, result, solver_proof=solver_proof))
    met = {known.case for known in before.values()}
    for name in baseline:
        if name not in met:
            said = f"{name}: MISSING: the baseline has it, the suite asks for it no more"
            judged.append(Judged(name, 0, "MISSING", [said]))
    return judged


def _partners(results: list[Result], baseline: dict[str, Result]) -> dict[str, Result]:
    """Each result's baseline, by the result's name: the one that asked the same, else the one of its name."""
    by_question = {known.key: known for known in baseline.values()}
    found = {result.case: by_question[result.key] for result in results if result.key in by_question}
    taken = {known.case for known in found.values()}
    for result in results:
        if result.case not in found and result.case in baseline and result.case not in taken:
            found[result.case] = baseline[result.case]
    return found


def _new(case: Case, result: Result) -> Judged:
    said = "feasible" if result.feasible else "infeasible"
    return Judged(case.name, case.line, "NEW", note=f"{said}; not in the baseline yet")


def _against(case: Case, result: Result, known: Result, tolerances: dict[str, float], pose: Callable[[Case], Posed]) -> Judged:
    """The verdict of a case that has a baseline."""
    moved = changes(known.metrics or {}, result.metrics or {})
    layout = [] if known.layout is None or result.layout is None else _layout_changes(known, result)
    same = (
        known.feasible == result.feasible
        and not any(change.moved for change in moved)
        and not layout
        and known.conflict == result.conflict
    )
    if same:
        return Judged(case.name, case.line, "SAME", metrics=moved)
    causes = causes_of(known, result, pose(case), case.request)
    because = "; ".join(cause.said for cause in causes)
    if known.feasible and not result.feasible:
        said = f"{case.name}: INFEASIBLE-NOW: no layout keeps all of {', '.join(result.conflict or [])} ({because})"
        return Judged(case.name, case.line, "INFEASIBLE-NOW", [said], causes=causes)
    if result.feasible and not known.feasible:
        return Judged(case.name, case.line, "FEASIBLE-NOW", causes=causes, note="it was infeasible")
    limits = tolerances or {OBJECTIVES[case.request.goal]: DEFAULT_TOLERANCE}
    worse = [change for change in moved if change.worse_by > limits.get(change.name, float("inf")) + NOISE]
    if worse:
        told = ", ".join(f"{figures(change)} where {_percent(limits[change.name])} is allowed" for change in worse)
        said = f"{case.name}: REGRESSION: {told} ({because})"
        return Judged(case.name, case.line, "REGRESSION", [said], metrics=moved, layout=layout, causes=causes)
    gained = any(-change.worse_by > limits.get(change.name, float("inf")) + NOISE for change in moved)
    return Judged(case.name, case.line, "GAIN" if gained else "DRIFT", metrics=moved, layout=layout, causes=causes)


def _layout_changes(known: Result, result: Result) -> list[tuple[str, object, object]]:
    fields = (*LAYOUT_FIELDS, "gpus", "batch")
    pairs = ((name, getattr(known.layout, name), getattr(result.layout, name)) for name in fields)
    return [(name, old, new) for name, old, new in pairs if old != new]


def _expected(judged: Judged, case: Case, result: Result, *, solver_proof: bool) -> Judged:
    """The verdict with what the case or the gate asks of any answer."""
    more = []
    if case.expect is not None and (case.expect == "feasible") != result.feasible:
        now = "feasible" if result.feasible else f"infeasible by {', '.join(result.conflict or [])}"
        more.append(f"{case.name}: {judged.verdict}: the suite expects it to be {case.expect}, and it is {now}")
    if solver_proof and result.feasible and result.status != "optimal":
        more.append(f"{case.name}: the solver's proof is {result.status!r}, not 'optimal'")
    return replace(judged, unmet=more)


def figures(change: Change) -> str:
    """A metric before and after: "ttl_s 19.5 ms -> 20.9 ms (+7.1 %, worse)"."""
    show = format_seconds if METRICS[change.name].unit == "s" else "{:.6g}".format
    how = f", {change.direction}" if change.direction != "neutral" else ""
    return f"{change.name} {show(change.before)} -> {show(change.after)} ({change.relative:+.2%}{how})".replace("%", " %")


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
