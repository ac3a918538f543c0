"""The families' named rules: the whole law on one page, but for what an engine adds (``engines/``).

Structure (heads do not split, stages are not empty) is no rule: it is never relaxed and stands in ``layout.py``. Rules judge;
``cost`` prices any layout, allowed or not, so that baselines which break Helix's rules on purpose are scored by the same code.
"""

from __future__ import annotations

from dataclasses import dataclass

from helixplan.cost.case import Case
from helixplan.engines import engine_of
from helixplan.inputs.workload import Request
from helixplan.layout import Layout
from helixplan.rule import AttentionRule, FfnRule, Rule, broken_rules, stage_of

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
    lambda case, f: f.tpf * f.ep == stage_of(f),
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


def rules_in_force(case: Case, family: Family) -> tuple[Rule, ...]:
    """A family's rules and those of the engine that the case is posed for, but for those lifted."""
    engine = engine_of(case)
    return tuple(rule for rule in (*family.rules, *(engine.rules if engine else ())) if rule.name not in case.lifted)


def rules_asked_for(case: Case, request: Request) -> list[Rule]:
    """The rules in force of every family that a request stands for, each once."""
    every = [rule for family in families_named(request.family) for rule in rules_in_force(case, family)]
    return list({rule.name: rule for rule in every}.values())


def family_of(case: Case, layout: Layout) -> Family | None:
    """The first family whose rules the layout keeps, or None."""
    for family in FAMILIES.values():
        on_its_gpus = not family.ffn_on_tpa or layout.ffn_group == layout.tpa
        if on_its_gpus and not broken_rules(family.rules, case, layout):
            return family
    return None
