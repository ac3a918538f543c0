"""``helixplan verify``: runs a plan on emulated ranks and prices it again; exit 1 where it does not hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from helixplan.cli import options, show
from helixplan.cli.progress import shown_while
from helixplan.errors import RegressionFound

if TYPE_CHECKING:
    from helixplan.evidence.verify import Verification
    from helixplan.plans import Plan


def verify(
    plan: options.PlanFile,
    full_size_attention: Annotated[
        bool, typer.Option("--full-size-attention", help="Also one layer's attention at the model's head sizes, 64k tokens.")
    ] = False,
    model: options.PlansModel = None,
    hardware: options.PlansHardware = None,
    output_format: options.OutputFormat = options.Format.TABLE,
) -> None:
    """Run a plan on emulated ranks. Checks exactness, bytes moved and memory, and prices every figure again."""
    from helixplan.evidence.verify import verify as check
    from helixplan.replay import case_of, inputs_of, read_plan

    found_plan = read_plan(plan)
    case = case_of(found_plan, *inputs_of(found_plan, str(plan), model, hardware), file=str(plan))
    with shown_while("verifying") as tell:
        found = check(found_plan, case, full_size=full_size_attention, tell=tell)
    _print(found, found_plan, output_format)
    if not found.holds:
        raise RegressionFound(found.failures)


def _print(found: Verification, plan: Plan, output_format: options.Format) -> None:
    from helixplan.report import verification

    if output_format is options.Format.JSON:
        show.result(json.dumps(verification.document(found), indent=2, sort_keys=True))
        return
    show.records(verification.verdict(found, plan), output_format)
    if found.counted:
        show.result("")
        rows = [verification.count_row(one) for one in found.counted]
        show.table(verification.COUNT_COLUMNS, rows, 2, output_format, breaking=True)
    if found.expected:
        show.table(verification.EXPECTED_COLUMNS, verification.expected_rows(found), 1, output_format, breaking=True)
