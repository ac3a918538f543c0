"""What someone runs today, held against the best that its engine and the same GPUs can do; as a document."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import ConfigDict

from helixplan.api import check_layouts
from helixplan.assembly import make_plan, plan_hardware, plan_workload, warnings_of
from helixplan.cost.case import Case
from helixplan.engines import ENGINES, posed
from helixplan.evaluation import evaluate
from helixplan.export.files import ASK_FOR_MODEL, express, grid, launch_text, on_engine, served
from helixplan.export.memory import utilization_of
from helixplan.export.spelling import Launch, Settings, Spelling
from helixplan.export.spellings import SPELLINGS
from helixplan.inputs.hardware import Hardware
from helixplan.inputs.model import Model
from helixplan.inputs.workload import MAX_BATCH, Request, Workload
from helixplan.layout import Layouts
from helixplan.plans import (
    Count,
    Document,
    Number,
    Plan,
    PlanConflict,
    PlanHardware,
    PlanLayout,
    PlanMemory,
    PlanModel,
    PlanWorkload,
    to_json,
)
from helixplan.rule import broken_rules
from helixplan.search.infeasible import find_conflict
from helixplan.search.optimum import find_optimum
from helixplan.search.rules import FAMILIES, MEMORY, rules_in_force
from helixplan.version import COST_MODEL_VERSION, SCHEMA_VERSION, __version__


class Running(Document):
    """One layout at the batch: what is run, or the best there is in its place."""

    layout: PlanLayout
    ttl_s: Number
    tokens_per_s_per_user: Number
    tokens_per_s_per_gpu: Number
    memory: PlanMemory
    exchange_way: str | None
    """How the KVP ranks exchange; None: there is one."""
    keeps_ttl: bool | None
    """None: no limit was asked for."""


class Best(Running):
    """The best layout; ``speedup`` is the launch's TTL over its."""

    speedup: Number


class Change(Document):
    """One setting that the best layout says otherwise; None: it is left out."""

    setting: str
    before: str | None
    after: str | None


class Advice(Document):
    """A launch, scored, and how far it is from the best on its engine and from the best there is."""

    model_config = ConfigDict(title="helixplan launch")

    schema_version: str
    helixplan_version: str
    cost_model_version: str
    engine: str
    model: PlanModel
    hardware: PlanHardware
    workload: PlanWorkload
    batch_from: Literal["--batch", "the launch", "the largest that fits"]
    largest_batch: Count | None
    """The most requests that fit, and keep the TTL where one is asked for; None: not even one."""
    running: Running
    broken_rules: list[PlanConflict]
    """The engine's and Helix's rules that the layout does not keep, and ``memory-fits``."""
    engine_best: Best | None
    free_best: Best | None
    """None: no layout of so many GPUs holds the batch."""
    conflict: list[PlanConflict]
    """Why not, of the first of the two that there is none of."""
    changes: list[Change]
    new_launch: str | None
    """The command line, or the YAML where the engine takes its layout from a file alone."""
    ignored: list[str]
    warnings: list[str]

    def to_json(self) -> str:
        return to_json(self.model_dump(mode="json"))


def pose_launch(model: Model, hardware: Hardware, launch: Launch, work: Workload) -> Case:
    """The question that a launch answers: its engine, cache and memory; the rest as asked.

    Raises InputError where its layout would split a head or leaves GPUs uneven.
    """
    block = launch.kv_block_tokens or work.kv_block_tokens
    case = posed(model, hardware, replace(work, engine=launch.engine, kv_dtype=launch.kv_dtype, kv_block_tokens=block))
    check_layouts(case, Layouts.of(launch.layout))
    if launch.memory_share is None:
        return case
    held = evaluate(case, launch.layout, launch.layout.dp).memory
    share = utilization_of(launch.engine, launch.memory_share, held, case.hardware.gpu.memory_bytes)
    return replace(case, workload=replace(case.workload, memory_utilization=share))


def advise(case: Case, launch: Launch, request: Request) -> Advice:
    """The launch's score, both optima at its GPUs and batch, and what to change.

    Of ``request`` it reads the TTL, the batch and the family.
    """
    ran = _as_run(case, launch)
    largest = _largest_batch(ran, launch, request.ttl_s)
    # A launch's limit is what it admits, not what it runs: no more than fit.
    limited = launch.batch is not None and launch.batch <= (largest or launch.batch)
    batch = request.batch or min(launch.batch or MAX_BATCH, largest or launch.layout.dp)
    told = "--batch" if request.batch else "the launch" if limited else "the largest that fits"
    running = make_plan(ran, launch.layout, batch, None)
    asked = best_request(batch, launch, request.family)
    plans = {engine: _best(on_engine(case, engine), asked) for engine in (launch.engine, None)}
    there = plans[launch.engine]
    conflict: list[PlanConflict] = []
    for engine, plan in plans.items():
        if plan is None and not conflict:
            conflict = [PlanConflict(**vars(one)) for one in find_conflict(on_engine(case, engine), asked)]
    found = express(there, case, launch.engine) if there else None
    limit = request.ttl_s
    return Advice(
        schema_version=SCHEMA_VERSION,
        helixplan_version=__version__,
        cost_model_version=COST_MODEL_VERSION,
        engine=launch.engine,
        model=PlanModel(name=case.model.name, sha256=case.model.sha256),
        hardware=plan_hardware(case),
        workload=plan_workload(case, Request(ttl_s=limit, batch=request.batch, family=request.family)),
        batch_from=told,  # type: ignore[arg-type]
        largest_batch=largest,
        running=Running(**_facts(running, launch.exchange_way, limit)),  # type: ignore[arg-type]
        broken_rules=_broken(case, launch, running),
        engine_best=_against(running, there, limit),
        free_best=_against(running, plans[None], limit),
        conflict=conflict,
        changes=[] if found is None else _changes(_as_settings(running, case, launch), found.settings, found.spelling),
        new_launch=None if found is None else launch_text(found, served(found.plan, case) or ASK_FOR_MODEL),
        ignored=sorted(set(launch.ignored)),
        warnings=_warnings(case, launch, running),
    )


def best_request(batch: int, launch: Launch, family: str) -> Request:
    """What the best in a launch's place has to keep: its GPUs and batch, at the least TTL."""
    return Request(batch=batch, gpus=launch.layout.gpus, family=family, objective="interactivity")


def _as_run(case: Case, launch: Launch) -> Case:
    """The case whose ranks exchange in the launch's own way."""
    if launch.exchange_way is None:
        return case
    return replace(case, communication=replace(case.communication, exchange_ways=(launch.exchange_way,)))


def _largest_batch(case: Case, launch: Launch, ttl_s: float | None) -> int | None:
    """The most requests that fit and keep the TTL: neither memory nor TTL falls as the batch grows."""

    def fine(batch: int) -> bool:
        found = evaluate(case, launch.layout, batch)
        return found.memory.fits and (ttl_s is None or found.cost.ttl_s <= ttl_s)

    if not fine(1):
        return None
    low, high = 1, MAX_BATCH + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fine(middle) else (low, middle)
    return low


def _best(case: Case, request: Request) -> Plan | None:
    found = find_optimum(case, request)
    return None if found is None else make_plan(case, found.layout, found.batch, request, found.proof, found.alternatives)


def _facts(plan: Plan, way: str | None, limit: float | None) -> dict[str, object]:
    cost = plan.cost
    return {
        "layout": plan.layout,
        "ttl_s": cost.ttl_s,
        "tokens_per_s_per_user": cost.tokens_per_s_per_user,
        "tokens_per_s_per_gpu": cost.tokens_per_s_per_gpu,
        "memory": plan.memory,
        "exchange_way": way,
        "keeps_ttl": None if limit is None else cost.ttl_s <= limit,
    }


def _against(running: Plan, best: Plan | None, limit: float | None) -> Best | None:
    if best is None:
        return None
    way = best.collectives.get("attention.exchange")
    return Best(**_facts(best, way, limit), speedup=running.cost.ttl_s / best.cost.ttl_s)  # type: ignore[arg-type]


def _broken(case: Case, launch: Launch, running: Plan) -> list[PlanConflict]:
    rules = broken_rules(rules_in_force(case, FAMILIES["helix"]), case, grid(launch.layout))
    found = [PlanConflict(rule=rule.name, detail=rule.reason) for rule in rules]
    if not running.memory.fits:
        over = running.memory.total_bytes / running.memory.limit_bytes
        found.append(PlanConflict(rule=MEMORY, detail=f"a GPU would hold {over:.2f} times what it may"))
    return found


def _as_settings(running: Plan, case: Case, launch: Launch) -> Settings:
    """What is run as this program would spell it, so that it differs from the best only where the layout does."""
    spelling = SPELLINGS[launch.engine]
    spelled = running
    if launch.exchange_way is not None:
        spelled = running.model_copy(update={"collectives": running.collectives | {"attention.exchange": launch.exchange_way}})
    return spelling.settings(spelled, case)


def _changes(before: Settings, after: Settings, spelling: Spelling) -> list[Change]:
    """Setting by setting; one that a side leaves out is the engine's default there."""
    found = []
    for flag in spelling.flags:
        was, is_now = before.get(flag.name, flag.default), after.get(flag.name, flag.default)
        if flag.shapes and was != is_now:
            found.append(Change(setting=spelling.say(flag.name), before=_text(was), after=_text(is_now)))
    return found


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "on" if value else "off"
    return None if value is None else str(value)


def _warnings(case: Case, launch: Launch, running: Plan) -> list[str]:
    said = [*warnings_of(case), *ENGINES[launch.engine].warnings(case, launch.layout)]
    most, asked = launch.context_tokens, case.workload.context_tokens
    if most is not None and most < asked:
        said.append(f"the launch admits {most:,} tokens a request; {asked:,} were asked for")
    if running.layout.batch < running.layout.dp:
        said.append(f"{running.layout.batch} requests leave some of {running.layout.dp} groups without any")
    return list(dict.fromkeys(said))
