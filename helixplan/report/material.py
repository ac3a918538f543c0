"""What a report is made of: the plan and the documents that say why, what else there is, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from helixplan.api import explain_plan, frontier_case, named_families
from helixplan.cost.case import Case
from helixplan.curves import Frontier
from helixplan.errors import InfeasibleError, InputError
from helixplan.evidence.rescore import rescored
from helixplan.explanation import Explanation
from helixplan.inputs.hardware import HardwareFile
from helixplan.inputs.sources import model_sources
from helixplan.inputs.workload import Request
from helixplan.plans import Plan
from helixplan.replay import asking, asking_frontier, request_of
from helixplan.version import COST_MODEL_VERSION


@dataclass(frozen=True)
class Material:
    """Every number of a report stands in one of these."""

    plan: Plan
    explanation: Explanation | None
    """None for an estimate: nothing was searched, so there is nothing to say of what was found."""
    frontier: Frontier | None
    """Under the plan's request without its TTL and batch; None where no layout keeps that."""
    profile: HardwareFile
    model_sources: list[tuple[str, str]]
    command: list[str]
    """Asks for the plan again."""
    frontier_command: list[str]
    """Asks for the frontier again."""
    files: list[str]
    """The options that name the plan's model and system where they are not bundled."""
    notes: list[str]
    """What to know before believing the numbers."""


def gather(plan: Plan, case: Case, file: str = "plan", model: str | None = None, hardware: str | None = None) -> Material:
    """The plan's case answered again where its documents need it. ``model`` and ``hardware`` are files, where not bundled.

    Raises InputError about a plan, read from ``file``, that is not what this helixplan finds, down to every figure in it.
    """
    explanation = None if plan.proof is None else explain_plan(plan, case, file)
    if plan.cost_model_version == COST_MODEL_VERSION:
        for finding in rescored(plan, case):
            raise InputError(f"{finding}; helixplan verify says more", file=file)
    return Material(
        plan=plan,
        explanation=explanation,
        frontier=_frontier(plan, case),
        profile=case.hardware.file,
        model_sources=model_sources(model or plan.model.name),
        command=asking(plan, case, model, hardware),
        frontier_command=asking_frontier(plan, case, _freed(plan), model, hardware),
        files=[part for name, file in (("--model", model), ("--hardware", hardware)) if file for part in (name, file)],
        notes=[*_other_version(plan), *plan.warnings],
    )


def _freed(plan: Plan) -> Request:
    """The plan's request without its TTL and batch; of an estimate its family's."""
    own = plan.layout.family
    request = request_of(plan) or Request(family="any" if own == "none" else own)
    return replace(request, ttl_s=None, batch=None, objective=None)


def _frontier(plan: Plan, case: Case) -> Frontier | None:
    request = _freed(plan)
    try:
        return frontier_case(case, request, named_families([request.family]))
    except InfeasibleError:
        return None


def _other_version(plan: Plan) -> Iterator[str]:
    if plan.cost_model_version != COST_MODEL_VERSION:
        yield f"made under cost model {plan.cost_model_version}, but the frontier under {COST_MODEL_VERSION}: estimate anew"
