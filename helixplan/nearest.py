"""Launch files of a plan, or why an engine cannot run it and the nearest plan that it can."""

from __future__ import annotations

from dataclasses import replace

from helixplan.api import plan_case
from helixplan.cost.case import Case
from helixplan.engines.engine import KV_DTYPES
from helixplan.errors import InfeasibleError, InputError, NotExpressibleError
from helixplan.export.files import dynamo_files, engine_files, express, on_engine
from helixplan.export.spellings import EXPORTS, SPELLINGS
from helixplan.inputs.spelled import plan_command
from helixplan.inputs.workload import Request, choice, whole
from helixplan.plans import Plan
from helixplan.replay import request_of
from helixplan.units import format_counted, format_seconds


def export(plan: Plan, case: Case, engine: str, backend: str | None = None, gpus_per_node: int | None = None) -> dict[str, str]:
    """The files that launch a plan, by name.

    Raises InputError about the engine, and NotExpressibleError where it cannot run the layout, with the nearest plan that it can.
    """
    choice(engine, EXPORTS, "engine")
    dynamo = engine == "dynamo"
    if not dynamo and (backend or gpus_per_node):
        name = "backend" if backend else "gpus-per-node"
        raise InputError("is for --engine dynamo alone", field=f"--{name}")
    if backend is not None:
        choice(backend, tuple(SPELLINGS), "--backend")
    if gpus_per_node is not None:
        whole(gpus_per_node, 1, 1024, "--gpus-per-node")
    try:
        return dynamo_files(plan, case, backend, gpus_per_node) if dynamo else engine_files(plan, case, engine)
    except NotExpressibleError as error:
        candidates = [backend] if backend else list(SPELLINGS) if dynamo else [engine]
        raise NotExpressibleError(error.engine, error.reason, _advice(plan, case, candidates)) from None


def nearest_plan(plan: Plan, case: Case, engine: str) -> Plan | None:
    """The best plan for the same request that an engine can run: of an estimate, for its GPUs and batch. None: there is none.

    A KV cache that the engine lacks becomes nvfp4's, the narrowest it has. Pins are dropped where nothing keeps them, and then
    the family.
    """
    there = on_engine(case, engine)
    if there.machine.kv_dtype not in KV_DTYPES:
        there = replace(there, workload=replace(there.workload, kv_dtype="nvfp4"))
    for request in _requests(plan):
        try:
            found = plan_case(there, request)
            express(found, there, engine)
        except (InfeasibleError, NotExpressibleError):
            continue
        return found
    return None


def _requests(plan: Plan) -> list[Request]:
    """What the nearest plan has to keep: the plan's own request; else the same without its pins; else of any family too."""
    asked = request_of(plan) or Request(batch=plan.layout.batch, gpus=plan.layout.gpus)
    fewer = [replace(asked, pins={})] if asked.pins else []
    return [asked, *fewer] + ([replace(asked, pins={}, family="any")] if asked.family != "any" else [])


def _advice(plan: Plan, case: Case, engines: list[str]) -> str | None:
    """The nearest plan of the first engine that has one, and the command that makes it."""
    for engine in engines:
        found = nearest_plan(plan, case, engine)
        if found is not None:
            layout = found.layout
            work = replace(on_engine(case, engine).workload, kv_dtype=found.workload.kv_dtype)
            request = request_of(found)
            assert request is not None
            command = plan_command(plan.model.name, plan.hardware.name, work, request)
            return (
                f"the nearest plan that {SPELLINGS[engine].title} can: {format_counted(layout.gpus, 'GPU')}, {layout.layout}, "
                f"batch {layout.batch}, TTL {format_seconds(found.cost.ttl_s)}, from {command}"
            )
    return None
