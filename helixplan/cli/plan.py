"""``helixplan plan``: the best layout, proved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, write_atomically
from helixplan.cli.progress import shown_while
from helixplan.errors import InfeasibleError
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
    output: Annotated[Path | None, typer.Option(help="Also write the plan's JSON to this file.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the output file if it exists.")] = False,
    output_format: options.OutputFormat = options.Format.TABLE,
    **given: Any,
) -> None:
    """Find the best layout for a model on a system, with the proof that no allowed one is better."""
    from helixplan.api import plan_case
    from helixplan.assembly import warnings_of
    from helixplan.engines import posed
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.huggingface import load_model
    from helixplan.inputs.workload import Workload

    if output is not None:
        check_writable(output, force=force)
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
