"""``helixplan estimate``: the cost of one layout, allowed or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.errors import InputError
from helixplan.inputs import spelled
from helixplan.units import parse_count

if TYPE_CHECKING:
    from helixplan.layout import Layout


@options.takes(options.MODELLING)
def estimate(
    model: options.ModelName,
    hardware: options.HardwareName,
    batch: Annotated[str, typer.Option(help="Concurrent requests.")],
    kvp: Annotated[str, typer.Option(help="KV parallel: ranks the KV cache is split over along the sequence.")],
    tpa: Annotated[str, typer.Option(help="Tensor parallel of attention: ranks the heads are split over.")],
    tpf: Annotated[str | None, typer.Option(help="Tensor parallel of the FFN. Default: all GPUs of a stage over EP.")] = None,
    ep: Annotated[str, typer.Option(help="Expert parallel.")] = "1",
    dp: Annotated[str, typer.Option(help="Attention data parallel.")] = "1",
    pp: Annotated[str, typer.Option(help="Pipeline stages.")] = "1",
    overlap_chunks: Annotated[str | None, typer.Option(help="HOP-B's chunks. Default: the best.")] = None,
    output_format: options.OutputFormat = options.Format.TABLE,
    **given: Any,
) -> None:
    """Score one layout: the rules it breaks, and whether it fits."""
    from helixplan.api import estimate as estimate_layout
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.huggingface import load_model

    sizes = {"kvp": kvp, "tpa": tpa, "tpf": tpf, "ep": ep, "dp": dp, "pp": pp}
    found = estimate_layout(
        load_model(model),
        load_hardware(hardware),
        _layout(sizes, overlap_chunks, given["overlap"]),
        context_tokens=spelled.context_tokens(given),
        batch=parse_count(batch, "--batch"),
        **spelled.modelling(given),
    )
    show.warnings(found.warnings)
    show.plan(found, output_format)


def _layout(texts: dict[str, str | None], chunks: str | None, overlap: str) -> Layout:
    """The layout that the options spell; TPF takes the stage's GPUs that EP leaves, unless it is given."""
    from helixplan.inputs.workload import MAX_GPUS, whole
    from helixplan.layout import Layout

    sizes = {
        name: whole(parse_count(text, f"--{name}"), 1, MAX_GPUS, f"--{name}") for name, text in texts.items() if text is not None
    }
    stage = sizes["dp"] * sizes["kvp"] * sizes["tpa"]
    if "tpf" not in sizes and stage % sizes["ep"]:
        raise InputError(f"got {sizes['ep']}, which does not divide the stage's {stage} GPUs (dp x kvp x tpa)", field="--ep")
    sizes.setdefault("tpf", stage // sizes["ep"])
    count = None if chunks is None else parse_count(chunks, "--overlap-chunks")
    if overlap == "hop-b" and count == 1:
        raise InputError("got 1 with --overlap hop-b, which takes at least 2; leave out one of the two", field="--overlap-chunks")
    return Layout(**sizes, overlap_chunks=count)  # type: ignore[arg-type]
