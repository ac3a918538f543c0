"""One layer in time: its phases in order, and what HOP-B hides."""

from __future__ import annotations

from helixplan.plans import Plan
from helixplan.report import wording
from helixplan.report.layout_map import layer_kinds, rows, timeline
from helixplan.report.page.bars import bar, drawn, legend, track
from helixplan.report.page.elements import Markup, joined, paragraph
from helixplan.units import format_seconds


def section(plan: Plan) -> Markup:
    """The layer that most layers are like."""
    bars = timeline(plan)
    end = max(one.end_s for one in bars)
    lines = []
    for name, chunks in rows(bars).items():
        marks = [
            bar(
                one.bound,
                one.start_s / end,
                one.end_s / end,
                f"{one.name} on the {one.lane}: {format_seconds(one.end_s - one.start_s)} from {format_seconds(one.start_s)}, "
                f"bound by {one.bound}",
            )
            for one in chunks
        ]
        lines.append((name, track(*marks), format_seconds(sum(one.end_s - one.start_s for one in chunks))))
    kind = ", ".join(f"{half} ({group})" for half, group in layer_kinds(plan).items() if group)
    like = f", as most have it: {kind};" if kind else ","
    caption = f"One layer of {format_seconds(end)}{like} phases in the order in which they run"
    return joined(
        (paragraph(_overlap(plan)), drawn(caption, ("phase", "from the layer's start to its end", "time"), lines), legend())
    )


def _overlap(plan: Plan) -> str:
    exposed, hidden = plan.cost.exposed_communication_s, plan.cost.hidden_communication_s
    told = f"Exchange, {wording.exchange(plan)}. Of a whole step {format_seconds(exposed)} of communication are exposed"
    return f"{told}; HOP-B hides {format_seconds(hidden)} of the exchange under attention." if hidden else f"{told}."
