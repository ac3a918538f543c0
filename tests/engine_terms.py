"""What engines run, told once more in their own terms: flags and the checks that engines make of them, not Helix's symbols."""

from __future__ import annotations

import helixplan as hp


def vllm_runs(model: hp.Model, hardware: hp.Hardware, layout: hp.Layout, kv_dtype: str) -> bool:
    tp, dcp, dp = layout.kvp * layout.tpa, layout.kvp, layout.dp
    queries, kv_heads = model.query_heads, model.kv_heads
    if dcp > 1 and not (tp > kv_heads and dcp <= tp // kv_heads and queries // kv_heads % dcp == 0):
        return False
    if dp > 1 and model.experts == 0:
        return False
    enable_expert_parallel = layout.ep > 1
    experts_over, width_over = (tp * dp, 1) if enable_expert_parallel else (1, tp * dp)
    return tp % dcp == 0 and (layout.ep, layout.tpf) == (experts_over, width_over)


def sglang_runs(model: hp.Model, hardware: hp.Hardware, layout: hp.Layout, kv_dtype: str) -> bool:
    enable_dp_attention = layout.dp > 1
    tp, dp, dcp, ep = layout.gpus // layout.pp, layout.dp, layout.kvp, layout.ep
    attention_tp = tp // dp if enable_dp_attention else tp
    if dcp > 1 and not model.kv_heads <= attention_tp / dcp:
        return False
    heads = {attention.query_heads // (attention_tp // dcp) for _, attention, _ in model.attention_kinds}
    a2a = all(count % dcp == 0 for count in heads)
    return a2a and attention_tp % dcp == 0 and tp % ep == 0 and tp // ep == layout.tpf


def trtllm_runs(model: hp.Model, hardware: hp.Hardware, layout: hp.Layout, kv_dtype: str) -> bool:
    enable_attention_dp = layout.dp > 1
    tp = layout.dp if enable_attention_dp else layout.tpa
    cp, pp = layout.kvp, layout.pp
    if tp * cp * pp != layout.gpus or layout.tpf * layout.ep != tp * cp:
        return False
    ranks_of_heads = cp if enable_attention_dp else tp * cp
    if any(attention.query_heads % ranks_of_heads for _, attention, _ in model.attention_kinds):
        return False
    if kv_dtype in ("int8", "int4"):
        return False
    return cp == 1 or hardware.file.gpu.architecture == "blackwell"


RUNS = {"vllm": vllm_runs, "sglang": sglang_runs, "trtllm": trtllm_runs}
