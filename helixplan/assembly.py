"""Puts a plan together: what a layout costs and holds, the proof of it, and what each rank holds."""

from __future__ import annotations

from helixplan.cost.case import Case
from helixplan.engines import engine_of, free
from helixplan.evaluation import Evaluated, collectives_taken, evaluate
from helixplan.holdings import append_plan, copies_held, ranks_of
from helixplan.inputs.model import MoE, RecurrentAttention
from helixplan.inputs.workload import Request
from helixplan.layout import Layout
from helixplan.placement import process_groups
from helixplan.plans import (
    Plan,
    PlanAlternative,
    PlanEngine,
    PlanHardware,
    PlanLayout,
    PlanLimit,
    PlanModel,
    PlanProof,
    PlanWorkload,
    Relaxation,
)
from helixplan.rule import broken_rules
from helixplan.search.limits import CostOfLimits
from helixplan.search.optimum import Proof
from helixplan.search.relief import Relief
from helixplan.search.rules import FAMILIES, MEMORY, TTL, budget_rule, family_of, rules_asked_for, rules_in_force
from helixplan.version import COST_MODEL_VERSION, SCHEMA_VERSION, __version__


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
    ranks = ranks_of(case, found.layout, batch)
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
        kv_append=append_plan(case, found.layout),
        copies=copies_held(case.model, found.layout, ranks),
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
