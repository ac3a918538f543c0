"""The page of a suite: every case's answer in a table, and each by itself."""

from __future__ import annotations

from helixplan.report import answers
from helixplan.report.answers import Answers
from helixplan.report.commands import case_command, suite_commands
from helixplan.report.page import reproduce
from helixplan.report.page.elements import Markup, element, joined, pairs, paragraph, table
from helixplan.report.page.frame import Section, document


def suite_page(found: Answers) -> str:
    """The table first; a case's name leads to its own part."""
    sections = [
        Section("cases", "Cases", _table(found)),
        Section("answers", "One by one", _one_by_one(found)),
        Section("reproduce", "Reproduce", reproduce.section(suite_commands(found.suite))),
    ]
    return document(
        answers.headline(found),
        paragraph("Each case is planned anew and its optimum proved. Its command runs in the suite's folder."),
        sections,
    )


def _table(found: Answers) -> Markup:
    rows = [(element("a", name, href=f"#case-{name}"), _status(status), *rest) for name, status, *rest in answers.rows(found)]
    return table("Every case and its answer", answers.COLUMNS, rows, words=(1, 2))


def _status(status: str) -> Markup:
    return element("span", status, class_="good" if status == "optimal" else "bad")


def _one_by_one(found: Answers) -> Markup:
    parts = []
    for case, result in zip(found.cases, found.results, strict=True):
        command = element("pre", element("code", case_command(case)))
        parts.append(
            element("article", element("h3", case.name), pairs(answers.facts(case, result)), command, id=f"case-{case.name}")
        )
    return joined(parts)
