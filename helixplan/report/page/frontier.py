"""The frontier with the plan on it."""

from __future__ import annotations

from helixplan.curves import Frontier, Point
from helixplan.plans import Plan
from helixplan.report import curves
from helixplan.report.material import Material
from helixplan.report.page.axes import Scale, axes, percent
from helixplan.report.page.elements import Content, Markup, element, joined, paragraph, table
from helixplan.report.pictures import X, Y
from helixplan.report.wording import layout_words
from helixplan.units import format_seconds

HERE = "M0-9L9 0 0 9-9 0z"
"""A diamond about a point, in pixels."""
ABOVE = {"dx": "1em", "dy": "-0.6em", "text_anchor": "start"}
BELOW = {"dx": "-0.8em", "dy": "1.5em", "text_anchor": "end"}
"""Where the plan's name stands: a frontier falls to the right, and runs neither there above a point nor below to the left."""
MARKS = 400
"""More points than the line can show apart have no mark of their own."""
REST = "its command (under Reproduce) has all"


def section(material: Material) -> Markup:
    """The picture, its table, and where the plan lies."""
    plan, found = material.plan, material.frontier
    if found is None:
        return paragraph("No layout of this family keeps the request and fits into the memory, so there is no frontier.")
    rows = [_row(point, plan) for point in _listed(found, plan)]
    return joined(
        (
            paragraph(
                "Every layout and batch that no other beats in both rates, under the plan's request without its TTL and batch. "
                "To the right a user gets tokens faster, upwards a GPU gives more of them."
            ),
            element("figure", _chart(found, plan), element("figcaption", _where(found, plan))),
            table(curves.frontier_headline(found), curves.POINT_COLUMNS, rows),
            paragraph(curves.how_many(found, len(rows), REST), kind="quiet"),
        )
    )


def _listed(found: Frontier, plan: Plan) -> list[Point]:
    """The points of the table: some spread evenly, and the plan's."""
    chosen = curves.shown(found.points)
    return [point for point in found.points if point in chosen or point.layout == plan.layout]


def _row(point: Point, plan: Plan) -> tuple[Content, ...]:
    family, *figures = curves.point_row(point)
    return (element("strong", f"{family}: this plan") if point.layout == plan.layout else family), *figures


def _where(found: Frontier, plan: Plan) -> str:
    cost = plan.cost
    on = any(point.layout == plan.layout for point in found.points)
    place = "on the frontier" if on else "below the frontier, for it had to keep more than the frontier does"
    limit = plan.workload.ttl_limit_s
    slow = "" if limit is None else f" Left of the dashed line a token takes more than {format_seconds(limit)}."
    return f"The diamond is this plan, {place}: {cost.tokens_per_s_per_user:.4g} {X}, {cost.tokens_per_s_per_gpu:.4g} {Y}.{slow}"


def _chart(found: Frontier, plan: Plan) -> Markup:
    rates = [(point.cost.tokens_per_s_per_user, point.cost.tokens_per_s_per_gpu) for point in found.points]
    here = plan.cost.tokens_per_s_per_user, plan.cost.tokens_per_s_per_gpu
    x = Scale(0.0, 1.06 * max(user for user, _ in [*rates, here]))
    gpu = [rate for _, rate in [*rates, here]]
    room = max(1.3, (max(gpu) / min(gpu)) ** 0.12)
    y = Scale(min(gpu) / room, max(gpu) * room, logarithmic=True)
    limit = plan.workload.ttl_limit_s
    drawn = [
        axes(x, y, X, Y),
        _line(x, y, rates),
        None if limit is None else _upright(x, 1 / limit),
        *(_mark(x, y, point) for point in curves.shown(found.points, MARKS) if point.layout != plan.layout),
        _diamond(x, y, plan),
    ]
    told = f"{curves.frontier_headline(found)}: {X} against {Y}. The table below holds some of its points."
    svg = element("svg", *drawn, role="group", aria_label=told, data_walk=True)
    return element("div", svg, class_="chart")


def _line(x: Scale, y: Scale, rates: list[tuple[float, float]]) -> Markup:
    """In steps: between two points nothing better than the faster one is to be had."""
    corners = [(x.at(user), 100 - y.at(gpu)) for user, gpu in rates]
    path = "M{:.2f} {:.2f}".format(*corners[0]) + "".join(f"H{across:.2f}V{down:.2f}" for across, down in corners[1:])
    line = element("path", d=path, class_="line")
    return element(
        "svg", line, viewBox="0 0 100 100", preserveAspectRatio="none", width="100%", height="100%", aria_hidden="true"
    )


def _upright(x: Scale, user: float) -> Markup | None:
    if not x.low <= user <= x.high:
        return None
    place = percent(x.at(user))
    return element("line", x1=place, x2=place, y1="0", y2="100%", class_="limit")


def _mark(x: Scale, y: Scale, point: Point) -> Markup:
    told = element("title", "; ".join(curves.point_words(point)))
    cost = point.cost
    place = percent(x.at(cost.tokens_per_s_per_user)), percent(100 - y.at(cost.tokens_per_s_per_gpu))
    return element("circle", told, cx=place[0], cy=place[1], r="4", class_="point")


def _diamond(x: Scale, y: Scale, plan: Plan) -> Markup:
    cost = plan.cost
    rates = f"{cost.tokens_per_s_per_user:.4g} {X}, {cost.tokens_per_s_per_gpu:.4g} {Y}"
    told = element("title", f"this plan: {rates}; {layout_words(plan.layout)}; TTL {format_seconds(cost.ttl_s)}")
    at = x.at(cost.tokens_per_s_per_user), 100 - y.at(cost.tokens_per_s_per_gpu)
    place = {"x": percent(at[0]), "y": percent(at[1])}
    shape = element("svg", element("path", told, d=HERE, class_="here"), overflow="visible", **place)
    side = ABOVE if at[0] < 68 else BELOW
    return joined((shape, element("text", "this plan", class_="said", aria_hidden="true", **place, **side)))
