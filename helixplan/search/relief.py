"""What would help an infeasible request: the nearest requests that work, each planned anew before it is offered."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Context

from helixplan.cost.case import Case
from helixplan.cost.step import attention_part, ffn_part
from helixplan.engines import engine_of, free
from helixplan.inputs.workload import BYTES_PER_ELEMENT, Request
from helixplan.layout import Layout, Layouts
from helixplan.search.infeasible import pinned_gpus, wider_sizes
from helixplan.search.optimum import feasible, feasible_sizes, find_best, find_optimum
from helixplan.search.rules import BATCH, MEMORY, TTL, budget_rule, families_named
from helixplan.search.space import replica_sizes
from helixplan.units import format_context, parse_seconds

MOST_MEMORY = 950
"""Thousandths of a GPU's memory that a relaxation goes up to: servers need the rest."""


@dataclass(frozen=True)
class Change:
    """A request near the one that failed: what is changed, along which axis, and what is asked then."""

    axis: str
    """"ttl", "batch", "context", "gpus", "kv", "weights", "memory-utilization", "engine", "family", or a pin as ``kvp=8``."""
    said: str
    case: Case
    request: Request


@dataclass(frozen=True)
class Relief:
    """Changes that together make the request work, and the best layout then."""

    changes: tuple[Change, ...]
    layout: Layout
    batch: int

    @property
    def case(self) -> Case:
        return self.changes[-1].case

    @property
    def request(self) -> Request:
        return self.changes[-1].request


def find_relief(case: Case, request: Request, members: list[str]) -> list[Relief]:
    """Single changes that make the request work, each of them planned anew; only what touches the conflict can."""
    found: list[Relief] = []
    for change in _nearby(case, request, members):
        # Of dtypes the widest that works is the cheapest.
        if change.axis in ("kv", "weights") and any(change.axis == relief.changes[0].axis for relief in found):
            continue
        relief = planned(change)
        found += [] if relief is None else [relief]
    return found


def planned(*changes: Change) -> Relief | None:
    """The plan of the last of some changes, each made on top of the one before; None where there is none."""
    optimum = find_optimum(changes[-1].case, changes[-1].request)
    return None if optimum is None else Relief(changes, optimum.layout, optimum.batch)


def touches(axis: str, case: Case, request: Request, members: list[str]) -> bool:
    """Whether a change along an axis can end a conflict of these members."""
    if axis == "engine":
        engine = engine_of(case)
        return engine is not None and bool({TTL, *(rule.name for rule in engine.rules)} & {*members})
    if axis in ("kv", "weights", "memory-utilization", "context"):
        return TTL in members or MEMORY in members
    if axis == "family":
        return bool({rule.name for family in families_named(request.family) for rule in family.rules} & {*members})
    return {"ttl": TTL, "batch": BATCH, "gpus": budget_rule(request)}.get(axis, f"pin {axis}") in members


def _nearby(case: Case, request: Request, members: list[str]) -> Iterator[Change]:
    """The nearest along every axis that touches the conflict; some of those that cannot be measured may not work."""
    if TTL in members:
        yield from least_ttl(case, request)
    if budget_rule(request) in members:
        yield from _other_sizes(case, request)
    if BATCH in members:
        yield from most_requests(case, request)
    yield from (change for change in without_pins(case, request) if touches(change.axis, case, request, members))
    if TTL in members or MEMORY in members:
        yield from narrower(case, request)
        yield from _roomier(case, request)
        yield from longest_context(case, request)
    if touches("engine", case, request, members):
        yield from without_engine(case, request)
    if touches("family", case, request, members):
        yield from any_family(case, request)


def without_engine(case: Case, request: Request) -> Iterator[Change]:
    """Any engine's layouts, where one was asked for."""
    if engine_of(case) is not None:
        yield Change("engine", "--engine none", free(case), request)


def least_ttl(case: Case, request: Request) -> Iterator[Change]:
    """The smallest TTL there is."""
    fastest = find_best(case, replace(request, ttl_s=None, objective="interactivity"))
    if fastest is not None:
        yield at_ttl(case, request, _ttl(case, fastest.layout, fastest.batch))


def at_ttl(case: Case, request: Request, seconds: float) -> Change:
    """Another TTL, of four digits."""
    ttl = _rounded_up(seconds)
    return Change("ttl", f"--ttl {ttl}", case, replace(request, ttl_s=parse_seconds(ttl, "ttl_s")))


def most_requests(case: Case, request: Request) -> Iterator[Change]:
    """The largest batch there is."""
    most = find_best(case, replace(request, batch=None, objective="users"))
    if most is not None:
        yield Change("batch", f"--batch {most.batch}", case, replace(request, batch=most.batch))


def longest_context(case: Case, request: Request, at_least: int = 1) -> Iterator[Change]:
    """The longest context that works, of those no shorter than some."""
    context = _longest_context(case, request, at_least)
    if context is not None:
        yield Change("context", f"--context {format_context(context)}", case.at_context(context), request)


def without_pins(case: Case, request: Request) -> Iterator[Change]:
    """Each pin dropped."""
    for name, value in request.pins.items():
        rest = {pin: kept for pin, kept in request.pins.items() if pin != name}
        yield Change(f"{name}={value}", f"without --pin {name}={value}", case, replace(request, pins=rest))


def any_family(case: Case, request: Request) -> Iterator[Change]:
    """Any family, where one was asked for."""
    if request.family != "any":
        yield Change("family", "--family any", case, replace(request, family="any"))


def _other_sizes(case: Case, request: Request) -> Iterator[Change]:
    """The nearest numbers of GPUs that work, below and above the ones asked for."""
    below = [size for size in wider_sizes(case, request) if size < max(replica_sizes(case, request))]
    nearest = [*feasible_sizes(case, request, below)[-1:], *more_gpus(case, request)]
    yield from (on_gpus(case, request, gpus) for gpus in nearest)


def more_gpus(case: Case, request: Request) -> list[int]:
    """The fewest GPUs above those asked for that work; empty where none of ``wider_sizes`` does."""
    wider = [size for size in wider_sizes(case, request) if size > max(replica_sizes(case, request))]
    found = feasible_sizes(case, request, wider)[:1]
    if not found:
        return []
    unit = pinned_gpus(request)
    below = range(unit, found[0] + 1, unit)
    return feasible_sizes(case, request, [size for size in below if size > max(replica_sizes(case, request))])[:1]


def on_gpus(case: Case, request: Request, gpus: int) -> Change:
    """On another number of GPUs: exactly so many where the request says exactly, else at most."""
    if request.gpus is not None:
        return Change("gpus", f"--gpus {gpus}", case, replace(request, gpus=gpus))
    return Change("gpus", f"--max-gpus {gpus}", case, replace(request, max_gpus=gpus))


def _roomier(case: Case, request: Request) -> Iterator[Change]:
    """The smallest share of a GPU's memory that works, where less than usual is allowed."""
    low, high = int(case.workload.memory_utilization * 1000), MOST_MEMORY
    if low < high and feasible(using(case, high), request):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if feasible(using(case, middle), request) else (middle, high)
        yield Change("memory-utilization", f"--memory-utilization {high / 1000:g}", using(case, high), request)


def using(case: Case, thousandths: int) -> Case:
    """The same with another share of a GPU's memory."""
    return replace(case, workload=replace(case.workload, memory_utilization=thousandths / 1000))


def narrower(case: Case, request: Request) -> Iterator[Change]:
    """The next narrower dtypes: for the cache those that there are, for the weights those that engines unpack on such a GPU."""
    weights = ("fp8", "nvfp4" if "fp4" in case.hardware.gpu.flops_per_s else "int4")
    widest = max(BYTES_PER_ELEMENT[case.precision.of(part)] for part in ("attention", "dense", "experts", "shared"))
    for dtype in ("fp8", "nvfp4"):
        if BYTES_PER_ELEMENT[dtype] < case.machine.kv_bytes:
            yield Change("kv", f"--kv {dtype}", replace(case, workload=replace(case.workload, kv_dtype=dtype)), request)
    for dtype in weights:
        if BYTES_PER_ELEMENT[dtype] < widest:
            changed = replace(case, workload=replace(case.workload, weight_dtype=dtype))
            yield Change("weights", f"--weights {dtype}", changed, request)


def _longest_context(case: Case, request: Request, at_least: int) -> int | None:
    """The longest context that works, rounded down to three digits: neither memory nor TTL falls as context grows."""
    if not feasible(case.at_context(at_least), request):
        return None
    low, high = at_least, case.workload.context_tokens
    while high - low > max(1, low // 2000):
        middle = round(math.sqrt(low * high)) if high > 4 * low else (low + high) // 2
        low, high = (middle, high) if feasible(case.at_context(middle), request) else (low, middle)
    step = int(10 ** max(0, len(str(low)) - 3))
    return low // step * step


def _ttl(case: Case, layout: Layout, batch: int) -> float:
    row = Layouts.of(layout)
    return float(attention_part(case, row, batch).seconds[0] + ffn_part(case, row, batch).seconds[0])


def _rounded_up(seconds: float) -> str:
    """A time to four significant digits, never below, as ``parse_seconds`` reads it: "9.469ms"."""
    four_digits = Context(prec=4, rounding=ROUND_CEILING)
    return f"{four_digits.create_decimal_from_float(seconds * 1e3):f}ms"
