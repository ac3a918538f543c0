"""How unevenly tokens land on experts: what the cost model takes an expectation of, beside the mean of many random routings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from helixplan.assembly import evaluate
from helixplan.evidence.emulation.scaling import Scaled
from helixplan.inputs.model import MoE
from helixplan.inputs.workload import ACTIVATION_BYTES, BYTES_PER_ELEMENT, DISPATCH_BYTES
from helixplan.layout import dealt
from helixplan.numeric import Floats, Ints, ceil_div
from helixplan.plans import Plan, PlanPhase

EXPERTS_BOUND, PAIRS_BOUND = 0.15, 0.3
"""By how much the expected load of the hottest expert rank may be off the mean of draws, beside four standard errors of that
mean: its experts hit (and with them the bytes read), and its pairs (and with them the FLOPs), whose form is meant for many."""
DRAWS = 400


@dataclass(frozen=True)
class Loads:
    """One entry a draw: experts hit and pairs computed on the rank with most, and the pairs that a sender's tokens send away."""

    active: Floats
    pairs: Floats
    away: Floats


def draw_loads(owners: Ints, per_token: int, tokens: int, own_tokens: int, draws: int = DRAWS, seed: int = 0) -> Loads:
    """``owners``: which EP rank holds each expert. Every token takes ``per_token`` of them, all as likely.

    The sender is EP rank 0 with ``own_tokens`` of the tokens.
    """
    draw = np.random.default_rng(seed)
    ranks = int(owners.max()) + 1
    active, pairs, away = np.zeros(draws), np.zeros(draws), np.zeros(draws)
    for index in range(draws):
        taken = np.argpartition(draw.random((tokens, len(owners))), per_token - 1, axis=1)[:, :per_token]
        hits = np.bincount(taken.ravel(), minlength=len(owners))
        active[index] = np.bincount(owners, weights=hits > 0, minlength=ranks).max()
        pairs[index] = np.bincount(owners, weights=hits, minlength=ranks).max()
        away[index] = np.count_nonzero(owners[taken[:own_tokens]])
    return Loads(active, pairs, away)


@dataclass(frozen=True)
class Expected:
    """What the cost model takes an expectation of, and the mean of draws."""

    what: str
    group: str | None
    charged: float
    mean: float
    standard_error: float
    bound: float

    @property
    def holds(self) -> bool:
        return abs(self.charged - self.mean) <= self.bound * self.mean + 4 * self.standard_error


def is_expected(scaled: Scaled, phase: PlanPhase) -> bool:
    """Whether the phase's cost is an expectation over routings."""
    if phase.name == "ffn.experts":
        return True
    moe = [name for name, ffn, _ in scaled.model.ffn_kinds if isinstance(ffn, MoE)]
    kind = phase.group or (moe[0] if moe else "")
    dispatched = scaled.case.ways.get(f"ffn.reduce {kind}", "").startswith("dispatch")
    return phase.name in ("ffn.gather", "ffn.reduce") and kind in moe and dispatched


def expectations(plan: Plan, scaled: Scaled) -> Iterator[Expected]:
    """The expectations that the cost model takes of a scaled plan, beside the mean of many random routings."""
    phases = evaluate(scaled.case, scaled.layout, scaled.batch).cost.phases
    layout, hidden = scaled.layout, scaled.model.hidden
    tokens = ceil_div(scaled.batch, layout.pp)
    own = ceil_div(ceil_div(tokens, layout.dp), layout.attention_group)
    for name, ffn, _ in scaled.model.ffn_kinds:
        if not isinstance(ffn, MoE):
            continue
        owners = np.concatenate([np.full(end - start, rank) for rank, (start, end) in enumerate(dealt(ffn.experts, layout.ep))])
        loads = draw_loads(owners, ffn.experts_per_token, tokens, min(own, tokens))
        columns = max(pair.stop - pair.start for pair in (scaled.ffn_cuts[name].scaled(r.ffn_columns[name]) for r in plan.ranks))
        a_layer = {phase.name: phase for phase in phases if phase.group in (None, name)}
        told = name if len(scaled.model.ffn_kinds) > 1 else None
        elements = 3 * hidden * columns
        experts = a_layer["ffn.experts"]
        bytes_read, flops = experts.stored_bytes / experts.layers, experts.flops / experts.layers
        each = elements * BYTES_PER_ELEMENT[scaled.case.precision.experts]
        yield _expected("ffn.experts, bytes of weights", told, bytes_read, loads.active * each, EXPERTS_BOUND)
        yield _expected("ffn.experts, FLOPs", told, flops, loads.pairs * 2 * elements, PAIRS_BOUND)
        if scaled.case.ways.get(f"ffn.reduce {name}", "").startswith("dispatch"):
            yield from _dispatches(scaled, name, told, ffn, loads, a_layer)


def _dispatches(
    scaled: Scaled, name: str, told: str | None, moe: MoE, loads: Loads, phases: dict[str, PlanPhase]
) -> Iterator[Expected]:
    """The wires of dispatch and combine: pairs that leave their sender, there in fp8 and back in bf16."""
    layout, hidden = scaled.layout, scaled.model.hidden
    tokens = ceil_div(scaled.batch, layout.pp)
    size = ceil_div(tokens, layout.dp) * hidden * ACTIVATION_BYTES
    g = layout.attention_group
    again = 0.0
    if g > 1:
        again = size * (g - 1) if scaled.case.ways[f"ffn.reduce {name}"].endswith("one-shot") else 2 * size * (g - 1) / g
    slices = 2 * (layout.tpf - 1) / layout.tpf * tokens * moe.experts_per_token / layout.ep * hidden * ACTIVATION_BYTES
    gather, reduce = phases["ffn.gather"], phases["ffn.reduce"]
    yield _expected(
        "ffn.gather, dispatch", told, gather.wire_bytes / gather.layers, loads.away * hidden * DISPATCH_BYTES, EXPERTS_BOUND
    )
    back = loads.away * hidden * ACTIVATION_BYTES + slices + again
    yield _expected("ffn.reduce, combine", told, reduce.wire_bytes / reduce.layers, back, EXPERTS_BOUND)


def _expected(what: str, group: str | None, charged: float, drawn: Floats, bound: float) -> Expected:
    return Expected(what, group, charged, float(drawn.mean()), float(drawn.std() / len(drawn) ** 0.5), bound)
