"""The map of the GPUs in both phases."""

from __future__ import annotations

from collections.abc import Callable

from helixplan.plans import Plan, PlanRank
from helixplan.report.layout_map import Phase, block_told, phases, span, stages_alike
from helixplan.report.page.elements import Markup, element, heading, joined, paragraph
from helixplan.units import format_bytes, format_ordinal

HUES = 6


def section(plan: Plan) -> Markup:
    """Which GPU holds what, first in attention, then in the FFN."""
    attention, ffn = phases(plan)
    alike = stages_alike(plan)
    return joined(
        (
            paragraph(
                "The same GPUs, split one way for attention and another for the FFN.",
                element("span", " Hover a GPU, or walk with the arrow keys.", class_="hint"),
            ),
            heading("In attention"),
            _map(plan, attention, _in_attention),
            heading("In the FFN"),
            _map(plan, ffn, _in_ffn),
            paragraph(alike) if alike else None,
        )
    )


def _map(plan: Plan, phase: Phase, told: Callable[[Plan, PlanRank], str]) -> Markup:
    body = []
    for index, row in enumerate(phase.rows):
        kind = "waits" if row.holds == "waits" else f"hue{index % HUES}"
        cells = [element("span", str(gpu), class_=kind, title=told(plan, plan.ranks[gpu])) for gpu in row.cells]
        body.append(element("tr", element("th", row.holds, scope="row"), element("td", element("div", *cells, class_="cells"))))
    caption = f"GPUs by number, {phase.columns}"
    return element("table", element("caption", caption), element("tbody", *body), class_="map", data_walk=True)


def _in_attention(plan: Plan, rank: PlanRank) -> str:
    layout = plan.layout
    parts = [f"GPU {rank.rank}: query heads {span(rank.query_heads)}, KV heads {span(rank.kv_heads)}"]
    if layout.kvp > 1:
        parts.append(f"every {format_ordinal(layout.kvp)} {block_told(plan)} from block {rank.kvp} on")
    parts += [f"TPA {rank.tpa}"] if layout.tpa > 1 else []
    parts += [f"requests of DP group {rank.dp}"] if layout.dp > 1 else []
    return f"{', '.join(parts)}; {format_bytes(rank.memory_bytes)} held"


def _in_ffn(plan: Plan, rank: PlanRank) -> str:
    if rank.tpf is None:
        return f"GPU {rank.rank}: waits while the others run the FFN"
    parts = [f"GPU {rank.rank}:"]
    parts += [f"experts {span(rank.experts)},"] if rank.experts[1] > rank.experts[0] else []
    columns = [f"columns {span(held)} of {name}" for name, held in rank.ffn_columns.items() if held[1] > held[0]]
    return f"{' '.join(parts)} {', '.join(columns)}; layers {span(rank.layers)}"
