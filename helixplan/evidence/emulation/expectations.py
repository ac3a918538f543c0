"""What the cost model takes an expectation of, beside what emulated ranks count over many random routings.

The load of the hottest expert rank, and what dispatched tokens put on the wires, depend on where a router sends tokens. Here it
sends every token to any experts, all as likely, again and again; what the ranks then read, compute and send is counted as ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from helixplan.evaluation import evaluate
from helixplan.evidence.emulation.experts import BETWEEN, COMBINE, Tokens
from helixplan.evidence.emulation.ledger import FLOPS, HBM, STORED, WIRE
from helixplan.evidence.emulation.run import Emulation
from helixplan.evidence.emulation.scaling import Scaled
from helixplan.inputs.model import MoE
from helixplan.numeric import Floats, Ints, ceil_div
from helixplan.plans import PlanPhase

DRAWS = 100
EXPERTS_BOUND, PAIRS_BOUND = 0.15, 0.3
"""By how much an expectation may be off the mean of draws, beside four standard errors of that mean: the experts that the hottest
rank reads, and what is dispatched; and its token-expert pairs, whose form is meant for many, or one pair if that is more.
Where EP does not divide the experts, by as much as padding adds: every rank is charged as if it held the most."""


@dataclass(frozen=True)
class Expected:
    """What is charged, and the mean of what was counted. It may be off by ``allowed``."""

    what: str
    group: str | None
    charged: float
    mean: float
    standard_error: float
    allowed: float

    @property
    def holds(self) -> bool:
        return abs(self.charged - self.mean) <= self.allowed + 4 * self.standard_error


def is_expected(scaled: Scaled, phase: PlanPhase) -> bool:
    """Whether the phase's cost is an expectation over routings."""
    if phase.name == "ffn.experts":
        return True
    moe = [name for name, ffn, _ in scaled.model.ffn_kinds if isinstance(ffn, MoE)]
    kind = phase.group or (moe[0] if moe else "")
    dispatched = scaled.case.ways.get(f"ffn.reduce {kind}", "").startswith("dispatch")
    return phase.name in ("ffn.gather", "ffn.reduce") and kind in moe and dispatched


def expectations(emulation: Emulation, draws: int = DRAWS, seed: int = 0) -> Iterator[Expected]:
    """Every expectation of a scaled plan's MoE layers."""
    scaled = emulation.scaled
    phases = evaluate(scaled.case, scaled.layout, scaled.batch).cost.phases
    for name, ffn, layers in scaled.model.ffn_kinds:
        if isinstance(ffn, MoE):
            told = name if len(scaled.model.ffn_kinds) > 1 else None
            counted = _drawn(emulation, ffn, layers[0], told or "", draws, seed)
            padding = ceil_div(ffn.experts, scaled.layout.ep) * scaled.layout.ep / ffn.experts - 1
            yield from _held_against(counted, padding, {phase.name: phase for phase in phases if phase.group == told}, told)


@dataclass(frozen=True)
class _Counted:
    """One row a draw. ``experts`` (draws, quantities) of the hottest rank, ``pair_flops`` of one pair there; the wires a GPU."""

    experts: Floats
    pair_flops: float
    away: Floats
    back: Floats
    dispatched: bool


def _drawn(emulation: Emulation, moe: MoE, layer: int, kind: str, draws: int, seed: int) -> _Counted:
    """One MoE layer run so many times, each with another routing. The largest batch a stage sees is in it."""
    draw, scaled, ledger = np.random.default_rng(seed), emulation.scaled, emulation.ledger
    layout = scaled.layout
    stage = next(index for index, layers in enumerate(scaled.stages) if layer in layers)
    ranks = [rank for rank in emulation.ranks.values() if rank.plan.stage == stage]
    tokens = ceil_div(scaled.batch, layout.pp)
    hidden = draw.standard_normal((tokens, scaled.model.hidden))
    before = {rank.number: _tokens(hidden, emulation.requests_of(rank, 0)) for rank in ranks}
    ledger.layer, ledger.micro_batch = layer, 0
    # Every rank has to route a token alike, so a draw is made once and read by the token.
    taken: dict[bytes, Ints] = {}

    def route(logits: Floats, per_token: int) -> tuple[Ints, Floats]:
        rows = [taken.setdefault(row.tobytes(), np.sort(draw.permutation(moe.experts)[:per_token])) for row in logits]
        chosen = np.array(rows, dtype=np.int64).reshape(len(logits), per_token)
        return chosen, np.full(chosen.shape, 1 / per_token)

    half = emulation.ffn_half(ranks, layer, route)
    assert half is not None
    experts, away, back = np.zeros((draws, 4)), np.zeros(draws), np.zeros(draws)
    # A GPU of the fullest kind sends ``own`` tokens; where groups are uneven the others send fewer, and the mean is theirs too.
    # What slices tell each other is charged by the mean of all ranks as it is.
    own = ceil_div(ceil_div(tokens, layout.dp), layout.attention_group)
    full = own * layout.gpus_per_stage / tokens
    for index in range(draws):
        taken.clear()
        ledger.counts.clear()
        half.output(before)
        experts[index] = ledger.fullest("ffn.experts", kind)
        away[index] = _total(emulation, "ffn.gather", kind) / layout.gpus_per_stage * full
        returned = _total(emulation, COMBINE, kind) * full + _total(emulation, BETWEEN, kind)
        back[index] = ledger.fullest("ffn.reduce", kind)[WIRE] + returned / layout.gpus_per_stage
    columns = max(rank.weights[layer]["expert_in"].shape[-1] for rank in ranks if rank.plan.tpf is not None)
    pair_flops = 2.0 * float(np.asarray(replace(moe, width=columns).expert(scaled.model.hidden, 1).elements))
    return _Counted(experts, pair_flops, away, back, half.way.startswith("dispatch"))


def _tokens(hidden: Floats, ids: Ints) -> Tokens:
    return Tokens(ids, hidden[ids])


def _total(emulation: Emulation, phase: str, kind: str) -> float:
    """Bytes on the wires of all ranks together."""
    return float(sum(entry[WIRE] for entry in emulation.ledger.counts.get((phase, kind), {}).values()))


def _held_against(counted: _Counted, padding: float, phases: dict[str, PlanPhase], group: str | None) -> Iterator[Expected]:
    experts = phases["ffn.experts"]
    for what, column, charged, bound, least in (
        ("ffn.experts, bytes of weights", STORED, experts.stored_bytes, max(EXPERTS_BOUND, padding), 0.0),
        ("ffn.experts, bytes", HBM, experts.hbm_bytes, max(PAIRS_BOUND, padding), 0.0),
        ("ffn.experts, FLOPs", FLOPS, experts.flops, max(PAIRS_BOUND, padding), counted.pair_flops),
    ):
        yield _expected(what, group, charged / experts.layers, counted.experts[:, column], bound, least)
    if counted.dispatched:
        for name, drawn in (("ffn.gather", counted.away), ("ffn.reduce", counted.back)):
            charged = phases[name].wire_bytes / phases[name].layers
            yield _expected(f"{name}, bytes sent", group, charged, drawn, EXPERTS_BOUND, 0.0)


def _expected(what: str, group: str | None, charged: float, drawn: Floats, bound: float, least: float) -> Expected:
    error = float(drawn.std() / len(drawn) ** 0.5)
    return Expected(what, group, charged, float(drawn.mean()), error, max(bound * float(drawn.mean()), least))
