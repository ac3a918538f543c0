"""The commands that give a page's answers again."""

from __future__ import annotations

from helixplan.report.commands import Commands
from helixplan.report.page.elements import Markup, element, joined, paragraph


def section(commands: Commands) -> Markup:
    """What each command does, and the command."""
    return joined(part for said, command in commands for part in (paragraph(said), element("pre", element("code", command))))
