"""An explanation in words and rows, once for every view. Every figure said is one of the document's."""

from __future__ import annotations

from helixplan.explanation import Edge, Elasticity, ExplainedPhase, Explanation, Figures, Held, Investment, Loss, RunnerUp, Step
from helixplan.inputs.workload import PINS
from helixplan.plans import PlanLayout
from helixplan.report.wording import GOALS, layout_words, percent
from helixplan.units import format_bytes, format_context, format_counted, format_seconds

BAR = 18
"""Characters of the longest phase's bar."""
BAR_COLUMNS = ("phase", "bound by", "# ideal, - above it", "time", "ideal", "share")
RUNNER_UP_COLUMNS = ("KVPxTPAxDPxPP", "TPFxEP", "batch", "TTL", "tok/s/GPU", "worse", "loses in")
INVESTMENT_COLUMNS = ("", "TTL", "tok/s/GPU", "the best then", "which has")
ELASTICITY_COLUMNS = ("1 % more of", "TTL", "tokens/s/GPU")
RESOURCES = {
    "context": "context",
    "batch": "batch",
    "hbm_bandwidth": "HBM bandwidth",
    "link_bandwidth": "fast link bandwidth",
    "scale_out_bandwidth": "scale-out bandwidth",
    "compute": "FLOP rates",
    "floors": "floors and latencies",
    "capacity": "memory capacity",
}


def headline(told: Explanation) -> str:
    """Model, system, context, and what was asked."""
    work = told.workload
    asked = f"{told.model.name} on {told.hardware.name}, {format_context(work.context_tokens)} tokens of context"
    if work.ttl_limit_s is not None:
        asked += f", TTL at most {format_seconds(work.ttl_limit_s)}"
    return f"{asked}: why this layout has the {GOALS[work.objective or 'throughput']}"


def facts(told: Explanation) -> list[tuple[str, str]]:
    """The plan, and what its step is spent on."""
    plan = told.plan
    return [
        ("layout", layout_words(plan.layout)),
        ("TTL", f"{format_seconds(plan.ttl_s)} (speed of light {format_seconds(told.ttl_ideal_s)})"),
        ("throughput", f"{plan.tokens_per_s_per_user:.4g} tokens/s/user, {plan.tokens_per_s_per_gpu:.4g} tokens/s/GPU"),
        *spent_on(told),
    ]


def spent_on(told: Explanation) -> list[tuple[str, str]]:
    """What the step is bound by, what binds the plan, and what would help most."""
    spent = sorted(told.bounds_s.items(), key=lambda pair: -pair[1])
    first = told.investments[0]
    return [
        ("bound by", ", ".join(f"{bound} {percent(seconds / told.plan.ttl_s)}" for bound, seconds in spent)),
        ("binding", ", ".join(one.rule for one in told.rules if one.binds) or "no request or rule: more room would not help"),
        ("helps most", f"{_invested(first)}: TTL {_signed(100 * first.ttl_change)}, the best plan {_better(first)}"),
    ]


def phase_name(name: str, group: str | None) -> str:
    return f"{name} ({group})" if group else name


def phase_row(phase: ExplainedPhase, told: Explanation) -> tuple[str, ...]:
    """A phase's line: of its bar, what the ideal clock takes is ``#`` and what comes on top of it ``-``."""
    longest = max(one.seconds for one in told.phases)
    whole = round(phase.seconds / longest * BAR) if longest else 0
    light = min(round(phase.ideal_s / longest * BAR) if longest else 0, whole)
    return (
        phase_name(phase.name, phase.group),
        phase.bound,
        ("#" * light + "-" * (whole - light)) or ".",
        format_seconds(phase.seconds),
        format_seconds(phase.ideal_s),
        percent(phase.share),
    )


def rule_line(held: Held, told: Explanation) -> tuple[str, str]:
    """How near the plan is to a request or rule, and what it costs."""
    said = ""
    if held.used is not None and held.limit is not None:
        said = _used(held.used, held.limit, held.unit) + "; "
    if held.without is None:
        return held.rule, f"{said}does not bind"
    return held.rule, f"{said}binds: without it {_some(held.gain)} better {_figures(held.without, told)}"


def _used(used: float, limit: float, unit: str | None) -> str:
    if unit in ("s", "bytes"):
        written = format_seconds if unit == "s" else format_bytes
        return f"{written(used)} of {written(limit)}"
    return f"{used:,.0f} of {limit:,.0f} {unit.upper() if unit in PINS else unit}"


def step_line(step: Step, told: Explanation) -> tuple[str, str]:
    """What one step of a variable would give, or what stops it."""
    now = f"{getattr(told.plan.layout, step.variable)} " if step.variable != "exchange" or _exchanges_either(told) else ""
    name = f"{step.variable} {now}{step.direction}"
    if step.value is not None:
        name += f" to {step.value}"
    if step.found is None or step.objective_change is None:
        return name, "none: " + "; ".join(one.detail for one in step.stopped_by)
    return name, f"{_change(step.objective_change)} {_figures(step.found, told)}{_loss(step.loses_in, told)}"


def _exchanges_either(told: Explanation) -> bool:
    """Whether the layout exchanges latents or values: only MLA's KVP ranks do."""
    return told.plan.layout.kvp > 1 and any(phase.name == "attention.value_up" for phase in told.phases)


def _change(change: float) -> str:
    if change == 0:
        return "as good"
    return f"{_some(abs(change))} {'better' if change > 0 else 'worse'}"


def _some(share: float) -> str:
    """A share that is not nothing, however small."""
    return percent(share) if round(share, 3) else "under 0.05 %"


def _figures(found: Figures, told: Explanation) -> str:
    """A layout, by what it has otherwise than the plan, and its TTL and throughput."""
    figures = f"TTL {format_seconds(found.ttl_s)}, {found.tokens_per_s_per_gpu:.4g} tokens/s/GPU"
    return f"with {differences(found.layout, told.plan.layout)}: {figures}"


def differences(layout: PlanLayout, plan: PlanLayout) -> str:
    """What a layout has otherwise than the plan's: "KVP 16, DP 4, batch 68"."""
    said = [format_counted(layout.gpus, "GPU")] if layout.gpus != plan.gpus else []
    said += [f"{name.upper()} {getattr(layout, name)}" for name in PINS if getattr(layout, name) != getattr(plan, name)]
    said += [f"batch {layout.batch:,}"] if layout.batch != plan.batch else []
    said += [f"{layout.exchange} exchange"] if layout.exchange != plan.exchange else []
    if layout.overlap_chunks != plan.overlap_chunks:
        said.append(f"{layout.overlap_chunks} chunks" if layout.overlap_chunks > 1 else "no overlap")
    return ", ".join(said) or "this layout"


def _loss(loss: Loss | None, told: Explanation) -> str:
    if loss is None:
        return ""
    more = format_seconds(loss.after - loss.before)
    unit = {"s": "a token", "s a request": "a request"}.get(told.loss_unit, "of GPU time a token")
    return f"; {phase_name(loss.phase, loss.group)} takes {more} {unit} more"


def runner_up_row(one: RunnerUp) -> tuple[str, ...]:
    """A next best layout's line."""
    layout, loss = one.found.layout, one.loses_in
    return (
        f"{layout.kvp}x{layout.tpa}x{layout.dp}x{layout.pp}",
        f"{layout.tpf}x{layout.ep}",
        f"{layout.batch:,}",
        format_seconds(one.found.ttl_s),
        f"{one.found.tokens_per_s_per_gpu:.4g}",
        _some(-one.objective_change) if one.objective_change else "as good",
        phase_name(loss.phase, loss.group) if loss else "no phase",
    )


def elasticity_row(one: Elasticity) -> tuple[str, ...]:
    """By how many per cent the figures move."""
    return RESOURCES[one.of], _signed(one.ttl), _signed(one.tokens_per_s_per_gpu)


def _signed(per_cent: float) -> str:
    return f"{per_cent:+.2f} %" if round(per_cent, 2) else "0"


def investment_row(one: Investment, told: Explanation) -> tuple[str, ...]:
    """What a little more of one resource gives this layout, and the best one then."""
    layout, throughput = _signed(100 * one.ttl_change), _signed(100 * one.tokens_per_s_per_gpu_change)
    return _invested(one), layout, throughput, _better(one), differences(one.replanned.layout, told.plan.layout)


def _better(one: Investment) -> str:
    return f"{one.objective_change:.2%}".replace("%", " %") + " better" if round(one.objective_change, 4) else "as good"


def _invested(one: Investment) -> str:
    amount = f"{abs(one.change):.0%}".replace("%", " %")
    return f"{amount} {'more' if one.change > 0 else 'less'} {RESOURCES[one.resource]}"


def context_lines(told: Explanation) -> list[tuple[str, str]]:
    """How far the layout holds, and where KVP changes."""
    low, high = told.contexts.low, told.contexts.high
    span = f"from {low.tokens:,} to {high.tokens:,} tokens of context"
    span += f": every layout that could win in between was looked at every {percent(told.contexts.step - 1)}"
    if low.tokens == high.tokens:
        span = f"at {low.tokens:,} tokens of context; close by, on either side, another is"
    lines = [("optimal", span)]
    if low.tokens != high.tokens:
        lines.append(("", "(whole batches may let another win for less than such a step)"))
    lines += [("below", _edge(low)), ("above", _edge(high))]
    lines += [
        ("crossover", f"KVP {one.below.kvp} at {one.below_tokens:,} tokens, KVP {one.above.kvp} at {one.above_tokens:,}")
        for one in told.crossovers
    ]
    if told.crossovers:
        lines.append(("", "(those found; whole batches make the best KVP go back and forth between them)"))
    if not told.crossovers:
        lines.append(("crossover", f"none between {told.crossovers_from:,} and {told.crossovers_to:,} tokens"))
    return lines


def _edge(edge: Edge) -> str:
    if edge.beyond_tokens is None:
        return f"still the best at {edge.tokens:,} tokens, where the search ended"
    if edge.beyond is None:
        return f"at {edge.beyond_tokens:,} tokens no layout keeps the request"
    return f"at {edge.beyond_tokens:,} tokens {layout_words(edge.beyond)} is the best"
