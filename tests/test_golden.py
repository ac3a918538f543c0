"""The published figures the cost model must give back: Helix appendix A and figure 3, the hottest expert rank, KV a token."""

from __future__ import annotations

import numpy as np
import pytest

import helixplan as hp
from helixplan.cost.case import Case, pose
from helixplan.cost.collectives import best_chunks, overlapped
from helixplan.cost.experts import active_experts, expected_largest_normal
from helixplan.inputs.workload import Workload
from tests.conftest import llama_config, profile

US = 1e-6


@pytest.fixture(scope="module")
def appendix_a() -> Case:
    """Helix appendix A: one layer of a dense model with 128 query and 8 KV heads, everything in 4 bits, 8000 GB/s, 1M tokens."""
    model = hp.load_model(
        llama_config(
            hidden_size=16384,
            intermediate_size=65536,
            num_attention_heads=128,
            num_key_value_heads=8,
            head_dim=128,
            num_hidden_layers=1,
        )
    )
    work = Workload(1_000_000, weight_dtype="fp4", kv_dtype="fp4", attention_math="fp4", kernels="ideal")
    return pose(model, hp.load_hardware(profile()), work)


def phase(case: Case, layout: hp.Layout, name: str, attribute: str = "seconds") -> float:
    from helixplan.evaluation import evaluate

    return sum(getattr(p, attribute) for p in evaluate(case, layout, 8).cost.phases if p.name == name)


@pytest.mark.parametrize(("tp", "microseconds"), [(1, 1024), (2, 512), (4, 256), (8, 128), (16, 128), (32, 128), (64, 128)])
def test_kv_read_stops_falling_where_tp_passes_the_kv_heads(appendix_a: Case, tp: int, microseconds: float) -> None:
    assert phase(appendix_a, hp.Layout(1, tp, tp, 1), "attention.core") == pytest.approx(microseconds * US, rel=1e-3)


@pytest.mark.parametrize(("kvp", "microseconds"), [(1, 128), (2, 64), (4, 32), (8, 16)])
def test_kv_read_falls_with_kvp(appendix_a: Case, kvp: int, microseconds: float) -> None:
    found = phase(appendix_a, hp.Layout(kvp, 8, 8 * kvp, 1), "attention.core")
    one_block = 8 * 32 * 2 * 128 * 0.5 / 8e12
    assert microseconds * US * (1 - 1e-9) <= found <= (microseconds * US + one_block) * (1 + 1e-3)


def weight_bytes_read(case: Case, layout: hp.Layout) -> float:
    """What the phases read less the activations they move: weights alone."""
    hidden, head, batch = 16384, 128, 8
    tpa, share = layout.tpa, 65536 // layout.ffn_group
    kv_heads = -(-8 // tpa)
    qkv_in_out = batch * (hidden + (128 // tpa + 2 * kv_heads) * head) * 2
    out_in_out = batch * (128 // layout.attention_group * head + hidden) * 2
    ffn_in_out = batch * (hidden + 2 * share + share + hidden) * 2
    read = sum(phase(case, layout, name, "hbm_bytes") for name in ("attention.qkv", "attention.out", "ffn.dense"))
    return read - qkv_in_out - out_in_out - ffn_in_out


@pytest.mark.parametrize(
    ("tp", "microseconds"), [(1, 236.98), (2, 118.49), (4, 59.24), (8, 29.62), (16, 14.94), (32, 7.60), (64, 3.93)]
)
def test_weight_read_of_appendix_a(appendix_a: Case, tp: int, microseconds: float) -> None:
    seconds = weight_bytes_read(appendix_a, hp.Layout(1, tp, tp, 1)) / 8e12
    assert seconds == pytest.approx(microseconds * US, rel=1e-3)


def test_output_projection_is_sharded_over_the_attention_group_where_appendix_a_says_tpa(appendix_a: Case) -> None:
    """Section 2.2 shards it over KVP x TPA; appendix A prices it at TPA. The difference is 1 - 1/KVP of its weights."""
    kvp, tpa = 4, 8
    ours = weight_bytes_read(appendix_a, hp.Layout(kvp, tpa, kvp * tpa, 1))
    h, d, f = 16384, 128, 65536
    paper = (2 * h * (128 // tpa) * d + 2 * h * 1 * d + 3 * h * f // (kvp * tpa)) * 0.5
    assert paper - ours == pytest.approx(h * (128 // tpa) * d * 0.5 * (1 - 1 / kvp), rel=1e-9)


def test_figure_3_of_helix_with_and_without_overlap() -> None:
    """Eight requests, 2 units of attention and 1.2 of exchange each, no floors: 25.6 units become 17.2."""
    attention, exchange = 8 * 2.0, 8 * 1.2
    assert overlapped(0.0, attention, 0.0, exchange, 0.0, 1) == pytest.approx(25.6)
    assert overlapped(0.0, attention, 0.0, exchange, 0.0, 8) == pytest.approx(17.2)
    assert best_chunks(np.zeros(1), np.array([attention]), np.zeros(1), np.array([exchange]), 0.0, np.array([8.0])) == 8


def test_best_chunks_equal_trying_all_of_them() -> None:
    random = np.random.default_rng(7)
    for _ in range(300):
        a0, x0, handover = random.choice([0.0, 1.0, 11.0], 3)
        attention, exchange = random.exponential(50, 2)
        most = int(random.integers(1, 200))
        every = overlapped(a0, attention, x0, exchange, handover, np.arange(1, most + 1))
        numbers = [np.array([float(value)]) for value in (a0, attention, x0, exchange)]
        best = best_chunks(*numbers, handover, np.array([float(most)]))
        assert every[int(best[0]) - 1] == pytest.approx(every.min(), rel=1e-12)


def test_the_hottest_of_64_expert_ranks_of_deepseek_r1() -> None:
    active = active_experts(256, 8, np.array([64, 64]), np.array([1, 8]))
    assert active == pytest.approx([1.31, 3.06], abs=0.005)


def test_active_experts_equal_a_simulation() -> None:
    random = np.random.default_rng(3)
    experts, k, ep, tokens, draws = 24, 3, 6, 4, 4000
    most = []
    for _ in range(draws):
        # The formula hits each expert independently with the chance that some token does.
        hit = random.random(experts) < 1 - (1 - k / experts) ** tokens
        most.append(hit.reshape(ep, -1).sum(axis=1).max())
    expected = active_experts(experts, k, np.array([ep]), np.array([tokens]))[0]
    assert np.mean(most) == pytest.approx(expected, abs=4 * np.std(most) / draws**0.5)


def test_expected_largest_of_two_and_three_normals_is_known_exactly() -> None:
    assert expected_largest_normal(1) == 0
    assert expected_largest_normal(2) == pytest.approx(1 / np.pi**0.5, rel=1e-9)
    assert expected_largest_normal(3) == pytest.approx(1.5 / np.pi**0.5, rel=1e-9)


def test_deepseek_r1_caches_35136_bytes_a_token_in_fp8(r1: hp.Model) -> None:
    assert r1.kv_bytes_per_token("fp8") == 35_136
    assert r1.kv_bytes_per_token("fp8") * 136_000 / 2**30 == pytest.approx(4.45, abs=0.005)


def test_flops_of_mla_at_128_heads_are_242_a_byte_in_bf16(r1: hp.Model, gb200: hp.Hardware) -> None:
    one = hp.estimate(r1, gb200, hp.Layout(1, 1, 1, 1), context_tokens=1_000_000, batch=1, kv_dtype="bf16")
    core = next(p for p in one.cost.phases if p.name == "attention.core")
    assert core.flops / core.hbm_bytes == pytest.approx(242, abs=0.5)


def test_an_exchange_sends_the_same_bytes_at_any_context(r1: hp.Model, gb200: hp.Hardware) -> None:
    sent = []
    for context in (1_000, 100_000, 10_000_000):
        layout = hp.Layout(16, 1, 16, 1, exchange="latent")
        one = hp.estimate(r1, gb200, layout, context_tokens=context, batch=8)
        sent.append(next(p.wire_bytes for p in one.cost.phases if p.name == "attention.exchange"))
    assert sent == pytest.approx([61 * 15 / 16 * 8 * 128 * (512 * 2 + 4)] * 3)


def test_exchanging_values_sends_four_times_fewer_bytes_than_latents(r1: hp.Model, gb200: hp.Hardware) -> None:
    sent = {}
    for exchange in ("latent", "value"):
        layout = hp.Layout(16, 1, 16, 1, exchange=exchange)
        one = hp.estimate(r1, gb200, layout, context_tokens=1_000_000, batch=8)
        sent[exchange] = next(p.wire_bytes for p in one.cost.phases if p.name == "attention.exchange")
    assert sent["latent"] / sent["value"] == pytest.approx((512 * 2 + 4) / (128 * 2 + 4))
