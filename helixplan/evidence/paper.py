"""The claims of the Helix paper and of its first silicon, beside what this model says under the same request.

No constant is moved to meet a claim. The paper's simulator stands between the ideal clock and the measured one: the floor scale
at which DeepSeek-R1's 1.5x falls is found from that claim alone, and every other claim is then read off there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from helixplan.cost.case import Case, pose
from helixplan.cost.collectives import overlapped
from helixplan.inputs.hardware import Hardware, load_hardware
from helixplan.inputs.huggingface import load_model
from helixplan.inputs.workload import Request, Workload
from helixplan.search.comparison import Compared, compare
from helixplan.search.frontier import find_frontier
from helixplan.search.rules import FAMILIES

GPUS = Request(max_gpus=64)
PAPER = Workload(1_000_000, weight_dtype="fp4", kv_dtype="fp4", attention_math="fp4")
"""Helix 3.1: a million tokens, fp4 throughout, arithmetic included, up to 64 GPUs."""
SILICON = Workload(1_000_000, weight_dtype="nvfp4", kv_dtype="fp8", overlap="none")
R1_BASELINES, LLAMA_BASELINES = ("tp", "pp", "dp-ep"), ("tp", "pp", "medha")
NEAR = 0.1
"""A claim comes out where ours is within a tenth of it."""


_COMPARED: dict[Any, Compared] = {}
"""Several claims read the same comparison."""


@dataclass(frozen=True)
class Trial:
    """One model on one system against some baselines."""

    model: str
    hardware: str
    baselines: tuple[str, ...]
    workload: Workload

    def case(self, scale: float, change: Change | None = None) -> Case:
        hardware, work = load_hardware(self.hardware), replace(self.workload, floor_scale=scale)
        if change is not None:
            hardware, work = change.hardware(hardware), replace(work, **change.workload)
        return pose(load_model(self.model), hardware, work)

    def compared(self, scale: float, change: Change | None = None) -> Compared:
        """Both sides at a floor scale, with one assumption changed. Raises RuntimeError where a side has no layout."""
        key = (self, scale, None if change is None else (change.assumption, change.value))
        if key not in _COMPARED:
            _COMPARED[key] = self._compared(scale, change)
        return _COMPARED[key]

    def _compared(self, scale: float, change: Change | None) -> Compared:
        baselines = change.baselines if change is not None and change.baselines else self.baselines
        found = compare(self.case(scale, change), GPUS, baselines)
        if found is None:
            raise RuntimeError(f"nothing to compare for {self.model}")
        return found

    def interactivity_ratio(self, scale: float) -> float:
        """The fastest a user can be on either side: a batch of one."""
        case, alone = self.case(scale), replace(GPUS, batch=1)

        def fastest(families: tuple[str, ...]) -> float:
            found = [find_frontier(case, replace(alone, family=name)).points for name in families]
            return min(points[0].ttl_s for points in found if points)

        return fastest(self.baselines) / fastest(tuple(FAMILIES))


@dataclass(frozen=True)
class Change:
    """One assumption taken otherwise."""

    assumption: str
    value: str
    hardware: Callable[[Hardware], Hardware] = lambda system: system
    workload: dict[str, Any] = field(default_factory=dict)
    baselines: tuple[str, ...] = ()


def _with_overhead(**constants: float) -> Callable[[Hardware], Hardware]:
    return lambda system: _with(system, "overheads", constants)


def _with_growth(us: float) -> Callable[[Hardware], Hardware]:
    return lambda system: _with(system, "all_reduce", {"growth_us": us})


def _with(system: Hardware, table: str, constants: dict[str, float]) -> Hardware:
    changed = getattr(system.file.kernels, table).model_copy(update=constants)
    kernels = system.file.kernels.model_copy(update={table: changed})
    return replace(system, kernels=kernels, file=system.file.model_copy(update={"kernels": kernels}))


def changes(trial: Trial) -> list[Change]:
    """Every assumption that could decide a claim, taken otherwise, one at a time."""
    found = [Change("attention arithmetic", math, workload={"attention_math": math}) for math in ("bf16", "fp8")]
    found += [Change("all-reduce growth", f"{us:g} us a doubling", _with_growth(us)) for us in (0.0, 3.0)]
    if trial.model.startswith("deepseek"):
        found += [Change("exchange", kind, workload={"exchange": kind}) for kind in ("latent", "value")]
    found += [Change("HOP-B's hand-over", f"{us:g} us", _with_overhead(chunk_handover_us=us)) for us in (0.0, 10.0)]
    found += [Change("baseline", name, baselines=(name,)) for name in trial.baselines]
    return found


@dataclass(frozen=True)
class Claim:
    """A published figure and how it reads in a comparison."""

    name: str
    trial: Trial
    figure: float
    unit: str
    source: str
    read: Callable[[Compared], float]
    how: str = "up to"


def _speed(found: Compared) -> float:
    return found.interactivity.ratio


def _users(found: Compared) -> float:
    return found.users.ratio


def _loss(found: Compared) -> float:
    return 100 * found.overlap_loss


def _throughput(found: Compared) -> float:
    return found.throughput.ratio


R1 = Trial("deepseek-r1", "gb200-nvl72", R1_BASELINES, PAPER)
LLAMA = Trial("llama-3.1-405b", "gb200-nvl72", LLAMA_BASELINES, PAPER)
LLAMA_TP = replace(LLAMA, baselines=("tp",))
GB300 = Trial("deepseek-r1", "gb300-nvl72", R1_BASELINES, SILICON)
CLAIMS = (
    Claim("R1, tokens/s/user", R1, 1.5, "x", "Helix 3.2, simulated", _speed),
    Claim("R1, users at a latency", R1, 32.0, "x", "Helix 3.2, simulated", _users),
    Claim("Llama 405B, tokens/s/user", LLAMA, 1.13, "x", "Helix 3.2, simulated", _speed),
    Claim("Llama 405B, tokens/s/GPU against TP", LLAMA_TP, 4.0, "x", "Helix 3.2, simulated", _throughput),
    Claim("R1, loss without HOP-B", R1, 1.0, "%", "Helix 3.3, simulated", _loss, "about"),
    Claim("Llama 405B, loss without HOP-B", LLAMA, 12.0, "%", "Helix 3.3, simulated", _loss),
)
SILICON_CLAIMS = (
    Claim("R1 on GB300, tokens/s/user", GB300, 1.8, "x", "TensorRT-LLM's Helix blog, 2026, silicon without HOP-B", _speed),
    Claim("R1 on GB300, concurrent users", GB300, 32.0, "x", "TensorRT-LLM's Helix blog, 2026, silicon without HOP-B", _users),
)


@cache
def found_scale() -> float:
    """The floor scale at which R1's 1.5x falls, to a thousandth, by halving: the ratio falls as floors rise."""
    low, high = 0.0, 1.0
    while high - low > 5e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if R1.interactivity_ratio(middle) > CLAIMS[0].figure else (low, middle)
    return round((low + high) / 2, 3)


FIGURE_1 = {"batch": 8, "query_heads": 128, "kv_heads": 8, "head_dim": 128, "ffn": 65_536, "hidden": 16_384, "element": 0.5}
WIDTHS, KVPS = (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8)
BANDWIDTH, CONTEXT = 8e12, 1_000_000


def kv_read_us(tpa: int, kvp: int) -> float:
    """Appendix A: microseconds to read a layer's KV cache on one GPU. B 2 ceil(K/tpa) d (S/kvp) bytes/BW"""
    f = FIGURE_1
    heads = -(-f["kv_heads"] // tpa)
    return f["batch"] * 2 * heads * f["head_dim"] * (CONTEXT / kvp) * f["element"] / BANDWIDTH * 1e6


def weights_read_us(width: int) -> float:
    """Appendix A: microseconds to read a layer's weights at TPA = TPF = width, past the KV heads with whole KV heads."""
    f = FIGURE_1
    queries = 2 * f["hidden"] * (f["query_heads"] / width) * f["head_dim"]
    keys = 2 * f["hidden"] * -(-f["kv_heads"] // width) * f["head_dim"]
    return (queries + keys + 3 * f["hidden"] * f["ffn"] / width) * f["element"] / BANDWIDTH * 1e6


def figure_3() -> tuple[float, float]:
    """Eight requests of 2 units of attention and 1.2 of exchange each: units without overlap, and with every request a chunk."""
    return tuple(float(overlapped(0.0, 16.0, 0.0, 9.6, 0.0, chunks)) for chunks in (1, 8))  # type: ignore[return-value]
