"""Puts results on stdout and everything else on stderr."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from helixplan.cli.options import Format

if TYPE_CHECKING:
    from rich.console import RenderableType

    from helixplan.errors import InfeasibleError
    from helixplan.plans import Plan


def result(text: str) -> None:
    """Text to stdout, as it is."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()


def view(renderable: RenderableType) -> None:
    """A rich view to stdout; without a terminal 80 columns wide and plain."""
    from rich.console import Console

    console = Console(highlight=False)
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as captured:
        console.print(renderable)
    result("\n".join(line.rstrip() for line in captured.get().splitlines()))


def note(text: str) -> None:
    """A line beside the result."""
    sys.stderr.write(text + "\n")


def plan(found: Plan, output_format: Format) -> None:
    """A plan or an estimate in the format asked for; its warnings on stderr."""
    for warning in found.warnings:
        note(f"warning: {warning}")
    if output_format is Format.JSON:
        result(found.to_json())
    elif output_format is Format.MARKDOWN:
        from helixplan.report.markdown import plan_page

        result(plan_page(found))
    else:
        from helixplan.report.terminal import plan_view

        view(plan_view(found))


def infeasible(error: InfeasibleError, output_format: Format) -> None:
    """The conflict and the relaxations, as the result that they are."""
    if output_format is Format.JSON:
        from helixplan.plans import to_json

        document = {
            "status": "infeasible",
            "conflict": [vars(member) for member in error.conflict],
            "relaxations": [option.model_dump(mode="json") for option in error.relaxations],
        }
        result(to_json(document))
    elif output_format is Format.MARKDOWN:
        from helixplan.report.markdown import infeasible_page

        result(infeasible_page(error))
    else:
        from helixplan.report.terminal import infeasible_view

        view(infeasible_view(error))
