"""The named rules a layout must keep: the whole law on one page.

A rule looks at one kind of row: the attention half of a layout, its FFN half, or the whole replica's size. Structure (heads
do not split, stages are not empty) is no rule: it is never relaxed and stands in ``layout.py``. Rules judge; ``cost`` prices
any layout, allowed or not, so that baselines which break Helix's rules on purpose are scored by the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case
from helixplan.inputs.workload import Request
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


def _stage(rows: Layouts) -> Amount:
    return rows.kvp * rows.tpa * rows.dp


TPA_WITHIN_KV_HEADS = AttentionRule(
    "tpa-within-kv-heads",
    "TPA may not exceed the KV heads: past them every further GPU holds a copy of the KV cache (Helix 2.1)",
    lambda case, a: a.tpa <= case.model.kv_heads,
)
SCALE_OUT_LINK = AttentionRule(
    "scale-out-link",
    "a replica larger than a domain of the fast link needs a scale-out link, and the profile names none",
    lambda case, a: (
        (case.hardware.interconnect.scale_out_bytes_per_s is not None) | (a.gpus <= case.hardware.interconnect.domain_gpus)
    ),
)
EP_WITHIN_EXPERTS = FfnRule(
    "ep-within-experts",
    "EP may not exceed the experts: a further rank would hold none (and a dense model has EP = 1)",
    lambda case, f: f.ep <= max(case.model.experts, 1),
)
SAME_GPUS_BOTH_PHASES = FfnRule(
    "same-gpus-both-phases",
    "TPF x EP must equal KVP x TPA x DP: the FFN runs on the very GPUs that attention ran on (Helix 2.2)",
    lambda case, f: f.tpf * f.ep == _stage(f),
)
TP_ONLY = AttentionRule(
    "tp-only",
    "the tp baseline shards attention by heads alone: KVP = DP = PP = 1",
    lambda case, a: (a.kvp == 1) & (a.dp == 1) & (a.pp == 1),
)
TP_AND_PP_ONLY = AttentionRule(
    "tp-and-pp-only",
    "the pp baseline shards by heads and by layers alone: KVP = DP = 1",
    lambda case, a: (a.kvp == 1) & (a.dp == 1),
)
DATA_PARALLEL_ATTENTION = AttentionRule(
    "data-parallel-attention",
    "the dp-ep baseline gives every GPU its own requests' attention, as DeepSeek is served: KVP = TPA = PP = 1",
    lambda case, a: (a.kvp == 1) & (a.tpa == 1) & (a.pp == 1),
)
KVP_AND_TP_ONLY = AttentionRule(
    "kvp-and-tp-only",
    "the medha baseline splits KV along the sequence and shards by heads: DP = PP = 1 (Medha, arXiv 2409.17264)",
    lambda case, a: (a.dp == 1) & (a.pp == 1),
)


@dataclass(frozen=True)
class Family:
    """A way of laying out models: the rules that define it and how its FFN and exchange run."""

    name: str
    rules: tuple[Rule, ...]
    ffn_on_tpa: bool = False
    """The FFN runs on TPA's GPUs only and the others wait, as in Medha."""
    overlaps: bool = True


COMMON = (SCALE_OUT_LINK, EP_WITHIN_EXPERTS)
FAMILIES = {
    family.name: family
    for family in (
        Family("helix", (TPA_WITHIN_KV_HEADS, SAME_GPUS_BOTH_PHASES, *COMMON)),
        Family("tp", (TP_ONLY, SAME_GPUS_BOTH_PHASES, *COMMON)),
        Family("pp", (TP_AND_PP_ONLY, SAME_GPUS_BOTH_PHASES, *COMMON)),
        Family("dp-ep", (DATA_PARALLEL_ATTENTION, SAME_GPUS_BOTH_PHASES, *COMMON)),
        Family("medha", (KVP_AND_TP_ONLY, *COMMON), ffn_on_tpa=True, overlaps=False),
    )
}
"""One definition each; ``any`` is all of them."""


MEMORY, TTL, DOMAIN, BATCH = "memory-fits", "ttl", "nvlink-domain", "batch"
"""What looks at a whole layout: its bytes, its seconds, its GPUs where no request names their number, its requests."""


def budget_rule(request: Request) -> str:
    """What bounds the GPUs of a replica: the request, or by default one domain of the fast link."""
    return "gpus" if request.gpus is not None else "max-gpus" if request.max_gpus is not None else DOMAIN


def families_named(name: str) -> list[Family]:
    """The families a request's ``family`` stands for."""
    return list(FAMILIES.values()) if name == "any" else [FAMILIES[name]]


def kept(rules: tuple[Rule, ...], kind: type[Rule], case: Case, rows: Layouts) -> Bools:
    """Where every rule of one kind is kept.  -> (M,)"""
    fine: Bools = np.ones(len(rows), dtype=bool)
    for rule in rules:
        if isinstance(rule, kind):
            fine &= np.asarray(rule.holds(case, rows))
    return fine


def broken_rules(case: Case, layout: Layout, family: Family) -> list[Rule]:
    """The rules of a family that one layout does not keep."""
    row = Layouts.of(layout)
    return [rule for rule in family.rules if not np.all(rule.holds(case, row))]


def family_of(case: Case, layout: Layout) -> Family | None:
    """The first family whose rules the layout keeps, or None."""
    for family in FAMILIES.values():
        on_its_gpus = not family.ffn_on_tpa or layout.ffn_group == layout.tpa
        if on_its_gpus and not broken_rules(case, layout, family):
            return family
    return None
