"""``helixplan compare``: Helix's frontier against the best of the baselines."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.cli.progress import shown_while
from helixplan.errors import InfeasibleError
from helixplan.inputs import spelled
from helixplan.units import parse_count

MODELLING = {name: option for name, option in options.MODELLING.items() if name != "context"}


@options.takes(MODELLING, options.LIMITS)
def compare(
    model: options.ModelName,
    hardware: options.HardwareName,
    context: Annotated[list[str], typer.Option(help="Tokens of context a request holds: 1M, 128k. Repeatable: a row each.")],
    baseline: Annotated[
        list[str] | None,
        typer.Option(autocompletion=options.one_of("FAMILIES"), help="tp, pp, dp-ep, medha. Repeatable. Default: all four."),
    ] = None,
    output_format: options.OutputFormat = options.Format.TABLE,
    **given: Any,
) -> None:
    """Compare Helix with the best of the baselines. In speed, throughput, users, and what the overlap is worth."""
    from helixplan.api import compare_case, named_baselines
    from helixplan.engines import posed
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.huggingface import load_model
    from helixplan.inputs.workload import Workload
    from helixplan.search.comparison import BASELINES
    from helixplan.tracing import comparisons

    asked = spelled.request(given, None)
    baselines = named_baselines(baseline or list(BASELINES))
    loaded, system = load_model(model), load_hardware(hardware)
    works = [Workload(parse_count(text, "--context"), **spelled.modelling(given)) for text in dict.fromkeys(context)]
    found = []
    try:
        with shown_while("comparing") as tell:
            for work, text in zip(works, dict.fromkeys(context), strict=True):
                tell(text)
                found.append(compare_case(posed(loaded, system, work), asked, baselines))
    except InfeasibleError as error:
        show.infeasible(error, output_format)
        raise typer.Exit(3) from None
    _print(comparisons(found), output_format)


def _print(found: Any, output_format: options.Format) -> None:
    from helixplan.report import curves

    if output_format is options.Format.JSON:
        show.result(found.to_json())
        return
    rows = [curves.comparison_row(one) for one in found.comparisons]
    show.heading(curves.comparison_headline(found.comparisons), output_format)
    show.table(curves.COMPARISON_COLUMNS, rows, 1, output_format)
    for one in found.comparisons:
        if len(found.comparisons) > 1:
            show.heading(f"at {rows[found.comparisons.index(one)][0]} tokens", output_format)
        show.records(curves.comparison_sides(one), output_format)
    for note in dict.fromkeys(one.note for one in found.comparisons if one.note):
        show.note(f"note: {note}")
