"""Published results that the cost model can be held against, each with its source and its limit (limits.toml)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import pose
from helixplan.cost.roofline import attention_core
from helixplan.cost.step import attention_part
from helixplan.evidence.predict import DEEPSEEK, machine_for
from helixplan.evidence.validate import limits
from helixplan.inputs.hardware import load_hardware
from helixplan.inputs.huggingface import load_model
from helixplan.inputs.workload import Workload
from helixplan.layout import Layout, Layouts


@dataclass(frozen=True)
class Claim:
    """One published figure, where it stands, and how it is worked out here."""

    name: str
    what: str
    figure: float
    unit: str
    source: str
    predict: Callable[[], float]


@dataclass(frozen=True)
class Held:
    """A claim beside this model's figure. ``error`` is a fraction of the published one."""

    claim: Claim
    predicted: float
    limit: float

    @property
    def error(self) -> float:
        return self.predicted / self.claim.figure - 1

    @property
    def holds(self) -> bool:
        return abs(self.error) <= self.limit


def against_published() -> Iterator[Held]:
    """Every claim beside this model's figure."""
    errors = {entry["claim"]: float(entry["error"]) for entry in limits()["published"]}
    for claim in CLAIMS:
        yield Held(claim, claim.predict(), errors[claim.name])


def kv_capacity_gain() -> float:
    """Tokens of cache that 8 GPUs hold under DCP 8, against TP 8, whose GPUs all hold the same latent cache (Kimi K2)."""
    case = pose(load_model("kimi-k2"), load_hardware("h200-hgx"), Workload(context_tokens=1_000_000, kv_dtype="fp8"))
    tp, dcp = (attention_part(case, Layouts.of(layout), 1).memory[0] for layout in (Layout(1, 8, 8, 1), Layout(8, 1, 8, 1)))
    return float(np.asarray(tp.kv_cache_bytes).item() / np.asarray(dcp.kv_cache_bytes).item())


def mla_speed_up(batch: int) -> float:
    """How much faster a GPU's MLA core gets when eight share a cache of 131,072 tokens. H800's GPU is H100's, links apart."""
    machine = machine_for(load_hardware("h100-hgx"), "bf16")
    seconds = []
    for tokens in (131_072.0, 131_072.0 / 8):
        floor, rest = attention_core(machine, DEEPSEEK, float(batch), tokens, float(DEEPSEEK.query_heads), 1.0)
        seconds.append(floor + float(rest.seconds))
    return seconds[0] / seconds[1]


def r1_cache_gib() -> float:
    """GiB of one DeepSeek-R1 request's cache at 136,000 tokens in fp8."""
    return load_model("deepseek-r1").kv_bytes_per_token("fp8") * 136_000 / 2**30


CLAIMS = (
    Claim(
        "kv-capacity-under-dcp",
        "KV capacity under decode context parallelism 8, Kimi K2, 8 GPUs",
        8.0,
        "x",
        "vLLM's report on decode context parallelism (Kimi-K2.6, 8 GPUs): capacity grows as DCP, within 1 %",
        kv_capacity_gain,
    ),
    Claim(
        "mla-kvp8-batch-1",
        "MLA core at KVP 8 against KVP 1, 128Ki tokens, batch 1",
        2.8,
        "x",
        "InferSim's kernel tables, H800",
        lambda: mla_speed_up(1),
    ),
    Claim(
        "mla-kvp8-batch-16",
        "MLA core at KVP 8 against KVP 1, 128Ki tokens, batch 16",
        7.4,
        "x",
        "InferSim's kernel tables, H800",
        lambda: mla_speed_up(16),
    ),
    Claim(
        "r1-kv-gib",
        "KV cache of a DeepSeek-R1 request of 136,000 tokens in fp8",
        4.45,
        "GiB",
        "61 layers of 512 + 64 elements (DeepSeek-V3's technical report, arXiv 2412.19437)",
        r1_cache_gib,
    ),
)
