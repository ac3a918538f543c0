"""Cases answered: in parallel processes that start once, in the suite's order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import lru_cache

from helixplan.assembly import plan_layout
from helixplan.cost.case import Case as Posed
from helixplan.engines import posed as posed_for_its_engine
from helixplan.errors import InputError
from helixplan.evaluation import evaluate
from helixplan.inputs.hardware import Hardware, load_hardware
from helixplan.inputs.huggingface import load_model
from helixplan.inputs.model import Model
from helixplan.plans import PlanModel
from helixplan.regress.metrics import metrics_of
from helixplan.regress.results import CaseHardware, Result, rounded
from helixplan.regress.suites import Case
from helixplan.search.infeasible import find_conflict
from helixplan.search.optimum import find_optimum
from helixplan.search.rules import family_of, rules_asked_for
from helixplan.version import COST_MODEL_VERSION, SCHEMA_VERSION, __version__

LONGEST_START_S = 5.0
"""Workers that take longer to start are not waited for."""

_model: Callable[[str], Model] = lru_cache(maxsize=256)(load_model)
_hardware: Callable[[str], Hardware] = lru_cache(maxsize=256)(load_hardware)


def posed(case: Case) -> Posed:
    """The case as the cost model is asked it. Raises InputError, naming the case, for files that cannot be read and the like."""
    given: str | None = None
    try:
        given = case.model
        model = _model(case.model_path)
        given = case.hardware
        hardware = _hardware(case.hardware_path)
        given = None
        return posed_for_its_engine(model, hardware, case.workload)
    except InputError as error:
        file = given if error.file else None
        field = ": ".join(part for part in (f"case {case.name}", error.field) if part)
        raise InputError(error.message, file=file, field=field) from None


def answered(case: Case) -> Result:
    """The case's optimum, or the rules and requests that clash."""
    asked = posed(case)
    common = {
        "schema_version": SCHEMA_VERSION,
        "case": case.name,
        "question": case.question,
        "model": PlanModel(name=asked.model.name, sha256=asked.model.sha256),
        "hardware": CaseHardware(name=asked.hardware.name, sha256=asked.hardware.sha256),
        "helixplan_version": __version__,
        "cost_model_version": COST_MODEL_VERSION,
    }
    optimum = find_optimum(asked, case.request)
    if optimum is None:
        clash = [member.rule for member in find_conflict(asked, case.request)]
        return Result(**common, status="infeasible", conflict=clash)  # type: ignore[arg-type]
    found = evaluate(asked, optimum.layout, optimum.batch)
    family = case.request.family
    if family == "any":
        known = family_of(asked, found.layout)
        family = known.name if known else "none"
    layout = plan_layout(asked, found.layout, found.batch, family)
    rules = [rule.name for rule in rules_asked_for(asked, case.request)]
    metrics = {name: rounded(value) for name, value in metrics_of(layout, found.cost, found.memory).items()}
    return Result(**common, status=optimum.proof.status, layout=layout, metrics=metrics, rules=rules)  # type: ignore[arg-type]


def placeable(cases: list[Case], leave_out: Callable[[InputError], None]) -> list[Case]:
    """The cases that this helixplan can pose; ``leave_out`` is told why of every other."""
    known = []
    for case in cases:
        try:
            posed(case)
        except InputError as error:
            leave_out(error)
        else:
            known.append(case)
    return known


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(cases: list[Case], jobs: int, done: Callable[[str], None] = lambda name: None) -> list[Result]:
    """Every case's result, in order. Raises InputError before any is searched where one cannot be posed."""
    # A file may have changed since this process last read it.
    _model.cache_clear()  # type: ignore[attr-defined]
    _hardware.cache_clear()  # type: ignore[attr-defined]
    for case in cases:
        posed(case)
    results = []
    with closing(_results(cases, min(jobs, len(cases)))) as found:
        for case, result in zip(cases, found, strict=True):
            done(case.name)
            results.append(result)
    return results


def _results(cases: list[Case], jobs: int) -> Generator[Result, None, None]:
    if jobs <= 1:
        yield from map(answered, cases)
        return
    # A server process imports the program once; every worker is a copy of it.
    context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")
    if sys.platform != "win32":
        context.set_forkserver_preload(["helixplan.regress.running", "helixplan.search.solver", "ortools.sat.python.cp_model"])
    pool = ProcessPoolExecutor(jobs, mp_context=context)
    try:
        with _interrupts_for_the_parent_alone():
            # Workers that an interrupt met half started would say so at length.
            arrived: set[int] = set()
            deadline = time.monotonic() + LONGEST_START_S
            while len(arrived) < jobs and time.monotonic() < deadline:
                arrived.update(pool.map(_arrive, range(jobs)))
        yield from pool.map(answered, cases, chunksize=max(1, min(8, len(cases) // (4 * jobs))))
    except BrokenProcessPool:
        raise InputError("a process that was planning cases was ended from outside; try fewer of them", field="--jobs") from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _arrive(number: int) -> int:
    """Which worker took it; long enough that each takes one."""
    time.sleep(0.02)
    return os.getpid()


@contextmanager
def _interrupts_for_the_parent_alone() -> Iterator[None]:
    """Processes started meanwhile never see an interrupt from the keyboard; this one takes it afterwards."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Children inherit the mask. Here another thread may still take the signal, so that it has to be put off as well.
    waiting: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    for number in waiting:
        signal.raise_signal(number)
