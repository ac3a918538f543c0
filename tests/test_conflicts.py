"""Infeasible requests: the conflict is a real one, no member of it is idle, and every relaxation works."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import helixplan as hp
from helixplan.engines import posed
from helixplan.inputs.workload import Request, Workload
from helixplan.search.optimum import feasible, feasible_sizes
from helixplan.search.pairs import tightened
from helixplan.search.relief import Change, on_gpus
from helixplan.units import format_bytes, parse_count, parse_seconds
from tests.conftest import profile
from tests.reference import sound_layouts
from tests.strategies import contexts, models
from tests.test_oracle import requests

WIDER = 8


@st.composite
def small_systems(draw: st.DrawFn) -> hp.Hardware:
    """Systems whose wider sizes brute force can try."""
    joined = draw(st.booleans())
    changes: dict[str, Any] = {
        "domain__gpus": draw(st.integers(1, 2 if joined else 8)),
        "gpu__memory_bytes": draw(st.sampled_from([3.7e9, 3.95e9, 3.9e9])),
        "gpu__memory_bytes_per_s": draw(st.sampled_from([1e11, 8e12])),
    }
    return hp.load_hardware(profile(**changes, **({} if joined else {"scale_out": None})))


def wider(hardware: hp.Hardware, request: dict[str, Any]) -> set[int]:
    wires = hardware.interconnect
    joined = wires.scale_out_bytes_per_s is not None
    pins = {name: request.get("pins", {}).get(name, 1) for name in ("kvp", "tpa", "dp", "pp", "tpf", "ep")}
    stage = math.lcm(pins["kvp"] * pins["tpa"] * pins["dp"], pins["tpf"] * pins["ep"])
    implied = {stage * pins["pp"] * count for count in range(1, WIDER + 1)} if joined else set()
    most = (WIDER if joined else 1) * wires.domain_gpus
    unit = math.lcm(stage * pins["pp"], wires.domain_gpus)
    whole = {count * wires.domain_gpus // unit * unit for count in (16, 32)} - {0} if joined else set()
    return {*range(1, most + 1)} | asked_sizes(hardware, request) | implied | whole


def asked_sizes(hardware: hp.Hardware, request: dict[str, Any]) -> set[int]:
    if "gpus" in request:
        return {request["gpus"]}
    return {*range(1, request.get("max_gpus", hardware.interconnect.domain_gpus) + 1)}


@lru_cache(maxsize=64)
def everything(model: hp.Model, sizes: frozenset[int]) -> list[hp.Layout]:
    """Every layout that splits no head, its FFN on any GPUs that divide the stage's."""
    found = []
    for base in sound_layouts(model, max(sizes)):
        if base.gpus in sizes and base.ep == 1:
            n = base.gpus_per_stage
            groups = [(t, w // t) for w in range(1, n + 1) if n % w == 0 for t in range(1, w + 1) if w % t == 0]
            found += [hp.Layout(base.kvp, base.tpa, t, e, base.dp, base.pp) for t, e in groups]
    return found


def rule_tests(model: hp.Model, hardware: hp.Hardware, request: dict[str, Any]) -> dict[str, Callable[[hp.Layout], bool]]:
    """Every assumption that a layout's shape can break, in the test's own words."""
    wires = hardware.interconnect
    full = {"same-gpus-both-phases": lambda x: x.ffn_group == x.gpus_per_stage}
    by_family: dict[str, dict[str, Callable[[hp.Layout], bool]]] = {
        "helix": {"tpa-within-kv-heads": lambda x: x.tpa <= model.kv_heads, **full},
        "tp": {"tp-only": lambda x: x.kvp == x.dp == x.pp == 1, **full},
        "pp": {"tp-and-pp-only": lambda x: x.kvp == x.dp == 1, **full},
        "dp-ep": {"data-parallel-attention": lambda x: x.kvp == x.tpa == x.pp == 1, **full},
        "medha": {"kvp-and-tp-only": lambda x: x.dp == x.pp == 1},
    }
    budget = "gpus" if "gpus" in request else "max-gpus" if "max_gpus" in request else "nvlink-domain"
    shared = by_family.get(request["family"], {})
    return {
        **shared,
        "ep-within-experts": lambda x: x.ep <= max(model.experts, 1),
        "scale-out-link": lambda x: wires.scale_out_bytes_per_s is not None or x.gpus <= wires.domain_gpus,
        budget: lambda x: x.gpus in asked_sizes(hardware, request),
        **{
            f"pin {name}={value}": lambda x, name=name, value=value: getattr(x, name) == value
            for name, value in request.get("pins", {}).items()
        },
    }


def exists(model: hp.Model, hardware: hp.Hardware, request: dict[str, Any], members: set[str], **how: Any) -> bool:
    """Whether any layout keeps all of ``members`` (and structure), whatever else it breaks."""
    tests = rule_tests(model, hardware, request)
    layouts = [
        layout
        for layout in everything(model, frozenset(wider(hardware, request)))
        if (request["family"] != "medha" or layout.ffn_group == layout.tpa)
        and all(tests[name](layout) for name in members if name in tests)
    ]
    if not layouts:
        return False
    if hardware.interconnect.scale_out_bytes_per_s is None:
        # Layouts past the domain are priced over the fast link, so that dropping the rule means something.
        hardware = hp.load_hardware(_with_link(hardware))
    batches = [request["batch"]] if "batch" in members else sorted({1, request.get("batch", 1)})
    chunks = 1 if request["family"] == "medha" else None
    fixed = [hp.Layout(x.kvp, x.tpa, x.tpf, x.ep, x.dp, x.pp, kind, chunks) for x in layouts for kind in ("latent", "value")]
    for batch in batches:
        many = hp.score(model, hardware, hp.Layouts.of(*fixed), batch=batch, **how)
        fine = np.ones(len(fixed), dtype=bool)
        if "memory-fits" in members:
            fine &= many.fits
        if "ttl" in members:
            fine &= many.ttl_s <= request["ttl_s"]
        if fine.any():
            return True
    return False


def _with_link(hardware: hp.Hardware) -> dict[str, Any]:
    data = hardware.file.model_dump(mode="json", exclude_none=True)
    data["scale_out"] = {"link": "as the domain's", "bytes_per_s": data["domain"]["bytes_per_s"]}
    return data


def relaxed(request: dict[str, Any], how: dict[str, Any], changes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request that a relaxation's words describe."""
    for change in changes:
        request, how = changed_by(change, dict(request), dict(how))
    return request, how


def changed_by(change: str, request: dict[str, Any], how: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    words = shlex.split(change)
    if words[0] == "without":
        name = words[2].partition("=")[0]
        request["pins"] = {pin: value for pin, value in request["pins"].items() if pin != name}
    elif words[0] == "--ttl":
        request["ttl_s"] = parse_seconds(words[1], "ttl")
    elif words[0] in ("--gpus", "--max-gpus", "--batch"):
        request[words[0][2:].replace("-", "_")] = int(words[1])
    elif words[0] == "--context":
        how["context_tokens"] = parse_count(words[1], "context")
    elif words[0] == "--family":
        request["family"] = words[1]
    else:
        options = {"--kv": "kv_dtype", "--weights": "weight_dtype", "--memory-utilization": "memory_utilization"}
        how[options[words[0]]] = float(words[1]) if words[0] == "--memory-utilization" else words[1]
    return request, how


def test_conflicts_are_minimal_and_relaxations_work_over_a_hundred_cases_and_more() -> None:
    seen = {"infeasible": 0, "relaxations": 0, "pairs": 0}

    @settings(max_examples=260)
    @given(
        model=models(), hardware=small_systems(), context=contexts(), request=requests().filter(lambda r: r["family"] != "any")
    )
    def check(model: hp.Model, hardware: hp.Hardware, context: int, request: dict[str, Any]) -> None:
        how: dict[str, Any] = {"context_tokens": context}
        try:
            hp.plan(model, hardware, **request, **how)
        except hp.InfeasibleError as error:
            found = error
        else:
            assume(False)
            return
        seen["infeasible"] += 1
        members = {member.rule for member in found.conflict}
        assert not exists(model, hardware, request, members, **how)
        for name in members:
            assert exists(model, hardware, request, members - {name}, **how), name
        for option in found.relaxations:
            seen["relaxations"] += 1
            new_request, new_how = relaxed(request, how, option.changes)
            plan = hp.plan(model, hardware, **new_request, **new_how)
            assert plan.layout == option.layout
            assert plan.cost == option.cost
            assert option.change == " and ".join(option.changes)
            if len(option.changes) == 2:
                seen["pairs"] += 1
                assert not any(works(model, hardware, *relaxed(request, how, [change])) for change in option.changes)

    check()
    assert seen["infeasible"] >= 100
    assert seen["relaxations"] >= 50
    assert seen["pairs"] >= 20


def works(model: hp.Model, hardware: hp.Hardware, request: dict[str, Any], how: dict[str, Any]) -> bool:
    return feasible(posed(model, hardware, Workload(**how)), Request(**request))


def conflict_of(model: hp.Model, hardware: hp.Hardware, **request: Any) -> tuple[list[str], dict[str, hp.Plan | Any]]:
    with pytest.raises(hp.InfeasibleError) as caught:
        hp.plan(model, hardware, **request)
    return [member.rule for member in caught.value.conflict], {option.change: option for option in caught.value.relaxations}


def test_tpa_pinned_past_the_kv_heads_clashes_with_that_rule_alone(llama: hp.Model, gb200: hp.Hardware) -> None:
    members, options = conflict_of(llama, gb200, context_tokens=1_000_000, pins={"tpa": 16})
    assert members == ["tpa-within-kv-heads", "pin tpa=16"]
    assert set(options) == {"without --pin tpa=16", "--family any"}


def test_pins_that_contradict_each_other_are_named_both(r1: hp.Model, gb200: hp.Hardware) -> None:
    members, options = conflict_of(r1, gb200, context_tokens=1_000, pins={"tpf": 2, "ep": 64}, gpus=64)
    assert members == ["pin tpf=2", "pin ep=64", "gpus"]
    assert "--gpus 128" in options


def test_a_context_that_fits_nowhere_names_memory_and_the_longest_that_fits(llama: hp.Model, gb200: hp.Hardware) -> None:
    members, options = conflict_of(llama, gb200, context_tokens=900_000_000)
    assert members == ["memory-fits"]
    assert any(change.startswith("--context ") for change in options)


def test_too_few_gpus_name_the_budget_and_what_is_enough(r1: hp.Model, gb200: hp.Hardware) -> None:
    members, options = conflict_of(r1, gb200, context_tokens=1_000_000, max_gpus=2)
    assert members == ["max-gpus", "memory-fits"]
    assert next(iter(options)).startswith("--max-gpus ")


def test_where_two_conflicts_are_as_small_the_users_own_requests_are_named(r1: hp.Model, gb200: hp.Hardware) -> None:
    """4,000 requests at 1M tokens clash with the TTL, and with memory: the TTL is what the user asked for."""
    members, _ = conflict_of(r1, gb200, context_tokens=1_000_000, ttl_s=0.02, batch=4000)
    assert members == ["batch", "ttl"]


def test_kv_in_fp8_helps_where_bf16_does_not_fit(llama: hp.Model) -> None:
    h200 = hp.load_hardware("h200-hgx")
    request = {"context_tokens": 700_000, "weight_dtype": "fp8", "kv_dtype": "bf16", "batch": 2}
    members, options = conflict_of(llama, h200, **request)
    assert "memory-fits" in members
    assert "--kv fp8" in options


def test_a_replica_past_the_domain_needs_a_scale_out_link(gb200: hp.Hardware) -> None:
    model, island = hp.load_model("llama-3.1-70b"), hp.load_hardware("rtx-pro-6000")
    members, _ = conflict_of(model, island, context_tokens=1_000, gpus=16)
    assert members == ["scale-out-link", "gpus"]
    plan = hp.plan(model, hp.load_hardware("h200-hgx"), context_tokens=1_000, gpus=16)
    assert plan.layout.gpus == 16


def test_where_no_single_change_helps_two_do(llama: hp.Model, gb200: hp.Hardware) -> None:
    request = {"context_tokens": 1_000_000, "ttl_s": 0.008, "pins": {"tpa": 16}}
    members, options = conflict_of(llama, gb200, **request)
    assert members == ["ttl"]
    assert next(iter(options.values())).changes[0] == "without --pin tpa=16"
    assert all(len(option.changes) == 2 for option in options.values())


def test_two_small_changes_stand_beside_one_large(r1: hp.Model, gb200: hp.Hardware) -> None:
    _, options = conflict_of(r1, gb200, context_tokens=1_000_000, ttl_s=0.02, batch=4000)
    assert {"--batch 81", "--context 13k", "--batch 576 and --context 150k"} <= set(options)


@pytest.mark.parametrize(
    ("model", "hardware", "request_", "how"),
    [
        ("llama-3.1-405b", "gb200-nvl72", {"ttl_s": 0.01, "batch": 16}, {"context_tokens": 500_000, "engine": "vllm"}),
        ("gpt-oss-120b", "h100-hgx", {"ttl_s": 0.005, "batch": 4}, {"context_tokens": 128_000}),
        ("deepseek-r1", "gb200-nvl72", {"ttl_s": 0.02, "batch": 4000}, {"context_tokens": 1_000_000}),
    ],
)
def test_neither_half_of_a_pair_goes_further_than_it_must(
    model: str, hardware: str, request_: dict[str, Any], how: dict[str, Any]
) -> None:
    at = hp.load_model(model), hp.load_hardware(hardware)
    with pytest.raises(hp.InfeasibleError) as caught:
        hp.plan(*at, **request_, **how)
    pairs = [option.changes for option in caught.value.relaxations if len(option.changes) == 2]
    assert any(all(change.startswith(("--ttl", "--batch", "--context")) for change in pair) for pair in pairs)
    for pair in pairs:
        asked, posed_as = relaxed(request_, how, pair)
        assert works(*at, asked, posed_as)
        for change in pair:
            if change.startswith("--ttl"):
                assert not works(*at, asked | {"ttl_s": asked["ttl_s"] * 0.998}, posed_as), pair
            elif change.startswith("--batch"):
                assert not works(*at, asked | {"batch": asked["batch"] + 1}, posed_as), pair
            elif change.startswith("--context"):
                assert not works(*at, asked, posed_as | {"context_tokens": round(posed_as["context_tokens"] * 1.012)}), pair


def test_more_gpus_than_eight_domains_are_looked_at_too(llama: hp.Model) -> None:
    members, options = conflict_of(llama, hp.load_hardware("h200-hgx"), context_tokens=1_000_000, batch=64)
    assert members == ["nvlink-domain", "memory-fits"]
    assert "--max-gpus 140" in options
    request = {"context_tokens": 1_000_000, "batch": 64, "max_gpus": 139}
    members, options = conflict_of(llama, hp.load_hardware("h200-hgx"), **request)
    assert members == ["max-gpus", "memory-fits", "batch"]
    assert "--max-gpus 140" in options


@pytest.mark.parametrize(
    ("model", "hardware", "request_", "how", "pair"),
    [
        (
            "deepseek-v3",
            "b200-hgx",
            {"gpus": 4, "pins": {"kvp": 3}},
            {"context_tokens": 118_000},
            "without --pin kvp=3 and --gpus 5",
        ),
        (
            "minimax-m2.5",
            "gb200-nvl72",
            {"ttl_s": 0.00489, "batch": 205, "pins": {"dp": 8, "tpf": 4}},
            {"context_tokens": 2_092_000, "kernels": "ideal"},
            "--max-gpus 320 and --batch 40",
        ),
        (
            "qwen3.5-397b-a17b",
            "b300-hgx",
            {"batch": 212, "max_gpus": 2, "pins": {"dp": 4, "pp": 2, "tpa": 4}},
            {"context_tokens": 544_000, "memory_utilization": 0.5},
            "without --pin tpa=4 and --max-gpus 32",
        ),
        (
            "llama-3.1-70b",
            "rtx-pro-6000",
            {"ttl_s": 0.0103, "gpus": 24},
            {"context_tokens": 175_000},
            "--gpus 8 and --ttl 20.97ms",
        ),
    ],
)
def test_a_pair_asks_for_the_number_of_gpus_that_is_nearest(
    model: str, hardware: str, request_: dict[str, Any], how: dict[str, Any], pair: str
) -> None:
    at = hp.load_model(model), hp.load_hardware(hardware)
    _, options = conflict_of(*at, **request_, **how)
    assert pair in options
    asked, posed_as = relaxed(request_, how, options[pair].changes)
    assert works(*at, asked, posed_as)
    if "gpus" in asked:
        low, high = sorted((request_["gpus"], asked["gpus"]))
        assert not any(works(*at, asked | {"gpus": gpus}, posed_as) for gpus in range(low, high + 1) if gpus != asked["gpus"])
    else:
        assert not works(*at, asked | {"max_gpus": asked["max_gpus"] - 1}, posed_as)


def test_a_pair_takes_the_widest_dtype_that_works() -> None:
    request = {"context_tokens": 594_000, "kv_dtype": "fp8", "pins": {"kvp": 3}}
    _, options = conflict_of(hp.load_model("llama-4-maverick"), hp.load_hardware("a100-hgx"), **request)
    assert [change for change in options if "--weights" in change] == ["without --pin kvp=3 and --weights fp8"]


def test_more_than_eight_domains_are_filled_as_far_as_pins_let_them() -> None:
    at = hp.load_model("mixtral-8x22b"), hp.load_hardware("h100-hgx")
    how = {"context_tokens": 4_217_000, "kv_dtype": "fp8", "weight_dtype": "bf16"}
    request: dict[str, Any] = {"batch": 23, "pins": {"tpf": 3}, "objective": "throughput"}
    _, options = conflict_of(*at, **request, **how)
    found = next(option for change, option in options.items() if change.startswith("--max-gpus "))
    assert found.layout.gpus % 3 == 0
    asked, _ = relaxed(request, how, found.changes)
    assert not works(*at, asked | {"max_gpus": asked["max_gpus"] - 1}, how)


def test_what_is_asked_and_what_there_is_are_told_apart() -> None:
    with pytest.raises(hp.InfeasibleError) as caught:
        hp.plan("qwen3.5-397b-a17b", "a100-hgx", context_tokens=1_000_000, ttl_s=0.01, gpus=8)
    assert "at most 10 ms, and the rest leaves no layout under 10.00" in caught.value.conflict[0].detail
    with pytest.raises(hp.InfeasibleError) as caught:
        hp.plan("deepseek-r1", "gb200-nvl72", context_tokens=1_000_000, ttl_s=0.0050031)
    assert (
        "at most 5.0031 ms, and the rest leaves no layout under 9.271 ms, nor under 9.381 ms" in caught.value.conflict[0].detail
    )


def test_memory_is_told_in_what_it_holds(llama: hp.Model, gb200: hp.Hardware) -> None:
    request: dict[str, Any] = {"context_tokens": 1_000_000, "batch": 100}
    with pytest.raises(hp.InfeasibleError) as caught:
        hp.plan(llama, gb200, **request, max_gpus=8, pins={"kvp": 8})
    said = next(member.detail for member in caught.value.conflict if member.rule == "memory-fits")
    one = hp.estimate(llama, gb200, hp.Layout(8, 1, 8, 1), context_tokens=1_000_000, batch=1).memory
    rest = one.total_bytes - one.kv_cache_bytes
    parts = f"under {format_bytes(one.total_bytes)}: KV cache {format_bytes(one.kv_cache_bytes)}"
    assert f"{parts}, weights and all else {format_bytes(rest)}" in said


def test_a_pair_whose_second_change_works_on_the_gpus_asked_for_is_kept_as_it_is(llama: hp.Model, gb200: hp.Hardware) -> None:
    case = posed(llama, gb200, Workload(context_tokens=1_000))
    request = Request(batch=8, max_gpus=8, pins={"tpa": 8, "pp": 1})
    first = on_gpus(case, request, 12)
    second = Change("batch", "--batch 4", case, replace(first.request, batch=4))
    assert feasible_sizes(case, second.request, [8, 9, 10, 11, 12]) == [8]
    assert tightened(case, request, first, second) == (first, second)
