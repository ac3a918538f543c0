"""The plan as a document: inputs, layout, cost, memory, proof, alternatives, ranks. To JSON and back."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from helixplan.errors import InputError
from helixplan.inputs.validation import parse_json, validate
from helixplan.layout import Layout
from helixplan.version import SCHEMA_VERSION

Number = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, lt=1e30, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, lt=1e30, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[list[int], Field(min_length=2, max_length=2)]


class Document(BaseModel):
    """Whatever is written as JSON: no unknown keys, no text for a number, no change after it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PlanModel(Document):
    """Which model, and the hash of all the cost depends on."""

    name: str
    sha256: str


class PlanHardware(Document):
    """Which system under which clock. ``calibrated`` false: the kernel constants are another system's."""

    name: str
    sha256: str
    kernels: Literal["measured", "ideal"]
    floor_scale: Number
    calibrated: bool
    calibration: str


class PlanWorkload(Document):
    """What was asked, with every default resolved. Null: not asked."""

    context_tokens: int
    weight_dtype: str
    weight_dtypes: dict[str, str]
    kv_dtype: str
    attention_math: str
    ttl_limit_s: Number | None
    objective: str | None
    batch: int | None
    gpus: int | None
    max_gpus: int | None
    family: str | None
    pins: dict[str, int]
    overlap: str
    exchange: str
    engine: str
    memory_utilization: Number
    kv_block_tokens: int
    step_overhead_s: Number


class PlanLayout(Document):
    """The layout, exchange and chunks resolved."""

    family: str
    kvp: int
    tpa: int
    dp: int
    pp: int
    tpf: int
    ep: int
    gpus: int
    batch: int
    overlap: Literal["none", "hop-b"]
    overlap_chunks: int
    exchange: Literal["latent", "value"]
    kv_block_tokens: int

    @property
    def layout(self) -> Layout:
        return Layout(self.kvp, self.tpa, self.tpf, self.ep, self.dp, self.pp, self.exchange, self.overlap_chunks)


class PlanPhase(Document):
    """A phase's share of the whole step; bytes and FLOPs of one GPU, whole step."""

    name: str
    group: str | None = None
    layers: Count
    seconds: NotNegative
    hbm_bytes: NotNegative
    stored_bytes: NotNegative
    """Of those, weights and KV cache."""
    flops: NotNegative
    wire_bytes: NotNegative
    bound: Literal["memory", "compute", "floor", "network"]


class PlanCost(Document):
    """A step's latency and throughput. The phases sum to ``ttl_s``."""

    ttl_s: Positive
    ttl_ideal_s: NotNegative
    tokens_per_s_per_user: NotNegative
    tokens_per_s_per_gpu: NotNegative
    constants_error: float | None = None
    """The median error of the kernel constants on measurements they were not fitted to, weighted by the time they make up.
    None where the constants are another system's, or under any clock but the measured one."""
    constants_error_share: float | None = None
    """The share of the TTL whose constants were so tested."""
    exposed_communication_s: NotNegative
    hidden_communication_s: NotNegative
    """What HOP-B hides of the exchange: its seconds in one chunk, less those exposed."""
    phases: Annotated[list[PlanPhase], Field(min_length=1)]


class PlanMemory(Document):
    """Of the fullest GPU."""

    weights_bytes: Number
    kv_cache_bytes: Number
    buffers_bytes: Number
    workspace_bytes: Number
    total_bytes: Number
    limit_bytes: Number
    fits: bool


class PlanProof(Document):
    """Why no allowed layout is better."""

    status: str
    objective: Number
    bound: Number
    unit: str
    candidates: int
    points: int
    rows: int
    rules: list[str]


class PlanAlternative(Document):
    """One of the next best layouts."""

    layout: PlanLayout
    ttl_s: Number
    tokens_per_s_per_user: Number
    tokens_per_s_per_gpu: Number
    memory_bytes: Number


class PlanLimit(Document):
    """One limit of an engine: what lifting it alone gives. ``gain``: the share of the free objective that comes back."""

    name: str
    kind: Literal["rule", "communication"]
    reason: str
    gain: Number
    objective: Number


class PlanEngine(Document):
    """The engine that was planned for and, of a search, what its limits cost.

    ``cost_of_limits``: the share of the free optimum's objective that is lost. It is below 0 where the engine's own communication
    beats the paper's, and null, like ``free``, where no layout keeps the request without that.
    """

    name: str
    title: str
    free: PlanAlternative | None = None
    cost_of_limits: Number | None = None
    limits: list[PlanLimit] = []
    """Dearest first; none where the limits cost nothing."""


class PlanHeads(Document):
    """Of one kind of attention layer; ranges are half-open."""

    query_heads: Range
    output_heads: Range
    kv_heads: Range


class PlanRank(PlanHeads):
    """What one rank holds; ranges are half-open."""

    rank: int
    stage: int
    dp: int
    kvp: int
    tpa: int
    tpf: int | None
    ep: int | None
    other_heads: dict[str, PlanHeads]
    """Of the kinds of attention layers that ``query_heads``, ``output_heads`` and ``kv_heads`` do not speak of."""
    kv_blocks: str
    experts: Range
    ffn_columns: dict[str, Range]
    """Of the dense FFN or of each expert held, by kind of layer."""
    shared_columns: dict[str, Range]
    layers: Range
    vocabulary: Range
    """Rows of the embedding (first stage) and of the head (last stage)."""
    memory_bytes: Number


class PlanAppend(Document):
    """Where tokens go: position p to KVP rank (p // block_tokens) mod kvp, prefilled ones too."""

    kvp: int
    block_tokens: int
    prefill_tokens: int
    next_rank: int
    fullest_tokens: int
    emptiest_tokens: int


class Plan(Document):
    """A layout with all there is to say of it. ``proof`` and ``alternatives`` come with a search, ``broken_rules`` without."""

    model_config = ConfigDict(title="helixplan plan")

    schema_version: str
    helixplan_version: str
    cost_model_version: str
    model: PlanModel
    hardware: PlanHardware
    workload: PlanWorkload
    layout: PlanLayout
    cost: PlanCost
    memory: PlanMemory
    proof: PlanProof | None = None
    broken_rules: list[str] | None = None
    alternatives: list[PlanAlternative] | None = None
    engine: PlanEngine | None = None
    warnings: list[str]
    collectives: dict[str, str]
    """How each reduction runs, by phase and, for the FFN's, kind of layer: the cheapest way."""
    kv_append: PlanAppend
    copies: dict[str, Number]
    """How many times a stage holds each thing that ``ranks`` tells ranges of; ``kv_cache``: each token of each KV head."""
    ranks: list[PlanRank]
    groups: dict[str, list[list[int]]]

    def to_json(self) -> str:
        """Sorted keys, no time stamps, one line a rank: the same plan is the same text."""
        return to_json(self.model_dump(mode="json", exclude={k for k in _OPTIONAL if getattr(self, k) is None}))

    @classmethod
    def from_json(cls, text: str, file: str = "plan") -> Plan:
        """Raises InputError naming ``file`` and what is wrong with it."""
        data = parse_json(text, file)
        version = data.get("schema_version")
        if not isinstance(version, str) or version != SCHEMA_VERSION:
            raise InputError(f"got {version!r}; this helixplan reads {SCHEMA_VERSION!r}", file=file, field="schema_version")
        return validate(cls, data, file)


class Relaxation(Document):
    """A change of the request that makes it work, or two, and the layout they give."""

    change: str
    """In words: ``changes`` with "and" between."""
    changes: Annotated[list[str], Field(min_length=1)]
    """Each as it is typed, or "without --pin kvp=8"."""
    layout: PlanLayout
    cost: PlanCost


class PlanConflict(Document):
    """One member of a smallest conflict."""

    rule: str
    detail: str


class Infeasible(Document):
    """What an infeasible search prints in place of a plan."""

    model_config = ConfigDict(title="helixplan infeasible search")

    status: Literal["infeasible"] = "infeasible"
    conflict: list[PlanConflict]
    relaxations: list[Relaxation]

    def to_json(self) -> str:
        return to_json(self.model_dump(mode="json"))


_OPTIONAL = ("proof", "broken_rules", "alternatives", "engine")


def to_json(document: dict[str, Any]) -> str:
    """Top-level keys a line each, and a line for each entry of a list, so that a review shows small differences."""

    def value(item: Any, indent: str) -> str:
        if isinstance(item, dict) and len(item) > 1:
            inner = [f"{indent}  {json.dumps(key)}: {value(item[key], indent + '  ')}" for key in sorted(item)]
            return "{\n" + ",\n".join(inner) + f"\n{indent}}}"
        if isinstance(item, list) and item and isinstance(item[0], dict | list):
            inner = [f"{indent}  {json.dumps(entry, sort_keys=True)}" for entry in item]
            return "[\n" + ",\n".join(inner) + f"\n{indent}]"
        return json.dumps(item, sort_keys=True)

    return value(document, "") + "\n"
