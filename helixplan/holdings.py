"""What each rank of a layout holds, where tokens go, and how many times a stage holds each thing."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from helixplan.append import AppendSchedule
from helixplan.cost.case import Case
from helixplan.cost.memory import attention_memory, ffn_memory, stage_loads
from helixplan.cost.shares import Shares
from helixplan.evaluation import single
from helixplan.inputs.model import CompressedAttention, LatentAttention, Model, MoE, RecurrentAttention
from helixplan.layout import Layout, Layouts, dealt
from helixplan.placement import (
    coordinates,
    experts_held,
    ffn_columns_held,
    heads_held,
    shared_columns_held,
    spoken_of_first,
    vocabulary_held,
)
from helixplan.plans import PlanAppend, PlanHeads, PlanRank


def append_plan(case: Case, layout: Layout) -> PlanAppend:
    work = case.workload
    schedule = AppendSchedule(layout.kvp, work.kv_block_tokens, work.context_tokens)
    tokens = schedule.tokens()
    return PlanAppend(
        kvp=layout.kvp,
        block_tokens=work.kv_block_tokens,
        prefill_tokens=work.context_tokens,
        next_rank=int(schedule.owner(work.context_tokens)),
        fullest_tokens=int(np.max(tokens)),
        emptiest_tokens=int(np.min(tokens)),
    )


def copies_held(model: Model, layout: Layout, ranks: list[PlanRank]) -> dict[str, float]:
    """How many times the first stage holds each thing, counted from its ranks' ranges."""
    stage = [rank for rank in ranks if rank.stage == 0]

    def times(size: int, ranges: Iterable[list[int]]) -> float:
        return sum(end - start for start, end in ranges) / size

    first = spoken_of_first(model)[0]
    held: dict[str, float] = {}
    for name, kind, _ in model.attention_kinds:
        heads = [(rank if name == first else rank.other_heads[name]) for rank in stage]
        told = "" if name == first else f".{name}"
        held[f"query_heads{told}"] = times(kind.query_heads, (one.query_heads for one in heads))
        held[f"output_heads{told}"] = times(kind.query_heads, (one.output_heads for one in heads))
        held[f"kv_heads{told}"] = times(kind.kv_heads, (one.kv_heads for one in heads))
        shards = layout.dp * (layout.kvp if kind.split_by_kvp else 1)
        cached = "query_heads" if isinstance(kind, RecurrentAttention) else "kv_heads"
        held[f"kv_cache{told}"] = held[f"{cached}{told}"] / shards
        if isinstance(kind, CompressedAttention) and kind.split_by_kvp:
            held[f"window{told}"] = len(stage) / layout.dp
        if isinstance(kind, (LatentAttention, CompressedAttention)) and kind.indexer is not None:
            held[f"index_keys{told}"] = len(stage) / layout.dp
    if model.experts:
        held["experts"] = times(model.experts, (rank.experts for rank in stage)) / layout.tpf
    for name, ffn, _ in model.ffn_kinds:
        over = layout.ep if isinstance(ffn, MoE) else 1
        held[f"ffn_columns.{name}"] = times(ffn.width, (rank.ffn_columns[name] for rank in stage)) / over
        if isinstance(ffn, MoE) and ffn.shared_width:
            held[f"shared_columns.{name}"] = times(ffn.shared_width, (rank.shared_columns[name] for rank in stage))
    held["vocabulary"] = times(model.vocabulary, (rank.vocabulary for rank in stage))
    return held


def ranks_of(case: Case, layout: Layout, batch: int) -> list[PlanRank]:
    """Every rank, its memory by its stage's own layers."""
    shares = Shares(case, Layouts.of(layout), batch)
    stages = dealt(case.model.layers, layout.pp)
    codes = shares.layouts.exchange
    loads = stage_loads(case.model, layout.pp)
    halves = zip(attention_memory(shares, codes, loads), ffn_memory(shares, loads), strict=True)
    held = [single((attention + ffn).total_bytes) for attention, ffn in halves]
    block = case.workload.kv_block_tokens
    first, told = spoken_of_first(case.model)
    others = [(name, kind) for name, kind, _ in case.model.attention_kinds if name != first]
    return [
        PlanRank(
            **vars(place),
            **heads_held(told, layout, place),  # type: ignore[arg-type]
            other_heads={name: PlanHeads(**heads_held(kind, layout, place)) for name, kind in others},
            kv_blocks=f"rank {place.kvp} of {layout.kvp}, {block} tokens",
            experts=list(experts_held(case.model, layout, place)),
            ffn_columns=ffn_columns_held(case.model, layout, place),
            shared_columns=shared_columns_held(case.model, layout, place),
            layers=list(stages[place.stage]),
            vocabulary=list(vocabulary_held(case.model, layout, place)),
            memory_bytes=held[place.stage],
        )
        for place in coordinates(layout)
    ]
