"""``helixplan models``, ``helixplan hardware`` and ``helixplan schema``: what there is, and the formats of files."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, write_atomically

if TYPE_CHECKING:
    from helixplan.inputs.hardware import Hardware
    from helixplan.inputs.model import Model

models = typer.Typer(no_args_is_help=True, help="The bundled models, and what a config.json says.")
hardware = typer.Typer(no_args_is_help=True, help="The bundled systems, and what a profile says.")


class Schema(StrEnum):
    """The file formats that have a JSON Schema."""

    PLAN = "plan"
    INFEASIBLE = "infeasible"
    EXPLANATION = "explanation"
    FRONTIER = "frontier"
    COMPARISON = "comparison"
    LAUNCH = "launch"
    MODEL = "model"
    HARDWARE = "hardware"
    SUITE = "suite"
    BASELINE = "baseline"


DESCRIBED_BY = {
    Schema.PLAN: "plans.Plan",
    Schema.INFEASIBLE: "plans.Infeasible",
    Schema.EXPLANATION: "explanation.Explanation",
    Schema.FRONTIER: "curves.Frontier",
    Schema.COMPARISON: "curves.Comparisons",
    Schema.LAUNCH: "advice.Advice",
    Schema.MODEL: "inputs.huggingface.ConfigFile",
    Schema.HARDWARE: "inputs.hardware.ProfileFile",
    Schema.SUITE: "regress.suites.SuiteFile",
    Schema.BASELINE: "regress.results.Result",
}
"""The class that reads or writes each format; imported when asked for."""


def schema(name: Annotated[Schema, typer.Argument(help="Which format.")]) -> None:
    """Print the JSON Schema of a file format."""
    from importlib import import_module

    module, _, described = DESCRIBED_BY[name].rpartition(".")
    document = getattr(import_module(f"helixplan.{module}"), described).model_json_schema()
    show.result(json.dumps(document | {"$schema": "https://json-schema.org/draft/2020-12/schema"}, indent=2, sort_keys=True))


@models.command("list")
def list_models(output_format: options.OutputFormat = options.Format.TABLE) -> None:
    """List the bundled models."""
    from helixplan.inputs.catalog import bundled_models
    from helixplan.inputs.huggingface import load_model
    from helixplan.report import models as told

    found = [load_model(name) for name in bundled_models()]
    if output_format is options.Format.JSON:
        _as_json([told.record(model) for model in found])
    else:
        show.table(told.LIST_COLUMNS, [told.list_row(model) for model in found], 3, output_format)


@models.command("show")
def show_model(model: options.ModelName, output_format: options.OutputFormat = options.Format.TABLE) -> None:
    """Show what helixplan understands of a model."""
    from helixplan.inputs.huggingface import load_model

    _understood(load_model(model), output_format)


@models.command("import")
def import_model(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A config.json of Hugging Face, or the folder that holds it.")],
    output: Annotated[Path | None, typer.Option(help="Also write a file like the bundled ones.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    output_format: options.OutputFormat = options.Format.TABLE,
) -> None:
    """Show what is understood of a config.json. Refuses one that cannot be placed."""
    from helixplan.inputs.catalog import find_model
    from helixplan.inputs.huggingface import import_model as read

    if output is not None:
        check_writable(output, force=force)
    path = find_model(str(config) if config.suffix == ".json" or config.is_absolute() else f"./{config}")
    found, written = read(path)
    _understood(found, output_format)
    if output is not None:
        write_atomically(output, json.dumps(written, indent=2, sort_keys=True) + "\n", force=force)
        show.note(f"wrote {output}")


@hardware.command("list")
def list_hardware(output_format: options.OutputFormat = options.Format.TABLE) -> None:
    """List the bundled systems."""
    from helixplan.inputs.catalog import bundled_hardware
    from helixplan.inputs.hardware import load_hardware

    found = [load_hardware(name) for name in bundled_hardware()]
    if output_format is options.Format.JSON:
        _as_json([_profile(system) for system in found])
    else:
        show.table(HARDWARE_COLUMNS, [_hardware_row(system) for system in found], 2, output_format)


@hardware.command("show")
def show_hardware(profile: options.HardwareName, output_format: options.OutputFormat = options.Format.TABLE) -> None:
    """Show a profile: every number with its source."""
    from helixplan.inputs.hardware import load_hardware

    told = _profile(load_hardware(profile))
    if output_format is options.Format.JSON:
        _as_json(told)
    else:
        show.records(list(_lines(told, "")), output_format)


HARDWARE_COLUMNS = ("name", "GPU", "domain", "GB", "TB/s", "GB/s", "scale-out", "fitted")


def _understood(model: Model, output_format: options.Format) -> None:
    """What a model was read to be, in the format asked for."""
    from helixplan.report import models as told

    if output_format is options.Format.JSON:
        _as_json(told.record(model))
        return
    show.heading(model.name, output_format)
    show.records(told.facts(model), output_format)
    show.heading("KV bytes that a token adds, by group of layers", output_format)
    show.table(told.GROUP_COLUMNS, told.group_rows(model), 3, output_format)


def _hardware_row(system: Hardware) -> list[str]:
    wires, gpu = system.interconnect, system.gpu
    across = wires.scale_out_bytes_per_s
    return [
        system.name,
        gpu.name,
        str(wires.domain_gpus),
        str(round(gpu.memory_bytes / 1e9, 1)),
        str(round(gpu.memory_bytes_per_s / 1e12, 2)),
        str(round(wires.domain_bytes_per_s / 1e9)),
        "none" if across is None else str(round(across / 1e9)),
        "yes" if system.file.kernels.calibrated else "no",
    ]


def _profile(system: Hardware) -> dict[str, Any]:
    return system.file.model_dump(mode="json", exclude_none=True)


def _as_json(found: object) -> None:
    show.result(json.dumps(found, indent=2, sort_keys=True))


def _lines(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value.keys() == {"value", "source"}:
        return [(path, f"{value['value']:g} ({value['source']})")]
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _lines(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [line for index, item in enumerate(value) for line in _lines(item, f"{path}[{index}]")]
    return [(path, str(value))]
