"""The time of one operation on one GPU. Forms and constants: docs/cost-model.md, "What silicon adds".

Every function broadcasts over arrays with one entry a layout; times are seconds, sizes bytes. Each is non-decreasing in the
requests it serves.
"""

from __future__ import annotations

import numpy as np

from helixplan.cost.case import Machine
from helixplan.cost.timing import Timing
from helixplan.inputs.hardware import LatentAttentionKernel
from helixplan.inputs.model import (
    Attending,
    CompressedAttention,
    Expert,
    Gemm,
    GroupedQueryAttention,
    Indexer,
    LatentAttention,
    RecurrentAttention,
)
from helixplan.inputs.workload import ACTIVATION_BYTES, BYTES_PER_ELEMENT
from helixplan.numeric import Amount

MICRO = 1e-6
STATISTIC_BYTES = 4.0
"""A log-sum-exp, or a maximum or sum, of one head in fp32."""

OUTPUT_TILE = 128
"""Rows and columns of the output that a GEMM's thread block works on, in any kernel that splits its reduction."""
SPLIT_TOKENS = 512
"""A split-KV attention kernel cuts a request's cache no finer than this many tokens."""


def gemm(machine: Machine, requests: Amount, matrix: Gemm, dtype: str) -> Timing:
    """``requests`` rows times a weight matrix of ``dtype``: t0 + hypot(max(bytes/(e BW), flops/(f peak)), c k/1024/splits).

    Bytes are weights, inputs and outputs once each. A kernel that computes whole tiles of rows computes the padding too. One that
    splits its reduction does so past ``split_k``, into no more parts than there are SMs for each tile of the output.
    """
    kernel, math = machine.gemm_kernel(dtype)
    gpu = machine.hardware.gpu
    weights = matrix.elements * BYTES_PER_ELEMENT[dtype]
    moved = weights + matrix.heads * requests * (matrix.k + matrix.n) * ACTIVATION_BYTES
    rows = requests if kernel.row_tile == 1 else np.ceil(requests / kernel.row_tile) * kernel.row_tile
    memory_s = moved / (kernel.efficiency * gpu.memory_bytes_per_s)
    compute_s = 2.0 * rows * matrix.elements / ((kernel.math_efficiency or kernel.efficiency) * gpu.flops_per_s[math])
    reduction = kernel.reduction_us * MICRO * matrix.k / 1024
    if kernel.split_k is not None:
        tiles = np.ceil(requests / OUTPUT_TILE) * np.ceil(matrix.n / OUTPUT_TILE) * matrix.heads
        reduction = reduction / np.clip(matrix.k / kernel.split_k, 1.0, np.maximum(gpu.sms / tiles, 1.0))
    # np.hypot guards against overflow that cannot happen here, at five times the time.
    seconds = kernel.floor_us * MICRO + np.sqrt(np.maximum(memory_s, compute_s) ** 2 + reduction**2)
    if not machine.detailed:
        return Timing(seconds)
    flops = 2.0 * requests * matrix.elements
    return Timing(seconds, moved, weights, flops, memory_s=memory_s, compute_s=compute_s).judged(kernel.median_error)


def grouped_gemm(
    machine: Machine, tokens: Amount, active: Amount, pairs: Amount, expert: Expert, dtype: str, experts: int = 0
) -> Timing:
    """The routed experts of a GPU: ``active`` of them read, ``pairs`` token-expert pairs computed, the fastest kernel run.

    t0 + max(bytes/(e BW), flops/(f peak)) + a active + r tokens, for every rank sorts all ``tokens``. Bytes are the active
    experts' weights and each pair's input, two intermediates in (one without a gate), one out, and output. ``experts`` of
    the whole layer; a kernel may not run with more than some.
    """
    gpu = machine.hardware.gpu
    activations = pairs * (2 * expert.hidden + expert.matrices * expert.width) * ACTIVATION_BYTES
    weights = active * expert.elements * BYTES_PER_ELEMENT[dtype]
    moved = weights + activations
    flops = 2.0 * pairs * expert.elements
    best: Timing | None = None
    for kernel in machine.grouped_kernels(dtype, experts):
        memory_s = moved / (kernel.memory_efficiency * gpu.memory_bytes_per_s)
        compute_s = flops / (kernel.math_efficiency * gpu.flops_per_s[kernel.math])
        seconds = (kernel.floor_us + kernel.expert_us * active + kernel.token_us * tokens) * MICRO
        seconds = seconds + np.maximum(memory_s, compute_s)
        timing = Timing(seconds)
        if machine.detailed:
            timing = Timing(seconds, moved, weights, flops, memory_s=memory_s, compute_s=compute_s).judged(kernel.median_error)
        best = timing if best is None else best.or_cheaper(timing)
    assert best is not None  # the profile's schema asks for at least bf16's kernel
    return best


def attention_core(
    machine: Machine,
    attention: Attending,
    requests: Amount,
    tokens: Amount,
    query_heads: Amount,
    kv_heads: Amount,
) -> tuple[float, Timing]:
    """One layer's attention over a GPU's shard of the cache: (floor in seconds, what comes on top of it).

    ``tokens`` of each request, ``query_heads`` and ``kv_heads`` of the GPU.
    GQA: b hypot(max(r bytes/(e BW), flops/(f peak)), h kv_heads/1024 sqrt(head_dim/128)) + s log2(ns), r the head size's factor.
    MLA: b (k max(bytes/(e BW), flops/(f peak)) + h heads/1024) + s log2(ns), k the factor at 32 heads; at least l tokens/1024.
    Compressed tokens: MLA's form, their entries and the window's tokens as its tokens.
    ns = max(1, min(tokens/512, SMs/(requests kv_heads))): the parts a kernel cuts a request into to fill the GPU.

    ns falls as requests grow, so the sum could fall too, and no search over batches could be bounded. The time taken is therefore
    the most of any batch up to this one (docs/cost-model.md, "Order in batch"). Up to ``peak`` requests ns is constant and the
    time rises; past it the time is convex; so the most is at ``peak`` or at the end.
    """
    kernel, gpu = machine.attention_kernel(attention), machine.hardware.gpu
    math = machine.attention_math(attention)
    kv = tokens * kv_heads * attention.kv_elements_per_head * machine.kv_bytes
    if isinstance(attention, GroupedQueryAttention):
        flops = 4.0 * query_heads * tokens * attention.head_dim
        query_and_output = 2.0 * query_heads * attention.head_dim * ACTIVATION_BYTES
    else:
        width = attention.kv_elements_per_head + attention.output_dim
        flops = 2.0 * query_heads * tokens * width
        query_and_output = query_heads * width * ACTIVATION_BYTES
    moved = kv + query_and_output
    memory_s = moved / (kernel.memory_efficiency * gpu.memory_bytes_per_s)
    compute_s = flops / (kernel.math_efficiency * gpu.flops_per_s[math])
    if isinstance(kernel, LatentAttentionKernel):
        factor = np.where(np.asarray(query_heads) == 32, kernel.factor_at_32_heads, 1.0)
        memory_s, compute_s = factor * memory_s, factor * compute_s
        a_request = np.maximum(memory_s, compute_s) + kernel.head_us * MICRO * query_heads / 1024
    else:
        memory_s = memory_s * kernel.head_dim_factors.get(str(attention.output_dim), 1.0)
        by_head = kernel.kv_head_us * MICRO * kv_heads / 1024 * (attention.output_dim / 128) ** 0.5
        a_request = np.sqrt(np.maximum(memory_s, compute_s) ** 2 + by_head**2)

    finest, wanted = np.maximum(tokens / SPLIT_TOKENS, 1.0), gpu.sms / kv_heads
    peak = np.minimum(np.maximum(wanted / finest, 1.0), requests)

    def at(batch: Amount) -> Amount:
        splits = np.maximum(np.minimum(finest, wanted / batch), 1.0)
        return a_request * batch + kernel.split_us * MICRO * np.log2(splits)

    seconds = np.maximum(at(requests), at(peak))
    if isinstance(kernel, LatentAttentionKernel) and kernel.chain_us:
        seconds = np.maximum(seconds, kernel.chain_us * MICRO * tokens / 1024)
    if not machine.detailed:
        return kernel.floor_us * MICRO, Timing(seconds)
    on_top = Timing(
        seconds,
        requests * moved,
        requests * kv,
        requests * flops,
        memory_s=requests * memory_s,
        compute_s=requests * compute_s,
    )
    return kernel.floor_us * MICRO, on_top.judged(kernel.median_error)


INDEX_KERNELS, STATE_KERNELS = 2, 2
"""Launches beside the GEMMs: an indexer's scores and its choice; a short convolution and the step of the state."""


def index_core(
    machine: Machine, attention: LatentAttention | CompressedAttention, indexer: Indexer, requests: Amount, context: float
) -> Timing:
    """Scoring every token of a request (or entry), and choosing among them: 2 t0 + max(bytes/(e BW), flops/(f peak)).

    Bytes are the keys, the queries and the chosen tokens' numbers (4 each). No table measures it: attention's efficiencies
    stand in.
    """
    kernel, gpu = machine.attention_kernel(attention), machine.hardware.gpu
    keys = requests * context * indexer.head_dim * machine.kv_bytes
    chosen = requests * min(context, float(indexer.top_k)) * 4
    moved = keys + requests * indexer.heads * (indexer.head_dim + 1) * ACTIVATION_BYTES + chosen
    flops = 2.0 * requests * context * indexer.heads * indexer.head_dim
    memory_s = moved / (kernel.memory_efficiency * gpu.memory_bytes_per_s)
    compute_s = flops / (kernel.math_efficiency * gpu.flops_per_s[machine.attention_math(attention)])
    launches = small_kernels(machine, INDEX_KERNELS).seconds
    seconds = launches + np.maximum(memory_s, compute_s)
    if not machine.detailed:
        return Timing(seconds)
    return Timing(seconds, moved, keys, flops, memory_s=memory_s, compute_s=compute_s)


def state_step(
    machine: Machine, attention: RecurrentAttention, requests: Amount, query_heads: Amount, kv_heads: Amount
) -> Timing:
    """One token through a recurrent layer: every state and the convolution's inputs read and written once, 2 t0 besides.

    FLOPs: the state times the query, the outer product added to it, and with the delta rule the state times the key.
    """
    gpu = machine.hardware.gpu
    efficiency = machine.hardware.kernels.attention["bf16"].memory_efficiency
    held = requests * attention.held_bytes(query_heads, kv_heads)
    through = 2 * query_heads * attention.value_dim + 2 * kv_heads * attention.key_dim
    moved = 2 * held + requests * through * ACTIVATION_BYTES
    flops = 2.0 * (3 if attention.delta else 2) * requests * query_heads * attention.key_dim * attention.value_dim
    memory_s = moved / (efficiency * gpu.memory_bytes_per_s)
    compute_s = flops / (efficiency * gpu.flops_per_s["bf16"])
    seconds = small_kernels(machine, STATE_KERNELS).seconds + np.maximum(memory_s, compute_s)
    if not machine.detailed:
        return Timing(seconds)
    return Timing(seconds, moved, 2 * held, flops, memory_s=memory_s, compute_s=compute_s)


def merge(
    machine: Machine, requests: Amount, query_heads: Amount, output_heads: Amount, width: Amount, statistics: Amount = 1
) -> Timing:
    """Folding partial outputs by their log-sum-exps: every partial and its ``statistics`` read once, the result written once."""
    kernel, bandwidth = machine.hardware.kernels.overheads, machine.hardware.gpu.memory_bytes_per_s
    partials = requests * query_heads * (width * ACTIVATION_BYTES + statistics * STATISTIC_BYTES)
    moved = partials + requests * output_heads * width * ACTIVATION_BYTES
    memory_s = moved / bandwidth
    seconds = kernel.merge_us * MICRO + memory_s
    return Timing(seconds, moved, memory_s=memory_s) if machine.detailed else Timing(seconds)


def small_kernels(machine: Machine, count: int) -> Timing:
    """Norms, rotary, KV append, activation: launches, whose bytes are left out."""
    return Timing(machine.hardware.kernels.overheads.small_kernel_us * MICRO * count)
