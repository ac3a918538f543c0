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
    from collections.abc import Sequence

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

    _table([_model_facts(load_model(name)) for name in bundled_models()], MODEL_COLUMNS, 3, output_format)


@models.command("show")
def show_model(model: options.ModelName, output_format: options.OutputFormat = options.Format.TABLE) -> None:
    """Show what helixplan understands of a model."""
    from helixplan.inputs.huggingface import load_model

    _record(_model_record(load_model(model)), output_format)


@models.command("import")
def import_model(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A config.json of Hugging Face, or the folder that holds it.")],
    output: Annotated[Path | None, typer.Option(help="Also write a file like the bundled ones.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    output_format: options.OutputFormat = options.Format.TABLE,
) -> None:
    """Show what is understood of a config.json; refuse one that cannot be placed."""
    from helixplan.inputs.huggingface import bundled_style, load_model

    if output is not None:
        check_writable(output, force=force)
    path = config / "config.json" if config.is_dir() else config
    found = load_model(path if path.suffix == ".json" else f"./{path}")
    _record(_model_record(found), output_format)
    if output is not None:
        write_atomically(output, json.dumps(bundled_style(path), indent=2, sort_keys=True) + "\n", force=force)
        show.note(f"wrote {output}")


@hardware.command("list")
def list_hardware(output_format: options.OutputFormat = options.Format.TABLE) -> None:
    """List the bundled systems."""
    from helixplan.inputs.catalog import bundled_hardware
    from helixplan.inputs.hardware import load_hardware

    _table([_hardware_facts(load_hardware(name)) for name in bundled_hardware()], HARDWARE_COLUMNS, 2, output_format)


@hardware.command("show")
def show_hardware(profile: options.HardwareName, output_format: options.OutputFormat = options.Format.TABLE) -> None:
    """Show a profile: every number with its source."""
    from helixplan.inputs.hardware import load_hardware

    _record(load_hardware(profile).file.model_dump(mode="json", exclude_none=True), output_format)


MODEL_COLUMNS = ("name", "attention", "FFN", "layers", "total", "active", "KV fp8")
HARDWARE_COLUMNS = ("name", "GPU", "domain", "GB", "TB/s", "GB/s", "scale-out", "fitted")


def _model_facts(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "total": f"{model.parameters / 1e9:.1f}B",
        "active": f"{model.active_parameters / 1e9:.1f}B",
        "layers": model.layers,
        "attention": ", ".join(sorted({_attention_words(attention) for _, attention, _ in model.attention_kinds})),
        "FFN": ", ".join(sorted({_ffn_words(ffn) for _, ffn, _ in model.ffn_kinds})),
        "KV fp8": f"{model.kv_bytes_per_token('fp8'):.0f} B",
    }


def _attention_words(attention: Any) -> str:
    if hasattr(attention, "kv_rank"):
        sparse = f" top {attention.indexer.top_k}" if attention.indexer else ""
        return f"MLA {attention.query_heads}{sparse}"
    if hasattr(attention, "key_dim"):
        return f"state {attention.query_heads}"
    window = f" window {attention.window}" if attention.window else ""
    return f"GQA {attention.query_heads}/{attention.kv_heads}{window}"


def _ffn_words(ffn: Any) -> str:
    if not hasattr(ffn, "experts"):
        return "dense"
    return f"{ffn.experts_per_token}/{ffn.experts}" + (" shared" if ffn.shared_width else "")


def _described(half: Any) -> dict[str, Any] | None:
    """What a half of a layer was read to be; None where layers have none."""
    from dataclasses import asdict, fields

    if half is None:
        return None
    own = {field.name for field in fields(half) if field.init}
    return {"kind": type(half).__name__, **{name: value for name, value in asdict(half).items() if name in own}}


def _model_record(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "sha256": model.sha256,
        "parameters": model.parameters,
        "active_parameters": model.active_parameters,
        "max_context": model.max_context,
        "hidden": model.hidden,
        "vocabulary": model.vocabulary,
        "kv_bytes_per_token": {dtype: model.kv_bytes_per_token(dtype) for dtype in ("bf16", "fp8", "nvfp4")},
        "weights": {part: model.precision.of(part) for part in ("attention", "dense", "experts", "shared", "router")},
        "groups": [
            {
                "name": group.name,
                "layers": len(group.layers),
                "kv_bytes_per_token": {dtype: group.kv_bytes_per_token(dtype) for dtype in ("bf16", "fp8", "nvfp4")},
                "attention": _described(group.attention),
                "ffn": _described(group.ffn),
            }
            for group in model.groups
        ],
    }


def _hardware_facts(system: Hardware) -> dict[str, Any]:
    wires, gpu = system.interconnect, system.gpu
    across = wires.scale_out_bytes_per_s
    return {
        "name": system.name,
        "GPU": gpu.name,
        "domain": wires.domain_gpus,
        "GB": round(gpu.memory_bytes / 1e9, 1),
        "TB/s": round(gpu.memory_bytes_per_s / 1e12, 2),
        "GB/s": round(wires.domain_bytes_per_s / 1e9),
        "scale-out": "none" if across is None else round(across / 1e9),
        "fitted": "yes" if system.file.kernels.calibrated else "no",
    }


def _table(rows: list[dict[str, Any]], names: Sequence[str], left: int, output_format: options.Format) -> None:
    """Rows of facts; the first ``left`` columns hold words."""
    if output_format is options.Format.JSON:
        show.result(json.dumps(rows, indent=2, sort_keys=True))
        return
    show.table(names, [[str(row[name]) for name in names] for row in rows], left, output_format)


def _record(record: dict[str, Any], output_format: options.Format) -> None:
    """One thing, field by field; a number with a source is one line."""
    if output_format is options.Format.JSON:
        show.result(json.dumps(record, indent=2, sort_keys=True))
        return
    lines = list(_lines(record, ""))
    if output_format is options.Format.MARKDOWN:
        from helixplan.report.markdown import table

        show.result(table(("field", "value"), lines))
    else:
        from helixplan.report.terminal import pairs

        show.view(pairs(lines))


def _lines(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value.keys() == {"value", "source"}:
        return [(path, f"{value['value']:g} ({value['source']})")]
    if isinstance(value, dict):
        return [line for key, item in value.items() for line in _lines(item, f"{path}.{key}" if path else str(key))]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [line for index, item in enumerate(value) for line in _lines(item, f"{path}[{index}]")]
    return [(path, str(value))]
