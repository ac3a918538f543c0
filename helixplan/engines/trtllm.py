"""TensorRT-LLM: Helix as `cp_type: HELIX` in the generation server of a disaggregated deployment."""

from __future__ import annotations

from helixplan.cost.case import Case, Communication
from helixplan.engines.engine import Caution, Engine, ffn_on_the_stage, heads_divide
from helixplan.inputs.model import GroupedQueryAttention
from helixplan.layout import Layout
from helixplan.rule import AttentionRule

BLACKWELL = "blackwell"
"""The profile's ``gpu.architecture``. Arithmetic does not tell: other makers' GPUs compute in fp4 too."""


def _shares_grouped_queries(case: Case, layout: Layout) -> bool:
    kinds = (attention for _, attention, _ in case.model.attention_kinds)
    return layout.kvp > 1 and any(isinstance(attention, GroupedQueryAttention) for attention in kinds)


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
        AttentionRule(
            "trtllm-kv-not-int",
            "the KV cache cannot be in whole numbers (int8, int4): its kernels refuse it",
            lambda case, a: (a.kvp >= 1) & (not case.machine.kv_dtype.startswith("int")),
        ),
        ffn_on_the_stage("trtllm-ffn-on-the-stage", "moe_tensor_parallel_size x moe_expert_parallel_size is all its ranks"),
    ),
    communication=Communication(statistics=2, overlaps=False, exchanges_values=False),
    dearer="sends two fp32 statistics a head with the partial outputs, where one log-sum-exp would do",
    cautions=(
        Caution(
            _shares_grouped_queries,
            "TensorRT-LLM's documentation lists Helix for DeepSeek-V3 (MLA); its blog says GQA and MHA run too: try it first",
        ),
    ),
)
