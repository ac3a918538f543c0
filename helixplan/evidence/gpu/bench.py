"""Times launches on one GPU: CUDA-graph replays on cold caches, the median of several.

A graph holds many launches of one kernel, each on its own copy of the operands, more bytes together than several caches, so that
what one launch reads was not left there by the one before.
"""

# mypy: ignore-errors
from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np

REPLAYS = 7
COLD = 8.0
"""The copies of the operands of one graph take so many caches' bytes, so that even a cache that keeps old lines keeps few."""
MOST_COPIES, FEWEST_LAUNCHES = 256, 8


class Bench:
    """Times launches on one GPU."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self.sms = torch.cuda.get_device_properties(0).multi_processor_count

    def copies(self, size: float) -> int:
        """How many copies of ``size`` bytes keep every launch's operands cold."""
        return int(min(max(np.ceil(COLD * self.cache_bytes / max(size, 1.0)) + 1, 2), MOST_COPIES))

    def rand(self, *shape: int, dtype: Any = None) -> Any:
        """Random operands: never zeros, which run faster than real data."""
        wanted = dtype or self.torch.bfloat16
        out = self.torch.empty(shape, dtype=self.torch.bfloat16, device="cuda").normal_()
        return out if wanted == self.torch.bfloat16 else out.to(wanted)

    def us(self, launches: list[Callable[[], None]], replays: int = REPLAYS) -> float:
        """Microseconds a launch: the median of graph replays, each of all launches, repeated until there are some."""
        torch = self.torch
        often = max(1, -(-FEWEST_LAUNCHES // len(launches)))
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for launch in launches[:2]:
                launch()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(often):
                for launch in launches:
                    launch()
        graph.replay()
        times = []
        for _ in range(replays):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            graph.replay()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) * 1e3)
        del graph
        return statistics.median(times) / (often * len(launches))

    def read_bytes_per_s(self) -> float:
        """The card's read bandwidth: attention-like, many programs summing what they read. Bytes a second."""
        data = [self.rand(1 << 30) for _ in range(2)]
        outs = [self.torch.empty((), dtype=self.torch.bfloat16, device="cuda") for _ in data]
        calls = [lambda x=x, out=out: self.torch.sum(x, dim=0, out=out) for x, out in zip(data, outs, strict=True)]
        return 2 * (1 << 30) / (self.us(calls) * 1e-6)
