"""Puts a plan together: what a layout costs and holds, the proof of it, and what each rank holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from helixplan.append import AppendSchedule
from helixplan.cost.case import Case
from helixplan.cost.collectives import REDUCE_WAYS
from helixplan.cost.ffn import moe_ways
from helixplan.cost.memory import attention_memory, ffn_memory, memory_limit, stage_loads
from helixplan.cost.shares import Shares
from helixplan.cost.step import COMMUNICATION, PHASE_ORDER, Part, Phase, attention_part, ffn_part
from helixplan.cost.timing import Timing
from helixplan.engines import engine_of, free
from helixplan.inputs.model import LatentAttention, Model, MoE, RecurrentAttention
from helixplan.inputs.workload import EXCHANGES, Request
from helixplan.layout import Layout, Layouts, dealt
from helixplan.placement import (
    coordinates,
    experts_held,
    ffn_columns_held,
    heads_held,
    process_groups,
    shared_columns_held,
    spoken_of_first,
    vocabulary_held,
)
from helixplan.plans import (
    Plan,
    PlanAlternative,
    PlanAppend,
    PlanCost,
    PlanEngine,
    PlanHardware,
    PlanHeads,
    PlanLayout,
    PlanLimit,
    PlanMemory,
    PlanModel,
    PlanPhase,
    PlanProof,
    PlanRank,
    PlanWorkload,
    Relaxation,
)
from helixplan.rule import broken_rules
from helixplan.search.limits import CostOfLimits
from helixplan.search.optimum import Proof
from helixplan.search.relief import Relief
from helixplan.search.rules import FAMILIES, MEMORY, TTL, budget_rule, family_of, rules_asked_for, rules_in_force
from helixplan.version import COST_MODEL_VERSION, SCHEMA_VERSION, __version__


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
        exchange=EXCHANGES[int(attention.exchange[0])],
        overlap_chunks=int(attention.chunks[0]),
    )
    ttl = float(attention.seconds[0] + ffn.seconds[0])
    ideal, same = case.ideal(), Layouts.of(resolved)
    ideal_s = attention_part(ideal, same, batch).seconds[0] + ffn_part(ideal, same, batch).seconds[0]
    phases = _merged(attention.phases + ffn.phases)
    error, share = _constants_error(case, attention.phases + ffn.phases, ttl)
    stages = [one + other for one, other in zip(attention.memory, ffn.memory, strict=True)]
    held = max(stages, key=lambda kind: _one(kind.total_bytes))
    total, limit = _one(held.total_bytes), memory_limit(case)
    return Evaluated(
        resolved,
        batch,
        PlanCost(
            ttl_s=ttl,
            ttl_ideal_s=float(ideal_s),
            constants_error=error,
            constants_error_share=share,
            tokens_per_s_per_user=1 / ttl,
            tokens_per_s_per_gpu=batch / (ttl * layout.gpus),
            hidden_communication_s=_hidden(case, resolved, batch, phases),
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


def _constants_error(case: Case, phases: list[Phase], ttl: float) -> tuple[float | None, float | None]:
    """(median error of the constants weighted by time, share of the TTL that was so tested), where the profile's own are used."""
    if case.workload.clock != 1 or not case.hardware.kernels.calibrated:
        return None, None
    whole = sum((phase.timing for phase in phases), Timing())
    backed = _one(whole.backed_s)
    return (_one(whole.error_s) / backed, backed / ttl) if backed else (None, None)


def _hidden(case: Case, layout: Layout, batch: int, phases: list[PlanPhase]) -> float:
    """The exchange's seconds in one chunk less what is left of them in the layout's chunks."""
    if (layout.overlap_chunks or 1) == 1:
        return 0.0
    whole = attention_part(case, Layouts.of(replace(layout, overlap_chunks=1)), batch).phases
    in_one = sum(_one(phase.timing.seconds) for phase in whole if phase.name == "attention.exchange")
    return in_one - sum(phase.seconds for phase in phases if phase.name == "attention.exchange")


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
            stored_bytes=_one(phase.timing.stored_bytes),
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
    limits: CostOfLimits | None = None,
) -> Plan:
    """The plan of one layout: of a search's answer where ``request`` and ``proof`` are given, else of an estimate."""
    found = evaluate(case, layout, batch)
    broken = None
    if proof is None:
        broken = [rule.name for rule in broken_rules(rules_in_force(case, FAMILIES["helix"]), case, found.layout)]
        broken += [] if found.memory.fits else [MEMORY]
    ranks = _ranks(case, found.layout, batch)
    return Plan(
        schema_version=SCHEMA_VERSION,
        helixplan_version=__version__,
        cost_model_version=COST_MODEL_VERSION,
        model=PlanModel(name=case.model.name, sha256=case.model.sha256),
        hardware=plan_hardware(case),
        workload=plan_workload(case, request),
        layout=layout_found(case, found, request),
        cost=found.cost,
        memory=found.memory,
        proof=None if proof is None or request is None else _plan_proof(case, proof, request),
        broken_rules=broken,
        alternatives=None if alternatives is None else [_alternative(case, one, size, request) for one, size in alternatives],
        engine=_plan_engine(case, limits, request),
        warnings=warnings_of(case, found.layout),
        collectives=collectives_taken(case, found.layout, batch),
        kv_append=_append(case, found.layout),
        copies=_copies(case.model, found.layout, ranks),
        ranks=ranks,
        groups=process_groups(case.model, found.layout),
    )


def warnings_of(case: Case, layout: Layout | None = None) -> list[str]:
    """What a user should know before believing the numbers, or running the layout on the engine it is planned for."""
    said = []
    longest, asked = case.model.max_context, case.workload.context_tokens
    if longest is not None and asked > longest:
        said.append(f"{case.model.name} was made for {longest:,} tokens (max_position_embeddings); {asked:,} were asked for")
    if case.hardware.calibration_note:
        said.append(f"{case.hardware.name} is {case.hardware.calibration_note}")
    for dtype, what in case.borrowed_kernels():
        said.append(f"{case.hardware.name} has no constants for {dtype} {what}: bf16's stand in, so it is uncalibrated there")
    engine = engine_of(case)
    return said + (engine.warnings(case, layout) if engine is not None and layout is not None else [])


def layout_found(case: Case, found: Evaluated, request: Request | None) -> PlanLayout:
    """An evaluated layout as documents name it, called after the family asked for, else after the first whose rules it keeps."""
    family = request.family if request is not None else "any"
    if family == "any":
        known = family_of(case, found.layout)
        family = known.name if known else "none"
    return plan_layout(case, found.layout, found.batch, family)


def plan_layout(case: Case, layout: Layout, batch: int, family: str) -> PlanLayout:
    """A layout whose exchange and chunks are resolved, as documents name it."""
    chunks = layout.overlap_chunks or 1
    return PlanLayout(
        family=family,
        kvp=layout.kvp,
        tpa=layout.tpa,
        dp=layout.dp,
        pp=layout.pp,
        tpf=layout.tpf,
        ep=layout.ep,
        gpus=layout.gpus,
        batch=batch,
        overlap="hop-b" if chunks > 1 else "none",
        overlap_chunks=chunks,
        exchange=layout.exchange,  # type: ignore[arg-type]
        kv_block_tokens=case.workload.kv_block_tokens,
    )


def plan_hardware(case: Case) -> PlanHardware:
    """The system, its clock and where its constants come from."""
    return PlanHardware(
        name=case.hardware.name,
        sha256=case.hardware.sha256,
        kernels="ideal" if case.workload.kernels == "ideal" else "measured",
        floor_scale=case.workload.clock,
        calibrated=case.hardware.file.kernels.calibrated,
        calibration=case.hardware.file.kernels.source,
    )


def plan_workload(case: Case, request: Request | None) -> PlanWorkload:
    """What was asked, defaults resolved."""
    work, precision = case.workload, case.precision
    dtypes = {part: precision.of(part) for part in ("attention", "dense", "experts", "shared", "router")}
    used = {dtype for part, dtype in dtypes.items() if part in _components(case)}
    kinds = [attention for _, attention, _ in case.model.attention_kinds]
    # A state's arithmetic is bf16 whatever is asked; it speaks only for a model that has nothing else.
    told = [attention for attention in kinds if not isinstance(attention, RecurrentAttention)] or kinds
    math = {case.machine.attention_math(attention) for attention in told}
    return PlanWorkload(
        context_tokens=work.context_tokens,
        weight_dtype=used.pop() if len(used) == 1 else "mixed",
        weight_dtypes=dtypes,
        kv_dtype=case.machine.kv_dtype,
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


def _plan_proof(case: Case, proof: Proof, request: Request) -> PlanProof:
    rules = [rule.name for rule in rules_asked_for(case, request)]
    rules += [MEMORY, budget_rule(request)] + ([TTL] if request.ttl_s is not None else [])
    return PlanProof(**vars(proof), rules=rules)


def _plan_engine(case: Case, limits: CostOfLimits | None, request: Request | None) -> PlanEngine | None:
    engine = engine_of(case)
    if engine is None:
        return None
    if limits is None or limits.free is None:
        return PlanEngine(name=engine.name, title=engine.title)
    return PlanEngine(
        name=engine.name,
        title=engine.title,
        free=_alternative(free(case), limits.free.layout, limits.free.batch, request),
        cost_of_limits=limits.share,
        limits=[
            PlanLimit(
                name=one.limit.name,
                kind=one.limit.kind,  # type: ignore[arg-type]
                reason=one.limit.reason,
                gain=one.gain,
                objective=one.objective,
            )
            for one in limits.lifted
        ],
    )


def _alternative(case: Case, layout: Layout, batch: int, request: Request | None) -> PlanAlternative:
    found = evaluate(case, layout, batch)
    return PlanAlternative(
        layout=layout_found(case, found, request),
        ttl_s=found.cost.ttl_s,
        tokens_per_s_per_user=found.cost.tokens_per_s_per_user,
        tokens_per_s_per_gpu=found.cost.tokens_per_s_per_gpu,
        memory_bytes=found.memory.total_bytes,
    )


def relaxation(relief: Relief, found: Evaluated) -> Relaxation:
    """What would help, with what it gives."""
    changes = [change.said for change in relief.changes]
    layout = layout_found(relief.case, found, relief.request)
    return Relaxation(change=" and ".join(changes), changes=changes, layout=layout, cost=found.cost)


def collectives_taken(case: Case, layout: Layout, batch: int) -> dict[str, str]:
    """The cheapest way of every reduction that there is, and of an engine's exchange: each tried in turn."""
    row = Layouts.of(layout)

    def best(name: str, ways: tuple[str, ...], half: Callable[[Case, Layouts, int], Part]) -> str:
        return min(ways, key=lambda way: half(replace(case, ways={name: way}), row, batch).seconds[0])

    taken = {}
    if engine_of(case) is not None and _exchanges(case.model, layout):
        taken["attention.exchange"] = best("attention.exchange", case.communication.exchange_ways, attention_part)
    if layout.attention_group > 1:
        taken["attention.reduce"] = best("attention.reduce", REDUCE_WAYS, attention_part)
    for name, ffn, _ in case.model.ffn_kinds if layout.gpus_per_stage > 1 else ():
        ways = moe_ways(layout) if isinstance(ffn, MoE) else REDUCE_WAYS
        taken[f"ffn.reduce {name}"] = best(f"ffn.reduce {name}", ways, ffn_part)
    return taken


def _exchanges(model: Model, layout: Layout) -> bool:
    """Whether any layer's attention is brought together over KVP ranks."""
    return layout.kvp > 1 and any(attention.split_by_kvp for _, attention, _ in model.attention_kinds)


def _append(case: Case, layout: Layout) -> PlanAppend:
    work = case.workload
    schedule = AppendSchedule(layout.kvp, work.kv_block_tokens, work.context_tokens)
    tokens = schedule.tokens()
    return PlanAppend(
        kvp=layout.kvp,
        block_tokens=work.kv_block_tokens,
        prefill_tokens=work.context_tokens,
        next_rank=int(schedule.owner(work.context_tokens)),
        fullest_tokens=int(tokens.max()),
        emptiest_tokens=int(tokens.min()),
    )


def _copies(model: Model, layout: Layout, ranks: list[PlanRank]) -> dict[str, float]:
    """How many times the first stage holds each thing, counted from its ranks' ranges."""
    stage = [rank for rank in ranks if rank.stage == 0]

    def times(size: int, ranges: Iterable[list[int]]) -> float:
        return sum(end - start for start, end in ranges) / size

    first = spoken_of_first(model)[0]
    held: dict[str, float] = {}
    for name, kind, _ in model.attention_kinds:
        heads = [(rank if name == first else rank.other_heads[name]) for rank in stage]
        told = "" if name == first else f".{name}"
        held[f"query_heads{told}"] = times(kind.query_heads, (one.query_heads for one in heads))
        held[f"output_heads{told}"] = times(kind.query_heads, (one.output_heads for one in heads))
        held[f"kv_heads{told}"] = times(kind.kv_heads, (one.kv_heads for one in heads))
        shards = layout.dp * (layout.kvp if kind.split_by_kvp else 1)
        cached = "query_heads" if isinstance(kind, RecurrentAttention) else "kv_heads"
        held[f"kv_cache{told}"] = held[f"{cached}{told}"] / shards
        if isinstance(kind, LatentAttention) and kind.indexer is not None:
            held[f"index_keys{told}"] = len(stage) / layout.dp
    if model.experts:
        held["experts"] = times(model.experts, (rank.experts for rank in stage)) / layout.tpf
    for name, ffn, _ in model.ffn_kinds:
        over = layout.ep if isinstance(ffn, MoE) else 1
        held[f"ffn_columns.{name}"] = times(ffn.width, (rank.ffn_columns[name] for rank in stage)) / over
        if isinstance(ffn, MoE) and ffn.shared_width:
            held[f"shared_columns.{name}"] = times(ffn.shared_width, (rank.shared_columns[name] for rank in stage))
    held["vocabulary"] = times(model.vocabulary, (rank.vocabulary for rank in stage))
    return held


def _ranks(case: Case, layout: Layout, batch: int) -> list[PlanRank]:
    """Every rank, its memory by its stage's own layers."""
    shares = Shares(case, Layouts.of(layout), batch)
    stages = dealt(case.model.layers, layout.pp)
    codes = shares.layouts.exchange
    loads = stage_loads(case.model, layout.pp)
    halves = zip(attention_memory(shares, codes, loads), ffn_memory(shares, loads), strict=True)
    held = [_one((attention + ffn).total_bytes) for attention, ffn in halves]
    block = case.workload.kv_block_tokens
    first, told = spoken_of_first(case.model)
    others = [(name, kind) for name, kind, _ in case.model.attention_kinds if name != first]
    return [
        PlanRank(
            **vars(place),
            **heads_held(told, layout, place),  # type: ignore[arg-type]
            other_heads={name: PlanHeads(**heads_held(kind, layout, place)) for name, kind in others},
            kv_blocks=f"rank {place.kvp} of {layout.kvp}, {block} tokens",
            experts=list(experts_held(case.model, layout, place)),
            ffn_columns=ffn_columns_held(case.model, layout, place),
            shared_columns=shared_columns_held(case.model, layout, place),
            layers=list(stages[place.stage]),
            vocabulary=list(vocabulary_held(case.model, layout, place)),
            memory_bytes=held[place.stage],
        )
        for place in coordinates(layout)
    ]
