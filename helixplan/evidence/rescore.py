"""Whether a plan is what its question gives when it is asked again: the layout by a new search, the figures, the ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from helixplan.assembly import make_plan
from helixplan.cost.case import Case
from helixplan.errors import InputError
from helixplan.layout import Layout, check_structure
from helixplan.plans import Plan
from helixplan.replay import request_of
from helixplan.rule import broken_rules
from helixplan.search.limits import cost_of_limits
from helixplan.search.optimum import find_optimum
from helixplan.search.rules import FAMILIES, rules_in_force
from helixplan.version import COST_MODEL_VERSION

ROUNDING = 1e-9
"""What rounding may leave between two ways of adding up the same figures, relative."""
MOST_TOLD = 40
"""Of findings about one plan; the rest are counted."""


def structural(plan: Plan, case: Case) -> list[str]:
    """What is wrong with the layout itself: heads split, GPUs that do not add up, rules broken that are said to be kept."""
    layout = plan.layout.layout
    try:
        check_structure(case.model, layout)
    except InputError as error:
        return [str(error)]
    if (plan.proof is None) == (plan.broken_rules is None):
        return ["proof and broken_rules: a search's answer has the one, an estimate the other"]
    if plan.proof is None:
        return []
    family = FAMILIES.get(plan.layout.family)
    if family is None:
        return [f"layout.family is {plan.layout.family!r}, which no search gives"]
    rules = rules_in_force(case, family)
    broken = [f"layout breaks {rule.name}: {rule.reason}" for rule in broken_rules(rules, case, layout)]
    if family.ffn_on_tpa and layout.ffn_group != layout.tpa:
        broken.append(f"layout.tpf x ep is {layout.ffn_group}, but in {family.name} the FFN runs on TPA's {layout.tpa} GPUs")
    return broken


def rescored(plan: Plan, case: Case) -> Iterator[str]:
    """Everything in the plan that asking its question again does not give."""
    if plan.cost_model_version != COST_MODEL_VERSION:
        yield f"cost_model_version is {plan.cost_model_version}, this helixplan prices by {COST_MODEL_VERSION}: plan anew"
    request, layout, batch = request_of(plan), plan.layout.layout, plan.layout.batch
    if request is None:
        due = make_plan(case, layout, batch, None)
    else:
        optimum = find_optimum(case, request)
        if optimum is None:
            yield "proof: a new search finds no layout that keeps the request"
            return
        limits = cost_of_limits(case, request, optimum)
        due = make_plan(case, layout, batch, request, optimum.proof, optimum.alternatives, limits)
        best: Layout = make_plan(case, optimum.layout, optimum.batch, request).layout.layout
        if (best, optimum.batch) != (layout, batch):
            yield f"layout: {layout} with batch {batch}, but a new search finds {best} with batch {optimum.batch}"
    told, known = plan.model_dump(mode="json"), due.model_dump(mode="json")
    for name in ("schema_version", "helixplan_version", "cost_model_version", "warnings"):
        del told[name], known[name]
    findings = list(_differences("", told, known))
    yield from findings[:MOST_TOLD]
    if len(findings) > MOST_TOLD:
        yield f"and {len(findings) - MOST_TOLD} findings more of that kind"
    if plan.proof is not None:
        value = {
            "throughput": plan.cost.tokens_per_s_per_gpu,
            "interactivity": plan.cost.ttl_s,
            "users": float(batch),
            "gpus": float(plan.layout.gpus),
        }[plan.workload.objective or "interactivity"]
        if not _same(plan.proof.objective, value):
            yield f"proof.objective is {plan.proof.objective}, the layout has {value}"
    limit = plan.workload.ttl_limit_s
    if limit is not None and plan.cost.ttl_s > limit:
        yield f"cost.ttl_s is {plan.cost.ttl_s}, over workload.ttl_limit_s, {limit}"


def _differences(path: str, told: Any, due: Any) -> Iterator[str]:
    """Where two documents differ, each place named as people would: the rank by its number, the phase by its name."""
    if isinstance(told, dict) and isinstance(due, dict):
        for name in sorted(told.keys() | due.keys()):
            yield from _differences(_join(path, name), told.get(name), due.get(name))
    elif isinstance(told, list) and isinstance(due, list) and (told or due) and isinstance((told or due)[0], dict):
        if len(told) != len(due):
            yield f"{path} has {len(told)} entries, asked again it has {len(due)}"
        for index, (one, other) in enumerate(zip(told, due, strict=False)):
            yield from _differences(_entry(path, index, other), one, other)
    elif not _same(told, due):
        yield f"{path} is {told}, asked again it is {due}"


def _join(path: str, name: str) -> str:
    if path.startswith("rank ") and ": " not in path:
        return f"{path}: {name}"
    return f"{path}.{name}" if path else name


def _entry(path: str, index: int, entry: dict[str, Any]) -> str:
    if path == "ranks":
        return f"rank {index}"
    if path == "cost.phases":
        return f"{path} {entry['name']}" + (f" ({entry['group']})" if entry["group"] else "")
    return f"{path}[{index}]"


def _same(told: object, due: object) -> bool:
    if isinstance(told, bool) or not isinstance(told, int | float) or not isinstance(due, int | float):
        return told == due
    return abs(told - due) <= ROUNDING * max(abs(told), abs(due))
