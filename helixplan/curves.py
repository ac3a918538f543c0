"""The frontier and the comparison as documents: to JSON, with sorted keys and no time stamps."""

from __future__ import annotations

from pydantic import ConfigDict

from helixplan.plans import Document, Number, PlanHardware, PlanLayout, PlanModel, PlanWorkload, to_json


class PointCost(Document):
    """A point's rates. ``helixplan estimate`` tells its phases."""

    ttl_s: Number
    ttl_ideal_s: Number
    tokens_per_s_per_user: Number
    tokens_per_s_per_gpu: Number


class PointMemory(Document):
    """Of the fullest GPU."""

    weights_bytes: Number
    kv_cache_bytes: Number
    total_bytes: Number
    limit_bytes: Number


class Point(Document):
    """One layout at a batch."""

    family: str
    layout: PlanLayout
    cost: PointCost
    memory: PointMemory


class Frontier(Document):
    """Every layout and batch that no other of the families asked for beats in both rates, best interactivity first."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="helixplan frontier")

    schema_version: str
    helixplan_version: str
    cost_model_version: str
    model: PlanModel
    hardware: PlanHardware
    workload: PlanWorkload
    families: list[str]
    candidates: int
    points: list[Point]
    warnings: list[str]

    def to_json(self) -> str:
        return to_json(self.model_dump(mode="json"))


class Comparison(Document):
    """Helix's side, any family allowed, against the best of the baselines, at one context."""

    model: str
    hardware: str
    context_tokens: int
    floor_scale: Number
    baselines: list[str]
    interactivity_ratio: Number
    throughput_ratio: Number
    at_tokens_per_s_per_user: Number
    user_ratio: Number
    overlap_loss: Number
    baseline: dict[str, Point]
    """The baselines' point of each ratio, by its name."""
    helix: dict[str, Point]
    """Helix's."""
    note: str | None = None


class Comparisons(Document):
    """One comparison a context."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="helixplan comparison")

    schema_version: str
    helixplan_version: str
    cost_model_version: str
    comparisons: list[Comparison]

    def to_json(self) -> str:
        return to_json(self.model_dump(mode="json"))
