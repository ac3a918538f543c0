"""Layers beyond grouped heads and MLA: a state, a choice of tokens, a missing half, experts at another width."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import helixplan as hp
from helixplan.cost.case import pose
from helixplan.evidence.emulation import mathematics, recurrent
from helixplan.evidence.verify import verify
from helixplan.inputs.model import LatentAttention, MoE, RecurrentAttention
from helixplan.inputs.workload import Workload
from tests.conftest import Main, deepseek_config, delta_config, kimi_config, llama_config, mamba_config

GB200 = "gb200-nvl72"

PUBLISHED: dict[str, tuple[float, dict[str, Any]]] = {
    # Total parameters in 1e9 as the models' own cards and reports state them, and the sizes their configs state.
    "Qwen3-Next-80B-A3B": (
        80,
        delta_config(
            hidden_size=2048,
            num_hidden_layers=48,
            num_attention_heads=16,
            head_dim=256,
            vocab_size=151_936,
        )
        | {
            "full_attention_interval": 4,
            "linear_num_key_heads": 16,
            "linear_num_value_heads": 32,
            "linear_key_head_dim": 128,
            "linear_value_head_dim": 128,
            "num_experts": 512,
            "num_experts_per_tok": 10,
            "moe_intermediate_size": 512,
            "shared_expert_intermediate_size": 512,
        },
    ),
    "Kimi-Linear-48B-A3B": (
        49.1,
        kimi_config(
            hidden_size=2304,
            num_hidden_layers=27,
            num_attention_heads=32,
            kv_lora_rank=512,
            q_lora_rank=None,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
            intermediate_size=9216,
            moe_intermediate_size=1024,
            vocab_size=163_840,
        )
        | {
            "mla_use_output_gate": False,
            "routed_expert_hidden_size": None,
            "num_experts": 256,
            "num_experts_per_token": 8,
            "linear_attn_config": {
                "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
                "kda_layers": [layer for layer in range(1, 27) if layer % 4],
                "num_heads": 32,
                "head_dim": 128,
                "short_conv_kernel_size": 4,
            },
        },
    ),
    "MiniMax-M1": (
        456,
        llama_config(
            architectures=["MiniMaxM1ForCausalLM"],
            attn_type_list=[int(layer % 8 == 7) for layer in range(80)],
            hidden_size=6144,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
            head_dim=128,
            num_local_experts=32,
            num_experts_per_tok=2,
            intermediate_size=9216,
            vocab_size=200_064,
        ),
    ),
    "GLM-4.5": (
        355,
        deepseek_config(
            architectures=["Glm4MoeForCausalLM"],
            hidden_size=5120,
            num_hidden_layers=92,
            num_attention_heads=96,
            num_key_value_heads=8,
            head_dim=128,
            n_routed_experts=160,
            num_experts_per_tok=8,
            moe_intermediate_size=1536,
            intermediate_size=12_288,
            first_k_dense_replace=3,
            vocab_size=151_552,
        ),
    ),
    "Nemotron-4-340B": (
        340,
        llama_config(
            architectures=["NemotronForCausalLM"],
            hidden_size=18_432,
            num_hidden_layers=96,
            num_attention_heads=96,
            num_key_value_heads=8,
            head_dim=192,
            intermediate_size=73_728,
            vocab_size=256_000,
        ),
    ),
    "DeepSeek-V2": (
        236,
        deepseek_config(
            architectures=["DeepseekV2ForCausalLM"],
            hidden_size=5120,
            num_hidden_layers=60,
            num_attention_heads=128,
            kv_lora_rank=512,
            q_lora_rank=1536,
            qk_nope_head_dim=128,
            qk_rope_head_dim=64,
            v_head_dim=128,
            n_routed_experts=160,
            n_shared_experts=2,
            num_experts_per_tok=6,
            moe_intermediate_size=1536,
            intermediate_size=12_288,
            vocab_size=102_400,
        ),
    ),
    "Gemma-3-27B": (
        27,
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "text_config": {
                "hidden_size": 5376,
                "intermediate_size": 21_504,
                "num_hidden_layers": 62,
                "num_attention_heads": 32,
                "num_key_value_heads": 16,
                "head_dim": 128,
                "sliding_window": 1024,
            },
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_families_of_the_flagships_have_the_parameters_they_are_known_by(name: str) -> None:
    billions, config = PUBLISHED[name]
    assert hp.load_model(config).parameters / 1e9 == pytest.approx(billions, rel=0.01)


def _cores(model: Any, context: int, **layout: int) -> dict[str | None, float]:
    """Seconds of the cores by kind of layer, nothing overlapped."""
    sizes = {"kvp": 1, "tpa": 1, "dp": 1, "pp": 1} | layout
    sizes |= {"tpf": sizes["kvp"] * sizes["tpa"], "ep": 1}
    plan = hp.estimate(model, GB200, hp.Layout(**sizes), context_tokens=context, batch=4, overlap="none")
    return {phase.group: phase.seconds for phase in plan.cost.phases if phase.name == "attention.core"}


@pytest.mark.parametrize("name", ["deepseek-v3.2", "glm-5.1"])
def test_sparse_attention_is_flat_in_the_context_and_kvp_never_shortens_it(name: str) -> None:
    at = {context: _cores(name, context)[None] for context in (4096, 65_536, 1_000_000)}
    assert len({round(seconds, 15) for seconds in at.values()}) == 1
    assert _cores(name, 1000)[None] < at[4096]
    for kvp in (2, 4, 8):
        assert _cores(name, 1_000_000, kvp=kvp)[None] >= at[1_000_000]


def test_the_indexer_grows_with_the_context_on_every_kvp_rank() -> None:
    def index(context: int, kvp: int) -> tuple[float, float]:
        layout = hp.Layout(kvp=kvp, tpa=1, tpf=kvp, ep=1)
        plan = hp.estimate("deepseek-v3.2", GB200, layout, context_tokens=context, batch=1, kernels="ideal")
        (phase,) = (phase for phase in plan.cost.phases if phase.name == "attention.index")
        return phase.seconds, phase.stored_bytes

    (long, stored), (short, _) = index(1_000_000, 1), index(100_000, 1)
    assert long > 5 * short
    assert index(1_000_000, 8) == (long, stored)
    indexer_weights = 61 * (1536 * 64 * 128 + 7168 * (128 + 64))
    assert stored == 61 * 1_000_000 * 128 + indexer_weights


def test_a_sparse_cache_is_split_by_kvp_but_for_the_index_keys() -> None:
    def held(kvp: int) -> float:
        layout = hp.Layout(kvp=kvp, tpa=1, tpf=kvp, ep=1)
        return hp.estimate("deepseek-v3.2", GB200, layout, context_tokens=32 * 8 * 1000, batch=3).memory.kv_cache_bytes

    latents, keys = 3 * 61 * 256_000 * 576, 3 * 61 * 256_000 * 128
    assert held(1) == latents + keys
    assert held(8) == latents / 8 + keys


HYBRIDS = {"qwen3.5-397b-a17b": "linear", "kimi-k3": "linear-dense+linear-moe", "nemotron-3-nano": "mamba"}


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_state_does_not_grow_and_kvp_gives_it_no_more_than_as_many_gpus_for_heads_do(name: str) -> None:
    kind = HYBRIDS[name]
    states = [_cores(name, context)[kind] for context in (1000, 1_000_000)]
    assert states[0] == states[1]
    by_sequence, by_heads = _cores(name, 1_000_000, kvp=2), _cores(name, 1_000_000, tpa=2)
    assert by_sequence[kind] == by_heads[kind]


def test_kimi_and_qwen_hold_what_their_states_say() -> None:
    model = hp.load_model("qwen3.5-397b-a17b")
    (state,) = (kind for _, kind, _ in model.attention_kinds if isinstance(kind, RecurrentAttention))
    assert state.held_bytes(64, 16) == 64 * 128 * 128 * 4 + 3 * (2 * 16 * 128 + 64 * 128) * 2
    assert model.kv_bytes_per_token("fp8") == 15 * 2 * 2 * 256
    short = hp.estimate(model, GB200, hp.Layout(1, 1, 1, 1), context_tokens=1, batch=2).memory.kv_cache_bytes
    assert short == 2 * (45 * state.held_bytes(64, 16) + 15 * 2 * 2 * 256)
    k3 = hp.load_model("kimi-k3")
    moe = next(ffn for _, ffn, _ in k3.ffn_kinds if isinstance(ffn, MoE))
    assert (moe.latent, moe.shared_width, k3.precision.experts, k3.precision.attention) == (3584, 6144, "mxfp4", "bf16")
    assert k3.kv_bytes_per_token("fp8") == 24 * (512 + 64)


def test_layers_of_one_half_cost_only_that_half() -> None:
    config = mamba_config(num_hidden_layers=6, hybrid_override_pattern="MEM-*E")
    model = hp.load_model(config)
    assert [(group.name, group.attention is None, group.ffn is None) for group in model.groups] == [
        ("mamba", False, True),
        ("moe", True, False),
        ("dense", True, False),
        ("full", False, True),
    ]
    phases = hp.estimate(model, GB200, hp.Layout(2, 1, 2, 1), context_tokens=100, batch=1).cost.phases
    layers = {(phase.name, phase.group): phase.layers for phase in phases}
    assert layers["attention.core", "mamba"] == 2
    assert layers["ffn.experts", "moe"] == 2
    assert layers["ffn.dense", "dense"] == 1


SMALL = {
    "delta": delta_config(),
    "kimi": kimi_config(),
    "mamba": mamba_config(),
    "lightning": llama_config(
        architectures=["MiniMaxM1ForCausalLM"], attn_type_list=[0, 1, 0, 1], num_local_experts=6, num_experts_per_tok=2
    ),
    "sparse": deepseek_config(
        architectures=["DeepseekV32ForCausalLM"], index_topk=64, index_n_heads=4, index_head_dim=32, n_routed_experts=8
    ),
}
LAYOUTS = [
    hp.Layout(4, 1, 2, 2),
    hp.Layout(2, 2, 1, 8, dp=2),
    hp.Layout(2, 1, 2, 1, pp=2),
    hp.Layout(8, 1, 1, 8, exchange="value"),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_emulated_ranks_give_what_one_rank_gives_and_count_what_is_charged(name: str, layout: hp.Layout) -> None:
    model = hp.load_model(SMALL[name])
    plan = hp.estimate(model, GB200, layout, context_tokens=3000, batch=7)
    found = verify(plan, pose(model, hp.load_hardware(GB200), Workload(3000)))
    assert found.holds, found.failures
    assert found.largest_error is not None
    assert found.largest_error < 1e-10
    assert {one.phase for one in found.counted} >= {"attention.core", "attention.qkv", "memory"}


def _failures(model: hp.Model, layout: hp.Layout) -> list[str]:
    plan = hp.estimate(model, GB200, layout, context_tokens=3000, batch=4)
    return verify(plan, pose(model, hp.load_hardware(GB200), Workload(3000))).failures


def test_a_state_split_at_the_wrong_heads_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, whole = hp.load_model(SMALL["delta"]), recurrent.State.of

    def swapped(self: recurrent.State, requests: Any, heads: slice, kv_heads: slice) -> recurrent.State:
        return whole(self, requests, slice(0, heads.stop - heads.start), kv_heads)

    monkeypatch.setattr(recurrent.State, "of", swapped)
    assert any("attention heads" in said for said in _failures(model, hp.Layout(2, 1, 2, 1)))


def test_ranks_that_choose_among_their_own_tokens_only_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, whole = hp.load_model(SMALL["sparse"]), mathematics.chosen

    def fewer(query: Any, weights: Any, keys: Any, top_k: int) -> Any:
        picked = whole(query, weights, keys, top_k)
        return picked[:, : max(1, picked.shape[1] - 1)] if np.ndim(picked) else picked

    # The reference imports the function by name, so that only the ranks are wrong.
    monkeypatch.setattr(mathematics, "chosen", fewer)
    assert any("attention heads" in said for said in _failures(model, hp.Layout(4, 1, 4, 1)))


def test_an_index_that_kvp_shortened_would_be_charged_too_little() -> None:
    """What is charged for the index is what ranks count: a model whose indexer had fewer heads is told apart."""
    model = hp.load_model(SMALL["sparse"])
    (attention,) = (kind for _, kind, _ in model.attention_kinds)
    assert isinstance(attention, LatentAttention)
    assert attention.indexer is not None
    thinner = replace(attention, indexer=replace(attention.indexer, heads=2))
    other = replace(model, groups=tuple(replace(group, attention=thinner) for group in model.groups))
    plan = hp.estimate(model, GB200, hp.Layout(4, 1, 4, 1), context_tokens=3000, batch=4)
    said = verify(plan, pose(other, hp.load_hardware(GB200), Workload(3000))).failures
    assert any("attention.index" in one for one in said)


def test_verify_breaks_no_figure_where_names_are_long(tmp_path: Path, main: Main) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(SMALL["kimi"]))
    mine, plan = str(tmp_path / "mine.json"), str(tmp_path / "plan.json")
    assert main("plan", mine, GB200, "--context", "9k", "--gpus", "8", "--output", plan)[0] == 0
    code, out, _ = main("verify", plan, "--model", mine)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    rows = [line for line in out.splitlines() if line.endswith("=")]
    assert {line.split()[-4] for line in rows if "memory" not in line} == {"wire_bytes", "hbm_bytes", "stored_bytes", "flops"}


def test_a_new_kind_of_layer_leaves_other_models_hashes_alone() -> None:
    model = hp.load_model(llama_config())
    said = replace(model.groups[0].attention, output_gate=False)  # type: ignore[type-var]
    same = replace(model, groups=(replace(model.groups[0], attention=said),))
    gated = replace(model, groups=(replace(model.groups[0], attention=replace(said, output_gate=True)),))
    assert same.sha256 == model.sha256 != gated.sha256
