"""Every layout's seconds and bytes against the plain-Python reference; traffic and FLOPs of phases counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import helixplan as hp
from tests.reference import Step, hottest, sound_layouts
from tests.strategies import contexts, models, systems


@settings(max_examples=60)
@given(
    model=models(),
    hardware=systems(),
    context=contexts(),
    batch=st.integers(1, 40),
    scale=st.sampled_from([0.0, 0.3, 1.0]),
    kv=st.sampled_from([None, "bf16", "nvfp4"]),
    weights=st.sampled_from([None, "fp8", "nvfp4", "int4"]),
)
def test_scores_equal_the_reference_for_every_layout(
    model: hp.Model, hardware: hp.Hardware, context: int, batch: int, scale: float, kv: str | None, weights: str | None
) -> None:
    most = hardware.interconnect.domain_gpus
    most = most if hardware.interconnect.scale_out_bytes_per_s is None else 8
    layouts = sound_layouts(model, most)[:: max(1, len(sound_layouts(model, most)) // 25)]
    many = hp.score(
        model,
        hardware,
        hp.Layouts.of(*layouts),
        context_tokens=context,
        batch=batch,
        floor_scale=scale,
        kv_dtype=kv,
        weight_dtype=weights,
    )
    expected = [Step(model, hardware, one, batch, scale, context=context, kv=kv, weights=weights).ttl_s for one in layouts]
    np.testing.assert_allclose(many.ttl_s, expected, rtol=1e-9)
    held = [
        Step(model, hardware, one, batch, context=context, kv=kv, weights=weights).memory(("auto", "latent", "value")[code])
        for one, code in zip(layouts, many.exchange.tolist(), strict=True)
    ]
    np.testing.assert_allclose(many.memory_bytes, held, rtol=1e-12)


FLAGSHIPS = [
    "deepseek-r1",
    "deepseek-v4-flash",
    "deepseek-v4-pro",
    "llama-3.1-405b",
    "gpt-oss-120b",
    "qwen3-235b-a22b",
    "kimi-k2",
]


@pytest.mark.parametrize("name", FLAGSHIPS)
@pytest.mark.parametrize("system", ["gb200-nvl72", "h200-hgx", "a100-hgx"])
def test_bundled_models_cost_what_the_reference_says_phase_by_phase(name: str, system: str) -> None:
    model, hardware = hp.load_model(name), hp.load_hardware(system)
    moe = model.experts > 0
    for layout in (hp.Layout(8, 1, 8, 1), hp.Layout(4, 1, 2, 4 if moe else 1, dp=2) if moe else hp.Layout(2, 4, 8, 1)):
        one = hp.estimate(model, hardware, layout, context_tokens=1_000_000, batch=9)
        seconds: dict[str, float] = {}
        for phase in one.cost.phases:
            seconds[phase.name] = seconds.get(phase.name, 0.0) + phase.seconds
        expected = Step(model, hardware, layout, 9, context=1_000_000).phases()
        assert seconds == pytest.approx(expected, rel=1e-9, abs=1e-15)


def traffic(model: hp.Model, layout: hp.Layout, batch: int, **how: object) -> dict[str, tuple[float, float, float]]:
    """(bytes, FLOPs, bytes sent) of each phase over the whole step."""
    one = hp.estimate(model, "gb200-nvl72", layout, context_tokens=100_000, batch=batch, **how)
    return {f"{p.name} {p.group or ''}".strip(): (p.hbm_bytes, p.flops, p.wire_bytes) for p in one.cost.phases}


def test_bytes_and_flops_of_every_phase_of_deepseek_r1_are_those_counted_by_hand(r1: hp.Model) -> None:
    """8 requests on KVP 4, TPF 2 x EP 2, values exchanged, fp8 throughout."""
    b, h, q, out, kvp, s_loc = 8, 7168, 128, 32, 4, 25_024
    found = traffic(r1, hp.Layout(4, 1, 2, 2, exchange="value", overlap_chunks=1), b)

    def gemm(k: int, n: int, heads: int = 1, size: float = 1) -> tuple[float, float]:
        return heads * (k * n * size + b * (k + n) * 2), 2 * b * k * n * heads

    def total(*parts: tuple[float, float]) -> tuple[float, float]:
        return sum(part[0] for part in parts), sum(part[1] for part in parts)

    qkv = total(gemm(h, 1536 + 512 + 64), gemm(1536, q * 192), gemm(128, 512, heads=q))
    exchanged = b * q * (2 * 128 + 4)
    expected = {
        "attention.qkv": (61, *qkv, 0.0),
        "attention.core": (61, b * (s_loc * 576 + q * (512 + 64 + 512) * 2), 2 * b * q * s_loc * (2 * 512 + 64), 0.0),
        "attention.exchange": (61, 0.0, 0.0, (kvp - 1) / kvp * exchanged),
        "attention.merge": (61, exchanged + b * out * 128 * 2, 0.0, 0.0),
        "attention.value_up": (61, *gemm(512, 128, heads=q), 0.0),
        "attention.out": (61, *gemm(out * 128, h), 0.0),
        "ffn.dense dense": (3, *total(gemm(h, 2 * 18432 // 4), gemm(18432 // 4, h)), 0.0),
        "ffn.router moe": (58, *gemm(h, 256, size=2), 0.0),
        "ffn.shared moe": (58, *total(gemm(h, 2 * 2048 // 4), gemm(2048 // 4, h)), 0.0),
        "head": (1, *gemm(h, 129280 // 4, size=2), 0.0),
    }
    for name, (layers, *each) in expected.items():
        assert found[name] == pytest.approx([layers * number for number in each], rel=1e-12), name
    mean, z = b * 8 / 2, 1 / np.pi**0.5
    pairs, active = mean + z * mean**0.5, hottest(256, 8, 2, b)
    weights = 3 * h * 1024
    experts = (58 * (active * weights + pairs * (2 * h + 3 * 1024) * 2), 58 * 2 * pairs * weights, 0.0)
    assert found["ffn.experts moe"] == pytest.approx(experts, rel=1e-6)
    one_shot, two_shot = 3 * b * h * 2, 2 * 3 / 4 * b * h * 2
    assert found["attention.reduce"][2] == pytest.approx(61 * one_shot) or found["attention.reduce"][2] == pytest.approx(
        61 * two_shot
    )


def test_a_pipeline_sends_the_hidden_states_of_a_stage_pp_times(llama: hp.Model) -> None:
    found = traffic(llama, hp.Layout(1, 8, 8, 1, pp=3), 7)
    assert found["pipeline"][2] == 3 * 3 * 16384 * 2


def test_exposed_communication_is_the_exchange_the_reductions_and_the_gathers(r1: hp.Model) -> None:
    one = hp.estimate(r1, "gb200-nvl72", hp.Layout(4, 1, 1, 8, dp=2), context_tokens=100_000, batch=8)
    names = {"attention.exchange", "attention.reduce", "ffn.gather", "ffn.reduce"}
    assert names <= {phase.name for phase in one.cost.phases}
    assert one.cost.exposed_communication_s == pytest.approx(sum(p.seconds for p in one.cost.phases if p.name in names))


def test_the_bound_of_a_phase_is_its_largest_term(r1: hp.Model, llama: hp.Model) -> None:
    def bounds(model: hp.Model, layout: hp.Layout, **how: object) -> dict[str, str]:
        one = hp.estimate(model, "gb200-nvl72", layout, context_tokens=1_000_000, **how)
        return {phase.name: phase.bound for phase in one.cost.phases}

    assert bounds(r1, hp.Layout(1, 1, 1, 1), batch=4)["attention.core"] == "compute"
    assert bounds(llama, hp.Layout(1, 8, 8, 1), batch=4)["attention.core"] == "memory"
    few = bounds(r1, hp.Layout(64, 1, 1, 64), batch=1)
    assert (few["attention.exchange"], few["small"], few["ffn.router"]) == ("floor", "floor", "floor")
    many = bounds(r1, hp.Layout(64, 1, 64, 1, exchange="latent", overlap_chunks=1), batch=4096, overlap="auto")
    assert many["attention.exchange"] == "network"


def test_hop_b_takes_at_least_two_chunks_and_auto_never_more_than_pay(r1: hp.Model) -> None:
    layout = hp.Layout(32, 1, 32, 1)
    how = {"context_tokens": 1_000_000, "batch": 8}
    auto, none, hop_b = (hp.estimate(r1, "gb200-nvl72", layout, overlap=overlap, **how) for overlap in ("auto", "none", "hop-b"))
    assert (none.layout.overlap_chunks, hop_b.layout.overlap_chunks) == (1, 2)
    assert auto.cost.ttl_s == min(auto.cost.ttl_s, none.cost.ttl_s, hop_b.cost.ttl_s)


def test_dtypes_that_borrow_bf16s_kernels_are_said_to() -> None:
    layout, how = hp.Layout(1, 8, 8, 1), {"context_tokens": 1000, "batch": 1}
    gpt = hp.estimate("gpt-oss-120b", "a100-hgx", layout, **how)
    assert any("mxfp4 experts" in warning for warning in gpt.warnings)
    assert not hp.estimate("gpt-oss-120b", "gb200-nvl72", layout, **how).warnings
    assert not hp.estimate("gpt-oss-120b", "h200-hgx", layout, **how).warnings
    narrow = hp.estimate("qwen3-32b", "h200-hgx", layout, weight_dtype="nvfp4", **how)
    assert any("nvfp4 GEMMs" in warning for warning in narrow.warnings)
    assert not hp.estimate("qwen3-32b", "h200-hgx", layout, weight_dtype="int4", **how).warnings
