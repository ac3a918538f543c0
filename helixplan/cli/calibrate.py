"""``helixplan calibrate``: kernel constants fitted to measurements, with their errors on rows that no fit saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, write_atomically
from helixplan.cli.progress import shown_while
from helixplan.errors import InputError

if TYPE_CHECKING:
    from helixplan.evidence.calibrate import Calibration, Fitted
    from helixplan.evidence.measurements import Measurements
    from helixplan.inputs.hardware import Hardware

COLUMNS = ("rows; errors in %", "fit+test", "out", "error, p90", "beyond")


def calibrate(
    system: Annotated[
        str,
        typer.Argument(
            metavar="SYSTEM", autocompletion=options.names_from("bundled_hardware"), help="A bundled system or a TOML profile."
        ),
    ],
    source: Annotated[
        str,
        typer.Option("--from", help="silicon (the measured tables of aiconfigurator-core), gpu (this machine's), or a FILE.csv."),
    ],
    output: Annotated[Path | None, typer.Option(help="Write the profile with the fitted constants to this file.")] = None,
    csv: Annotated[Path | None, typer.Option(help="With --from gpu: write the measurements to this file.")] = None,
    force: Annotated[bool, typer.Option(help="Replace files that exist.")] = False,
    output_format: options.OutputFormat = options.Format.TABLE,
) -> None:
    """Fit a system's kernel constants to measurements. Prints the errors on rows kept from the fit."""
    from helixplan.evidence.calibrate import calibrate as fit_all
    from helixplan.inputs.hardware import load_hardware

    hardware = load_hardware(system)
    if csv is not None and source != "gpu":
        raise InputError("goes with --from gpu only", field="--csv")
    if csv is not None and output is not None and csv.resolve() == output.resolve():
        raise InputError("is the file of --output too; name two", file=str(csv), field="--csv")
    for path, option in ((output, "--output"), (csv, "--csv")):
        if path is not None:
            check_writable(path, force=force, option=option)
    with shown_while(f"calibrating {hardware.name}") as tell:
        measured = _measured(hardware, source, csv, force=force, tell=tell)
        found = fit_all(hardware, measured, tell)
    if found.borrowed:
        show.warnings([f"nothing was measured of {', '.join(found.borrowed)}: these constants stay as the profile had them"])
    if output is not None:
        write_atomically(output, _profile(system, found), force=force)
    _print(found, output_format)


def _measured(hardware: Hardware, source: str, csv: Path | None, *, force: bool, tell: Any) -> list[Measurements]:
    if source == "silicon":
        from helixplan.evidence.calibrate import from_silicon

        return list(from_silicon(hardware))
    if source == "gpu":
        from helixplan.evidence.gpu import measure
        from helixplan.evidence.measurements import as_csv

        run = measure(tell)
        show.note(run.speed)
        if csv is not None:
            write_atomically(csv, as_csv(run.measurements, run.about), force=force, option="--csv")
        return run.measurements
    if not source.endswith(".csv"):
        raise InputError(f"got {source!r}; allowed: silicon, gpu, or a file that ends in .csv", field="--from")
    from helixplan.evidence.measurements import read_csv

    return read_csv(Path(source))


def _profile(system: str, found: Calibration) -> str:
    """The profile's text with the new constants, proved to load."""
    from helixplan.evidence.profiles import with_constants
    from helixplan.inputs.catalog import find_hardware
    from helixplan.inputs.hardware import load_hardware
    from helixplan.inputs.validation import parse_toml, read_text

    path = find_hardware(system)
    text = with_constants(read_text(path), found.hardware.file.kernels, str(path))
    load_hardware(parse_toml(text, "the calibrated profile"))
    return text


def _print(found: Calibration, output_format: options.Format) -> None:
    if output_format is options.Format.JSON:
        tables = [
            {"table": one.name, "variant": one.variant, "constants": one.constants.model_dump(exclude_none=True)}
            for one in found.fitted
        ]
        show.result(json.dumps({"system": found.hardware.name, "fitted": tables}, indent=2, sort_keys=True))
        return
    show.table(COLUMNS, [_row(one) for one in found.fitted], 1, output_format)


def _row(one: Fitted) -> tuple[str, ...]:
    from helixplan.report.wording import error_pair

    evidence = one.constants.evidence
    beyond = [f"{name}: {error_pair(far.median_error, far.p90_error)}" for name, far in evidence.beyond.items()]
    return (
        f"{one.name} {one.variant}".strip(),
        f"{evidence.fitted_rows}+{evidence.tested_rows}",
        str(sum(evidence.left_out.values())),
        error_pair(evidence.median_error, evidence.p90_error),
        "; ".join(beyond),
    )
