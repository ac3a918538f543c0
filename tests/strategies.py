"""Models, systems and workloads for hypothesis: every kind the package reads, at sizes that search fast."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import helixplan as hp
from tests.conftest import compressed_config, deepseek_config, delta_config, kimi_config, llama_config, mamba_config, profile

KINDS = ("gqa", "window", "moe", "mla", "mla-no-q-lora", "sparse", "delta", "kimi", "mamba", "compressed")


@st.composite
def models(draw: st.DrawFn) -> hp.Model:
    layers = draw(st.integers(1, 5))
    heads = draw(st.sampled_from([4, 6, 8, 12]))
    hidden = draw(st.sampled_from([256, 500, 4096]))
    common: dict[str, Any] = {"num_hidden_layers": layers, "num_attention_heads": heads, "hidden_size": hidden}
    common["tie_word_embeddings"] = draw(st.booleans())
    kind = draw(st.sampled_from(KINDS))
    if kind in ("delta", "kimi", "mamba"):
        return hp.load_model({"delta": delta_config, "kimi": kimi_config, "mamba": mamba_config}[kind](**common))
    if kind in ("sparse", "compressed"):
        return hp.load_model(draw(choosing(kind, common)))
    if kind.startswith("mla"):
        return hp.load_model(
            deepseek_config(
                **common,
                q_lora_rank=None if kind.endswith("no-q-lora") else 256,
                first_k_dense_replace=draw(st.integers(0, layers)),
                n_routed_experts=draw(st.sampled_from([4, 7, 12])),
                n_shared_experts=draw(st.integers(0, 2)),
            )
        )
    common |= {"num_key_value_heads": draw(st.sampled_from([k for k in (1, 2, 3, 4, heads) if heads % k == 0])), "head_dim": 64}
    if kind == "gqa":
        return hp.load_model(llama_config(**common))
    experts = {"num_local_experts": draw(st.sampled_from([4, 6])), "num_experts_per_tok": 2}
    if kind == "moe":
        return hp.load_model(llama_config(architectures=["MixtralForCausalLM"], **common, **experts))
    kinds = draw(st.lists(st.sampled_from(["sliding_attention", "full_attention"]), min_size=layers, max_size=layers))
    return hp.load_model(
        llama_config(architectures=["GptOssForCausalLM"], sliding_window=128, layer_types=kinds, **common, **experts)
    )


@st.composite
def choosing(draw: st.DrawFn, kind: str, common: dict[str, Any]) -> dict[str, Any]:
    """A config whose layers choose among tokens, or among entries of several tokens each."""
    sparse = {"index_topk": draw(st.sampled_from([64, 2048])), "index_n_heads": 4, "index_head_dim": 32}
    if kind == "sparse":
        return deepseek_config(architectures=["DeepseekV32ForCausalLM"], **common, **sparse)
    layers, heads = common["num_hidden_layers"], common["num_attention_heads"]
    own = {
        "compress_ratios": draw(st.lists(st.sampled_from([0, 4, 128]), min_size=layers, max_size=layers)),
        "o_groups": draw(st.sampled_from([groups for groups in (1, 2, 3, 4, 6) if heads % groups == 0])),
        "hc_mult": draw(st.sampled_from([None, 4])),
    }
    return compressed_config(**common, **sparse, **own)


@st.composite
def systems(draw: st.DrawFn) -> hp.Hardware:
    changes = {
        "domain__gpus": draw(st.integers(1, 8)),
        "gpu__memory_bytes": draw(st.sampled_from([3.7e9, 3.95e9, 4.2e9, 5e9])),
        "gpu__memory_bytes_per_s": draw(st.sampled_from([1e11, 2e12, 8e12])),
        "domain__bytes_per_s": draw(st.sampled_from([1e10, 9e11])),
        "kernels__attention__fp8__split_us": draw(st.sampled_from([0.0, 0.136, 40.0])),
        "kernels__attention__fp8__kv_head_us": draw(st.sampled_from([0.0, 30.0])),
        "kernels__attention__fp8__head_dim_factors": draw(st.sampled_from([{}, {"64": 3.0, "128": 0.7}])),
        "kernels__latent_attention__fp8__chain_us": draw(st.sampled_from([0.0, 90.0])),
        "kernels__gemm__fp8__math_efficiency": draw(st.sampled_from([0.2, 0.9])),
        "kernels__gemm__fp8__split_k": draw(st.sampled_from([None, 100.0, 700.0])),
        "kernels__gemm__fp8__row_tile": draw(st.sampled_from([1.0, 16.0])),
        "kernels__overheads__chunk_handover_us": draw(st.sampled_from([0.0, 2.0])),
    }
    if draw(st.booleans()):
        changes["scale_out"] = None
    data = profile(**{name: value for name, value in changes.items() if value is not None or name == "scale_out"})
    data["kernels"]["grouped_gemm"]["fp8"][0]["token_us"] = draw(st.sampled_from([0.0, 5.0]))
    data["kernels"]["grouped_gemm"]["nvfp4"][1]["most_experts"] = draw(st.sampled_from([8, 256]))
    return hp.load_hardware(data)


def contexts() -> st.SearchStrategy[int]:
    return st.sampled_from([1, 33, 500, 4000, 20_001, 300_000])


def modelling() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "floor_scale": st.sampled_from([0.0, 0.4, 1.0]),
            "kv_dtype": st.sampled_from(["bf16", "fp8", "nvfp4"]),
            "weight_dtype": st.sampled_from(["bf16", "fp8", "nvfp4", "int4"]),
            "kv_block_tokens": st.sampled_from([1, 16, 32]),
            "overlap": st.sampled_from(["auto", "none", "hop-b"]),
            "exchange": st.sampled_from(["auto", "latent", "value"]),
            "step_overhead_s": st.sampled_from([0.0, 50e-6]),
        },
    )
