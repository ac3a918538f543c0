"""A plan scaled down for emulation: same heads, groups, experts and layout; smaller sizes, a short context, few layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from helixplan.cost.case import Case
from helixplan.inputs.model import (
    FFN,
    Attention,
    CompressedAttention,
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    Model,
    MoE,
    RecurrentAttention,
)
from helixplan.layout import Layout
from helixplan.plans import Plan, PlanRank

MOST_REQUESTS_A_GROUP = 9


@dataclass(frozen=True)
class Cuts:
    """Maps half-open ranges of a long axis to a short one that is cut at the same places.

    A piece gets ``each`` entries, one more where it is longer than others, so that what is uneven stays uneven.
    """

    at: tuple[int, ...]
    to: tuple[int, ...]

    @classmethod
    def of(cls, size: int, ranges: Iterable[list[int]], each: int = 2) -> Cuts:
        inside = {min(max(end, 0), size) for pair in ranges for end in pair}
        at = tuple(sorted({0, size} | inside))
        lengths = np.diff(at)
        longest = int(np.max(lengths)) if len(lengths) else 0
        shorter = bool(len(lengths)) and bool((lengths < longest).any())
        scaled = np.where((lengths == longest) & shorter, each + 1, each) if longest > 1 else np.ones_like(lengths)
        return cls(at, tuple(np.concatenate([[0], np.cumsum(scaled)]).astype(int).tolist()))

    @property
    def size(self) -> int:
        return self.to[-1]

    def scaled(self, pair: list[int]) -> slice:
        """A range of the long axis on the short one; what lies outside is nothing."""
        where = [self.at.index(min(max(end, 0), self.at[-1])) for end in pair]
        return slice(self.to[where[0]], self.to[where[1]])


@dataclass(frozen=True)
class Scaled:
    """What is emulated: ``case`` holds the scaled model and workload, ``layers`` the plan's layer behind each of its layers."""

    case: Case
    layout: Layout
    batch: int
    layers: tuple[int, ...]
    stages: tuple[tuple[int, ...], ...]
    """The scaled layers of each stage."""
    ffn_cuts: dict[str, Cuts]
    shared_cuts: dict[str, Cuts]
    vocabulary: Cuts

    @property
    def model(self) -> Model:
        return self.case.model


def scale_down(plan: Plan, case: Case, context: int | None = None, batch: int | None = None) -> Scaled:
    """The plan's layout at a size that a machine emulates in seconds. ``context`` and ``batch``: instead of short ones."""
    model, layout = case.model, plan.layout.layout
    stages = _stage_layers(plan, model)
    kept = tuple(layer for layers in stages for layer in layers)
    ffn_cuts, shared_cuts = _column_cuts(plan.ranks, model)
    vocabulary = Cuts.of(model.vocabulary, (rank.vocabulary for rank in plan.ranks))
    hidden = layout.gpus_per_stage * -(-16 // layout.gpus_per_stage)
    groups = []
    dims = sorted({a.head_dim for _, a, _ in model.attention_kinds if isinstance(a, GroupedQueryAttention)})
    ratios = sorted({a.ratio for _, a, _ in model.attention_kinds if isinstance(a, CompressedAttention) and a.ratio > 1})
    # Enough tokens for the entries to be as many as other models' tokens are.
    asked, block, tokens = case.workload, *_short_context(case, layout, len(ratios) + 1)
    windows = sorted({a.window for _, a, _ in model.attention_kinds if a.window is not None})
    tokens = context or tokens
    for group in model.groups:
        own = tuple(index for index, layer in enumerate(kept) if layer in group.layers)
        if own:
            attention = group.attention
            if isinstance(attention, CompressedAttention):
                attention = _small_compressed(attention, ratios, windows, asked.context_tokens, tokens)
            elif attention is not None:
                attention = _small_attention(attention, dims, windows, asked.context_tokens, tokens)
            groups.append(LayerGroup(group.name, attention, _small_ffn(model, group.ffn, ffn_cuts, shared_cuts), own))
    small = replace(model, hidden=hidden, vocabulary=vocabulary.size, groups=tuple(groups), max_context=None)
    batch, chunks = (batch, layout.overlap_chunks or 1) if batch else _few_requests(plan, layout)
    work = replace(asked, context_tokens=tokens, kv_block_tokens=block, overlap="auto", step_overhead_s=0.0)
    return Scaled(
        case=Case(small, case.hardware, work, communication=case.communication, ways=plan.collectives),
        layout=replace(layout, overlap_chunks=chunks),
        batch=batch,
        layers=kept,
        stages=tuple(tuple(kept.index(layer) for layer in layers) for layers in stages),
        ffn_cuts=ffn_cuts,
        shared_cuts=shared_cuts,
        vocabulary=vocabulary,
    )


def _stage_layers(plan: Plan, model: Model) -> list[list[int]]:
    """Of each stage the first layer of every group it holds, filled up with further layers until stages are even again."""
    ranges = [next(rank.layers for rank in plan.ranks if rank.stage == stage) for stage in range(plan.layout.pp)]
    chosen = []
    for start, end in ranges:
        firsts = [next((layer for layer in group.layers if start <= layer < end), None) for group in model.groups]
        chosen.append({layer for layer in firsts if layer is not None})
    most = max(len(layers) for layers in chosen) + (plan.layout.pp == 1)
    for layers, (start, end) in zip(chosen, ranges, strict=True):
        spare = (layer for layer in range(end - 1, start - 1, -1) if layer not in layers)
        while len(layers) < most and (layer := next(spare, None)) is not None:
            layers.add(layer)
    return [sorted(layers) for layers in chosen]


def _column_cuts(ranks: list[PlanRank], model: Model) -> tuple[dict[str, Cuts], dict[str, Cuts]]:
    """Of every kind of FFN; kinds get different sizes, so that they stay different kinds."""
    ffn: dict[str, Cuts] = {}
    shared = {}
    for name, kind, _ in model.ffn_kinds:
        each = 2
        while name not in ffn or [cuts.size for cuts in ffn.values()].count(ffn[name].size) > 1:
            ffn[name] = Cuts.of(kind.width, (rank.ffn_columns[name] for rank in ranks), each)
            each += 1
        if isinstance(kind, MoE) and kind.shared_width:
            shared[name] = Cuts.of(kind.shared_width, (rank.shared_columns[name] for rank in ranks))
    return ffn, shared


def _small_ffn(model: Model, ffn: FFN | None, cuts: dict[str, Cuts], shared_cuts: dict[str, Cuts]) -> FFN | None:
    """The same experts at the widths that the cuts leave."""
    if ffn is None:
        return None
    name = next(kind for kind, known, _ in model.ffn_kinds if known == ffn)
    if not isinstance(ffn, MoE):
        return replace(ffn, width=cuts[name].size)
    shared = shared_cuts[name].size if ffn.shared_width else 0
    return replace(ffn, width=cuts[name].size, shared_width=shared, latent=7 if ffn.latent else None)


def _small_window(window: int, windows: list[int], context: int, tokens: int) -> int:
    """A window the context fills stays one that it fills."""
    return max(1, tokens // 2 - len(windows)) + windows.index(window) if window < context else 2 * tokens + window


def _small_compressed(
    kind: CompressedAttention, ratios: list[int], windows: list[int], context: int, tokens: int
) -> CompressedAttention:
    """The same heads and groups, fewer tokens an entry, a choice among the entries still one where it was."""
    small = replace(
        kind,
        query_rank=10,
        head_dim=8,
        output_rank=7,
        window=_small_window(kind.window, windows, context, tokens),
        ratio=2 + ratios.index(kind.ratio) if kind.split_by_kvp else 1,
    )
    if kind.indexer is None:
        return small
    entries = small.entries(tokens)
    top_k = max(1, entries // 3) if kind.indexer.top_k < kind.entries(context) else 2 * entries + 1
    return replace(small, indexer=replace(kind.indexer, heads=3, head_dim=12, top_k=top_k))


def _small_attention(
    kind: GroupedQueryAttention | LatentAttention | RecurrentAttention,
    dims: list[int],
    windows: list[int],
    context: int,
    tokens: int,
) -> Attention:
    """The same heads at sizes that all differ, so that no mistake of one for another goes unseen."""
    if isinstance(kind, RecurrentAttention):
        return replace(kind, key_dim=6, value_dim=5, decay_rank=kind.decay_rank and 3, gate_rank=kind.gate_rank and 7)
    if isinstance(kind, LatentAttention):
        sparse = kind.indexer
        if sparse is not None:
            # A choice among the tokens stays one.
            sparse = replace(sparse, heads=3, head_dim=12, top_k=max(1, tokens // 3) if sparse.top_k < context else 2 * tokens)
        sizes = {"query_rank": 10 if kind.query_rank else None, "kv_rank": 8, "nope_dim": 6, "rope_dim": 4, "value_dim": 5}
        return replace(kind, **sizes, indexer=sparse)  # type: ignore[arg-type]
    window = kind.window
    if window is not None:
        window = _small_window(window, windows, context, tokens)
    return replace(kind, head_dim=4 + 2 * dims.index(kind.head_dim), window=window)


def _short_context(case: Case, layout: Layout, times: int) -> tuple[int, int]:
    """(block, tokens): two rounds of blocks over the KVP ranks and half of one, so that shards are uneven, ``times`` over.

    The first step fills a block, so that the next one's token goes to the next rank.
    """
    block = min(case.workload.kv_block_tokens, 4)
    tokens = 2 * layout.kvp * block + max(1, layout.kvp // 2) * block
    return block, min(max(tokens, 9) * times, case.workload.context_tokens)


def _few_requests(plan: Plan, layout: Layout) -> tuple[int, int]:
    """(batch, chunks): fewer requests than fill every group evenly, and where chunks overlap one more than they are."""
    chunks = layout.overlap_chunks or 1
    in_stage = -(-plan.layout.batch // layout.pp)
    in_group = -(-in_stage // layout.dp)
    few = min(in_group, max(2, min(chunks + 1, MOST_REQUESTS_A_GROUP)))
    in_stage = min(in_stage, layout.dp * few - (layout.dp > 1 and few > 1))
    batch = min(plan.layout.batch, layout.pp * in_stage - (layout.pp > 1 and in_stage > 1))
    return batch, min(chunks, few)
