"""What a plan rests on: its workload, its system's datasheet and kernels, its model, each with its source."""

from __future__ import annotations

from collections.abc import Iterator

from helixplan.inputs.sources import SourcedKernel, figures, kernels
from helixplan.plans import Plan
from helixplan.report import wording
from helixplan.report.material import Material
from helixplan.report.page.elements import Markup, heading, joined, pairs, table
from helixplan.units import format_context, format_seconds


def section(material: Material) -> Markup:
    plan, profile = material.plan, material.profile
    sheet = [(one.name, f"{one.value:g}", one.source) for one in figures(profile)]
    constants = [(one.name, *_errors(one), one.source) for one in kernels(profile)]
    return joined(
        (
            heading("What was asked"),
            pairs(list(_workload(plan))),
            heading(f"The system: {profile.description}"),
            table("Datasheet numbers, SI units", ("number", "value", "source"), sheet, words=(2,), kind="wide"),
            heading("Its kernels"),
            table(
                "Constants and their errors on rows that the fit never saw, in per cent",
                ("kernel", "rows tested", "median", "90th percentile", "source"),
                constants,
                words=(4,),
                kind="wide",
            ),
            heading(f"The model: {plan.model.name}"),
            pairs(material.model_sources),
            heading("Versions"),
            pairs(_versions(plan)),
        )
    )


def _errors(kernel: SourcedKernel) -> tuple[str, str, str]:
    found = kernel.evidence
    if found is None:
        return "none", "", ""
    return f"{found.tested_rows:,}", f"{100 * found.median_error:.1f}", f"{100 * found.p90_error:.1f}"


def _workload(plan: Plan) -> Iterator[tuple[str, str]]:
    work, clock = plan.workload, plan.hardware
    yield "context", f"{format_context(work.context_tokens)} tokens a request"
    yield "precision", f"weights {wording.weights(plan)}, KV {work.kv_dtype}, attention arithmetic {work.attention_math}"
    yield "clock", f"{clock.kernels}, floor scale {clock.floor_scale:g}: {wording.calibration(plan)}"
    yield "exchange and overlap", f"{work.exchange}, {work.overlap}"
    yield "engine", work.engine
    yield (
        "memory",
        f"{wording.percent(work.memory_utilization)} of a GPU's may be used; KV in blocks of {work.kv_block_tokens} tokens",
    )
    yield "step overhead", format_seconds(work.step_overhead_s)
    if plan.proof is not None:
        yield "rules kept", ", ".join(plan.proof.rules)


def _versions(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("helixplan", plan.helixplan_version),
        ("cost model", plan.cost_model_version),
        (f"model {plan.model.name}", f"sha256 {plan.model.sha256}"),
        (f"system {plan.hardware.name}", f"sha256 {plan.hardware.sha256}"),
    ]
