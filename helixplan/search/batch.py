"""The exact batch: which (key, batch) points can still hold one of the best layouts.

Nobody can look at every integer batch of every layout, and nobody has to. For a fixed layout TTL and memory never fall as the
batch grows (docs/cost-model.md, "Order in batch"), so the value at the low end of a gap of batches bounds everything inside
it: no batch of the gap is faster, none needs less memory, and none has more requests than the gap's high end. A gap whose
bound is worse than what was already found is dropped; any other is split, down to single batches. What is left at the end
contains every best layout, ties included.

A point's bound takes the fastest attention half and the fastest FFN half that could fit, so it never promises too little.
"""

from __future__ import annotations

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

RUNGS = 5
"""Batches of a key that are looked at first, evenly apart in ratio."""
TIE = 1e-9
"""Two layouts tie where they differ by less than this share."""
POINTS_AT_A_TIME = 16384
FIELD = 200
"""The solver is given at least so many points to choose from, where there are so many."""


def primary(goal: str, ttl_s: Amount, gpus: Amount, batch: Amount) -> Amount:
    """What an objective makes least: GPU-seconds a token, seconds a token, minus the users, or the GPUs."""
    if goal == "throughput":
        return gpus * ttl_s / batch
    if goal == "interactivity":
        return ttl_s + 0.0 * gpus
    if goal == "users":
        return -1.0 * batch + 0.0 * ttl_s
    return 1.0 * gpus + 0.0 * ttl_s


@dataclass(frozen=True)
class Standing:
    """How good layouts are, compared in this order: objective, GPUs, TTL. Numbers or arrays."""

    primary: Amount
    gpus: Amount
    ttl_s: Amount

    def surely_worse(self, than: Standing) -> Bools:
        """Where these lose to one standing by more than a tie."""
        margin = TIE * abs(than.primary)
        level = self.primary >= than.primary - margin
        slower = (self.gpus > than.gpus) | ((self.gpus == than.gpus) & (self.ttl_s > than.ttl_s * (1 + TIE)))
        return np.asarray((self.primary > than.primary + margin) | (level & slower))


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


@dataclass(frozen=True)
class Narrowed:
    """What is left: every pair within a tie of the best, the best of the next layouts, and what was covered."""

    key: Ints
    batch: Ints
    """The points left, and the next best besides. Arrays of one length."""
    attention: Halved
    ffn: Halved
    """Both halves of those points."""
    pairs: Pairs
    best: Pairs
    """The best pair of each of the best layouts, best first: ``keep`` of them where there are so many."""
    candidates: int
    """Whole layouts times the batches whose memory can fit, exchange and chunks apart."""
    points: int
    """(key, batch) points worked out; the others were dropped under a bound."""


class Narrowing:
    """One search for the best batches. ``keep``: how many distinct layouts must be told exactly."""

    def __init__(self, case: Case, space: Space, request: Request, keep: int) -> None:
        self.case, self.space, self.request, self.keep = case.brief(), space, request, keep
        self.limit = memory_limit(case)
        self.best: Pairs | None = None
        self.threshold: Standing | None = None

    def run(self) -> Narrowed:
        """Look, drop, split, until no gap is left that could hold one of the best."""
        first = self._first_gaps()
        covered = int((self.space.layouts_of_key[first.key] * (first.high - first.low + 1)).sum())
        gaps = self._look(first if self.request.batch is not None else _rungs(first))
        points = len(gaps.key)
        looked = [gaps]
        while True:
            wide = gaps[self._promising(gaps, self.threshold) & (gaps.high > gaps.low)]
            if not len(wide.key):
                break
            lower, upper = _split(wide)
            upper = self._look(upper)
            points += len(upper.key)
            looked.append(upper)
            gaps = Gaps(*(np.concatenate([getattr(side, f.name) for side in (lower, upper)]) for f in fields(Gaps)))
        return self._narrowed(looked, covered, points)

    def working_sizes(self) -> list[int]:
        """The GPU counts of the keys on which some layout keeps the request at its batch, or at one."""
        keys = np.arange(self.space.keys)
        attention, ffn = self._halves(keys, np.full(len(keys), self.request.batch or 1))
        pairs = self._pairs(attention, ffn, np.ones(len(keys), dtype=bool))
        return sorted({*self.space.gpus[pairs.key].tolist()})

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
        looked = [self._look_at(side) for side in sides]
        return Gaps(*(np.concatenate([getattr(side, f.name) for side in looked]) for f in fields(Gaps))) if looked else gaps

    def _look_at(self, gaps: Gaps) -> Gaps:
        attention, ffn = self._halves(gaps.key, gaps.low)
        everywhere = np.ones(len(gaps.key), dtype=bool)
        gaps = replace(gaps, ttl_s=attention.least_seconds() + ffn.least_seconds(), hopeful=everywhere)
        # A low end that is beaten itself still tells whether the gap above it, which may not be, holds anything allowed.
        pairs = self._pairs(attention, ffn, self._promising(gaps, self.threshold))
        gaps = replace(gaps, hopeful=np.isin(np.arange(len(gaps.key)), pairs.key))
        self._remember(replace(pairs, key=gaps.key[pairs.key], batch=gaps.low[pairs.key]))
        return gaps

    def _halves(self, keys: Ints, batch: Ints) -> tuple[Halved, Halved]:
        """Both halves of points; a half that cannot fit with any partner takes forever."""
        attention = _work_out(self.case, self.space.attention, keys, batch, attention_part)
        ffn = _work_out(self.case, self.space.ffn, keys, batch, ffn_part)
        sides = []
        for mine, other in ((attention, ffn), (ffn, attention)):
            alone = np.any(mine.bytes + other.least_bytes()[:, mine.point] > self.limit, axis=0)
            sides.append(replace(mine, seconds=np.where(alone, np.inf, mine.seconds)))
        return sides[0], sides[1]

    def _pairs(self, attention: Halved, ffn: Halved, wanted: Bools) -> Pairs:
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

    def _remember(self, pairs: Pairs) -> None:
        """Keep the best pair of each of the best layouts; the last of those is what a gap must beat."""
        if self.best is not None:
            pairs = Pairs(*(np.concatenate([getattr(side, f.name) for side in (self.best, pairs)]) for f in fields(Pairs)))
        order = self.order(pairs)
        rows = self.space.attention.rows
        structure = np.stack([pairs.key, rows.kvp[pairs.attention], pairs.ffn])[:, order]
        _, first = np.unique(structure, axis=1, return_index=True)
        self.best = pairs[order[np.sort(first)[: max(self.keep, 64)]]]
        self.threshold = self._kth(self.keep)

    def _kth(self, place: int) -> Standing | None:
        """How good the ``place``-th best layout found is, where there are so many."""
        if self.best is None or len(self.best) < place:
            return None
        standing = self.standing(self.best)
        return Standing(standing.primary[place - 1], standing.gpus[place - 1], standing.ttl_s[place - 1])

    def order(self, pairs: Pairs) -> Ints:
        """Best first."""
        standing = self.standing(pairs)
        return np.lexsort((-pairs.batch, standing.ttl_s, standing.gpus, standing.primary))

    def standing(self, pairs: Pairs) -> Standing:
        gpus = self.space.gpus[pairs.key]
        return Standing(primary(self.request.goal, pairs.ttl_s, gpus, pairs.batch), gpus, pairs.ttl_s)

    def _promising(self, gaps: Gaps, than: Standing | None) -> Bools:
        """Gaps that may hold something no worse than a standing, and something allowed at all."""
        fine = gaps.hopeful & np.isfinite(gaps.ttl_s)
        if self.request.ttl_s is not None:
            fine &= gaps.ttl_s <= self.request.ttl_s
        if than is None:
            return fine
        gpus = self.space.gpus[gaps.key]
        bound = Standing(primary(self.request.goal, gaps.ttl_s, gpus, gaps.high), gpus, gaps.ttl_s)
        return fine & ~bound.surely_worse(than)

    def _narrowed(self, looked: list[Gaps], covered: int, points: int) -> Narrowed:
        gaps = Gaps(*(np.concatenate([getattr(side, f.name) for side in looked]) for f in fields(Gaps)))
        at_low = replace(gaps, high=gaps.low)
        at_low = at_low[self._field(at_low)]
        attention, ffn = self._halves(at_low.key, at_low.low) if len(at_low.key) else (NO_HALVES, NO_HALVES)
        pairs = self._pairs(attention, ffn, self._promising(at_low, self._kth(1)))
        pairs = replace(pairs, key=at_low.key[pairs.key], batch=at_low.low[pairs.key])
        best = (self.best or pairs)[slice(0, self.keep)]
        return Narrowed(at_low.key, at_low.low, attention, ffn, pairs, best, covered, points)

    def _field(self, points: Gaps) -> Ints:
        """The points that go to the solver: every one that may hold the best layout, and the next best besides."""
        can = points.hopeful & np.isfinite(points.ttl_s)
        gpus = self.space.gpus[points.key]
        value = np.where(can, primary(self.request.goal, points.ttl_s, gpus, points.low), np.inf)
        next_best = np.argsort(value, kind="stable")[:FIELD]
        return np.flatnonzero(self._promising(points, self._kth(1)) | (np.isin(np.arange(len(gpus)), next_best) & can))


_NO_ROWS, _NO_NUMBERS = np.zeros(0, dtype=np.int64), np.zeros(0)
NO_HALVES = Halved(_NO_ROWS, _NO_ROWS, _NO_NUMBERS, _NO_NUMBERS[None], _NO_ROWS, _NO_ROWS)


def _attention_memory(shares: Shares) -> list[Memory]:
    return attention_bytes(shares, shares.layouts.exchange)


def _work_out(case: Case, halves: Halves, keys: Ints, batch: Ints, part: Callable[..., Part]) -> Halved:
    rows, owner = halves.of_keys(keys)
    done = part(case, halves.rows[rows], batch[owner])
    count = halves.count[keys]
    return Halved(owner, rows, done.seconds, done.held_bytes, np.cumsum(count) - count, count)


def _rungs(gaps: Gaps) -> Gaps:
    """Each gap cut at a few batches evenly apart in ratio."""
    steps = np.linspace(0.0, 1.0, RUNGS)
    low = np.round(gaps.high[:, None] ** steps).astype(np.int64)
    high = np.concatenate([low[:, 1:] - 1, gaps.high[:, None]], axis=1)
    cut = (high >= low).ravel()
    owner = np.repeat(np.arange(len(gaps.key)), RUNGS)[cut]
    return replace(gaps[owner], low=low.ravel()[cut], high=high.ravel()[cut])


def _split(gaps: Gaps) -> tuple[Gaps, Gaps]:
    """Each gap in two, in ratio where it is wide; the lower half keeps its low end and so its bound."""
    even = (gaps.low + gaps.high + 1) // 2
    ratio = np.ceil(np.sqrt(gaps.low.astype(float) * gaps.high)).astype(np.int64)
    middle = np.clip(np.where(gaps.high > 4 * gaps.low, ratio, even), gaps.low + 1, gaps.high)
    return replace(gaps, high=middle - 1), replace(gaps, low=middle)
