"""Holds every kernel against float64 before any is timed."""

# mypy: ignore-errors
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helixplan.errors import InputError
from helixplan.evidence.gpu.bench import Bench

TOLERANCE = 1e-2
"""The relative error that bf16 operands may have against float64."""


def check_kernels(bench: Bench) -> dict[str, float]:
    """Every kernel's relative error against float64, uneven splits included. Raises InputError over the tolerance."""
    from helixplan.evidence.gpu import kernels

    torch = bench.torch
    found: dict[str, float] = {}

    def compare(name: str, out: Any, reference: Any) -> None:
        off = float((out.double() - reference).norm() / reference.norm())
        if not off <= TOLERANCE:
            raise InputError(f"the {name} kernel is off by {off:.2g} against float64, over {TOLERANCE}", field="--from gpu")
        found[name] = off

    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float8_e4m3fn, "fp8")):
        q, (k, v) = bench.rand(3, 2, 5, 128), (bench.rand(3, 2, 1000, 128, dtype=dtype) for _ in range(2))
        for splits in (1, 7):
            out = torch.full_like(q, float("nan"))
            kernels.attention(q, k, v, kernels.scratch(3 * 2 * splits * 5, 128), out, splits, (64, 4, 2))
            weight = torch.softmax(q.double() @ k.double().transpose(-1, -2) * 128**-0.5, -1)
            compare(f"attention {name}", out, weight @ v.double())
        query, cache = bench.rand(3, 24, 576), bench.rand(3, 1000, 576, dtype=dtype)
        out = torch.full((3, 24, 512), float("nan"), dtype=torch.bfloat16, device="cuda")
        kernels.latent_attention(query, cache, kernels.scratch(3 * 7 * 24, 512), out, 7, (32, 4, 2, 16))
        weight = torch.softmax(query.double() @ cache.double().transpose(-1, -2) * 192**-0.5, -1)
        compare(f"latent attention {name}", out, weight @ cache.double()[..., :512])
    _check_small(bench, compare)
    return found


def _check_small(bench: Bench, compare: Callable[[str, Any, Any], None]) -> None:
    from helixplan.evidence.gpu import kernels

    torch = bench.torch
    x, weight = bench.rand(4, 4096), bench.rand(4096)
    out = torch.full_like(x, float("nan"))
    kernels.norm(x, weight, out)
    wide = x.double()
    compare("norm", out, wide * (wide.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt() * weight.double())
    pair, out = bench.rand(4, 6000), torch.full((4, 3000), float("nan"), dtype=torch.bfloat16, device="cuda")
    kernels.activate(pair, out)
    gate, up = pair.double().split(3000, -1)
    compare("activation", out, torch.nn.functional.silu(gate) * up)
    q, k, v = bench.rand(4, 8, 128), bench.rand(4, 2, 128), bench.rand(4, 2, 128)
    angle = torch.rand(4, 64, device="cuda")
    caches = tuple(torch.full((9, 2, 128), float("nan"), dtype=torch.bfloat16, device="cuda") for _ in range(2))
    slots = torch.tensor([7, 0, 3, 5], device="cuda")
    turned = _turned(torch, q, angle), _turned(torch, k, angle)
    kernels.turn_and_append(q, k, v, (angle.cos(), angle.sin()), caches, slots)
    compare("rotary", q, turned[0])
    compare("KV append (keys)", caches[0][slots], turned[1])
    compare("KV append (values)", caches[1][slots], v.double())
    part, lse = torch.randn(6, 5, 3, 128, device="cuda"), torch.randn(6, 5, 3, device="cuda")
    out = torch.full((6, 3, 128), float("nan"), dtype=torch.bfloat16, device="cuda")
    kernels.merge(part, lse, out)
    share = torch.softmax(lse.double() * np.log(2), 1)
    compare("merge", out, (part.double() * share[..., None]).sum(1))


def _turned(torch: Any, x: Any, angle: Any) -> Any:
    low, high = x.double().split(64, -1)
    c, s = angle.double().cos()[:, None], angle.double().sin()[:, None]
    return torch.cat([low * c - high * s, high * c + low * s], -1)
