"""Over which contexts a plan's sizes stay the best, and where the best layout's KVP changes.

Whole batches make the best layout alternate with the context, so halving alone would find some boundary, not the nearest. The
rivals known so far are therefore looked at in steps, which is quick, and what they say is confirmed by whole searches
on both sides of a boundary. A layout that nobody knew of could still win in between; so within what is left, stretch by
stretch, one search finds every layout that could, and those are looked at in fine steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.score import score_case
from helixplan.explaining.figures import Answer
from helixplan.explanation import ContextRange, Crossover, Edge
from helixplan.inputs.workload import MAX_BATCH, MAX_CONTEXT, PINS
from helixplan.layout import Layout, Layouts
from helixplan.numeric import Bools, Floats, Ints
from helixplan.plans import PlanLayout
from helixplan.search.batch import Standing, primary
from helixplan.search.gaps import TIE
from helixplan.search.optimum import Best, find_best, find_contenders
from helixplan.search.space import Space, build_space

SPAN = 16
"""The range of contexts is looked for from a so-manieth of the plan's context to so many times it."""
OCTAVES = 2
"""Crossovers are looked for over so many doublings and halvings of the plan's context."""
STEP, GROWTH, LONGEST = 1.01, 1.15, 2.0
"""Contexts looked at are first this ratio apart, the ratio's logarithm growing from step to step, up to the longest."""
STRETCH, MOST_STRETCHES = 1.05, 24
"""Once edges are known, what lies between is searched in stretches of this ratio: longer ones where there would be more."""
FINE_STEP, MOST_STEPS = 1.004, 250
"""How far apart contexts are at which those are looked at that could win in a stretch: further where that takes more steps."""
CLOSE = 1.002
"""Both sides of an edge are at most this ratio apart."""

COARSE, ROUNDS = np.unique(np.round(1.6 ** np.arange(20)).astype(np.int64)), 2
"""Rivals are looked at with so many requests a group and stage, and then, in rounds, between the most allowed and the next."""
MANY, FEW = 12, 64
"""So many numbers of requests are looked at in a round: of many rivals some, of a few as many as it takes to miss none."""

Sizes = tuple[int, int, int, int, int, int]
Belongs = Callable[[Sizes | None], bool]


def sizes_of(layout: Layout | PlanLayout) -> Sizes:
    """What makes a layout the same at another context: not its batch, exchange or chunks."""
    return layout.kvp, layout.tpa, layout.dp, layout.pp, layout.tpf, layout.ep


@dataclass
class Contexts:
    """What wins at each context, under one request.

    ``here``: what does at the plan's own. ``also``: layouts that may win at some.
    """

    plan: Answer
    here: InitVar[Best]
    also: InitVar[list[Layout]]
    best: dict[int, Best | None] = field(default_factory=dict)
    rivals: dict[Sizes, None] = field(default_factory=dict)
    """In the order they were found."""
    space: Space = field(init=False)
    """The candidates, which are the same at every context."""

    def __post_init__(self, here: Best, also: list[Layout]) -> None:
        self.space = build_space(self.plan.case, self.plan.request)
        self._note(self.plan.case.workload.context_tokens, here)
        self.rivals |= {sizes_of(layout): None for layout in also}

    def winner(self, tokens: int) -> Sizes | None:
        """The sizes of the best layout, by a whole search; None where nothing keeps the request."""
        if tokens not in self.best:
            self._note(tokens, find_best(self.plan.case.at_context(tokens), self.plan.request, self.space))
        best = self.best[tokens]
        return None if best is None else sizes_of(best.layout)

    def _note(self, tokens: int, found: Best | None) -> None:
        self.best[tokens] = found
        for layout in [] if found is None else [found.layout, *(layout for layout, _ in found.alternatives)]:
            self.rivals[sizes_of(layout)] = None

    def contenders(self, low: int, high: int) -> list[Sizes]:
        """All sizes but the plan's that may be the best somewhere from ``low`` to ``high`` tokens, where the plan's are allowed.

        No layout gets better as the context grows: what beats the plan's in between is no worse at ``low`` than they at ``high``.
        """
        plan, mine = self.plan, sizes_of(self.plan.layout)
        value, seconds = self._at_best([mine], high, FEW)
        than = Standing(float(value[0]), plan.layout.gpus, float(seconds[0]))
        found = find_contenders(plan.case.at_context(low), plan.request, self.space, than)
        _, first = np.unique(np.stack([getattr(found, name) for name in PINS]), axis=1, return_index=True)
        return [sizes for row in first.tolist() if (sizes := sizes_of(found.row(row))) != mine]

    def leader(self, tokens: int, among: list[Sizes] | None = None) -> Sizes | None:
        """The best of the rivals known so far, about at the batch that is best for each: a guess at the winner.

        Or of a few, ``among``, at the very batch.
        """
        known = [*self.rivals] if among is None else among
        value, seconds = self._at_best(known, tokens, MANY if among is None else FEW)
        if np.isinf(np.min(value)):
            return None
        tied = value <= np.min(value) + TIE * abs(np.min(value))
        order = np.lexsort((seconds, np.array(known)[:, :4].prod(axis=1), ~tied))
        return known[int(order[0])]

    def _at_best(self, known: list[Sizes], tokens: int, fine: int) -> tuple[Floats, Floats]:
        """What the objective makes least, at the batch that is best for each, and TTL (s) there.  -> (rivals,) each

        ``fine``: between the most requests allowed of those looked at and the next, so many are looked at in each round.
        """
        request, case = self.plan.request, self.plan.case.at_context(tokens)
        rivals = np.array(known)
        stride = (rivals[:, 2] * rivals[:, 3])[:, None]
        if request.batch is not None:
            batch = np.full_like(stride, request.batch)
        elif request.goal not in ("throughput", "users"):
            batch = np.ones_like(stride)
        else:
            looked = np.broadcast_to(COARSE, (len(rivals), len(COARSE)))
            for _ in range(ROUNDS):
                most = np.maximum(self._allowed(case, rivals, looked * stride).sum(axis=1, keepdims=True), 1)
                low, high = (
                    np.take_along_axis(looked, np.minimum(place, looked.shape[1] - 1), axis=1) for place in (most - 1, most)
                )
                looked = low + (high - low) * np.arange(fine) // fine
                if np.all(high - low <= fine):
                    break
            batch = looked * stride
        value, seconds = self._value(case, rivals, batch)
        each, at = np.arange(len(rivals)), np.argmin(value, axis=1)
        return value[each, at], seconds[each, at]

    def _allowed(self, case: Case, rivals: Ints, batch: Ints) -> Bools:
        """Where rivals keep memory and TTL at batches.  -> (rivals, batches)"""
        return np.isfinite(self._value(case, rivals, batch)[0])

    def _value(self, case: Case, rivals: Ints, batch: Ints) -> tuple[Floats, Floats]:
        """What the objective makes least, infinite where memory or TTL is not kept; and TTL (s).  -> (rivals, batches) each"""
        request = self.plan.request
        kvp, tpa, dp, pp, tpf, ep = np.repeat(rivals, batch.shape[1], axis=0).T
        requests = np.minimum(batch.ravel(), MAX_BATCH)
        scores = score_case(case, Layouts(kvp, tpa, tpf, ep, dp, pp), requests)
        fine = scores.fits if request.ttl_s is None else scores.fits & (scores.ttl_s <= request.ttl_s)
        value = primary(request.goal, scores.ttl_s, scores.gpus, requests)
        return np.where(fine, value, np.inf).reshape(batch.shape), scores.ttl_s.reshape(batch.shape)

    def boundary(self, inside: int, outside: int, belongs: Belongs) -> tuple[int, int]:
        """Two contexts next to each other (at most ``CLOSE`` apart), the first of which belongs and the second not.

        ``inside`` belongs and ``outside`` does not. A guess that a search refutes is followed by plain halving.
        """
        while _apart(inside, outside):
            near, far = self._guessed(inside, outside, belongs)
            if far != outside:
                inside, outside = (far, outside) if belongs(self.winner(far)) else (inside, far)
            if inside < near < outside or outside < near < inside:
                inside, outside = (near, outside) if belongs(self.winner(near)) else (inside, near)
            if _apart(inside, outside):
                middle = _middle(inside, outside)
                inside, outside = (middle, outside) if belongs(self.winner(middle)) else (inside, middle)
        return inside, outside

    def _guessed(self, inside: int, outside: int, belongs: Belongs) -> tuple[int, int]:
        """The same by the rivals alone."""
        while _apart(inside, outside):
            middle = _middle(inside, outside)
            inside, outside = (middle, outside) if belongs(self.leader(middle)) else (inside, middle)
        return inside, outside


def context_range(contexts: Contexts) -> ContextRange:
    """How far the plan's sizes stay the best, up and down."""
    here = contexts.plan.case.workload.context_tokens
    low, high = (_edge(contexts, last) for last in (max(1, here // SPAN), min(MAX_CONTEXT, here * SPAN)))
    low, high = _nearest(contexts, low), _nearest(contexts, high)
    searched = sum(low.tokens <= tokens <= high.tokens for tokens in contexts.best)
    step = max(_fine_step(contexts, low), _fine_step(contexts, high))
    return ContextRange(low=low, high=high, searched=searched, step=step)


def _edge(contexts: Contexts, last: int) -> Edge:
    """The nearest boundary that the rivals known show on the way to ``last``."""
    mine, inside = sizes_of(contexts.plan.layout), contexts.plan.case.workload.context_tokens
    for tokens in _outward(inside, last, STEP, GROWTH):
        if tokens != last and contexts.leader(tokens) == mine:
            continue
        if contexts.winner(tokens) != mine:
            return _between(contexts, inside, tokens)
        inside = tokens
    return Edge(tokens=inside, beyond_tokens=None, beyond=None, ends="the search")


def _nearest(contexts: Contexts, edge: Edge) -> Edge:
    """The nearest boundary this side of an edge: in each stretch up to it, everything that could win there is looked at."""
    mine, near = sizes_of(contexts.plan.layout), contexts.plan.case.workload.context_tokens
    inside = near
    for far in _outward(near, edge.tokens, math.exp(max(math.log(STRETCH), _reach(contexts, edge) / MOST_STRETCHES)), 1.0):
        others = contexts.contenders(min(near, far), max(near, far))
        contexts.rivals |= dict.fromkeys(others)
        for tokens in _outward(near, far, _fine_step(contexts, edge), 1.0) if others else ():
            if contexts.leader(tokens, [mine, *others]) == mine:
                continue
            if contexts.winner(tokens) != mine:
                return _between(contexts, inside, tokens)
            inside = tokens
        near = far
    return edge


def _between(contexts: Contexts, inside: int, outside: int) -> Edge:
    """The boundary between a context at which the plan's sizes are the best and one at which they are not."""
    mine = sizes_of(contexts.plan.layout)
    kept, beyond = contexts.boundary(inside, outside, lambda sizes: sizes == mine)
    layout = _layout_at(contexts, beyond)
    ends: Literal["another layout", "no layout"] = "no layout" if layout is None else "another layout"
    return Edge(tokens=kept, beyond_tokens=beyond, beyond=layout, ends=ends)


def _reach(contexts: Contexts, edge: Edge) -> float:
    """How far an edge is from the plan's context: the logarithm of their ratio."""
    reach: float = abs(math.log(edge.tokens / contexts.plan.case.workload.context_tokens))
    return reach


def _fine_step(contexts: Contexts, edge: Edge) -> float:
    """The ratio of the contexts looked at between the plan's own and an edge."""
    return max(FINE_STEP, math.exp(_reach(contexts, edge) / MOST_STEPS))


def _outward(start: int, last: int, ratio: float, growth: float) -> Iterator[int]:
    """Contexts from the start to the last, further and further apart."""
    tokens = start
    while tokens != last:
        further = math.ceil(tokens * ratio) if last > start else math.floor(tokens / ratio)
        tokens = min(further, last) if last > start else max(further, last)
        ratio = min(ratio**growth, LONGEST)
        yield tokens


def crossovers(contexts: Contexts) -> tuple[int, int, list[Crossover]]:
    """(from, to, where the best layout's KVP changes): the change nearest the lower end that is found in each doubling."""
    here = contexts.plan.case.workload.context_tokens
    marks = sorted({min(max(round(here * 2.0**octave), 1), MAX_CONTEXT) for octave in range(-OCTAVES, OCTAVES + 1)})
    found = (_crossing(contexts, below, above) for below, above in pairwise(marks))
    return marks[0], marks[-1], [one for one in found if one is not None]


def with_edges(contexts: Contexts, held: ContextRange, found: list[Crossover]) -> list[Crossover]:
    """The same with the changes of KVP at the edges of the plan's range, in order."""
    edges = [one for one in (_at_edge(contexts, held.low), _at_edge(contexts, held.high)) if one is not None]
    others = [one for one in found if not any(_same(one, edge) for edge in edges)]
    return sorted([*others, *edges], key=lambda one: one.below_tokens)


def _same(one: Crossover, other: Crossover) -> bool:
    """Whether two pairs of contexts overlap and tell the same change of KVP."""
    overlap = one.below_tokens < other.above_tokens and other.below_tokens < one.above_tokens
    return overlap and (one.below.kvp, one.above.kvp) == (other.below.kvp, other.above.kvp)


def _at_edge(contexts: Contexts, edge: Edge) -> Crossover | None:
    """The change of KVP at an edge of the plan's range; None where KVP stays, or nothing lies beyond."""
    inside = _layout_at(contexts, edge.tokens)
    if edge.beyond_tokens is None or edge.beyond is None or inside is None or inside.kvp == edge.beyond.kvp:
        return None
    (below, before), (above, after) = sorted(((edge.tokens, inside), (edge.beyond_tokens, edge.beyond)), key=lambda one: one[0])
    return Crossover(below_tokens=below, above_tokens=above, below=before, above=after)


def _crossing(contexts: Contexts, below: int, above: int) -> Crossover | None:
    """A change of KVP between two contexts whose best layouts differ in it; None where they do not, or one has none."""
    first, last = contexts.winner(below), contexts.winner(above)
    if first is None or last is None or first[0] == last[0]:
        return None
    inside, outside = contexts.boundary(below, above, lambda sizes: sizes is None or sizes[0] == first[0])
    before, after = _layout_at(contexts, inside), _layout_at(contexts, outside)
    if before is None or after is None:
        return None
    return Crossover(below_tokens=inside, above_tokens=outside, below=before, above=after)


def _layout_at(contexts: Contexts, tokens: int) -> PlanLayout | None:
    best = contexts.best[tokens]
    if best is None:
        return None
    case = contexts.plan.case.at_context(tokens)
    return Answer(case, contexts.plan.request, best.layout, best.batch).figures.layout


def _apart(one: int, other: int) -> bool:
    return abs(one - other) > 1 and max(one, other) > CLOSE * min(one, other)


def _middle(one: int, other: int) -> int:
    """Halfway in ratio, and between the two."""
    low, high = sorted((one, other))
    return min(max(round(math.sqrt(low * high)), low + 1), high - 1)
