"""A layout with what it costs, and two of them held against each other by what the objective counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from helixplan.assembly import layout_found
from helixplan.cost.case import Case
from helixplan.evaluation import Evaluated, evaluate
from helixplan.explanation import Figures, Loss
from helixplan.inputs.workload import Request
from helixplan.layout import Layout
from helixplan.plans import PlanPhase


@dataclass(frozen=True)
class Answer:
    """A layout at a batch, as the answer to a request of a case."""

    case: Case
    request: Request
    layout: Layout
    batch: int

    @cached_property
    def found(self) -> Evaluated:
        return evaluate(self.case, self.layout, self.batch)

    @cached_property
    def figures(self) -> Figures:
        return Figures(
            layout=layout_found(self.case, self.found, self.request),
            ttl_s=self.found.cost.ttl_s,
            tokens_per_s_per_user=self.found.cost.tokens_per_s_per_user,
            tokens_per_s_per_gpu=self.found.cost.tokens_per_s_per_gpu,
            memory_bytes=self.found.memory.total_bytes,
        )

    @property
    def objective(self) -> float:
        """In the objective's own unit."""
        cost, goal = self.found.cost, self.request.goal
        if goal == "throughput":
            return cost.tokens_per_s_per_gpu
        if goal == "interactivity":
            return cost.ttl_s
        return float(self.batch if goal == "users" else self.layout.gpus)

    def improvement(self, other: Answer) -> float:
        """By how much the other is better, as a fraction: more throughput or users, or less TTL or GPUs; negative is worse."""
        ratio = other.objective / self.objective
        return ratio - 1 if self.request.goal in ("throughput", "users") else 1 - ratio

    def loses_in(self, other: Answer) -> Loss | None:
        """The phase in which the other takes most more, by what the objective counts; None where none takes more."""
        mine, theirs = self._counted(), other._counted()
        more = {key: theirs.get(key, 0.0) - mine.get(key, 0.0) for key in {**mine, **theirs}}
        worst = max(more, key=lambda key: more[key])
        if more[worst] <= 0:
            return None
        return Loss(phase=worst[0], group=worst[1], before=mine.get(worst, 0.0), after=theirs.get(worst, 0.0))

    def _counted(self) -> dict[tuple[str, str | None], float]:
        """Each phase: seconds of the step, for throughput GPU-seconds a token, for users seconds a request."""
        share = {"throughput": self.batch / self.layout.gpus, "users": float(self.batch)}.get(self.request.goal, 1.0)
        return {named(phase): phase.seconds / share for phase in self.found.cost.phases}


def loss_unit(request: Request) -> str:
    """What ``loses_in`` counts."""
    return {"throughput": "GPU-seconds a token", "users": "s a request"}.get(request.goal, "s")


def named(phase: PlanPhase) -> tuple[str, str | None]:
    """What tells a phase from the others."""
    return phase.name, phase.group
