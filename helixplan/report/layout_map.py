"""A layout as a map: which GPU holds which heads and blocks, which experts and columns; and one layer in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helixplan.plans import Plan, PlanRank
from helixplan.units import format_counted, format_ordinal


@dataclass(frozen=True)
class Row:
    """GPUs side by side that share what ``holds`` says; ``cells`` are their numbers."""

    holds: str
    cells: list[int]


@dataclass(frozen=True)
class Phase:
    """One phase's grid: what its columns are, and its rows."""

    title: str
    columns: str
    rows: list[Row]


@dataclass(frozen=True)
class Bar:
    """A stretch of one layer's time on a lane; seconds from the layer's start."""

    lane: str
    name: str
    start_s: float
    end_s: float
    bound: str


A_ROW = 16
"""Narrow groups share a row of up to so many GPUs."""


def block_told(plan: Plan) -> str:
    """What KVP ranks are dealt: "block of 32 tokens", or of entries where the layers that grow keep a window beside them."""
    dealt = "entries" if "window" in plan.copies else "tokens"
    return f"block of {plan.layout.kv_block_tokens} {dealt}"


def phases(plan: Plan, stage: int = 0) -> list[Phase]:
    """Both phases of one stage."""
    ranks, layout = [rank for rank in plan.ranks if rank.stage == stage], plan.layout
    across = "whole sequences"
    if layout.kvp > 1:
        across = f"KVP 0-{layout.kvp - 1}, every {format_ordinal(layout.kvp)} {block_told(plan)}"
    slices = f"TPF 0-{layout.tpf - 1}, a slice of the columns each" if layout.tpf > 1 else "whole columns"
    return [
        Phase("attention", f"across: {across}", _attention_rows(plan, ranks)),
        Phase("FFN", f"across: {slices}", _ffn_rows(plan, ranks)),
    ]


def _attention_rows(plan: Plan, ranks: list[PlanRank]) -> list[Row]:
    """A row holds the KVP ranks of some TPA slices or, where an attention group is one GPU, of some DP groups."""
    layout, rows = plan.layout, []
    group = layout.kvp * layout.tpa
    many = max(1, A_ROW // group) if group == 1 else 1
    for first in range(0, layout.dp, many):
        dp = [min(first, layout.dp), min(first + many, layout.dp)]
        members = sorted((r for r in ranks if dp[0] <= r.dp < dp[1]), key=lambda r: (r.dp, r.tpa, r.kvp))
        size = len(members) if group == 1 else max(layout.kvp, A_ROW // layout.kvp * layout.kvp)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            heads = span([part[0].query_heads[0], part[-1].query_heads[1]])
            rows.append(Row(f"{f'DP {span(dp)}, ' if layout.dp > 1 else ''}heads {heads}", [rank.rank for rank in part]))
    return rows


def _ffn_rows(plan: Plan, ranks: list[PlanRank]) -> list[Row]:
    """A row holds the TPF slices of some EP ranks."""
    layout, rows = plan.layout, []
    working = sorted((r for r in ranks if r.tpf is not None), key=lambda r: (r.ep or 0, r.tpf or 0))
    size = max(layout.tpf, A_ROW // layout.tpf * layout.tpf)
    for start in range(0, len(working), size):
        part = working[start : start + size]
        experts = [part[0].experts[0], part[-1].experts[1]]
        held = f"experts {span(experts)}" if experts[1] > experts[0] else "dense"
        ep = f"EP {span([part[0].ep or 0, (part[-1].ep or 0) + 1])}, " if layout.ep > 1 else ""
        rows.append(Row(f"{ep}{held}", [rank.rank for rank in part]))
    waiting = [rank.rank for rank in ranks if rank.tpf is None]
    return [*rows, Row("waits", waiting)] if waiting else rows


def span(pair: Sequence[int]) -> str:
    """A half-open range as people write it."""
    start, end = pair
    return f"{start}" if end == start + 1 else f"{start}-{end - 1}"


def stages_alike(plan: Plan) -> str | None:
    """What to say of the stages that the map does not show."""
    if plan.layout.pp == 1:
        return None
    each = plan.layout.gpus // plan.layout.pp
    size = format_counted(each, "GPU")
    return f"{plan.layout.pp} pipeline stages of {size}, each laid out as this first one: GPU g + {each} s in stage s"


def layer_kinds(plan: Plan) -> dict[str, str | None]:
    """The group that most layers' attention, and FFN, belongs to; None where all are alike."""
    kinds: dict[str, str | None] = {}
    for half in ("attention", "ffn"):
        groups = {phase.group: phase.layers for phase in plan.cost.phases if phase.name.startswith(half)}
        kinds[half] = max(groups, key=lambda name: groups[name]) if groups else None
    return kinds


def timeline(plan: Plan) -> list[Bar]:
    """One layer of the kind that most layers are, phase after phase, attention's chunks and their exchange on lanes of their own.

    The exchange's start-up is spread over its chunks; what the bars add up to is the plan's.
    """
    kinds = layer_kinds(plan)
    a_layer = []
    for phase in plan.cost.phases:
        half = phase.name.split(".")[0]
        if half in kinds and phase.group == kinds[half]:
            a_layer.append(phase)
    bars: list[Bar] = []
    now = 0.0
    chunks = plan.layout.overlap_chunks
    for phase in a_layer:
        seconds = phase.seconds / phase.layers
        if phase.name == "attention.core" and chunks > 1:
            exchange = next((p for p in a_layer if p.name == "attention.exchange"), None)
            exposed = exchange.seconds / exchange.layers if exchange else 0.0
            whole = exposed + (plan.cost.hidden_communication_s / exchange.layers if exchange else 0.0)
            bars += _overlapped(now, seconds, exposed, whole, chunks, phase.bound)
            now += seconds + exposed
        elif phase.name != "attention.exchange" or chunks == 1:
            lane = "links" if phase.name in ("attention.exchange", "attention.reduce", "ffn.gather", "ffn.reduce") else "GPU"
            bars.append(Bar(lane, phase.name, now, now + seconds, phase.bound))
            now += seconds
    return bars


def rows(bars: list[Bar]) -> dict[str, list[Bar]]:
    """The bars by phase: a phase's chunks share a row."""
    by_phase: dict[str, list[Bar]] = {}
    for bar in bars:
        by_phase.setdefault(bar.name.split()[0], []).append(bar)
    return by_phase


SHOWN_CHUNKS = 12
"""More are drawn as one bar, but for the first and the last."""


def _overlapped(start: float, core: float, exposed: float, exchange: float, chunks: int, bound: str) -> Iterator[Bar]:
    """HOP-B: chunk i's exchange runs under chunk i+1's attention."""
    a, x = core / chunks, exchange / chunks
    pitch = max(a, (core + exposed - a - x) / (chunks - 1))
    end = start + core + exposed
    hidden = range(SHOWN_CHUNKS - 2, chunks - 1) if chunks > SHOWN_CHUNKS else range(0)
    for chunk in range(chunks):
        at = start + chunk * pitch
        if chunk in hidden:
            if chunk == hidden[0]:
                last = start + hidden[-1] * pitch
                yield Bar("GPU", f"attention.core {hidden[0] + 1}-{hidden[-1] + 1}", at, last + a, bound)
                yield Bar("links", f"attention.exchange {hidden[0] + 1}-{hidden[-1] + 1}", at + a, last + a + x, "network")
            continue
        yield Bar("GPU", f"attention.core {chunk + 1}", at, at + a, bound)
        yield Bar("links", f"attention.exchange {chunk + 1}", at + a, end if chunk == chunks - 1 else at + a + x, "network")
