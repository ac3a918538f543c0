"""What verify found, in words and rows, once for every view."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from helixplan.evidence.verify import Counted, Verification
from helixplan.plans import Plan
from helixplan.report.wording import layout_words

COUNT_COLUMNS = ("phase, of one layer", "quantity", "counted", "charged", "")
EXPECTED_COLUMNS = ("expectation", "charged", "mean of draws", "+-", "")


def verdict(found: Verification, plan: Plan) -> list[tuple[str, str]]:
    """The answer first."""
    lines = [("plan", f"{plan.model.name} on {plan.hardware.name}: {layout_words(plan.layout)}")]
    lines.append(("verdict", "holds" if found.holds else f"does not hold ({len(found.failures)} findings, below)"))
    if found.largest_error is not None:
        run = f"{found.steps} decode steps of {found.requests} requests at {found.context_tokens} tokens, layers "
        run += ", ".join(str(layer) for layer in found.layers)
        lines.append(("emulated", f"{found.ranks} ranks, {run}, sizes scaled down"))
        lines.append(("largest error", f"{found.largest_error:.1e} of a tensor's largest entry, float64 (1e-10 is allowed)"))
    if found.full_size_error is not None:
        lines.append(
            ("full size", f"{found.full_size_error:.1e}: one layer's attention at the model's head sizes, 65,553 tokens")
        )
    for name, sent in found.once_a_step.items():
        lines.append(("once a step", f"{name}: {sent:,.0f} bytes sent, which nobody charges"))
    return lines


def count_row(one: Counted) -> tuple[str, ...]:
    name = f"{one.phase} ({one.group})" if one.group else one.phase
    return name, one.quantity, f"{one.counted:,.10g}", f"{one.charged:,.10g}", "=" if one.holds else "differs"


def expected_rows(found: Verification) -> list[tuple[str, ...]]:
    return [
        (
            f"{one.what} ({one.group})" if one.group else one.what,
            f"{one.charged:,.5g}",
            f"{one.mean:,.5g}",
            f"{one.standard_error:.2g}",
            f"{'within' if one.holds else 'off by more than'} {one.allowed:,.4g}",
        )
        for one in found.expected
    ]


def document(found: Verification) -> dict[str, Any]:
    """As JSON."""
    told = asdict(found)
    told["counted"] = [asdict(one) | {"holds": one.holds} for one in found.counted]
    told["expected"] = [asdict(one) | {"holds": one.holds} for one in found.expected]
    return told | {"holds": found.holds}
