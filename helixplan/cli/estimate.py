"""``helixplan estimate``: the cost of one layout, allowed or not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from helixplan.cli import options, show

Size = int


@options.takes(options.MODELLING)
def estimate(
    model: options.ModelName,
    hardware: options.HardwareName,
    batch: Annotated[str, typer.Option(help="Concurrent requests.")],
    kvp: Annotated[Size, typer.Option(help="KV parallel: ranks the KV cache is split over along the sequence.")],
    tpa: Annotated[Size, typer.Option(help="Tensor parallel of attention: ranks the heads are split over.")],
    tpf: Annotated[Size | None, typer.Option(help="Tensor parallel of the FFN. Default: all GPUs of a stage over EP.")] = None,
    ep: Annotated[Size, typer.Option(help="Expert parallel.")] = 1,
    dp: Annotated[Size, typer.Option(help="Attention data parallel.")] = 1,
    pp: Annotated[Size, typer.Option(help="Pipeline stages.")] = 1,
    overlap_chunks: Annotated[Size | None, typer.Option(help="HOP-B's chunks. Default: the best.")] = None,
    output_format: options.OutputFormat = options.Format.TABLE,
    **given: Any,
) -> None:
    """Score one layout; say which rules it breaks and whether it fits."""
    from helixplan.api import estimate as estimate_layout
    from helixplan.errors import InputError
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.huggingface import load_model
    from helixplan.inputs.workload import MAX_GPUS, whole
    from helixplan.layout import Layout
    from helixplan.units import parse_count

    for name, size in (("--kvp", kvp), ("--tpa", tpa), ("--dp", dp), ("--ep", ep)):
        whole(size, 1, MAX_GPUS, name)
    stage = dp * kvp * tpa
    if tpf is None and stage % ep:
        raise InputError(f"got {ep}, which does not divide the stage's {stage} GPUs (dp x kvp x tpa)", field="--ep")
    if given["overlap"] == "hop-b" and overlap_chunks == 1:
        raise InputError("got 1 with --overlap hop-b, which takes at least 2; leave out one of the two", field="--overlap-chunks")
    layout = Layout(kvp, tpa, stage // ep if tpf is None else tpf, ep, dp, pp, overlap_chunks=overlap_chunks)
    found = estimate_layout(
        load_model(model),
        load_hardware(hardware),
        layout,
        context_tokens=options.context_tokens(given),
        batch=parse_count(batch, "--batch"),
        **options.modelling(given),
    )
    show.warnings(found.warnings)
    show.plan(found, output_format)
