"""Measures this machine's GPU (extra ``gpu``): its kernels, and its collectives where it has company."""

from __future__ import annotations

import datetime
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from helixplan.errors import InputError
from helixplan.evidence.gpu.bench import Bench
from helixplan.evidence.gpu.sweeps import MESSAGES, SWEEPS, Log
from helixplan.evidence.measurements import Measurements

LARGE = 16.0
"""A cache of so many times L2 is read from memory, whatever the copies."""
INSTALL = "pip install 'helixplan[gpu]'"
READ_GOAL = 0.85
"""The share of the card's read bandwidth that attention over a large cache must reach to stand for a good kernel."""


@dataclass(frozen=True)
class Run:
    """What was measured, on which device, under which driver and when, and how good the kernels were."""

    measurements: list[Measurements]
    about: dict[str, str]
    speed: str


def measure(tell: Callable[[str], None] = lambda said: None) -> Run:
    """Everything one GPU can tell, and the collectives where there are several.

    Raises InputError where torch, Triton or a GPU is missing, or a kernel does not compute what it should.
    """
    torch = _torch()
    from helixplan.evidence.gpu.checks import check_kernels

    log, bench = Log(), Bench(torch)
    tell("kernels against float64")
    check_kernels(bench)
    for name, sweep in SWEEPS.items():
        tell(name)
        sweep(bench, log)
        torch.cuda.empty_cache()
    if torch.cuda.device_count() > 1:
        tell("collectives")
        from helixplan.evidence.gpu.collectives import measure_collectives

        for operation, gpus, size, us in measure_collectives(torch.cuda.device_count(), MESSAGES):
            log.add(operation, "", "NCCL", (gpus, size), us)
    about = _about(torch)
    return Run(log.measurements(", ".join(about.values())), about, _speed(bench, log))


def _speed(bench: Bench, log: Log) -> str:
    """How near attention over the largest caches came to the card's read bandwidth: a slow kernel is no measure of a GPU."""
    read = bench.read_bytes_per_s()
    reached: dict[str, float] = {}
    for operation, dtype, kernel in log.rows:
        if operation in ("attention", "latent_attention"):
            sized = [(_cache_bytes(shape, dtype), us) for shape, us in log.rows[operation, dtype, kernel]]
            rates = [held / us * 1e6 for held, us in sized if held > LARGE * bench.cache_bytes]
            if rates:
                reached[f"{operation} {dtype}"] = max(rates) / read
    told = ", ".join(f"{name} {share:.0%}" for name, share in reached.items())
    slow = [name for name, share in reached.items() if share < READ_GOAL]
    verdict = f"; constants of a kernel under {READ_GOAL:.0%} ({', '.join(slow)}) say more of it than of the GPU" if slow else ""
    return f"of the {read / 1e12:.2f} TB/s that a plain sum reads, the split-KV kernels read: {told}{verdict}"


def _cache_bytes(shape: tuple[float, ...], dtype: str) -> float:
    """Of a measured shape of attention: (batch, tokens, query heads, KV heads, head size), or of MLA without the last two."""
    batch, tokens, _, kv_heads, width = shape if len(shape) == 5 else (*shape, 1, (512 + 64) / 2)
    return 2 * batch * tokens * kv_heads * width * (2 if dtype == "bf16" else 1)


def _torch() -> Any:
    """torch, with a GPU and Triton. Raises InputError that says which is missing."""
    for package in ("torch", "triton"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"measuring a GPU needs {package}, which is not installed here; {INSTALL}", field="--from gpu")
    import torch

    if not torch.cuda.is_available():
        raise InputError("measuring a GPU needs one, and torch sees none here", field="--from gpu")
    return torch


def _about(torch: Any) -> dict[str, str]:
    driver = "unknown"
    if importlib.util.find_spec("pynvml"):
        import pynvml

        pynvml.nvmlInit()
        driver = pynvml.nvmlSystemGetDriverVersion()
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"device": torch.cuda.get_device_name(), "driver": f"driver {driver}", "measured_on": today}
