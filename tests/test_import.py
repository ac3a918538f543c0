"""config.json files of many families: placed, or refused with the key that decided it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

import helixplan as hp
from helixplan.inputs.model import MoE, RecurrentAttention
from tests.conftest import Main, deepseek_config, llama_config, mamba_config


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
    "AWQ": ({"quant_method": "awq", "bits": 4}, ("int4", "int4", "int4", "int4")),
}


@pytest.mark.parametrize("name", PRECISIONS)
def test_the_precision_of_each_component_is_read(name: str) -> None:
    quantization, expected = PRECISIONS[name]
    found = hp.load_model(deepseek_config(quantization_config=quantization)).precision
    assert (found.attention, found.dense, found.experts, found.shared) == expected
    assert found.router == "bf16"


def test_what_modelopt_writes_beside_a_config_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(deepseek_config()))
    assert hp.load_model(tmp_path).precision.experts == "bf16"
    sidecar = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(sidecar))
    assert hp.load_model(tmp_path).precision.experts == "nvfp4"
    (tmp_path / "hf_quant_config.json").write_text("{}")
    with pytest.raises(hp.InputError, match=r"hf_quant_config\.json: quantization: is missing"):
        hp.load_model(tmp_path)


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
    "a hundred thousand layers": (llama_config(num_hidden_layers=100_000), "num_hidden_layers: got 100000"),
    "negative heads": (llama_config(num_attention_heads=-8), "num_attention_heads: got -8"),
    "a fraction of a head": (llama_config(num_attention_heads=7.5), "num_attention_heads: got 7.5"),
    "text for a number": (llama_config(hidden_size="4096"), "hidden_size: got '4096'"),
    "shared caches": (gemma4(num_kv_shared_layers=4), "num_kv_shared_layers: got 4"),
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


def test_recursion_and_a_hundred_megabytes_are_refused_in_a_second(tmp_path: Path) -> None:
    for name, text in (("deep", '{"text_config":' * 200_000), ("big", '{"a": "' + "x" * 100_000_000 + '"}')):
        (tmp_path / f"{name}.json").write_text(text)
        start = time.perf_counter()
        with pytest.raises(hp.InputError):
            hp.load_model(tmp_path / f"{name}.json")
        assert time.perf_counter() - start < 1, name


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
