"""The page that holds the Helix paper's claims beside this model's figures, in markdown; the same figures give the same page."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from helixplan.evidence import paper
from helixplan.evidence.paper import Change, Claim
from helixplan.report.markdown import table

Tell = Callable[[str], None]
RATIO_DIGITS = 3


@dataclass(frozen=True)
class Tried:
    """A claim's figure with one assumption taken otherwise."""

    assumption: str
    value: str
    figure: float


@dataclass(frozen=True)
class Held:
    """A claim beside this model's figures: by floor scale, and at the scale it is judged at with one assumption otherwise."""

    claim: Claim
    scales: dict[float, float]
    judged_at: float
    tried: list[Tried]

    @property
    def ours(self) -> float:
        return self.scales[self.judged_at]

    @property
    def comes_out(self) -> bool:
        return abs(self.ours / self.claim.figure - 1) <= paper.NEAR


def reproduction(picture: str, tell: Tell = lambda said: None) -> str:
    """The page. ``picture``: the name of figure 1's file. ``tell`` is told what is being worked out."""
    tell("the floor scale of R1's 1.5x")
    scale = paper.found_scale()
    simulated = [_held(claim, (0.0, scale, 1.0), scale, tell) for claim in paper.CLAIMS]
    silicon = [_held(claim, (0.0, 0.5, 1.0), 1.0, tell) for claim in paper.SILICON_CLAIMS]
    parts = [_opening(scale), _claims(simulated, scale), _silicon(silicon), _misses(simulated + silicon)]
    parts += [_sensitivity(simulated, scale), _figure_1(picture), _figure_3()]
    return "\n\n".join(parts) + "\n"


def _held(claim: Claim, scales: tuple[float, ...], judged_at: float, tell: Tell) -> Held:
    tell(claim.name)
    figures = {scale: claim.read(claim.trial.compared(scale)) for scale in scales}
    tried = [Tried(c.assumption, c.value, claim.read(claim.trial.compared(judged_at, c))) for c in _changes(claim)]
    return Held(claim, figures, judged_at, tried)


def _changes(claim: Claim) -> list[Change]:
    """What could decide a claim; a baseline alone is no change where there is but one."""
    found = paper.changes(claim.trial)
    return [change for change in found if not change.baselines or len(claim.trial.baselines) > 1]


def _shown(value: float, claim: Claim) -> str:
    return f"{value:.{RATIO_DIGITS}g}{'x' if claim.unit == 'x' else ' %'}"


def _opening(scale: float) -> str:
    return f"""# The Helix paper's claims, held against this model

Written by `helixplan reproduce helix-paper`; CI runs it again and compares. Nothing here was tuned: the constants are fitted to
measured kernels ([accuracy](accuracy.md)) and no claim moves one.

The paper (Helix Parallelism, arXiv 2507.07120) simulates GB200 at a million tokens, fp4 throughout, arithmetic included, on up
to 64 GPUs; its simulator is not public. It stands somewhere between our two clocks. So one number is found from one claim, R1's
1.5x tokens/s/user: it falls at **floor scale {scale:g}** (0 is the ideal clock, 1 the measured one). All other claims are read
off there and at both ends; one comes out where ours is within a tenth of it. Ratios are `helixplan compare`'s: the largest over
the baselines' frontier, Helix's side free to use any family; users are concurrent requests a GPU. Baselines: tp, pp and dp-ep
for DeepSeek-R1; tp, pp and medha for Llama-3.1-405B."""


def _claims(held: list[Held], scale: float) -> str:
    rows = [
        (
            one.claim.name,
            f"{one.claim.how} {_shown(one.claim.figure, one.claim)}",
            *(_shown(one.scales[at], one.claim) for at in (0.0, scale, 1.0)),
            "by choice of the scale" if one.claim is paper.CLAIMS[0] else "yes" if one.comes_out else "no",
            one.claim.source,
        )
        for one in held
    ]
    columns = ("claim", "published", "floor scale 0", f"floor scale {scale:g}", "floor scale 1", "comes out", "source")
    return "## The paper's claims\n\n" + table(columns, rows)


def _silicon(held: list[Held]) -> str:
    rows = [
        (
            one.claim.name,
            _shown(one.claim.figure, one.claim),
            *(_shown(figure, one.claim) for figure in one.scales.values()),
            "yes" if one.comes_out else "no",
            one.claim.source,
        )
        for one in held
    ]
    opening = (
        "On GB300, nvfp4 weights and fp8 KV, no overlap of the exchange, up to 64 GPUs; judged at the measured clock, scale 1.\n"
        "The constants are gb200's: gb300 is uncalibrated, its own tables test them."
    )
    return f"## Silicon\n\n{opening}\n\n" + table(
        ("claim", "published", "floor scale 0", "floor scale 0.5", "floor scale 1", "comes out", "source"), rows
    )


def _misses(held: list[Held]) -> str:
    missed = [one for one in held if not one.comes_out]
    said = [f"**{one.claim.name}.** {_why(one)}" for one in missed]
    return "## What does not come out, and what decides it\n\n" + "\n\n".join(said or ["Every claim comes out."])


def _why(one: Held) -> str:
    """Which assumption decides a claim that does not come out: the one that, taken otherwise, comes nearest to it."""
    claim = one.claim
    ends = f"{_shown(claim.figure, claim)} is claimed; here it is {_shown(one.ours, claim)}"
    options = [Tried("floor scale", f"{at:g}", figure) for at, figure in one.scales.items() if at != one.judged_at] + one.tried
    best = min(options, key=lambda tried: _distance(tried.figure, claim.figure))
    moved = abs(_distance(best.figure, claim.figure) - _distance(one.ours, claim.figure)) > 0.02
    between = min(one.scales[0.0], one.ours) <= claim.figure <= max(one.scales[0.0], one.ours)
    if between:
        clocks = f"{_shown(one.scales[0.0], claim)} without floors"
        return (
            f"{ends} at floor scale {one.judged_at:g} and {clocks}: the claim lies between, and what start-ups cost decides it."
        )
    if not moved:
        return (
            f"{ends}, and no assumption tried moves it by more than a fiftieth toward the claim: what start-ups cost decides it."
        )
    near = _distance(best.figure, claim.figure) <= math.log(1 + paper.NEAR)
    outcome = "which decides it" if near else "which moves it most, and not far enough"
    return f"{ends}. With {best.assumption} {best.value} it is {_shown(best.figure, claim)}, {outcome}."


def _distance(ours: float, figure: float) -> float:
    """How far apart two figures are, by their logarithms; a loss of nothing counts as a hundredth of a per cent."""
    return abs(math.log(max(ours, 1e-2) / figure))


def _sensitivity(held: list[Held], scale: float) -> str:
    assumptions = list(dict.fromkeys((tried.assumption, tried.value) for one in held for tried in one.tried))
    rows = [("as above", "", *(_shown(one.ours, one.claim) for one in held))]
    for assumption, value in assumptions:
        figures = []
        for one in held:
            found = [tried.figure for tried in one.tried if (tried.assumption, tried.value) == (assumption, value)]
            figures.append(_shown(found[0], one.claim) if found else "")
        rows.append((assumption, value, *figures))
    columns = ("assumption", "taken as", *(one.claim.name for one in held))
    return (
        f"## Sensitivity, at floor scale {scale:g}\n\nOne assumption otherwise at a time. A ratio is taken at the baselines' own "
        "points, so that fewer baselines can make it smaller.\n\n" + table(columns, rows)
    )


def _figure_1(picture: str) -> str:
    kv = [("KV read, kvp 1", *(f"{paper.kv_read_us(width, 1):.4g}" for width in paper.WIDTHS))]
    weights = [("weights", *(f"{paper.weights_read_us(width):.4g}" for width in paper.WIDTHS))]
    split = [("KV read, tpa 8", *(f"{paper.kv_read_us(8, kvp):.4g}" for kvp in paper.KVPS))]
    return f"""## Figure 1

Microseconds of DRAM reads a layer, by the formulas of appendix A (8 requests, 128 query and 8 KV heads of 128, FFN 65,536, hidden
16,384, fp4, 8000 GB/s, a million tokens). Past 8 ranks TP copies the KV cache instead of splitting it; KVP goes on splitting it.

![Figure 1: KV and weight reads]({quote(picture)})

{table(("TP", *map(str, paper.WIDTHS)), kv + weights)}

{table(("KVP", *map(str, paper.KVPS)), split)}

Appendix A prices the output projection at TPA, where section 2.2 shards it over all of KVP x TPA; the cost model follows 2.2."""


def _figure_3() -> str:
    plain, overlapped = paper.figure_3()
    return f"""## Figure 3

Eight requests, 2 units of attention and 1.2 of exchange each: {plain:g} units one after the other, {overlapped:g} with HOP-B, a
request a chunk (the paper prints 17)."""
