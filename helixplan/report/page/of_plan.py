"""The page of one plan."""

from __future__ import annotations

from helixplan.report import wording
from helixplan.report.commands import plan_commands
from helixplan.report.material import Material
from helixplan.report.page import assumptions, frontier, layout, memory, reproduce, sensitivity, timeline, why
from helixplan.report.page.answer import answer
from helixplan.report.page.frame import Section, document


def plan_page(material: Material) -> str:
    """The answer first, then a section for each question one asks about it."""
    plan, found = material.plan, material.explanation
    sections = [
        Section("why", "Why", why.section(plan, found)),
        Section("layout", "Layout", layout.section(plan)),
        Section("timeline", "Timeline", timeline.section(plan)),
        Section("memory", "Memory", memory.section(material)),
        Section("frontier", "Frontier", frontier.section(material)),
        Section("sensitivity", "Sensitivity", sensitivity.section(found)),
        Section("assumptions", "Assumptions", assumptions.section(material)),
        Section("reproduce", "Reproduce", reproduce.section(plan_commands(material))),
    ]
    return document(wording.headline(plan), answer(material), sections)
