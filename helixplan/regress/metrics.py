"""The figures two plans are compared by, each with which way is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from helixplan.plans import PlanCost, PlanLayout, PlanMemory

Direction = Literal["better", "worse", "neutral"]
NOISE = 2e-8
"""A relative difference under this is no difference: two figures that rounding to nine digits may set apart."""


@dataclass(frozen=True)
class Metric:
    """``good`` is +1 where more is better, -1 where less is, 0 where neither."""

    name: str
    unit: str
    good: int


METRICS = {
    metric.name: metric
    for metric in (
        Metric("ttl_s", "s", -1),
        Metric("ttl_ideal_s", "s", 0),
        Metric("tokens_per_s_per_user", "tokens/s/user", 1),
        Metric("tokens_per_s_per_gpu", "tokens/s/GPU", 1),
        Metric("users", "requests", 1),
        Metric("gpus", "GPUs", -1),
        Metric("memory_bytes", "bytes", -1),
        Metric("exposed_communication_s", "s", -1),
    )
}
OBJECTIVES = {
    "throughput": "tokens_per_s_per_gpu",
    "interactivity": "ttl_s",
    "users": "users",
    "gpus": "gpus",
}
"""The metric behind each objective."""


def metrics_of(layout: PlanLayout, cost: PlanCost, memory: PlanMemory) -> dict[str, float]:
    """By the names of ``METRICS``."""
    return {
        "ttl_s": cost.ttl_s,
        "ttl_ideal_s": cost.ttl_ideal_s,
        "tokens_per_s_per_user": cost.tokens_per_s_per_user,
        "tokens_per_s_per_gpu": cost.tokens_per_s_per_gpu,
        "users": float(layout.batch),
        "gpus": float(layout.gpus),
        "memory_bytes": memory.total_bytes,
        "exposed_communication_s": cost.exposed_communication_s,
    }


@dataclass(frozen=True)
class Change:
    """One figure before and after."""

    name: str
    before: float
    after: float

    @property
    def relative(self) -> float:
        """(after - before) / before; infinite where it was nothing."""
        if self.before == self.after:
            return 0.0
        return (self.after - self.before) / abs(self.before) if self.before else float("inf")

    @property
    def moved(self) -> bool:
        return abs(self.relative) > NOISE

    @property
    def worse_by(self) -> float:
        """The relative change in the bad direction; negative where it is better, 0 where neither way is bad."""
        return -METRICS[self.name].good * self.relative

    @property
    def direction(self) -> Direction:
        if not self.moved or METRICS[self.name].good == 0:
            return "neutral"
        return "worse" if self.worse_by > 0 else "better"


def changes(before: Mapping[str, float], after: Mapping[str, float]) -> list[Change]:
    """Every metric that both have, in the order of ``METRICS``."""
    return [Change(name, before[name], after[name]) for name in METRICS if name in before and name in after]
