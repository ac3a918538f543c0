"""What the cost model says of a measured operation: the very functions a plan is priced with, given the measured shapes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from helixplan.cost.case import Machine
from helixplan.cost.collectives import Fabric, all_gather, all_reduce, all_to_all
from helixplan.cost.roofline import attention_core, gemm, grouped_gemm, merge, small_kernels
from helixplan.evidence.measurements import Measurements
from helixplan.inputs.hardware import Hardware
from helixplan.inputs.model import Expert, Gemm, GroupedQueryAttention, LatentAttention
from helixplan.inputs.workload import ACTIVATION_BYTES, BYTES_PER_ELEMENT, Workload
from helixplan.numeric import Floats

DEEPSEEK = LatentAttention(query_heads=128, kv_rank=512, rope_dim=64, nope_dim=128, value_dim=128, query_rank=1536)
"""The MLA of DeepSeek-V3, which is what the latent attention tables measured."""


def machine_for(hardware: Hardware, dtype: str) -> Machine:
    """A GPU whose cache is of ``dtype``, at the clock ``hardware`` shows."""
    cache = dtype if dtype in ("bf16", "fp8") else None
    return Machine(hardware, Workload(context_tokens=1, kv_dtype=cache), detailed=False)


def with_kernel(hardware: Hardware, operation: str, dtype: str, kernel: Any) -> Hardware:
    """``hardware`` with one table of constants replaced: ``kernel`` for ``dtype``, or for the collective ``operation``."""
    kernels = hardware.kernels
    if operation == "grouped_gemm":
        value: Any = {**kernels.grouped_gemm, dtype: kernel if isinstance(kernel, list) else [kernel]}
    elif dtype:
        value = {**getattr(kernels, operation), dtype: kernel}
    else:
        value = kernel
    return replace(hardware, kernels=kernels.model_copy(update={operation: value}))


def predicted(hardware: Hardware, found: Measurements) -> Floats:
    """Seconds, one a row, under the clock ``hardware`` shows."""
    machine = machine_for(hardware, found.dtype)
    seconds = _PRICED[found.operation](machine, found)
    return np.broadcast_to(np.asarray(seconds, dtype=float), found.us.shape)


def working_set(found: Measurements) -> Floats:
    """Bytes a kernel reads that a cold cache would have to fetch: the KV cache, or the weights. 0 for what has neither."""
    element = BYTES_PER_ELEMENT[found.dtype] if found.dtype else 0.0
    if found.operation == "attention":
        return found["batch"] * found["tokens"] * found["kv_heads"] * 2 * found["head_dim"] * element
    if found.operation == "latent_attention":
        return found["batch"] * found["tokens"] * DEEPSEEK.kv_elements_per_head * element
    if found.operation == "gemm":
        m, n, k = found["m"], found["n"], found["k"]
        return k * n * element + m * (k + n) * ACTIVATION_BYTES
    if found.operation == "grouped_gemm":
        return np.asarray(found["active"] * Expert(found["hidden"], found["width"]).elements * element)
    return np.zeros(len(found))


def _attention(machine: Machine, found: Measurements) -> Floats:
    seconds = np.empty(len(found))
    for head_dim in np.unique(found["head_dim"]):
        rows = found["head_dim"] == head_dim
        one = found.where(rows)
        kind = GroupedQueryAttention(query_heads=1, kv_heads=1, head_dim=int(head_dim))
        seconds[rows] = _core(machine, kind, one, one["query_heads"], one["kv_heads"])
    return seconds


def _core(
    machine: Machine,
    kind: GroupedQueryAttention | LatentAttention,
    found: Measurements,
    query_heads: Floats,
    kv_heads: Floats | float,
) -> Floats:
    floor, rest = attention_core(machine, kind, found["batch"], found["tokens"], query_heads, kv_heads)
    return np.asarray(floor + rest.seconds)


def _latent(machine: Machine, found: Measurements) -> Floats:
    return _core(machine, DEEPSEEK, found, found["query_heads"], 1.0)


def _gemm(machine: Machine, found: Measurements) -> Any:
    return gemm(machine, found["m"], Gemm("", found["k"], found["n"]), found.dtype).seconds


def _grouped(machine: Machine, found: Measurements) -> Any:
    expert = Expert(found["hidden"], found["width"])
    return grouped_gemm(machine, found["tokens"], found["active"], found["pairs"], expert, found.dtype).seconds


def _over(collective: Any) -> Any:
    def price(machine: Machine, found: Measurements) -> Any:
        ranks = found["gpus"]
        return collective(Fabric(machine, ranks), ranks, ranks, found["bytes"]).seconds

    return price


def _merge(machine: Machine, found: Measurements) -> Any:
    parts = found["parts"]
    heads = found["query_heads"]
    seconds = np.empty(len(found))
    for head_dim in np.unique(found["head_dim"]):
        rows = found["head_dim"] == head_dim
        output = heads[rows] / parts[rows]
        seconds[rows] = merge(machine, found["batch"][rows], heads[rows], output, int(head_dim)).seconds
    return seconds


_PRICED: dict[str, Any] = {
    "attention": _attention,
    "latent_attention": _latent,
    "gemm": _gemm,
    "grouped_gemm": _grouped,
    "all_to_all": _over(all_to_all),
    "all_gather": _over(all_gather),
    "all_reduce": _over(all_reduce),
    "small": lambda machine, found: small_kernels(machine, 1).seconds,
    "merge": _merge,
}
