"""``helixplan report``: a plan or a suite as one page that people read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, write_atomically
from helixplan.cli.progress import counted_while, shown_while
from helixplan.errors import InputError

PAGES = (".html", ".htm")


class ReportFormat(StrEnum):
    """What a report is written in."""

    HTML = "html"
    MARKDOWN = "markdown"


def report(
    source: Annotated[Path, typer.Argument(metavar="PLAN|SUITE", help="A plan's JSON file, or a suite's TOML file.")],
    output: Annotated[Path | None, typer.Option(help="The file to write. Markdown goes to stdout without it.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    model: options.PlansModel = None,
    hardware: options.PlansHardware = None,
    output_format: Annotated[
        ReportFormat, typer.Option("--format", help="One self-contained page, or markdown for a pull request.")
    ] = ReportFormat.HTML,
) -> None:
    """Write one page about a plan or a suite. The answer, why, the layout, the frontier, what it rests on."""
    if output is not None:
        check_writable(output, force=force)
        _check_ending(output, output_format)
    elif output_format is ReportFormat.HTML:
        raise InputError("is missing; name the page's file, or print --format markdown", field="--output")
    if source.suffix.lower() == ".toml":
        for option, given in (("--model", model), ("--hardware", hardware)):
            if given is not None:
                raise InputError("goes with a plan; a suite's cases name their own files", field=option)
        written = _of_suite(source, output_format)
    else:
        written = _of_plan(source, model, hardware, output_format)
    if output is None:
        show.result(written)
        return
    write_atomically(output, written, force=force)
    show.note(f"wrote {output}")


def _check_ending(output: Path, output_format: ReportFormat) -> None:
    """A page's file is named as one, and no other is."""
    if (output.suffix.lower() in PAGES) != (output_format is ReportFormat.HTML):
        given = output.suffix or "no ending"
        raise InputError(
            f"got {given!r} with --format {output_format.value}; {' or '.join(PAGES)} goes with html, any other with markdown",
            file=str(output),
            field="--output",
        )


def _of_plan(file: Path, model: str | None, hardware: str | None, output_format: ReportFormat) -> str:
    from helixplan.replay import case_of, inputs_of, misplaced, read_plan
    from helixplan.report.in_markdown import plan_report
    from helixplan.report.material import gather
    from helixplan.report.page.of_plan import plan_page

    plan = read_plan(file)
    for sentence in misplaced(plan):
        raise InputError(f"{sentence}; helixplan verify says more", file=str(file))
    case = case_of(plan, *inputs_of(plan, str(file), model, hardware), file=str(file))
    with shown_while("reporting"):
        material = gather(plan, case, str(file), model, hardware)
    show.warnings(material.notes)
    return plan_page(material) if output_format is ReportFormat.HTML else plan_report(material)


def _of_suite(file: Path, output_format: ReportFormat) -> str:
    from helixplan.regress.running import cores, run
    from helixplan.regress.suites import read_suite
    from helixplan.report.answers import Answers
    from helixplan.report.in_markdown import suite_report
    from helixplan.report.page.of_suite import suite_page

    cases = read_suite(file)
    with counted_while("planning", len(cases)) as done:
        found = Answers(file.name, cases, run(cases, cores(), done))
    return suite_page(found) if output_format is ReportFormat.HTML else suite_report(found)
