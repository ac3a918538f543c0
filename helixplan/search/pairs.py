"""Pairs of changes that make an infeasible request work: where no single one does, or two small ones in place of a large one.

What can be measured (TTL, batch, context) is small where it lies at most halfway, in ratio, to what works along that axis
alone; along an axis on which nothing works alone, anything is. What cannot be measured (a dropped pin, a narrower dtype,
more GPUs, more of the memory; any family, where nothing works alone) comes in only where it does not work alone. Each
pair is planned anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice

from helixplan.cost.case import Case
from helixplan.inputs.workload import MAX_GPUS, Request
from helixplan.search.optimum import feasible, feasible_sizes
from helixplan.search.relief import (
    MOST_MEMORY,
    Change,
    Relief,
    any_family,
    at_ttl,
    least_ttl,
    longest_context,
    more_gpus,
    most_requests,
    narrower,
    on_gpus,
    planned,
    touches,
    using,
    without_engine,
    without_pins,
)
from helixplan.search.space import replica_sizes
from helixplan.units import format_context

MEASURED = ("ttl", "batch", "context")
MOST = 4
"""So many pairs are offered, the smallest first."""


def find_pairs(case: Case, request: Request, members: list[str], singles: list[Relief]) -> list[Relief]:
    """Pairs that help, smallest first: by how far, in ratio, the changes that can be measured go together."""
    half = _halfway(case, request, singles)
    no_use = _axes(singles) | ({"family"} if singles else set())
    firsts = [change for change in _unmeasured(case, request) if change.axis not in no_use]
    firsts += [] if singles else _fewer_gpus(case, request)
    firsts += half.values()
    firsts += [] if "ttl" in no_use else _timeless(case, request)
    alone = {change.said for relief in singles for change in relief.changes}
    firsts = [change for change in firsts if not feasible(change.case, change.request)]
    small = [(first, second) for first in firsts for second in _seconds(first, half) if second.said not in alone]
    small.sort(key=lambda pair: _length(case, request, pair[1]))
    best = {frozenset(change.axis for change in pair): pair for pair in reversed(small) if _touch(pair, case, request, members)}
    nearest = sorted(best.values(), key=lambda pair: _length(case, request, pair[1]))
    pairs = (planned(*tightened(case, request, *pair)) for pair in nearest)
    others = () if singles else _both_unmeasured(case, request, members)
    return [pair for pair in islice(chain(pairs, others), MOST) if pair is not None]


def _axes(singles: list[Relief]) -> set[str]:
    return {relief.changes[0].axis for relief in singles}


def _touch(changes: tuple[Change, ...], case: Case, request: Request, members: list[str]) -> bool:
    return any(touches(change.axis, case, request, members) for change in changes)


def _measure(axis: str, case: Case, request: Request) -> float | None:
    """What is asked along an axis, None where nothing is."""
    if axis == "context":
        return case.workload.context_tokens
    return request.ttl_s if axis == "ttl" else request.batch


def _halfway(case: Case, request: Request, singles: list[Relief]) -> dict[str, Change]:
    """Along every axis on which a single change works, the change that goes half its way in ratio."""
    half = {}
    for relief in singles:
        axis = relief.changes[0].axis
        asked = _measure(axis, case, request) if axis in MEASURED else None
        works = _measure(axis, relief.case, relief.request)
        if asked is not None and works is not None:
            middle = math.sqrt(asked * works)
            if axis == "ttl":
                half[axis] = at_ttl(case, request, middle)
            elif axis == "batch":
                half[axis] = Change(axis, f"--batch {round(middle)}", case, replace(request, batch=round(middle)))
            else:
                tokens = _three_digits(middle)
                half[axis] = Change(axis, f"--context {format_context(tokens)}", case.at_context(tokens), request)
    return half


def _three_digits(tokens: float) -> int:
    step = int(10 ** max(0, len(str(int(tokens))) - 3))
    return max(1, round(tokens / step)) * step


def _unmeasured(case: Case, request: Request) -> Iterator[Change]:
    """The changes that are made or not made."""
    yield from without_pins(case, request)
    yield from narrower(case, request)
    if int(case.workload.memory_utilization * 1000) < MOST_MEMORY:
        yield Change("memory-utilization", f"--memory-utilization {MOST_MEMORY / 1000:g}", using(case, MOST_MEMORY), request)
    yield from (on_gpus(case, request, gpus) for gpus in _more_gpus(case, request))
    yield from without_engine(case, request)
    yield from any_family(case, request)


def _timeless(case: Case, request: Request) -> Iterator[Change]:
    """The largest batch and the longest context that would do if time were no matter, the TTL asked for kept."""
    if request.ttl_s is None:
        return
    free = replace(request, ttl_s=None)
    changes = [*longest_context(case, free), *(most_requests(case, free) if request.batch is not None else ())]
    yield from (replace(change, request=replace(change.request, ttl_s=request.ttl_s)) for change in changes)


def _more_gpus(case: Case, request: Request) -> list[int]:
    """Twice the GPUs, and as many as it takes where time is no matter."""
    wires, most = case.hardware.interconnect, max(replica_sizes(case, request))
    more = {2 * most} if 2 * most <= (MAX_GPUS if wires.scale_out_bytes_per_s is not None else wires.domain_gpus) else set()
    if request.ttl_s is not None:
        more |= {*more_gpus(case, replace(request, ttl_s=None))}
    return sorted(more)


def _fewer_gpus(case: Case, request: Request) -> list[Change]:
    """Where just so many GPUs were asked for: the most below on which it works if time is no matter."""
    below = [*range(1, request.gpus or 1)]
    works = feasible_sizes(case, replace(request, ttl_s=None), below) if below else []
    return [on_gpus(case, request, gpus) for gpus in works[-1:]]


def _seconds(first: Change, half: dict[str, Change]) -> Iterator[Change]:
    """On top of a first change, the nearest along every other measured axis that works, where it is small."""
    for axis in MEASURED:
        if axis != first.axis and _measure(axis, first.case, first.request) is not None:
            yield from _nearest(axis, first, half.get(axis))


def _nearest(axis: str, first: Change, half: Change | None) -> Iterator[Change]:
    limit = None if half is None else _measure(axis, half.case, half.request)
    case, request = first.case, first.request
    if axis == "context":
        yield from longest_context(case, request, 1 if limit is None else int(limit))
    elif axis == "ttl" and feasible(case, replace(request, ttl_s=limit)):
        yield from least_ttl(case, request)
    elif axis == "batch" and feasible(case, replace(request, batch=1 if limit is None else int(limit))):
        yield from most_requests(case, request)


def tightened(case: Case, request: Request, first: Change, second: Change) -> tuple[Change, Change]:
    """The same pair, its first change going no further than the second lets it: that was chosen for the first as it stood."""
    there, asked = second.case, second.request
    found: Change | None = None
    if first.axis == "gpus":
        return _on_nearest(request, first, second)
    if first.axis == "ttl":
        found = next(least_ttl(there, asked), None)
    elif first.axis == "batch":
        found = next(most_requests(there, asked), None)
    elif first.axis == "context":
        unchanged = there.at_context(case.workload.context_tokens)
        found = next(longest_context(unchanged, asked, there.workload.context_tokens), None)
    value = None if found is None else _measure(first.axis, found.case, found.request)
    if found is None or value is None:
        return first, second
    return replace(_moved(first, first.axis, value), said=found.said), _moved(second, first.axis, value)


def _on_nearest(request: Request, first: Change, second: Change) -> tuple[Change, Change]:
    """The same pair on the number of GPUs nearest to what was asked for on which the second change still works."""
    asked, given = (max(replica_sizes(second.case, one)) for one in (request, second.request))
    between = [*range(asked + 1, given + 1)] if given > asked else [*range(given, asked)]
    # None where the second change works on what was asked for too: then no number is nearer.
    works = feasible_sizes(second.case, second.request, between) or [given]
    nearest = works[0] if given > asked else works[-1]
    moved = on_gpus(second.case, second.request, nearest)
    return on_gpus(first.case, first.request, nearest), replace(second, request=moved.request)


def _moved(change: Change, axis: str, value: float) -> Change:
    """The same with something else asked along a measured axis."""
    if axis == "context":
        return replace(change, case=change.case.at_context(int(value)))
    asked = replace(change.request, ttl_s=value) if axis == "ttl" else replace(change.request, batch=int(value))
    return replace(change, request=asked)


def _length(case: Case, request: Request, change: Change) -> float:
    """How far a change, with the one it stands on, goes: the logarithms of the ratios of measures and GPUs, added up."""
    length = 0.0
    for axis in MEASURED:
        asked, given = _measure(axis, case, request), _measure(axis, change.case, change.request)
        if asked is not None and given is not None:
            length += abs(math.log(given / asked))
    return length + abs(math.log(max(replica_sizes(change.case, change.request)) / max(replica_sizes(case, request))))


def _both_unmeasured(case: Case, request: Request, members: list[str]) -> Iterator[Relief]:
    """Two changes that cannot be measured; more GPUs come second, so that they are no more than the first change lets them."""
    found: set[tuple[str, str]] = set()
    for place, first in enumerate(firsts := [one for one in _unmeasured(case, request) if one.axis != "gpus"]):
        later = {change.axis for change in firsts[place + 1 :]} - {first.axis}
        seconds = [one for one in _unmeasured(first.case, first.request) if one.axis in later]
        seconds += [on_gpus(first.case, first.request, gpus) for gpus in more_gpus(first.case, first.request)]
        for second in seconds:
            axes = first.axis, second.axis
            # Of dtypes the widest that works is the cheapest.
            if axes not in found and _touch((first, second), case, request, members):
                pair = planned(first, second)
                if pair is not None:
                    found.add(axes)
                    yield pair
