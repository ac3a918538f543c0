"""vLLM: KVP is decode context parallelism (DCP) inside the tensor parallel group, tp = KVP x TPA, and adds no GPUs."""

from __future__ import annotations

from helixplan.cost.case import EXCHANGE_WAYS, Case, Communication
from helixplan.engines.engine import (
    Caution,
    Engine,
    ffn_on_the_stage,
    kv_dtype_kept,
    kv_heads_reached,
    other_blocks_of_compressed_tokens,
    shares_compressed_tokens,
    shares_grouped_queries,
)
from helixplan.inputs.model import CompressedAttention
from helixplan.layout import Layout
from helixplan.rule import AttentionRule, FfnRule


def _splits_beside_windows(case: Case, layout: Layout) -> bool:
    kinds = [attention for _, attention, _ in case.model.attention_kinds if not isinstance(attention, CompressedAttention)]
    return layout.kvp > 1 and any(attention.window is not None for attention in kinds)


VLLM = Engine(
    name="vllm",
    title="vLLM",
    rules=(
        kv_heads_reached(
            "vllm-dcp-needs-kv-heads",
            "--decode-context-parallel-size may not exceed --tensor-parallel-size / KV heads, the copies of a KV head there are",
        ),
        AttentionRule(
            "vllm-dp-needs-experts",
            "DP > 1 needs a model with experts: --data-parallel-size shares nothing else between replicas",
            lambda case, a: (a.dp == 1) | (case.model.experts > 0),
        ),
        FfnRule(
            "vllm-expert-parallel-all-or-nothing",
            "EP is 1 or all the stage's GPUs (TPF 1): --enable-expert-parallel spreads experts over every GPU, or is left out",
            lambda case, f: (f.ep == 1) | (f.tpf == 1),
        ),
        kv_dtype_kept("vllm-kv-dtype", "--kv-cache-dtype names no other"),
        ffn_on_the_stage("vllm-ffn-on-the-stage", "FFNs run on every GPU of the tensor and data parallel groups"),
    ),
    communication=Communication(EXCHANGE_WAYS, overlaps=False, exchanges_values=False),
    cautions=(
        Caution(
            shares_grouped_queries,
            "vLLM documents query replication (--dcp-q-replicate) for MLA: see that your version has it for grouped heads",
        ),
        Caution(
            _splits_beside_windows,
            "vLLM's decode context parallelism beside layers with sliding windows was still in an open pull request in July 2026 "
            "(vllm-project/vllm 47541): try your version first",
        ),
        Caution(
            shares_compressed_tokens,
            "vLLM's decode context parallelism for DeepSeek-V4's compressed tokens was still in open pull requests in September "
            "2026 (vllm-project/vllm 44573, 57239): try your version first",
        ),
        Caution(
            other_blocks_of_compressed_tokens(256),
            "vLLM's recipes keep DeepSeek-V4's cache in blocks of 256 tokens: ask with --kv-block 256",
        ),
    ),
)
