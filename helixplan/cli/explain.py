"""``helixplan explain``: why a plan won, what would move it, and how far it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helixplan.cli import options, show
from helixplan.cli.progress import shown_while

if TYPE_CHECKING:
    from helixplan.explanation import Explanation


def explain(
    plan: options.PlanFile,
    model: options.PlansModel = None,
    hardware: options.PlansHardware = None,
    output_format: options.OutputFormat = options.Format.TABLE,
) -> None:
    """Say why a plan won, and what would move it. Where time goes, what binds, what each step would give, how far it holds."""
    from helixplan.api import explain_plan
    from helixplan.replay import case_of, inputs_of, made_otherwise, read_plan

    found = read_plan(plan)
    case = case_of(found, *inputs_of(found, str(plan), model, hardware), file=str(plan))
    with shown_while("explaining"):
        told = explain_plan(found, case, file=str(plan))
    made = made_otherwise(found)
    show.warnings([] if made is None else [f"{plan} was {made}, which finds the same layout and TTL and explains those"])
    if output_format is options.Format.JSON:
        show.result(told.to_json())
    else:
        _print(told, output_format)


def _print(told: Explanation, output_format: options.Format) -> None:
    from helixplan.report import explanation as words

    def section(title: str) -> None:
        show.result("")
        show.heading(title, output_format)

    show.heading(words.headline(told), output_format)
    show.result("")
    show.records(words.facts(told), output_format)
    section("Where a token's time goes")
    show.bars(words.BAR_COLUMNS, [words.phase_row(phase, told) for phase in told.phases], output_format)
    section("What binds it")
    show.records([words.rule_line(held, told) for held in told.rules], output_format)
    section("One step up or down, everything else chosen anew")
    show.records([words.step_line(step, told) for step in told.steps], output_format)
    if told.runners_up:
        section("The next best layouts")
        show.table(words.RUNNER_UP_COLUMNS, [words.runner_up_row(one) for one in told.runners_up], 0, output_format)
    section("How this layout's figures move")
    show.table(words.ELASTICITY_COLUMNS, [words.elasticity_row(one) for one in told.elasticities], 1, output_format)
    section("What would help")
    rows = [words.investment_row(one, told) for one in told.investments]
    show.table(words.INVESTMENT_COLUMNS, rows, 1, output_format)
    section("How far it holds")
    show.records(words.context_lines(told), output_format)
