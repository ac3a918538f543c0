"""``helixplan draw``: a map of the GPUs in both phases and a layer in time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, write_atomically
from helixplan.errors import InputError

PICTURES = (".svg", ".html")


def draw(
    plan: options.PlanFile,
    output: Annotated[Path | None, typer.Option(help="Draw it to a file instead: .svg or .html.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Draw which GPU holds what in both phases, and a layer in time."""
    from helixplan.replay import misplaced, read_plan
    from helixplan.report import drawing

    if output is not None:
        if output.suffix.lower() not in PICTURES:
            given = output.suffix or "no ending"
            raise InputError(f"got {given!r}; allowed: {', '.join(PICTURES)}", file=str(output), field="--output")
        check_writable(output, force=force)
    found = read_plan(plan)
    for sentence in misplaced(found):
        raise InputError(f"{sentence}; helixplan verify says more", file=str(plan))
    if output is None:
        show.result(drawing.in_terminal(found))
        return
    picture = drawing.as_page(found) if output.suffix.lower() == ".html" else drawing.as_svg(found)
    write_atomically(output, picture, force=force)
    show.note(f"wrote {output}")
