"""Frontiers and comparisons in words, rows and CSV."""

from __future__ import annotations

import csv
import io

from helixplan.curves import Comparison, Frontier, Point
from helixplan.engines import ENGINES
from helixplan.report.wording import layout_words
from helixplan.units import format_context, format_count, format_counted, format_seconds

POINT_COLUMNS = ("family", "tok/s/user", "tok/s/GPU", "batch", "GPUs", "KVPxTPAxDP", "TPFxEP", "PP", "TTL ms")
SHOWN = 16
COMPARISON_COLUMNS = ("context", "tok/s/user", "tok/s/GPU", "at tok/s/user", "users/GPU", "HOP-B's worth")


def frontier_headline(found: Frontier) -> str:
    """What the curve is of."""
    context = format_context(found.workload.context_tokens)
    engine = ENGINES.get(found.workload.engine)
    runs = f", as {engine.title} runs it" if engine else ""
    return f"{found.model.name} on {found.hardware.name}, {context} tokens of context{runs}: {', '.join(found.families)}"


def shown(points: list[Point], most: int = SHOWN) -> list[Point]:
    """All points, or some evenly spread with both ends."""
    if len(points) <= most:
        return points
    return [points[round(i * (len(points) - 1) / (most - 1))] for i in range(most)]


def point_row(point: Point) -> tuple[str, ...]:
    layout, cost = point.layout, point.cost
    return (
        point.family,
        f"{cost.tokens_per_s_per_user:.4g}",
        f"{cost.tokens_per_s_per_gpu:.4g}",
        format_count(layout.batch),
        str(layout.gpus),
        f"{layout.kvp}x{layout.tpa}x{layout.dp}",
        f"{layout.tpf}x{layout.ep}",
        str(layout.pp),
        f"{cost.ttl_s * 1e3:.4g}",
    )


def point_words(point: Point) -> tuple[str, str, str, str]:
    """A point on hover: its rates, its layout, its TTL, its memory."""
    cost, memory = point.cost, point.memory
    return (
        f"{cost.tokens_per_s_per_user:.4g} tokens/s/user, {cost.tokens_per_s_per_gpu:.4g} tokens/s/GPU",
        layout_words(point.layout),
        f"TTL {format_seconds(cost.ttl_s)} (speed of light {format_seconds(cost.ttl_ideal_s)})",
        f"{memory.total_bytes / 1e9:.1f} of {memory.limit_bytes / 1e9:.1f} GB a GPU",
    )


def how_many(found: Frontier, listed: int = SHOWN, rest: str = "--format csv has all") -> str:
    """How many points there are, of how many candidates, how many of them are ``listed``, and where the ``rest`` is."""
    count = len(found.points)
    left = f"; {listed} shown, {rest}" if count > listed else ""
    return f"{format_counted(count, 'point')} of {format_count(found.candidates)} layouts and batches{left}"


def frontier_csv(found: Frontier) -> str:
    """A row a point, a column a fact."""
    text = io.StringIO()
    rows = [
        {"family": point.family}
        | {name: value for name, value in point.layout.model_dump().items() if name != "family"}
        | point.cost.model_dump()
        | {f"memory_{name}": value for name, value in point.memory.model_dump().items()}
        for point in found.points
    ]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def comparison_row(one: Comparison) -> tuple[str, ...]:
    return (
        format_context(one.context_tokens),
        f"{one.interactivity_ratio:.2f}x",
        f"{one.throughput_ratio:.3g}x",
        f"{one.at_tokens_per_s_per_user:.4g}",
        f"{one.user_ratio:.3g}x",
        f"{one.overlap_loss:.1%}",
    )


def comparison_sides(one: Comparison) -> list[tuple[str, str]]:
    """The layouts between which each ratio lies."""
    said = []
    for name in ("interactivity", "throughput", "users"):
        for side, point in (("helix", one.helix[name]), ("baseline", one.baseline[name])):
            said.append((f"{name}, {side}", _layout_words(point)))
    return said


def _layout_words(point: Point) -> str:
    cost = point.cost
    rates = f"{cost.tokens_per_s_per_user:.4g} tokens/s/user, {cost.tokens_per_s_per_gpu:.4g} tokens/s/GPU"
    return f"{rates} ({point.family}: {layout_words(point.layout)})"


def comparison_headline(found: list[Comparison]) -> str:
    one = found[0]
    return f"{one.model} on {one.hardware}: Helix, any family allowed, over the best of {', '.join(one.baselines)}"
