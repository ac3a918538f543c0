"""``helixplan reproduce``: published claims beside this model's figures."""

from __future__ import annotations

import importlib.util
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from helixplan.cli import show
from helixplan.cli.files import check_writable, write_atomically
from helixplan.cli.progress import shown_while
from helixplan.errors import InputError


class Work(StrEnum):
    """What can be reproduced."""

    HELIX_PAPER = "helix-paper"


def reproduce(
    work: Annotated[Work, typer.Argument(help="Whose claims.")],
    output: Annotated[Path | None, typer.Option(help="Write the page to this file (.md), and figure 1 beside it (.svg).")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Hold the Helix paper's claims against this model. At both clocks and between."""
    from helixplan.report.paper import reproduction

    if output is None:
        with shown_while("reproducing") as tell:
            page = reproduction("reproducing-helix.svg", tell)
        show.result(page)
        return
    picture = output.with_suffix(".svg")
    if output.suffix != ".md":
        raise InputError(f"got {output.suffix or 'no ending'!r}; allowed: .md", file=str(output), field="--output")
    if importlib.util.find_spec("matplotlib") is None:
        said = "drawing figure 1 needs matplotlib, which is not installed here; pip install 'helixplan[plot]'"
        raise InputError(said, field="--output")
    for path in (output, picture):
        check_writable(path, force=force)
    with shown_while("reproducing") as tell:
        page = reproduction(picture.name, tell)
    write_atomically(picture, _figure_1(), force=force)
    write_atomically(output, page, force=force)
    show.note(f"wrote {output} and {picture}")


def _figure_1() -> bytes:
    from helixplan.evidence import paper
    from helixplan.report.pictures import figure_1

    widths, kvps = list(paper.WIDTHS), list(paper.KVPS)
    return figure_1(
        [
            ("KV read, KVP 1", "TP", {"KV": (widths, [paper.kv_read_us(width, 1) for width in widths])}),
            ("weight read", "TP", {"weights": (widths, [paper.weights_read_us(width) for width in widths])}),
            ("KV read, TPA 8", "KVP", {"KV": (kvps, [paper.kv_read_us(8, kvp) for kvp in kvps])}),
        ]
    )
