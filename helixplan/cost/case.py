"""One model on one system under one workload, with every default resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from helixplan.errors import InputError
from helixplan.inputs.hardware import AttentionKernel, GemmKernel, GroupedGemmKernel, Hardware, LatentAttentionKernel
from helixplan.inputs.model import (
    Attention,
    CompressedAttention,
    LatentAttention,
    Model,
    MoE,
    RecurrentAttention,
    WeightPrecision,
)
from helixplan.inputs.workload import BYTES_PER_ELEMENT, Workload

ALL_TO_ALL = "all-to-all"
GATHERED_ALL_TO_ALL = "gathered queries, all-to-all"
GATHERED_REDUCE_SCATTER = "gathered queries, reduce-scatter"
EXCHANGE_WAYS = (ALL_TO_ALL, GATHERED_ALL_TO_ALL, GATHERED_REDUCE_SCATTER)
"""How KVP ranks bring a head's attention together (docs/cost-model.md, "What an engine changes"): every rank projects all the
queries it attends to and partial outputs go all-to-all (Helix 2.1); or each projects its share of them, which are then gathered;
and log-sum-exps are gathered, outputs corrected where they are and reduce-scattered."""


@dataclass(frozen=True)
class Communication:
    """What whoever runs the layout can do between KVP ranks. The defaults are the paper's."""

    exchange_ways: tuple[str, ...] = (ALL_TO_ALL,)
    """Of ``EXCHANGE_WAYS``; the cheapest is taken, the first where they tie."""
    statistics: int = 1
    """fp32 numbers that go with a head's partial output: its log-sum-exp, or its maximum and sum apart."""
    overlaps: bool = True
    """HOP-B (Helix 2.1.3)."""
    exchanges_values: bool = True
    """Whether MLA's ranks may lift their outputs to values before they exchange them."""


PAPER = Communication()


@dataclass(frozen=True)
class Machine:
    """What one GPU is asked to do, of whatever model: which kernel runs which dtype, in which arithmetic.

    Raises InputError where the workload asks for arithmetic the GPU does not have.
    """

    hardware: Hardware
    """Already seen through the workload's clock."""
    workload: Workload
    detailed: bool = True
    """Whether timings tell bytes, FLOPs and what binds them, or seconds alone, which is all that a score needs."""

    def __post_init__(self) -> None:
        math, flops = self.workload.attention_math, self.hardware.gpu.flops_per_s
        if math is not None and math not in flops:
            raise InputError(
                f"got {math!r}, but {self.hardware.gpu.name} computes only in {', '.join(flops)}",
                field="attention_math",
            )

    @cached_property
    def kv_dtype(self) -> str:
        return self.workload.kv_dtype or ("fp8" if self.hardware.computes_fp8 else "bf16")

    @cached_property
    def kv_bytes(self) -> float:
        """Bytes an element of the KV cache."""
        return BYTES_PER_ELEMENT[self.kv_dtype]

    def attention_kernel(self, attention: Attention) -> AttentionKernel | LatentAttentionKernel:
        """The constants of the kernel that reads this cache: fp8's serve every narrower dtype too, MLA's compressed tokens."""
        kernels = self.hardware.kernels
        latent = isinstance(attention, (LatentAttention, CompressedAttention))
        table = kernels.latent_attention if latent else kernels.attention
        return table.get("bf16" if self.kv_dtype == "bf16" else "fp8", table["bf16"])

    def attention_math(self, attention: Attention) -> str:
        """The core's arithmetic: the workload's, or the kernel's own where the GPU has it, else bf16; a state's is bf16."""
        if isinstance(attention, RecurrentAttention):
            return "bf16"
        own = self.attention_kernel(attention).math
        return self.workload.attention_math or (own if own in self.hardware.gpu.flops_per_s else "bf16")

    def gemm_kernel(self, dtype: str) -> tuple[GemmKernel, str]:
        """The kernel for weights of ``dtype`` and its arithmetic; bf16's, weights only narrower, where there is none."""
        kernels, flops = self.hardware.kernels.gemm, self.hardware.gpu.flops_per_s
        if dtype == "fp8" and "fp8" in kernels and "fp8" in flops:
            return kernels["fp8"], "fp8"
        if dtype in ("fp4", "nvfp4", "mxfp4") and "nvfp4" in kernels and "fp4" in flops:
            return kernels["nvfp4"], "fp4"
        return kernels["bf16"], "bf16"

    def grouped_kernels(self, dtype: str, experts: int = 0) -> list[GroupedGemmKernel]:
        """The kernels for so many experts of ``dtype``, of which the fastest is run; bf16's where there is none."""
        flops = self.hardware.gpu.flops_per_s
        own = self.hardware.kernels.grouped_gemm.get("nvfp4" if dtype == "fp4" else dtype, [])  # type: ignore[call-overload]
        runnable = [kernel for kernel in own if kernel.math in flops and experts <= (kernel.most_experts or experts)]
        return runnable or self.hardware.kernels.grouped_gemm["bf16"]


@dataclass(frozen=True)
class Case:
    """What the cost functions ask about. ``hardware`` already shows the workload's clock.

    Raises InputError where the workload asks for arithmetic the GPU does not have.
    """

    model: Model
    hardware: Hardware
    workload: Workload
    detailed: bool = True
    """As a ``Machine``'s."""
    communication: Communication = PAPER
    lifted: frozenset[str] = frozenset()
    """Names of the engine's rules that need not be kept: what would be without them."""
    ways: Mapping[str, str] = field(default_factory=dict, hash=False)
    """How collectives run where it is not the cheapest way that is wanted: by phase, and for the FFN's its layer group too."""

    def __post_init__(self) -> None:
        _ = self.machine

    @property
    def overlap(self) -> str:
        """The workload's ``overlap``; none where there is nothing to overlap with."""
        return self.workload.overlap if self.communication.overlaps else "none"

    @property
    def exchange(self) -> str:
        """The workload's ``exchange``; latent where values cannot be exchanged."""
        return self.workload.exchange if self.communication.exchanges_values else "latent"

    @property
    def exchange_ways(self) -> tuple[str, ...]:
        """The ways that attention may be brought together in: one where ``ways`` says which."""
        asked = self.ways.get("attention.exchange")
        return self.communication.exchange_ways if asked is None else (asked,)

    @cached_property
    def machine(self) -> Machine:
        return Machine(self.hardware, self.workload, self.detailed)

    @cached_property
    def precision(self) -> WeightPrecision:
        """The weights' dtypes, component by component."""
        return self.model.precision.override(self.workload.weight_dtype)

    def borrowed_kernels(self) -> list[tuple[str, str]]:
        """Dtypes of this model's weights whose kernels are bf16's for want of own constants, and which kernels.

        Not int4: its weight-only kernels are taken as bf16's on every system, which the cost model states.
        """
        borrowed, machine = [], self.machine
        for _, ffn, _ in self.model.ffn_kinds:
            if isinstance(ffn, MoE):
                dtype = self.precision.experts
                if machine.grouped_kernels(dtype) is machine.hardware.kernels.grouped_gemm["bf16"]:
                    borrowed.append((dtype, "experts"))
        parts = {"attention": self.precision.attention}
        for _, ffn, _ in self.model.ffn_kinds:
            part = "shared" if isinstance(ffn, MoE) else "dense"
            if not isinstance(ffn, MoE) or ffn.shared:
                parts[part] = self.precision.of(part)
        for dtype in parts.values():
            if machine.gemm_kernel(dtype)[0] is machine.hardware.kernels.gemm["bf16"]:
                borrowed.append((dtype, "GEMMs"))
        return [pair for pair in dict.fromkeys(borrowed) if pair[0] not in ("bf16", "int4")]

    def brief(self) -> Case:
        """The same with timings that tell seconds alone."""
        return replace(self, detailed=False)

    def at_context(self, tokens: int) -> Case:
        """The same at another context."""
        return replace(self, workload=replace(self.workload, context_tokens=tokens))

    def ideal(self) -> Case:
        """The same at the speed of light."""
        return replace(self, hardware=self.hardware.at(0.0))


def pose(model: Model, hardware: Hardware, workload: Workload, communication: Communication | None = None) -> Case:
    """The case, with the hardware seen through the workload's clock. An engine's is posed by ``engines.posed``."""
    if communication is None and workload.engine not in (None, "none"):
        raise TypeError(f"{workload.engine} has a way of communicating of its own, which has to be given")
    return Case(model, hardware.at(workload.clock), workload, communication=communication or PAPER)
