"""Why there is no plan: a smallest set of requests and rules that clash."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case
from helixplan.cost.memory import memory_limit
from helixplan.cost.step import attention_part, ffn_part
from helixplan.errors import Conflict
from helixplan.inputs.workload import MAX_GPUS, PINS, Request
from helixplan.layout import Layouts
from helixplan.numeric import Bools, Floats, Ints, blocks
from helixplan.rule import AttentionRule, FfnRule, Rule
from helixplan.search.rules import BATCH, DOMAIN, MEMORY, TTL, budget_rule, families_named, rules_asked_for, rules_in_force
from helixplan.search.solver import smallest_conflict
from helixplan.search.space import (
    ATTENTION_PINS,
    FFN_PINS,
    Space,
    attention_halves,
    ffn_halves,
    join,
    ranges,
    replica_sizes,
    tie,
)
from helixplan.units import exact_seconds, format_bytes, format_context, format_counted, format_seconds, told_apart

WIDER, WIDEST, MOST_LOOKED_AT = 8, (16, 32), 256
"""On how many domains of the fast link a larger replica is looked for: every number of GPUs of the first so many, and these many
whole ones, or as many as pins let be filled, where they have no more GPUs than that. (Where only those do, ``relief.more_gpus``
looks at what lies between.)"""


@dataclass(frozen=True)
class _Candidates:
    """Whole layouts of a space in which nothing is forbidden, at batch 1 and at the batch asked for.

    Of each combination of broken assumptions one entry: the least seconds and bytes of any layout that breaks just those, and the
    KV cache among those bytes.
    """

    sizes: list[int]
    names: list[str]
    broken: Ints
    seconds: Floats
    bytes: Floats
    cache: Floats


def find_conflict(case: Case, request: Request, sizes: list[int] | None = None) -> list[Conflict]:
    """A smallest conflict of an infeasible request: drop any one member and a layout exists.

    Over ``wider_sizes`` of replicas, or over ``sizes``.

    A candidate that breaks assumptions V exists once they are all dropped; so a set of assumptions clashes exactly where
    every candidate breaks one of them. The solver finds the smallest such set, the user's own requests before the rules.
    """
    found = _candidates(case, request, sizes or wider_sizes(case, request))
    own = [name for name in found.names if _is_request(name)]
    preference = [own.index(name) if name in own else len(own) + place for place, name in enumerate(found.names)]
    bits = smallest_conflict(np.unique(found.broken), len(found.names), preference)
    members = [found.names[bit] for bit in bits]
    return [Conflict(name, _detail(case, request, name, members, found)) for name in members]


def wider_sizes(case: Case, request: Request) -> list[int]:
    """Replica sizes beyond those asked for: up to a domain, many where a link joins them, and what pins imply."""
    wires = case.hardware.interconnect
    domains = WIDER if wires.scale_out_bytes_per_s is not None else 1
    sizes = {*replica_sizes(case, request), *range(1, domains * wires.domain_gpus + 1)}
    if wires.scale_out_bytes_per_s is not None:
        unit = pinned_gpus(request)
        sizes |= {unit * count for count in range(1, WIDER + 1)}
        whole = math.lcm(unit, wires.domain_gpus)
        most = (size for size in (count * wires.domain_gpus for count in WIDEST) if size <= MOST_LOOKED_AT)
        sizes |= {size // whole * whole for size in most if size >= whole}
    return sorted(size for size in sizes if size <= MAX_GPUS)


def pinned_gpus(request: Request) -> int:
    """What the GPUs of every layout that keeps the pins are a multiple of."""
    pins = {name: request.pins.get(name, 1) for name in PINS}
    return math.lcm(pins["kvp"] * pins["tpa"] * pins["dp"], pins["tpf"] * pins["ep"]) * pins["pp"]


def _is_request(name: str) -> bool:
    return name in (TTL, BATCH, "gpus", "max-gpus") or name.startswith("pin ")


def _candidates(case: Case, request: Request, sizes: list[int]) -> _Candidates:
    families = families_named(request.family)
    names = [rule.name for rule in rules_asked_for(case, request)]
    names += [*(f"pin {name}={value}" for name, value in request.pins.items()), budget_rule(request), MEMORY]
    names += ([BATCH] if request.batch is not None else []) + ([TTL] if request.ttl_s is not None else [])
    found = []
    for family in families:
        attention = attention_halves(case, sizes, family)
        ffn = ffn_halves(attention, family, only_own_group=family.ffn_on_tpa)
        tied = np.where(family.ffn_on_tpa, ffn.tpf * ffn.ep, 0)
        space = join([(attention, tie(attention, family))], [(ffn, tied)])
        rules = rules_in_force(case, family)
        bits = [
            _broken(case, request, names, rules, space.attention.rows, AttentionRule),
            _broken(case, request, names, rules, space.ffn.rows, FfnRule),
        ]
        for batch in sorted({1, request.batch or 1}):
            off = request.batch is not None and batch != request.batch
            found.append(_combinations(case, request, names, space, bits, batch, 1 << names.index(BATCH) if off else 0))
    return _Candidates(sizes, names, *(np.concatenate(column) for column in zip(*found, strict=True)))


def _broken(case: Case, request: Request, names: list[str], rules: tuple[Rule, ...], rows: Layouts, kind: type[Rule]) -> Ints:
    """A bit for each assumption that each half breaks.  -> (M,)"""
    bits = np.zeros(len(rows), dtype=np.int64)

    def mark(name: str, broken: Bools) -> None:
        np.bitwise_or(bits, np.where(broken, 1 << names.index(name), 0), out=bits)

    for rule in rules:
        if isinstance(rule, kind):
            mark(rule.name, ~np.broadcast_to(np.asarray(rule.holds(case, rows), dtype=bool), bits.shape))
    for name in ATTENTION_PINS if kind is AttentionRule else FFN_PINS:
        if name in request.pins:
            mark(f"pin {name}={request.pins[name]}", getattr(rows, name) != request.pins[name])
    if kind is AttentionRule:
        mark(budget_rule(request), ~np.isin(rows.gpus, replica_sizes(case, request)))
    return bits


def _combinations(
    case: Case, request: Request, names: list[str], space: Space, bits: list[Ints], batch: int, always: int
) -> tuple[Ints, Floats, Floats, Floats]:
    """Of every combination of broken assumptions at one batch: (its bits, least seconds, least bytes, KV cache among those).

    Halves that break the same and lie on one key are first thinned to those no other beats in both seconds and bytes.
    """
    thin = []
    for halves, broken, part in ((space.attention, bits[0], attention_part), (space.ffn, bits[1], ffn_part)):
        key = np.repeat(np.arange(space.keys), halves.count)
        scored = [part(case, halves.rows[rows], batch) for rows in blocks(np.arange(len(key)))]
        seconds = np.concatenate([one.seconds for one in scored])
        held = np.concatenate([one.held_bytes for one in scored], axis=1)
        cache = np.concatenate([one.cache_bytes for one in scored], axis=1)
        kept = _front(key, broken, seconds, held)
        thin.append((key[kept], broken[kept], seconds[kept], held[:, kept], cache[:, kept]))
    (a_key, a_broken, a_seconds, a_bytes, a_cache), (f_key, f_broken, f_seconds, f_bytes, _) = thin
    count = np.bincount(f_key, minlength=space.keys)
    a = np.repeat(np.arange(len(a_key)), count[a_key])
    f = ranges((np.cumsum(count) - count)[a_key], count[a_key])
    seconds, stages = a_seconds[a] + f_seconds[f], a_bytes[:, a] + f_bytes[:, f]
    fullest = stages.argmax(axis=0)
    held, cache = stages[fullest, np.arange(len(a))], a_cache[fullest, a]
    broken = a_broken[a] | f_broken[f] | always
    broken |= np.where(held > memory_limit(case), 1 << names.index(MEMORY), 0)
    if request.ttl_s is not None:
        broken |= np.where(seconds > request.ttl_s, 1 << names.index(TTL), 0)
    order = np.lexsort((held, broken))
    found, starts = np.unique(broken[order], return_index=True)
    least = order[starts]
    return found, np.minimum.reduceat(seconds[order], starts), held[least], cache[least]


def _front(key: Ints, broken: Ints, seconds: Floats, held: Floats) -> Ints:
    """Of each key and combination the halves that are fastest, or need less memory than every faster one; sorted by key.

    By rounds: each takes the fastest half left of every group and drops those that need as much memory or more.
    """
    left = np.lexsort((held.sum(axis=0), seconds, broken, key))
    kept = []
    while len(left):
        first = np.ones(len(left), dtype=bool)
        first[1:] = (key[left[1:]] != key[left[:-1]]) | (broken[left[1:]] != broken[left[:-1]])
        leader = left[first]
        kept.append(leader)
        left = left[np.any(held[:, left] < held[:, leader[np.cumsum(first) - 1]], axis=0)]
    rows = np.concatenate(kept)
    return rows[np.argsort(key[rows], kind="stable")]


def _detail(case: Case, request: Request, name: str, members: list[str], found: _Candidates) -> str:
    """What one member says here, in words and numbers."""
    if name == MEMORY:
        place = _least(found, found.bytes, members, name)
        least, cache = found.bytes[place], found.cache[place]
        at = format_context(case.workload.context_tokens)
        most = "" if budget_rule(request) in members else f" on up to {format_counted(max(found.sizes), 'GPU')}"
        parts = f"KV cache {format_bytes(cache)}, weights and all else {format_bytes(least - cache)}"
        may, needs = told_apart(memory_limit(case), least, format_bytes)
        return f"a GPU may hold {may}, and at {at} tokens the rest leaves no layout{most} under {needs}: {parts}"
    if name == TTL:
        assert request.ttl_s is not None
        least = found.seconds[_least(found, found.seconds, members, name)]
        _, takes = told_apart(request.ttl_s, least, format_seconds)
        asked = np.min(found.seconds, where=found.broken == 1 << found.names.index(TTL), initial=np.inf)
        if np.isfinite(asked) and asked > (1 + 1e-9) * least:
            takes += f", nor under {told_apart(least, asked, format_seconds)[1]} with all else that is asked for"
        return f"a token may take at most {exact_seconds(request.ttl_s, ' ')}, and the rest leaves no layout under {takes}"
    if name.startswith("pin "):
        never = np.all(found.broken >> found.names.index(name) & 1)
        why = f"; no layout of {case.model.name} has it without splitting a head or a stage" if never else ""
        return f"asked for with --{name}{why}"
    domain = case.hardware.interconnect.domain_gpus
    said = {
        "gpus": f"asked for exactly {format_counted(request.gpus or 0, 'GPU')}",
        "max-gpus": f"asked for at most {format_counted(request.max_gpus or 0, 'GPU')}",
        DOMAIN: f"a replica stays within one domain of the fast link, {domain} GPUs, unless --gpus or --max-gpus says otherwise",
        BATCH: f"asked for {format_counted(request.batch or 0, 'concurrent request')}",
    }
    return said.get(name) or next(rule.reason for rule in rules_asked_for(case, request) if rule.name == name)


def _least(found: _Candidates, values: Floats, members: list[str], but: str) -> int:
    """Where a sum is least of the candidates that keep every other member of the conflict."""
    others = sum(1 << bit for bit, name in enumerate(found.names) if name in members and name != but)
    return int(np.argmin(np.where(found.broken & others == 0, values, np.inf)))
