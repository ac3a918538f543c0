"""DeepSeek-V4: a window, and before it entries of several tokens each, some of them chosen or all of them read."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import helixplan as hp
from helixplan.cost.case import pose
from helixplan.engines import posed
from helixplan.evidence.emulation import compressed, compression, mathematics
from helixplan.evidence.emulation.compressed import CompressedHalf
from helixplan.evidence.verify import verify
from helixplan.inputs.hardware import Hardware
from helixplan.inputs.model import CompressedAttention, Indexer
from helixplan.inputs.workload import Workload
from tests.conftest import Main, compressed_config, deepseek_config
from tests.reference import Step, sound_layouts

GB200 = "gb200-nvl72"
FLASH, PRO = "deepseek-v4-flash", "deepseek-v4-pro"
MILLION = 2**20


def kinds(name: str | hp.Model) -> dict[int, CompressedAttention]:
    """By how many tokens an entry is made of."""
    model = hp.load_model(name) if isinstance(name, str) else name
    return {kind.ratio: kind for _, kind, _ in model.attention_kinds if isinstance(kind, CompressedAttention)}


def test_the_releases_are_read_as_their_reports_describe_them() -> None:
    flash, pro = hp.load_model(FLASH), hp.load_model(PRO)
    assert [(group.name, len(group.layers)) for group in flash.groups] == [("sliding", 2), ("csa", 21), ("hca", 20)]
    assert [(group.name, len(group.layers)) for group in pro.groups] == [("hca", 31), ("csa", 30)]
    assert kinds(flash)[4] == CompressedAttention(64, 1024, 512, 128, 8, 1024, 4, Indexer(64, 128, 512))
    assert kinds(pro)[128] == CompressedAttention(128, 1536, 512, 128, 16, 1024, 128)
    assert (flash.precision.attention, flash.precision.experts, flash.precision.compressor) == ("fp8", "mxfp4", "bf16")
    assert (flash.kv_heads, flash.streams, flash.is_latent) == (1, 4, False)


def test_a_token_adds_its_share_of_an_entry_and_of_an_index_key() -> None:
    assert hp.load_model(FLASH).kv_bytes_per_token("bf16") == 21 * (512 + 128) / 4 * 2 + 20 * 512 / 128 * 2
    assert hp.load_model(PRO).kv_bytes_per_token("fp8") == 30 * (512 + 128) / 4 + 31 * 512 / 128


@pytest.mark.parametrize(("name", "times"), [(FLASH, 13.7), (PRO, 9.5)])
def test_the_cache_is_as_much_smaller_than_v32s_as_the_report_says(name: str, times: float) -> None:
    """At 1M tokens, in the releases' own bytes: what is not rotary in fp8 with a scale a run of numbers, the rest in bf16.

    V3.2: 512 + 4 scales of 4 bytes + 64 x 2, and an index key of 128 with one scale of 4. V4: 448 + 8 scales of a byte + 64 x 2,
    and an index key of 128 in fp4 with a scale of a byte to every 32. (vLLM's fp8_ds_mla layouts of either.)
    """
    v32 = 61 * (512 + 4 * 4 + 64 * 2 + 128 + 4) * MILLION
    entry, key = 448 + 8 + 64 * 2, 128 // 2 + 128 // 32
    held = 0.0
    for _, kind, layers in hp.load_model(name).attention_kinds:
        assert isinstance(kind, CompressedAttention)
        a_request = kind.entries(MILLION) * (entry + (key if kind.indexer else 0)) + kind.window * entry
        held += len(layers) * a_request
    assert v32 / held == pytest.approx(times, rel=0.01)


def cores(name: str, context: int, phase: str = "attention.core", **sizes: int) -> dict[str | None, float]:
    """Seconds by kind of layer, nothing overlapped."""
    layout = {"kvp": 1, "tpa": 1, "dp": 1} | sizes
    layout |= {"tpf": layout["kvp"] * layout["tpa"] * layout["dp"], "ep": 1}
    plan = hp.estimate(name, GB200, hp.Layout(**layout), context_tokens=context, batch=4, overlap="none")
    return {one.group: one.seconds for one in plan.cost.phases if one.name == phase}


@pytest.mark.parametrize("name", [FLASH, PRO])
def test_a_chosen_few_cost_the_same_at_any_context_and_on_any_number_of_kvp_ranks(name: str) -> None:
    at = {context: cores(name, context)["csa"] for context in (8192, 65_536, 1_000_000)}
    assert len({round(seconds, 15) for seconds in at.values()}) == 1
    assert cores(name, 1000)["csa"] < at[8192]
    assert {cores(name, 1_000_000, kvp=kvp)["csa"] for kvp in (2, 8, 64)} == {at[1_000_000]}


def test_what_reads_every_entry_grows_with_the_context_and_kvp_shortens_it() -> None:
    long = [cores(PRO, 1_000_000, kvp=kvp)["hca"] for kvp in (1, 2, 4, 8)]
    assert long == sorted(long, reverse=True)
    assert long[0] > 1.3 * long[-1]
    assert cores(PRO, 1_000_000)["hca"] > cores(PRO, 100_000)["hca"] > cores(PRO, 1000)["hca"]


def test_the_busiest_rank_reads_its_entries_and_the_window() -> None:
    """Bytes of one layer: KVP rank 0 has the fullest shard, and the window besides."""
    for kvp in (1, 4, 8):
        plan = hp.estimate(PRO, GB200, hp.Layout(kvp, 1, kvp, 1), context_tokens=1_000_001, batch=3)
        stored = {one.group: one.stored_bytes / one.layers for one in plan.cost.phases if one.name == "attention.core"}
        entries = 1_000_001 // 128
        mine = sum(1 for entry in range(entries) if entry // 32 % kvp == 0)
        assert stored == {"hca": 3 * (mine + 128) * 512, "csa": 3 * (1024 + 128) * 512}


def test_the_index_scores_one_key_for_every_four_tokens_on_every_rank() -> None:
    def stored(context: int, kvp: int) -> float:
        plan = hp.estimate(FLASH, GB200, hp.Layout(kvp, 1, kvp, 1), context_tokens=context, batch=2)
        return next(one.stored_bytes / one.layers for one in plan.cost.phases if one.name == "attention.index")

    weights = 1024 * 64 * 128 + 4096 * (4 * 128 + 64) * 2
    assert {stored(1_000_003, kvp) for kvp in (1, 4, 64)} == {2 * 250_000 * 128 + weights}
    assert stored(3, 1) == weights


def test_layers_of_a_window_alone_exchange_nothing_and_spread_their_heads() -> None:
    plan = hp.estimate(FLASH, GB200, hp.Layout(8, 1, 8, 1), context_tokens=100_000, batch=1)
    assert ("attention.exchange", "sliding") not in {(one.name, one.group) for one in plan.cost.phases}
    held = plan.ranks[3].other_heads
    name = next(kind for kind, attention, _ in hp.load_model(FLASH).attention_kinds if attention.window and kind == "sliding")
    assert (held[name].query_heads, held[name].output_heads, held[name].kv_heads) == ([24, 32], [24, 32], [0, 1])
    assert plan.copies["window"] == plan.copies["index_keys"] == 8
    assert plan.copies["kv_cache"] == 1


def test_memory_is_entries_dealt_out_and_the_rest_on_every_rank() -> None:
    def held(kvp: int) -> float:
        return hp.estimate(FLASH, GB200, hp.Layout(kvp, 1, kvp, 1), context_tokens=2**17, batch=3).memory.kv_cache_bytes

    entries = 21 * 2**15 * 512 + 20 * 2**10 * 512
    keys, window = 21 * 2**15 * 128, 43 * 128 * 512
    # fp32 values and gates: of 8 tokens 4 numbers a channel (two runs), of 128 tokens 2.
    states = 21 * 8 * 4 * (512 + 128) * 4 + 20 * 128 * 2 * 512 * 4
    for kvp in (1, 8, 32):
        assert held(kvp) == 3 * (entries / kvp + keys + window + states)


def test_short_kernels_of_hyper_connections_and_compressors_are_charged() -> None:
    def small(**changes: Any) -> float:
        model = hp.load_model(compressed_config(compress_ratios=[0, 4, 128, 4], **changes))
        plan = hp.estimate(model, GB200, hp.Layout(1, 1, 1, 1), context_tokens=1000, batch=1)
        return next(one.seconds for one in plan.cost.phases if one.name == "small")

    kernel = hp.load_hardware(GB200).file.kernels.overheads.small_kernel_us * 1e-6
    assert small(hc_mult=None) == pytest.approx(kernel * (5 * 4 + 2 * (2 + 1 + 2)))
    assert small() == pytest.approx(small(hc_mult=None) + kernel * 3 * 8)


# config.json


def test_transformers_own_spelling_is_the_same_model() -> None:
    said = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
    release = compressed_config(compress_ratios=[0, 4, 128, 4, 0])
    own = compressed_config(compress_ratios=None, layer_types=[said[ratio] for ratio in (0, 4, 128, 4)])
    assert hp.load_model(own).sha256 == hp.load_model(release).sha256
    rates = {"compressed_sparse_attention": 8, "heavily_compressed_attention": 64}
    assert {*kinds(hp.load_model(own | {"compress_rates": rates}))} == {1, 8, 64}
    both = release | {"layer_types": own["layer_types"]}
    assert hp.load_model(both).sha256 == hp.load_model(release).sha256
    assert hp.load_model(release | {"compress_ratios": [1, 4, 128, 4, 1, 0]}).sha256 == hp.load_model(release).sha256


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


@pytest.mark.parametrize(
    ("changes", "attention", "experts"),
    [
        ({"expert_dtype": "fp4", "quantization_config": FP8}, "fp8", "mxfp4"),
        ({"expert_dtype": "fp8", "quantization_config": FP8}, "fp8", "fp8"),
        ({"quantization_config": FP8}, "fp8", "fp8"),
        ({"expert_dtype": "fp4"}, "bf16", "bf16"),
        ({"expert_dtype": "fp4", "quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, "nvfp4", "nvfp4"),
    ],
)
def test_experts_have_a_dtype_of_their_own_beside_fp8(changes: dict[str, Any], attention: str, experts: str) -> None:
    precision = hp.load_model(compressed_config(**changes)).precision
    assert (precision.attention, precision.experts, precision.shared) == (attention, experts, attention)


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "too few": ({"compress_ratios": [0, 4, 128]}, "compress_ratios: has 3 entries, but num_hidden_layers is 4"),
    "too many": ({"compress_ratios": [0, 4, 128, 4, 128, 0]}, "compress_ratios: has 6 entries, but num_hidden_layers is 4"),
    "negative": ({"compress_ratios": [0, -4, 128, 4]}, "compress_ratios: got -4; allowed: 0, 1, 4, 128"),
    "three": ({"compress_ratios": [0, 3, 128, 4]}, "compress_ratios: got 3; allowed: 0, 1, 4, 128"),
    "text": ({"compress_ratios": [0, "4", 128, 4]}, "compress_ratios.1: got '4'"),
    "one for all": ({"compress_ratios": 4}, "compress_ratios: got 4"),
    "none": ({"compress_ratios": None}, "compress_ratios: is missing, and DeepseekV4ForCausalLM needs it (or layer_types)"),
    "a million": ({"compress_ratios": [4] * 1_000_000}, "compress_ratios: "),
    "no index_topk": ({"index_topk": None}, "index_topk: is missing"),
    "no index_n_heads": ({"index_n_heads": None}, "index_n_heads: is missing"),
    "no index_head_dim": ({"index_head_dim": None}, "index_head_dim: is missing"),
    "no window": ({"sliding_window": None}, "sliding_window: is missing"),
    "no groups": ({"o_groups": None}, "o_groups: is missing"),
    "groups of part of a head": ({"o_groups": 3}, "o_groups: got 3, but it must divide num_attention_heads (8)"),
    "two KV heads": ({"num_key_value_heads": 2}, "num_key_value_heads: got 2, but all query heads share one vector (1)"),
    "a kind of layer": ({"layer_types": ["full_attention"] * 4}, "layer_types: got 'full_attention'; allowed: sliding_attention"),
    "two stories": (
        {"layer_types": ["sliding_attention"] * 4},
        "layer_types: says sliding_attention of layer 1, but compress_ratios says 4",
    ),
    "a rate of nothing": (
        {"compress_rates": {"full_attention": 4}},
        "compress_rates: got 'full_attention'; allowed: compressed_",
    ),
    "two rates": (
        {"compress_rates": {"compressed_sparse_attention": 8}},
        "compress_rates: says 8 for compressed_sparse_attention, but compress_ratios means 4 by it",
    ),
    "no rate": ({"compress_rates": {"heavily_compressed_attention": 0}}, "compress_rates.heavily_compressed_attention: got 0"),
    "unknown experts": ({"expert_dtype": "fp3", "quantization_config": FP8}, "expert_dtype: got 'fp3'; allowed: fp4, fp8"),
    "no streams": ({"hc_mult": 0}, "hc_mult: got 0"),
    "V4.1's shared caches": (
        {"kv_source_layer_ids": [1, 3]},
        "kv_source_layer_ids: DeepseekV4ForCausalLM with layers that",
    ),
    "V4.1's n-grams": ({"engram_layer_ids": [1]}, "engram_layer_ids: DeepseekV4ForCausalLM with memories of n-grams"),
    "V4.1 itself": (
        {"architectures": ["DeepseekV41ForCausalLM"], "kv_source_layer_ids": [1, 3]},
        "kv_source_layer_ids says layers that attend to other layers' caches",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_configs_are_refused_in_one_sentence_that_names_the_key(name: str) -> None:
    changes, said = HOSTILE[name]
    with pytest.raises(hp.InputError) as refused:
        hp.load_model(compressed_config(**changes))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 2000


def test_other_architectures_are_still_refused_by_the_key() -> None:
    with pytest.raises(hp.InputError, match="hc_mult: DeepseekV3ForCausalLM with residual streams that are mixed"):
        hp.load_model(deepseek_config(hc_mult=4))
    with pytest.raises(hp.InputError, match="compress_ratios: DeepseekV3ForCausalLM with attention over compressed tokens"):
        hp.load_model(deepseek_config(compress_ratios=[0, 4, 128, 4]))


# on emulated ranks

LAYOUTS = [
    hp.Layout(1, 1, 1, 1),
    hp.Layout(4, 1, 2, 2),
    hp.Layout(2, 2, 1, 8, dp=2),
    hp.Layout(2, 1, 2, 1, pp=2),
    hp.Layout(8, 1, 1, 8),
    hp.Layout(1, 8, 8, 1),
    hp.Layout(2, 1, 1, 6, dp=3),
]
CONTEXTS = (9, 100, 3000)
"""Fewer tokens than the window has, fewer than make an entry of 128, and more than enough for both."""


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_emulated_ranks_give_what_one_rank_gives_and_count_what_is_charged(layout: hp.Layout, context: int) -> None:
    model = hp.load_model(compressed_config())
    found = verify(hp.estimate(model, GB200, layout, context_tokens=context, batch=7), case(model, context))
    assert found.holds, found.failures
    assert found.largest_error is not None
    assert found.largest_error < 1e-10
    assert {one.phase for one in found.counted} >= {
        "attention.core",
        "attention.index",
        "attention.qkv",
        "attention.out",
        "memory",
    }


@pytest.mark.parametrize("seed", range(20))
def test_any_small_model_holds_on_any_layout(seed: int) -> None:
    rnd = random.Random(seed)
    layers, heads = rnd.randint(1, 4), rnd.choice([4, 6, 8, 12])
    model = hp.load_model(
        compressed_config(
            num_hidden_layers=layers,
            num_attention_heads=heads,
            o_groups=rnd.choice([groups for groups in (1, 2, 3, 4, 6) if heads % groups == 0]),
            compress_ratios=[rnd.choice([0, 4, 128]) for _ in range(layers)],
            index_topk=rnd.choice([8, 64, 2048]),
            sliding_window=rnd.choice([3, 32, 500]),
        )
    )
    layout, block = rnd.choice(sound_layouts(model, 8)), rnd.choice([1, 3, 32])
    context, batch = rnd.choice([1, 2, 7, 33, 129, 1000, 20_001]), rnd.randint(1, 12)
    plan = hp.estimate(model, GB200, layout, context_tokens=context, batch=batch, kv_block_tokens=block)
    found = verify(plan, pose(model, hp.load_hardware(GB200), Workload(context, kv_block_tokens=block)))
    assert found.holds, found.failures


@pytest.mark.parametrize("layout", [hp.Layout(6, 1, 6, 1), hp.Layout(2, 3, 1, 6), hp.Layout(3, 1, 3, 1)], ids=str)
def test_gpus_with_half_the_heads_of_an_output_group_or_with_whole_ones_add_up(layout: hp.Layout) -> None:
    model = hp.load_model(compressed_config(num_attention_heads=12, o_groups=3, vocab_size=996, num_hidden_layers=3))
    found = verify(hp.estimate(model, GB200, layout, context_tokens=3000, batch=3), case(model, 3000))
    assert found.holds, found.failures


def test_output_groups_are_not_split_unevenly() -> None:
    model = hp.load_model(compressed_config(num_attention_heads=12, o_groups=6))
    with pytest.raises(hp.InputError, match="kvp 4 x tpa 1 must divide the 6 groups of output heads of model or be"):
        hp.estimate(model, GB200, hp.Layout(4, 1, 4, 1), context_tokens=3000, batch=3)
    found = hp.plan(model, GB200, context_tokens=3000, gpus=4, objective="interactivity")
    assert found.layout.kvp * found.layout.tpa in (1, 2)


def case(model: hp.Model, context: int) -> Any:
    return pose(model, hp.load_hardware(GB200), Workload(context))


@pytest.mark.parametrize("engine", ["trtllm", "vllm", "sglang"])
def test_every_engines_exchange_gives_the_same_and_says_what_is_not_documented(engine: str, gb200: Hardware) -> None:
    model, work = hp.load_model(compressed_config()), Workload(3000, engine=engine)
    plan = hp.estimate(model, gb200, hp.Layout(4, 1, 1, 4), context_tokens=3000, batch=5, engine=engine)
    found = verify(plan, posed(model, gb200, work))
    assert found.holds, found.failures
    assert any("DeepSeek-V4" in said and "try" in said for said in plan.warnings)
    assert not any("sliding windows" in said for said in plan.warnings)
    alone = hp.estimate(model, gb200, hp.Layout(1, 4, 1, 4), context_tokens=3000, batch=5, engine=engine, kv_block_tokens=256)
    assert not any("DeepSeek-V4" in said for said in alone.warnings)
    older = hp.estimate(
        model, "h200-hgx", hp.Layout(1, 4, 1, 4), context_tokens=3000, batch=5, engine=engine, kv_block_tokens=256
    )
    assert any("Blackwell" in said for said in older.warnings) == (engine == "trtllm")


def twice(self: CompressedHalf, rank: Any) -> bool:
    return True


def nowhere(self: CompressedHalf, rank: Any) -> bool:
    return not self._split()


def late(attention: CompressedAttention, kept: Any, first: int) -> Any:
    return compression.pooled(attention, kept, first + 1)


def one_run(attention: CompressedAttention, kept: Any, first: int) -> Any:
    """Entries that forget the run before their own."""
    kept = kept.copy()
    kept[:, : kept.shape[1] - attention.ratio, 1] = -np.inf
    return compression.pooled(attention, kept, first)


def fewer(query: Any, weights: Any, keys: Any, top_k: int) -> Any:
    return CHOSEN(query, weights, keys, top_k)[:, 1:]


CHOSEN = mathematics.chosen
WRONG: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a window that every rank adds": lambda patch: patch.setattr(CompressedHalf, "_attends_to_window", twice),
    "a window that no rank adds": lambda patch: patch.setattr(CompressedHalf, "_attends_to_window", nowhere),
    "entries rotated by another position": lambda patch: patch.setattr(compressed, "pooled", late),
    "entries without the run before": lambda patch: patch.setattr(compressed, "pooled", one_run),
    "one entry too few": lambda patch: patch.setattr(mathematics, "chosen", fewer),
}


@pytest.mark.parametrize("name", WRONG)
def test_ranks_that_do_something_else_are_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = hp.load_model(compressed_config())
    plan = hp.estimate(model, GB200, hp.Layout(4, 1, 4, 1), context_tokens=3000, batch=4)
    assert verify(plan, case(model, 3000)).holds
    WRONG[name](monkeypatch)
    assert any("attention heads" in said for said in verify(plan, case(model, 3000)).failures)


def test_ranks_that_keep_all_entries_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = hp.load_model(compressed_config())
    plan = hp.estimate(model, GB200, hp.Layout(4, 1, 4, 1), context_tokens=3000, batch=4)
    monkeypatch.setattr("helixplan.append.AppendSchedule.owner", lambda self, position: position * 0)
    assert not verify(plan, case(model, 3000)).holds


def test_full_size_attention_holds_for_entries(gb200: Hardware) -> None:
    model = hp.load_model(FLASH)
    plan = hp.plan(model, gb200, context_tokens=1_000_000, gpus=8, pins={"kvp": 8})
    found = verify(plan, pose(model, gb200, Workload(1_000_000)), full_size=True)
    assert found.holds, found.failures


def test_pooled_entries_are_the_softmax_weighted_means_of_their_tokens() -> None:
    """By hand: channel by channel, the values of 4 tokens and of the 4 before, weighed by the exponentials of their gates."""
    attention = CompressedAttention(4, 8, 2, 8, 2, 4, ratio=4, indexer=Indexer(1, 2, 1))
    inputs = np.random.default_rng(0).standard_normal((1, 8, 2, 2, 2))
    (found,) = compression.pooled_before(attention, inputs, np.array([1]))[0]
    mean = []
    for channel in range(2):
        tokens = [(inputs[0, t, 0, 0, channel], inputs[0, t, 1, 0, channel]) for t in range(4)]
        tokens += [(inputs[0, t, 0, 1, channel], inputs[0, t, 1, 1, channel]) for t in range(4, 8)]
        weights = [np.exp(gate) for _, gate in tokens]
        mean.append(sum(w * value for w, (value, _) in zip(weights, tokens, strict=True)) / sum(weights))
    x, y = np.array(mean) / np.sqrt(np.mean(np.square(mean)) + 1e-12)
    assert found == pytest.approx([x * np.cos(4) - y * np.sin(4), x * np.sin(4) + y * np.cos(4)])


# what people see


def test_models_are_told_in_words(main: Main) -> None:
    code, out, _ = main("models", "show", FLASH)
    assert code == 0
    assert "CSA 64 1/4" in out
    assert "HCA 64 1/128" in out
    assert "10.49 MB" in out
    code, out, _ = main("models", "show", PRO, "--format", "json")
    assert '"ratio": 128' in out


def test_maps_say_that_entries_are_dealt_out(main: Main, tmp_path: Path) -> None:
    plan = str(tmp_path / "plan.json")
    assert main("plan", FLASH, GB200, "--context", "1M", "--gpus", "8", "--pin", "kvp=8", "--output", plan)[0] == 0
    assert "every 8th block of 32 entries" in main("draw", plan)[1]
    assert main("report", plan, "--output", str(tmp_path / "page.html"))[0] == 0
    assert "every 8th block of 32 entries from block 3 on" in (tmp_path / "page.html").read_text()


def test_kvp_pays_where_one_user_waits_and_not_where_many_share() -> None:
    """The cache is a tenth of V3.2's, so at 1M tokens it is the FFN that is worth sharing: KVP only frees GPUs for it."""
    fast = hp.plan(PRO, "b200-hgx", context_tokens=1_000_000, max_gpus=8, objective="interactivity")
    many = hp.plan(PRO, "b200-hgx", context_tokens=1_000_000, ttl_s=0.02)
    assert (fast.layout.kvp, many.layout.kvp) == (8, 1)
    step = Step(hp.load_model(PRO), hp.load_hardware("b200-hgx"), many.layout.layout, many.layout.batch, context=1_000_000)
    assert many.cost.ttl_s == pytest.approx(step.ttl_s, rel=1e-9)
