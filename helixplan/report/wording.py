"""The facts of a plan in words, once, for every view."""

from __future__ import annotations

from helixplan.plans import Plan, PlanAlternative, PlanLayout, PlanPhase
from helixplan.units import format_bytes, format_context, format_count, format_counted, format_seconds

ALTERNATIVE_COLUMNS = ("GPUs", "KVPxTPAxDP", "TPFxEP", "PP", "batch", "TTL", "tok/s/user", "tok/s/GPU", "GB/GPU")
NOTICED = 0.0005
"""Shares of an objective below this show as 0.0 %."""
GOALS = {"throughput": "best throughput", "interactivity": "best interactivity", "users": "most users", "gpus": "fewest GPUs"}
"""What is asked for with each objective."""
PHASE_COLUMNS = ("phase", "layers", "time", "share", "bound by")


CLASH = (
    "No layout keeps all of these at once. Each is needed for that: some layout keeps the others (and may still clash with "
    "requests that are not named here):"
)


def headline(plan: Plan) -> str:
    """Model, system, context, and what was asked."""
    asked = f"{plan.model.name} on {plan.hardware.name}, {format_context(plan.workload.context_tokens)} tokens of context"
    if plan.workload.ttl_limit_s is not None:
        asked += f", TTL at most {format_seconds(plan.workload.ttl_limit_s)}"
    return asked + (f": {GOALS[plan.workload.objective]}" if plan.workload.objective else ": estimate")


def facts(plan: Plan) -> list[tuple[str, str]]:
    """What a user came for, a line each."""
    layout, cost, memory, work = plan.layout, plan.cost, plan.memory, plan.workload
    stages = f", in {layout.pp} pipeline stages" if layout.pp > 1 else ""
    lines = [
        ("GPUs", f"{layout.gpus}{stages} ({'no' if layout.family == 'none' else layout.family} family)"),
        ("attention", f"KVP {layout.kvp} x TPA {layout.tpa} x DP {layout.dp}"),
        ("FFN", f"TPF {layout.tpf} x EP {layout.ep}"),
        ("batch", format_counted(layout.batch, "concurrent request")),
        ("exchange", exchange(plan)),
        ("TTL", f"{format_seconds(cost.ttl_s)} (speed of light {format_seconds(cost.ttl_ideal_s)}{constants(plan)})"),
        ("throughput", f"{cost.tokens_per_s_per_user:.4g} tokens/s/user, {cost.tokens_per_s_per_gpu:.4g} tokens/s/GPU"),
        ("exposed comm.", f"{format_seconds(cost.exposed_communication_s)} of a step"),
        (
            "memory/GPU",
            f"{format_bytes(memory.total_bytes)} of {format_bytes(memory.limit_bytes)} allowed: "
            f"weights {format_bytes(memory.weights_bytes)}, KV cache {format_bytes(memory.kv_cache_bytes)}, "
            f"buffers {format_bytes(memory.buffers_bytes)}, workspace {format_bytes(memory.workspace_bytes)}",
        ),
        ("precision", f"weights {weights(plan)}, KV {work.kv_dtype}, attention arithmetic {work.attention_math}"),
    ]
    if plan.broken_rules is not None:
        whose = "Helix's" if plan.engine is None else f"Helix's or {plan.engine.title}'s"
        lines.append(("breaks", ", ".join(plan.broken_rules) or f"no rule of {whose}"))
    if plan.proof is not None:
        lines.append(("proof", proof(plan)))
    return lines + engine(plan)


def engine(plan: Plan) -> list[tuple[str, str]]:
    """What planning for an engine costs, and which of its limits costs it."""
    found = plan.engine
    if found is None:
        return []
    if found.cost_of_limits is None or found.free is None:
        return [("engine", found.title)]
    share, without = found.cost_of_limits, layout_words(found.free.layout)
    if share < -NOTICED:
        return [("engine", f"{found.title}: {percent(-share)} better than the paper's exchange allows ({without})")]
    if share <= NOTICED:
        return [("engine", f"{found.title}: its limits cost nothing")]
    lost = f"{found.title}'s limits cost {percent(share)}: without them {without}, TTL {format_seconds(found.free.ttl_s)}"
    lines = [("engine", lost)]
    helps = [limit for limit in found.limits if limit.gain > NOTICED]
    lines += [("costs", f"without {limit.name} alone {percent(limit.gain)} comes back: {limit.reason}") for limit in helps]
    return lines if helps else [*lines, ("costs", "no single limit: it takes several of them together")]


def layout_words(layout: PlanLayout) -> str:
    """A layout in one line."""
    return (
        f"{format_counted(layout.gpus, 'GPU')}, KVP {layout.kvp} x TPA {layout.tpa} x DP {layout.dp}, "
        f"TPF {layout.tpf} x EP {layout.ep}, PP {layout.pp}, batch {layout.batch:,}"
    )


def weights(plan: Plan) -> str:
    """One dtype, or each component's."""
    if plan.workload.weight_dtype != "mixed":
        return plan.workload.weight_dtype
    return ", ".join(f"{part} {dtype}" for part, dtype in plan.workload.weight_dtypes.items())


def exchange(plan: Plan) -> str:
    """What the KVP ranks exchange, and how it is overlapped. Latents or values: only MLA has the choice."""
    layout = plan.layout
    if layout.kvp == 1:
        return "none: one KVP rank holds the whole context"
    if not any(phase.name == "attention.exchange" for phase in plan.cost.phases):
        return "none: no layer's cache is split along the sequence"
    overlapped = f"HOP-B in {layout.overlap_chunks} chunks" if layout.overlap == "hop-b" else "not overlapped"
    kind = f"{layout.exchange} " if any(phase.name == "attention.value_up" for phase in plan.cost.phases) else ""
    way = plan.collectives.get("attention.exchange", "all-to-all")
    return f"{kind}{way} over {layout.kvp} KVP ranks, {overlapped}"


def proof(plan: Plan) -> str:
    found = plan.proof
    assert found is not None
    value = objective(found.objective, found.unit)
    if found.status != "optimal":
        return f"{found.status}: found {value}, and nothing can be better than {objective(found.bound, found.unit)}"
    return f"optimal: none of {format_count(found.candidates)} layouts and batches has better than {value}"


def constants(plan: Plan) -> str:
    """How far the constants behind a TTL are off in tests, or that they are another system's; nothing under another clock."""
    if plan.cost.constants_error is not None:
        return f"; constants +-{plan.cost.constants_error:.0%}".replace("%", " %")
    return "; constants uncalibrated" if plan.hardware.floor_scale == 1 and not plan.hardware.calibrated else ""


def percent(share: float) -> str:
    """A fraction as people say it: 0.043 is "4.3 %"."""
    return f"{round(share, 3) + 0.0:.1%}".replace("%", " %")


def error_pair(median: float, p90: float, digits: int = 1) -> str:
    """Median and 90th percentile of an error in percent: "2.7, 10.7"; the median alone where no percentile is spoken of."""
    shown = [f"{100 * share:.{digits}f}" for share in (median, p90) if share != float("inf")]
    return ", ".join(shown)


def objective(value: float, unit: str) -> str:
    """A value of the objective in its unit."""
    return f"a TTL of {format_seconds(value)}" if unit == "s" else f"{value:.4g} {unit}"


def sources(plan: Plan) -> list[str]:
    """Where the numbers come from."""
    hardware = plan.hardware
    scaled = f" at floor scale {hardware.floor_scale:g}" if 0 < hardware.floor_scale < 1 else ""
    return [
        f"kernels{scaled}: {calibration(plan)}",
        f"datasheet: helixplan hardware show {hardware.name}; cost model {plan.cost_model_version} (docs/cost-model.md)",
    ]


def calibration(plan: Plan) -> str:
    """What the clock's constants rest on."""
    return "ideal clock: datasheet rates alone" if plan.hardware.floor_scale == 0 else plan.hardware.calibration


def alternative_row(option: PlanLayout, found: Plan | PlanAlternative) -> tuple[str, ...]:
    """A layout's line in the table of the next best."""
    if isinstance(found, Plan):
        ttl, user, gpu = found.cost.ttl_s, found.cost.tokens_per_s_per_user, found.cost.tokens_per_s_per_gpu
        held = found.memory.total_bytes
    else:
        ttl, user, gpu, held = found.ttl_s, found.tokens_per_s_per_user, found.tokens_per_s_per_gpu, found.memory_bytes
    return (
        str(option.gpus),
        f"{option.kvp}x{option.tpa}x{option.dp}",
        f"{option.tpf}x{option.ep}",
        str(option.pp),
        format_count(option.batch),
        format_seconds(ttl),
        f"{user:.4g}",
        f"{gpu:.4g}",
        f"{held / 1e9:.1f}",
    )


def phase_row(phase: PlanPhase, plan: Plan) -> tuple[str, ...]:
    """A phase's line in the table of where a token's time goes."""
    name = f"{phase.name} ({phase.group})" if phase.group else phase.name
    share = phase.seconds / plan.cost.ttl_s
    return name, str(phase.layers), format_seconds(phase.seconds), f"{share:.1%}", phase.bound
