"""What must hold on any model, system and workload."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import helixplan as hp
from tests.reference import sound_layouts
from tests.strategies import contexts, modelling, models, systems


@st.composite
def laid_out(draw: st.DrawFn) -> tuple[hp.Model, hp.Hardware, hp.Layout]:
    """A model, a system, and one of the layouts that split no head of it."""
    model, hardware = draw(models()), draw(systems())
    most = hardware.interconnect.domain_gpus
    layouts = sound_layouts(model, most if hardware.interconnect.scale_out_bytes_per_s is None else 8)
    return model, hardware, draw(st.sampled_from(layouts))


Laid = tuple[hp.Model, hp.Hardware, hp.Layout]


def fixed(layout: hp.Layout, exchange: str, chunks: int) -> hp.Layout:
    return hp.Layout(layout.kvp, layout.tpa, layout.tpf, layout.ep, layout.dp, layout.pp, exchange, chunks)


@settings(max_examples=80)
@given(laid=laid_out(), context=contexts(), batch=st.integers(1, 50), how=modelling())
def test_phases_sum_to_ttl_and_estimate_equals_score(laid: Laid, context: int, batch: int, how: dict[str, Any]) -> None:
    model, hardware, layout = laid
    one = hp.estimate(model, hardware, layout, context_tokens=context, batch=batch, **how)
    assert sum(phase.seconds for phase in one.cost.phases) == pytest.approx(one.cost.ttl_s, rel=1e-9)
    assert all(phase.seconds >= 0 for phase in one.cost.phases)
    many = hp.score(model, hardware, hp.Layouts.of(layout), context_tokens=context, batch=batch, **how)
    assert many.ttl_s[0] == one.cost.ttl_s
    assert many.memory_bytes[0] == one.memory.total_bytes
    again = (
        hp.estimate(model, hardware, one.layout.layout, context_tokens=context, batch=batch, **how)
        if (how.get("overlap") != "none")
        else one
    )
    assert again.cost == one.cost


@settings(max_examples=80)
@given(
    laid=laid_out(), context=contexts(), how=modelling(), chunks=st.integers(1, 9), exchange=st.sampled_from(["latent", "value"])
)
def test_ttl_and_memory_never_fall_as_batch_or_context_grow(
    laid: Laid, context: int, how: dict[str, Any], chunks: int, exchange: str
) -> None:
    model, hardware, layout = laid
    how.pop("overlap", None)
    batches = np.arange(1, 400)
    for one in (layout, fixed(layout, exchange, chunks)):
        many = hp.score(model, hardware, hp.Layouts.of(*[one] * len(batches)), context_tokens=context, batch=batches, **how)
        assert np.all(np.diff(many.ttl_s) >= -1e-12 * many.ttl_s[1:])
        assert np.all(np.diff(many.memory_bytes) >= 0)
    ttl, memory = [], []
    for longer in (context, context + 1, context + 31, context + 700, 2 * context, 9 * context):
        found = hp.score(model, hardware, hp.Layouts.of(fixed(layout, exchange, chunks)), context_tokens=longer, batch=5, **how)
        ttl.append(found.ttl_s[0])
        memory.append(found.memory_bytes[0])
    order = np.argsort([context, context + 1, context + 31, context + 700, 2 * context, 9 * context], kind="stable")
    assert np.all(np.diff(np.array(ttl)[order]) >= -1e-12)
    assert np.all(np.diff(np.array(memory)[order]) >= 0)


@settings(max_examples=60)
@given(laid=laid_out(), context=contexts(), batch=st.integers(1, 300), chunks=st.integers(0, 8))
def test_floor_scale_walks_monotonically_from_the_ideal_to_the_measured_clock(
    laid: Laid, context: int, batch: int, chunks: int
) -> None:
    model, hardware, layout = laid
    layout = fixed(layout, layout.exchange, chunks) if chunks else layout
    scales = (0.0, 0.1, 0.35, 0.6, 0.9, 1.0)
    ttl = [
        hp.estimate(model, hardware, layout, context_tokens=context, batch=batch, floor_scale=scale).cost.ttl_s
        for scale in scales
    ]
    assert all(slower >= faster * (1 - 1e-12) for faster, slower in pairwise(ttl))
    ideal = hp.estimate(model, hardware, layout, context_tokens=context, batch=batch, kernels="ideal")
    measured = hp.estimate(model, hardware, layout, context_tokens=context, batch=batch)
    assert ideal.cost.ttl_s == ttl[0]
    assert measured.cost.ttl_s == ttl[-1]
    assert measured.cost.ttl_ideal_s <= measured.cost.ttl_s


@settings(max_examples=60)
@given(laid=laid_out(), batch=st.integers(1, 50), exchange=st.sampled_from(["latent", "value"]))
def test_a_fixed_exchange_moves_the_same_bytes_at_any_context(laid: Laid, batch: int, exchange: str) -> None:
    model, hardware, layout = laid
    sent = []
    for context in (1, 999, 1_000_000):
        one = hp.estimate(model, hardware, fixed(layout, exchange, 1), context_tokens=context, batch=batch)
        sent.append([phase.wire_bytes for phase in one.cost.phases if phase.name == "attention.exchange"])
    assert sent[0] == sent[1] == sent[2]


@settings(max_examples=100)
@given(
    model=models(),
    context=st.integers(1, 200_000),
    kvp=st.sampled_from([1, 2, 3, 4, 6, 12]),
    batch=st.integers(1, 5),
    block=st.sampled_from([1, 16, 32]),
)
def test_kv_bytes_a_gpu_times_kvp_are_within_kvp_blocks_of_the_whole(
    model: hp.Model, gb200: hp.Hardware, context: int, kvp: int, batch: int, block: int
) -> None:
    growing = [
        a for _, a, _ in model.attention_kinds if a.split_by_kvp and a.window is None and getattr(a, "indexer", None) is None
    ]
    assume(len(growing) == len(model.attention_kinds))
    assume(all(a.query_heads % kvp == 0 for a in growing))
    one = hp.estimate(
        model, gb200, hp.Layout(kvp, 1, kvp, 1), context_tokens=context, batch=batch, kv_block_tokens=block, kv_dtype="fp8"
    )
    a_token = model.kv_bytes_per_token("fp8") * batch
    spread = one.memory.kv_cache_bytes * kvp
    assert a_token * context <= spread * (1 + 1e-12)
    assert spread <= a_token * (context + kvp * block) * (1 + 1e-12)


@pytest.mark.parametrize("name", ["llama-3.1-405b", "qwen3-235b-a22b", "mixtral-8x22b"])
def test_kv_bytes_a_gpu_stop_falling_where_tpa_reaches_the_kv_heads(name: str, gb200: hp.Hardware) -> None:
    model = hp.load_model(name)
    cached = {}
    for tpa in (1, 2, 4, 8, 16):
        layout = hp.Layout(1, tpa, tpa, 1)
        if model.query_heads % tpa == 0:
            one = hp.estimate(model, gb200, layout, context_tokens=100_000, batch=3)
            cached[tpa] = one.memory.kv_cache_bytes
    for tpa, held in cached.items():
        assert held == pytest.approx(cached[1] / min(tpa, model.kv_heads))


@settings(max_examples=40)
@given(laid=laid_out(), context=contexts(), batch=st.integers(1, 20))
def test_scoring_many_layouts_equals_scoring_each(laid: Laid, context: int, batch: int) -> None:
    model, hardware, layout = laid
    layouts = sound_layouts(model, layout.gpus)[-30:]
    many = hp.score(model, hardware, hp.Layouts.of(*layouts), context_tokens=context, batch=batch)
    for index, one in enumerate(layouts):
        alone = hp.score(model, hardware, hp.Layouts.of(one), context_tokens=context, batch=batch)
        assert many.ttl_s[index] == pytest.approx(alone.ttl_s[0], rel=1e-13)
        assert many.overlap_chunks[index] == alone.overlap_chunks[0]
        assert many.exchange[index] == alone.exchange[0]


@settings(max_examples=40)
@given(laid=laid_out(), context=contexts(), batch=st.integers(1, 20), how=modelling())
def test_an_estimates_json_survives_a_round_trip(laid: Laid, context: int, batch: int, how: dict[str, Any]) -> None:
    model, hardware, layout = laid
    one = hp.estimate(model, hardware, layout, context_tokens=context, batch=batch, **how)
    again = hp.Plan.from_json(one.to_json())
    assert again == one
    assert again.to_json() == one.to_json()


@settings(max_examples=60)
@given(laid=laid_out(), batch=st.integers(1, 20))
def test_ranks_cover_every_head_and_expert(laid: Laid, batch: int) -> None:
    model, hardware, layout = laid
    one = hp.estimate(model, hardware, layout, context_tokens=500, batch=batch)
    assert [rank.rank for rank in one.ranks] == list(range(layout.gpus))
    for stage in range(layout.pp):
        ranks = [rank for rank in one.ranks if rank.stage == stage]
        for dp in range(layout.dp):
            held = sorted(list(range(*rank.output_heads)) for rank in ranks if rank.dp == dp)
            assert [head for heads in held for head in heads] == list(range(model.query_heads))
        group = ranks[: layout.ffn_group]
        for tpf in range(layout.tpf):
            experts = [expert for rank in group if rank.tpf == tpf for expert in range(*rank.experts)]
            assert sorted(experts) == list(range(model.experts))
    layers = {tuple(rank.layers) for rank in one.ranks}
    assert sorted(layer for start, end in layers for layer in range(start, end)) == list(range(model.layers))
    assert max(rank.memory_bytes for rank in one.ranks) == pytest.approx(one.memory.total_bytes, rel=1e-12)
    for groups in one.groups.values():
        members = [rank for group in groups for rank in group]
        assert len(members) == len(set(members))


@settings(max_examples=60)
@given(laid=laid_out())
def test_the_groups_that_talk_most_are_neighbours(laid: Laid) -> None:
    """A collective's ranks lie in a run of numbers that starts at a multiple of its length: inside a node if the run fits one."""
    model, hardware, layout = laid
    groups = hp.estimate(model, hardware, layout, context_tokens=1000, batch=2).groups
    runs = {
        "attention_exchange": layout.kvp,
        "attention_reduce": layout.attention_group,
        "data_gather": layout.gpus_per_stage,
        "ffn_reduce": layout.gpus_per_stage,
    }
    if layout.ffn_group == layout.gpus_per_stage:
        runs |= {"ffn_tensor": layout.tpf, "expert": layout.ffn_group}
    for name, length in runs.items():
        for ranks in groups[name]:
            assert ranks == sorted(ranks)
            assert ranks[0] // length == ranks[-1] // length, (name, ranks)
