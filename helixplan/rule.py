"""A named rule that a layout must keep: what it says, why, and on which half of a layout.

A rule looks at one kind of row: the attention half of a layout or its FFN half. The families' rules stand in ``search/rules.py``,
the engines' in ``engines/``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case
from helixplan.layout import Layout, Layouts
from helixplan.numeric import Amount, Bools

Test = Callable[[Case, Layouts], Amount]


@dataclass(frozen=True)
class Rule:
    """``holds`` says, row by row, whether the rule is kept; ``reason`` says why it is there, with its source."""

    name: str
    reason: str
    holds: Test


class AttentionRule(Rule):
    """About kvp, tpa, dp, pp."""


class FfnRule(Rule):
    """About tpf and ep, on a stage's GPUs."""


def stage_of(rows: Layouts) -> Amount:
    """The GPUs of a pipeline stage, of either half."""
    return rows.kvp * rows.tpa * rows.dp


def kept(rules: Iterable[Rule], kind: type[Rule], case: Case, rows: Layouts) -> Bools:
    """Where every rule of one kind is kept.  -> (M,)"""
    fine: Bools = np.ones(len(rows), dtype=bool)
    for rule in rules:
        if isinstance(rule, kind):
            fine &= np.asarray(rule.holds(case, rows))
    return fine


def broken_rules(rules: Iterable[Rule], case: Case, layout: Layout) -> list[Rule]:
    """Those of the rules that one layout does not keep."""
    row = Layouts.of(layout)
    return [rule for rule in rules if not np.all(rule.holds(case, row))]
