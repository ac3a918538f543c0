"""config.json files of many families: placed, or refused with the key that decided it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import helixplan as hp
from helixplan.inputs.huggingface import import_model
from helixplan.inputs.model import MoE, RecurrentAttention
from tests.conftest import Main, deepseek_config, delta_config, llama_config, mamba_config


def wrapped(architecture: str, inner: dict[str, Any], **outer: Any) -> dict[str, Any]:
    """A model that also sees: the language model's keys in ``text_config``."""
    body = {key: value for key, value in inner.items() if key != "architectures"}
    return {"architectures": [architecture], "text_config": body, "vision_config": {"hidden_size": 1}, **outer}


def llama4(**changes: Any) -> dict[str, Any]:
    inner = llama_config(num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=2, intermediate_size=96)
    own = {
        "attention_chunk_size": 64,
        "interleave_moe_layer_step": 2,
        "intermediate_size_mlp": 200,
        "num_local_experts": 16,
        "num_experts_per_tok": 1,
    }
    return wrapped("Llama4ForConditionalGeneration", inner | own | changes)


def gemma4(**changes: Any) -> dict[str, Any]:
    kinds = ["sliding_attention"] * 3 + ["full_attention"]
    own = {
        "layer_types": kinds,
        "sliding_window": 32,
        "global_head_dim": 128,
        "num_global_key_value_heads": 1,
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 48,
    }
    return wrapped("Gemma4ForConditionalGeneration", llama_config() | own | changes, tie_word_embeddings=True)


def sparse(**changes: Any) -> dict[str, Any]:
    index = {"index_topk": 2048, "index_n_heads": 4, "index_head_dim": 32}
    return deepseek_config(architectures=["GlmMoeDsaForCausalLM"], **index, **changes)


SHARED = "GlmMoeDsaForCausalLM with layers that read what another layer's indexer chose is none"


def test_a_model_that_also_sees_is_its_language_model() -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    plain = hp.load_model(llama_config(architectures=["Qwen3MoeForCausalLM"], **experts))
    seeing = hp.load_model(wrapped("Qwen3VLMoeForConditionalGeneration", llama_config(**experts), tie_word_embeddings=False))
    assert seeing.sha256 == plain.sha256


def test_llama_4_bounds_the_cache_of_chunked_layers_and_alternates_experts() -> None:
    model = hp.load_model(llama4())
    windows = {layer: group.attention.window for group in model.groups for layer in group.layers}
    assert [windows[layer] for layer in range(8)] == [64, 64, 64, None] * 2
    experts = sorted(layer for group in model.groups if isinstance(group.ffn, MoE) for layer in group.layers)
    assert experts == [1, 3, 5, 7]
    moe = next(group.ffn for group in model.groups if isinstance(group.ffn, MoE))
    assert (moe.experts, moe.experts_per_token, moe.width, moe.shared_width) == (16, 1, 96, 96)
    assert model.kv_bytes_per_token("fp8") == 2 * 2 * 2 * 64
    named = hp.load_model(llama4(no_rope_layers=[1, 0] * 4))
    assert sum(len(group.layers) for group in named.groups if group.attention.window) == 4


def test_gemma_4_has_other_heads_in_global_layers_and_experts_beside_a_dense_ffn() -> None:
    model = hp.load_model(gemma4())
    kinds = {attention.window: (attention.kv_heads, attention.output_dim) for _, attention, _ in model.attention_kinds}
    assert kinds == {32: (2, 64), None: (1, 128)}
    moe = model.groups[0].ffn
    assert isinstance(moe, MoE)
    assert (moe.experts, moe.width, moe.shared_width) == (8, 48, 1024)
    assert model.tied_embedding
    assert model.kv_heads == 1


def test_a_gemma_3_wrapper_is_read_by_what_its_classes_fill_in() -> None:
    """google/gemma-3-12b-it leaves out head_dim, which is not hidden_size over heads, the vocabulary and the pattern."""
    inner = {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_attention_heads": 16,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "sliding_window": 1024,
    }
    model = hp.load_model({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner})
    # The technical report (arXiv 2503.19786, table 1): 1,012M of embeddings and 10,759M without.
    assert model.parameters == pytest.approx(1_012e6 + 10_759e6, rel=0.01)
    assert model.kv_bytes_per_token("bf16") == 48 // 6 * 2 * 8 * 256 * 2
    small = {key: inner[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "sliding_window")}
    small |= {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    model = hp.load_model({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": small})
    assert model.parameters == pytest.approx(675e6 + 3_209e6, rel=0.01)


@pytest.mark.parametrize(
    ("architecture", "size"),
    [("Qwen3ForCausalLM", 128), ("GptOssForCausalLM", 64), ("Gemma2ForCausalLM", 256), ("Qwen3MoeForCausalLM", 96)],
)
def test_a_head_size_that_a_file_leaves_out_is_what_its_class_fills_in(architecture: str, size: int) -> None:
    own = {"num_local_experts": 8, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    own |= {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2}
    model = hp.load_model(llama_config(architectures=[architecture], head_dim=None, hidden_size=768, **own))
    assert {attention.head_dim for _, attention, _ in model.attention_kinds} == {size}


def test_a_window_that_is_not_switched_on_is_none() -> None:
    """Qwen's files name a window; their classes keep it off unless told otherwise."""
    off = hp.load_model(llama_config(architectures=["Qwen2ForCausalLM"], sliding_window=4096, max_window_layers=2))
    assert [attention.window for _, attention, _ in off.attention_kinds] == [None]
    on = llama_config(architectures=["Qwen2ForCausalLM"], sliding_window=4096, max_window_layers=1, use_sliding_window=True)
    assert {g.attention.window: g.layers for g in hp.load_model(on).groups} == {None: (0,), 4096: (1, 2, 3)}


def test_minimax_m2_may_say_that_it_has_no_lightning_attention() -> None:
    own = {"num_local_experts": 8, "num_experts_per_tok": 2}
    plain = hp.load_model(llama_config(architectures=["MiniMaxM2ForCausalLM"], **own))
    told = hp.load_model(llama_config(architectures=["MiniMaxM2ForCausalLM"], attn_type_list=[1] * 4, **own))
    assert told.sha256 == plain.sha256


def test_nemotrons_layers_may_be_spelled_out(tmp_path: Path) -> None:
    """As in Nemotron-3 Ultra (``layers_block_type``, no number of layers) and in what transformers 5 writes (``layer_types``)."""
    model = hp.load_model(mamba_config())
    kinds = ["mamba", "moe", "attention", "mlp"]
    for key, named in (("layers_block_type", kinds), ("layer_types", ["linear_attention", "moe", "full_attention", "mlp"])):
        config = mamba_config(hybrid_override_pattern=None, **{key: named})
        del config["num_hidden_layers"]
        (tmp_path / "config.json").write_text(json.dumps(config | {"time_step_limit": [0.0, float("inf")]}))
        assert hp.load_model(tmp_path).sha256 == model.sha256, key
    wide = mamba_config(head_dim=None, attention_head_dim=96)
    assert next(g.attention for g in hp.load_model(wide).groups if g.name == "full").head_dim == 96
    with pytest.raises(hp.InputError, match="layers_block_type: got 'conv'; allowed: mamba"):
        hp.load_model(mamba_config(layers_block_type=["mamba", "conv", "moe", "mlp"]))


def test_infinity_counts_nowhere(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_config(hidden_size=float("inf"))))
    with pytest.raises(hp.InputError, match="hidden_size: got inf, but input should be a valid integer"):
        hp.load_model(tmp_path)


def test_a_context_may_go_by_its_tokenizers_name() -> None:
    """Kimi Linear's file has ``model_max_length`` alone."""
    assert hp.load_model(llama_config(model_max_length=4096)).max_context == 4096
    assert hp.load_model(llama_config(model_max_length=4096, max_position_embeddings=8192)).max_context == 8192


def test_an_indexer_in_every_layer_is_read_however_it_is_said() -> None:
    plain = hp.load_model(sparse())
    for said in ({"index_topk_freq": 1}, {"indexer_types": ["full"] * 4, "index_topk_freq": 4}, {"index_topk_pattern": "FFFF"}):
        assert hp.load_model(sparse(**said)).sha256 == plain.sha256


@pytest.mark.parametrize(
    ("config", "dense"),
    [
        (deepseek_config(first_k_dense_replace=2), [0, 1]),
        (deepseek_config(first_k_dense_replace=None, mlp_layer_types=["dense", "sparse", "sparse", "dense"]), [0, 3]),
        (deepseek_config(mlp_layer_types=["dense", "dense", "dense", "sparse"]), [0, 1, 2]),
        (deepseek_config(moe_layer_freq=2), [0, 1, 3]),
    ],
)
def test_dense_layers_are_those_that_the_file_names(config: dict[str, Any], dense: list[int]) -> None:
    model = hp.load_model(config)
    assert sorted(layer for g in model.groups if not isinstance(g.ffn, MoE) for layer in g.layers) == dense


def test_qwens_sparse_step_counts_layers_from_one() -> None:
    own = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [3]}
    model = hp.load_model(llama_config(architectures=["Qwen3MoeForCausalLM"], decoder_sparse_step=2, **own))
    assert {layer for g in model.groups if isinstance(g.ffn, MoE) for layer in g.layers} == {1}


def test_llama_4_may_name_its_layers() -> None:
    kinds = ["chunked_attention", "full_attention"] * 4
    model = hp.load_model(llama4(layer_types=kinds, moe_layers=[0, 5], no_rope_layers=[1] * 8))
    assert sorted(layer for g in model.groups if g.attention.window is None for layer in g.layers) == [1, 3, 5, 7]
    assert sorted(layer for g in model.groups if isinstance(g.ffn, MoE) for layer in g.layers) == [0, 5]


def test_gemma_4s_global_heads_are_wider_even_where_the_file_does_not_say() -> None:
    config = gemma4(attention_k_eq_v=False)
    del config["text_config"]["global_head_dim"]
    model = hp.load_model(config)
    kinds = {attention.window: (attention.kv_heads, attention.head_dim) for _, attention, _ in model.attention_kinds}
    assert kinds == {32: (2, 64), None: (2, 512)}


@pytest.mark.parametrize(
    ("outer", "inner", "tied"),
    [(True, False, False), (False, True, False), (True, True, True), (None, True, True), (True, None, True), (None, None, False)],
)
def test_an_embedding_is_tied_where_neither_config_says_no(outer: bool | None, inner: bool | None, tied: bool) -> None:
    said = {} if outer is None else {"tie_word_embeddings": outer}
    config = wrapped("Mistral3ForConditionalGeneration", llama_config(tie_word_embeddings=inner), **said)
    assert hp.load_model(config).tied_embedding is tied


@pytest.mark.parametrize("config", [llama4(), gemma4()])
def test_what_is_imported_can_be_planned_and_verified(config: dict[str, Any], gb200: hp.Hardware) -> None:
    from helixplan.evidence.verify import verify
    from helixplan.replay import case_of

    model = hp.load_model(config)
    plan = hp.plan(model, gb200, context_tokens=20_000, batch=3, max_gpus=8)
    assert verify(plan, case_of(plan, model, gb200)).failures == []


def group(bits: int, kind: str, size: int | None) -> dict[str, Any]:
    return {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, "group_size": size}}}


EXPERTS_ONLY = ["re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*", "re:.*lm_head.*"]
BY_LAYER = [
    f"language_model.model.layers.{layer}.{part}*" for layer in range(1, 4) for part in ("self_attn", "mlp.shared_experts")
]
PRECISIONS: dict[str, tuple[dict[str, Any], tuple[str, str, str, str]]] = {
    "fp8": ({"quant_method": "fp8"}, ("fp8", "fp8", "fp8", "fp8")),
    "fp8, the router and head apart": (
        {"quant_method": "fp8", "modules_to_not_convert": ["gate", "lm_head", "e_score_correction_bias"]},
        ("fp8", "fp8", "fp8", "fp8"),
    ),
    "mxfp4 experts": (
        {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.shared_experts"]},
        ("bf16", "mxfp4", "mxfp4", "bf16"),
    ),
    "int4 experts": (
        {"quant_method": "compressed-tensors", "config_groups": group(4, "int", 32), "ignore": EXPERTS_ONLY},
        ("bf16", "bf16", "int4", "bf16"),
    ),
    "mxfp4 in groups of 32": (
        {"quant_method": "compressed-tensors", "config_groups": group(4, "float", 32), "ignore": EXPERTS_ONLY},
        ("bf16", "bf16", "mxfp4", "bf16"),
    ),
    "nvfp4, modules layer by layer": (
        {"config_groups": group(4, "float", 16), "ignore": ["language_model.model.layers.0*", *BY_LAYER]},
        ("bf16", "bf16", "nvfp4", "bf16"),
    ),
    "ModelOpt's nvfp4": (
        {"quant_method": "modelopt", "quant_algo": "NVFP4", "exclude_modules": ["lm_head", "model.layers.*.self_attn*"]},
        ("bf16", "nvfp4", "nvfp4", "nvfp4"),
    ),
    "expressions with any one character": (
        {"quant_method": "compressed-tensors", "config_groups": group(8, "float", None), "ignore": ["re:.*mlp.gate_proj$"]},
        ("fp8", "bf16", "fp8", "fp8"),
    ),
    "AWQ": ({"quant_method": "awq", "bits": 4}, ("int4", "int4", "int4", "int4")),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_precision_of_each_component_is_read(name: str) -> None:
    quantization, expected = PRECISIONS[name]
    found = hp.load_model(deepseek_config(quantization_config=quantization)).precision
    assert (found.attention, found.dense, found.experts, found.shared) == expected
    assert found.router == "bf16"


QWEN_HYBRID = delta_config(architectures=["Qwen3_5MoeForCausalLM"])
FAMILIES: dict[str, tuple[dict[str, Any], list[str], tuple[str, str, str, str]]] = {
    "Gemma 4's experts beside its FFN": (
        gemma4(),
        ["model.language_model.layers.*.mlp*", "model.language_model.layers.*.self_attn*"],
        ("bf16", "bf16", "nvfp4", "bf16"),
    ),
    "Qwen's one shared expert": (
        QWEN_HYBRID,
        [f"model.layers.{layer}.mlp.shared_expert.{part}_proj" for layer in range(4) for part in ("gate", "up", "down")],
        ("nvfp4", "bf16", "nvfp4", "bf16"),
    ),
    "Nemotron's backbone": (
        mamba_config(),
        [f"backbone.layers.{layer}.mixer.{part}" for layer in range(4) for part in ("in_proj", "out_proj", "q_proj", "o_proj")],
        ("bf16", "nvfp4", "nvfp4", "nvfp4"),
    ),
    "Llama 4's feed-forward": (
        llama4(),
        ["re:.*feed_forward.gate_proj", "re:.*shared_expert", "re:^language_model.model.layers.*self_attn"],
        ("bf16", "bf16", "nvfp4", "bf16"),
    ),
    "Mixtral's block": (
        llama_config(architectures=["MixtralForCausalLM"], num_local_experts=8, num_experts_per_tok=2),
        ["model.layers.*.block_sparse_moe.experts*"],
        ("nvfp4", "bf16", "bf16", "bf16"),
    ),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_modules_that_stay_bf16_are_known_by_what_each_family_calls_them(name: str) -> None:
    config, kept, expected = FAMILIES[name]
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": kept}
    found = hp.load_model(config | {"quantization_config": quantization}).precision
    assert (found.attention, found.dense, found.experts, found.shared) == expected


def test_what_modelopt_writes_beside_a_config_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(deepseek_config()))
    assert hp.load_model(tmp_path).precision.experts == "bf16"
    sidecar = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(sidecar))
    assert hp.load_model(tmp_path).precision.experts == "nvfp4"
    (tmp_path / "hf_quant_config.json").write_text("{}")
    with pytest.raises(hp.InputError, match=r"hf_quant_config\.json: quantization: is missing"):
        hp.load_model(tmp_path)


def test_mixed_precision_is_read_module_by_module(tmp_path: Path) -> None:
    """As ModelOpt writes it: what is not listed, by its own name or its parent's, stays bf16."""
    layers = {f"model.language_model.layers.{layer}.self_attn.o_proj": {"quant_algo": "FP8"} for layer in range(4)}
    layers |= {f"model.language_model.layers.{layer}.mlp.experts": {"quant_algo": "W4A16_NVFP4"} for layer in range(1, 4)}
    layers |= {"model.language_model.layers.1.mlp.shared_experts.gate_proj": {"quant_algo": "FP8"}}
    (tmp_path / "config.json").write_text(json.dumps(deepseek_config()))
    sidecar = {"quant_algo": "MIXED_PRECISION", "quantized_layers": layers, "exclude_modules": ["mtp*"]}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": sidecar}))
    found = hp.load_model(tmp_path).precision
    assert (found.attention, found.dense, found.experts, found.shared) == ("fp8", "bf16", "nvfp4", "bf16")
    _, written = import_model(tmp_path / "config.json")
    assert hp.load_model(written).precision == found
    layers["layers.0.mlp"] = {"quant_algo": "W2"}
    with pytest.raises(hp.InputError, match=r"quantization_config.quantized_layers.layers.0.mlp: got 'W2', but helixplan reads"):
        hp.load_model(deepseek_config(quantization_config={"quant_method": "modelopt"} | sidecar))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "linear attention": (
        deepseek_config(linear_num_value_heads=32),
        "linear_num_value_heads: DeepseekV3ForCausalLM with layers of linear",
    ),
    "sparse attention": (deepseek_config(index_topk=2048), "index_topk: DeepseekV3ForCausalLM with sparse attention"),
    "state-space layers": (
        llama_config(hybrid_override_pattern="M*"),
        "hybrid_override_pattern: LlamaForCausalLM with state-",
    ),
    "an unknown family": (
        llama_config(architectures=["BambaForCausalLM"]),
        "architectures: 'BambaForCausalLM' is not an archi",
    ),
    "an unknown family of other keys": (
        {"architectures": ["GPT2LMHeadModel"], "n_embd": 768},
        "architectures: 'GPT2LMHeadModel'",
    ),
    "compressed tokens": (
        deepseek_config(architectures=["DeepseekV5ForCausalLM"], compress_ratios=[0, 4, 128], index_topk=512),
        "compress_ratios says attention over compressed tokens",
    ),
    "KV heads that other readers fill in": (
        llama_config(architectures=["Qwen3ForCausalLM"], num_key_value_heads=None),
        "num_key_value_heads: is missing, and Qwen3ForCausalLM needs it",
    ),
    "8-bit integers": (
        llama_config(quantization_config={"config_groups": group(8, "int", None)}),
        "quantization_config.config_groups.group_0.weights: got 8-bit int in groups of None",
    ),
    "two formats": (
        llama_config(quantization_config={"config_groups": {**group(4, "int", 32), "b": group(8, "float", None)["group_0"]}}),
        "quantization_config.config_groups: has fp8, int4",
    ),
    "an unknown method": (llama_config(quantization_config={"quant_method": "bitsandbytes"}), "quant_method: got 'bitsandbytes'"),
    "an unknown algorithm": (
        llama_config(quantization_config={"quant_method": "modelopt", "quant_algo": "W2A2"}),
        "quantization_config.quant_algo: got 'W2A2'",
    ),
    "an expression that takes long": (
        llama_config(quantization_config={"quant_method": "fp8", "ignore": ["re:(a*)*$"]}),
        "quantization_config.ignore: has 're:(a*)*$'",
    ),
    "an expression that is none": (
        llama_config(quantization_config={"quant_method": "fp8", "ignore": ["re:(\\)"]}),
        r"quantization_config.ignore: has 're:(\\)', which is no expression (missing )",
    ),
    "more modules to keep than there are": (
        llama_config(num_hidden_layers=4096, quantization_config={"quant_method": "fp8", "ignore": ["*a*b*c*"] * 4096}),
        "quantization_config: keeps 4,096 entries in bf16, of 8,192 modules; at most 500,000 pairs",
    ),
    "bits that are no number": (
        llama_config(quantization_config={"config_groups": {"a": {"weights": {"num_bits": [4], "type": {}}}}}),
        "quantization_config.config_groups.a.weights: got [4]-bit {} in groups of None, which",
    ),
    "an architecture's name without end": (
        llama_config(architectures=["A" * 1_000_000]),
        f"architectures: '{'A' * 56}... is not",
    ),
    "layers without end": (
        llama_config(architectures=["Gemma2ForCausalLM"], layer_types=["full_attention"] * 10_000_000),
        "layer_types: got ['full_attention', 'full_attention', 'full_attention', 'f..., but list should have at most 4096",
    ),
    "more keys than any config has": (
        llama_config(**{f"hidden_siz{number}": 1 for number in range(100_000)}),
        "model: has 100,008 keys; at most 1,000 are read",
    ),
    "too few indexers": (sparse(indexer_types=["full"]), "indexer_types: has 1 entries, but num_hidden_layers is 4"),
    "too few FFNs": (deepseek_config(mlp_layer_types=["dense"]), "mlp_layer_types: has 1 entries, but num_hidden_layers is 4"),
    "a layer of experts that there is not": (llama4(moe_layers=[8]), "moe_layers: names layer 8, but layers are 0 to 7"),
    "a dense layer that there is not": (
        llama_config(
            architectures=["Qwen3MoeForCausalLM"],
            num_experts=8,
            num_experts_per_tok=2,
            moe_intermediate_size=32,
            mlp_only_layers=[-1],
        ),
        "mlp_only_layers: names layer -1, but layers are 0 to 3",
    ),
    "a hundred thousand layers": (llama_config(num_hidden_layers=100_000), "num_hidden_layers: got 100000"),
    "negative heads": (llama_config(num_attention_heads=-8), "num_attention_heads: got -8"),
    "a fraction of a head": (llama_config(num_attention_heads=7.5), "num_attention_heads: got 7.5"),
    "text for a number": (llama_config(hidden_size="4096"), "hidden_size: got '4096'"),
    "shared caches": (
        gemma4(num_kv_shared_layers=4),
        "num_kv_shared_layers: Gemma4ForConditionalGeneration with layers that read the cache of others",
    ),
    "layers of their own sizes": (gemma4(per_layer_config={"3": {"head_dim": 128}}), "per_layer_config: Gemma4ForConditional"),
    "shared indexers, layer by layer": (sparse(indexer_types=["full", "full", "shared", "full"]), f"indexer_types: {SHARED}"),
    "shared indexers, as a pattern": (sparse(index_topk_pattern="FFSF"), f"index_topk_pattern: {SHARED}"),
    "shared indexers, every so many": (sparse(index_topk_freq=4, index_skip_topk_offset=3), f"index_topk_freq: {SHARED}"),
    "a window that other readers fill in": (
        llama_config(architectures=["MistralForCausalLM"]),
        "sliding_window: is missing, and MistralForCausalLM needs it",
    ),
    "layers that null does not tell apart": (
        llama_config(architectures=["GptOssForCausalLM"], sliding_window=64) | {"layer_types": None},
        "layer_types: is null, and GptOssForCausalLM needs it",
    ),
    "windows that nobody reads": (
        llama_config(layer_types=["sliding_attention"] * 4, sliding_window=64),
        "layer_types: got 'sliding_attention'; allowed: full_attention",
    ),
    "Kimi Linear without its layers": (
        deepseek_config(architectures=["KimiLinearForCausalLM"], num_shared_experts=1),
        "linear_attn_config: is missing, and KimiLinearForCausalLM needs it",
    ),
    "lightning attention where there is none": (
        llama_config(architectures=["MiniMaxM2ForCausalLM"], attn_type_list=[1, 1, 0, 1]),
        "attn_type_list: got 0; allowed: 1",
    ),
    "too many experts a token": (gemma4(top_k_experts=9), "top_k_experts: got 9"),
    "a wrapper round nothing": ({"architectures": ["Llama4ForConditionalGeneration"], "text_config": {}}, "is missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_placed_is_refused_at_once_with_what_decided_it(name: str) -> None:
    config, said = REFUSED[name]
    start = time.perf_counter()
    with pytest.raises(hp.InputError) as error:
        hp.load_model(config)
    assert time.perf_counter() - start < 1
    assert said in str(error.value)


def test_an_expression_with_many_gaps_is_matched_at_once() -> None:
    quantization = {"quant_method": "fp8", "ignore": ["re:" + ".*" * 90 + "Z"] * 100 + ["re:.*self.*at[0-9]+"]}
    start = time.perf_counter()
    model = hp.load_model(llama_config(num_hidden_layers=100, quantization_config=quantization))
    assert time.perf_counter() - start < 1
    assert model.precision.attention == "fp8"


def test_recursion_and_a_hundred_megabytes_are_refused_in_a_second(tmp_path: Path) -> None:
    for name, text in (("deep", '{"text_config":' * 200_000), ("big", '{"a": "' + "x" * 100_000_000 + '"}')):
        (tmp_path / f"{name}.json").write_text(text)
        start = time.perf_counter()
        with pytest.raises(hp.InputError):
            hp.load_model(tmp_path / f"{name}.json")
        assert time.perf_counter() - start < 1, name


def refused_at_once(path: Path) -> str:
    start = time.perf_counter()
    with pytest.raises(hp.InputError) as error:
        hp.load_model(path)
    assert time.perf_counter() - start < 1
    return str(error.value)


def test_what_is_no_plain_file_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe without a writer, a device without an end, a folder without a config, links to nothing and in circles."""
    os.mkfifo(tmp_path / "pipe.json")
    assert refused_at_once(tmp_path / "pipe.json").endswith("pipe.json: is a pipe that nothing writes to")
    (tmp_path / "endless.json").symlink_to("/dev/zero")
    assert "is larger than 8 MB" in refused_at_once(tmp_path / "endless.json")
    assert refused_at_once(tmp_path).endswith(": is a folder without a config.json")
    (tmp_path / "round.json").symlink_to("round.json")
    assert "cannot be read (" in refused_at_once(tmp_path / "round.json")
    (tmp_path / "config.json").write_text(json.dumps(llama_config()))
    (tmp_path / "hf_quant_config.json").symlink_to("nowhere")
    assert "hf_quant_config.json: cannot be read (" in refused_at_once(tmp_path)


def test_a_pipe_that_is_written_late_is_read(tmp_path: Path) -> None:
    """What a shell gives for ``<(...)``: its writer is there from the start, and may take its time."""
    reading, writing = os.pipe()

    def write() -> None:
        time.sleep(0.5)
        with open(writing, "w") as file:
            file.write(json.dumps(llama_config()))

    writer = threading.Thread(target=write)
    writer.start()
    found = hp.load_model(f"/dev/fd/{reading}")
    writer.join()
    os.close(reading)
    assert found.sha256 == hp.load_model(llama_config()).sha256


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"quant_algo": "W1A1"}, "quantization.quant_algo: got 'W1A1', but helixplan reads fp8"),
        ({"quant_algo": "NVFP4", "exclude_modules": ["re:(a+)+b"]}, r"quantization.exclude_modules: has 're:\(a\+\)\+b'"),
    ],
)
def test_what_is_wrong_beside_a_config_is_blamed_on_its_own_file(stated: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(llama_config()))
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": stated}))
    with pytest.raises(hp.InputError, match=f"hf_quant_config.json: {said}"):
        hp.load_model(tmp_path)


def test_what_is_shown_of_a_model_is_what_it_is(main: Main, tmp_path: Path) -> None:
    (tmp_path / "nemotron.json").write_text(json.dumps(mamba_config()))
    model = hp.load_model(tmp_path / "nemotron.json")
    code, out, _ = main("models", "import", str(tmp_path / "nemotron.json"), "--format", "markdown")
    assert code == 0
    assert f"| KV a token | {model.kv_bytes_per_token('bf16'):,.0f} B in bf16" in out
    assert f"| parameters | {model.parameters / 1e9:,.1f}B, {model.active_parameters / 1e9:,.1f}B active a token |" in out
    for group in model.groups:
        row = next(line for line in out.splitlines() if line.startswith(f"| {group.name} |"))
        assert f" | {len(group.layers)} | {group.kv_bytes_per_token('bf16'):,.0f} | " in row
        assert ("of state" in row) == isinstance(group.attention, RecurrentAttention)
        assert (" none | " in row) == (group.attention is None or group.ffn is None)


def test_a_pipe_is_read_once(tmp_path: Path) -> None:
    """``models import /dev/stdin --output FILE``: what is shown and what is written are of the same reading."""
    command = [sys.executable, "-m", "helixplan", "models", "import", "/dev/stdin", "--output", str(tmp_path / "mine.json")]
    done = subprocess.run(command, input=json.dumps(llama_config()), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert hp.load_model(tmp_path / "mine.json").sha256 == hp.load_model(llama_config()).sha256


def test_import_shows_what_was_understood_and_writes_a_file_that_says_the_same(main: Main, tmp_path: Path) -> None:
    sidecar = {"quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
    (tmp_path / "config.json").write_text(json.dumps(gemma4() | {"unknown": {"more": 1}}))
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(sidecar))
    written = tmp_path / "mine.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        code, out, err = main("models", "import", ".", "--output", "mine.json", "--format", "json")
        assert (code, err) == (0, "wrote mine.json\n")
        assert main("models", "import", "config.json", "--output", "mine.json")[0] == 2
    told = json.loads(out)
    assert [one["kv_bytes_per_token"]["fp8"] for one in told["groups"]] == [0.0, 2 * 128]
    assert told["weights"]["experts"] == "nvfp4"
    assert hp.load_model(written).sha256 == hp.load_model(tmp_path).sha256
    assert "unknown" not in json.loads(written.read_text())
