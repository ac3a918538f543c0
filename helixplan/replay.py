"""A plan posed again: the case and the request it answered, so that it can be priced, searched or run anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from helixplan.assembly import plan_hardware, plan_workload
from helixplan.cost.case import Case
from helixplan.engines import posed
from helixplan.errors import InputError, shown
from helixplan.inputs.catalog import bundled_hardware, bundled_models
from helixplan.inputs.hardware import Hardware, load_hardware
from helixplan.inputs.huggingface import load_model
from helixplan.inputs.model import Model
from helixplan.inputs.spelled import as_flag, as_options
from helixplan.inputs.validation import read_text
from helixplan.inputs.workload import MAX_BATCH, PINS, Request, Workload, whole
from helixplan.plans import Plan
from helixplan.version import COST_MODEL_VERSION, __version__


def read_plan(path: Path) -> Plan:
    """A plan from a file. Raises InputError where it cannot be read, is no plan, or names sizes that none has."""
    file = str(path)
    plan = Plan.from_json(read_text(path), file)
    layouts = {"layout": plan.layout}
    layouts |= {f"alternatives[{index}].layout": option.layout for index, option in enumerate(plan.alternatives or [])}
    for name, layout in layouts.items():
        try:
            whole(layout.batch, 1, MAX_BATCH, "batch")
            _ = layout.layout
        except InputError as error:
            raise InputError(error.message, file=file, field=f"{name}.{error.field}") from None
    for name, text in (("model.name", plan.model.name), ("hardware.name", plan.hardware.name)):
        if not text.isprintable():
            raise InputError(f"got {shown(text)}, which cannot be printed", file=file, field=name)
    try:
        workload_of(plan)
        request_of(plan)
    except InputError as error:
        raise InputError(error.message, file=file, field=_written(error.field)) from None
    return plan


def _written(field: str | None) -> str:
    """Where a plan's file has what a workload or request calls otherwise."""
    if field in ("kernels", "floor_scale"):
        return f"hardware.{field}"
    return "workload." + {"ttl_s": "ttl_limit_s", "pin": "pins"}.get(field or "", field or "").replace("pin ", "pins.")


def made_otherwise(plan: Plan) -> str | None:
    """That another helixplan or cost model made the plan, in words; None where this one did."""
    made, this = (plan.helixplan_version, plan.cost_model_version), (__version__, COST_MODEL_VERSION)
    if made == this:
        return None
    return f"made by helixplan {shown(made[0])} with cost model {shown(made[1])}, not by this one, {this[0]} with {this[1]}"


def inputs_of(plan: Plan, file: str, model: str | None = None, hardware: str | None = None) -> tuple[Model, Hardware]:
    """What the plan was made of: the bundled model and system of its names, or the files given. Raises InputError."""
    return model_of(plan, file, model), hardware_of(plan, file, hardware)


def model_of(plan: Plan, file: str, model: str | None) -> Model:
    """The bundled model of the plan's name, or the file given. Raises InputError."""
    if model is None and plan.model.name not in bundled_models():
        raise InputError(
            f"got {plan.model.name!r}, which is not bundled; name its file with --model", file=file, field="model.name"
        )
    return load_model(model or plan.model.name)


def hardware_of(plan: Plan, file: str, hardware: str | None) -> Hardware:
    """The bundled system of the plan's name, or the profile given. Raises InputError."""
    if hardware is None and plan.hardware.name not in bundled_hardware():
        given = plan.hardware.name
        raise InputError(f"got {given!r}, which is not bundled; name its file with --hardware", file=file, field="hardware.name")
    return load_hardware(hardware or plan.hardware.name)


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
    try:
        return posed(model, hardware, workload_of(plan))
    except InputError as error:
        raise InputError(error.message, file=file, field=f"workload.{error.field}") from None


def workload_of(plan: Plan) -> Workload:
    """What the plan's workload says, as it was asked."""
    asked, clock = plan.workload, plan.hardware
    # What is asked for goes for every component, those that the model has not included; what its file states goes for its own.
    everywhere = {dtype for part, dtype in asked.weight_dtypes.items() if part != "router"} == {asked.weight_dtype}
    return Workload(
        asked.context_tokens,
        weight_dtype=asked.weight_dtype if everywhere else None,
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


def asking(plan: Plan, case: Case, model: str | None = None, hardware: str | None = None) -> list[str]:
    """The command that asks for the plan again, less options that change nothing. ``model``, ``hardware``: files not bundled."""
    work, request = _briefly(plan, case), request_of(plan)
    if request is None:
        layout = plan.layout
        sizes = {name: getattr(layout, name) for name in ("batch", *PINS, "overlap_chunks")}
        told = [part for name, size in sizes.items() for part in (as_flag(name), str(size))]
        verb = "estimate"
    else:
        verb, told = "plan", []
    return ["helixplan", verb, model or plan.model.name, hardware or plan.hardware.name, *as_options(work, request), *told]


def asking_frontier(plan: Plan, case: Case, request: Request, model: str | None = None, hardware: str | None = None) -> list[str]:
    """The command that asks for the frontier under a request, in the plan's case."""
    options = as_options(_briefly(plan, case), request)
    return ["helixplan", "frontier", model or plan.model.name, hardware or plan.hardware.name, *options]


def _briefly(plan: Plan, case: Case) -> Workload:
    """The plan's workload without what the model's and the system's own defaults say as well."""
    work = workload_of(plan)
    resolved = plan_workload(case, None), plan_hardware(case)
    for name in ("weight_dtype", "attention_math", "kv_dtype"):
        unsaid: dict[str, Any] = {name: None}
        shorter = replace(work, **unsaid)
        again = posed(case.model, case.hardware, shorter)
        if (plan_workload(again, None), plan_hardware(again)) == resolved:
            work = shorter
    return work


def misplaced(plan: Plan) -> Iterator[str]:
    """Whether the ranks are as many as the GPUs, numbered in order, and each in a place of its own."""
    layout = plan.layout
    product = layout.kvp * layout.tpa * layout.dp * layout.pp
    if layout.gpus != product:
        yield f"layout.gpus is {layout.gpus}, but kvp x tpa x dp x pp is {product}"
    if len(plan.ranks) != product:
        yield f"ranks has {len(plan.ranks)} entries for {product} GPUs"
    if [rank.rank for rank in plan.ranks] != list(range(len(plan.ranks))):
        wrong = next(index for index, rank in enumerate(plan.ranks) if rank.rank != index)
        yield f"rank {wrong}: entry {wrong} of ranks calls itself rank {plan.ranks[wrong].rank}"
    seen: dict[tuple[int, ...], int] = {}
    for rank in plan.ranks:
        place = (rank.stage, rank.dp, rank.kvp, rank.tpa)
        sizes = (layout.pp, layout.dp, layout.kvp, layout.tpa)
        if any(not 0 <= at < size for at, size in zip(place, sizes, strict=True)):
            yield f"rank {rank.rank}: its place (stage, dp, kvp, tpa) {place} lies outside the layout's {sizes}"
        if place in seen:
            yield f"rank {rank.rank}: rank {seen[place]} has its place (stage, dp, kvp, tpa) {place} already"
        seen[place] = rank.rank
