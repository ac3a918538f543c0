"""What a case gave, as it is kept in a baseline: one small JSON file a case, the same bytes on every machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from helixplan.errors import InputError
from helixplan.inputs.validation import parse_json, read_text, validate
from helixplan.plans import Document, Number, PlanLayout, PlanModel
from helixplan.version import SCHEMA_VERSION

DIGITS = 9
"""Significant digits kept of a figure: far more than any tolerance needs, and fewer than machines may differ in."""


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
        return json.dumps(self.question, sort_keys=True)

    def to_json(self) -> str:
        """Sorted keys, no time stamps, no paths."""
        return json.dumps(self.model_dump(mode="json", exclude_none=True), indent=2, sort_keys=True) + "\n"


def rounded(value: float) -> float:
    """To ``DIGITS`` significant digits."""
    return float(f"{value:.{DIGITS - 1}e}")


def read_result(path: Path) -> Result:
    """Raises InputError where the file is no baseline of a case, or another version's."""
    data = parse_json(read_text(path), str(path))
    if data.get("schema_version") != SCHEMA_VERSION:
        given = data.get("schema_version")
        raise InputError(f"got {given!r}; this helixplan reads {SCHEMA_VERSION!r}", file=str(path), field="schema_version")
    found = validate(Result, data, str(path))
    if (found.layout is None) != (found.metrics is None) or (found.layout is None) == (found.conflict is None):
        raise InputError("must have either layout and metrics, or conflict", file=str(path))
    if found.case != path.stem:
        raise InputError(f"got {found.case!r} in a file called {path.name}", file=str(path), field="case")
    return found


def read_baseline(folder: Path) -> dict[str, Result]:
    """Every case's result by name. Raises InputError where the folder is missing, or a JSON file in it is no baseline."""
    if not folder.is_dir():
        raise InputError(
            "is not a folder; name the baseline's, or write it first with --update", file=str(folder), field="--baseline"
        )
    return {path.stem: read_result(path) for path in sorted(folder.glob("*.json"))}


def to_write(folder: Path, results: list[Result]) -> tuple[dict[Path, str], list[Path]]:
    """(files to write with their content, files to delete) so that the folder holds these results and no others.

    A file whose figures, question and inputs stay as they are is left alone, even if the program's version moved.
    """
    there = read_baseline(folder) if folder.is_dir() else {}
    written = {}
    for result in results:
        known = there.get(result.case)
        aside = {"helixplan_version", "cost_model_version"}
        if known is None or known.model_dump(exclude=aside) != result.model_dump(exclude=aside):
            written[folder / f"{result.case}.json"] = result.to_json()
    names = {result.case for result in results}
    return written, [folder / f"{name}.json" for name in there if name not in names]
