"""A plan as markdown, for a pull request or a page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from helixplan.errors import InfeasibleError
from helixplan.plans import Plan
from helixplan.report import wording
from helixplan.units import format_seconds

MEANT = re.compile(r"[\\`*\[~]|<(?=[A-Za-z/!?])|&(?=#?\w+;)|(?<!\w)_|_(?!\w)")
"""What would be read as a mark where it stands in words."""


def plan_page(plan: Plan) -> str:
    """The same as the terminal shows, in the same order."""
    parts = [f"## {text(wording.headline(plan))}", table(("", ""), wording.facts(plan))]
    rows = [wording.phase_row(phase, plan) for phase in plan.cost.phases]
    parts += ["### Where a token's time goes", table(wording.PHASE_COLUMNS, rows)]
    if plan.alternatives:
        options = [wording.alternative_row(plan.layout, plan)]
        options += [wording.alternative_row(option.layout, option) for option in plan.alternatives]
        parts += ["### This layout and the next best", table(wording.ALTERNATIVE_COLUMNS, options)]
    parts += [f"*{text(line)}*" for line in [*plan.warnings, *wording.sources(plan)]]
    return "\n\n".join(parts) + "\n"


def infeasible_page(error: InfeasibleError) -> str:
    """The conflict and what would help."""
    parts = [
        "## No layout keeps all of these at once",
        wording.CLASH,
        table(("member", "what it says"), [(c.rule, c.detail) for c in error.conflict]),
    ]
    if error.relaxations:
        rows = [
            (option.change, str(option.layout.layout), str(option.layout.batch), format_seconds(option.cost.ttl_s))
            for option in error.relaxations
        ]
        parts += ["### What would help", table(("change", "layout", "batch", "TTL"), rows)]
    return "\n\n".join(parts) + "\n"


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table; what would be a mark in a cell is escaped."""
    lines = [[text(cell) for cell in line] for line in (names, *rows)]
    lines.insert(1, ["---"] * len(names))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def text(said: str) -> str:
    """Words as they are, on one line: no name out of a file becomes a mark or an element.

    https://github.github.com/gfm/#backslash-escapes
    """
    return MEANT.sub(r"\\\g<0>", " ".join(said.split()))
