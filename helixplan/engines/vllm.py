"""vLLM: KVP is decode context parallelism (DCP) inside the tensor parallel group, tp = KVP x TPA, and adds no GPUs."""

from __future__ import annotations

from helixplan.cost.case import EXCHANGE_WAYS, Communication
from helixplan.engines.engine import Engine, ffn_on_the_stage, kv_heads_reached
from helixplan.rule import AttentionRule, FfnRule

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
        ffn_on_the_stage("vllm-ffn-on-the-stage", "FFNs run on every GPU of the tensor and data parallel groups"),
    ),
    communication=Communication(EXCHANGE_WAYS, overlaps=False, exchanges_values=False),
    spoken="gathers queries and log-sum-exps and reduce-scatters outputs (ag_rs), or sends outputs all-to-all (a2a)",
)
