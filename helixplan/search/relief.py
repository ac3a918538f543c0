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
from helixplan.search.infeasible import wider_sizes
from helixplan.search.optimum import feasible, feasible_sizes, find_optimum
from helixplan.search.rules import BATCH, MEMORY, TTL, budget_rule, families_named
from helixplan.search.space import replica_sizes
from helixplan.units import format_context, parse_seconds

MOST_MEMORY = 950
"""Thousandths of a GPU's memory that a relaxation goes up to: servers need the rest."""


@dataclass(frozen=True)
class Relief:
    """A request near the one that failed, that works: what to change, and the best layout then."""

    change: str
    case: Case
    request: Request
    layout: Layout
    batch: int


def find_relief(case: Case, request: Request, members: list[str]) -> list[Relief]:
    """Single changes that make the request work, each of them planned anew; only what touches the conflict can."""
    found = []
    for change, new_case, new_request in _nearby(case, request, members):
        optimum = find_optimum(new_case, new_request)
        if optimum is not None:
            found.append(Relief(change, new_case, new_request, optimum.layout, optimum.batch))
    return found


def _nearby(case: Case, request: Request, members: list[str]) -> Iterator[tuple[str, Case, Request]]:
    if TTL in members:
        yield from _slower(case, request)
    if budget_rule(request) in members:
        yield from _larger(case, request)
    if BATCH in members:
        most = find_optimum(case, replace(request, batch=None, objective="users"))
        if most is not None:
            yield f"--batch {most.batch}", case, replace(request, batch=most.batch)
    for name, value in request.pins.items():
        if f"pin {name}={value}" in members:
            rest = {pin: kept for pin, kept in request.pins.items() if pin != name}
            yield f"without --pin {name}={value}", case, replace(request, pins=rest)
    if TTL in members or MEMORY in members:
        yield from _narrower(case, request)
        yield from _roomier(case, request)
        context = _longest_context(case, request)
        if context is not None:
            shorter = replace(case, workload=replace(case.workload, context_tokens=context))
            yield f"--context {format_context(context)}", shorter, request
    yield from _without_engine(case, request, members)
    family_rules = {rule.name for family in families_named(request.family) for rule in family.rules}
    if request.family != "any" and family_rules & {*members}:
        yield "--family any", case, replace(request, family="any")


def _without_engine(case: Case, request: Request, members: list[str]) -> Iterator[tuple[str, Case, Request]]:
    """Any engine's layouts, where its rules clash or its communication may cost the time."""
    engine = engine_of(case)
    if engine is not None and {TTL, *(rule.name for rule in engine.rules)} & {*members}:
        yield "--engine none", free(case), request


def _slower(case: Case, request: Request) -> Iterator[tuple[str, Case, Request]]:
    """The smallest TTL there is."""
    fastest = find_optimum(case, replace(request, ttl_s=None, objective="interactivity"))
    if fastest is not None:
        ttl = _rounded_up(_ttl(case, fastest.layout, fastest.batch))
        yield f"--ttl {ttl}", case, replace(request, ttl_s=parse_seconds(ttl, "ttl_s"))


def _larger(case: Case, request: Request) -> Iterator[tuple[str, Case, Request]]:
    """The nearest numbers of GPUs that work, below and above the ones asked for."""
    sizes = feasible_sizes(case, request, wider_sizes(case, request))
    asked = max(replica_sizes(case, request))
    nearest = [max((n for n in sizes if n < asked), default=None), min((n for n in sizes if n > asked), default=None)]
    for gpus in nearest:
        if gpus is not None and request.gpus is not None:
            yield f"--gpus {gpus}", case, replace(request, gpus=gpus)
        elif gpus is not None:
            yield f"--max-gpus {gpus}", case, replace(request, max_gpus=gpus)


def _roomier(case: Case, request: Request) -> Iterator[tuple[str, Case, Request]]:
    """The smallest share of a GPU's memory that works, where less than usual is allowed."""

    def using(thousandths: int) -> Case:
        return replace(case, workload=replace(case.workload, memory_utilization=thousandths / 1000))

    low, high = int(case.workload.memory_utilization * 1000), MOST_MEMORY
    if low < high and feasible(using(high), request):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if feasible(using(middle), request) else (middle, high)
        yield f"--memory-utilization {high / 1000:g}", using(high), request


def _narrower(case: Case, request: Request) -> Iterator[tuple[str, Case, Request]]:
    """The next narrower dtypes that the GPU computes in, for the cache and for the weights."""
    dtypes = [dtype for dtype, math_dtype in (("fp8", "fp8"), ("nvfp4", "fp4")) if math_dtype in case.hardware.gpu.flops_per_s]
    widest = max(BYTES_PER_ELEMENT[case.precision.of(part)] for part in ("attention", "dense", "experts", "shared"))
    for dtype in dtypes:
        if BYTES_PER_ELEMENT[dtype] < case.machine.kv_bytes:
            yield f"--kv {dtype}", replace(case, workload=replace(case.workload, kv_dtype=dtype)), request
        if BYTES_PER_ELEMENT[dtype] < widest:
            yield f"--weights {dtype}", replace(case, workload=replace(case.workload, weight_dtype=dtype)), request


def _longest_context(case: Case, request: Request) -> int | None:
    """The longest context that works, rounded down to three digits: neither memory nor TTL falls as context grows."""

    def works(tokens: int) -> bool:
        return feasible(replace(case, workload=replace(case.workload, context_tokens=tokens)), request)

    if not works(1):
        return None
    low, high = 1, case.workload.context_tokens
    while high - low > max(1, low // 2000):
        middle = round(math.sqrt(low * high)) if high > 4 * low else (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    step = int(10 ** max(0, len(str(low)) - 3))
    return low // step * step


def _ttl(case: Case, layout: Layout, batch: int) -> float:
    row = Layouts.of(layout)
    return float(attention_part(case, row, batch).seconds[0] + ffn_part(case, row, batch).seconds[0])


def _rounded_up(seconds: float) -> str:
    """A time to four significant digits, never below, as ``parse_seconds`` reads it: "9.469ms"."""
    four_digits = Context(prec=4, rounding=ROUND_CEILING)
    return f"{four_digits.create_decimal_from_float(seconds * 1e3):f}ms"
