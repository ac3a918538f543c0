"""``helixplan frontier``: tokens/s/user against tokens/s/GPU, every point with its layout."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, write_atomically
from helixplan.cli.progress import shown_while
from helixplan.errors import InfeasibleError, InputError
from helixplan.inputs import spelled

if TYPE_CHECKING:
    from helixplan.cost.case import Case
    from helixplan.curves import Frontier
    from helixplan.inputs.workload import Request
    from helixplan.report.pictures import Picture

PICTURES = (".png", ".svg", ".html")


class FrontierFormat(StrEnum):
    """How a frontier is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


@options.takes(options.MODELLING, options.LIMITS)
def frontier(
    model: options.ModelName,
    hardware: options.HardwareName,
    family: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=options.one_of("FAMILIES"), help="helix, tp, pp, dp-ep, medha, any. Repeatable. Default: helix."
        ),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw it to a file: .html (with hover), .png or .svg.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the picture if it exists.")] = False,
    output_format: Annotated[FrontierFormat, typer.Option("--format", help="How the result is printed.")] = FrontierFormat.TABLE,
    **given: Any,
) -> None:
    """Find every layout and batch that none beats in both rates. The rates are tokens/s/user and tokens/s/GPU."""
    from helixplan.api import frontier_case, named_families
    from helixplan.engines import posed
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.huggingface import load_model
    from helixplan.inputs.workload import Workload

    if plot is not None:
        _check_picture(plot, force=force)
    families = named_families(family or ["helix"])
    asked = spelled.request(given | {"family": families[0]}, None)
    case = posed(load_model(model), load_hardware(hardware), Workload(spelled.context_tokens(given), **spelled.modelling(given)))
    try:
        with shown_while("tracing the frontier"):
            found = frontier_case(case, asked, families)
            picture = _picture(case, asked, found) if plot is not None or output_format is FrontierFormat.TABLE else None
    except InfeasibleError as error:
        show.infeasible(error, options.Format.JSON if output_format is FrontierFormat.JSON else options.Format.TABLE)
        raise typer.Exit(3) from None
    show.warnings(found.warnings)
    _print(found, picture, output_format)
    if plot is not None:
        assert picture is not None
        _draw(picture, plot, force=force)


def _check_picture(path: Path, *, force: bool) -> None:
    """Refuses a picture that cannot be drawn before any work is done."""
    import importlib.util

    if path.suffix.lower() not in PICTURES:
        raise InputError(f"got {path.suffix or 'no ending'!r}; allowed: {', '.join(PICTURES)}", file=str(path), field="--plot")
    needs = "plotly" if path.suffix.lower() == ".html" else "matplotlib"
    if importlib.util.find_spec(needs) is None:
        raise InputError(f"drawing it needs {needs}, which is not installed here; pip install 'helixplan[plot]'", field="--plot")
    check_writable(path, force=force, option="--plot")


def _picture(case: Case, asked: Request, found: Frontier) -> Picture:
    """Each family's own line, and the ideal clock's limit of all of them together."""
    from helixplan.api import family_lines
    from helixplan.report.curves import frontier_headline
    from helixplan.report.pictures import Picture

    lines, limit = family_lines(case, asked, tuple(found.families))
    return Picture(frontier_headline(found), lines, limit)


def _print(found: Frontier, picture: Picture | None, output_format: FrontierFormat) -> None:
    from helixplan.report import curves

    if output_format is FrontierFormat.JSON:
        show.result(found.to_json())
        return
    if output_format is FrontierFormat.CSV:
        show.result(curves.frontier_csv(found))
        return
    rows = [curves.point_row(point) for point in curves.shown(found.points)]
    if output_format is FrontierFormat.MARKDOWN:
        show.heading(curves.frontier_headline(found), options.Format.MARKDOWN)
        show.table(curves.POINT_COLUMNS, rows, 1, options.Format.MARKDOWN)
        show.result(f"\n{curves.how_many(found)}")
        return
    assert picture is not None
    show.heading(picture.title, options.Format.TABLE)
    show.picture(picture)
    show.table(curves.POINT_COLUMNS, rows, 1, options.Format.TABLE)
    show.result(curves.how_many(found))


def _draw(picture: Picture, path: Path, *, force: bool) -> None:
    from helixplan.report.pictures import as_image, as_page

    if path.suffix.lower() == ".html":
        write_atomically(path, as_page(picture), force=force, option="--plot")
    else:
        write_atomically(path, as_image([picture], path.suffix[1:].lower()), force=force, option="--plot")
    show.note(f"wrote {path}")
