"""The engines that run layouts, by name, and cases posed for them."""

from __future__ import annotations

from dataclasses import replace

from helixplan.cost.case import PAPER, Case, pose
from helixplan.engines.engine import Engine
from helixplan.engines.sglang import SGLANG
from helixplan.engines.trtllm import TRTLLM
from helixplan.engines.vllm import VLLM
from helixplan.errors import InputError
from helixplan.inputs.hardware import Hardware
from helixplan.inputs.model import Model
from helixplan.inputs.workload import ENGINES as NAMES
from helixplan.inputs.workload import Workload

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (TRTLLM, VLLM, SGLANG)}
assert {"none", *ENGINES} == {*NAMES}


def engine_of(case: Case) -> Engine | None:
    """The engine that the workload names, if any."""
    return ENGINES.get(case.workload.engine or "none")


def free(case: Case) -> Case:
    """The same case without an engine: Helix's rules and the paper's communication."""
    return replace(case, workload=replace(case.workload, engine=None), communication=PAPER)


def posed(model: Model, hardware: Hardware, workload: Workload) -> Case:
    """The case, with its engine's communication. Raises InputError where the workload asks for what the engine lacks."""
    engine = ENGINES.get(workload.engine or "none")
    if engine is None:
        return pose(model, hardware, workload)
    if workload.overlap == "hop-b" and not engine.communication.overlaps:
        raise InputError(f"got 'hop-b', but {engine.title} does not overlap the exchange; leave it out", field="overlap")
    if workload.exchange == "value" and not engine.communication.exchanges_values:
        raise InputError(f"got 'value', but {engine.title} exchanges latents alone; leave it out", field="exchange")
    return pose(model, hardware, workload, engine.communication)
