"""The search against brute force: every layout, found by trying all numbers, at every integer batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import helixplan as hp
from tests.reference import sound_layouts
from tests.strategies import contexts, models, systems

TIE = 1e-9
MOST_BATCH = 1200


@dataclass(frozen=True)
class Scored:
    layout: hp.Layout
    batch: int
    ttl_s: float
    gpus: int


def allowed(model: hp.Model, hardware: hp.Hardware, layout: hp.Layout, family: str) -> bool:
    """The families' rules once more, in other words."""
    inside = layout.gpus <= hardware.interconnect.domain_gpus or hardware.interconnect.scale_out_bytes_per_s is not None
    full = layout.tpf * layout.ep == layout.kvp * layout.tpa * layout.dp
    if not inside or layout.ep > max(1, model.experts):
        return False
    if family == "helix":
        return full and layout.tpa <= model.kv_heads
    if family == "medha":
        return layout.tpf * layout.ep == layout.tpa and layout.dp == 1 and layout.pp == 1
    if not full or layout.kvp > 1:
        return False
    return {
        "tp": layout.dp == 1 and layout.pp == 1,
        "pp": layout.dp == 1,
        "dp-ep": layout.tpa == 1 and layout.pp == 1,
    }[family]


def candidates(model: hp.Model, hardware: hp.Hardware, sizes: range, request: dict[str, Any]) -> list[hp.Layout]:
    family = request.get("family", "helix")
    if family == "any":
        every = [candidates(model, hardware, sizes, request | {"family": one}) for one in ("helix", "tp", "pp", "dp-ep", "medha")]
        return list(dict.fromkeys(layout for layouts in every for layout in layouts))
    found = []
    for layout in sound_layouts(model, sizes[-1]):
        options = [layout]
        if family == "medha":
            options = [
                hp.Layout(layout.kvp, layout.tpa, t, layout.tpa // t, layout.dp, layout.pp, overlap_chunks=1)
                for t in range(1, layout.tpa + 1)
                if layout.tpa % t == 0 and layout.ep == 1
            ]
        found += [
            one
            for one in options
            if one.gpus in sizes
            and allowed(model, hardware, one, family)
            and all(getattr(one, name) == value for name, value in request.get("pins", {}).items())
        ]
    return found


def brute_force(model: hp.Model, hardware: hp.Hardware, request: dict[str, Any], **how: Any) -> list[Scored] | None:
    """All that is allowed and keeps the request, at every integer batch that fits; None where those are too many to try."""
    most = request.get("gpus") or request.get("max_gpus") or hardware.interconnect.domain_gpus
    sizes = range(request.get("gpus") or 1, most + 1)
    batches = np.array([request["batch"]]) if request.get("batch") else np.arange(1, MOST_BATCH + 1)
    found = []
    for base in candidates(model, hardware, sizes, request):
        exchanges = ("latent", "value") if model.is_latent and base.kvp > 1 and "engine" not in how else ("latent",)
        for exchange in exchanges:
            chunks = base.overlap_chunks
            layout = hp.Layout(base.kvp, base.tpa, base.tpf, base.ep, base.dp, base.pp, exchange, chunks)
            many = hp.score(model, hardware, hp.Layouts.of(*[layout] * len(batches)), batch=batches, **how)
            fine = many.fits & (many.ttl_s <= request.get("ttl_s", np.inf))
            if len(batches) > 1 and many.fits[-1]:
                return None
            found += [Scored(layout, int(batches[i]), float(many.ttl_s[i]), layout.gpus) for i in np.flatnonzero(fine).tolist()]
    return found


def best(found: list[Scored], goal: str) -> Scored:
    """Filtered by each criterion in turn, in the order that the interface promises."""
    value = {
        "throughput": lambda s: -s.batch / (s.ttl_s * s.gpus),
        "interactivity": lambda s: s.ttl_s,
        "users": lambda s: -s.batch,
        "gpus": lambda s: s.gpus,
    }[goal]
    order = [
        value,
        lambda s: s.gpus,
        lambda s: s.ttl_s,
        *(lambda s, name=name: getattr(s.layout, name) for name in ("pp", "dp", "kvp", "tpa", "ep")),
        lambda s: -s.batch,
        lambda s: s.layout.exchange == "value",
    ]
    for criterion in order:
        least = min(criterion(s) for s in found)
        found = [s for s in found if criterion(s) <= least + TIE * abs(least)]
    return found[0]


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    request: dict[str, Any] = {"family": draw(st.sampled_from(["helix", "helix", "helix", "tp", "pp", "dp-ep", "medha", "any"]))}
    if draw(st.booleans()):
        request["ttl_s"] = draw(st.sampled_from([4e-4, 6e-4, 1e-3, 3e-3, 1e-2]))
    if draw(st.booleans()):
        request["batch"] = draw(st.integers(1, 30))
    size = draw(st.sampled_from([None, "gpus", "max_gpus"]))
    if size:
        request[size] = draw(st.integers(1, 9))
    if draw(st.integers(0, 3)) == 0:
        request["pins"] = {draw(st.sampled_from(["kvp", "tpa", "dp", "tpf", "ep", "pp"])): draw(st.integers(1, 3))}
    request["objective"] = draw(st.sampled_from(["throughput", "throughput", "interactivity", "users", "gpus"]))
    return request


@settings(max_examples=100)
@given(
    model=models(),
    hardware=systems(),
    context=contexts().filter(lambda tokens: tokens >= 4000),
    request=requests(),
    scale=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_the_plan_is_what_brute_force_finds(
    model: hp.Model, hardware: hp.Hardware, context: int, request: dict[str, Any], scale: float
) -> None:
    how = {"context_tokens": context, "floor_scale": scale, "kv_dtype": "bf16"}
    every = brute_force(model, hardware, request, **how)
    assume(every is not None)
    if not every:
        with pytest.raises(hp.InfeasibleError):
            hp.plan(model, hardware, **request, **how)
        return
    expected = best(every, request["objective"])
    plan = hp.plan(model, hardware, **request, **how)
    found = plan.layout
    assert plan.proof is not None
    assert plan.proof.status == "optimal"
    assert plan.proof.bound == pytest.approx(plan.proof.objective, rel=1e-9)
    assert (found.kvp, found.tpa, found.dp, found.pp, found.tpf, found.ep, found.batch, found.exchange) == (
        expected.layout.kvp,
        expected.layout.tpa,
        expected.layout.dp,
        expected.layout.pp,
        expected.layout.tpf,
        expected.layout.ep,
        expected.batch,
        expected.layout.exchange,
    )
    assert plan.cost.ttl_s == pytest.approx(expected.ttl_s, rel=1e-12)
    assert hp.Plan.from_json(plan.to_json()) == plan
    again = hp.estimate(model, hardware, found.layout, batch=found.batch, **how)
    assert again.cost == plan.cost
    assert again.memory == plan.memory
    check_alternatives(plan, every, request["objective"])


def check_alternatives(plan: hp.Plan, every: list[Scored], goal: str) -> None:
    """The next best are those of brute force: the best of every other split, by objective, GPUs, TTL."""
    splits: dict[tuple[int, ...], Scored] = {}
    for one in every:
        layout = one.layout
        split = (layout.kvp, layout.tpa, layout.dp, layout.pp, layout.tpf, layout.ep)
        splits[split] = best([splits[split], one], goal) if split in splits else one
    chosen = plan.layout
    splits.pop((chosen.kvp, chosen.tpa, chosen.dp, chosen.pp, chosen.tpf, chosen.ep))
    value = {
        "throughput": lambda s: (-s.batch / (s.ttl_s * s.gpus), s.gpus, s.ttl_s),
        "interactivity": lambda s: (s.ttl_s, s.gpus, s.ttl_s),
        "users": lambda s: (-s.batch, s.gpus, s.ttl_s),
        "gpus": lambda s: (s.gpus, s.gpus, s.ttl_s),
    }[goal]
    expected = sorted(value(one) for one in splits.values())[:5]
    assert plan.alternatives is not None
    ours = [
        value(Scored(option.layout.layout, option.layout.batch, option.ttl_s, option.layout.gpus)) for option in plan.alternatives
    ]
    assert len(ours) == len(expected)
    for mine, theirs in zip(ours, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-8)


def test_deepseek_r1_on_all_72_gpus_of_a_rack_is_a_candidate(r1: hp.Model, gb200: hp.Hardware) -> None:
    plan = hp.plan(r1, gb200, context_tokens=1_000_000, gpus=72, pins={"dp": 9, "ep": 72}, ttl_s=0.02)
    assert (plan.layout.gpus, plan.layout.dp, plan.layout.ep, plan.layout.kvp) == (72, 9, 72, 8)


def test_the_same_plan_on_every_run(r1: hp.Model, gb200: hp.Hardware) -> None:
    texts = {hp.plan(r1, gb200, context_tokens=500_000, ttl_s=0.03, max_gpus=16).to_json() for _ in range(3)}
    assert len(texts) == 1
