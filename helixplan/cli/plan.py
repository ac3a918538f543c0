"""``helixplan plan``: the best layout, proved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, write_atomically
from helixplan.cli.progress import shown_while
from helixplan.errors import InfeasibleError, InputError
from helixplan.inputs import spelled


@options.takes(options.MODELLING, options.SEARCH)
def plan(
    model: options.ModelName,
    hardware: options.HardwareName,
    objective: Annotated[
        str | None,
        typer.Option(
            autocompletion=options.one_of("OBJECTIVES"),
            help="throughput, interactivity, users or gpus. Default: throughput with --ttl, else interactivity.",
        ),
    ] = None,
    from_launch: Annotated[
        str | None,
        typer.Option(help='What you run today, "vllm serve ... -tp 8" or a file that says so: how far from the best it is.'),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Also write the plan's JSON to this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")] = False,
    output_format: options.OutputFormat = options.Format.TABLE,
    **given: Any,
) -> None:
    """Find the best layout, with the proof that none is better."""
    from helixplan.api import plan_case
    from helixplan.assembly import warnings_of
    from helixplan.engines import posed
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.huggingface import load_model
    from helixplan.inputs.workload import Workload

    if output is not None:
        check_writable(output, force=force)
    if from_launch is not None:
        _advise(from_launch, model, hardware, objective, given, output, force, output_format)
        return
    asked = spelled.request(given, objective)
    work = Workload(spelled.context_tokens(given), **spelled.modelling(given))
    case = posed(load_model(model), load_hardware(hardware), work)
    told = warnings_of(case)
    show.warnings(told)
    try:
        with shown_while("planning"):
            found = plan_case(case, asked)
    except InfeasibleError as error:
        show.infeasible(error, output_format)
        raise typer.Exit(3) from None
    if output is not None:
        write_atomically(output, found.to_json(), force=force)
    show.warnings([said for said in found.warnings if said not in told])
    show.plan(found, output_format)
    if output is not None:
        show.note(f"wrote {output}")


def _advise(
    text: str,
    model_name: str,
    hardware: str,
    objective: str | None,
    given: dict[str, Any],
    output: Path | None,
    force: bool,
    output_format: options.Format,
) -> None:
    """Score a launch and say what to change; with ``output`` also write the plan of its engine's best."""
    from helixplan.advice import advise, best_request, pose_launch
    from helixplan.api import plan_case
    from helixplan.export.files import on_engine
    from helixplan.export.launch import read_launch
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.huggingface import load_model
    from helixplan.inputs.workload import Workload

    given = {**given, "objective": objective}
    _refuse_what_a_launch_says(given)
    # A launch may be of any family, so it is held against the best of all unless another is named.
    family = "any" if given["family"] == spelled.DEFAULTS["family"] else given["family"]
    asked = replace(spelled.request(given, None), family=family)
    model = load_model(model_name)
    launch = read_launch(text, model)
    _refuse_contradictions(given, {"engine": launch.engine, "kv": launch.kv_dtype})
    work = Workload(spelled.context_tokens(given), **spelled.modelling({**given, "engine": "none"}))
    case = pose_launch(model, load_hardware(hardware), launch, work)
    with shown_while("planning"):
        found = advise(case, launch, asked)
    show.warnings(found.warnings)
    if found.ignored:
        show.note(f"let be, they do not shape the layout: {', '.join(found.ignored)}")
    if output is not None and found.engine_best is not None:
        best = plan_case(on_engine(case, launch.engine), best_request(found.running.layout.batch, launch, family))
        write_atomically(output, best.to_json(), force=force)
    show.advice(found, output_format)
    if output is not None:
        show.note(f"wrote {output}" if found.engine_best else f"{output} is not written: there is no such plan")


def _refuse_what_a_launch_says(given: dict[str, Any]) -> None:
    """Raises InputError for options that a launch decides."""
    for name in ("gpus", "max_gpus", "pin", "objective"):
        if given[name]:
            raise InputError("the launch decides that; leave it out", field=spelled.as_flag(name))


def _refuse_contradictions(given: dict[str, Any], launched: dict[str, str]) -> None:
    """Raises InputError where an option says otherwise than the launch."""
    for name, value in launched.items():
        if given[name] not in (None, spelled.DEFAULTS[name], value):
            raise InputError(f"got {given[name]!r}, but the launch says {value!r}; leave it out", field=spelled.as_flag(name))
