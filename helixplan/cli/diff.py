"""``helixplan diff``: what changed between two plans, and whether inputs or the code moved it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from helixplan.cli import options, show


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help="A plan's JSON file.")],
    after: Annotated[Path, typer.Argument(metavar="B", help="The plan to hold against it.")],
    output_format: options.OutputFormat = options.Format.TABLE,
) -> None:
    """Show two plans side by side, and what moved them. Layout, cost and memory; exit 0, whatever differs."""
    from helixplan.regress.differences import between_plans
    from helixplan.replay import read_plan
    from helixplan.report import regression

    first, second = read_plan(before), read_plan(after)
    found = between_plans(first, second)
    if output_format is options.Format.JSON:
        show.result(json.dumps(regression.difference_document(found), indent=2, sort_keys=True))
        return
    show.heading(regression.headline(found, first, second), output_format)
    show.records(regression.causes(found), output_format)
    show.result("")
    if found.layout:
        show.table(regression.LAYOUT_COLUMNS, [regression.layout_row(field) for field in found.layout], 1, output_format)
    show.table(regression.METRIC_COLUMNS, [regression.metric_row(change) for change in found.metrics], 1, output_format)
    if found.phases:
        show.table(regression.PHASE_COLUMNS, [regression.phase_row(phase) for phase in found.phases], 1, output_format)
