"""Every layout's cost against the plain-Python reference, and both against memory counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import helixplan as hp
from tests.reference import Step, sound_layouts
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


@pytest.mark.parametrize("name", ["deepseek-r1", "llama-3.1-405b", "gpt-oss-120b", "qwen3-235b-a22b", "kimi-k2"])
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
