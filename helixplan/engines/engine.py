"""What there is to say of an engine that runs layouts: its rules, how its ranks communicate, what to be warned of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Case, Communication
from helixplan.inputs.model import CompressedAttention, GroupedQueryAttention
from helixplan.layout import Layout
from helixplan.rule import AttentionRule, FfnRule, Rule, broken_rules, stage_of


@dataclass(frozen=True)
class Caution:
    """What a user should know of a layout that the engine runs, and of which layouts."""

    applies: Callable[[Case, Layout], bool]
    said: str


@dataclass(frozen=True)
class Engine:
    """One description, which the planner and every exporter read. ``name`` as it is asked for, ``title`` as people write it."""

    name: str
    title: str
    rules: tuple[Rule, ...]
    communication: Communication
    dearer: str | None = None
    """What its exchange sends beyond the paper's, in words that follow its title; None where it can do as the paper does."""
    cautions: tuple[Caution, ...] = ()

    def warnings(self, case: Case, layout: Layout) -> list[str]:
        """What a user should know before running this layout."""
        return [caution.said for caution in self.cautions if caution.applies(case, layout)]


def broken(engine: Engine, case: Case, layout: Layout) -> list[Rule]:
    """The engine's rules that a layout does not keep: none means that the engine runs it."""
    return broken_rules(engine.rules, case, layout)


def ffn_on_the_stage(name: str, why: str) -> FfnRule:
    """The FFN runs on every GPU of the stage."""
    return FfnRule(name, f"TPF x EP must equal KVP x TPA x DP: {why}", lambda case, f: f.tpf * f.ep == stage_of(f))


def kv_heads_reached(name: str, why: str) -> AttentionRule:
    """Ranks that share the sequence are those that would otherwise hold copies of one KV head (MLA has one)."""
    return AttentionRule(
        name,
        f"where KVP > 1, TPA must reach the KV heads (and Helix never passes them, so there TPA equals them): {why}",
        lambda case, a: (a.kvp == 1) | (a.tpa >= case.model.kv_heads),
    )


KV_DTYPES = ("bf16", "fp8", "nvfp4")
"""What every engine's KV cache may be kept in."""


def kv_dtype_kept(name: str, why: str) -> AttentionRule:
    """The KV cache is in a dtype that the engine has."""
    return AttentionRule(
        name,
        f"the KV cache must be in one of {', '.join(KV_DTYPES)}: {why}",
        lambda case, a: (a.kvp >= 1) & (case.machine.kv_dtype in KV_DTYPES),
    )


def shares_grouped_queries(case: Case, layout: Layout) -> bool:
    """Whether ranks share the sequence of heads that are grouped (GQA), not latent (MLA)."""
    kinds = [attention for _, attention, _ in case.model.attention_kinds if attention.split_by_kvp]
    return layout.kvp > 1 and any(isinstance(attention, GroupedQueryAttention) for attention in kinds)


def compresses(case: Case) -> bool:
    """Whether some layers cache entries that stand for several tokens each (DeepSeek-V4)."""
    kinds = [attention for _, attention, _ in case.model.attention_kinds if attention.split_by_kvp]
    return any(isinstance(attention, CompressedAttention) for attention in kinds)


def shares_compressed_tokens(case: Case, layout: Layout) -> bool:
    """Whether ranks share entries that stand for several tokens each (DeepSeek-V4)."""
    return layout.kvp > 1 and compresses(case)


def other_blocks_of_compressed_tokens(*sizes: int) -> Callable[[Case, Layout], bool]:
    """Whether tokens are compressed and the cache's blocks are of none of these sizes."""

    def applies(case: Case, layout: Layout) -> bool:
        return compresses(case) and case.workload.kv_block_tokens not in sizes

    return applies


def heads_divide(name: str, why: str) -> AttentionRule:
    """Every rank of an attention group has as many query heads as the next."""
    return AttentionRule(
        name,
        f"query heads must divide by KVP x TPA: {why}",
        lambda case, a: np.all(
            [attention.query_heads % (a.kvp * a.tpa) == 0 for _, attention, _ in case.model.attention_kinds], axis=0
        ),
    )
