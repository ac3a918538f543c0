"""A plan in the terminal: aligned at 80 columns, with or without colour, nothing cut off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from helixplan.errors import InfeasibleError
from helixplan.plans import Plan
from helixplan.report import wording
from helixplan.units import format_seconds

BOUND_STYLES = {"memory": "blue", "compute": "magenta", "network": "yellow", "floor": "dim"}


def plan_view(plan: Plan) -> RenderableType:
    """The answer first, then where the time goes, the next best layouts, and the sources."""
    parts: list[RenderableType] = [Text(wording.headline(plan), style="bold"), Text(), pairs(wording.facts(plan))]
    parts += [Text(), Text("Where a token's time goes", style="bold"), _phases(plan)]
    if plan.alternatives:
        rows = [wording.alternative_row(plan.layout, plan)]
        rows += [wording.alternative_row(option.layout, option) for option in plan.alternatives]
        parts += [Text("This layout and the next best", style="bold"), columns(wording.ALTERNATIVE_COLUMNS, rows)]
    parts += [Text(line, style="dim") for line in wording.sources(plan)]
    return Group(*parts)


def infeasible_view(error: InfeasibleError) -> RenderableType:
    """The conflict, a line a member, and what would help."""
    parts: list[RenderableType] = [Text(wording.CLASH)]
    parts += [Padding(Text.assemble((member.rule, "bold"), f": {member.detail}"), (0, 0, 0, 2)) for member in error.conflict]
    if not error.relaxations:
        return Group(*parts, Text("None of the changes and pairs of changes that were tried would help."))
    parts.append(Text("What would help:"))
    for option in error.relaxations:
        layout, cost = option.layout, option.cost
        said = f"{option.change}: {wording.layout_words(layout)}, TTL {format_seconds(cost.ttl_s)}"
        parts.append(Padding(Text(said), (0, 0, 0, 2)))
    return Group(*parts)


def pairs(lines: Iterable[tuple[str, str]]) -> Table:
    """Names and what is said of them."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", overflow="fold", max_width=36)
    table.add_column(overflow="fold", min_width=40)
    for name, said in lines:
        table.add_row(name, Text(said))
    return table


def columns(names: Sequence[str], rows: Iterable[Sequence[str]], left: int = 0, *, breaking: bool = False) -> Table:
    """A table of figures; the first ``left`` columns hold words, the very first names that are never broken.

    ``breaking``: long names break at their spaces instead, and nothing else does.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(names):
        table.add_column(
            name,
            justify="left" if index < left else "right",
            overflow="fold",
            no_wrap=(index > 0) if breaking else index < min(left, 1),
        )
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def bars(names: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Phases by name, what binds them, a bar, and figures; the bar in the colour of what binds it."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for index, name in enumerate(names):
        table.add_column(name, justify="left" if index < 3 else "right", overflow="fold", no_wrap=index > 0)
    for name, bound, bar, *figures in rows:
        style = BOUND_STYLES[bound]
        table.add_row(Text(name), Text(bound, style=style), Text(bar, style=style), *(Text(figure) for figure in figures))
    return table


def _phases(plan: Plan) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in wording.PHASE_COLUMNS:
        table.add_column(name, justify="left" if name in ("phase", "bound by") else "right", overflow="fold")
    for phase in plan.cost.phases:
        *cells, bound = wording.phase_row(phase, plan)
        table.add_row(*(Text(cell) for cell in cells), Text(bound, style=BOUND_STYLES[bound]))
    return table
