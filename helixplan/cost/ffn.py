"""The phases of one layer's FFN: what its GPUs compute, and what they tell each other before and after (Helix 2.2)."""

from __future__ import annotations

import numpy as np

from helixplan.cost.collectives import REDUCE_WAYS, all_gather, all_reduce, all_to_all
from helixplan.cost.experts import active_experts, busiest_pairs
from helixplan.cost.roofline import gemm, grouped_gemm
from helixplan.cost.shares import Shares
from helixplan.cost.timing import Timing
from helixplan.inputs.model import DenseFFN, MoE
from helixplan.inputs.workload import ACTIVATION_BYTES, DISPATCH_BYTES
from helixplan.layout import Layout, may_dispatch
from helixplan.numeric import Amount, Floats, ceil_div

DISPATCH = "dispatch"
MOE_WAYS = tuple(f"{sum_by} {way}" for sum_by in ("all-reduce", "all-gather", DISPATCH) for way in REDUCE_WAYS)
"""How routed experts' outputs come together: by one all-reduce over the group; by an all-reduce over TPF, an all-gather over EP
and a local sum; or by dispatching tokens to their experts and combining what comes back. Each has an all-reduce in it, in one
shot or two."""


def moe_ways(layout: Layout) -> tuple[str, ...]:
    """The ways that one layout allows."""
    possible = {DISPATCH: bool(may_dispatch(layout)), "all-gather": layout.ffn_group == layout.gpus_per_stage}
    return tuple(way for way in MOE_WAYS if possible.get(way.split()[0], True))


def dense_phases(shares: Shares, name: str, ffn: DenseFFN) -> dict[str, Timing]:
    """The phases of one dense layer of the group ``name``."""
    return {
        "ffn.gather": _gathered(shares),
        "ffn.dense": _sharded(shares, ffn, "dense", shares.ffn_group, shares.stage_requests),
        "ffn.reduce": _reduced(shares, shares.case.ways.get(f"ffn.reduce {name}")),
    }


def moe_phases(shares: Shares, name: str, moe: MoE) -> dict[str, Timing]:
    """The phases of one MoE layer of the group ``name``: tokens gathered, or dispatched where that is cheaper."""
    case, hidden, tokens = shares.case, shares.case.model.hidden, shares.stage_requests
    mean, most = busiest_pairs(moe.experts_per_token, shares.ep, tokens)
    active = active_experts(moe.experts, moe.experts_per_token, shares.ep, tokens)
    timings = {
        "ffn.experts": grouped_gemm(
            case.machine, tokens, active, most, moe.expert(hidden, shares.tpf), case.precision.experts, moe.experts
        )
    }
    if moe.shared:
        timings["ffn.shared"] = _sharded(shares, moe.shared, "shared", shares.shared_group, shares.shared_requests)
    timings |= _communication(shares, moe, mean, case.ways.get(f"ffn.reduce {name}"))
    return {phase: timing for phase, timing in timings.items() if phase != "ffn.latent" or moe.latent is not None}


def _sharded(shares: Shares, ffn: DenseFFN, component: str, tp: Amount, requests: Amount) -> Timing:
    """A SwiGLU over ``tp`` GPUs. Dense layers use TP = w whatever tpf and ep are."""
    case, total = shares.case, Timing()
    for matrix in ffn.gemms(case.model.hidden, tp, component=component):
        total += gemm(case.machine, requests, matrix, case.precision.of(component))
    return total


def _gathered(shares: Shares) -> Timing:
    """With attention data parallel: every replica's hidden states to every other before the FFN."""
    contribution = shares.group_requests * shares.case.model.hidden * ACTIVATION_BYTES
    return all_gather(shares.fabric, shares.dp, shares.stage, contribution)


def _reduced(shares: Shares, way: str | None) -> Timing:
    """The sum of the FFN group's partial outputs, to every GPU of the stage: those that waited need it for the next layer."""
    size = shares.stage_requests * shares.case.model.hidden * ACTIVATION_BYTES
    return all_reduce(shares.fabric, shares.ffn_group, shares.stage, size, shares.stage, way)


def _communication(shares: Shares, moe: MoE, pairs: Floats, way: str | None) -> dict[str, Timing]:
    """Router, gather and reduce in the cheapest of ``MOE_WAYS`` (or in ``way``).

    Dispatch needs tokens that differ from rank to rank (dp > 1) and more than one EP rank.
    """
    sum_by, shot = way.split() if way else (None, None)
    gathered, dispatched = _by_gathering(shares, moe, sum_by, shot), _by_dispatch(shares, moe, pairs, shot)
    if sum_by is not None:
        taken: Amount = np.full(len(shares.layouts), sum_by == DISPATCH)
    else:
        taken = shares.may_dispatch & (_total(dispatched) < _total(gathered))
    return {name: timing.where(taken, gathered[name]) for name, timing in dispatched.items()}


def _total(phases: dict[str, Timing]) -> Amount:
    return sum(timing.seconds for timing in phases.values())


def _routed(shares: Shares, moe: MoE, tokens: Amount) -> Timing:
    router = moe.router(shares.case.model.hidden)
    return gemm(shares.case.machine, tokens, router, shares.case.precision.of(router.component))


def _projected(shares: Shares, moe: MoE, tokens: Amount) -> Timing:
    """Tokens to the width that experts see and back, on every rank: partial sums go up before they are reduced."""
    case = shares.case
    matrices = moe.projections(case.model.hidden)
    return sum((gemm(case.machine, tokens, matrix, case.precision.of(matrix.component)) for matrix in matrices), Timing())


def _by_gathering(shares: Shares, moe: MoE, sum_by: str | None, shot: str | None) -> dict[str, Timing]:
    """Every rank sees every token. Then one all-reduce over the group or, as the paper has it, an all-reduce over TPF, an
    all-gather over EP and a local sum; the latter only where no GPU waits."""
    fabric, gpu = shares.fabric, shares.case.hardware.gpu
    size = shares.stage_requests * shares.case.model.hidden * ACTIVATION_BYTES
    whole = _reduced(shares, shot)
    summed = (shares.ep + 1) * size
    local_s = summed / gpu.memory_bytes_per_s
    local_sum = Timing(local_s, summed, memory_s=local_s).times(np.where(shares.ep > 1, 1.0, 0.0))
    paper = all_reduce(fabric, shares.tpf, shares.tpf, size, way=shot)
    paper = paper + all_gather(fabric, shares.ep, shares.ffn_group, size) + local_sum
    if sum_by is None:
        # Not ``or_cheaper``: where GPUs wait, the sum over EP would not reach them.
        paper = paper.where((paper.seconds < whole.seconds) & (shares.ffn_group == shares.stage), whole)
    return {
        "ffn.router": _routed(shares, moe, shares.stage_requests),
        "ffn.latent": _projected(shares, moe, shares.stage_requests),
        "ffn.gather": _gathered(shares),
        "ffn.reduce": whole if sum_by == "all-reduce" else paper,
    }


def _by_dispatch(shares: Shares, moe: MoE, pairs: Floats, shot: str | None) -> dict[str, Timing]:
    """A GPU sends its share of its group's tokens to the experts' ranks and gets their outputs back: all-to-alls over EP.

    The pairs that reach one of an expert's TPF slices are gathered from the others' before, their outputs summed and scattered
    after: the two halves of an all-reduce in two shots. An all-reduce over the attention group gives every GPU all its group's
    tokens again, with the shared expert's partial sums in it.
    """
    fabric, hidden = shares.fabric, shares.case.model.hidden
    width = moe.token_width(hidden)
    own = ceil_div(shares.group_requests, shares.attention_group)
    sent = own * moe.experts_per_token * (1 - 1 / shares.ep) * width
    between = all_reduce(fabric, shares.tpf, shares.tpf, pairs * width * ACTIVATION_BYTES, way="two-shot")
    size = shares.group_requests * hidden * ACTIVATION_BYTES
    again = all_reduce(fabric, shares.attention_group, shares.attention_group, size, way=shot)
    combined = all_to_all(fabric, shares.ep, shares.ffn_group, sent * ACTIVATION_BYTES)
    return {
        "ffn.router": _routed(shares, moe, own),
        "ffn.latent": _projected(shares, moe, own),
        "ffn.gather": all_to_all(fabric, shares.ep, shares.ffn_group, sent * DISPATCH_BYTES),
        "ffn.reduce": between + combined + again,
    }
