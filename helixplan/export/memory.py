"""The part of a GPU's memory that a plan may use, as engines that count it otherwise ask for it, and back.

``memory_utilization`` is a part of all memory, for all that a GPU holds. vLLM asks for the same
(--gpu-memory-utilization); SGLang for weights and cache alone (--mem-fraction-static); TensorRT-LLM for the cache's part
of what weights and workspace leave free (kv_cache_config.free_gpu_memory_fraction).
"""

from __future__ import annotations

from helixplan.plans import PlanMemory

DIGITS = 4
LEAST = 10.0**-DIGITS


def _besides(memory: PlanMemory) -> float:
    """Bytes that are neither weights nor cache."""
    return memory.buffers_bytes + memory.workspace_bytes


def _capacity(memory: PlanMemory, utilization: float) -> float:
    return memory.limit_bytes / utilization


def weights_and_cache_share(memory: PlanMemory, utilization: float) -> float:
    """SGLang's --mem-fraction-static that leaves a plan what its utilization does."""
    return _rounded(utilization - _besides(memory) / _capacity(memory, utilization))


def free_share(memory: PlanMemory, utilization: float) -> float:
    """TensorRT-LLM's free_gpu_memory_fraction that leaves a plan what its utilization does."""
    taken = memory.weights_bytes + _besides(memory)
    return _rounded((memory.limit_bytes - taken) / (_capacity(memory, utilization) - taken))


def _rounded(share: float) -> float:
    return round(min(max(share, LEAST), 1.0), DIGITS)


def utilization_of(engine: str, share: float, memory: PlanMemory, capacity: float) -> float:
    """The part of all memory that an engine's own share comes to, at most all of it."""
    if engine == "sglang":
        share += _besides(memory) / capacity
    elif engine == "trtllm":
        taken = memory.weights_bytes + _besides(memory)
        share = (taken + share * max(capacity - taken, 0.0)) / capacity
    return min(share, 1.0)
