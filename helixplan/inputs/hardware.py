"""A system's profile: datasheet numbers and kernel constants, each with its source.

A profile is read once and then seen through a clock: ``Hardware.at(floor_scale)`` walks every kernel constant between the
speed of light (0: no floors, full efficiency) and what was measured (1).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from helixplan.errors import InputError
from helixplan.inputs.catalog import bundled_hardware, find_hardware
from helixplan.inputs.validation import parse_toml, read_text, validate

Size = Annotated[float, Field(ge=1e6, le=1e20, allow_inf_nan=False)]
Microseconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Efficiency = Annotated[float, Field(ge=0.001, le=1)]
Rows = Annotated[int, Field(ge=0, le=10**9, strict=True)]
Math = Literal["bf16", "fp8", "fp4"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Figure(_Strict):
    """A number and where it comes from."""

    value: Size
    source: Annotated[str, Field(min_length=1)]


class Whole(_Strict):
    """A whole number and where it comes from."""

    value: Annotated[int, Field(ge=1, le=100_000, strict=True)]
    source: Annotated[str, Field(min_length=1)]


class GpuFile(_Strict):
    """``[gpu]``: one GPU's datasheet."""

    name: str
    architecture: str
    sms: Whole
    memory_bytes: Figure
    memory_bytes_per_s: Figure
    l2_bytes: Figure
    flops_per_s: dict[Math, Figure]

    @model_validator(mode="after")
    def _computes_in_bf16(self) -> GpuFile:
        if "bf16" not in self.flops_per_s:
            raise ValueError("flops_per_s must give at least bf16")
        return self


class DomainFile(_Strict):
    """``[domain]``: the GPUs that reach each other over the fast link (one direction, a GPU)."""

    link: str
    gpus: Whole
    bytes_per_s: Figure


class ScaleOutFile(_Strict):
    """``[scale_out]``: the link between domains (one direction, a GPU)."""

    link: str
    bytes_per_s: Figure


class Beyond(_Strict):
    """Errors of a fit that never saw a whole range of shapes."""

    tested_rows: Rows
    median_error: Annotated[float, Field(ge=0, le=100)]
    p90_error: Annotated[float, Field(ge=0, le=100)]


class Evidence(_Strict):
    """How a kernel's constants did on measurements they were not fitted to. Errors are fractions of what was measured."""

    fitted_rows: Rows
    tested_rows: Rows
    median_error: Annotated[float, Field(ge=0, le=100)]
    p90_error: Annotated[float, Field(ge=0, le=100)]
    left_out: dict[str, Rows] = {}
    """Rows that stated rules kept out of both, by rule."""
    beyond: dict[str, Beyond] = {}
    """Errors where the form reaches past what it was fitted on, by what was kept from the fit."""


class _Kernel(_Strict):
    source: str
    evidence: Evidence | None = None

    @property
    def median_error(self) -> float | None:
        """On measurements that the constants were not fitted to: the worst of those within and beyond the fit's range."""
        if self.evidence is None:
            return None
        return max([self.evidence.median_error, *(far.median_error for far in self.evidence.beyond.values())])


class AttentionKernel(_Kernel):
    """t0 + b hypot(max(r bytes/(e BW), flops/(f peak)), h kv_heads/1024 sqrt(head_dim/128)) + s log2(ns)

    r by head size, 1 where none is given; ns the parts a request's cache is cut into.
    """

    floor_us: Microseconds
    memory_efficiency: Efficiency
    math_efficiency: Efficiency
    split_us: Microseconds
    kv_head_us: Microseconds = 0.0
    head_dim_factors: dict[str, Annotated[float, Field(ge=0.1, le=100)]] = {}
    math: Math

    @model_validator(mode="after")
    def _head_sizes_are_numbers(self) -> AttentionKernel:
        for size in self.head_dim_factors:
            if not size.isdecimal():
                raise ValueError(f"head_dim_factors has the key {size!r}, which must be a head size such as 256")
        return self


class LatentAttentionKernel(_Kernel):
    """t0 + max(b (k max(bytes/(e BW), flops/(f peak)) + h heads/1024) + s log2(ns), l tokens/1024)

    k is a factor at exactly 32 heads a GPU; l is for kernels that do not split a request's cache: one thread block reads all of
    it, however few requests there are.
    """

    floor_us: Microseconds
    memory_efficiency: Efficiency
    math_efficiency: Efficiency
    split_us: Microseconds
    head_us: Microseconds
    factor_at_32_heads: Annotated[float, Field(ge=1, le=100)]
    chain_us: Microseconds = 0.0
    math: Math


class GemmKernel(_Kernel):
    """t0 + hypot(max(bytes/(e BW), flops/(f peak)), c k/1024/splits), rows computed in whole tiles

    Without ``math_efficiency`` f is e; without ``split_k`` the reduction is never split.
    """

    floor_us: Microseconds
    efficiency: Efficiency
    math_efficiency: Efficiency | None = None
    reduction_us: Microseconds
    split_k: Annotated[float, Field(ge=1, le=1e9)] | None = None
    row_tile: Annotated[float, Field(ge=1, le=4096)] = 1.0


class GroupedGemmKernel(_Kernel):
    """t0 + max(bytes/(e BW), flops/(f peak)) + a active experts + r tokens"""

    variant: str
    floor_us: Microseconds
    memory_efficiency: Efficiency
    math_efficiency: Efficiency
    expert_us: Microseconds
    token_us: Microseconds = 0.0
    most_experts: Rows | None = None
    """Of a layer: the kernel does not run with more."""
    math: Math


class Collective(_Kernel):
    """a0 + a1 growth(p) + d S/(S+S0) + wire/(e link)"""

    growth: Literal["log2", "linear"]
    floor_us: Microseconds
    growth_us: Microseconds
    link_efficiency: Efficiency
    ramp_us: Microseconds
    ramp_bytes: Annotated[float, Field(ge=1, le=1e12)]


class AllReduce(_Kernel):
    """a0 + a1 log2(p) + the cheaper of one shot and (d dearer) two shots"""

    floor_us: Microseconds
    growth_us: Microseconds
    link_efficiency: Efficiency
    two_shot_us: Microseconds


class Overheads(_Kernel):
    """What no table measures, unless a GPU of the user's did."""

    small_kernel_us: Microseconds
    merge_us: Microseconds
    pipeline_hop_us: Microseconds
    chunk_handover_us: Microseconds
    workspace_bytes: Annotated[float, Field(ge=0, le=1e15)]


class KernelConstants(_Strict):
    """``[kernels]``: what measured kernels need beyond the roofline."""

    calibrated: bool
    source: str
    inherit: str | None = None
    attention: dict[Literal["bf16", "fp8"], AttentionKernel]
    latent_attention: dict[Literal["bf16", "fp8"], LatentAttentionKernel]
    gemm: dict[Literal["bf16", "fp8", "nvfp4"], GemmKernel]
    grouped_gemm: dict[Literal["bf16", "fp8", "nvfp4", "mxfp4", "int4"], list[GroupedGemmKernel]]
    all_to_all: Collective
    all_gather: Collective
    all_reduce: AllReduce
    overheads: Overheads

    @model_validator(mode="after")
    def _bf16_everywhere(self) -> KernelConstants:
        for name in ("attention", "latent_attention", "gemm", "grouped_gemm"):
            if "bf16" not in getattr(self, name):
                raise ValueError(f"{name} must give at least bf16")
        return self


class HardwareFile(_Strict):
    """A hardware profile's TOML."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, title="helixplan hardware profile")

    name: str
    description: str
    gpu: GpuFile
    domain: DomainFile
    scale_out: ScaleOutFile | None = None
    kernels: KernelConstants


class InheritedKernels(_Strict):
    """``[kernels]`` that takes whatever it does not say from the bundled profile it names."""

    calibrated: bool
    source: str
    inherit: str
    attention: dict[Literal["bf16", "fp8"], AttentionKernel] | None = None
    latent_attention: dict[Literal["bf16", "fp8"], LatentAttentionKernel] | None = None
    gemm: dict[Literal["bf16", "fp8", "nvfp4"], GemmKernel] | None = None
    grouped_gemm: dict[Literal["bf16", "fp8", "nvfp4", "mxfp4", "int4"], list[GroupedGemmKernel]] | None = None
    all_to_all: Collective | None = None
    all_gather: Collective | None = None
    all_reduce: AllReduce | None = None
    overheads: Overheads | None = None


class ProfileFile(_Strict):
    """A hardware profile's TOML as it is written: ``HardwareFile`` before inheritance."""

    model_config = HardwareFile.model_config

    name: str
    description: str
    gpu: GpuFile
    domain: DomainFile
    scale_out: ScaleOutFile | None = None
    kernels: KernelConstants | InheritedKernels


@dataclass(frozen=True)
class Gpu:
    """One GPU: bytes, bytes a second and dense FLOP/s by arithmetic."""

    name: str
    sms: int
    memory_bytes: float
    memory_bytes_per_s: float
    flops_per_s: dict[str, float]


@dataclass(frozen=True)
class Interconnect:
    """Links in bytes a second, one direction, a GPU. ``scale_out_bytes_per_s`` is None where domains are not joined."""

    domain_gpus: int
    domain_bytes_per_s: float
    scale_out_bytes_per_s: float | None


@dataclass(frozen=True)
class Hardware:
    """A system under one clock."""

    name: str
    gpu: Gpu
    interconnect: Interconnect
    kernels: KernelConstants = field(repr=False)
    file: HardwareFile = field(repr=False)
    floor_scale: float = 1.0

    @property
    def computes_fp8(self) -> bool:
        return "fp8" in self.gpu.flops_per_s

    @property
    def calibration_note(self) -> str | None:
        """Why the constants are not this system's own, or None where they are."""
        return None if self.kernels.calibrated else self.kernels.source

    @property
    def sha256(self) -> str:
        """Of the numbers: not of sources, descriptions, comments or the order of keys."""
        content = _without_words(self.file.model_dump())
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def at(self, floor_scale: float) -> Hardware:
        """The same system with every floor and slope scaled and every efficiency walked from 1 towards its own.

        0 is the ideal clock, 1 the measured one. Applies to the profile's own constants, whatever clock this one shows.
        """
        return replace(self, kernels=_walk(self.file.kernels, _towards_light(floor_scale)), floor_scale=floor_scale)

    def with_floors(self, factor: float) -> Hardware:
        """As this clock shows the system, every launch, latency and slope (whatever is no rate) times ``factor``."""
        kernels = _walk(self.kernels, lambda name, value: value * factor if name.endswith("_us") else value)
        return replace(self, kernels=kernels)


Walked = TypeVar("Walked")


def _walk(value: Walked, change: Callable[[str, Any], Any]) -> Walked:
    """``value`` (constants, or dictionaries and lists of them) with every field changed by its name."""
    if isinstance(value, BaseModel):
        fields = {name: _walk(change(name, getattr(value, name)), change) for name in type(value).model_fields}
        return type(value).model_construct(**fields)
    if isinstance(value, dict):
        return {key: _walk(item, change) for key, item in value.items()}  # type: ignore[return-value]
    if isinstance(value, list):
        return [_walk(item, change) for item in value]  # type: ignore[return-value]
    return value


def _towards_light(scale: float) -> Callable[[str, Any], Any]:
    """How a field's value changes on the way from the speed of light (0) to what was measured (1)."""

    def change(name: str, value: Any) -> Any:
        if name.endswith("_us"):
            return value * scale
        if name.endswith("efficiency") and value is not None:
            return 1 - scale * (1 - value)
        if name in ("factor_at_32_heads", "row_tile"):
            return 1 + scale * (value - 1)
        if name == "head_dim_factors":
            return {size: 1 + scale * (factor - 1) for size, factor in value.items()}
        return value

    return change


def _without_words(content: Any) -> Any:
    """Numbers and structure only."""
    if isinstance(content, dict):
        words = ("source", "evidence", "description", "link", "name", "variant", "inherit")
        return {key: _without_words(value) for key, value in content.items() if key not in words}
    if isinstance(content, list):
        return [_without_words(value) for value in content]
    return content


def load_hardware(hardware: str | Path | dict[str, Any]) -> Hardware:
    """A bundled name, a path to a TOML, or a dict of its shape. Raises InputError."""
    if isinstance(hardware, dict):
        return _read(hardware, "hardware")
    path = find_hardware(str(hardware))
    return _read(parse_toml(read_text(path), str(path)), str(path))


def _read(data: dict[str, Any], file: str) -> Hardware:
    profile = validate(HardwareFile, _inherit(data, file), file)
    gpu, domain = profile.gpu, profile.domain
    return Hardware(
        name=profile.name,
        gpu=Gpu(
            name=gpu.name,
            sms=gpu.sms.value,
            memory_bytes=gpu.memory_bytes.value,
            memory_bytes_per_s=gpu.memory_bytes_per_s.value,
            flops_per_s={str(dtype): figure.value for dtype, figure in gpu.flops_per_s.items()},
        ),
        interconnect=Interconnect(
            domain_gpus=domain.gpus.value,
            domain_bytes_per_s=domain.bytes_per_s.value,
            scale_out_bytes_per_s=profile.scale_out.bytes_per_s.value if profile.scale_out else None,
        ),
        kernels=profile.kernels,
        file=profile,
    )


def _inherit(data: dict[str, Any], file: str) -> dict[str, Any]:
    """Kernel constants a profile leaves out come from the bundled profile it names."""
    kernels = data.get("kernels")
    if not isinstance(kernels, dict) or "inherit" not in kernels:
        return data
    parent, bundled = kernels["inherit"], bundled_hardware()
    if parent not in bundled:
        raise InputError(f"got {parent!r}; allowed: {', '.join(bundled)}", file=file, field="kernels.inherit")
    inherited = parse_toml(read_text(bundled[parent]), str(bundled[parent])).get("kernels", {})
    if "inherit" in inherited:
        raise InputError(f"{parent!r} has no constants of its own to inherit", file=file, field="kernels.inherit")
    return {**data, "kernels": {**inherited, **kernels}}
