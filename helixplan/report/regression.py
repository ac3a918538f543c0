"""Differences and verdicts in words and rows, once for every view."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

from helixplan.plans import Plan
from helixplan.regress.differences import Difference
from helixplan.regress.gate import VERDICTS, Judged, figures
from helixplan.regress.metrics import METRICS, Change
from helixplan.units import format_bytes, format_seconds
from helixplan.version import SCHEMA_VERSION

METRIC_COLUMNS = ("figure", "before", "after", "change", "")
LAYOUT_COLUMNS = ("layout", "before", "after")
PHASE_COLUMNS = ("phase", "before", "after", "change")
VERDICT_COLUMNS = ("case", "verdict", "what moved")


def shown(name: str, value: float) -> str:
    """A metric's value in the unit people would use."""
    unit = METRICS[name].unit
    if unit == "s":
        return format_seconds(value)
    return format_bytes(value) if unit == "bytes" else f"{value:,.6g}"


def metric_row(change: Change) -> tuple[str, ...]:
    moved = f"{change.relative:+.2%}".replace("%", " %") if change.moved else "="
    return change.name, shown(change.name, change.before), shown(change.name, change.after), moved, change.direction


def phase_row(phase: tuple[str, float, float]) -> tuple[str, ...]:
    name, before, after = phase
    return (
        name,
        format_seconds(before),
        format_seconds(after),
        f"{'+' if after > before else '-'}{format_seconds(abs(after - before))}",
    )


def layout_row(field: tuple[str, Any, Any]) -> tuple[str, ...]:
    return tuple(str(part) for part in field)


def headline(found: Difference, before: Plan, after: Plan) -> str:
    """The answer first."""
    if found.same:
        return f"the same plan of {after.model.name} on {after.hardware.name}"
    counts = Counter(change.direction for change in found.metrics if change.moved)
    told = ", ".join(f"{counts[name]} {name}" for name in ("better", "worse", "neutral") if counts[name])
    names = [f"{plan.model.name} on {plan.hardware.name}" for plan in (before, after)]
    return f"{' -> '.join(dict.fromkeys(names))}: {told or 'no figure'} moved"


def causes(found: Difference) -> list[tuple[str, str]]:
    """Whether the inputs or the code moved it: what kind of thing, and what happened to it."""
    if found.causes or found.same:
        return [(cause.kind, cause.said) for cause in found.causes]
    return [("code", "no input and no version that the plans record differs, so helixplan's own code changed")]


def difference_document(found: Difference) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "same": found.same,
        "layout": [{"field": name, "before": old, "after": new} for name, old, new in found.layout],
        "metrics": [_metric(change) for change in found.metrics],
        "phases": [{"name": name, "before_s": old, "after_s": new} for name, old, new in found.phases],
        "causes": [{"kind": kind, "said": said} for kind, said in causes(found)],
    }


def _metric(change: Change) -> dict[str, Any]:
    relative = None if change.relative == float("inf") else change.relative
    return {
        "name": change.name,
        "before": change.before,
        "after": change.after,
        "relative": relative,
        "direction": change.direction,
    }


def summary(judged: list[Judged]) -> str:
    """How many of each verdict: "83 cases: 1 REGRESSION, 82 SAME"."""
    counts = Counter(one.verdict for one in judged)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"{len(judged)} cases: {told}"


def moved(one: Judged) -> str:
    """What there is to say of a case, failing or not."""
    if one.note:
        return one.note
    parts = [figures(change) for change in one.metrics if change.moved and change.direction != "neutral"]
    parts = parts or [figures(change) for change in one.metrics if change.moved]
    if one.layout:
        parts.append("layout " + ", ".join(f"{name} {old} -> {new}" for name, old, new in one.layout))
    return "; ".join(parts)


def told(judged: list[Judged]) -> list[Judged]:
    """The cases worth a line, worst first: all but those that are the same."""
    order = {verdict: place for place, verdict in enumerate(VERDICTS)}
    return sorted(
        (one for one in judged if one.verdict != "SAME" or one.fails), key=lambda one: (not one.fails, order[one.verdict])
    )


def because(one: Judged) -> str:
    return "; ".join(cause.said for cause in one.causes)


def verdict_rows(judged: list[Judged]) -> list[tuple[str, ...]]:
    return [(one.case, one.verdict, "; ".join(part for part in (moved(one), because(one)) if part)) for one in told(judged)]


def check_document(judged: list[Judged]) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "passed": not any(one.fails for one in judged),
        "counts": dict(sorted(Counter(one.verdict for one in judged).items())),
        "cases": [
            {
                "case": one.case,
                "verdict": one.verdict,
                "fails": one.fails,
                "failures": one.sentences,
                "metrics": [_metric(change) for change in one.metrics if change.moved],
                "layout": [{"field": name, "before": old, "after": new} for name, old, new in one.layout],
                "causes": [asdict(cause) for cause in one.causes],
                "note": one.note,
            }
            for one in judged
        ],
    }


def check_page(judged: list[Judged]) -> str:
    """For a pull request: the verdict, the failures, and a table of what moved."""
    from helixplan.report.markdown import table, text

    failed = [failure for one in judged for failure in one.sentences]
    lines = [f"### Plan quality: {'failed' if failed else 'passed'}", "", summary(judged), ""]
    lines += [f"- {text(failure)}" for failure in failed]
    if failed:
        lines.append("")
    rows = verdict_rows(judged)
    if rows:
        lines.append(table(VERDICT_COLUMNS, rows))
    return "\n".join(lines).rstrip() + "\n"
