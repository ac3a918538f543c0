"""A report as markdown, for a pull request: the tables of the page without its pictures."""

from __future__ import annotations

from collections.abc import Iterator

from helixplan.explanation import Explanation
from helixplan.report import answers, curves
from helixplan.report import explanation as words
from helixplan.report.answers import Answers
from helixplan.report.commands import Commands, plan_commands, suite_commands
from helixplan.report.markdown import plan_page, table, text
from helixplan.report.material import Material


def plan_report(material: Material) -> str:
    """The plan, why it is the best, what would move it, the frontier, and how to get all that again."""
    parts = [plan_page(material.plan).rstrip()]
    if material.explanation is not None:
        parts += _why(material.explanation)
    if material.frontier is not None:
        points = [curves.point_row(point) for point in curves.shown(material.frontier.points)]
        parts += [
            "### The frontier",
            table(curves.POINT_COLUMNS, points),
            curves.how_many(material.frontier, rest="its command below has all"),
        ]
    return "\n\n".join([*parts, *_commands(plan_commands(material))]) + "\n"


def _why(found: Explanation) -> Iterator[str]:
    yield "### Why"
    yield table(("", ""), [*words.spent_on(found), *(words.rule_line(held, found) for held in found.rules)])
    yield "### One step up or down, everything else chosen anew"
    yield table(("", ""), [words.step_line(step, found) for step in found.steps])
    yield "### Sensitivity"
    yield table(("", ""), words.context_lines(found))
    yield table(words.ELASTICITY_COLUMNS, [words.elasticity_row(one) for one in found.elasticities])
    yield table(words.INVESTMENT_COLUMNS, [words.investment_row(one, found) for one in found.investments])


def suite_report(found: Answers) -> str:
    """A row a case."""
    parts = [f"## {text(answers.headline(found))}", table(answers.COLUMNS, answers.rows(found))]
    return "\n\n".join([*parts, *_commands(suite_commands(found.suite))]) + "\n"


def _commands(commands: Commands) -> Iterator[str]:
    yield "### Reproduce"
    yield "\n".join(["```sh", *(command for _, command in commands), "```"])
