"""The exact frontier of tokens/s/user against tokens/s (or users) a GPU: each layout and integer batch that none beats in both.

At a given key and batch all of these are best where the TTL is least, so a point of the frontier is the fastest layout of a key
at a batch. In a gap of batches no layout of the key is faster than at the low end, and none has more requests than the high
end: a gap whose corner (that speed, that many requests) is beaten by a point already found holds nothing of the frontier.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case
from helixplan.inputs.workload import Request
from helixplan.layout import Layout
from helixplan.numeric import Amount, Bools, Floats, Ints
from helixplan.search.batch import break_order
from helixplan.search.gaps import TIE, Gaps, Pairs, Sweep
from helixplan.search.space import Space, build_space


@dataclass(frozen=True)
class FrontierPoint:
    """One layout at a batch that no allowed one beats in both rates."""

    family: str
    layout: Layout
    batch: int
    ttl_s: float

    @property
    def tokens_per_s_per_user(self) -> float:
        return 1 / self.ttl_s

    @property
    def tokens_per_s_per_gpu(self) -> float:
        return self.batch / (self.ttl_s * self.layout.gpus)

    @property
    def users_per_gpu(self) -> float:
        return self.batch / self.layout.gpus


@dataclass(frozen=True)
class Found:
    """A frontier, best interactivity first, and what was looked at to find it."""

    points: list[FrontierPoint]
    candidates: int
    looked_at: int


def find_frontier(case: Case, request: Request, *, of_users: bool = False) -> Found:
    """The frontier of one family under a request's rules, sizes and pins; may be empty. ``of_users``: of users a GPU instead."""
    space = build_space(case, request)
    if not space.keys:
        return Found([], 0, 0)
    edge = Edge(case, space, request, of_users=of_users)
    _, covered = edge.sweep()
    return Found(edge.points_found(request.family), covered, edge.points)


def joint(frontiers: list[list[FrontierPoint]], *, of_users: bool = False) -> list[FrontierPoint]:
    """What is left of several frontiers together; where points tie, the first frontier's."""
    points = [point for frontier in frontiers for point in frontier]
    if not points:
        return []
    user = np.array([point.tokens_per_s_per_user for point in points])
    gpu = np.array([point.users_per_gpu if of_users else point.tokens_per_s_per_gpu for point in points])
    rows = np.flatnonzero(~beaten(user, gpu, user, gpu))
    left: list[FrontierPoint] = []
    for row in rows[np.argsort(-user[rows], kind="stable")].tolist():
        if not left or abs(points[row].ttl_s - left[-1].ttl_s) > TIE * left[-1].ttl_s:
            left.append(points[row])
    return left


def beaten(user: Floats, gpu: Floats, by_user: Floats, by_gpu: Floats) -> Bools:
    """Where some of the other points is as good in both rates and better than a tie in one. The others in any order."""
    order = np.argsort(-by_user, kind="stable")
    by_user, most = by_user[order], np.maximum.accumulate(by_gpu[order]) if len(order) else by_gpu
    as_fast = _most_at(most, by_user, user * (1 - TIE))
    faster = _most_at(most, by_user, user * (1 + TIE))
    return np.asarray((as_fast > gpu * (1 + TIE)) | (faster >= gpu * (1 - TIE)))


def _most_at(most: Floats, by_user: Floats, least: Floats) -> Floats:
    """The most tokens/s/GPU among points of at least so many tokens/s/user; ``by_user`` falls, ``most`` rises with it."""
    count = np.searchsorted(-by_user, -least, side="right")
    return np.asarray(np.concatenate([[-np.inf], most])[count])


class Edge(Sweep):
    """One sweep for the frontier of a space."""

    rungs = 12

    def __init__(self, case: Case, space: Space, request: Request, *, of_users: bool) -> None:
        super().__init__(case, space, request)
        self.of_users = of_users
        self.best: Pairs | None = None

    def promising(self, gaps: Gaps) -> Bools:
        """Gaps whose corner no point found beats."""
        fine = self.can_be_allowed(gaps)
        if self.best is None or not np.any(fine):
            return fine
        user = np.where(fine, 1 / np.where(fine, gaps.ttl_s, 1.0), 0.0)
        gpu = gaps.high / self.space.gpus[gaps.key] * (1.0 if self.of_users else user)
        return fine & ~beaten(user, gpu, *self.rates(self.best))

    def remember(self, pairs: Pairs) -> None:
        """Keep what nothing beats; of those that tie in both, one."""
        pairs = pairs[_fastest(pairs)]
        if self.best is not None:
            pairs = self.best.joined(pairs)
        user, gpu = self.rates(pairs)
        self.best = pairs[~beaten(user, gpu, user, gpu)]

    def rates(self, pairs: Pairs) -> tuple[Floats, Floats]:
        """Tokens a second of a user, and of a GPU (or its users)."""
        users = pairs.batch / self.space.gpus[pairs.key]
        return 1 / pairs.ttl_s, users if self.of_users else users / pairs.ttl_s

    def points_found(self, family: str) -> list[FrontierPoint]:
        """Best interactivity first, one layout for each pair of rates: where several tie, the one a plan would choose."""
        if self.best is None or not len(self.best):
            return []
        user, gpu = self.rates(self.best)
        preference = np.stack([np.asarray(column, dtype=float) for column in break_order(self.space, self.best)], axis=1)
        kept: list[int] = []
        for row in np.argsort(-user, kind="stable").tolist():
            if not kept or not _tie(user[row], user[kept[-1]]) or not _tie(gpu[row], gpu[kept[-1]]):
                kept.append(row)
            elif preference[row].tolist() < preference[kept[-1]].tolist():
                kept[-1] = row
        whole = self.space.whole(self.best.attention, self.best.ffn)
        return [FrontierPoint(family, whole.row(i), int(self.best.batch[i]), float(self.best.ttl_s[i])) for i in kept]


def _tie(one: float, other: float) -> bool:
    return abs(one - other) <= TIE * one


def _fastest(pairs: Pairs) -> Ints:
    """Of each point (a key at a batch) the pairs within a tie of its fastest."""
    order = np.lexsort((pairs.ttl_s, pairs.batch, pairs.key))
    key, batch, ttl = pairs.key[order], pairs.batch[order], pairs.ttl_s[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (key[1:] != key[:-1]) | (batch[1:] != batch[:-1])
    least: Amount = ttl[first][np.cumsum(first) - 1] if len(order) else ttl
    return np.asarray(order[ttl <= least * (1 + TIE)])
