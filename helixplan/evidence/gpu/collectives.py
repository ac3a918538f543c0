"""Measures NCCL's collectives among this machine's GPUs, as CUDA-graph replays: one process a GPU."""

# mypy: ignore-errors
from __future__ import annotations

import socket
import statistics
from collections.abc import Iterator
from typing import Any

LAUNCHES, REPLAYS = 20, 7


def measure_collectives(gpus: int, messages: tuple[int, ...]) -> Iterator[tuple[str, int, int, float]]:
    """(operation, GPUs, bytes, microseconds) for groups of 2, 4, ... GPUs.

    Bytes: what a rank sends (all-to-all), contributes (all-gather) or holds (all-reduce).
    """
    import torch.multiprocessing as processes

    ranks = 2
    while ranks <= gpus:
        context = processes.get_context("spawn")
        results = context.SimpleQueue()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        processes.spawn(_worker, args=(ranks, address, messages, results), nprocs=ranks, join=True)
        yield from results.get()
        ranks *= 2


def _worker(rank: int, ranks: int, address: str, messages: tuple[int, ...], results: Any) -> None:
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    device = torch.device("cuda", rank)
    dist.init_process_group("nccl", init_method=address, rank=rank, world_size=ranks, device_id=device)
    rows = []
    for size in messages:
        for operation, launch, counted in _launches(torch, dist, ranks, size):
            times = torch.tensor([_us(torch, dist, launch)], device="cuda")
            # The slowest rank is the one that the others wait for.
            dist.all_reduce(times, op=dist.ReduceOp.MAX)
            rows.append((operation, ranks, counted, float(times)))
    if rank == 0:
        results.put(rows)
    dist.destroy_process_group()


def _launches(torch: Any, dist: Any, ranks: int, size: int) -> Iterator[tuple[str, Any, int]]:
    elements = max(size // 2, ranks)
    elements -= elements % ranks
    data = torch.randn(elements, device="cuda").to(torch.bfloat16)
    other = torch.empty_like(data)
    yield "all_reduce", lambda: dist.all_reduce(data), 2 * elements
    yield "all_to_all", lambda: dist.all_to_all_single(other, data), 2 * elements * (ranks - 1) // ranks
    mine = data[: elements // ranks].clone()
    yield "all_gather", lambda: dist.all_gather_into_tensor(other, mine), 2 * elements // ranks


def _us(torch: Any, dist: Any, launch: Any) -> float:
    launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(LAUNCHES):
            launch()
    times = []
    for _ in range(REPLAYS + 1):
        dist.barrier()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3 / LAUNCHES)
    return statistics.median(times[1:])
