"""Verdicts as GitHub's workflow commands: annotations on the file and line of the case."""

from __future__ import annotations

from helixplan.regress.gate import Judged
from helixplan.report.regression import because, moved, summary

LEVELS = {"GAIN": "notice", "DRIFT": "notice", "NEW": "notice", "FEASIBLE-NOW": "notice"}


def as_annotations(judged: list[Judged], suite: str) -> str:
    """An error a failure, a notice for what else moved, and the summary."""
    lines = []
    for one in judged:
        where = f"file={_property(suite)},line={one.line or 1},title={_property(f'{one.verdict}: {one.case}')}"
        lines += [f"::error {where}::{_message(failure)}" for failure in one.sentences]
        if not one.fails and one.verdict in LEVELS:
            said = "; ".join(part for part in (moved(one), because(one)) if part)
            lines.append(f"::{LEVELS[one.verdict]} {where}::{_message(f'{one.case}: {said}')}")
    return "\n".join([*lines, summary(judged)]) + "\n"


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
