"""What is timed of a GPU: the shapes of each operation, and the kernels that run them."""

# mypy: ignore-errors
from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from helixplan.errors import InputError
from helixplan.evidence.gpu.bench import Bench
from helixplan.evidence.measurements import OPERATIONS, Measurements

MOST_BYTES = 24e9
"""Of one operand; larger shapes are left out."""
GQA_SHAPES = ((64, 8, 128), (128, 8, 128), (32, 4, 128), (16, 2, 128), (8, 1, 128), (16, 1, 128), (8, 8, 128), (64, 8, 64))
MLA_HEADS = (16, 32, 64, 128)
BATCHES = (1, 4, 16, 64, 256)
TOKENS = (1024, 4096, 16_384, 65_536, 131_072)
GEMM_ROWS = (1, 8, 32, 64, 128, 256, 512)
GEMM_SIDES = (1024, 2048, 4096, 7168, 8192, 16_384)
EXPERTS = ((7168, 2048), (4096, 1536), (2048, 768), (7168, 256))
ACTIVE, ROWS_AN_EXPERT = (1, 4, 16, 64), (1, 4, 16, 64)
GQA_TILES = ((64, 4, 3), (64, 4, 4), (64, 2, 4), (128, 4, 3), (128, 8, 3))
"""Tokens a step, warps, stages."""
MLA_TILES = ((32, 4, 3, 16), (64, 4, 2, 16), (64, 8, 2, 64), (64, 8, 3, 64), (32, 8, 3, 64))
"""The same, and heads a program."""
LARGE_BATCH, LARGE_TOKENS = 16, 65_536
"""The shape that a tile is chosen on."""
MESSAGES = tuple(2**power for power in range(8, 26))
SMALL_LAUNCHES = 32


@dataclass
class Log:
    """Rows as they come, by operation, dtype and kernel."""

    rows: dict[tuple[str, str, str], list[tuple[tuple[float, ...], float]]] = field(default_factory=dict)

    def add(self, operation: str, dtype: str, kernel: str, shape: tuple[float, ...], us: float) -> None:
        self.rows.setdefault((operation, dtype, kernel), []).append((shape, us))

    def measurements(self, source: str) -> list[Measurements]:
        return [
            Measurements(
                operation,
                dtype,
                kernel,
                {name: np.array([shape[i] for shape, _ in rows], float) for i, name in enumerate(OPERATIONS[operation])},
                np.array([us for _, us in rows]),
                np.arange(len(rows)),
                source,
                "this machine's GPU",
                np.ones(len(rows), dtype=bool),
            )
            for (operation, dtype, kernel), rows in self.rows.items()
        ]


def dtypes(torch: Any) -> Iterator[tuple[str, Any, int]]:
    """Name, torch's dtype and bytes of what this GPU computes in."""
    yield "bf16", torch.bfloat16, 2
    if torch.cuda.get_device_capability() >= (8, 9):
        yield "fp8", torch.float8_e4m3fn, 1


def splits_worth_trying(bench: Bench, programs: int, tokens: int) -> list[int]:
    """Numbers of parts: enough to fill the GPU once, twice, four times."""
    most = max(1, tokens // 128)
    return sorted({min(most, max(1, round(waves * bench.sms / programs))) for waves in (1, 2, 4)})


def best_tile(tiles: Any, timed: Callable[[Any], float]) -> Any:
    """The fastest of the tiles on a large shape; one that does not fit the GPU's shared memory is no candidate."""
    found = []
    for tile in tiles:
        try:
            found.append((timed(tile), tile))
        except Exception as error:
            # Triton's own error class moved between versions; its name did not.
            if type(error).__name__ != "OutOfResources":
                raise
    if not found:
        raise InputError("no tile of the attention kernel fits this GPU", field="--from gpu")
    return min(found)[1]


def _gqa_us(bench: Bench, kind: Any, heads: tuple[int, int, int], splits: int, tile: Any, batch: int, tokens: int) -> float:
    from helixplan.evidence.gpu import kernels

    (_, dtype, size), (query_heads, kv_heads, width) = kind, heads
    copies = bench.copies(2 * batch * kv_heads * tokens * width * size)
    room = kernels.scratch(batch * query_heads * splits, width)
    q = bench.rand(batch, kv_heads, query_heads // kv_heads, width)
    k, v = (bench.rand(copies, batch, kv_heads, tokens, width, dtype=dtype) for _ in "kv")
    out = bench.torch.empty_like(q)
    return bench.us([partial(kernels.attention, q, k[i], v[i], room, out, splits, tile) for i in range(copies)])


def measure_attention(bench: Bench, log: Log) -> None:
    for kind, heads in itertools.product(dtypes(bench.torch), GQA_SHAPES):
        query_heads, kv_heads, width = heads
        long = LARGE_TOKENS // kv_heads
        many = splits_worth_trying(bench, LARGE_BATCH * kv_heads, long)[-1]
        tile = best_tile(GQA_TILES, lambda tile, a=(bench, kind, heads, many), n=long: _gqa_us(*a, tile, LARGE_BATCH, n))
        for batch, tokens in itertools.product(BATCHES, TOKENS):
            if 2 * batch * kv_heads * tokens * width * kind[2] <= MOST_BYTES:
                tried = splits_worth_trying(bench, batch * kv_heads, tokens)
                us = min(_gqa_us(bench, kind, heads, splits, tile, batch, tokens) for splits in tried)
                log.add("attention", kind[0], "split KV", (batch, tokens, query_heads, kv_heads, width), us)


def _mla_us(bench: Bench, kind: Any, heads: int, splits: int, tile: Any, batch: int, tokens: int) -> float:
    from helixplan.evidence.gpu import kernels

    _, dtype, size = kind
    copies = bench.copies(batch * tokens * 576 * size)
    room = kernels.scratch(batch * heads * splits, 512)
    q, cache = bench.rand(batch, heads, 576), bench.rand(copies, batch, tokens, 576, dtype=dtype)
    out = bench.torch.empty((batch, heads, 512), dtype=bench.torch.bfloat16, device="cuda")
    return bench.us([partial(kernels.latent_attention, q, cache[i], room, out, splits, tile) for i in range(copies)])


def measure_latent_attention(bench: Bench, log: Log) -> None:
    for kind, heads in itertools.product(dtypes(bench.torch), MLA_HEADS):
        many = splits_worth_trying(bench, LARGE_BATCH, LARGE_TOKENS)[-1]
        tile = best_tile(MLA_TILES, lambda tile, a=(bench, kind, heads, many): _mla_us(*a, tile, LARGE_BATCH, LARGE_TOKENS))
        for batch, tokens in itertools.product(BATCHES, TOKENS):
            if batch * tokens * 576 * kind[2] <= MOST_BYTES:
                tried = splits_worth_trying(bench, batch, tokens)
                us = min(_mla_us(bench, kind, heads, splits, tile, batch, tokens) for splits in tried)
                log.add("latent_attention", kind[0], "split KV", (batch, tokens, heads), us)


def measure_gemms(bench: Bench, log: Log) -> None:
    """cuBLAS: bf16, and fp8 with one scale a matrix."""
    one = bench.torch.ones((), device="cuda")
    for (name, dtype, size), n, k in itertools.product(dtypes(bench.torch), GEMM_SIDES, GEMM_SIDES):
        weights = [bench.rand(n, k, dtype=dtype).t() for _ in range(bench.copies(n * k * size))]
        for m in GEMM_ROWS:
            rows = bench.rand(m, k, dtype=dtype)
            out = bench.torch.empty((m, n), dtype=bench.torch.bfloat16, device="cuda")
            log.add(
                "gemm", name, "cuBLAS", (m, n, k), bench.us([partial(_multiply, bench.torch, one, rows, w, out) for w in weights])
            )


def _multiply(torch: Any, one: Any, rows: Any, weights: Any, out: Any) -> None:
    if weights.dtype == torch.bfloat16:
        torch.matmul(rows, weights, out=out)
    else:
        torch._scaled_mm(rows, weights, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, out=out)


def measure_experts(bench: Bench, log: Log) -> None:
    """Gate and up, the activation, and down, each expert's rows together: what a grouped kernel does once tokens are sorted."""
    if not hasattr(bench.torch, "_grouped_mm"):
        return
    for (hidden, width), active in itertools.product(EXPERTS, ACTIVE):
        count = min(bench.copies(active * 3 * hidden * width * 2), 64)
        weights = [(bench.rand(active, hidden, 2 * width), bench.rand(active, width, hidden)) for _ in range(count)]
        for each in ROWS_AN_EXPERT:
            pairs = active * each
            rows = bench.rand(pairs, hidden)
            ends = bench.torch.arange(each, pairs + 1, each, dtype=bench.torch.int32, device="cuda")
            middle = bench.torch.empty((pairs, width), dtype=bench.torch.bfloat16, device="cuda")
            us = bench.us([partial(_experts, bench.torch, rows, ends, middle, pair) for pair in weights])
            log.add("grouped_gemm", "bf16", "grouped_mm", (pairs, active, pairs, hidden, width), us)


def _experts(torch: Any, rows: Any, ends: Any, middle: Any, weights: tuple[Any, Any]) -> None:
    from helixplan.evidence.gpu import kernels

    kernels.activate(torch._grouped_mm(rows, weights[0], offs=ends), middle)
    torch._grouped_mm(middle, weights[1], offs=ends)


def measure_small(bench: Bench, log: Log) -> None:
    """A layer's small kernels and the merge: their operands were just written, so they are warm here as in a step."""
    from helixplan.evidence.gpu import kernels

    def timed(kernel: Any, *operands: Any) -> float:
        return bench.us([partial(kernel, *operands)] * SMALL_LAUNCHES)

    torch = bench.torch
    for hidden, batch in itertools.product((4096, 7168, 16_384), (1, 16, 64, 256)):
        x, weight = bench.rand(batch, hidden), bench.rand(hidden)
        out = torch.empty_like(x)
        log.add("small", "", "norm", (batch, hidden), timed(kernels.norm, x, weight, out))
        log.add("small", "", "activation", (batch, hidden), timed(kernels.activate, bench.rand(batch, 2 * hidden), out))
        q, k, v = bench.rand(batch, hidden // 128, 128), bench.rand(batch, 8, 128), bench.rand(batch, 8, 128)
        angle, caches = torch.rand(batch, 64, device="cuda"), tuple(bench.rand(2 * batch, 8, 128) for _ in range(2))
        slots = torch.randperm(2 * batch, device="cuda")[:batch]
        us = timed(kernels.turn_and_append, q, k, v, (angle, angle), caches, slots)
        log.add("small", "", "rotary and KV append", (batch, hidden), us)
    for batch, heads, width, parts in itertools.product((1, 16, 64, 256), (8, 32, 128), (128, 512), (2, 8, 32)):
        part, out = bench.rand(batch, parts, heads, width), bench.rand(batch, heads, width)
        us = timed(kernels.merge, part, torch.randn(batch, parts, heads, device="cuda"), out)
        log.add("merge", "", "log-sum-exp", (batch, heads * parts, width, parts), us)


SWEEPS: dict[str, Callable[[Bench, Log], None]] = {
    "attention": measure_attention,
    "latent attention": measure_latent_attention,
    "GEMM": measure_gemms,
    "grouped GEMM": measure_experts,
    "small kernels": measure_small,
}
