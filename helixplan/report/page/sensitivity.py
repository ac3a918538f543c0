"""What would move the plan: contexts, batch, and each resource of the system."""

from __future__ import annotations

from helixplan.explanation import Explanation
from helixplan.report import explanation as words
from helixplan.report.page.elements import Markup, heading, joined, pairs, paragraph, table


def section(found: Explanation | None) -> Markup:
    """How far in context the layout holds, elasticities, and what to buy next."""
    if found is None:
        return paragraph("An estimate: nothing was searched, so there is no optimum whose edges could be told.")
    better = [words.investment_row(one, found) for one in found.investments]
    moves = [words.elasticity_row(one) for one in found.elasticities]
    return joined(
        (
            heading("How far it holds"),
            pairs(words.context_lines(found)),
            heading("How this layout's figures move"),
            table("By how many per cent, at this batch", words.ELASTICITY_COLUMNS, moves),
            heading("What would help"),
            table("This layout on a better system, and the best layout on it", words.INVESTMENT_COLUMNS, better, words=(3, 4)),
        )
    )
