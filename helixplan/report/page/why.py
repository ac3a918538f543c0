"""Why this plan: where a token's time goes, what binds, what a step to either side would give, and who comes next."""

from __future__ import annotations

from helixplan.explanation import Explanation
from helixplan.plans import Plan
from helixplan.report import explanation as words
from helixplan.report import wording
from helixplan.report.page.bars import bar, drawn, legend, track
from helixplan.report.page.elements import Markup, element, heading, joined, pairs, paragraph, table
from helixplan.units import format_seconds


def section(plan: Plan, found: Explanation | None) -> Markup:
    """All of it; of an estimate only where the time goes."""
    return joined((heading("Where a token's time goes"), _times(plan, found), *([] if found is None else _reasons(found))))


def _times(plan: Plan, found: Explanation | None) -> Markup:
    """A bar a phase, and under it, thin, the same phase at the speed of light."""
    ideal = {} if found is None else {(phase.name, phase.group): phase.ideal_s for phase in found.phases}
    longest = max(phase.seconds for phase in plan.cost.phases)
    rows = []
    for phase in plan.cost.phases:
        light = ideal.get((phase.name, phase.group))
        name, _, seconds, share, bound = wording.phase_row(phase, plan)
        told = f"{name}: {seconds}, {share} of the TTL, bound by {bound}"
        marks = [bar(phase.bound, 0, phase.seconds / longest, told)]
        if light is not None:
            marks.append(bar("light", 0, light / longest, f"{name} at the speed of light: {format_seconds(light)}"))
        rows.append((name, track(*marks), seconds))
    beneath = [] if found is None else [element("li", element("i", class_="light"), "at the speed of light")]
    caption = f"A step of {format_seconds(plan.cost.ttl_s)}, phase by phase"
    said = None if found is None else pairs(words.spent_on(found))
    return joined((said, drawn(caption, ("phase", "seconds of a step, to scale", "time"), rows), legend(*beneath)))


def _reasons(found: Explanation) -> list[Markup]:
    next_best = [words.runner_up_row(one) for one in found.runners_up]
    return [
        heading("What binds it"),
        pairs([words.rule_line(held, found) for held in found.rules]),
        heading("One step up or down, everything else chosen anew"),
        pairs([words.step_line(step, found) for step in found.steps]),
        heading("The next best"),
        table("The layouts that come next, and where they lose", words.RUNNER_UP_COLUMNS, next_best, words=(6,))
        if next_best
        else paragraph("There is no other layout."),
    ]
