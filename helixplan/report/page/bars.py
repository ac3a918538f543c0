"""Bars drawn by style sheets: their width is the screen's, their text real text. Colour and pattern both say what binds."""

from __future__ import annotations

from helixplan.report.page.elements import Markup, element

BOUNDS = ("memory", "compute", "network", "floor")


def bar(kind: str, start: float, end: float, told: str) -> Markup:
    """A bar from ``start`` to ``end``, fractions of its track; ``told`` is said on hover."""
    place = f"left:{100 * start:.3f}%;width:{100 * (end - start):.3f}%"
    return element("span", class_=f"bar {kind}", style=place, title=told)


def track(*bars: Markup) -> Markup:
    """What bars lie on."""
    return element("span", *bars, class_="track")


def legend(*more: Markup) -> Markup:
    """What the colours and patterns mean."""
    marks = [element("li", element("i", class_=bound), f"bound by {bound}") for bound in BOUNDS]
    return element("ul", *marks, *more, class_="legend", aria_label="Legend")


def drawn(caption: str, names: tuple[str, ...], rows: list[tuple[str, Markup, str]]) -> Markup:
    """A table of bars: a name, the bar, a figure. Arrow keys walk the bars."""
    head = [element("th", name, scope="col", class_="figure" if i == len(names) - 1 else None) for i, name in enumerate(names)]
    body = [
        element("tr", element("th", name, scope="row"), element("td", line), element("td", figure, class_="figure"))
        for name, line, figure in rows
    ]
    parts = (element("caption", caption), element("thead", element("tr", *head)), element("tbody", *body))
    return element("table", *parts, class_="drawn", data_walk=True)
