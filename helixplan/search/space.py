"""The candidates: attention halves and FFN halves of layouts, and the key on which two halves must agree to be a layout."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from helixplan.cost.case import Case
from helixplan.inputs.workload import PINS, Request
from helixplan.layout import AUTO, EXCHANGE_CODES, LATENT, VALUE, Layouts, whole_heads
from helixplan.numeric import Bools, Ints
from helixplan.rule import AttentionRule, FfnRule, kept
from helixplan.search.rules import SAME_GPUS_BOTH_PHASES, Family, families_named, rules_in_force

ATTENTION_PINS = ("kvp", "tpa", "dp", "pp")
FFN_PINS = ("tpf", "ep")
assert {*ATTENTION_PINS, *FFN_PINS} == {*PINS}


@dataclass(frozen=True)
class Halves:
    """Rows of one kind, sorted by key: of key k, those from ``start[k]`` on, ``count[k]`` of them.

    In an attention half tpf and ep are fillers, in an FFN half kvp and exchange are (tpa holds the attention group).
    """

    rows: Layouts
    start: Ints
    count: Ints

    def of_keys(self, keys: Ints) -> tuple[Ints, Ints]:
        """The rows of each key in turn, and which entry of ``keys`` each belongs to."""
        counts = self.count[keys]
        return ranges(self.start[keys], counts), np.repeat(np.arange(len(keys)), counts)


@dataclass(frozen=True)
class Space:
    """All halves of a family set on some sizes of replica. Key k has ``gpus[k]`` GPUs a replica."""

    attention: Halves
    ffn: Halves
    gpus: Ints

    @property
    def keys(self) -> int:
        return len(self.gpus)

    @cached_property
    def layouts_of_key(self) -> Ints:
        """Whole layouts of each key, exchange and batch apart."""
        key = np.repeat(np.arange(self.keys), self.attention.count)
        pairs = np.unique(np.stack([key, self.attention.rows.kvp]), axis=1)
        return np.asarray(np.bincount(pairs[0], minlength=self.keys) * self.ffn.count)

    def whole(self, attention_rows: Ints, ffn_rows: Ints) -> Layouts:
        """The layouts that pairs of halves make."""
        a, f = self.attention.rows[attention_rows], self.ffn.rows[ffn_rows]
        return Layouts(a.kvp, a.tpa, f.tpf, f.ep, a.dp, a.pp, a.exchange, a.overlap_chunks)


def ranges(starts: Ints, counts: Ints) -> Ints:
    """``start, start+1, ..., start+count-1`` of each pair, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total) + np.repeat(starts - (ends - counts), counts), dtype=np.int64)


def replica_sizes(case: Case, request: Request) -> list[int]:
    """The GPU counts a search may use: as asked, else any up to one domain of the fast link."""
    if request.gpus is not None:
        return [request.gpus]
    return list(range(1, (request.max_gpus or case.hardware.interconnect.domain_gpus) + 1))


def build_space(case: Case, request: Request, sizes: list[int] | None = None) -> Space:
    """Every allowed half: rules and pins kept, memory and latency not yet looked at. ``sizes``: instead of the request's."""
    sizes = sizes or replica_sizes(case, request)
    attention, ffn = [], []
    families = families_named(request.family)
    for family in families:
        rules = rules_in_force(case, family)
        attention_rows = attention_halves(case, sizes, family)
        fine = kept(rules, AttentionRule, case, attention_rows)
        if family.ffn_on_tpa and len(families) > 1:
            # With one KVP rank nobody waits: the layout is another family's already.
            fine &= attention_rows.kvp > 1
        attention_rows = attention_rows[fine & pinned(attention_rows, request, ATTENTION_PINS)]
        ffn_rows = ffn_halves(attention_rows, family, only_own_group=SAME_GPUS_BOTH_PHASES.name not in case.lifted)
        fine = kept(rules, FfnRule, case, ffn_rows)
        ffn_rows = ffn_rows[fine & pinned(ffn_rows, request, FFN_PINS)]
        attention.append((attention_rows, tie(attention_rows, family)))
        ffn.append((ffn_rows, np.where(family.ffn_on_tpa, ffn_rows.tpf * ffn_rows.ep, 0)))
    return join(attention, ffn)


def attention_halves(case: Case, sizes: list[int], family: Family) -> Layouts:
    """kvp, tpa, dp, pp and exchange of every way to lay attention on replicas of these sizes without splitting a head."""
    model = case.model
    stages = np.array([(size // pp, pp) for size in sizes for pp in range(1, min(size, model.layers) + 1) if size % pp == 0])
    divisors = _divisors(np.array([model.query_heads]))[1]
    kvp, tpa = (side.ravel() for side in np.meshgrid(divisors, divisors))
    sound = whole_heads(model, kvp, tpa)
    kvp, tpa = kvp[sound], tpa[sound]
    stage, split = np.nonzero(stages[:, :1] % (kvp * tpa) == 0)
    n, pp, kvp, tpa = stages[stage, 0], stages[stage, 1], kvp[split], tpa[split]
    rows = Layouts(kvp, tpa, n, 1, n // (kvp * tpa), pp, LATENT, 0 if family.overlaps else 1)  # type: ignore[arg-type]
    asked = EXCHANGE_CODES[case.exchange]
    if not model.is_latent or asked == LATENT:
        return rows
    exchanging = np.flatnonzero(rows.kvp > 1)
    if asked == AUTO:
        rows = rows[np.concatenate([np.arange(len(rows)), exchanging])]
        asked_of = np.where(np.arange(len(rows)) < len(rows) - len(exchanging), LATENT, VALUE)
    else:
        asked_of = np.where(rows.kvp > 1, VALUE, LATENT)
    return Layouts(rows.kvp, rows.tpa, rows.tpf, rows.ep, rows.dp, rows.pp, asked_of, rows.overlap_chunks)


def ffn_halves(attention: Layouts, family: Family, *, only_own_group: bool) -> Layouts:
    """tpf and ep of every way to lay the FFN under these attention halves.

    Its group is the stage (or TPA's GPUs, by family); with ``only_own_group`` off, any divisor of the stage.
    """
    n = attention.kvp * attention.tpa * attention.dp
    owner = np.unique(np.stack([n, attention.dp, attention.pp, tie(attention, family)]), axis=1)
    n, dp, pp, tied = owner
    group = np.where(tied > 0, tied, n)
    if not only_own_group:
        pick, group = _divisors(n)
        n, dp, pp = n[pick], dp[pick], pp[pick]
    pick, tpf = _divisors(group)
    n, dp, pp, group = n[pick], dp[pick], pp[pick], group[pick]
    return Layouts(np.ones_like(n), n // dp, tpf, group // tpf, dp, pp)


def tie(attention: Layouts, family: Family) -> Ints:
    """What, beside the stage, the two halves must agree on: TPA's GPUs where the FFN runs on those only, else nothing (0)."""
    return np.where(family.ffn_on_tpa, attention.tpa, 0)


def pinned(rows: Layouts, request: Request, names: tuple[str, ...]) -> Bools:
    """Where the rows have the values that the request pins."""
    fine: Bools = np.ones(len(rows), dtype=bool)
    for name in names:
        if name in request.pins:
            fine &= getattr(rows, name) == request.pins[name]
    return fine


def join(attention: list[tuple[Layouts, Ints]], ffn: list[tuple[Layouts, Ints]]) -> Space:
    """The space of the halves whose keys (dp, tie, GPUs a stage, pp) meet a partner's; each key and half once."""
    a_rows, a_keys = _gather(attention)
    f_rows, f_keys = _gather(ffn)
    found, inverse = np.unique(np.concatenate([a_keys, f_keys], axis=1), axis=1, return_inverse=True)
    inverse = inverse.reshape(-1)
    a_index, f_index = inverse[: a_keys.shape[1]], inverse[a_keys.shape[1] :]
    both = np.zeros(found.shape[1], dtype=bool)
    both[np.intersect1d(a_index, f_index)] = True
    renumber = np.cumsum(both) - 1
    found = found[:, both]
    return Space(
        attention=_sorted_halves(a_rows, renumber[a_index], both[a_index], found.shape[1]),
        ffn=_sorted_halves(f_rows, renumber[f_index], both[f_index], found.shape[1]),
        gpus=found[2] * found[3],
    )


def _gather(parts: list[tuple[Layouts, Ints]]) -> tuple[Layouts, Ints]:
    """Rows of all families, each once, and their keys.  -> (Layouts of M, (4, M))"""
    names = ("kvp", "tpa", "tpf", "ep", "dp", "pp", "exchange", "overlap_chunks")
    columns = np.stack([np.concatenate([np.asarray(getattr(rows, name)) for rows, _ in parts]) for name in names])
    tied = np.concatenate([ties for _, ties in parts])
    if len(parts) > 1:
        _, first = np.unique(np.vstack([columns, tied]), axis=1, return_index=True)
        columns, tied = columns[:, first], tied[first]
    rows = Layouts(*columns)
    return rows, np.stack([rows.dp, tied, rows.kvp * rows.tpa * rows.dp, rows.pp])


def _sorted_halves(rows: Layouts, keys: Ints, keep: Bools, count: int) -> Halves:
    keys, kept_rows = keys[keep], np.flatnonzero(keep)
    order = np.argsort(keys, kind="stable")
    counts = np.bincount(keys, minlength=count)
    return Halves(rows[kept_rows[order]], np.cumsum(counts) - counts, counts)


def _divisors(numbers: Ints) -> tuple[Ints, Ints]:
    """For each number in turn its divisors: (which number, divisor)."""
    if not len(numbers):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    distinct, index = np.unique(numbers, return_inverse=True)
    table = [[d for d in range(1, number + 1) if number % d == 0] for number in distinct.tolist()]
    counts = np.array([len(divisors) for divisors in table])
    flat = np.array([d for divisors in table for d in divisors])
    starts = np.cumsum(counts) - counts
    return np.repeat(np.arange(len(numbers)), counts[index]), flat[ranges(starts[index], counts[index])]
