"""The public functions: plan, estimate, score, frontier, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np

from helixplan.assembly import make_plan, relaxation
from helixplan.cost.case import Case
from helixplan.cost.score import Scores, score_case
from helixplan.curves import Comparison, Comparisons, Frontier, Point
from helixplan.engines import engine_of, posed
from helixplan.errors import Conflict, InfeasibleError, InputError
from helixplan.evaluation import evaluate
from helixplan.explaining.whole import explain_best
from helixplan.explanation import Explanation
from helixplan.inputs.hardware import Hardware, load_hardware
from helixplan.inputs.huggingface import load_model
from helixplan.inputs.model import Model
from helixplan.inputs.workload import MAX_BATCH, Request, Workload, choice, whole
from helixplan.layout import VALUE, Layout, Layouts, check_structure, whole_heads
from helixplan.numeric import Ints
from helixplan.plans import Plan, Relaxation
from helixplan.replay import case_of, hardware_of, made_otherwise, model_of, read_plan, request_of
from helixplan.search.comparison import BASELINES
from helixplan.search.comparison import compare as find_comparison
from helixplan.search.frontier import Found, find_frontier, joint
from helixplan.search.infeasible import find_conflict
from helixplan.search.limits import cost_of_limits
from helixplan.search.optimum import find_best, find_optimum
from helixplan.search.pairs import find_pairs
from helixplan.search.relief import find_relief
from helixplan.search.rules import FAMILIES, families_named
from helixplan.tracing import comparison, comparisons, frontier_document, points


class Modelling(TypedDict, total=False):
    """How the decode step is modelled; every key optional, the defaults are ``Workload``'s."""

    weight_dtype: str | None
    kv_dtype: str | None
    attention_math: str | None
    kernels: str
    floor_scale: float | None
    overlap: str
    exchange: str
    engine: str | None
    memory_utilization: float
    kv_block_tokens: int
    step_overhead_s: float


def plan(
    model: Model | str | Path,
    hardware: Hardware | str | Path,
    *,
    context_tokens: int,
    ttl_s: float | None = None,
    batch: int | None = None,
    gpus: int | None = None,
    max_gpus: int | None = None,
    family: str = "helix",
    pins: dict[str, int] | None = None,
    objective: str | None = None,
    **modelling: Unpack[Modelling],
) -> Plan:
    """The best layout and the proof of it.

    Raises InputError for what is wrong without solving, InfeasibleError where no allowed layout keeps the request.
    """
    case = _posed(model, hardware, Workload(context_tokens, **modelling))
    request = Request(ttl_s, batch, gpus, max_gpus, family, pins or {}, objective)
    return plan_case(case, request)


def _posed(model: Model | str | Path, hardware: Hardware | str | Path, work: Workload) -> Case:
    """The case; names and paths are loaded first."""
    model = model if isinstance(model, Model) else load_model(model)
    return posed(model, hardware if isinstance(hardware, Hardware) else load_hardware(hardware), work)


def plan_case(case: Case, request: Request) -> Plan:
    """``plan`` for a case already posed."""
    optimum = find_optimum(case, request)
    if optimum is None:
        conflict = find_conflict(case, request)
        raise InfeasibleError(conflict, _relaxations(case, request, [member.rule for member in conflict]))
    limits = cost_of_limits(case, request, optimum)
    return make_plan(case, optimum.layout, optimum.batch, request, optimum.proof, optimum.alternatives, limits)


def frontier(
    model: Model | str | Path,
    hardware: Hardware | str | Path,
    *,
    context_tokens: int,
    family: str | Sequence[str] = "helix",
    ttl_s: float | None = None,
    batch: int | None = None,
    gpus: int | None = None,
    max_gpus: int | None = None,
    pins: dict[str, int] | None = None,
    **modelling: Unpack[Modelling],
) -> Frontier:
    """Every layout and batch of one or several families that no other of them beats in tokens/s/user and tokens/s/GPU both.

    Raises InputError for what is wrong without solving, InfeasibleError where no allowed layout keeps the request.
    """
    case = _posed(model, hardware, Workload(context_tokens, **modelling))
    families = named_families([family] if isinstance(family, str) else list(family))
    return frontier_case(case, Request(ttl_s, batch, gpus, max_gpus, families[0], pins or {}), families)


def _none_of(case: Case, request: Request, families: tuple[str, ...]) -> InfeasibleError:
    """Why none of several families has a layout: each family's own conflict, and what would help it."""
    conflict, relaxations = [], []
    for name in families:
        asked = replace(request, family=name)
        members = find_conflict(case, asked)
        told = f"{name}: " if len(families) > 1 else ""
        conflict += [Conflict(f"{told}{member.rule}", member.detail) for member in members]
        for option in _relaxations(case, asked, [member.rule for member in members]):
            # Other families are the caller's to name, and were asked for where they could be.
            if "--family any" not in option.changes:
                relaxations.append(option.model_copy(update={"change": f"{told}{option.change}"}))
    return InfeasibleError(conflict, relaxations)


def named_families(names: list[str]) -> tuple[str, ...]:
    """The families of a list of names, ``any`` standing for all. Raises InputError about one that is none."""
    for name in names:
        Request(family=name)
    every = [family.name for name in names for family in families_named(name)]
    return tuple(dict.fromkeys(every))


def frontier_case(case: Case, request: Request, families: tuple[str, ...]) -> Frontier:
    """``frontier`` for a case already posed."""
    found = family_frontiers(case, request, families)
    left = joint([one.points for one in found.values()])
    if not left:
        raise _none_of(case, request, families)
    return frontier_document(case, request, families, left, sum(one.candidates for one in found.values()))


def family_frontiers(case: Case, request: Request, families: tuple[str, ...]) -> dict[str, Found]:
    """Each family's own frontier under the same request."""
    return {name: find_frontier(case, replace(request, family=name)) for name in families}


def family_lines(case: Case, request: Request, families: tuple[str, ...]) -> tuple[dict[str, list[Point]], list[Point]]:
    """For a picture: each family's own frontier, and the ideal clock's frontier of all of them together."""
    lines = {name: points(case, one.points) for name, one in family_frontiers(case, request, families).items()}
    ideal = case.ideal()
    light = [one.points for one in family_frontiers(ideal, request, families).values()]
    return lines, points(ideal, joint(light))


def compare(
    model: Model | str | Path,
    hardware: Hardware | str | Path,
    *,
    context_tokens: int | Sequence[int],
    baselines: Sequence[str] = BASELINES,
    ttl_s: float | None = None,
    batch: int | None = None,
    gpus: int | None = None,
    max_gpus: int | None = None,
    pins: dict[str, int] | None = None,
    **modelling: Unpack[Modelling],
) -> Comparisons:
    """Helix's side, which may use any family, against the best of the baselines: one comparison a context.

    Raises InputError for what is wrong without solving, InfeasibleError where a side has no allowed layout.
    """
    contexts = [context_tokens] if isinstance(context_tokens, int) else list(dict.fromkeys(context_tokens))
    request = Request(ttl_s, batch, gpus, max_gpus, "helix", pins or {})
    cases = [_posed(model, hardware, Workload(tokens, **modelling)) for tokens in contexts]
    return comparisons([compare_case(case, request, named_baselines(list(baselines))) for case in cases])


def named_baselines(names: list[str]) -> tuple[str, ...]:
    """The baselines of a list of names. Raises InputError about one that is none, Helix among them."""
    for name in names:
        choice(name, BASELINES, "baseline")
    return tuple(dict.fromkeys(names))


def compare_case(case: Case, request: Request, baselines: tuple[str, ...]) -> Comparison:
    """``compare`` for a case already posed."""
    found = find_comparison(case, request, baselines)
    if found is None:
        helix = family_frontiers(case, request, tuple(FAMILIES))
        raise _none_of(case, request, baselines if any(one.points for one in helix.values()) else tuple(FAMILIES))
    return comparison(case, baselines, found)


def _relaxations(case: Case, request: Request, members: list[str]) -> list[Relaxation]:
    """Single changes that help, and then pairs."""
    singles = find_relief(case, request, members)
    reliefs = [*singles, *find_pairs(case, request, members, singles)]
    return [relaxation(relief, evaluate(relief.case, relief.layout, relief.batch)) for relief in reliefs]


def estimate(
    model: Model | str | Path,
    hardware: Hardware | str | Path,
    layout: Layout,
    *,
    context_tokens: int,
    batch: int,
    **modelling: Unpack[Modelling],
) -> Plan:
    """The cost of one layout, allowed or not; ``broken_rules`` says which of Helix's rules it breaks.

    Raises InputError where the layout would split a head or its FFN's GPUs do not divide the stage's.
    """
    case = _posed(model, hardware, Workload(context_tokens, **modelling))
    whole(batch, 1, MAX_BATCH, "batch")
    check_layouts(case, Layouts.of(layout))
    return make_plan(case, layout, batch, None)


def explain(
    plan: Plan | str | Path, model: Model | str | Path | None = None, hardware: Hardware | str | Path | None = None
) -> Explanation:
    """Why a plan (or the plan in a file) is the best, what would move it, and how far it holds.

    ``model`` and ``hardware`` where the plan's are not bundled. Raises InputError about a file that is no plan, an estimate,
    other inputs than the plan was made of, and a plan that is not what this helixplan finds.
    """
    file = "plan" if isinstance(plan, Plan) else str(plan)
    found = plan if isinstance(plan, Plan) else read_plan(Path(plan))
    names = [None if isinstance(one, Model | Hardware) or one is None else str(one) for one in (model, hardware)]
    used_model = model if isinstance(model, Model) else model_of(found, file, names[0])
    used_hardware = hardware if isinstance(hardware, Hardware) else hardware_of(found, file, names[1])
    return explain_plan(found, case_of(found, used_model, used_hardware, file), file)


def explain_plan(plan: Plan, case: Case, file: str = "plan") -> Explanation:
    """``explain`` for a plan posed again."""
    request = request_of(plan)
    if request is None:
        raise InputError("is an estimate, which won over nothing; explain a plan that a search found", file=file, field="proof")
    best = find_best(case, request)
    found = None if best is None else evaluate(case, best.layout, best.batch)
    same = found is not None and (found.layout, found.batch) == (plan.layout.layout, plan.layout.batch)
    if best is None or found is None or not same or not np.isclose(found.cost.ttl_s, plan.cost.ttl_s, rtol=1e-9, atol=0):
        made = made_otherwise(plan)
        by = "" if made is None else f" (it was {made})"
        raise InputError(
            f"this helixplan answers the plan's question otherwise{by}; plan anew (helixplan verify says what differs)",
            file=file,
            field="cost.ttl_s" if same else "layout",
        )
    return explain_best(case, request, best)


def score(
    model: Model | str | Path,
    hardware: Hardware | str | Path,
    layouts: Layouts,
    *,
    context_tokens: int,
    batch: int | Ints,
    **modelling: Unpack[Modelling],
) -> Scores:
    """TTL, throughput and memory of M layouts, at one batch or one for each.  -> Scores of length M

    Raises InputError where a layout would split a head, empties a stage or leaves the FFN's GPUs uneven.
    """
    case = _posed(model, hardware, Workload(context_tokens, **modelling))
    requests = np.asarray(batch)
    if not np.issubdtype(requests.dtype, np.integer) or requests.shape not in ((), (len(layouts),)):
        raise InputError("must be a whole number, or one for each layout", field="batch")
    if requests.size and (requests.min() < 1 or requests.max() > MAX_BATCH):
        raise InputError(f"must lie from 1 to {MAX_BATCH:,}", field="batch")
    check_layouts(case, layouts)
    return score_case(case, layouts, requests)


def check_layouts(case: Case, layouts: Layouts) -> None:
    """Raises InputError about the first layout that cannot be priced: by its structure, its size or its chunks."""
    model, wires = case.model, case.hardware.interconnect
    stage = layouts.kvp * layouts.tpa * layouts.dp
    sound = whole_heads(model, layouts.kvp, layouts.tpa) & (stage % (layouts.tpf * layouts.ep) == 0)
    sound &= layouts.pp <= model.layers
    if not np.all(sound):
        check_structure(model, layouts.row(int(np.flatnonzero(~sound)[0])))
    if wires.scale_out_bytes_per_s is None and np.any(layouts.gpus > wires.domain_gpus):
        raise InputError(
            f"{np.max(layouts.gpus)} GPUs are more than one domain of {case.hardware.name} ({wires.domain_gpus}), "
            "and its profile names no scale-out link to price them with",
            field="layout",
        )
    _check_exchange(case, layouts)


def _check_exchange(case: Case, layouts: Layouts) -> None:
    """Raises InputError where a layout overlaps or exchanges what the workload or its engine does not."""
    engine = engine_of(case)
    if case.overlap == "none" and np.any(layouts.overlap_chunks > 1):
        by = "overlap none" if engine is None else f"{engine.title}, which does not overlap the exchange"
        raise InputError(f"got {np.max(layouts.overlap_chunks)} with {by}; leave out one of the two", field="overlap_chunks")
    if engine is not None and not case.communication.exchanges_values and np.any(layouts.exchange == VALUE):
        raise InputError(f"got 'value', but {engine.title} exchanges latents alone", field="layout.exchange")
