"""HTML elements as text. Whatever is not ``Markup`` is escaped, so that no name out of a file becomes an element."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Content = str | None
"""What stands inside an element: plain text, ``Markup``, or nothing."""

VOID = ("br", "col", "link", "meta")


def element(name: str, /, *children: Content, **attributes: str | float | bool | None) -> Markup:
    """An element; ``class_`` is spelled ``class``, ``aria_label`` ``aria-label``. False and None leave an attribute out."""
    said = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{joined(children)}</{name}>")


def _attribute(name: str, value: str | float | bool) -> str:
    spelled = name.rstrip("_").replace("_", "-")
    if value is True:
        return f" {spelled}"
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    return f' {spelled}="{html.escape(text)}"'


def joined(parts: Iterable[Content]) -> Markup:
    """Parts one after the other, text escaped."""
    return Markup("".join(part if isinstance(part, Markup) else html.escape(part) for part in parts if part is not None))


def paragraph(*said: Content, kind: str | None = None) -> Markup:
    return element("p", *said, class_=kind)


def heading(text: str) -> Markup:
    """Of a part of a section."""
    return element("h3", text)


def pairs(lines: Iterable[tuple[str, Content]]) -> Markup:
    """Names and what is said of them."""
    return element("dl", *(joined((element("dt", name), element("dd", said))) for name, said in lines))


def table(
    caption: str, names: Sequence[str], rows: Iterable[Sequence[Content]], words: Sequence[int] = (), kind: str | None = None
) -> Markup:
    """A table that scrolls in a box of its own where it is wide: names, then figures, but for the columns that hold ``words``."""

    def side(index: int) -> str | None:
        return None if index == 0 or index in words else "figure"

    def cell(index: int, said: Content) -> Markup:
        return element("th", said, scope="row") if index == 0 else element("td", said, class_=side(index))

    head = [element("th", name, scope="col", class_=side(index)) for index, name in enumerate(names)]
    body = [element("tr", *(cell(index, said) for index, said in enumerate(row))) for row in rows]
    parts = element("caption", caption), element("thead", element("tr", *head)), element("tbody", *body)
    return element("div", element("table", *parts, class_=kind), class_="scroll", role="region", aria_label=caption, tabindex="0")
