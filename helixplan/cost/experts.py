"""How unevenly a batch lands on the experts: the rank everybody waits for (docs/cost-model.md, "The hottest rank")."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from helixplan.numeric import Amount, Floats, Ints, distinct

LONGEST_TABLE = 100_000
"""What was worked out is kept where no more numbers of tokens tell models apart."""


@lru_cache(maxsize=8192)
def expected_largest_normal(ranks: int) -> float:
    """z: the mean of the largest of ``ranks`` standard normal draws; 0 for one.

    The integral of 1 - F^p over the positive axis less that of F^p over the negative one, by the trapezoid rule on a grid
    fine enough for 1e-9.
    """
    if ranks == 1:
        return 0.0
    above, step = _normal_tail()
    return float(np.trapezoid((1 - (1 - above) ** ranks) - above**ranks, dx=step))


@lru_cache(maxsize=1)
def _normal_tail() -> tuple[Floats, float]:
    """The chance that a normal draw lies above x, which by symmetry is F(-x), on a grid of x; and the grid's step."""
    x, step = np.linspace(0.0, 12.0, 4001, retstep=True)
    return np.array([0.5 * math.erfc(value / math.sqrt(2)) for value in x]), float(step)


def busiest_pairs(per_token: int, ep: Amount, tokens: Amount) -> tuple[Floats, Floats]:
    """Token-expert pairs of a rank: (the mean, the expected most over ``ep`` ranks).

    P = mu + z sqrt(mu) with mu = tokens k / ep.
    """
    ep = np.asarray(ep, dtype=float)
    mean = tokens * per_token / ep
    z = _by_distinct(ep, expected_largest_normal)
    return mean, mean + z * np.sqrt(mean)


def active_experts(experts: int, per_token: int, ep: Amount, tokens: Amount) -> Floats:
    """A: the expected number of experts hit on the rank where most are.

    An expert is hit with p = 1 - (1 - k/E)^tokens; a rank holds e = ceil(E/ep), so the most over ep ranks is
    sum_{x=0}^{e-1} (1 - Bin(x; e, p)^ep) with Bin the binomial distribution function.
    """
    ep, tokens = np.broadcast_arrays(np.asarray(ep, dtype=float), np.asarray(tokens, dtype=float))
    tokens = np.minimum(tokens, _saturation(experts, per_token))
    few, index = distinct(ep)
    result = np.empty(ep.shape)
    for place, p in enumerate(few.astype(int).tolist()):
        rows = np.flatnonzero(index == place) if len(few) > 1 else slice(None)
        mine = tokens[rows]
        if _saturation(experts, per_token) < LONGEST_TABLE:
            result[rows] = _looked_up(experts, per_token, p, mine.astype(np.int64))
        else:
            counts, back = distinct(mine)
            result[rows] = _active_on(experts, per_token, p, counts)[back]
    return result


def _looked_up(experts: int, per_token: int, ep: int, tokens: Ints) -> Floats:
    """A for one EP width, worked out once for every number of tokens that is ever asked for."""
    known = _known(experts, per_token, ep)
    values = known[tokens]
    lacking = np.isnan(values)
    if lacking.any():
        counts, _ = distinct(tokens[lacking])
        known[counts.astype(np.int64)] = _active_on(experts, per_token, ep, counts)
        values = known[tokens]
    return values


@lru_cache(maxsize=1024)
def _saturation(experts: int, per_token: int) -> float:
    """Tokens past which a missed expert is rarer than a float can tell from never, so that every batch costs the same."""
    return 1.0 if per_token == experts else math.ceil(math.log(1e-18 / experts) / math.log1p(-per_token / experts))


@lru_cache(maxsize=1024)
def _known(experts: int, per_token: int, ep: int) -> Floats:
    """Of every number of tokens up to where A no longer changes what is known of it: filled in place, NaN at first."""
    return np.full(int(_saturation(experts, per_token)) + 1, np.nan)


def _active_on(experts: int, per_token: int, ep: int, tokens: Floats) -> Floats:
    """A for one EP width and many token counts.  -> (len(tokens),)"""
    held = -(-experts // ep)
    missed = (1 - per_token / experts) ** tokens
    if ep == 1:
        return held * (1 - missed)
    x = np.arange(held, dtype=float)
    log_choose = _log_choose(held)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_miss = np.log(missed)[:, None]
        log_hit = np.log1p(-missed)[:, None]
        # x = 0 hits contribute 0 log(p), which is 0 even where p is 0; a miss chance of 0 leaves no mass below e.
        log_mass = log_choose + np.where(x > 0, x * log_hit, 0.0) + (held - x) * log_miss
    below = np.minimum(np.cumsum(np.exp(np.where(np.isnan(log_mass), -np.inf, log_mass)), axis=1), 1.0)
    return np.asarray((1 - below**ep).sum(axis=1))


@lru_cache(maxsize=1024)
def _log_choose(held: int) -> Floats:
    """ln of the ways to choose 0, 1, ... held - 1 of so many.  -> (held,)"""
    return np.array([math.lgamma(held + 1) - math.lgamma(i + 1) - math.lgamma(held - i + 1) for i in range(held)])


def _by_distinct(values: Floats, function: Callable[[int], float]) -> Floats:
    few, index = distinct(values)
    return np.asarray(np.array([function(int(value)) for value in few])[index])
