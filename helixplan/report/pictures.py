"""The frontier as a picture: in the terminal (plotext), as PNG or SVG (matplotlib), as a page of its own with hover (plotly).

A line goes in steps, for between two points nothing better than the faster one is to be had. Families differ in colour (Okabe and
Ito's palette, which colour-blind eyes tell apart), in marker and in dash, so that a print in grey says the same.
"""

from __future__ import annotations

import html
import io
import math
import textwrap
from dataclasses import dataclass
from typing import Any

from helixplan.curves import Point
from helixplan.report.curves import point_words

X, Y = "tokens/s/user", "tokens/s/GPU"
STYLES = {
    "helix": ("#0072B2", "o", "-", "solid", "circle"),
    "tp": ("#D55E00", "s", "--", "dash", "square"),
    "pp": ("#009E73", "^", "-.", "dashdot", "triangle-up"),
    "dp-ep": ("#CC79A7", "D", ":", "dot", "diamond"),
    "medha": ("#E69F00", "v", (0, (5, 1, 1, 1, 1, 1)), "longdash", "triangle-down"),
}
"""Colour; matplotlib's marker and dash; plotly's dash and marker."""
LIGHT = "#999999"


@dataclass(frozen=True)
class Picture:
    """A line a family, best interactivity first, and behind them the ideal clock's limit of all of them together."""

    title: str
    lines: dict[str, list[Point]]
    limit: list[Point]


def in_terminal(picture: Picture, width: int, height: int = 20, *, colour: bool) -> str:
    """Characters only: each family its own."""
    import plotext

    plotext.clear_figure()
    plotext.plotsize(width, height)
    plotext.theme("clear")
    markers = {"helix": "h", "tp": "t", "pp": "p", "dp-ep": "d", "medha": "m"}
    colours = {"helix": "blue", "tp": "red", "pp": "green", "dp-ep": "magenta", "medha": "orange"}
    for name, points in sorted(picture.lines.items(), key=lambda line: line[0] == "helix"):
        if points:
            x, y = _steps(points)
            plotext.plot(x, y, marker=markers[name], color=colours[name] if colour else None, label=name)
    plotext.xlabel(X)
    plotext.ylabel(Y)
    plotext.yscale("log")
    built = str(plotext.build()) if colour else str(plotext.uncolorize(plotext.build()))
    return "\n".join(line.rstrip() for line in built.splitlines())


def _xy(points: list[Point]) -> tuple[list[float], list[float]]:
    return [point.cost.tokens_per_s_per_user for point in points], [point.cost.tokens_per_s_per_gpu for point in points]


def _steps(points: list[Point]) -> tuple[list[float], list[float]]:
    """The line's corners: on to the next point's speed at what this one gives, then up."""
    x, y = _xy(points)
    corners = [(x[i + 1], y[i]) for i in range(len(x) - 1)]
    path = [pair for step in zip(zip(x, y, strict=True), [*corners, (x[-1], y[-1])], strict=True) for pair in step]
    return [pair[0] for pair in path], [pair[1] for pair in path]


def _window(picture: Picture) -> tuple[float, float, float, float]:
    """What a picture shows, (left, right, bottom, top): the lines, and as much of the limit as lies over them."""
    drawn = [_xy(points) for points in picture.lines.values() if points]
    x, y = [value for xs, _ in drawn for value in xs], [value for _, ys in drawn for value in ys]
    return 0.0, max(x) * 1.06, min(y) * 0.75, max([*y, *_xy(picture.limit)[1]]) * 1.3


def _shade(picture: Picture) -> tuple[list[float], list[float]]:
    """The limit's edge, carried on to the left, where a slower user costs a GPU nothing."""
    x, y = _xy(picture.limit)
    return [*x, 0.0], [*y, y[-1]]


def as_image(pictures: list[Picture], kind: str) -> bytes:
    """PNG or SVG, a panel a picture. The same pictures give the same bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings: Any = {"svg.hashsalt": "helixplan", "font.size": 10, "svg.fonttype": "none"}
    size = (1.5 + 6 * len(pictures), 5.2)
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(1, len(pictures), figsize=size, squeeze=False, layout="constrained")
        for panel, picture in zip(axes[0], pictures, strict=True):
            _draw(panel, picture)
        content = io.BytesIO()
        figure.savefig(content, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else {"Software": None})
        pyplot.close(figure)
    return content.getvalue()


def _draw(axes: Any, picture: Picture) -> None:
    if picture.limit:
        axes.fill_between(*_shade(picture), step="post", color=LIGHT, alpha=0.2, linewidth=0, label="speed of light")
    for name, points in picture.lines.items():
        if points:
            colour, marker, dash, _, _ = STYLES[name]
            line: Any = {"color": colour, "linestyle": dash, "linewidth": 1.8, "label": name, "drawstyle": "steps-post"}
            axes.plot(*_xy(points), **line, marker=marker, markevery=max(1, len(points) // 12), markersize=6)
    left, right, bottom, top = _window(picture)
    title = "\n".join(textwrap.wrap(picture.title, 60))
    axes.set(xlabel=X, ylabel=Y, yscale="log", title=title, xlim=(left, right), ylim=(bottom, top))
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(framealpha=0.9, handlelength=3.5, loc="lower left")


def as_page(picture: Picture) -> str:
    """A self-contained page: hover tells a point's layout, batch, TTL and memory."""
    import plotly.graph_objects as go

    figure = go.Figure()
    if picture.limit:
        x, y = _shade(picture)
        edge = {"color": LIGHT, "width": 1, "shape": "hv"}
        behind: Any = {"line": edge, "fill": "tozeroy", "fillcolor": "rgba(153,153,153,0.15)", "hoverinfo": "skip"}
        figure.add_scatter(x=x, y=y, mode="lines", name="speed of light", **behind)
    for name, points in picture.lines.items():
        if points:
            _add_line(figure, name, points)
    left, right, bottom, top = _window(picture)
    figure.update_layout(
        xaxis={"title": X, "range": [left, right]},
        yaxis={"title": Y, "type": "log", "range": [math.log10(bottom), math.log10(top)], "dtick": 1},
        template="plotly_white",
        autosize=True,
        margin={"l": 60, "r": 16, "t": 34, "b": 50},
        legend={"orientation": "h", "yanchor": "top", "y": -0.14, "x": 0},
        hoverlabel={"align": "left"},
    )
    config = {"responsive": True, "displaylogo": False}
    body = figure.to_html(full_html=False, include_plotlyjs=True, config=config, div_id="frontier")
    return PAGE.format(title=html.escape(picture.title), body=body)


def _add_line(figure: Any, name: str, points: list[Point]) -> None:
    colour, _, _, dash, marker = STYLES[name]
    x, y = _xy(points)
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers",
        name=name,
        line={"color": colour, "dash": dash, "width": 2, "shape": "hv"},
        marker={"symbol": marker, "size": 7, "color": colour},
        text=[_hover(point) for point in points],
        hovertemplate="%{text}<extra>" + name + "</extra>",
    )


def _hover(point: Point) -> str:
    rates, layout, *rest = point_words(point)
    return "<br>".join((f"<b>{rates}</b>", *textwrap.wrap(layout, 44), *rest))


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
html, body {{ margin: 0; height: 100%; font-family: system-ui, sans-serif; }}
body {{ display: flex; flex-direction: column; max-width: 100vw; overflow-x: hidden; }}
h1 {{ font-size: 1rem; margin: 0.8rem 1rem 0; }}
body > div {{ flex: 1; min-height: 24rem; min-width: 0; }}
#frontier {{ height: 100% !important; width: 100%; }}
@media print {{ .modebar {{ display: none; }} }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


def figure_1(series: list[tuple[str, str, dict[str, tuple[list[int], list[float]]]]]) -> bytes:
    """Panels of microseconds over a number of ranks, as SVG: (title, x label, name of a line -> its points)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    settings: Any = {"svg.hashsalt": "helixplan", "font.size": 10, "svg.fonttype": "none"}
    with matplotlib.rc_context(settings):
        figure, axes = pyplot.subplots(1, len(series), figsize=(4 * len(series), 3.4), sharey=True, layout="constrained")
        for panel, (title, label, lines) in zip(axes, series, strict=True):
            for (name, (x, y)), style in zip(lines.items(), STYLES.values(), strict=False):
                panel.plot(x, y, color=style[0], marker=style[1], linestyle=style[2], label=name)
            panel.set(
                title=title, xlabel=label, ylabel="us a layer", xscale="log", yscale="log", xticks=x, xticklabels=map(str, x)
            )
            panel.minorticks_off()
            panel.grid(True, alpha=0.3)
        content = io.BytesIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return content.getvalue()
