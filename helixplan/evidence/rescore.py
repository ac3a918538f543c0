"""Whether a plan's layout keeps its rules, and whether its figures are what its layout costs when it is priced again."""

from __future__ import annotations

from collections.abc import Iterator

from helixplan.assembly import evaluate, make_plan
from helixplan.cost.case import Case
from helixplan.errors import InputError
from helixplan.layout import check_structure
from helixplan.plans import Plan, PlanPhase
from helixplan.replay import request_of
from helixplan.search.rules import FAMILIES, broken_rules
from helixplan.version import COST_MODEL_VERSION

ROUNDING = 1e-9
"""What rounding may leave between two ways of adding up the same figures, relative."""


def structural(plan: Plan, case: Case) -> list[str]:
    """What is wrong with the layout itself: heads split, GPUs that do not add up, rules broken that are said to be kept."""
    layout = plan.layout.layout
    try:
        check_structure(case.model, layout)
    except InputError as error:
        return [str(error)]
    if plan.broken_rules is None:
        family = FAMILIES.get(plan.layout.family)
        if family is None:
            return [f"layout.family is {plan.layout.family!r}, which no search gives"]
        broken = [f"layout breaks {rule.name}: {rule.reason}" for rule in broken_rules(case, layout, family)]
        if family.ffn_on_tpa and layout.ffn_group != layout.tpa:
            broken.append(f"layout.tpf x ep is {layout.ffn_group}, but in {family.name} the FFN runs on TPA's {layout.tpa} GPUs")
        return broken
    return []


def rescored(plan: Plan, case: Case) -> Iterator[str]:
    """Every figure of the plan that a new pricing of its layout does not give."""
    if plan.cost_model_version != COST_MODEL_VERSION:
        yield f"cost_model_version is {plan.cost_model_version}, this helixplan prices by {COST_MODEL_VERSION}: plan anew"
    again = make_plan(case, plan.layout.layout, plan.layout.batch, request_of(plan))
    pairs = {
        "layout": (plan.layout.model_dump(exclude={"family"}), again.layout.model_dump(exclude={"family"})),
        "cost": (plan.cost.model_dump(exclude={"phases"}), again.cost.model_dump(exclude={"phases"})),
        "memory": (plan.memory.model_dump(), again.memory.model_dump()),
        "copies": (plan.copies, again.copies),
        "collectives": (plan.collectives, again.collectives),
    }
    for section, (told, due) in pairs.items():
        for name in sorted(told.keys() | due.keys()):
            if not _same(told.get(name), due.get(name)):
                yield f"{section}.{name} is {told.get(name)}, priced again it is {due.get(name)}"
    yield from _rescored_phases(plan.cost.phases, again.cost.phases)
    for rank, other in zip(plan.ranks, again.ranks, strict=False):
        if not _same(rank.memory_bytes, other.memory_bytes):
            yield f"rank {rank.rank}: memory_bytes is {rank.memory_bytes:.0f}, priced again it is {other.memory_bytes:.0f}"
    if plan.broken_rules is not None and plan.broken_rules != again.broken_rules:
        yield f"broken_rules are {plan.broken_rules}, judged again they are {again.broken_rules}"
    yield from _promises(plan)
    for number, option in enumerate(plan.alternatives or []):
        cost = evaluate(case, option.layout.layout, option.layout.batch).cost
        if not _same(option.ttl_s, cost.ttl_s):
            yield f"alternatives[{number}].ttl_s is {option.ttl_s}, priced again it is {cost.ttl_s}"


def _rescored_phases(told: list[PlanPhase], due: list[PlanPhase]) -> Iterator[str]:
    known = {(phase.name, phase.group): phase for phase in due}
    for phase in told:
        other = known.pop((phase.name, phase.group), None)
        name = f"cost.phases {phase.name}" + (f" ({phase.group})" if phase.group else "")
        if other is None:
            yield f"{name} is no phase of this layout"
            continue
        for key, value in phase.model_dump(exclude={"name", "group"}).items():
            if not _same(value, getattr(other, key)):
                yield f"{name}: {key} is {value}, priced again it is {getattr(other, key)}"
    for name, group in known:
        yield f"cost.phases lacks {name}" + (f" ({group})" if group else "")


def _promises(plan: Plan) -> Iterator[str]:
    """What the request asked of a search's answer."""
    asked, proof = plan.workload, plan.proof
    if proof is None:
        return
    if asked.ttl_limit_s is not None and plan.cost.ttl_s > asked.ttl_limit_s:
        yield f"cost.ttl_s is {plan.cost.ttl_s}, over workload.ttl_limit_s, {asked.ttl_limit_s}"
    if not plan.memory.fits:
        yield "memory.fits is false, and a search's answer has to fit"
    value = {
        "throughput": plan.cost.tokens_per_s_per_gpu,
        "interactivity": plan.cost.ttl_s,
        "users": float(plan.layout.batch),
        "gpus": float(plan.layout.gpus),
    }.get(asked.objective or "")
    if value is not None and not _same(proof.objective, value):
        yield f"proof.objective is {proof.objective}, the layout has {value}"


def _same(told: object, due: object) -> bool:
    if isinstance(told, bool) or not isinstance(told, int | float) or not isinstance(due, int | float):
        return told == due
    return abs(told - due) <= ROUNDING * max(abs(told), abs(due))
