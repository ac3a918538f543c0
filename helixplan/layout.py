"""A layout (one) and layouts (a struct of arrays), and what makes one possible at all."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from helixplan.errors import InputError
from helixplan.inputs.model import Model
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
        """The layouts of a slice, a mask or an array of indices. What was checked once is not checked again: searches do this."""
        picked = object.__new__(Layouts)
        for name in COLUMNS:
            object.__setattr__(picked, name, getattr(self, name)[rows])
        return picked

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


COLUMNS = tuple(f.name for f in fields(Layouts))


def may_dispatch(layouts: Layout | Layouts) -> Any:
    """Where tokens may be dispatched to their experts: ranks hold different tokens and different experts, and none waits."""
    stage = layouts.dp * layouts.kvp * layouts.tpa
    return (layouts.dp > 1) & (layouts.ep > 1) & (layouts.tpf * layouts.ep == stage)


def whole_heads(model: Model, kvp: Any, tpa: Any) -> Bools:
    """Where no head would have to be split: structure, not a rule. Broadcasts over kvp and tpa.

    Query heads divide by the attention group, KV heads by TPA (or TPA by the KV heads, which duplicates them); layers with a
    sliding window or a state spread their heads over the whole group, so there the group takes TPA's place.
    """
    group = np.asarray(kvp) * np.asarray(tpa)
    fine: Bools = np.ones(np.shape(group), dtype=bool)
    for _, attention, _ in model.attention_kinds:
        spread = tpa if attention.split_by_kvp else group
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
