"""The map and the timeline of a layout, drawn: characters for the terminal, SVG for people and pages."""

from __future__ import annotations

import html
import textwrap

from helixplan.plans import Plan
from helixplan.report.layout_map import Bar, Phase, phases, rows, stages_alike, timeline
from helixplan.report.wording import headline
from helixplan.units import format_seconds

COLOURS = {"memory": "#0072B2", "compute": "#CC79A7", "network": "#E69F00", "floor": "#888888"}
"""By what binds a phase (Okabe and Ito's palette)."""
HUES = ("#9ecae1", "#c7e9c0", "#fdd0a2", "#dadaeb", "#fcbba1", "#d9d9d9", "#c6dbef", "#e5f5e0")
CELL, GAP, LABEL, LINE = 26, 3, 190, 16
WIDTH = 900


def in_terminal(plan: Plan, width: int = 80) -> str:
    """Both maps and the timeline in characters."""
    lines = [*textwrap.wrap(headline(plan), width), ""]
    for phase in phases(plan):
        lines += [*_grid(phase, width), ""]
    alike = stages_alike(plan)
    lines += [*textwrap.wrap(alike, width), ""] if alike else []
    return "\n".join(lines + _bars(timeline(plan), width))


def _grid(phase: Phase, width: int) -> list[str]:
    lines = [f"{phase.title} ({phase.columns})"]
    label = min(max(len(row.holds) for row in phase.rows), 34)
    cell = len(str(max(number for row in phase.rows for number in row.cells))) + 1
    fits = max(1, (width - label - 4) // cell)
    for row in phase.rows:
        for start in range(0, len(row.cells), fits):
            name = row.holds if start == 0 else ""
            lines.append(f"  {name:<{label}} |" + "".join(f"{number:>{cell}}" for number in row.cells[start : start + fits]))
    return lines


def _bars(bars: list[Bar], width: int) -> list[str]:
    """Phases under each other to scale; each with its seconds."""
    end = max(bar.end_s for bar in bars)
    label, figure = max(len(bar.name) for bar in bars), 9
    room = width - label - figure - 6
    lines = [f"one layer, {format_seconds(end)} ('=' GPU, '~' links)"]
    for bar in bars:
        first = round(bar.start_s / end * room)
        length = max(1, round(bar.end_s / end * room) - first)
        first = min(first, room - length)
        mark = "=" if bar.lane == "GPU" else "~"
        drawn = " " * first + mark * length
        lines.append(f"  {bar.name:<{label}} |{drawn:<{room}}| {format_seconds(bar.end_s - bar.start_s):>{figure}}")
    return lines


def as_svg(plan: Plan) -> str:
    """Both maps and the timeline as one picture; every cell and bar says on hover what it is."""
    body: list[str] = [_text(10, 22, headline(plan), size=15, weight="bold")]
    y = 44.0
    for phase in phases(plan):
        drawn, y = _svg_grid(phase, y)
        body += drawn
    alike = stages_alike(plan)
    if alike:
        body.append(_text(10, y, alike))
        y += 24
    drawn, y = _svg_timeline(timeline(plan), y)
    body += drawn
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12">\n<title>{html.escape(headline(plan))}</title>\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def as_page(plan: Plan) -> str:
    """The picture in a page of its own, which needs no network."""
    title = html.escape(headline(plan))
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title>\n<style>body{{margin:0}}svg{{display:block;max-width:100%;height:auto;margin:auto}}</style></head>\n"
        f"<body>\n{as_svg(plan)}</body>\n</html>\n"
    )


def _svg_grid(phase: Phase, y: float) -> tuple[list[str], float]:
    body = [_text(10, y, f"{phase.title} ({phase.columns})", weight="bold")]
    y += 10
    fits = (WIDTH - LABEL - 10) // (CELL + GAP)
    for index, row in enumerate(phase.rows):
        body.append(_text(10, y + LINE + 1, row.holds))
        for place, number in enumerate(row.cells):
            line, column = divmod(place, fits)
            x, top = LABEL + column * (CELL + GAP), y + line * (CELL - 2)
            fill = "#eeeeee" if row.holds == "waits" else HUES[index % len(HUES)]
            told = f"GPU {number}: {row.holds}, {phase.columns.split(',')[0].removeprefix('across: ').split()[0]} {place}"
            body.append(
                f'<g><title>{html.escape(told)}</title><rect x="{x}" y="{top:.0f}" width="{CELL}" height="{CELL - 5}" rx="3" '
                f'fill="{fill}"/>{_text(x + CELL / 2, top + 15, str(number), size=10, anchor="middle")}</g>'
            )
        y += (1 + (len(row.cells) - 1) // fits) * (CELL - 2)
    return body, y + 28


def _svg_timeline(bars: list[Bar], y: float) -> tuple[list[str], float]:
    end = max(bar.end_s for bar in bars)
    body = [_text(10, y, f"one layer: {format_seconds(end)}", weight="bold")]
    x = 10.0
    for name, colour in COLOURS.items():
        body.append(f'<rect x="{x + 170}" y="{y - 10:.0f}" width="11" height="11" fill="{colour}"/>')
        body.append(_text(x + 186, y, f"bound by {name}"))
        x += 140
    y += 12
    scale = (WIDTH - LABEL - 90) / end
    for index, (name, chunks) in enumerate(rows(bars).items()):
        top = y + index * (LINE + 4)
        for bar in chunks:
            told = f"{bar.name}: {format_seconds(bar.end_s - bar.start_s)}, bound by {bar.bound}"
            length = max((bar.end_s - bar.start_s) * scale, 1)
            body.append(
                f'<rect x="{LABEL + bar.start_s * scale:.1f}" y="{top:.0f}" width="{length:.1f}" height="{LINE}" '
                f'fill="{COLOURS[bar.bound]}"><title>{html.escape(told)}</title></rect>'
            )
        took = sum(bar.end_s - bar.start_s for bar in chunks)
        body.append(_text(10, top + 12, name))
        body.append(_text(WIDTH - 10, top + 12, format_seconds(took), anchor="end"))
    return body, y + len(rows(bars)) * (LINE + 4) + 12


def _text(x: float, y: float, said: str, *, size: int = 12, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}">{html.escape(said)}</text>'
    )
