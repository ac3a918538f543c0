"""The explanation put together."""

from __future__ import annotations

from helixplan.assembly import plan_hardware, plan_workload
from helixplan.cost.case import Case
from helixplan.evaluation import evaluate
from helixplan.explaining.contexts import Contexts, context_range, crossovers, with_edges
from helixplan.explaining.figures import Answer, loss_unit, named
from helixplan.explaining.limits import limits
from helixplan.explaining.sensitivity import elasticities, investments
from helixplan.explaining.steps import steps
from helixplan.explanation import ExplainedPhase, Explanation, RunnerUp
from helixplan.inputs.workload import Request
from helixplan.plans import PlanModel
from helixplan.search.optimum import UNITS, Best
from helixplan.search.rules import MEMORY
from helixplan.version import COST_MODEL_VERSION, SCHEMA_VERSION, __version__


def explain_best(case: Case, request: Request, best: Best) -> Explanation:
    """Why a search's answer is the best, what would move it, and how far it holds."""
    plan = Answer(case, request, best.layout, best.batch)
    stepped = steps(plan)
    near = [step.found.layout.layout for step in stepped if step.found is not None]
    contexts = Contexts(plan, best, near)
    lowest, highest, changes = crossovers(contexts)
    held_over = context_range(contexts)
    phases, held = _phases(plan), limits(plan)
    memory_binds = any(one.binds for one in held if one.rule == MEMORY)
    return Explanation(
        schema_version=SCHEMA_VERSION,
        helixplan_version=__version__,
        cost_model_version=COST_MODEL_VERSION,
        model=PlanModel(name=case.model.name, sha256=case.model.sha256),
        hardware=plan_hardware(case),
        workload=plan_workload(case, request),
        plan=plan.figures,
        objective=plan.objective,
        objective_unit=UNITS[request.goal],
        loss_unit=loss_unit(request),
        ttl_ideal_s=plan.found.cost.ttl_ideal_s,
        memory=plan.found.memory,
        phases=phases,
        bounds_s={bound: sum(one.seconds for one in phases if one.bound == bound) for bound in {one.bound for one in phases}},
        rules=held,
        steps=stepped,
        runners_up=[_runner_up(plan, Answer(case, request, layout, batch)) for layout, batch in best.alternatives],
        elasticities=elasticities(plan),
        investments=investments(plan, memory_binds),
        contexts=held_over,
        crossovers=with_edges(contexts, held_over, changes),
        crossovers_from=lowest,
        crossovers_to=highest,
    )


def _phases(plan: Answer) -> list[ExplainedPhase]:
    """Each phase under the plan's clock and at the speed of light."""
    found = plan.found
    light = {named(phase): phase.seconds for phase in evaluate(plan.case.ideal(), found.layout, plan.batch).cost.phases}
    return [
        ExplainedPhase(
            name=phase.name,
            group=phase.group,
            layers=phase.layers,
            seconds=phase.seconds,
            share=phase.seconds / found.cost.ttl_s,
            bound=phase.bound,
            ideal_s=light.get(named(phase), 0.0),
        )
        for phase in found.cost.phases
    ]


def _runner_up(plan: Answer, other: Answer) -> RunnerUp:
    return RunnerUp(found=other.figures, objective_change=plan.improvement(other), loses_in=plan.loses_in(other))
