"""Emulated ranks: exact on every layout, counted as charged, and sharp enough to see a plan that is wrong."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import helixplan as hp
from helixplan.cost.ffn import MOE_WAYS
from helixplan.cost.score import score_case
from helixplan.evidence.coverage import findings
from helixplan.evidence.emulation.expectations import expectations
from helixplan.evidence.emulation.full_size import full_size_error
from helixplan.evidence.emulation.ledger import Ledger
from helixplan.evidence.emulation.ranks import WrongLayout
from helixplan.evidence.emulation.run import TOLERANCE, Emulation
from helixplan.evidence.emulation.scaling import scale_down
from helixplan.evidence.verify import Verification, compare, verify
from helixplan.plans import Plan
from helixplan.replay import case_of
from tests.conftest import Main, Run, changed, deepseek_config, llama_config
from tests.reference import sound_layouts

MODELS = "deepseek-r1 deepseek-v3 kimi-k2 llama-3.1-405b llama-3.1-70b qwen3-235b-a22b qwen3-32b mixtral-8x22b gpt-oss-120b "
MODELS += "deepseek-v3.2 gemma-4-26b-a4b kimi-k3 nemotron-3-nano qwen3.5-397b-a17b deepseek-v4-flash deepseek-v4-pro"


def checked(plan: Plan, model: hp.Model, hardware: hp.Hardware, **how: Any) -> Verification:
    return verify(plan, case_of(plan, model, hardware), **how)


@pytest.mark.parametrize("name", MODELS.split())
def test_the_best_plan_of_every_bundled_model_holds(name: str, gb200: hp.Hardware) -> None:
    model = hp.load_model(name)
    plan = hp.plan(model, gb200, context_tokens=100_000, ttl_s=0.05)
    found = checked(plan, model, gb200)
    assert found.failures == []
    assert found.largest_error is not None
    assert found.largest_error <= TOLERANCE
    assert {(one.phase, one.quantity) for one in found.counted} > {
        ("attention.core", "stored_bytes"),
        ("attention.core", "flops"),
    }


def small_model(rnd: random.Random) -> hp.Model:
    """GQA, MQA, MLA with and without query ranks, sliding windows; dense, MoE, shared experts."""
    layers, heads = rnd.randint(1, 5), rnd.choice([4, 6, 8, 12])
    common: dict[str, Any] = {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_size": 256,
        "tie_word_embeddings": rnd.random() < 0.5,
        "vocab_size": rnd.choice([997, 1000]),
    }
    kind = rnd.choice(["gqa", "window", "moe", "mla", "mla without q-lora"])
    if kind.startswith("mla"):
        return hp.load_model(
            deepseek_config(
                **common,
                q_lora_rank=None if "without" in kind else 64,
                first_k_dense_replace=rnd.randint(0, layers),
                n_routed_experts=rnd.choice([4, 7, 12]),
                n_shared_experts=rnd.randint(0, 2),
            )
        )
    common |= {"num_key_value_heads": rnd.choice([k for k in (1, 2, 3, 4, heads) if heads % k == 0]), "head_dim": 64}
    common["intermediate_size"] = rnd.choice([1024, 1000, 5])
    experts = {"num_local_experts": rnd.choice([4, 6]), "num_experts_per_tok": 2}
    if kind == "gqa":
        return hp.load_model(llama_config(**common))
    if kind == "moe":
        return hp.load_model(llama_config(architectures=["MixtralForCausalLM"], **common, **experts))
    types = [rnd.choice(["sliding_attention", "full_attention"]) for _ in range(layers)]
    return hp.load_model(
        llama_config(architectures=["GptOssForCausalLM"], sliding_window=128, layer_types=types, **common, **experts)
    )


def random_plan(seed: int, hardware: hp.Hardware) -> tuple[hp.Model, Plan]:
    rnd = random.Random(seed)
    model = small_model(rnd)
    laid = rnd.choice(sound_layouts(model, 12))
    layout = hp.Layout(
        *(laid.kvp, laid.tpa, laid.tpf, laid.ep, laid.dp, laid.pp),
        exchange=rnd.choice(["auto", "latent", "value"]),
        overlap_chunks=rnd.choice([None, 1, 2, 3, 9]),
    )
    plan = hp.estimate(
        model,
        hardware,
        layout,
        context_tokens=rnd.choice([1, 3, 33, 500, 20_001]),
        batch=rnd.choice([1, 2, 5, 17, 50]),
        kv_block_tokens=rnd.choice([1, 16, 32]),
        floor_scale=rnd.choice([0.0, 0.4, 1.0]),
    )
    return model, plan


SEEDS = 240


@pytest.mark.parametrize("part", range(8))
def test_random_layouts_of_random_models_are_exact_and_counted_as_charged(part: int, gb200: hp.Hardware) -> None:
    """Contexts that leave shards empty or uneven, batches that chunks do not divide, logits of 1e4."""
    for seed in range(part, SEEDS, 8):
        model, plan = random_plan(seed, gb200)
        case = case_of(plan, model, gb200)
        scaled = scale_down(plan, case, context=(None, 1, 2, 7)[seed // 8 % 4])
        run = Emulation(plan, scaled, seed=seed, sharpness=1e4 if seed % 3 == 0 else 1.0)
        run.run()
        assert run.largest_error <= TOLERANCE, (seed, plan.layout)
        wrong = [one for step in range(run.steps) for one in compare(run, step) if not one.holds]
        assert wrong == [], (seed, plan.layout, wrong[:3])
        assert findings(plan, model) == [], seed
        if plan.layout.kvp > 1 and seed // 8 % 4 == 0 and scaled.case.workload.context_tokens < plan.workload.context_tokens:
            first = scaled.case.workload.context_tokens - 1
            schedule = hp.AppendSchedule(plan.layout.kvp, scaled.case.workload.kv_block_tokens)
            assert len({int(schedule.owner(first + step)) for step in range(run.steps)}) > 1, seed


def test_the_random_layouts_hold_what_has_to_be_tried(gb200: hp.Hardware) -> None:
    plans = [random_plan(seed, gb200)[1] for seed in range(SEEDS)]
    layouts = [plan.layout for plan in plans]
    assert any(one.kvp in (3, 6, 12) for one in layouts)
    assert any(one.dp > 1 and one.pp > 1 for one in layouts)
    assert any(one.overlap_chunks > 1 and one.batch % one.overlap_chunks for one in layouts)
    assert {one.exchange for one in layouts} == {"latent", "value"}


WAITING = [hp.Layout(4, 2, 2, 1), hp.Layout(8, 1, 1, 1), hp.Layout(2, 2, 1, 2), hp.Layout(2, 2, 2, 2, 2)]


@pytest.mark.parametrize(("layout", "experts"), [*((one, 4) for one in WAITING), *((one, 0) for one in WAITING[:2])])
def test_layouts_in_which_gpus_wait_for_the_ffn_are_exact_too(layout: hp.Layout, experts: int, gb200: hp.Hardware) -> None:
    moe = {"architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2} if experts else {}
    model = hp.load_model(llama_config(**moe))
    plan = hp.estimate(model, gb200, layout, context_tokens=777, batch=5)
    assert checked(plan, model, gb200).failures == []


@pytest.mark.parametrize("way", MOE_WAYS)
def test_every_way_of_summing_experts_is_exact_and_counted(way: str, gb200: hp.Hardware) -> None:
    model = hp.load_model(deepseek_config(n_routed_experts=12, n_shared_experts=1))
    layout = hp.Layout(kvp=2, tpa=1, tpf=2, ep=4, dp=4, overlap_chunks=1)
    plan = hp.estimate(model, gb200, layout, context_tokens=999, batch=11)
    kind = next(name for name in plan.collectives if name.endswith("moe"))
    plan = plan.model_copy(update={"collectives": plan.collectives | {kind: way}})
    case = case_of(plan, model, gb200)
    run = Emulation(plan, scale_down(plan, case))
    run.run()
    assert [one for step in range(3) for one in compare(run, step) if not one.holds] == []


def test_forcing_the_way_that_is_taken_changes_nothing_and_no_other_costs_less(r1: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.estimate(r1, gb200, hp.Layout(8, 1, 1, 64, 8), context_tokens=1_000_000, batch=72)
    case, row = case_of(plan, r1, gb200), hp.Layouts.of(hp.Layout(8, 1, 1, 64, 8))
    free = score_case(case, row, 72).ttl_s[0]
    assert score_case(replace(case, ways=plan.collectives), row, 72).ttl_s[0] == pytest.approx(free, rel=1e-12)
    for way in MOE_WAYS:
        assert score_case(replace(case, ways={"ffn.reduce moe": way}), row, 72).ttl_s[0] >= free


CASES = [(8, 2, 6), (256, 8, 64), (256, 8, 256), (128, 8, 16), (128, 4, 128), (8, 2, 2), (8, 2, 8), (384, 8, 36), (12, 3, 5)]


@pytest.mark.parametrize(("experts", "per_token", "ep"), CASES)
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_expected_loads_lie_within_their_bound_of_what_ranks_count(
    experts: int, per_token: int, ep: int, batch: int, gb200: hp.Hardware
) -> None:
    config = deepseek_config(
        num_attention_heads=256, n_routed_experts=experts, num_experts_per_tok=per_token, num_hidden_layers=2, n_shared_experts=0
    )
    model = hp.load_model(config)
    plan = hp.estimate(model, gb200, hp.Layout(1, 1, 1, ep, ep), context_tokens=50, batch=batch)
    run = Emulation(plan, scale_down(plan, case_of(plan, model, gb200), batch=batch))
    found = list(expectations(run))
    assert len(found) >= 3
    assert [one for one in found if not one.holds] == []


@pytest.mark.parametrize("way", ["dispatch one-shot", "dispatch two-shot"])
def test_what_dispatch_sends_lies_within_its_bound(way: str, gb200: hp.Hardware) -> None:
    model = hp.load_model(deepseek_config(num_attention_heads=16, n_routed_experts=24, n_shared_experts=1))
    layouts = (hp.Layout(2, 2, 2, 8, 4, overlap_chunks=1), hp.Layout(1, 1, 3, 4, 12), hp.Layout(2, 4, 4, 8, 4, overlap_chunks=1))
    for layout, batch in zip(layouts, (29, 36, 5), strict=True):
        plan = hp.estimate(model, gb200, layout, context_tokens=99, batch=batch)
        plan = plan.model_copy(update={"collectives": plan.collectives | {"ffn.reduce moe": way}})
        run = Emulation(plan, scale_down(plan, case_of(plan, model, gb200), batch=batch))
        found = {one.what: one for one in expectations(run)}
        assert {"ffn.gather, bytes sent", "ffn.reduce, bytes sent"} < {*found}
        assert [one for one in found.values() if not one.holds] == []


@pytest.mark.parametrize("phase", ["ffn.experts", "ffn.gather", "ffn.reduce, combine"])
def test_counts_that_are_off_are_seen_though_they_are_expectations(
    phase: str, r1_plan: Plan, r1: hp.Model, gb200: hp.Hardware, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Ledger.add

    def twice(self: Ledger, name: str, kind: str, rank: int, **amounts: float) -> None:
        add(self, name, kind, rank, **{key: value * (2 if name == phase else 1) for key, value in amounts.items()})

    monkeypatch.setattr(Ledger, "add", twice)
    run = Emulation(r1_plan, scale_down(r1_plan, case_of(r1_plan, r1, gb200)))
    assert any(not one.holds for one in expectations(run, draws=30))


@pytest.fixture(scope="module")
def laid(gb200: hp.Hardware) -> tuple[hp.Model, Plan]:
    """KVP 2 x TPA 2 x DP 2, TPF 2 x EP 4, two stages: every collective there is."""
    model = hp.load_model(llama_config(architectures=["MixtralForCausalLM"], num_local_experts=8, num_experts_per_tok=2))
    pins = {"kvp": 2, "tpa": 2, "dp": 2, "pp": 2, "tpf": 2, "ep": 4}
    plan = hp.plan(model, gb200, context_tokens=50_000, batch=6, pins=pins, ttl_s=0.05)
    assert checked(plan, model, gb200).failures == []
    return model, plan


def swap(groups: list[list[int]]) -> list[list[int]]:
    """The second members of the first two groups change places."""
    groups[0][1], groups[1][1] = groups[1][1], groups[0][1]
    return groups


def reordered_stages(ranks: list[Any]) -> list[Any]:
    first, second = ranks[0]["layers"], ranks[-1]["layers"]
    return [rank | {"layers": second if rank["stage"] == 0 else first} for rank in ranks]


def piled_layers(ranks: list[Any]) -> list[Any]:
    return [rank | {"layers": [0, 3] if rank["stage"] == 0 else [3, 4]} for rank in ranks]


def piled_vocabulary(ranks: list[Any]) -> list[Any]:
    cuts = [0, *range(993, 1000), 1000]
    return [rank | {"vocabulary": cuts[rank["rank"] % 8 :][:2]} for rank in ranks]


def swapped(ranks: list[Any], name: str, one: int, other: int) -> list[Any]:
    ranks[one][name], ranks[other][name] = ranks[other][name], ranks[one][name]
    return ranks


MUTATIONS: dict[str, tuple[str, Any, str]] = {
    "a head held twice": ("ranks/1/output_heads", [0, 2], "rank 1: output_heads"),
    "a head held by nobody": (
        "ranks/3/output_heads",
        [7, 8],
        "rank 3: output_heads 6..6, just before its own, are held by nobody",
    ),
    "too few query heads": ("ranks/2/query_heads", [4, 7], "rank 2"),
    "the wrong KV head": ("ranks/2/kv_heads", [0, 1], "rank 2: kv_heads"),
    "swapped exchange groups": ("groups/attention_exchange", swap, "groups.attention_exchange"),
    "swapped expert groups": ("groups/expert", swap, "groups.expert"),
    "swapped TPF groups": ("groups/ffn_tensor", swap, "groups.ffn_tensor"),
    "a group left out": ("groups/attention_reduce", lambda g: g[1:], "groups.attention_reduce does not bring [0, 1, 2, 3]"),
    "a pipeline that crosses": ("groups/pipeline", lambda g: swap(g[::4]) + g[1:4] + g[5:], "groups.pipeline"),
    "a stale block owner": ("ranks/1/kv_blocks", "rank 0 of 2, 32 tokens", "rank 1: kv_blocks of owner 0 are rank 0's already"),
    "another block size": ("ranks/1/kv_blocks", "rank 1 of 2, 16 tokens", "rank 1: kv_blocks says"),
    "no block owner": ("ranks/1/kv_blocks", "all of it", "rank 1: kv_blocks"),
    "an expert missing": ("ranks/2/experts", [2, 3], "expert 3"),
    "an expert held twice": ("ranks/2/experts", [1, 4], "expert 1"),
    "a slice of an expert missing": ("ranks/0/ffn_columns/moe", lambda c: [c[0], c[1] - 1], "columns 511..511"),
    "vocabulary missing": ("ranks/7/vocabulary", [875, 999], "vocabulary 999..999"),
    "a layer run twice": ("ranks/8/layers", [1, 4], "rank 9: layers"),
    "two ranks in one place": ("ranks/1/kvp", 0, "rank 1: rank 0 has its place"),
    "a rank too few": ("ranks", lambda r: r[:-1], "ranks has 15 entries for 16 GPUs"),
    "memory understated": ("memory/total_bytes", lambda b: b * 0.9, "memory.total_bytes"),
    "a rank's memory understated": ("ranks/5/memory_bytes", lambda b: b - 4096, "rank 5: memory_bytes"),
    "TTL understated": ("cost/ttl_s", lambda s: s * 0.99, "cost.ttl_s"),
    "a phase's bytes understated": ("cost/phases/1/hbm_bytes", lambda b: b / 2, "hbm_bytes"),
    "TPF x EP not the GPUs": ("layout/ep", 2, "same-gpus-both-phases"),
    "more GPUs than ranks": ("layout/gpus", 32, "layout.gpus"),
    "another batch": ("layout/batch", 7, "cost.ttl_s"),
    "a TTL over its limit": ("workload/ttl_limit_s", 1e-6, "a new search finds no layout"),
    "a better proof": ("proof/objective", lambda v: v * 2, "proof.objective"),
    "another append schedule": ("kv_append/next_rank", lambda r: 1 - r, "kv_append.next_rank"),
    "an older cost model": ("cost_model_version", "1.0", "plan anew"),
    "stages in another order": ("ranks", reordered_stages, "rank 0: layers"),
    "layers piled on one stage": ("ranks", piled_layers, "rank 0: layers"),
    "vocabulary piled on one rank": ("ranks", piled_vocabulary, "rank 0: vocabulary"),
    "another label": ("ranks/0/ep", 3, "rank 0: ep"),
    "experts swapped": ("ranks", lambda r: swapped(r, "experts", 0, 2), "rank 0: experts"),
    "owners swapped": ("ranks", lambda r: swapped(r, "kv_blocks", 0, 1), "rank 0: kv_blocks"),
    "a group in another order": ("groups/expert", lambda g: [one[::-1] for one in g], "groups.expert"),
    "a group of nobody": ("groups/expert", lambda g: [*g, []], "groups.expert"),
    "an unknown group": ("groups", lambda g: {**g, "foo": [[0, 99999]]}, "groups.foo"),
    "phases in another order": ("cost/phases", lambda p: p[::-1], "cost.phases"),
    "another bound": ("proof/bound", lambda b: b * 3, "proof.bound"),
    "a proof that is a guess": ("proof/status", "guess", "proof.status"),
    "no proof": ("proof", None, "proof and broken_rules"),
    "other pins": ("workload/pins", {"kvp": 1}, "layout: "),
    "another number of GPUs asked for": ("workload/gpus", 8, "new search"),
    "weights' dtypes": ("workload/weight_dtypes/experts", "nvfp4", "workload.weight_dtypes.experts"),
    "copies": ("copies/experts", 2.0, "copies.experts"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_plan_that_is_wrong_is_caught_with_rank_and_tensor_named(
    name: str, laid: tuple[hp.Model, Plan], gb200: hp.Hardware
) -> None:
    path, value, said = MUTATIONS[name]
    found = checked(Plan.from_json(changed(laid[1].to_json(), path, value)), laid[0], gb200)
    assert not found.holds
    assert any(said in failure for failure in found.failures), found.failures


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("alternatives/1/tokens_per_s_per_gpu", 9e9, "alternatives[1].tokens_per_s_per_gpu"),
        ("alternatives/0/layout/gpus", 1, "alternatives[0].layout.gpus"),
        ("alternatives", [], "alternatives has 0 entries, asked again it has 5"),
        ("alternatives", lambda options: options[::-1], "alternatives[0]."),
        ("layout/batch", 71, "but a new search finds"),
        ("ranks/0/shared_columns/moe", [0, 255], "rank 0: shared_columns.moe"),
    ],
)
def test_a_search_is_repeated_and_every_figure_of_it_compared(
    path: str, value: Any, said: str, r1_plan: Plan, r1: hp.Model, gb200: hp.Hardware
) -> None:
    found = checked(Plan.from_json(changed(r1_plan.to_json(), path, value)), r1, gb200)
    assert any(said in failure for failure in found.failures), found.failures


SEEN_BY_RUNNING = (
    "a head held twice",
    "swapped exchange groups",
    "swapped TPF groups",
    "too few query heads",
    "a stale block owner",
    "an expert missing",
    "the wrong KV head",
    "a slice of an expert missing",
    "vocabulary missing",
    "a pipeline that crosses",
)


@pytest.mark.parametrize("name", SEEN_BY_RUNNING)
def test_running_the_ranks_sees_it_without_looking_at_the_plan(
    name: str, laid: tuple[hp.Model, Plan], gb200: hp.Hardware
) -> None:
    plan = laid[1].model_copy(update={"collectives": laid[1].collectives | {"ffn.reduce moe": "dispatch one-shot"}})
    broken = Plan.from_json(changed(plan.to_json(), *MUTATIONS[name][:2]))
    with pytest.raises(WrongLayout, match=r"^rank \d+: "):
        Emulation(broken, scale_down(broken, case_of(broken, laid[0], gb200))).run()


def test_a_merge_without_log_sum_exp_weights_is_caught(laid: tuple[hp.Model, Plan], gb200: hp.Hardware) -> None:
    found = checked(laid[1], laid[0], gb200, merge=lambda outputs, lse: outputs.mean(axis=0))
    assert any(failure.startswith("rank 0: attention heads of layer 0 is off by") for failure in found.failures)


def test_attention_at_full_head_sizes_is_exact(r1: hp.Model, r1_plan: Plan, gb200: hp.Hardware) -> None:
    qwen = hp.load_model("qwen3-32b")
    plan = hp.estimate(qwen, gb200, hp.Layout(4, 2, 8, 1), context_tokens=100_000, batch=1)
    for model, one in ((r1, r1_plan), (qwen, plan)):
        attention = model.attention_kinds[0][1]
        assert full_size_error(one, attention) <= TOLERANCE
        assert full_size_error(one, attention, 5000, merge=lambda outputs, lse: outputs.mean(axis=0)) > 1e-3
        stale = Plan.from_json(changed(one.to_json(), "ranks/1/kv_blocks", one.ranks[0].kv_blocks))
        assert full_size_error(stale, attention, 5000) > 1e-3


def test_64_ranks_of_deepseek_r1_verify_quickly_in_little_memory(tmp_path: Path, r1_plan: Plan) -> None:
    (tmp_path / "plan.json").write_text(r1_plan.to_json())
    start = time.perf_counter()
    command = [sys.executable, "-m", "helixplan", "verify", "plan.json", "--full-size-attention", "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 20
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000
    told = json.loads(done.stdout)
    assert (told["ranks"], told["holds"]) == (64, True)
    assert max(told["largest_error"], told["full_size_error"]) <= TOLERANCE


def test_verify_exits_1_and_names_what_is_wrong(cli: Run, tmp_path: Path, gb200: hp.Hardware) -> None:
    plan = hp.plan("llama-3.1-70b", gb200, context_tokens=100_000, gpus=8)
    (tmp_path / "good.json").write_text(plan.to_json())
    good = cli("verify", "good.json")
    assert (good.returncode, good.stderr) == (0, "")
    assert "verdict        holds" in good.stdout
    (tmp_path / "bad.json").write_text(changed(plan.to_json(), "ranks/3/kv_heads", [0, 1]))
    bad = cli("verify", "bad.json")
    assert bad.returncode == 1
    assert bad.stderr.startswith("error: rank 3: kv_heads are 0..0, but its query heads read 3..3")


def test_a_plan_of_a_model_of_ones_own_needs_its_file(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(llama_config()))
    made = cli("plan", "mine.json", "gb200-nvl72", "--context", "10k", "--gpus", "2", "--output", "plan.json")
    assert made.returncode == 0, made.stderr
    without = cli("verify", "plan.json")
    assert without.returncode == 2
    assert "name its file with --model" in without.stderr
    assert cli("verify", "plan.json", "--model", "mine.json").returncode == 0
    other = cli("verify", "plan.json", "--model", "qwen3-32b")
    assert other.returncode == 2
    assert "model.sha256: the plan was made for another mine" in other.stderr


PLAN_READERS = [
    ("verify",),
    ("draw",),
    ("diff",),
    ("explain",),
    ("report", "--format", "markdown"),
    ("export", "--engine", "vllm"),
]


def hostile(whole: str) -> dict[str, str | bytes]:
    """Files that are no plan, by what is wrong with them."""
    return {
        "truncated": whole[: len(whole) // 2],
        "empty": "",
        "a list": "[]",
        "not UTF-8": b"\xff\xfe{}",
        "nested": '{"a":' * 100_000 + "1" + "}" * 100_000,
        "NaN": changed(whole, "cost/ttl_s", float("nan")),
        "a huge number": changed(whole, "cost/ttl_s", 1e99).replace("1e+99", "1e999"),
        "text for a number": changed(whole, "layout/kvp", "8"),
        "a fraction for a whole number": changed(whole, "layout/kvp", 2.5),
        "truth for a number": changed(whole, "layout/batch", True),
        "null": changed(whole, "cost", None),
        "a list for an object": changed(whole, "layout", [1]),
        "an unknown key": changed(whole, "surprise", 1),
        "a newer schema": changed(whole, "schema_version", "2.0"),
        "no schema": changed(whole, "schema_version", 1),
        "zero GPUs": changed(whole, "layout/kvp", 0),
        "a billion GPUs": changed(whole, "layout/kvp", 10**9),
        "a huge batch": changed(whole, "layout/batch", 10**12),
        "a negative context": changed(whole, "workload/context_tokens", -5),
        "an unknown dtype": changed(whole, "workload/kv_dtype", "fp3"),
        "an unknown family": changed(whole, "workload/family", "ring"),
    }


@pytest.mark.parametrize("command", PLAN_READERS, ids=lambda command: command[0])
def test_a_file_that_is_no_plan_is_refused_in_one_sentence(
    command: tuple[str, ...], tmp_path: Path, gb200: hp.Hardware, main: Main
) -> None:
    plan = hp.plan("llama-3.1-70b", gb200, context_tokens=100_000, gpus=8)
    for name, content in hostile(plan.to_json()).items():
        file = tmp_path / f"{name}.json"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        code, out, err = main(*command, str(file), *(str(file) for _ in range(command == ("diff",))))
        assert (code, out) == (2, ""), (name, err)
        assert err.startswith(f"error: {file}"), name
        assert err.count("\n") == 1, (name, err)


def test_a_file_of_gigabytes_is_refused_unread(cli: Run, tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as file:
        file.truncate(3_000_000_000)
    refused = cli("verify", "huge.json")
    assert refused.returncode == 2
    assert refused.stderr == "error: huge.json: is larger than 64 MB, more than any such file needs\n"


def test_a_plan_of_many_gpus_stays_small_and_opens_fast(r1: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.estimate(r1, gb200, hp.Layout(16, 1, 4, 128, 32, overlap_chunks=1), context_tokens=1_000_000, batch=512)
    text = plan.to_json()
    assert len(plan.ranks) == 512
    assert len(text) < 400_000
    start = time.perf_counter()
    assert Plan.from_json(text) == plan
    assert time.perf_counter() - start < 1


def test_draw_shows_every_gpu_in_both_phases(cli: Run, tmp_path: Path, r1_plan: Plan) -> None:
    (tmp_path / "plan.json").write_text(r1_plan.to_json())
    shown = cli("draw", "plan.json")
    assert shown.returncode == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80
    attention, _, ffn = shown.stdout.partition("one layer")[0].partition("FFN (")
    for half in (attention, ffn):
        cells = [int(cell) for line in half.splitlines() if "|" in line for cell in line.split("|")[1].split()]
        assert cells == list(range(64))
    for name in ("map.svg", "map.html"):
        assert cli("draw", "plan.json", "--output", name).returncode == 0
        drawn = (tmp_path / name).read_text()
        assert drawn.count("<title>GPU ") == 128
        assert "http" not in drawn.replace("http://www.w3.org/2000/svg", "")
    assert cli("draw", "plan.json", "--output", "map.svg").returncode == 2
    assert cli("draw", "plan.json", "--output", "map.gif").returncode == 2


@pytest.mark.parametrize("chunks", [1, 3, 8])
def test_the_timeline_adds_up_to_a_layer(chunks: int, llama: hp.Model, gb200: hp.Hardware) -> None:
    from helixplan.report.layout_map import timeline

    layout = hp.Layout(8, 8, 64, 1, overlap_chunks=chunks)
    plan = hp.estimate(llama, gb200, layout, context_tokens=1_000_000, batch=8, floor_scale=0.1)
    bars = timeline(plan)
    whole = sum(phase.seconds / phase.layers for phase in plan.cost.phases if phase.name.startswith(("attention", "ffn")))
    assert max(bar.end_s for bar in bars) == pytest.approx(whole)
    assert len([bar for bar in bars if bar.name.startswith("attention.core")]) == chunks
    for lane in ("GPU", "links"):
        on = sorted((bar for bar in bars if bar.lane == lane), key=lambda bar: bar.start_s)
        assert all(later.start_s >= earlier.end_s - 1e-12 for earlier, later in pairwise(on))


def test_progress_is_shown_to_whoever_looks_on(tmp_path: Path, r1_plan: Plan) -> None:
    import pty

    (tmp_path / "plan.json").write_text(r1_plan.to_json())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "helixplan", "verify", "plan.json"]
    done = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert done.wait(timeout=60) == 0
    assert b"verifying: step " in seen


def test_names_that_would_write_to_the_terminal_are_refused(cli: Run, tmp_path: Path, r1_plan: Plan) -> None:
    (tmp_path / "plan.json").write_text(changed(r1_plan.to_json(), "hardware/name", "\x1b[31mred"))
    refused = cli("draw", "plan.json")
    assert refused.returncode == 2
    assert "hardware.name: got '\\x1b[31mred', which cannot be printed" in refused.stderr


def test_many_chunks_are_drawn_in_few_lines(cli: Run, tmp_path: Path, r1_plan: Plan) -> None:
    (tmp_path / "plan.json").write_text(changed(r1_plan.to_json(), "layout/overlap_chunks", 131072))
    shown = cli("draw", "plan.json")
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) < 100


def leaves(value: Any, path: str = "") -> list[str]:
    """The paths of everything in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, item in inner:
        found += leaves(item, f"{path}/{key}" if path else str(key))
    return found


@pytest.mark.parametrize("part", range(2))
def test_whatever_is_changed_in_a_plan_is_told_and_never_a_bug(part: int, tmp_path: Path, gb200: hp.Hardware, main: Main) -> None:
    model = hp.load_model(deepseek_config())
    plan = hp.plan(model, gb200, context_tokens=9000, gpus=2, batch=2)
    (tmp_path / "mine.json").write_text(json.dumps(deepseek_config()))
    text = plan.to_json()
    rnd = random.Random(part)
    places = [path for path in leaves(json.loads(text)) if not path.endswith(("name", "warnings"))]
    unseen = []
    for path in rnd.sample(places, 75):
        value = rnd.choice([0, -1, 10**9, 0.5, "", "x", [], [[]], {}, None, True, -1e308, "9" * 5000])
        (tmp_path / "plan.json").write_text(changed(text, path, value))
        code, _, err = main("verify", str(tmp_path / "plan.json"), "--model", str(tmp_path / "mine.json"))
        assert code in (0, 1, 2), (path, value, err)
        if code == 0:
            unseen.append((path, value))
        drawn = main("draw", str(tmp_path / "plan.json"))
        assert drawn[0] in (0, 2), (path, value, drawn[2])
    harmless = ("helixplan_version", "model", "hardware/calibration")
    assert [one for one in unseen if not one[0].startswith(harmless)] == []
