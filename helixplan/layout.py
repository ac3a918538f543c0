"""A layout (one) and layouts (a struct of arrays), and what each rank of one holds.

Ranks are numbered stage by stage; inside a stage the KVP ranks of a KV-head slice stand together, then TPA, then the
attention replicas (DP). For the FFN the same ranks count TPF first, then EP. So the groups that talk most stay inside a node.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from helixplan.errors import InputError
from helixplan.inputs.model import GroupedQueryAttention, Model
from helixplan.inputs.workload import EXCHANGES, MAX_BATCH, MAX_GPUS, choice, whole
from helixplan.numeric import Bools, Ints

EXCHANGE_CODES = {name: code for code, name in enumerate(EXCHANGES)}
AUTO, LATENT, VALUE = (EXCHANGE_CODES[name] for name in ("auto", "latent", "value"))


@dataclass(frozen=True)
class Layout:
    """One layout. ``exchange`` "auto" and ``overlap_chunks`` None stand for the best, found when it is scored.

    Raises InputError for sizes that are not whole numbers of at least 1.
    """

    kvp: int
    tpa: int
    tpf: int
    ep: int
    dp: int = 1
    pp: int = 1
    exchange: str = "auto"
    overlap_chunks: int | None = None

    def __post_init__(self) -> None:
        for name in ("kvp", "tpa", "tpf", "ep", "dp", "pp"):
            whole(getattr(self, name), 1, MAX_GPUS, name)
        choice(self.exchange, EXCHANGES, "exchange")
        if self.overlap_chunks is not None:
            whole(self.overlap_chunks, 1, MAX_BATCH, "overlap_chunks")

    @property
    def attention_group(self) -> int:
        return self.kvp * self.tpa

    @property
    def gpus_per_stage(self) -> int:
        return self.dp * self.attention_group

    @property
    def gpus(self) -> int:
        return self.gpus_per_stage * self.pp

    @property
    def ffn_group(self) -> int:
        return self.tpf * self.ep

    def __str__(self) -> str:
        return f"kvp {self.kvp} x tpa {self.tpa} x dp {self.dp} | tpf {self.tpf} x ep {self.ep} | pp {self.pp}"


@dataclass(frozen=True, eq=False)
class Layouts:
    """M layouts: arrays of length M (or numbers that broadcast). ``exchange`` holds codes, ``overlap_chunks`` 0 for the best."""

    kvp: Ints
    tpa: Ints
    tpf: Ints
    ep: Ints
    dp: Ints = 1  # type: ignore[assignment]
    pp: Ints = 1  # type: ignore[assignment]
    exchange: Ints = AUTO  # type: ignore[assignment]
    overlap_chunks: Ints = 0  # type: ignore[assignment]

    def __post_init__(self) -> None:
        arrays = [np.asarray(getattr(self, f.name)) for f in fields(self)]
        try:
            shape = np.broadcast_shapes(*(array.shape for array in arrays)) or (1,)
        except ValueError:
            raise InputError("the arrays must have one length", field="layouts") from None
        if len(shape) != 1:
            raise InputError(f"the arrays must have one dimension, not {len(shape)}", field="layouts")
        for f, array in zip(fields(self), arrays, strict=True):
            if not np.issubdtype(array.dtype, np.integer):
                raise InputError(f"must hold whole numbers, not {array.dtype}", field=f"layouts.{f.name}")
            lowest, highest = (0, MAX_BATCH) if f.name in ("exchange", "overlap_chunks") else (1, MAX_GPUS)
            highest = VALUE if f.name == "exchange" else highest
            if array.size and (array.min() < lowest or array.max() > highest):
                raise InputError(f"must lie from {lowest} to {highest:,}", field=f"layouts.{f.name}")
            object.__setattr__(self, f.name, np.broadcast_to(array, shape))

    def __len__(self) -> int:
        return len(self.kvp)

    @property
    def gpus(self) -> Ints:
        return np.asarray(self.kvp * self.tpa * self.dp * self.pp)

    def __getitem__(self, rows: Any) -> Layouts:
        """The layouts of a slice, a mask or an array of indices."""
        return Layouts(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    @classmethod
    def of(cls, *layouts: Layout) -> Layouts:
        columns = {name: np.array([getattr(one, name) for one in layouts]) for name in ("kvp", "tpa", "tpf", "ep", "dp", "pp")}
        return cls(
            **columns,
            exchange=np.array([EXCHANGE_CODES[one.exchange] for one in layouts]),
            overlap_chunks=np.array([one.overlap_chunks or 0 for one in layouts]),
        )

    def row(self, index: int) -> Layout:
        numbers = {name: int(getattr(self, name)[index]) for name in ("kvp", "tpa", "tpf", "ep", "dp", "pp")}
        chunks = int(np.asarray(self.overlap_chunks)[index])
        return Layout(**numbers, exchange=EXCHANGES[int(np.asarray(self.exchange)[index])], overlap_chunks=chunks or None)


def whole_heads(model: Model, kvp: Any, tpa: Any) -> Bools:
    """Where no head would have to be split: structure, not a rule. Broadcasts over kvp and tpa.

    Query heads divide by the attention group, KV heads by TPA (or TPA by the KV heads, which duplicates them); layers with a
    sliding window spread their heads over the whole group, so there the group takes TPA's place.
    """
    group = np.asarray(kvp) * np.asarray(tpa)
    fine: Bools = np.ones(np.shape(group), dtype=bool)
    for _, attention, _ in model.attention_kinds:
        spread = tpa if attention.window is None else group
        fine &= (attention.query_heads % group == 0) & (
            (attention.kv_heads % spread == 0) | (np.asarray(spread) % attention.kv_heads == 0)
        )
    return fine


@lru_cache(maxsize=4096)
def dealt(things: int, hands: int) -> tuple[tuple[int, int], ...]:
    """Half-open ranges of ``things`` dealt to ``hands`` in order, as even as can be, longer ones first."""
    short, longer = divmod(things, hands)
    starts = [hand * short + min(hand, longer) for hand in range(hands + 1)]
    return tuple(pairwise(starts))


def check_structure(model: Model, layout: Layout) -> None:
    """Raises InputError where a layout splits a head, empties a stage or leaves the FFN's GPUs uneven."""
    if not whole_heads(model, layout.kvp, layout.tpa):
        kinds = {(a.query_heads, a.kv_heads) for _, a, _ in model.attention_kinds}
        heads = " and ".join(f"{query} query heads over {kv} KV heads" for query, kv in sorted(kinds))
        raise InputError(
            f"kvp {layout.kvp} x tpa {layout.tpa} would split a head of {model.name}, which has {heads}; "
            "kvp x tpa must divide the query heads, and tpa must divide the KV heads or be a multiple of them",
            field="layout",
        )
    if layout.pp > model.layers:
        raise InputError(f"got {layout.pp}, but {model.name} has only {model.layers} layers to make stages of", field="pp")
    if layout.gpus_per_stage % layout.ffn_group:
        raise InputError(
            f"tpf {layout.tpf} x ep {layout.ep} = {layout.ffn_group} must divide the stage's GPUs "
            f"(dp {layout.dp} x kvp {layout.kvp} x tpa {layout.tpa} = {layout.gpus_per_stage})",
            field="layout",
        )


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


def heads_held(model: Model, layout: Layout, place: Coordinates) -> dict[str, list[int]]:
    """Half-open ranges of the heads a rank computes attention for, holds after the exchange, and caches keys of.

    Of the layers without a sliding window (those of a model that has only such layers otherwise).
    """
    kinds = [attention for _, attention, _ in model.attention_kinds]
    attention = next((a for a in kinds if a.window is None), kinds[0])
    queries = attention.query_heads // layout.tpa
    outputs = queries // layout.kvp
    first_output = place.tpa * queries + place.kvp * outputs
    if isinstance(attention, GroupedQueryAttention):
        per_kv_head = attention.query_heads // attention.kv_heads
        first_kv = place.tpa * queries // per_kv_head
        last_kv = ((place.tpa + 1) * queries - 1) // per_kv_head + 1
    else:
        first_kv, last_kv = 0, 1
    return {
        "query_heads": [place.tpa * queries, (place.tpa + 1) * queries],
        "output_heads": [first_output, first_output + outputs],
        "kv_heads": [first_kv, last_kv],
    }


def experts_held(model: Model, layout: Layout, place: Coordinates) -> tuple[int, int]:
    """The half-open range of routed experts on a rank; empty for a dense model and for a rank that waits."""
    return (0, 0) if place.ep is None else dealt(model.experts, layout.ep)[place.ep]


def process_groups(model: Model, layout: Layout) -> dict[str, list[list[int]]]:
    """The ranks of every collective. Groups of one rank are left out: they have nothing to say."""
    places = list(coordinates(layout))
    working = [place for place in places if place.ep is not None]
    exchanging = places if any(attention.window is None for _, attention, _ in model.attention_kinds) else []

    def by(members: list[Coordinates], *key: str) -> list[list[int]]:
        groups: dict[tuple[int, ...], list[int]] = {}
        for place in members:
            at = {**vars(place), "local": place.rank % layout.gpus_per_stage}
            groups.setdefault(tuple(at[name] for name in key), []).append(place.rank)
        return [ranks for ranks in groups.values() if len(ranks) > 1]

    return {
        "attention_exchange": by(exchanging, "stage", "dp", "tpa"),
        "attention_reduce": by(places, "stage", "dp"),
        "ffn_tensor": by(working, "stage", "ep"),
        "expert": by(working, "stage", "tpf"),
        "pipeline": by(places, "local"),
    }
