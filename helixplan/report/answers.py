"""A suite's answers in words and rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from helixplan.regress.results import Result
from helixplan.regress.suites import Case
from helixplan.report.regression import shown
from helixplan.report.wording import GOALS, layout_words
from helixplan.units import format_context, format_counted, format_seconds

COLUMNS = ("case", "answer", "layout, or what clashes", "TTL", "tok/s/user", "tok/s/GPU", "memory/GPU")
FIGURES = ("ttl_s", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "memory_bytes")
"""The metrics of a row."""
NAMES = {
    "ttl_s": "TTL",
    "ttl_ideal_s": "speed of light",
    "tokens_per_s_per_user": "tokens/s/user",
    "tokens_per_s_per_gpu": "tokens/s/GPU",
    "users": "concurrent requests",
    "gpus": "GPUs",
    "memory_bytes": "memory/GPU",
    "exposed_communication_s": "exposed comm.",
}
"""The metrics as people call them."""


@dataclass(frozen=True)
class Answers:
    """A suite and what each of its cases gave, in its order."""

    suite: str
    cases: list[Case]
    results: list[Result]


def headline(found: Answers) -> str:
    """How many of each answer: "3 cases of suite.toml: 2 optimal, 1 infeasible"."""
    counts = Counter(result.status for result in found.results)
    told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return f"{format_counted(len(found.cases), 'case')} of {found.suite}: {told}"


def rows(found: Answers) -> list[tuple[str, ...]]:
    return [_row(result) for result in found.results]


def _row(result: Result) -> tuple[str, ...]:
    if result.layout is None or result.metrics is None:
        return result.case, result.status, _clash(result), *("" for _ in FIGURES)
    return result.case, result.status, layout_words(result.layout), *(shown(name, result.metrics[name]) for name in FIGURES)


def _clash(result: Result) -> str:
    return ", ".join(result.conflict or [])


def facts(case: Case, result: Result) -> Iterator[tuple[str, str]]:
    """All there is to say of one case."""
    request = case.request
    yield "model and system", f"{result.model.name} on {result.hardware.name}"
    asked = [f"{format_context(case.workload.context_tokens)} tokens of context", GOALS[request.goal]]
    asked += [] if request.ttl_s is None else [f"TTL at most {format_seconds(request.ttl_s)}"]
    asked += [] if case.expect is None else [f"expected to be {case.expect}"]
    yield "asked", ", ".join(asked)
    yield "answer", result.status
    if result.layout is None or result.metrics is None:
        yield "what clashes", _clash(result)
        return
    yield "layout", f"{layout_words(result.layout)} ({result.layout.family} family)"
    for name, value in result.metrics.items():
        yield NAMES[name], shown(name, value)
    yield "rules kept", ", ".join(result.rules)
