"""Batches in gaps: look at the low end, drop what cannot matter, split the rest.

Nobody can look at every integer batch of every layout, and nobody has to. For a fixed layout TTL and memory never fall as the
batch grows (docs/cost-model.md, "Order in batch"), so the value at the low end of a gap of batches bounds everything inside
it: no batch of the gap is faster, none needs less memory, and none has more requests than the gap's high end. A gap whose
bound cannot matter to what is searched for is dropped; any other is split, down to single batches.

A point's bound takes the fastest attention half and the fastest FFN half that could fit, so it never promises too little.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.memory import Memory, memory_limit
from helixplan.cost.shares import Shares
from helixplan.cost.step import Part, attention_bytes, attention_part, ffn_bytes, ffn_part
from helixplan.inputs.workload import MAX_BATCH, Request
from helixplan.numeric import Amount, Bools, Floats, Ints
from helixplan.search.space import Halves, Space, ranges

TIE = 1e-9
"""Two layouts tie where they differ by less than this share."""
POINTS_AT_A_TIME = 16384


@dataclass(frozen=True)
class Gaps:
    """Batches low..high of keys; the low end is looked at already. Arrays of one length."""

    key: Ints
    low: Ints
    high: Ints
    ttl_s: Floats
    """Of the low end: the least any layout of the key can take there, so a bound for the whole gap."""
    hopeful: Bools
    """Whether any whole layout of the key keeps every request at the low end (if not, none does at a larger batch)."""

    def __getitem__(self, rows: Ints | Bools | slice) -> Gaps:
        return Gaps(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True)
class Pairs:
    """Whole layouts at a batch: rows of both halves, their exact TTL and memory. Arrays of one length."""

    key: Ints
    attention: Ints
    ffn: Ints
    batch: Ints
    ttl_s: Floats
    memory_bytes: Floats

    def __getitem__(self, rows: Ints | Bools | slice) -> Pairs:
        return Pairs(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __len__(self) -> int:
        return len(self.key)

    def joined(self, other: Pairs) -> Pairs:
        """These and the other's."""
        return Pairs(*(np.concatenate([getattr(side, f.name) for side in (self, other)]) for f in fields(Pairs)))


@dataclass(frozen=True)
class Halved:
    """Both halves of some points, worked out: which point, which row, its seconds (M,) and bytes (stage kinds, M)."""

    point: Ints
    row: Ints
    seconds: Floats
    bytes: Floats
    start: Ints
    count: Ints

    def least_seconds(self) -> Floats:
        return np.asarray(np.minimum.reduceat(self.seconds, self.start))

    def least_bytes(self) -> Floats:
        return np.asarray(np.minimum.reduceat(self.bytes, self.start, axis=1))


class Sweep(ABC):
    """One sweep over the batches of a space's keys. What matters, and what is kept, is a subclass's to say."""

    rungs = 5
    """Batches of a key that are looked at first, evenly apart in ratio."""

    def __init__(self, case: Case, space: Space, request: Request) -> None:
        self.case, self.space, self.request = case.brief(), space, request
        self.limit = memory_limit(case)
        self.points = 0
        """(key, batch) points worked out so far."""

    @abstractmethod
    def promising(self, gaps: Gaps) -> Bools:
        """Gaps that may still hold something that matters."""

    @abstractmethod
    def remember(self, pairs: Pairs) -> None:
        """Whole layouts that keep the request at their batch."""

    def sweep(self) -> tuple[list[Gaps], int]:
        """Look, drop, split, until no gap is left that matters. -> (all gaps looked at, layouts times batches covered)"""
        first = self._first_gaps()
        covered = int((self.space.layouts_of_key[first.key] * (first.high - first.low + 1)).sum())
        gaps = self._look(first if self.request.batch is not None else _cut(first, self.rungs))
        looked = [gaps]
        while True:
            wide = gaps[self.promising(gaps) & (gaps.high > gaps.low)]
            if not len(wide.key):
                break
            lower, upper = _split(wide)
            upper = self._look(upper)
            looked.append(upper)
            gaps = Gaps(*(np.concatenate([getattr(side, f.name) for side in (lower, upper)]) for f in fields(Gaps)))
        return looked, covered

    def can_be_allowed(self, gaps: Gaps) -> Bools:
        """Gaps in which some layout may keep memory and TTL."""
        fine = gaps.hopeful & np.isfinite(gaps.ttl_s)
        if self.request.ttl_s is not None:
            fine &= gaps.ttl_s <= self.request.ttl_s
        return fine

    def working_sizes(self) -> list[int]:
        """The GPU counts of the keys on which some layout keeps the request at its batch, or at one."""
        return sorted({*self.space.gpus[self.working_pairs().key].tolist()})

    def working_pairs(self) -> Pairs:
        """Every layout that keeps the request at its batch, or at one."""
        keys = np.arange(self.space.keys)
        attention, ffn = self.halves(keys, np.full(len(keys), self.request.batch or 1))
        return self.pairs(attention, ffn, np.ones(len(keys), dtype=bool))

    def _first_gaps(self) -> Gaps:
        """Batches 1 to the most whose memory can fit, of each key; only the batch asked for where there is one."""
        keys = np.arange(self.space.keys)
        least = np.full(len(keys), self.request.batch or 1)
        most = self._most_requests(keys) if self.request.batch is None else least
        fits = self._least_bytes(keys, least) <= self.limit
        return Gaps(keys, least, most, np.zeros(len(keys)), np.ones(len(keys), dtype=bool))[fits]

    def _most_requests(self, keys: Ints) -> Ints:
        """The largest batch of each key whose memory can fit, 0 where none can: memory never falls as batches grow."""
        low, high = np.zeros(len(keys), dtype=np.int64), np.ones(len(keys), dtype=np.int64)
        growing = keys
        while len(growing):
            # One past the cap counts as a batch that does not fit, so that the cap itself may.
            fits = (high[growing] <= MAX_BATCH) & (self._least_bytes(growing, high[growing]) <= self.limit)
            low[growing[fits]] = high[growing[fits]]
            high[growing[fits]] = np.minimum(high[growing[fits]] * 4, MAX_BATCH + 1)
            growing = growing[fits]
        while len(open_ := np.flatnonzero(high - low > 1)):
            middle = (low[open_] + high[open_]) // 2
            fits = self._least_bytes(keys[open_], middle) <= self.limit
            low[open_[fits]], high[open_[~fits]] = middle[fits], middle[~fits]
        return low

    def _least_bytes(self, keys: Ints, batch: Ints) -> Floats:
        """The least memory any layout of each key needs at a batch."""
        total: Amount = 0.0
        for halves, memory in ((self.space.attention, _attention_memory), (self.space.ffn, ffn_bytes)):
            rows, owner = halves.of_keys(keys)
            shares = Shares(self.case, halves.rows[rows], batch[owner])
            starts = np.cumsum(halves.count[keys]) - halves.count[keys]
            held = np.stack([np.broadcast_to(kind.total_bytes, rows.shape) for kind in memory(shares)])
            total = total + np.minimum.reduceat(held, starts, axis=1)
        return np.asarray(total.max(axis=0))

    def _look(self, gaps: Gaps) -> Gaps:
        """The gaps with their low ends worked out; what is found there may raise the threshold."""
        sides = [gaps[slice(start, start + POINTS_AT_A_TIME)] for start in range(0, len(gaps.key), POINTS_AT_A_TIME)]
        self.points += len(gaps.key)
        looked = [self._look_at(side) for side in sides]
        return Gaps(*(np.concatenate([getattr(side, f.name) for side in looked]) for f in fields(Gaps))) if looked else gaps

    def _look_at(self, gaps: Gaps) -> Gaps:
        attention, ffn = self.halves(gaps.key, gaps.low)
        everywhere = np.ones(len(gaps.key), dtype=bool)
        gaps = replace(gaps, ttl_s=attention.least_seconds() + ffn.least_seconds(), hopeful=everywhere)
        # A low end that is beaten itself still tells whether the gap above it, which may not be, holds anything allowed.
        pairs = self.pairs(attention, ffn, self.promising(gaps))
        gaps = replace(gaps, hopeful=np.isin(np.arange(len(gaps.key)), pairs.key))
        self.remember(replace(pairs, key=gaps.key[pairs.key], batch=gaps.low[pairs.key]))
        return gaps

    def halves(self, keys: Ints, batch: Ints) -> tuple[Halved, Halved]:
        """Both halves of points; a half that cannot fit with any partner takes forever."""
        attention = _work_out(self.case, self.space.attention, keys, batch, attention_part)
        ffn = _work_out(self.case, self.space.ffn, keys, batch, ffn_part)
        sides = []
        for mine, other in ((attention, ffn), (ffn, attention)):
            alone = np.any(mine.bytes + other.least_bytes()[:, mine.point] > self.limit, axis=0)
            sides.append(replace(mine, seconds=np.where(alone, np.inf, mine.seconds)))
        return sides[0], sides[1]

    def pairs(self, attention: Halved, ffn: Halved, wanted: Bools) -> Pairs:
        """The whole layouts of the wanted points that keep memory and TTL; ``key`` and ``batch`` hold the point's index."""
        points = np.flatnonzero(wanted)
        each = attention.count[points] * ffn.count[points]
        owner = np.repeat(points, each)
        within = ranges(np.zeros(len(points), dtype=np.int64), each)
        a = attention.start[owner] + within // ffn.count[owner]
        f = ffn.start[owner] + within % ffn.count[owner]
        ttl, memory = attention.seconds[a] + ffn.seconds[f], (attention.bytes[:, a] + ffn.bytes[:, f]).max(axis=0)
        fine = (memory <= self.limit) & np.isfinite(ttl)
        if self.request.ttl_s is not None:
            fine &= ttl <= self.request.ttl_s
        owner = owner[fine]
        return Pairs(owner, attention.row[a[fine]], ffn.row[f[fine]], owner, ttl[fine], memory[fine])


_NO_ROWS, _NO_NUMBERS = np.zeros(0, dtype=np.int64), np.zeros(0)
NO_HALVES = Halved(_NO_ROWS, _NO_ROWS, _NO_NUMBERS, _NO_NUMBERS[None], _NO_ROWS, _NO_ROWS)


def _attention_memory(shares: Shares) -> list[Memory]:
    return attention_bytes(shares, shares.layouts.exchange)


def _work_out(case: Case, halves: Halves, keys: Ints, batch: Ints, part: Callable[..., Part]) -> Halved:
    rows, owner = halves.of_keys(keys)
    done = part(case, halves.rows[rows], batch[owner])
    count = halves.count[keys]
    return Halved(owner, rows, done.seconds, done.held_bytes, np.cumsum(count) - count, count)


def _cut(gaps: Gaps, rungs: int) -> Gaps:
    """Each gap cut at a few batches evenly apart in ratio."""
    steps = np.linspace(0.0, 1.0, rungs)
    low = np.round(gaps.high[:, None] ** steps).astype(np.int64)
    high = np.concatenate([low[:, 1:] - 1, gaps.high[:, None]], axis=1)
    cut = (high >= low).ravel()
    owner = np.repeat(np.arange(len(gaps.key)), rungs)[cut]
    return replace(gaps[owner], low=low.ravel()[cut], high=high.ravel()[cut])


def _split(gaps: Gaps) -> tuple[Gaps, Gaps]:
    """Each gap in two, in ratio where it is wide; the lower half keeps its low end and so its bound."""
    even = (gaps.low + gaps.high + 1) // 2
    ratio = np.ceil(np.sqrt(gaps.low.astype(float) * gaps.high)).astype(np.int64)
    middle = np.clip(np.where(gaps.high > 4 * gaps.low, ratio, even), gaps.low + 1, gaps.high)
    return replace(gaps, high=middle - 1), replace(gaps, low=middle)
