"""Where each rank of a layout stands in both phases, what it holds, and with whom it talks.

Ranks are numbered stage by stage; inside a stage the KVP ranks of a KV-head slice stand together, then TPA, then the
attention replicas (DP). For the FFN the same ranks count TPF first, then EP. So the groups that talk most stay inside a node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from helixplan.inputs.model import Attention, LatentAttention, Model, MoE
from helixplan.layout import Layout, dealt, may_dispatch

NOTHING = (0, 0)


@dataclass(frozen=True)
class Coordinates:
    """Where a rank stands in both phases. ``tpf`` and ``ep`` are None for a rank that waits while others run the FFN."""

    rank: int
    stage: int
    dp: int
    kvp: int
    tpa: int
    tpf: int | None
    ep: int | None


def coordinates(layout: Layout) -> Iterator[Coordinates]:
    """Every rank's place, in rank order.

    Where the FFN's group is smaller than the stage, TPA's GPUs of the first KVP rank run it if they are as many (as in
    Medha), else the first ranks of the stage.
    """
    on_tpa = layout.ffn_group == layout.tpa and layout.dp == 1
    for rank in range(layout.gpus):
        stage, local = divmod(rank, layout.gpus_per_stage)
        dp, in_group = divmod(local, layout.attention_group)
        tpa, kvp = divmod(in_group, layout.kvp)
        seat = (tpa if kvp == 0 else None) if on_tpa else (local if local < layout.ffn_group else None)
        ep, tpf = (None, None) if seat is None else divmod(seat, layout.tpf)
        yield Coordinates(rank, stage, dp, kvp, tpa, tpf, ep)


def heads_held(attention: Attention, layout: Layout, place: Coordinates) -> dict[str, list[int]]:
    """Half-open ranges of the heads a rank computes attention for, holds after the exchange, and caches keys of.

    Layers with a sliding window or a state spread their heads over the whole attention group, where nothing is exchanged.
    """
    each = attention.query_heads // layout.attention_group
    first = (place.tpa * layout.kvp + place.kvp) * each
    outputs = [first, first + each]
    queries = outputs
    if attention.split_by_kvp:
        queries = [place.tpa * layout.kvp * each, (place.tpa + 1) * layout.kvp * each]
    kv = [0, 1]
    if not isinstance(attention, LatentAttention):
        per_kv_head = attention.query_heads // attention.kv_heads
        kv = [queries[0] // per_kv_head, (queries[1] - 1) // per_kv_head + 1]
    return {"query_heads": queries, "output_heads": outputs, "kv_heads": kv}


def spoken_of_first(model: Model) -> tuple[str, Attention]:
    """The kind of attention layer that a rank's heads are told of first: one whose cache grows, if any does."""
    kinds = [(name, attention) for name, attention, _ in model.attention_kinds]
    return next(((name, attention) for name, attention in kinds if attention.split_by_kvp), kinds[0])


def experts_held(model: Model, layout: Layout, place: Coordinates) -> tuple[int, int]:
    """The half-open range of routed experts on a rank; empty for a dense model and for a rank that waits."""
    return NOTHING if place.ep is None else dealt(model.experts, layout.ep)[place.ep]


def _seat(layout: Layout, place: Coordinates) -> int | None:
    """A rank's number among those that run the FFN, or None."""
    return None if place.tpf is None or place.ep is None else place.ep * layout.tpf + place.tpf


def ffn_columns_held(model: Model, layout: Layout, place: Coordinates) -> dict[str, list[int]]:
    """Half-open ranges of the FFN's inner columns on a rank, by kind of layer: of the dense FFN, or of each expert it holds."""
    held = {}
    for name, kind, _ in model.ffn_kinds:
        slices, turn = (layout.tpf, place.tpf) if isinstance(kind, MoE) else (layout.ffn_group, _seat(layout, place))
        held[name] = list(NOTHING if turn is None else dealt(kind.width, slices)[turn])
    return held


def shared_columns_held(model: Model, layout: Layout, place: Coordinates) -> dict[str, list[int]]:
    """The same of the shared expert, which stands in every attention group where tokens may be dispatched."""
    held = {}
    for name, kind, _ in model.ffn_kinds:
        if isinstance(kind, MoE) and kind.shared_width:
            slices, turn = layout.ffn_group, _seat(layout, place)
            if may_dispatch(layout):
                slices, turn = layout.attention_group, place.tpa * layout.kvp + place.kvp
            held[name] = list(NOTHING if turn is None else dealt(kind.shared_width, slices)[turn])
    return held


def vocabulary_held(model: Model, layout: Layout, place: Coordinates) -> tuple[int, int]:
    """The half-open range of rows of the embedding (first stage) and of the head (last stage) on a rank."""
    if place.stage not in (0, layout.pp - 1):
        return NOTHING
    return dealt(model.vocabulary, layout.gpus_per_stage)[place.rank % layout.gpus_per_stage]


def process_groups(model: Model, layout: Layout) -> dict[str, list[list[int]]]:
    """The ranks of every collective. Groups of one rank are left out: they have nothing to say.

    ``ffn_reduce`` is the whole stage: ranks that wait while others run the FFN need its result too.
    """
    places = list(coordinates(layout))
    working = [place for place in places if place.ep is not None]
    exchanging = places if any(attention.split_by_kvp for _, attention, _ in model.attention_kinds) else []

    def by(members: list[Coordinates], *key: str) -> list[list[int]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for place in members:
            at = {**vars(place), "local": place.rank % layout.gpus_per_stage}
            groups.setdefault(tuple(at[name] for name in key), []).append(place.rank)
        return [ranks for ranks in groups.values() if len(ranks) > 1]

    return {
        "attention_exchange": by(exchanging, "stage", "dp", "tpa"),
        "attention_reduce": by(places, "stage", "dp"),
        "data_gather": by(places, "stage", "tpa", "kvp"),
        "ffn_reduce": by(places, "stage"),
        "ffn_tensor": by(working, "stage", "ep"),
        "expert": by(working, "stage", "tpf"),
        "pipeline": by(places, "local"),
    }
