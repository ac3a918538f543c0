"""The frame of a page: head, style, script, the answer on top, and sections that become tabs where scripts run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from helixplan.report.page.elements import Markup, element, joined
from helixplan.version import __version__


@dataclass(frozen=True)
class Section:
    """A part of the page with a name of its own in the address."""

    name: str
    title: str
    body: Markup


def document(title: str, answer: Markup, sections: Sequence[Section]) -> str:
    """The whole file. It loads nothing: style and script are part of it, and its policy forbids all else."""
    script = _data("page.js")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=f"helixplan {__version__}"),
        element("link", rel="icon", href="data:,"),
        element("title", title),
        Markup(f"<style>\n{_data('page.css')}</style>"),
    )
    links = [element("a", section.title, href=f"#{section.name}") for section in sections]
    body = element(
        "body",
        element(
            "header",
            element("button", "Dark", type="button", id="theme", aria_pressed="false", hidden=True),
            element("h1", title),
            answer,
        ),
        element("nav", *links, aria_label="Sections"),
        element("main", *(_panel(section) for section in sections)),
        element("footer", f"Written by helixplan {__version__}."),
        element("div", id="tip", hidden=True, aria_hidden="true"),
        Markup(f"<script>{script}</script>"),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _panel(section: Section) -> Markup:
    return element("section", joined((element("h2", section.title), section.body)), id=section.name)


def _data(name: str) -> str:
    return files("helixplan.report.page").joinpath(name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Only the page's own script runs, whatever a file's names say."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
