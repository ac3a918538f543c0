"""Planning for an engine: its constraints in its own terms, its communication by hand, what its limits cost."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import helixplan as hp
from helixplan.assembly import make_plan
from helixplan.cost.case import EXCHANGE_WAYS, PAPER, Case, pose
from helixplan.engines import ENGINES, free, posed
from helixplan.engines.engine import broken
from helixplan.engines.limits import limits_of
from helixplan.evaluation import evaluate
from helixplan.evidence.emulation import mathematics
from helixplan.evidence.verify import Verification, verify
from helixplan.inputs.workload import Request, Workload
from helixplan.plans import Plan, PlanEngine
from helixplan.replay import case_of
from helixplan.report import wording
from helixplan.search.optimum import find_optimum
from tests.conftest import Main, deepseek_config, llama_config, profile
from tests.engine_terms import RUNS
from tests.reference import sound_layouts
from tests.strategies import contexts, models, systems
from tests.test_oracle import best, brute_force, requests

engines = pytest.mark.parametrize("engine", sorted(ENGINES))


# constraints


@engines
def test_an_engine_says_what_its_exchange_sends_beyond_the_papers(engine: str) -> None:
    own = ENGINES[engine].communication
    as_the_paper = EXCHANGE_WAYS[0] in own.exchange_ways and own.statistics == PAPER.statistics
    assert (ENGINES[engine].dearer is None) == as_the_paper


@engines
@settings(max_examples=12)
@given(model=models(), hopper=st.booleans(), kv_dtype=st.sampled_from(["bf16", "fp8", "int4"]))
def test_rules_are_the_engines_own_checks_on_every_layout(engine: str, model: hp.Model, hopper: bool, kv_dtype: str) -> None:
    hardware = hp.load_hardware(profile(gpu__architecture="hopper" if hopper else "blackwell"))
    case = posed(model, hardware, Workload(4000, kv_dtype=kv_dtype, engine=engine))
    for layout in sound_layouts(model, 16):
        kept = not broken(ENGINES[engine], case, layout)
        assert kept == RUNS[engine](model, hardware, layout, kv_dtype), layout


@engines
@settings(max_examples=12)
@given(model=models(), hardware=systems(), context=contexts(), request=requests())
def test_whatever_is_planned_for_an_engine_runs_on_it(
    engine: str, model: hp.Model, hardware: hp.Hardware, context: int, request: dict[str, Any]
) -> None:
    try:
        plan = hp.plan(model, hardware, context_tokens=context, engine=engine, **request)
    except hp.InfeasibleError:
        return
    assert RUNS[engine](model, hardware, plan.layout.layout, plan.workload.kv_dtype)
    assert (plan.layout.exchange, plan.layout.overlap) == ("latent", "none")
    assert plan.engine is not None
    assert plan.engine.name == plan.workload.engine == engine
    assert plan.proof is not None
    assert {rule.name for rule in ENGINES[engine].rules} <= {*plan.proof.rules}
    assert Plan.from_json(plan.to_json()) == plan


@engines
@settings(max_examples=10)
@given(model=models(), hardware=systems(), context=contexts().filter(lambda tokens: tokens >= 4000), request=requests())
def test_the_engines_plan_is_what_brute_force_finds_among_what_it_runs(
    engine: str, model: hp.Model, hardware: hp.Hardware, context: int, request: dict[str, Any]
) -> None:
    how = {"context_tokens": context, "kv_dtype": "bf16", "engine": engine}
    every = brute_force(model, hardware, request, **how)
    assume(every is not None)
    assert every is not None
    runnable = [one for one in every if RUNS[engine](model, hardware, one.layout, "bf16")]
    if not runnable:
        with pytest.raises(hp.InfeasibleError):
            hp.plan(model, hardware, **request, **how)
        return
    expected, plan = best(runnable, request["objective"]), hp.plan(model, hardware, **request, **how)
    found = plan.layout.layout
    assert [getattr(found, name) for name in ("kvp", "tpa", "dp", "pp", "tpf", "ep")] == [
        getattr(expected.layout, name) for name in ("kvp", "tpa", "dp", "pp", "tpf", "ep")
    ]
    assert plan.layout.batch == expected.batch
    assert plan.cost.ttl_s == pytest.approx(expected.ttl_s, rel=1e-12)


def test_helix_on_tensorrt_llm_is_for_blackwell_alone(r1: hp.Model) -> None:
    for name, helps in (("b200-hgx", True), ("h200-hgx", False), ("h100-hgx", False), ("mi300x", False)):
        case = posed(r1, hp.load_hardware(name), Workload(100_000, engine="trtllm"))
        told = [rule.name for rule in broken(ENGINES["trtllm"], case, hp.Layout(8, 1, 1, 8))]
        assert told == ([] if helps else ["trtllm-kvp-needs-blackwell"])


# costs


BEFORE = [
    ("deepseek-r1", hp.Layout(8, 1, 1, 64, 8), 1_000_000, 72, {}, 0.019516971891449103),
    ("deepseek-r1", hp.Layout(4, 2, 8, 1, exchange="value"), 300_000, 17, {"overlap": "none"}, 0.02410566796820634),
    ("llama-3.1-405b", hp.Layout(8, 8, 64, 1), 1_000_000, 8, {}, 0.02308415939012974),
    ("llama-3.1-405b", hp.Layout(4, 8, 8, 4, overlap_chunks=3), 1_000_000, 7, {"floor_scale": 0.5}, 0.01969963187232176),
    ("gpt-oss-120b", hp.Layout(2, 8, 4, 4, pp=2), 100_000, 33, {"kv_dtype": "bf16"}, 0.0037355468871493208),
]
"""TTLs of cost model 1.2 before there were engines."""


@pytest.mark.parametrize(("model", "layout", "context", "batch", "how", "ttl_s"), BEFORE)
def test_without_an_engine_no_number_moved(
    model: str, layout: hp.Layout, context: int, batch: int, how: dict[str, Any], ttl_s: float
) -> None:
    plan = hp.estimate(model, "gb200-nvl72", layout, context_tokens=context, batch=batch, **how)
    assert plan.cost.ttl_s == pytest.approx(ttl_s, rel=1e-12)
    assert "attention.exchange" not in plan.collectives
    assert plan.engine is None
    assert '"engine": {' not in plan.to_json()


def in_way(case: Case, way: str) -> Case:
    return replace(case, communication=replace(case.communication, exchange_ways=(way,)))


def phases(case: Case, layout: hp.Layout, batch: int) -> dict[str, Any]:
    return {phase.name: phase for phase in evaluate(case, layout, batch).cost.phases}


ONE_LAYER = llama_config(num_hidden_layers=1, num_attention_heads=8, num_key_value_heads=1, head_dim=64, hidden_size=512)
ONE_LATENT_LAYER = deepseek_config(
    num_hidden_layers=1, num_attention_heads=8, kv_lora_rank=128, qk_rope_head_dim=32, n_routed_experts=4
)


def test_gathered_queries_and_reduce_scattered_outputs_of_gqa_by_hand() -> None:
    """4 KVP ranks, 8 heads of 64, 1 KV head, 3 requests, bf16."""
    hardware = hp.load_hardware(profile())
    case = posed(hp.load_model(ONE_LAYER), hardware, Workload(10_000, engine="vllm"))
    found = phases(in_way(case, EXCHANGE_WAYS[2]), hp.Layout(4, 1, 4, 1), 3)
    queries = 3 * (3 * 2 * 64 * 2)  # to 3 ranks, 3 requests' 2 heads each
    told = 3 * (3 * 8 * 4)  # to 3 ranks, 3 requests' 8 log-sum-exps
    outputs = 3 * (3 * 2 * 64 * 2)  # to each of 3 ranks its 2 heads of 3 requests
    assert found["attention.exchange"].wire_bytes == queries + told + outputs == 4896
    assert found["attention.merge"].hbm_bytes == 3 * 8 * (64 * 2 + 4 * 4 + 64 * 2)  # read, 4 statistics a head, written
    assert found["attention.qkv"].flops == 2 * 3 * 512 * (2 + 2) * 64  # 2 query heads, a key and a value
    gather, link = hardware.kernels.all_gather, hardware.interconnect.domain_bytes_per_s
    assert gather.growth == "log2"
    fixed = 1e-6 * (gather.floor_us + gather.growth_us * 2)
    ramps = sum(1e-6 * gather.ramp_us * wire / (wire + gather.ramp_bytes) for wire in (queries, told, outputs))
    seconds = 3 * fixed + ramps + 4896 / (gather.link_efficiency * link)
    assert found["attention.exchange"].seconds == pytest.approx(seconds, rel=1e-12)
    paper = phases(in_way(case, EXCHANGE_WAYS[0]), hp.Layout(4, 1, 4, 1), 3)
    assert found["attention.core"].flops == paper["attention.core"].flops


def test_gathered_latent_queries_by_hand() -> None:
    """4 KVP ranks, 8 heads of a latent of 128 and a rotary part of 32, 3 requests."""
    hardware = hp.load_hardware(profile())
    case = posed(hp.load_model(ONE_LATENT_LAYER), hardware, Workload(10_000, engine="sglang"))
    layout = hp.Layout(4, 1, 4, 1)
    paper, gathered, scattered = (phases(in_way(case, way), layout, 3) for way in EXCHANGE_WAYS)
    queries = 3 * (3 * 2 * (128 + 32) * 2)
    assert paper["attention.exchange"].wire_bytes == 3 * 3 * 2 * (128 * 2 + 4)
    assert gathered["attention.exchange"].wire_bytes == queries + 3 * 3 * 2 * (128 * 2 + 4)
    assert scattered["attention.exchange"].wire_bytes == queries + 3 * (3 * 8 * 4) + 3 * (3 * 2 * 128 * 2)
    down, heads = 512 * (256 + 128 + 32), 256 * (64 + 32) + 64 * 128
    assert paper["attention.qkv"].flops == 2 * 3 * (down + 8 * heads)
    assert gathered["attention.qkv"].flops == scattered["attention.qkv"].flops == 2 * 3 * (down + 2 * heads)
    assert paper["attention.merge"].hbm_bytes == gathered["attention.merge"].hbm_bytes


def test_tensorrt_llm_sends_two_statistics_a_head() -> None:
    hardware = hp.load_hardware(profile())
    layout = hp.Layout(4, 1, 4, 1)
    case = posed(hp.load_model(ONE_LATENT_LAYER), hardware, Workload(10_000, engine="trtllm"))
    found = phases(case, layout, 3)
    assert found["attention.exchange"].wire_bytes == 3 * 3 * 2 * (128 * 2 + 8)
    assert found["attention.merge"].hbm_bytes == 3 * 8 * (128 * 2 + 8) + 3 * 2 * 128 * 2


@engines
@settings(max_examples=10)
@given(model=models(), hardware=systems(), context=contexts(), batch=st.integers(1, 40))
def test_the_cheapest_of_an_engines_ways_is_taken_and_named(
    engine: str, model: hp.Model, hardware: hp.Hardware, context: int, batch: int
) -> None:
    case = posed(model, hardware, Workload(context, engine=engine))
    for layout in sound_layouts(model, 8)[::7]:
        plan = make_plan(case, layout, batch, None)
        alone = {way: evaluate(in_way(case, way), layout, batch).cost.ttl_s for way in case.communication.exchange_ways}
        assert plan.cost.ttl_s == pytest.approx(min(alone.values()), rel=1e-12)
        named = plan.collectives.get("attention.exchange")
        exchanged = layout.kvp > 1 and any(a.split_by_kvp for _, a, _ in model.attention_kinds)
        assert (named is not None) == exchanged
        if named is not None:
            assert alone[named] == pytest.approx(min(alone.values()), rel=1e-12)


@pytest.mark.parametrize("how", [{"overlap": "hop-b"}, {"exchange": "value"}])
@engines
def test_what_an_engine_lacks_cannot_be_asked_of_it(engine: str, how: dict[str, str], r1: hp.Model, gb200: hp.Hardware) -> None:
    with pytest.raises(hp.InputError, match=ENGINES[engine].title):
        hp.plan(r1, gb200, context_tokens=100_000, engine=engine, **how)  # type: ignore[arg-type]
    layout = hp.Layout(4, 1, 4, 1, **({"overlap_chunks": 2} if "overlap" in how else how))  # type: ignore[arg-type]
    with pytest.raises(hp.InputError, match=ENGINES[engine].title):
        hp.estimate(r1, gb200, layout, context_tokens=100_000, batch=4, engine=engine)


def test_a_case_for_an_engine_cannot_be_posed_without_its_communication(r1: hp.Model, gb200: hp.Hardware) -> None:
    with pytest.raises(TypeError, match="vllm"):
        pose(r1, gb200, Workload(1000, engine="vllm"))
    assert free(posed(r1, gb200, Workload(1000, engine="vllm"))) == pose(r1, gb200, Workload(1000))


# emulated ranks


def emulated(model: hp.Model, hardware: hp.Hardware, layout: hp.Layout, engine: str, way: str) -> Verification:
    plan = hp.estimate(model, hardware, layout, context_tokens=50_000, batch=7, engine=engine)
    case = in_way(case_of(plan, model, hardware), way)
    plan = make_plan(case, plan.layout.layout, 7, None)
    assert plan.collectives["attention.exchange"] == way
    return verify(plan, case)


RUN = [("vllm", way) for way in EXCHANGE_WAYS] + [("trtllm", EXCHANGE_WAYS[0])]
SMALL = {
    "gqa": (llama_config(), hp.Layout(4, 2, 8, 1)),
    "mla": (deepseek_config(), hp.Layout(4, 1, 2, 4, 2)),
    "mla, two stages": (deepseek_config(), hp.Layout(2, 1, 1, 2, 1, 2)),
    "windows too": (
        llama_config(
            architectures=["GptOssForCausalLM"],
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=128,
            layer_types=["sliding_attention", "full_attention"] * 2,
        ),
        hp.Layout(2, 2, 4, 1),
    ),
}


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize(("engine", "way"), RUN)
def test_emulated_ranks_are_exact_and_counted_as_charged_in_every_way(
    kind: str, engine: str, way: str, gb200: hp.Hardware
) -> None:
    config, layout = SMALL[kind]
    found = emulated(hp.load_model(config), gb200, layout, engine, way)
    assert found.failures == []
    assert found.largest_error is not None
    assert found.largest_error <= 1e-10
    exchanged = {one.quantity: one for one in found.counted if one.phase == "attention.exchange"}
    assert exchanged["wire_bytes"].counted == exchanged["wire_bytes"].charged > 0


def test_a_correction_without_the_other_ranks_statistics_is_caught(gb200: hp.Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mathematics, "shard_weights", lambda lse: np.full_like(lse, 1 / len(lse)))
    config, layout = SMALL["gqa"]
    found = emulated(hp.load_model(config), gb200, layout, "vllm", EXCHANGE_WAYS[2])
    assert any("attention heads" in failure for failure in found.failures)


def test_queries_that_nobody_projects_are_missed(gb200: hp.Hardware) -> None:
    config, layout = SMALL["gqa"]
    model = hp.load_model(config)
    plan = hp.estimate(model, gb200, layout, context_tokens=50_000, batch=7, engine="vllm")
    case = in_way(case_of(plan, model, gb200), EXCHANGE_WAYS[1])
    plan = make_plan(case, plan.layout.layout, 7, None)
    first = plan.groups["attention_exchange"][0]
    groups = plan.groups | {"attention_exchange": [first[:2], first[2:], *plan.groups["attention_exchange"][1:]]}
    from helixplan.evidence.emulation.ranks import WrongLayout
    from helixplan.evidence.emulation.run import Emulation
    from helixplan.evidence.emulation.scaling import scale_down

    torn = plan.model_copy(update={"groups": groups})
    with pytest.raises(WrongLayout, match="query_heads"):
        Emulation(torn, scale_down(torn, case)).run()


# what limits cost


def test_each_limit_is_lifted_alone_and_the_dearest_stands_first(gb200: hp.Hardware) -> None:
    model = hp.load_model("llama-3.1-405b")
    request = {"context_tokens": 500_000, "ttl_s": 0.02}
    plan = hp.plan(model, gb200, engine="vllm", **request)  # type: ignore[arg-type]
    without = hp.plan(model, gb200, **request)  # type: ignore[arg-type]
    told = plan.engine
    assert told is not None
    assert told.free is not None
    assert told.free.layout == without.layout
    assert plan.proof is not None
    assert without.proof is not None
    share = 1 - plan.proof.objective / without.proof.objective
    assert told.cost_of_limits == pytest.approx(share)
    assert share > 0.05
    assert told.limits[0].name == "vllm-dp-needs-experts"
    gains = [limit.gain for limit in told.limits]
    assert gains == sorted(gains, reverse=True)
    assert all(-1e-9 <= gain <= share + 1e-9 for gain in gains)
    case = posed(model, gb200, Workload(500_000, engine="vllm"))
    for limit in limits_of(ENGINES["vllm"], case):
        again = find_optimum(limit.without, Request(ttl_s=0.02))
        assert again is not None
        entry = next(one for one in told.limits if one.name == limit.name)
        assert entry.objective == again.proof.objective
        assert entry.gain == pytest.approx((again.proof.objective - plan.proof.objective) / without.proof.objective)
    assert {one.name for one in told.limits} == {limit.name for limit in limits_of(ENGINES["vllm"], case)}


def test_limits_that_cost_nothing_are_not_looked_into(llama: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.plan(llama, gb200, context_tokens=500_000, ttl_s=0.02, engine="sglang")
    assert plan.engine is not None
    assert plan.engine.cost_of_limits == pytest.approx(0.0, abs=1e-9)
    assert plan.engine.limits == []
    assert ("engine", "SGLang: its limits cost nothing") in wording.facts(plan)


@pytest.mark.parametrize(
    ("share", "gain", "said"),
    [
        (0.18, 0.17, "vLLM's limits cost 18.0 %"),
        (0.18, 0.0, "no single limit: it takes several of them together"),
        (-0.02, 0.0, "vLLM: 2.0 % better than the paper's exchange allows"),
        (None, 0.0, "vLLM"),
    ],
)
def test_what_limits_cost_in_words(share: float | None, gain: float, said: str, r1: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.plan(r1, gb200, context_tokens=1_000_000, ttl_s=0.02, engine="vllm")
    told = plan.engine
    assert told is not None
    limits = [limit.model_copy(update={"gain": gain}) for limit in told.limits[:1]]
    changed: PlanEngine = told.model_copy(update={"cost_of_limits": share, "limits": limits})
    lines = wording.engine(plan.model_copy(update={"engine": changed}))
    assert any(line.startswith(said) for _, line in lines)


def test_layouts_that_an_engine_may_not_run_yet_are_warned_of(gb200: hp.Hardware) -> None:
    def warned(engine: str, model: str, layout: hp.Layout) -> bool:
        plan = hp.estimate(model, gb200, layout, context_tokens=10_000, batch=2, engine=engine)
        return any(ENGINES[engine].title in said for said in plan.warnings)

    assert warned("vllm", "gpt-oss-120b", hp.Layout(2, 8, 16, 1))
    assert not warned("vllm", "gpt-oss-120b", hp.Layout(1, 8, 8, 1))
    assert not warned("vllm", "deepseek-r1", hp.Layout(8, 1, 8, 1))
    assert warned("vllm", "llama-3.1-405b", hp.Layout(2, 8, 16, 1))
    assert warned("sglang", "llama-3.1-405b", hp.Layout(2, 8, 16, 1))
    assert warned("trtllm", "llama-3.1-405b", hp.Layout(2, 8, 16, 1))
    assert not warned("trtllm", "deepseek-r1", hp.Layout(8, 1, 8, 1))


def test_an_engine_that_cannot_run_what_was_asked_says_which_rule_and_what_helps(gb200: hp.Hardware) -> None:
    with pytest.raises(hp.InfeasibleError) as raised:
        hp.plan("llama-3.1-405b", gb200, context_tokens=100_000, engine="vllm", pins={"kvp": 4, "tpa": 4})
    assert "vllm-dcp-needs-kv-heads" in {member.rule for member in raised.value.conflict}
    options = {option.change: option for option in raised.value.relaxations}
    assert options["--engine none"].layout.kvp == 4


def test_without_overlapping_or_values_limits_are_named_for_models_that_have_them(r1: hp.Model, llama: hp.Model) -> None:
    hardware = hp.load_hardware("gb200-nvl72")
    names = {}
    for model in (r1, llama):
        case = posed(model, hardware, Workload(1000, engine="trtllm"))
        found = {limit.name: limit.without.communication for limit in limits_of(ENGINES["trtllm"], case) if limit.kind != "rule"}
        names[model.name] = {*found}
        assert found["trtllm-no-hop-b"].overlaps
        assert found["trtllm-exchange"].statistics == PAPER.statistics
    assert names["deepseek-r1"] - names["llama-3.1-405b"] == {"trtllm-no-value-exchange"}


# the commands


ASKED = ("llama-3.1-405b", "gb200-nvl72", "--context", "1M")


def test_a_plan_for_an_engine_is_read_and_verified(main: Main, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    code, out, err = main("plan", *ASKED, "--ttl", "20ms", "--engine", "trtllm", "--output", str(file))
    assert code == 0
    assert "TensorRT-LLM's limits cost" in out
    assert err.count("DeepSeek-V3 (MLA)") == 1
    assert main("verify", str(file))[0] == 0
    data = json.loads(file.read_text())
    data["engine"]["limits"][0]["gain"] += 0.1
    file.write_text(json.dumps(data))
    code, _, err = main("verify", str(file))
    assert code == 1
    assert "engine.limits[0].gain is" in err
    data["workload"]["overlap"] = "hop-b"
    file.write_text(json.dumps(data))
    code, _, err = main("verify", str(file))
    assert code == 2
    assert str(file) in err
    assert "workload.overlap" in err


def test_markdown_says_which_limit_costs_it(main: Main) -> None:
    code, out, _ = main("plan", *ASKED, "--ttl", "20ms", "--engine", "vllm", "--format", "markdown")
    assert code == 0
    assert "| costs | without vllm-dp-needs-experts alone 0.6 % comes back: DP > 1 needs a model with experts" in out


@pytest.mark.parametrize(("flag", "value"), [("--overlap", "hop-b"), ("--exchange", "value")])
def test_the_flag_that_the_engine_lacks_is_named(main: Main, flag: str, value: str) -> None:
    code, out, err = main("plan", *ASKED, "--engine", "vllm", flag, value)
    assert (code, out) == (2, "")
    assert flag in err
    assert "vLLM" in err
    assert len(err.strip().splitlines()) == 1


def test_an_estimate_names_the_engines_rules_that_it_breaks(main: Main) -> None:
    sizes = ("--kvp", "4", "--tpa", "4", "--batch", "4")
    code, out, _ = main("estimate", *ASKED, *sizes, "--engine", "vllm", "--format", "json")
    assert code == 0
    assert json.loads(out)["broken_rules"] == ["vllm-dcp-needs-kv-heads"]


def test_frontiers_comparisons_and_suites_are_of_what_the_engine_runs(main: Main, tmp_path: Path) -> None:
    model, hardware = hp.load_model("llama-3.1-405b"), hp.load_hardware("gb200-nvl72")
    code, out, _ = main("frontier", *ASKED, "--max-gpus", "16", "--engine", "vllm", "--family", "any", "--format", "json")
    assert code == 0
    for point in json.loads(out)["points"]:
        sizes = {name: point["layout"][name] for name in ("kvp", "tpa", "tpf", "ep", "dp", "pp")}
        assert RUNS["vllm"](model, hardware, hp.Layout(**sizes), "fp8")
    code, out, _ = main("frontier", *ASKED, "--max-gpus", "8", "--engine", "vllm", "--format", "markdown")
    assert "as vLLM runs it" in out
    assert main("compare", *ASKED, "--max-gpus", "16", "--engine", "vllm")[0] == 0
    suite = tmp_path / "suite.toml"
    suite.write_text('[[case]]\nname = "one"\nmodel = "qwen3-32b"\nhardware = "b200-hgx"\ncontext = "64k"\nengine = "vllm"\n')
    assert main("check", str(suite), "--baseline", str(tmp_path / "kept"), "--jobs", "1", "--update")[0] == 0
    kept = json.loads((tmp_path / "kept" / "one.json").read_text())
    assert "vllm-ffn-on-the-stage" in kept["rules"]
    assert main("check", str(suite), "--baseline", str(tmp_path / "kept"), "--jobs", "1")[0] == 0
