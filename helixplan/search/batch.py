"""The exact batch: which (key, batch) points can still hold one of the best layouts.

A gap of batches whose bound is worse than what was already found is dropped; what is left at the end contains every best layout,
ties included.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from helixplan.cost.case import Case
from helixplan.inputs.workload import Request
from helixplan.layout import Layouts
from helixplan.numeric import Amount, Bools, Ints
from helixplan.search.gaps import NO_HALVES, TIE, Gaps, Halved, Pairs, Sweep
from helixplan.search.space import Space

FIELD = 200
"""The solver is given at least so many points to choose from, where there are so many."""


def primary(goal: str, ttl_s: Amount, gpus: Amount, batch: Amount) -> Amount:
    """What an objective makes least: GPU-seconds a token, seconds a token, minus the users, or the GPUs."""
    if goal == "throughput":
        return gpus * ttl_s / batch
    if goal == "interactivity":
        return ttl_s + 0.0 * gpus
    # What takes for ever is no answer, however many users it has or few GPUs.
    return np.where(np.isfinite(ttl_s), np.multiply(-1.0, batch) if goal == "users" else np.multiply(1.0, gpus), np.inf)


def break_order(space: Space, pairs: Pairs) -> list[Amount]:
    """What breaks ties between layouts that are as good, in turn, each the less the better. Arrays of the pairs' length.

    Fewer GPUs, lower TTL, smaller pp, dp, kvp, tpa, ep, larger batch, ``latent`` first.
    """
    whole = space.whole(pairs.attention, pairs.ffn)
    sizes = [np.asarray(getattr(whole, name)) for name in ("pp", "dp", "kvp", "tpa", "ep")]
    return [space.gpus[pairs.key], pairs.ttl_s, *sizes, -pairs.batch, np.asarray(whole.exchange)]


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


class Narrowing(Sweep):
    """One search for the best batches. ``keep``: how many distinct layouts must be told exactly."""

    def __init__(self, case: Case, space: Space, request: Request, keep: int) -> None:
        super().__init__(case, space, request)
        self.keep = keep
        self.best: Pairs | None = None
        self.threshold: Standing | None = None

    def run(self) -> Narrowed:
        """The points that may hold one of the best."""
        looked, covered = self.sweep()
        return self._narrowed(looked, covered)

    def promising(self, gaps: Gaps) -> Bools:
        """Gaps that may hold something no worse than the last of the best found."""
        return self._no_worse(gaps, self.threshold)

    def remember(self, pairs: Pairs) -> None:
        """Keep the best pair of each of the best layouts; the last of those is what a gap must beat."""
        if self.best is not None:
            pairs = self.best.joined(pairs)
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

    def _no_worse(self, gaps: Gaps, than: Standing | None) -> Bools:
        """Gaps that may hold something no worse than a standing, and something allowed at all."""
        fine = self.can_be_allowed(gaps)
        if than is None:
            return fine
        gpus = self.space.gpus[gaps.key]
        bound = Standing(primary(self.request.goal, gaps.ttl_s, gpus, gaps.high), gpus, gaps.ttl_s)
        return fine & ~bound.surely_worse(than)

    def _narrowed(self, looked: list[Gaps], covered: int) -> Narrowed:
        gaps = Gaps(*(np.concatenate([getattr(side, f.name) for side in looked]) for f in fields(Gaps)))
        at_low = replace(gaps, high=gaps.low)
        at_low = at_low[self._field(at_low)]
        attention, ffn = self.halves(at_low.key, at_low.low) if len(at_low.key) else (NO_HALVES, NO_HALVES)
        pairs = self.pairs(attention, ffn, self._no_worse(at_low, self._kth(1)))
        pairs = replace(pairs, key=at_low.key[pairs.key], batch=at_low.low[pairs.key])
        best = (self.best or pairs)[slice(0, self.keep)]
        return Narrowed(at_low.key, at_low.low, attention, ffn, pairs, best, covered, self.points)

    def _field(self, points: Gaps) -> Ints:
        """The points that go to the solver: every one that may hold the best layout, and the next best besides."""
        can = points.hopeful & np.isfinite(points.ttl_s)
        gpus = self.space.gpus[points.key]
        value = np.where(can, primary(self.request.goal, points.ttl_s, gpus, points.low), np.inf)
        next_best = np.argsort(value, kind="stable")[:FIELD]
        return np.flatnonzero(self._no_worse(points, self._kth(1)) | (np.isin(np.arange(len(gpus)), next_best) & can))


class Contenders(Narrowing):
    """The search for every layout that stands no worse than ``than``."""

    def __init__(self, case: Case, space: Space, request: Request, than: Standing) -> None:
        super().__init__(case, space, request, keep=1)
        self.threshold = self.than = than
        self.good: list[Pairs] = []

    def remember(self, pairs: Pairs) -> None:
        """Keep what is good enough; what a gap must beat stays as it is."""
        self.good.append(pairs[~self.standing(pairs).surely_worse(self.than)])

    def layouts(self) -> Layouts:
        """Those found, some more than once: each with an exchange and a batch at which it is good enough."""
        self.sweep()
        return self.space.whole(*(np.concatenate([getattr(one, half) for one in self.good]) for half in ("attention", "ffn")))
