"""A plan posed again: the case and the request it answered, so that it can be priced, searched or run anew."""

from __future__ import annotations

from helixplan.cost.case import Case, pose
from helixplan.errors import InputError
from helixplan.inputs.hardware import Hardware
from helixplan.inputs.model import Model
from helixplan.inputs.workload import Request, Workload
from helixplan.plans import Plan


def case_of(plan: Plan, model: Model, hardware: Hardware, file: str = "plan") -> Case:
    """The case that the plan answered. Raises InputError where model or hardware are not those the plan was made for."""
    for field, made_for, given in (
        ("model.sha256", plan.model.sha256, model.sha256),
        ("hardware.sha256", plan.hardware.sha256, hardware.sha256),
    ):
        if made_for != given:
            kind = field.split(".")[0]
            name = plan.model.name if kind == "model" else plan.hardware.name
            raise InputError(
                f"the plan was made for another {name} than this one ({made_for[:12]}..., not {given[:12]}...); "
                f"name the file it was made for with --{kind}, or plan anew",
                file=file,
                field=field,
            )
    return pose(model, hardware, workload_of(plan))


def workload_of(plan: Plan) -> Workload:
    """What the plan's workload says, as it was asked."""
    asked, clock = plan.workload, plan.hardware
    return Workload(
        asked.context_tokens,
        weight_dtype=None if asked.weight_dtype == "mixed" else asked.weight_dtype,
        kv_dtype=asked.kv_dtype,
        attention_math=None if asked.attention_math == "mixed" else asked.attention_math,
        kernels=clock.kernels,
        floor_scale=None if clock.kernels == "ideal" else clock.floor_scale,
        overlap=asked.overlap,
        exchange=asked.exchange,
        engine=None if asked.engine == "none" else asked.engine,
        memory_utilization=asked.memory_utilization,
        kv_block_tokens=asked.kv_block_tokens,
        step_overhead_s=asked.step_overhead_s,
    )


def request_of(plan: Plan) -> Request | None:
    """What the search had to keep; None for an estimate."""
    asked = plan.workload
    if plan.proof is None or asked.family is None:
        return None
    return Request(asked.ttl_limit_s, asked.batch, asked.gpus, asked.max_gpus, asked.family, dict(asked.pins), asked.objective)
