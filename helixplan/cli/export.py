"""``helixplan export``: a plan as the files that an engine is launched with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, replace_all
from helixplan.errors import InputError
from helixplan.units import parse_count


def export(
    plan: options.PlanFile,
    engine: Annotated[str, typer.Option(help="trtllm, vllm, sglang or dynamo.")],
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the files to this folder. Default: print them.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    backend: Annotated[
        str | None, typer.Option(help="Dynamo's engine: trtllm, vllm, sglang. Default: the plan's, or the first that can.")
    ] = None,
    gpus_per_node: Annotated[str | None, typer.Option(help="Dynamo: GPUs of a node. Default: 8 at most, 4 in a rack.")] = None,
    model: options.PlansModel = None,
    hardware: options.PlansHardware = None,
) -> None:
    """Write what launches a plan on an engine. Says why and what else where the engine cannot run it."""
    from helixplan.nearest import export as files_of
    from helixplan.replay import case_of, inputs_of, read_plan

    found = read_plan(plan)
    case = case_of(found, *inputs_of(found, str(plan), model, hardware), file=str(plan))
    a_node = None if gpus_per_node is None else parse_count(gpus_per_node, "--gpus-per-node")
    files = files_of(found, case, engine, backend, a_node)
    if output is None:
        show.result("\n".join(f"# ----- {name}\n{text}" for name, text in files.items()))
        return
    written = {output / name: text for name, text in files.items()}
    _check_folder(output, list(written), force=force)
    replace_all(output, written, [], option="--output")
    show.note(f"wrote {', '.join(str(path) for path in written)}")


def _check_folder(folder: Path, files: list[Path], *, force: bool) -> None:
    """Raises InputError where the folder is none, or holds one of the files without ``--force``."""
    if folder.exists() and not folder.is_dir():
        raise InputError("is not a folder", file=str(folder), field="--output")
    if folder.is_dir():
        for path in files:
            check_writable(path, force=force)
