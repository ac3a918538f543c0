"""What a case gave, as it is kept in a baseline: one small JSON file a case, the same bytes on every machine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from helixplan.errors import InputError, shown
from helixplan.inputs.validation import parse_json, read_text, validate
from helixplan.inputs.workload import FAMILIES, MAX_BATCH, Request, Workload, whole
from helixplan.plans import Document, Number, PlanLayout, PlanModel
from helixplan.regress.metrics import METRICS, changes
from helixplan.version import SCHEMA_VERSION

DIGITS = 9
"""Significant digits kept of a figure: far more than any tolerance needs, and fewer than machines may differ in."""


UNASKED = {name: value for name, value in (asdict(Workload(1)) | asdict(Request())).items() if name != "context_tokens"}
"""What a question means that a baseline of an older version does not spell out."""


class CaseHardware(Document):
    """Which system, and the hash of all that the cost depends on."""

    name: str
    sha256: str


class Result(Document):
    """A case's question, its answer (``layout`` and ``metrics``, or the ``conflict``), and what both depend on."""

    model_config = ConfigDict(title="helixplan baseline")

    schema_version: str
    case: str
    question: dict[str, Any]
    model: PlanModel
    hardware: CaseHardware
    helixplan_version: str
    cost_model_version: str
    status: str
    """The solver's, or "infeasible"."""
    layout: PlanLayout | None = None
    metrics: dict[str, Number] | None = None
    rules: list[str] = Field(default_factory=list)
    """That were kept; of an infeasible case none."""
    conflict: list[str] | None = None
    """The rules and requests that clash."""

    @property
    def feasible(self) -> bool:
        return self.layout is not None

    @property
    def key(self) -> str:
        """The question as one text: cases that ask the same are the same case, whatever they are called."""
        return json.dumps(UNASKED | self.question, sort_keys=True)

    def to_json(self) -> str:
        """Sorted keys, no time stamps, no paths."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2, sort_keys=True) + "\n"


def rounded(value: float) -> float:
    """To ``DIGITS`` significant digits."""
    return float(f"{value:.{DIGITS - 1}e}")


def read_result(path: Path) -> Result:
    """Raises InputError where the file is no baseline of a case, is one only in part, or is another version's."""
    data = parse_json(read_text(path), str(path))
    if data.get("schema_version") != SCHEMA_VERSION:
        given = data.get("schema_version")
        raise InputError(f"got {given!r}; this helixplan reads {SCHEMA_VERSION!r}", file=str(path), field="schema_version")
    found = validate(Result, data, str(path))
    if (found.layout is None) != (found.metrics is None) or (found.layout is None) == (found.conflict is None):
        raise InputError("must have either layout and metrics, or conflict", file=str(path))
    if found.case != path.stem:
        raise InputError(f"got {found.case!r} in a file called {path.name}", file=str(path), field="case")
    _check_question(found, str(path))
    if found.layout is not None and found.metrics is not None:
        _check_answer(found.layout, found.metrics, str(path))
    return found


def _check_question(found: Result, file: str) -> None:
    known = {name for kind in (Workload, Request) for name in kind.__dataclass_fields__} | {"model", "hardware"}
    for name in ("model", "hardware", "context_tokens", "objective"):
        if name not in found.question:
            raise InputError("is missing", file=file, field=f"question.{name}")
    for name in found.question.keys() - known:
        raise InputError("is no part of a question that this helixplan knows", file=file, field=f"question.{name}")


def _check_answer(layout: PlanLayout, metrics: dict[str, float], file: str) -> None:
    if metrics.keys() != METRICS.keys():
        told = ", ".join(sorted(metrics.keys() ^ METRICS.keys()))
        raise InputError(f"must have just {', '.join(METRICS)} (look at {told})", file=file, field="metrics")
    for name, value in metrics.items():
        if value < 0:
            raise InputError(f"got {value}, which cannot be negative", file=file, field=f"metrics.{name}")
    if layout.family not in (*FAMILIES, "none"):
        raise InputError(f"got {shown(layout.family)}, which is no family", file=file, field="layout.family")
    try:
        whole(layout.batch, 1, MAX_BATCH, "batch")
        _ = layout.layout
    except InputError as error:
        raise InputError(error.message, file=file, field=f"layout.{error.field}") from None


def read_baseline(folder: Path) -> dict[str, Result]:
    """Every case's result by name. Raises InputError where there is none, or a JSON file in the folder is no baseline."""
    if not folder.is_dir():
        raise InputError(
            "is not a folder; name the baseline's, or write it first with --update", file=str(folder), field="--baseline"
        )
    found = {path.stem: read_result(path) for path in sorted(folder.glob("*.json"))}
    if not found:
        raise InputError("holds no baseline; write it first with --update", file=str(folder), field="--baseline")
    return found


def same_answer(one: Result, other: Result) -> bool:
    """Whether two results differ in nothing but what machines may differ in, and in the versions that made them."""
    aside = {"helixplan_version", "cost_model_version", "metrics"}
    if one.model_dump(exclude=aside) != other.model_dump(exclude=aside):
        return False
    return not any(change.moved for change in changes(one.metrics or {}, other.metrics or {}))


def to_write(folder: Path, results: list[Result]) -> tuple[dict[Path, str], list[Path]]:
    """(files to write with their content, files to delete) so that the folder holds these results and no others.

    A file whose figures, question and inputs stay as they are is left alone, even if the program's version moved.
    """
    there = {path.stem: read_result(path) for path in sorted(folder.glob("*.json"))}
    written = {}
    for result in results:
        known = there.get(result.case)
        if known is None or not same_answer(known, result):
            written[folder / f"{result.case}.json"] = result.to_json()
    names = {result.case for result in results}
    return written, [folder / f"{name}.json" for name in there if name not in names]
