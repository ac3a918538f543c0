"""``helixplan validate``: predictions beside measurements and published figures, each under its limit."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.cli.progress import shown_while
from helixplan.errors import InputError, RegressionFound

if TYPE_CHECKING:
    from helixplan.evidence.published import Held
    from helixplan.evidence.validate import Comparison

SILICON_COLUMNS = ("times in us, errors in %", "rows", "measured", "here", "error, p90", "limits", "from")


class Against(StrEnum):
    """What predictions are held against."""

    SILICON = "silicon"
    PUBLISHED = "published"


def validate(
    against: Annotated[
        Against | None, typer.Option(help="silicon (measured kernels) or published (figures). Default: both.")
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option(help="With silicon: only this system. Repeatable. Default: every one with tables.")
    ] = None,
    output_format: options.OutputFormat = options.Format.TABLE,
) -> None:
    """Hold predictions against measurements. Exit 1 where an error is over its stated limit."""
    if system and against is Against.PUBLISHED:
        raise InputError("goes with --against silicon only: published figures name their own systems", field="--system")
    _check_systems(system or [])
    document: dict[str, Any] = {}
    failures: list[str] = []
    if against is not Against.SILICON:
        failures += _published(document, output_format)
    if against is not Against.PUBLISHED:
        failures += _silicon(document, list(dict.fromkeys(system or [])), output_format)
    if output_format is options.Format.JSON:
        show.result(json.dumps(document, indent=2, sort_keys=True))
    if failures:
        raise RegressionFound(failures)


def _check_systems(systems: list[str]) -> None:
    if systems:
        from helixplan.evidence.silicon import check_system

        for name in systems:
            check_system(name, "--system")


def _published(document: dict[str, Any], output_format: options.Format) -> list[str]:
    from helixplan.evidence.published import against_published

    held = list(against_published())
    document["published"] = [_claim(one) for one in held]
    if output_format is not options.Format.JSON:
        show.heading("published", output_format)
        show.records([_published_row(one) for one in held], output_format)
        show.result("")
    return [
        f"{one.claim.what}: {one.predicted:.3g} {one.claim.unit} here, {one.claim.figure:g} published"
        for one in held
        if not one.holds
    ]


def _silicon(document: dict[str, Any], systems: list[str], output_format: options.Format) -> list[str]:
    from helixplan.evidence.silicon import FOLDERS
    from helixplan.evidence.validate import against_silicon

    with shown_while("validating") as tell:
        measured = list(against_silicon(systems or list(FOLDERS), tell))
    document["silicon"] = [_comparison(one) for one in measured]
    if output_format is not options.Format.JSON:
        _print_silicon(measured, output_format)
    return [_over(one) for one in measured if not one.holds]


def _over(one: Comparison) -> str:
    from helixplan.report.wording import percent

    return (
        f"{one.system}, {one.what}: median error {percent(one.median_error)} (limit {percent(one.limit_median)}), "
        f"p90 {percent(one.p90_error)} (limit {percent(one.limit_p90)})"
    )


def _print_silicon(measured: list[Comparison], output_format: options.Format) -> None:
    """A table a system, and below it where its rows come from."""
    for system in dict.fromkeys(one.system for one in measured):
        own = [one for one in measured if one.system == system]
        sources = list(dict.fromkeys(one.source for one in own))
        show.heading(system, output_format)
        show.table(SILICON_COLUMNS, [_silicon_row(one, sources.index(one.source) + 1) for one in own], 1, output_format)
        show.records([(f"[{number}]", source) for number, source in enumerate(sources, 1)], output_format)
        show.result("")


def _silicon_row(one: Comparison, source: int) -> tuple[str, ...]:
    from helixplan.report.wording import error_pair

    times = (f"{one.measured_s * 1e6:.1f}", f"{one.predicted_s * 1e6:.1f}") if one.measured_s else ("", "")
    limit = error_pair(one.limit_median, one.limit_p90, digits=0)
    return (one.what, str(one.rows), *times, error_pair(one.median_error, one.p90_error), limit, f"[{source}]")


def _published_row(one: Held) -> tuple[str, str]:
    from helixplan.report.wording import percent

    claim = one.claim
    figures = f"{claim.figure:g} {claim.unit} published, {one.predicted:.3g} {claim.unit} here"
    return claim.what, f"{figures}: {percent(one.error)} (limit {percent(one.limit)}). Source: {claim.source}"


def _comparison(one: Comparison) -> dict[str, Any]:
    fields = {name: None if value == float("inf") else value for name, value in vars(one).items()}
    return fields | {"holds": one.holds}


def _claim(one: Held) -> dict[str, Any]:
    claim = one.claim
    return {
        "claim": claim.name,
        "what": claim.what,
        "source": claim.source,
        "unit": claim.unit,
        "published": claim.figure,
        "predicted": one.predicted,
        "error": one.error,
        "limit": one.limit,
        "holds": one.holds,
    }
