"""Why a plan is the way it is, as a document: its phases, rules, steps, runners-up and sensitivity, and how far it holds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from helixplan.plans import (
    Count,
    Document,
    NotNegative,
    Number,
    PlanConflict,
    PlanHardware,
    PlanLayout,
    PlanMemory,
    PlanModel,
    PlanWorkload,
    Positive,
    to_json,
)

Bound = Literal["memory", "compute", "floor", "network"]
Variable = Literal["kvp", "tpa", "tpf", "ep", "pp", "dp", "batch", "exchange", "overlap"]
Direction = Literal["up", "down"]
Resource = Literal["hbm_bandwidth", "link_bandwidth", "scale_out_bandwidth", "compute", "floors", "capacity"]


class ExplainedPhase(Document):
    """A phase of the step: what it takes, what binds it, and what it would take on the ideal clock."""

    name: str
    group: str | None
    layers: Count
    seconds: NotNegative
    share: NotNegative
    """Of the TTL; the shares sum to 1."""
    bound: Bound
    ideal_s: NotNegative
    """The same layout's phase at the speed of light; these sum to ``ttl_ideal_s``."""


class Figures(Document):
    """What a layout gives under the plan's workload."""

    layout: PlanLayout
    ttl_s: Positive
    tokens_per_s_per_user: NotNegative
    tokens_per_s_per_gpu: NotNegative
    memory_bytes: NotNegative


class Held(Document):
    """One request or rule of the plan's, how near the plan is to it, and whether it costs anything."""

    rule: str
    used: Number | None
    """Null, as limit and unit, where a rule is no matter of more or less."""
    limit: Number | None
    unit: str | None
    """"s", "bytes", "GPUs", "requests", or the dimension's own name."""
    binds: bool
    """Whether the best layout without it is better by the objective."""
    without: Figures | None
    """That best layout; null where it does not bind."""
    gain: Number
    """By how much of the objective that is better, a fraction: 0.05 is 5 % more throughput or 5 % less TTL."""


class Loss(Document):
    """The phase in which one layout loses most to the plan, by what the objective counts."""

    phase: str
    group: str | None
    before: NotNegative
    """Of the plan. In ``loss_unit`` of the explanation."""
    after: NotNegative


class Step(Document):
    """One variable pinned to its next value, everything else chosen anew: the best layout then, or why there is none."""

    variable: Variable
    direction: Direction
    value: int | str | None
    """Null: there is no further value."""
    found: Figures | None
    objective_change: Number | None
    """Of the objective as a fraction, positive is better. Null where there is no layout."""
    loses_in: Loss | None
    """Null where there is no layout, or no phase that takes more."""
    stopped_by: list[PlanConflict]
    """Where there is no layout: a smallest conflict within the GPUs asked for; else empty."""


class RunnerUp(Document):
    """One of the next best layouts."""

    found: Figures
    objective_change: Number
    loses_in: Loss | None


class Elasticity(Document):
    """Per cent of change a per cent of change, of this layout at this batch: d ln(figure) / d ln(of), by central differences."""

    of: Literal["context", "batch"] | Resource
    step: Positive
    """The half-width of the difference: a fraction of what is varied."""
    ttl: Number
    tokens_per_s_per_gpu: Number


class Investment(Document):
    """What a little more of one resource gives (of ``floors``: a little less)."""

    resource: Resource
    change: Number
    """A fraction: 0.01 is 1 % more, -0.01 is 1 % less."""
    ttl_change: Number
    """Of this layout at this batch, a fraction; negative is faster."""
    tokens_per_s_per_gpu_change: Number
    """Likewise; positive is better."""
    replanned: Figures
    """The best layout under the same request on such a system."""
    objective_change: Number
    """Of that best layout over the plan, a fraction, positive is better."""


class Edge(Document):
    """Where one stops being the best, found by searching on both sides."""

    tokens: Count
    """The last context looked at with this layout as the best."""
    beyond_tokens: int | None
    """The first with another, or none. Null: the layout is the best up to where the search ended."""
    beyond: PlanLayout | None
    """What is the best there; null where nothing keeps the request there, or the search ended."""
    ends: Literal["another layout", "no layout", "the search"]


class ContextRange(Document):
    """The contexts over which the plan's sizes (kvp, tpa, dp, pp, tpf, ep; batch, exchange and chunks may move) stay the best."""

    low: Edge
    high: Edge
    searched: int
    """Contexts within the range at which the whole search was run."""
    step: Number
    """In between, every layout that could win was looked at at contexts in at most this ratio."""


class Crossover(Document):
    """Two neighbouring contexts between which the best layout's KVP changes."""

    below_tokens: Count
    above_tokens: Count
    below: PlanLayout
    above: PlanLayout


class Explanation(Document):
    """Why a plan is the best, what would move it, and how far it holds."""

    model_config = ConfigDict(title="helixplan explanation")

    schema_version: str
    helixplan_version: str
    cost_model_version: str
    model: PlanModel
    hardware: PlanHardware
    workload: PlanWorkload
    plan: Figures
    objective: Number
    objective_unit: str
    loss_unit: str
    """What ``loses_in`` counts: "GPU-seconds a token" for throughput, "s a request" for users, "s" of the step otherwise."""
    ttl_ideal_s: NotNegative
    memory: PlanMemory
    phases: Annotated[list[ExplainedPhase], Field(min_length=1)]
    bounds_s: dict[Bound, Number]
    """Seconds of the step by what binds the phase they go to; they sum to the TTL."""
    rules: list[Held]
    steps: list[Step]
    runners_up: list[RunnerUp]
    elasticities: list[Elasticity]
    investments: list[Investment]
    """Best first, by the objective."""
    contexts: ContextRange
    crossovers: list[Crossover]
    crossovers_from: Count
    """The contexts over which crossovers were looked for."""
    crossovers_to: Count

    def to_json(self) -> str:
        """Sorted keys, no time stamps: the same explanation is the same text."""
        return to_json(self.model_dump(mode="json"))
