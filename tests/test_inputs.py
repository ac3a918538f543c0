"""Models, profiles, units and workloads as they are read."""

from __future__ import annotations

import json
import random
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helixplan as hp
from helixplan.inputs.catalog import bundled_hardware, bundled_models
from helixplan.inputs.model import GroupedQueryAttention, LatentAttention, MoE
from helixplan.inputs.workload import Workload
from helixplan.units import format_bytes, format_context, format_seconds, parse_count, parse_seconds
from tests.conftest import ROOT, deepseek_config, llama_config, profile

MODELS = sorted(bundled_models())


@pytest.mark.parametrize("name", MODELS)
def test_parameters_agree_with_the_published_figures_within_1_percent(name: str) -> None:
    model = hp.load_model(name)
    source = json.loads(bundled_models()[name].read_text())["source"]
    embedding = model.hidden * model.vocabulary if source.get("active_counts_embedding") and not model.tied_embedding else 0
    assert model.parameters == pytest.approx(source["parameters"], rel=0.01)
    if "active_parameters" in source:
        assert model.active_parameters + embedding == pytest.approx(source["active_parameters"], rel=0.01)
    assert all(source[key].startswith("https://") for key in ("config",))
    assert "https://" in source["parameters_source"]


@pytest.mark.parametrize(
    ("name", "billions", "active"),
    [
        ("deepseek-r1", 671, 37),
        ("deepseek-v3", 671, 37),
        ("kimi-k2", 1026, 32),
        ("llama-3.1-405b", 406, None),
        ("llama-3.1-70b", 71, None),
        ("qwen3-235b-a22b", 235, 22),
        ("qwen3-32b", 33, None),
        ("mixtral-8x22b", 141, 39),
        ("gpt-oss-120b", 117, 5),
        ("deepseek-v3.2", 672, 37),
        ("gemma-4-26b-a4b", 25, 4),
        ("glm-5.1", 744, 41),
        ("kimi-k3", 2779, 104),
        ("llama-4-maverick", 401, 16),
        ("minimax-m2.5", 229, 10),
        ("nemotron-3-nano", 32, 3),
        ("qwen3.5-397b-a17b", 396, 16),
        ("deepseek-v4-flash", 284, 13),
        ("deepseek-v4-pro", 1573, 49),
    ],
)
def test_parameters_round_to_what_the_model_is_known_by(name: str, billions: int, active: int | None) -> None:
    model = hp.load_model(name)
    assert round(model.parameters / 1e9) == billions
    assert active is None or round(model.active_parameters / 1e9) == active


def test_models_of_every_family_and_nine_systems_are_bundled() -> None:
    named = {"deepseek-r1", "deepseek-v3", "kimi-k2", "llama-3.1-405b", "llama-3.1-70b", "qwen3-235b-a22b", "qwen3-32b"}
    named |= {"mixtral-8x22b", "gpt-oss-120b", "deepseek-v3.2", "gemma-4-26b-a4b", "glm-5.1", "kimi-k3", "llama-4-maverick"}
    named |= {"deepseek-v4-flash", "deepseek-v4-pro"}
    assert {*MODELS} == named | {"minimax-m2.5", "nemotron-3-nano", "qwen3.5-397b-a17b"}
    assert sorted(bundled_hardware()) == sorted(
        ["gb200-nvl72", "gb300-nvl72", "b200-hgx", "b300-hgx", "h200-hgx", "h100-hgx", "a100-hgx", "mi300x", "rtx-pro-6000"]
    )


def test_kinds_of_layers_are_told_apart() -> None:
    gpt = hp.load_model("gpt-oss-120b")
    assert [(g.name, len(g.layers), g.attention.window) for g in gpt.groups] == [("sliding", 18, 128), ("full", 18, None)]
    assert gpt.precision.experts == "mxfp4"
    assert gpt.precision.attention == "bf16"
    r1 = hp.load_model("deepseek-r1")
    assert [(g.name, g.layers[0], len(g.layers)) for g in r1.groups] == [("dense", 0, 3), ("moe", 3, 58)]
    assert isinstance(r1.groups[0].attention, LatentAttention)
    assert len(r1.attention_kinds) == 1
    moe = r1.groups[1].ffn
    assert isinstance(moe, MoE)
    assert (moe.experts, moe.experts_per_token, moe.width, moe.shared_width) == (256, 8, 2048, 2048)


def test_mha_and_mqa_are_the_ends_of_gqa() -> None:
    mha = hp.load_model(llama_config(num_key_value_heads=None))
    mqa = hp.load_model(llama_config(num_key_value_heads=1))
    assert isinstance(mha.groups[0].attention, GroupedQueryAttention)
    assert (mha.kv_heads, mqa.kv_heads) == (8, 1)
    assert mha.kv_bytes_per_token() == 8 * mqa.kv_bytes_per_token()


def test_mla_without_q_lora_projects_queries_from_the_hidden_state() -> None:
    lora, plain = hp.load_model(deepseek_config()), hp.load_model(deepseek_config(q_lora_rank=None))
    heads = 8 * (64 + 32)
    assert plain.parameters - lora.parameters == 4 * (512 * heads - 512 * 256 - 256 * heads)


def test_a_tied_embedding_counts_once() -> None:
    free, tied = hp.load_model(llama_config()), hp.load_model(llama_config(tie_word_embeddings=True))
    assert free.parameters - tied.parameters == 512 * 1000
    assert free.active_parameters == tied.active_parameters


def test_only_layers_whose_cache_grows_count_a_token() -> None:
    gpt = hp.load_model("gpt-oss-120b")
    assert gpt.kv_bytes_per_token("fp8") == 18 * 2 * 8 * 64


def test_hashes_ignore_names_comments_and_order_but_no_number(tmp_path: Path) -> None:
    config = json.loads((ROOT / "models" / "qwen3-32b.json").read_text())
    keys = list(config)
    random.Random(1).shuffle(keys)
    shuffled = {key: config[key] for key in keys} | {"name": "another", "comment": "more"}
    assert hp.load_model(shuffled).sha256 == hp.load_model("qwen3-32b").sha256
    assert hp.load_model(config | {"num_key_value_heads": 4}).sha256 != hp.load_model("qwen3-32b").sha256
    same = profile(description="other words", kernels__source="elsewhere")
    assert hp.load_hardware(same).sha256 == hp.load_hardware("gb200-nvl72").sha256
    assert hp.load_hardware(profile(gpu__memory_bytes_per_s=7.9e12)).sha256 != hp.load_hardware("gb200-nvl72").sha256
    assert hp.load_hardware(profile(kernels__gemm__fp8__floor_us=5.4)).sha256 != hp.load_hardware("gb200-nvl72").sha256


@pytest.mark.parametrize("name", sorted(bundled_hardware()))
def test_every_number_of_a_profile_has_a_source(name: str) -> None:
    data = tomllib.loads(bundled_hardware()[name].read_text())

    def check(value: Any, path: str) -> None:
        if isinstance(value, dict):
            numbers = [k for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)]
            assert not numbers or value.get("source"), path
            for key, inner in value.items():
                # A table's own source speaks for the factors and the tests inside it.
                if key not in ("head_dim_factors", "evidence"):
                    check(inner, f"{path}.{key}")
        if isinstance(value, list):
            for inner in value:
                check(inner, path)

    check(data, name)
    hardware = hp.load_hardware(name)
    assert hardware.name == name
    assert (hardware.calibration_note is None) == (name not in ("gb300-nvl72", "mi300x"))


def test_an_inheriting_profile_takes_the_constants_and_may_change_some() -> None:
    gb300 = hp.load_hardware("gb300-nvl72")
    assert gb300.kernels.gemm == hp.load_hardware("gb200-nvl72").kernels.gemm
    data = tomllib.loads((ROOT / "hardware_profiles" / "gb300-nvl72.toml").read_text())
    data["kernels"]["overheads"] = profile()["kernels"]["overheads"] | {"merge_us": 7.0}
    assert hp.load_hardware(data).kernels.overheads.merge_us == 7.0


def test_the_ideal_clock_has_no_floors_and_full_efficiency(gb200: hp.Hardware) -> None:
    ideal = gb200.at(0.0).kernels
    assert ideal.gemm["fp8"].floor_us == ideal.overheads.small_kernel_us == ideal.all_to_all.growth_us == 0
    assert ideal.gemm["fp8"].efficiency == ideal.all_reduce.link_efficiency == 1
    assert ideal.overheads.workspace_bytes == 3.5e9
    assert gb200.at(1.0).kernels.gemm == gb200.kernels.gemm
    halfway = gb200.at(0.5).at(0.5).kernels.gemm["bf16"]
    assert halfway.efficiency == pytest.approx(1 - 0.5 * (1 - gb200.kernels.gemm["bf16"].efficiency))


@pytest.mark.parametrize(
    ("text", "number"),
    [("8", 8), ("1M", 10**6), ("1Mi", 2**20), ("128k", 128_000), ("128Ki", 131_072), ("1.5M", 1_500_000), ("1.001M", 1_001_000)],
)
def test_counts_are_read_exactly(text: str, number: int) -> None:
    assert parse_count(text, "x") == number


@given(st.integers(1, 10**9))
def test_a_context_survives_being_written_and_read(tokens: int) -> None:
    assert parse_count(format_context(tokens), "x") == tokens


@pytest.mark.parametrize(("text", "seconds"), [("20ms", 0.02), ("1.5s", 1.5), ("800us", 800e-6), ("0us", 0.0), ("2", 2.0)])
def test_times_are_read_exactly(text: str, seconds: float) -> None:
    assert parse_seconds(text, "x") == seconds


@given(st.text(max_size=12))
def test_no_text_breaks_the_parsers(text: str) -> None:
    for parse in (parse_count, parse_seconds):
        try:
            number = parse(text, "x")
        except hp.InputError:
            continue
        assert np.isfinite(number)


def test_amounts_are_shown_in_units_people_use() -> None:
    assert [format_seconds(s) for s in (0.019289, 0.0008, 1.5, 0.0)] == ["19.29 ms", "800 us", "1.5 s", "0 us"]
    assert [format_bytes(b) for b in (178.83e9, 4.433e6, 12, 2e12)] == ["178.8 GB", "4.433 MB", "12 B", "2 TB"]
    assert [format_context(t) for t in (10**6, 131_072, 1_370_000, 7)] == ["1M", "128Ki", "1.37M", "7"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"context_tokens": 0},
        {"context_tokens": 1.5},
        {"context_tokens": True},
        {"weight_dtype": "fp6"},
        {"memory_utilization": 0.0},
        {"memory_utilization": float("nan")},
        {"step_overhead_s": float("inf")},
        {"kv_block_tokens": -1},
        {"floor_scale": 1.1},
    ],
)
def test_a_workload_out_of_bounds_names_the_field(wrong: dict[str, Any]) -> None:
    with pytest.raises(hp.InputError) as caught:
        Workload(**({"context_tokens": 1} | wrong))
    assert caught.value.field == next(iter(wrong))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"kvp": [1.0]}, "whole numbers"),
        ({"kvp": [0]}, "must lie from 1"),
        ({"kvp": [1, 2], "tpa": [1, 2, 3]}, "one length"),
        ({"kvp": [[1]]}, "one dimension"),
        ({"kvp": [1], "exchange": [9]}, "must lie from 0 to 2"),
    ],
)
def test_layouts_that_are_no_arrays_of_sizes_are_refused(arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(hp.InputError, match=said):
        hp.Layouts(**({"tpa": 1, "tpf": 1, "ep": 1} | arrays))


def test_scoring_refuses_what_splits_a_head_and_batches_of_another_length(r1: hp.Model, gb200: hp.Hardware) -> None:
    with pytest.raises(hp.InputError, match="split a head"):
        hp.score(r1, gb200, hp.Layouts(kvp=[1, 3], tpa=1, tpf=1, ep=1), context_tokens=1, batch=1)
    with pytest.raises(hp.InputError, match="one for each layout"):
        hp.score(r1, gb200, hp.Layouts(kvp=[1, 2], tpa=1, tpf=1, ep=1), context_tokens=1, batch=np.array([1, 2, 3]))
    empty = hp.score(r1, gb200, hp.Layouts(kvp=np.zeros(0, int), tpa=1, tpf=1, ep=1), context_tokens=1, batch=1)
    assert len(empty.ttl_s) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": "2.0"}, "schema_version"),
        ({"schema_version": None}, "schema_version"),
        ({"layout": 3}, "layout"),
        ({"cost": {"ttl_s": "fast"}}, "cost"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_plan_file_that_is_none_is_refused(r1: hp.Model, gb200: hp.Hardware, change: dict[str, Any], said: str) -> None:
    one = hp.estimate(r1, gb200, hp.Layout(8, 1, 8, 1), context_tokens=1000, batch=1)
    data = {key: value for key, value in (json.loads(one.to_json()) | change).items() if value is not None}
    with pytest.raises(hp.InputError, match=said) as caught:
        hp.Plan.from_json(json.dumps(data), "my.json")
    assert str(caught.value).startswith("my.json: ")
