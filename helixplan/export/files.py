"""A plan as the files that an engine is launched with."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, replace
from math import ceil

from helixplan.assembly import make_plan
from helixplan.cost.case import PAPER, Case
from helixplan.engines import ENGINES
from helixplan.engines.engine import broken
from helixplan.errors import InputError, NotExpressibleError
from helixplan.export import dynamo
from helixplan.export.spelling import Settings, Spelling, as_words
from helixplan.export.spellings import SPELLINGS
from helixplan.export.yamls import nested, written
from helixplan.inputs.catalog import bundled_models
from helixplan.inputs.validation import parse_json, read_text
from helixplan.layout import Layout
from helixplan.plans import Plan
from helixplan.units import format_context, format_counted, format_seconds

REPOSITORY = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)(?:/.*)?")
ASK_FOR_MODEL = "MODEL"
"""What stands for a model nobody told the name of: the user sets it."""


SEVERAL_NODES = {
    "trtllm": "start it on all of them together, as by srun or mpirun with trtllm-llmapi-launch",
    "vllm": "start it on each with --nnodes, --node-rank and --master-addr, and --headless on all but the first",
    "sglang": "start it on each with --nnodes, --node-rank and --dist-init-addr",
}
"""What is needed where one machine does not hold all GPUs (the engines' own pages on several nodes)."""
VLLM_RANKS_APART = "start it on each with --data-parallel-start-rank, --data-parallel-size-local and --data-parallel-address"
"""Where every data parallel rank has a node's GPUs or fewer, which vLLM runs as an engine each."""


@dataclass(frozen=True)
class Exported:
    """A layout on an engine: its settings, and the plan priced the way that engine communicates."""

    spelling: Spelling
    settings: Settings
    case: Case
    plan: Plan


def on_engine(case: Case, engine: str | None) -> Case:
    """The same question asked of an engine (None: of Helix as the paper has it); what it cannot do is left to it."""
    communication = ENGINES[engine].communication if engine else PAPER
    work = replace(case.workload, engine=engine, overlap="auto", exchange="auto")
    return replace(case, workload=work, communication=communication)


def grid(layout: Layout) -> Layout:
    """The sizes alone; exchange and chunks are the engine's."""
    return Layout(layout.kvp, layout.tpa, layout.tpf, layout.ep, layout.dp, layout.pp)


def express(plan: Plan, case: Case, engine: str) -> Exported:
    """A plan's layout as an engine's settings. Raises NotExpressibleError with the first rule of the engine's it breaks."""
    described, spelling, asked = ENGINES[engine], SPELLINGS[engine], on_engine(case, engine)
    sizes = grid(plan.layout.layout)
    for rule in broken(described, asked, sizes):
        raise NotExpressibleError(described.title, f"{rule.reason} ({rule.name})")
    there = make_plan(asked, sizes, plan.layout.batch, None)
    return Exported(spelling, spelling.settings(there, asked), asked, there)


def engine_files(plan: Plan, case: Case, engine: str) -> dict[str, str]:
    """What one engine is launched with, by file name. Raises NotExpressibleError."""
    found = express(plan, case, engine)
    config = "extra_llm_api_options.yaml" if engine == "trtllm" else "config.yaml"
    head = _head(plan, found, _over_nodes(plan, found))
    return {
        config: head + written(nested(found.settings)),
        "launch.sh": _script(head, found.spelling, config, served(plan, case)),
    }


def dynamo_files(plan: Plan, case: Case, engine: str | None, a_node: int | None) -> dict[str, str]:
    """The deployment, on the backend named, else the plan's own, else the first that can. Raises NotExpressibleError."""
    found = _on_first(plan, case, engine or (case.workload.engine if case.workload.engine in SPELLINGS else None))
    layout, model = plan.layout, served(plan, case)
    nodes = a_node or dynamo.node_gpus(case.hardware.interconnect.domain_gpus)
    if a_node is not None and layout.gpus > a_node and layout.gpus % a_node:
        raise InputError(f"got {a_node}, which does not divide the plan's {layout.gpus} GPUs", field="--gpus-per-node")
    data = dynamo.deployment(
        found.spelling, found.settings, plan.model.name, model or ASK_FOR_MODEL, layout.gpus, layout.kvp, nodes
    )
    notes = ["# This is the worker that decodes; workers for prefill are yours to add."]
    notes += [] if model else [f"# Set the value of {ASK_FOR_MODEL} to your model's name or path."]
    return {"deployment.yaml": _head(plan, found, []) + "\n".join(notes) + "\n" + written(data)}


def _on_first(plan: Plan, case: Case, engine: str | None) -> Exported:
    """On the engine named, or on the first that can. Raises NotExpressibleError, with every engine's reason where none can."""
    reasons = []
    for name in [engine] if engine else list(SPELLINGS):
        try:
            return express(plan, case, name)
        except NotExpressibleError as error:
            if engine:
                raise
            reasons.append(f"{error.engine}: {error.reason}")
    raise NotExpressibleError("Dynamo", "none of its backends can: " + "; ".join(reasons))


def served(plan: Plan, case: Case) -> str | None:
    """The Hugging Face repository that the model's file names, where its weights are those of the plan; else None."""
    model = case.model
    if case.precision != model.precision or model.name != plan.model.name:
        return None
    file = bundled_models().get(model.name)
    source = None if file is None else parse_json(read_text(file), str(file), constants=True).get("source")
    told = source.get("config") if isinstance(source, dict) else None
    match = REPOSITORY.fullmatch(told) if isinstance(told, str) else None
    return match[1] if match else None


def _head(plan: Plan, found: Exported, notes: list[str]) -> str:
    """Comments that say which plan a file is of, and what to know of it; ``notes`` are that file's own."""
    layout, work, engine = plan.layout, plan.workload, ENGINES[found.spelling.engine]
    asked = f"{format_context(work.context_tokens)} tokens of context"
    asked += f", TTL at most {format_seconds(work.ttl_limit_s)}" if work.ttl_limit_s is not None else ""
    asked += f", best {work.objective}" if work.objective else ""
    there = found.plan.cost.ttl_s
    ttl = format_seconds(plan.cost.ttl_s)
    if abs(there / plan.cost.ttl_s - 1) > 1e-9:
        ttl += f" as planned, {format_seconds(there)} the way {engine.title} communicates"
    lines = [
        f"For {engine.title}, by helixplan {plan.helixplan_version} "
        f"(plan schema {plan.schema_version}, cost model {plan.cost_model_version})",
        f"model   {plan.model.name}, sha256 {plan.model.sha256}",
        f"system  {plan.hardware.name}, sha256 {plan.hardware.sha256}",
        f"layout  {format_counted(layout.gpus, 'GPU')}, {layout.layout}, batch {layout.batch}",
        f"asked   {asked}",
        f"TTL     {ttl}",
        *(f"note    {said}" for said in [*_notes(plan, found), *notes]),
    ]
    return "".join(f"# {line}\n" for line in lines)


def _notes(plan: Plan, found: Exported) -> list[str]:
    """What the settings do not say, and what to know before believing the figures."""
    layout, engine = plan.layout, found.spelling.engine
    said = [*plan.warnings, *ENGINES[engine].warnings(found.case, layout.layout)]
    if found.case.precision != found.case.model.precision:
        said.append(
            f"the plan's weights are {plan.workload.weight_dtype}, not what the model's file states: serve a checkpoint made so"
        )
    if engine == "sglang" and layout.kvp > 1 and layout.kv_block_tokens > 1:
        said.append(f"SGLang deals tokens to KVP ranks one by one, where the plan has blocks of {layout.kv_block_tokens}")
    if engine == "trtllm" and layout.kvp > 1:
        said.append("Helix runs in the generation server of a disaggregated deployment; its context servers are yours to add")
    if layout.batch % layout.dp:
        said.append(
            f"each of {layout.dp} groups admits as many requests as the fullest: the limit is above the plan's {layout.batch}"
        )
    return list(dict.fromkeys(said))


def _over_nodes(plan: Plan, found: Exported) -> list[str]:
    """What a launch by hand needs where one node does not hold all GPUs."""
    layout, engine = plan.layout, found.spelling.engine
    a_node = dynamo.node_gpus(found.case.hardware.interconnect.domain_gpus)
    if layout.gpus <= a_node:
        return []
    apart = engine == "vllm" and layout.dp > 1 and layout.gpus // layout.dp <= a_node
    how = VLLM_RANKS_APART if apart else SEVERAL_NODES[engine]
    return [f"{layout.gpus} GPUs are {ceil(layout.gpus / a_node)} nodes of {a_node}: {how}"]


def _script(head: str, spelling: Spelling, config: str, model: str | None) -> str:
    """A script that launches the engine with the settings beside it; further words are passed on."""
    named = f"MODEL=${{MODEL:-{model}}}" if model else ': "${MODEL:?set MODEL to your model\'s name or path}"'
    return (
        f"#!/usr/bin/env bash\n{head}set -euo pipefail\n"
        f'cd "$(dirname "$0")"\n{named}\nexec {" ".join(spelling.command)} {spelling.config_option} {config} "$@"\n'
    )


def launch_text(found: Exported, model: str | None) -> str:
    """What a user would type, or the YAML where the engine takes its layout from a file alone."""
    if found.spelling.file_wins:
        return written(nested(found.settings))
    return shlex.join([*found.spelling.command[:-1], model or ASK_FOR_MODEL, *as_words(found.spelling, found.settings)])
