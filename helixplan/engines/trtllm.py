"""TensorRT-LLM: Helix as `cp_type: HELIX` in the generation server of a disaggregated deployment."""

from __future__ import annotations

from helixplan.cost.case import Case, Communication
from helixplan.engines.engine import (
    Caution,
    Engine,
    compresses,
    ffn_on_the_stage,
    heads_divide,
    kv_dtype_kept,
    other_blocks_of_compressed_tokens,
    shares_compressed_tokens,
    shares_grouped_queries,
)
from helixplan.layout import Layout
from helixplan.rule import AttentionRule

BLACKWELL = "blackwell"
"""The profile's ``gpu.architecture``. Arithmetic does not tell: other makers' GPUs compute in fp4 too."""


def _compresses_off_blackwell(case: Case, layout: Layout) -> bool:
    return compresses(case) and case.hardware.file.gpu.architecture.lower() != BLACKWELL


TRTLLM = Engine(
    name="trtllm",
    title="TensorRT-LLM",
    rules=(
        heads_divide("trtllm-heads-divide", "tensor_parallel_size x context_parallel_size ranks get as many heads each"),
        AttentionRule(
            "trtllm-dp-needs-tpa-1",
            "DP > 1 needs TPA 1: under enable_attention_dp tensor_parallel_size is DP, and only KVP is left for a group",
            lambda case, a: (a.dp == 1) | (a.tpa == 1),
        ),
        AttentionRule(
            "trtllm-kvp-needs-blackwell",
            "KVP > 1 needs a Blackwell GPU (gpu.architecture of the profile): its Helix kernels are built for no other",
            lambda case, a: (a.kvp == 1) | (case.hardware.file.gpu.architecture.lower() == BLACKWELL),
        ),
        kv_dtype_kept("trtllm-kv-dtype", "kv_cache_config.dtype names no other, and Helix refuses INT8"),
        ffn_on_the_stage("trtllm-ffn-on-the-stage", "moe_tensor_parallel_size x moe_expert_parallel_size is all its ranks"),
    ),
    communication=Communication(statistics=2, overlaps=False, exchanges_values=False),
    dearer="sends two fp32 statistics a head with the partial outputs, where one log-sum-exp would do",
    cautions=(
        Caution(
            shares_grouped_queries,
            "TensorRT-LLM's documentation lists Helix for DeepSeek-V3 (MLA); its blog says GQA and MHA run too: try it first",
        ),
        Caution(
            shares_compressed_tokens,
            "TensorRT-LLM's documentation lists Helix for DeepSeek-V3 (MLA), and its guide to DeepSeek-V4 does not speak of it: "
            "try it first",
        ),
        Caution(
            _compresses_off_blackwell,
            "TensorRT-LLM's guide to DeepSeek-V4 says that it runs on Blackwell GPUs alone",
        ),
        Caution(
            other_blocks_of_compressed_tokens(128, 256),
            "TensorRT-LLM keeps DeepSeek-V4's cache in blocks of 128 or 256 tokens and no others: ask with --kv-block 128",
        ),
    ),
)
