"""Puts results on stdout and everything else on stderr."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from helixplan.cli.options import Format
from helixplan.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from helixplan.advice import Advice
    from helixplan.errors import InfeasibleError
    from helixplan.plans import Plan
    from helixplan.report.pictures import Picture


COLUMNS = 80


def give_up_on_stdout(error: Exception) -> NoReturn:
    """Ends the program where the result cannot be written: quietly if its reader went away, else as an error."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):
        sys.exit(141)
    reason = error.strerror if isinstance(error, OSError) else "it is closed"
    raise InputError(f"the result cannot be written to stdout ({reason})") from None


def result(text: str) -> None:
    """Text to stdout, as it is."""
    try:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()
    except (OSError, AttributeError) as error:
        give_up_on_stdout(error)


def view(renderable: RenderableType) -> None:
    """A rich view to stdout; without a terminal 80 columns wide and plain."""
    from rich.console import Console

    buffer = io.StringIO()
    console = Console(file=buffer, highlight=False, force_terminal=bool(sys.stdout and sys.stdout.isatty()))
    # A narrower terminal wraps lines itself; cutting them to fit would lose figures.
    console.width = max(console.width, COLUMNS)
    console.print(renderable)
    result("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()))


def table(
    names: Sequence[str], rows: Sequence[Sequence[str]], left: int, output_format: Format, *, breaking: bool = False
) -> None:
    """Rows of cells as a table of the terminal or of markdown; ``left`` and ``breaking`` as ``terminal.columns`` has them."""
    if output_format is Format.MARKDOWN:
        from helixplan.report.markdown import table as markdown_table

        result(markdown_table(names, rows))
    else:
        from helixplan.report.terminal import columns

        view(columns(names, rows, left=left, breaking=breaking))


def bars(names: Sequence[str], rows: Sequence[Sequence[str]], output_format: Format) -> None:
    """Phases as ``report.explanation`` tells them, each in the colour of what binds it."""
    if output_format is Format.MARKDOWN:
        table(names, rows, 3, output_format)
    else:
        from helixplan.report.terminal import bars as bars_view

        view(bars_view(names, rows))


def picture(drawn: Picture) -> None:
    """A picture in characters, as wide as the terminal; in colour only where there is one to show it."""
    from rich.console import Console

    from helixplan.report.pictures import in_terminal

    console = Console()
    on_terminal = bool(sys.stdout and sys.stdout.isatty())
    width = min(max(console.width, COLUMNS), 110) if on_terminal else COLUMNS
    result(in_terminal(drawn, width, colour=on_terminal and console.color_system is not None and not console.no_color))


def heading(text: str, output_format: Format) -> None:
    """A line over what follows."""
    if output_format is Format.MARKDOWN:
        from helixplan.report.markdown import text as markdown_text

        result(f"### {markdown_text(text)}\n")
    else:
        from rich.text import Text

        view(Text(text, style="bold"))


def records(rows: Sequence[tuple[str, str]], output_format: Format) -> None:
    """Names and what is said of them."""
    if output_format is Format.MARKDOWN:
        from helixplan.report.markdown import table as markdown_table

        result(markdown_table(("", ""), rows))
    else:
        from helixplan.report.terminal import pairs

        view(pairs(rows))


def note(text: str) -> None:
    """A line beside the result."""
    sys.stderr.write(text + "\n")


def warnings(said: list[str]) -> None:
    """What to know before believing the numbers."""
    for warning in said:
        note(f"warning: {warning}")


def plan(found: Plan, output_format: Format) -> None:
    """A plan or an estimate in the format asked for."""
    if output_format is Format.JSON:
        result(found.to_json())
    elif output_format is Format.MARKDOWN:
        from helixplan.report.markdown import plan_page

        result(plan_page(found))
    else:
        from helixplan.report.terminal import plan_view

        view(plan_view(found))


def advice(found: Advice, output_format: Format) -> None:
    """A launch, the best in its place, and what to change."""
    if output_format is Format.JSON:
        result(found.to_json())
        return
    from helixplan.report import advice as words

    heading(words.headline(found), output_format)
    records(words.facts(found), output_format)
    result("")
    table(words.COLUMNS, words.rows(found), 1, output_format)
    for line in words.verdict(found):
        paragraph(line, output_format)
    if found.changes:
        table(words.CHANGE_COLUMNS, words.change_rows(found), 1, output_format)
    if found.new_launch is not None and found.changes:
        result(found.new_launch if output_format is Format.TABLE else f"```\n{found.new_launch}\n```")


def paragraph(text: str, output_format: Format) -> None:
    """Words over as many lines as they need."""
    if output_format is Format.MARKDOWN:
        from helixplan.report.markdown import text as markdown_text

        result(f"{markdown_text(text)}\n")
    else:
        from rich.text import Text

        view(Text(text))


def infeasible(error: InfeasibleError, output_format: Format) -> None:
    """The conflict and the relaxations, as the result that they are."""
    if output_format is Format.JSON:
        from helixplan.plans import Infeasible, PlanConflict

        conflict = [PlanConflict(**vars(member)) for member in error.conflict]
        result(Infeasible(conflict=conflict, relaxations=error.relaxations).to_json())
    elif output_format is Format.MARKDOWN:
        from helixplan.report.markdown import infeasible_page

        result(infeasible_page(error))
    else:
        from helixplan.report.terminal import infeasible_view

        view(infeasible_view(error))
