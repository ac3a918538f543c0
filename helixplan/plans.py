"""A plan: inputs, layout, cost, memory, proof, alternatives, ranks. To JSON and back."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from helixplan.cost.case import Case
from helixplan.cost.memory import attention_memory, ffn_memory, memory_limit
from helixplan.cost.shares import Shares
from helixplan.cost.step import COMMUNICATION, PHASE_ORDER, Phase, attention_part, ffn_part
from helixplan.errors import InputError
from helixplan.inputs.model import MoE
from helixplan.inputs.validation import parse_json, validate
from helixplan.inputs.workload import Request
from helixplan.layout import (
    EXCHANGE_CODES,
    Layout,
    Layouts,
    coordinates,
    experts_held,
    heads_held,
    process_groups,
    stage_bounds,
)
from helixplan.search.optimum import Proof
from helixplan.search.rules import FAMILIES, broken_rules, family_of
from helixplan.version import COST_MODEL_VERSION, SCHEMA_VERSION, __version__

Number = Annotated[float, Field(allow_inf_nan=False)]
Range = Annotated[list[int], Field(min_length=2, max_length=2)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlanModel(_Part):
    """Which model, and the hash of all the cost depends on."""

    name: str
    sha256: str


class PlanHardware(_Part):
    """Which system under which clock. ``calibrated`` false: the kernel constants are another system's."""

    name: str
    sha256: str
    kernels: Literal["measured", "ideal"]
    floor_scale: Number
    calibrated: bool
    calibration: str


class PlanWorkload(_Part):
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


class PlanLayout(_Part):
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


class PlanPhase(_Part):
    """A phase's share of the whole step; bytes and FLOPs of one GPU, whole step."""

    name: str
    group: str | None = None
    layers: int
    seconds: Number
    hbm_bytes: Number
    flops: Number
    wire_bytes: Number
    bound: Literal["memory", "compute", "floor", "network"]


class PlanCost(_Part):
    """A step's latency and throughput. The phases sum to ``ttl_s``."""

    ttl_s: Number
    ttl_ideal_s: Number
    tokens_per_s_per_user: Number
    tokens_per_s_per_gpu: Number
    exposed_communication_s: Number
    phases: list[PlanPhase]


class PlanMemory(_Part):
    """Of the fullest GPU."""

    weights_bytes: Number
    kv_cache_bytes: Number
    buffers_bytes: Number
    workspace_bytes: Number
    total_bytes: Number
    limit_bytes: Number
    fits: bool


class PlanProof(_Part):
    """Why no allowed layout is better."""

    status: str
    objective: Number
    bound: Number
    unit: str
    candidates: int
    points: int
    rows: int
    rules: list[str]


class PlanAlternative(_Part):
    """One of the next best layouts."""

    layout: PlanLayout
    ttl_s: Number
    tokens_per_s_per_user: Number
    tokens_per_s_per_gpu: Number
    memory_bytes: Number


class PlanRank(_Part):
    """What one rank holds; ranges are half-open."""

    rank: int
    stage: int
    dp: int
    kvp: int
    tpa: int
    tpf: int
    ep: int
    query_heads: Range
    output_heads: Range
    kv_heads: Range
    kv_blocks: str
    experts: Range
    layers: Range
    memory_bytes: Number


class Plan(_Part):
    """A layout with all there is to say of it. ``proof`` and ``alternatives`` come with a search, ``broken_rules`` without."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="helixplan plan")

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
    warnings: list[str]
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


_OPTIONAL = ("proof", "broken_rules", "alternatives")


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


@dataclass(frozen=True)
class Evaluated:
    """One layout at a batch: resolved, with its phases and memory."""

    layout: Layout
    batch: int
    cost: PlanCost
    memory: PlanMemory


def evaluate(case: Case, layout: Layout, batch: int) -> Evaluated:
    """The cost and memory of one layout at a batch, exchange and chunks resolved."""
    row = Layouts.of(layout)
    attention, ffn = attention_part(case, row, batch), ffn_part(case, row, batch)
    resolved = Layout(
        layout.kvp,
        layout.tpa,
        layout.tpf,
        layout.ep,
        layout.dp,
        layout.pp,
        exchange=next(name for name, code in EXCHANGE_CODES.items() if code == int(attention.exchange[0])),
        overlap_chunks=int(attention.chunks[0]),
    )
    ttl = float(attention.seconds[0] + ffn.seconds[0])
    ideal, same = case.ideal(), Layouts.of(resolved)
    ideal_s = attention_part(ideal, same, batch).seconds[0] + ffn_part(ideal, same, batch).seconds[0]
    phases = _merged(attention.phases + ffn.phases)
    held = attention.memory + ffn.memory
    total, limit = float(_one(held.total_bytes)), memory_limit(case)
    return Evaluated(
        resolved,
        batch,
        PlanCost(
            ttl_s=ttl,
            ttl_ideal_s=float(ideal_s),
            tokens_per_s_per_user=1 / ttl,
            tokens_per_s_per_gpu=batch / (ttl * layout.gpus),
            exposed_communication_s=sum(phase.seconds for phase in phases if phase.name in COMMUNICATION),
            phases=phases,
        ),
        PlanMemory(
            weights_bytes=_one(held.weights_bytes),
            kv_cache_bytes=_one(held.kv_cache_bytes),
            buffers_bytes=_one(held.buffers_bytes),
            workspace_bytes=_one(held.workspace_bytes),
            total_bytes=total,
            limit_bytes=limit,
            fits=total <= limit,
        ),
    )


def _one(value: Any) -> float:
    return float(value[0]) if hasattr(value, "__len__") else float(value)


def _merged(phases: list[Phase]) -> list[PlanPhase]:
    """The phases of one layout in the order of a step, those that do not apply left out; the pipeline's halves as one."""
    whole: dict[tuple[str, str | None], Phase] = {}
    for phase in phases:
        key = (phase.name, phase.group)
        before = whole.get(key)
        timing = phase.timing if before is None else before.timing + phase.timing
        whole[key] = Phase(phase.name, phase.group, phase.layers, timing)
    listed = sorted(whole.values(), key=lambda phase: (PHASE_ORDER.index(phase.name), phase.group or ""))
    return [
        PlanPhase(
            name=phase.name,
            group=phase.group,
            layers=phase.layers,
            seconds=_one(phase.timing.seconds),
            hbm_bytes=_one(phase.timing.hbm_bytes),
            flops=_one(phase.timing.flops),
            wire_bytes=_one(phase.timing.wire_bytes),
            bound=phase.timing.bound,  # type: ignore[arg-type]
        )
        for phase in listed
        if _one(phase.timing.seconds) != 0 or _one(phase.timing.wire_bytes) or _one(phase.timing.hbm_bytes)
    ]


def make_plan(
    case: Case,
    layout: Layout,
    batch: int,
    request: Request | None,
    proof: Proof | None = None,
    alternatives: list[tuple[Layout, int]] | None = None,
) -> Plan:
    """The plan of one layout: of a search's answer where ``request`` and ``proof`` are given, else of an estimate."""
    found = evaluate(case, layout, batch)
    plan_layout = _plan_layout(case, found, request)
    broken = None
    if proof is None:
        broken = [rule.name for rule in broken_rules(case, found.layout, FAMILIES["helix"])]
        broken += [] if found.memory.fits else ["memory-fits"]
    return Plan(
        schema_version=SCHEMA_VERSION,
        helixplan_version=__version__,
        cost_model_version=COST_MODEL_VERSION,
        model=PlanModel(name=case.model.name, sha256=case.model.sha256),
        hardware=_plan_hardware(case),
        workload=_plan_workload(case, request),
        layout=plan_layout,
        cost=found.cost,
        memory=found.memory,
        proof=None if proof is None or request is None else _plan_proof(case, proof, plan_layout.family, request),
        broken_rules=broken,
        alternatives=None if alternatives is None else [_alternative(case, one, size, request) for one, size in alternatives],
        warnings=warnings_of(case),
        ranks=_ranks(case, found.layout, batch),
        groups=process_groups(found.layout),
    )


def warnings_of(case: Case) -> list[str]:
    """What a user should know before believing the numbers."""
    said = []
    longest, asked = case.model.max_context, case.workload.context_tokens
    if longest is not None and asked > longest:
        said.append(f"{case.model.name} was made for {longest:,} tokens (max_position_embeddings); {asked:,} were asked for")
    if case.hardware.calibration_note:
        said.append(f"{case.hardware.name} is {case.hardware.calibration_note}")
    return said


def _plan_layout(case: Case, found: Evaluated, request: Request | None) -> PlanLayout:
    layout = found.layout
    family = request.family if request is not None else "any"
    if family == "any":
        known = family_of(case, layout)
        family = known.name if known else "none"
    return PlanLayout(
        family=family,
        kvp=layout.kvp,
        tpa=layout.tpa,
        dp=layout.dp,
        pp=layout.pp,
        tpf=layout.tpf,
        ep=layout.ep,
        gpus=layout.gpus,
        batch=found.batch,
        overlap="hop-b" if (layout.overlap_chunks or 1) > 1 else "none",
        overlap_chunks=layout.overlap_chunks or 1,
        exchange=layout.exchange,  # type: ignore[arg-type]
        kv_block_tokens=case.workload.kv_block_tokens,
    )


def _plan_hardware(case: Case) -> PlanHardware:
    return PlanHardware(
        name=case.hardware.name,
        sha256=case.hardware.sha256,
        kernels="ideal" if case.workload.kernels == "ideal" else "measured",
        floor_scale=case.workload.clock,
        calibrated=case.hardware.file.kernels.calibrated,
        calibration=case.hardware.file.kernels.source,
    )


def _plan_workload(case: Case, request: Request | None) -> PlanWorkload:
    work, precision = case.workload, case.precision
    dtypes = {part: precision.of(part) for part in ("attention", "dense", "experts", "shared", "router")}
    used = {dtype for part, dtype in dtypes.items() if part in _components(case)}
    math = {case.attention_math(attention) for _, attention, _ in case.model.attention_kinds}
    return PlanWorkload(
        context_tokens=work.context_tokens,
        weight_dtype=used.pop() if len(used) == 1 else "mixed",
        weight_dtypes=dtypes,
        kv_dtype=case.kv_dtype,
        attention_math=math.pop() if len(math) == 1 else "mixed",
        ttl_limit_s=request.ttl_s if request else None,
        objective=request.goal if request else None,
        batch=request.batch if request else None,
        gpus=request.gpus if request else None,
        max_gpus=request.max_gpus if request else None,
        family=request.family if request else None,
        pins=dict(request.pins) if request else {},
        overlap=work.overlap,
        exchange=work.exchange,
        engine=work.engine or "none",
        memory_utilization=work.memory_utilization,
        kv_block_tokens=work.kv_block_tokens,
        step_overhead_s=work.step_overhead_s,
    )


def _components(case: Case) -> set[str]:
    """The components of weights that the model has and ``--weights`` sets."""
    parts = {"attention"}
    for _, ffn, _ in case.model.ffn_kinds:
        if isinstance(ffn, MoE):
            parts |= {"experts", "shared"} if ffn.shared else {"experts"}
        else:
            parts.add("dense")
    return parts


def _plan_proof(case: Case, proof: Proof, family: str, request: Request) -> PlanProof:
    budget = "gpus" if request.gpus is not None else "max-gpus" if request.max_gpus is not None else "nvlink-domain"
    rules = [rule.name for rule in FAMILIES[family].rules] if family in FAMILIES else []
    rules += ["memory-fits", budget] + (["ttl"] if request.ttl_s is not None else [])
    return PlanProof(**vars(proof), rules=rules)


def _alternative(case: Case, layout: Layout, batch: int, request: Request | None) -> PlanAlternative:
    found = evaluate(case, layout, batch)
    return PlanAlternative(
        layout=_plan_layout(case, found, request),
        ttl_s=found.cost.ttl_s,
        tokens_per_s_per_user=found.cost.tokens_per_s_per_user,
        tokens_per_s_per_gpu=found.cost.tokens_per_s_per_gpu,
        memory_bytes=found.memory.total_bytes,
    )


class Relaxation(_Part):
    """A change of the request that makes it work, and the layout it gives."""

    change: str
    layout: PlanLayout
    cost: PlanCost


def relaxation(change: str, case: Case, found: Evaluated, request: Request) -> Relaxation:
    return Relaxation(change=change, layout=_plan_layout(case, found, request), cost=found.cost)


def _ranks(case: Case, layout: Layout, batch: int) -> list[PlanRank]:
    """Every rank, its memory by its stage's own layers."""
    shares = Shares(case, Layouts.of(layout), batch)
    stages = stage_bounds(case.model.layers, layout.pp)
    codes = shares.layouts.exchange
    held = [_one((attention_memory(shares, codes, stage) + ffn_memory(shares, stage)).total_bytes) for stage in range(layout.pp)]
    block = case.workload.kv_block_tokens
    return [
        PlanRank(
            **vars(place),
            **heads_held(case.model, layout, place),  # type: ignore[arg-type]
            kv_blocks=f"rank {place.kvp} of {layout.kvp}, {block} tokens",
            experts=list(experts_held(case.model, layout, place)),
            layers=list(stages[place.stage]),
            memory_bytes=held[place.stage],
        )
        for place in coordinates(layout)
    ]
