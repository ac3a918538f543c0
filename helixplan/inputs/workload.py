"""What is asked of the deployment: context, precision, clock, and the request a search must keep."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from helixplan.errors import InputError, did_you_mean, shown

BYTES_PER_ELEMENT: Final = {
    "bf16": 2.0,
    "fp8": 1.0,
    "fp4": 0.5,
    "nvfp4": 0.5 + 1 / 16,  # one fp8 scale for 16 elements
    "mxfp4": 0.5 + 1 / 32,  # one 8-bit exponent for 32 elements
    "int4": 0.5 + 2 / 128,  # one bf16 scale for 128 elements
}
ACTIVATION_BYTES: Final = 2.0
"""Activations are bf16, in memory and on the wire."""
DISPATCH_BYTES: Final = 1.0
"""But tokens go to their experts in fp8; what comes back is bf16."""

WEIGHT_DTYPES: Final = tuple(BYTES_PER_ELEMENT)
KV_DTYPES: Final = ("bf16", "fp8", "fp4", "nvfp4", "int4")
MATH_DTYPES: Final = ("bf16", "fp8", "fp4")
OVERLAPS: Final = ("auto", "none", "hop-b")
EXCHANGES: Final = ("auto", "latent", "value")
KERNELS: Final = ("measured", "ideal")
ENGINES: Final = ("none", "trtllm", "vllm", "sglang")
OBJECTIVES: Final = ("throughput", "interactivity", "users", "gpus")
FAMILIES: Final = ("helix", "tp", "pp", "dp-ep", "medha", "any")
PINS: Final = ("kvp", "tpa", "dp", "pp", "tpf", "ep")

MAX_CONTEXT: Final = 10**9
MAX_BATCH: Final = 2**17
MAX_GPUS: Final = 4096
MAX_SECONDS: Final = 3600.0


def choice(value: str, allowed: tuple[str, ...], name: str) -> str:
    """``value``, or InputError with what is allowed."""
    if value not in allowed:
        raise InputError(f"got {shown(value)}{did_you_mean(str(value), allowed)}; allowed: {', '.join(allowed)}", field=name)
    return value


def whole(value: object, low: int, high: int, name: str) -> int:
    """``value`` as an int within bounds, or InputError."""
    number = value if isinstance(value, int) else getattr(value, "item", lambda: value)()
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise InputError(f"got {shown(value)}, but it must be a whole number from {low:,} to {high:,}", field=name)
    return number


def real(value: object, low: float, high: float, name: str, *, above_low: bool = False) -> float:
    """``value`` as a finite float within bounds, or InputError."""
    ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not ok or not low <= value <= high or (above_low and value == low):  # type: ignore[operator]
        span = f"above {low:g} and at most {high:g}" if above_low else f"from {low:g} to {high:g}"
        unit = " of seconds" if name.endswith("_s") else ""
        raise InputError(f"got {shown(value)}, but it must be a number{unit} {span}", field=name)
    return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Workload:
    """How the model is decoded, apart from layout and batch. None leaves a choice to model and hardware.

    Raises InputError for any value out of bounds.
    """

    context_tokens: int
    weight_dtype: str | None = None
    """Of every GEMM but router, embedding and head; None: what the model's file states."""
    kv_dtype: str | None = None
    """None: fp8 where the hardware computes in fp8, else bf16."""
    attention_math: str | None = None
    """The arithmetic of the attention core; None: what the hardware's kernels do for the KV dtype."""
    kernels: str = "measured"
    floor_scale: float | None = None
    """From 0 (ideal clock) to 1 (measured clock); None: what ``kernels`` says."""
    overlap: str = "auto"
    exchange: str = "auto"
    engine: str | None = None
    memory_utilization: float = 0.9
    kv_block_tokens: int = 32
    step_overhead_s: float = 0.0

    def __post_init__(self) -> None:
        whole(self.context_tokens, 1, MAX_CONTEXT, "context_tokens")
        for name, allowed in (
            ("weight_dtype", WEIGHT_DTYPES),
            ("kv_dtype", KV_DTYPES),
            ("attention_math", MATH_DTYPES),
        ):
            if getattr(self, name) is not None:
                choice(getattr(self, name), allowed, name)
        choice(self.kernels, KERNELS, "kernels")
        choice(self.overlap, OVERLAPS, "overlap")
        choice(self.exchange, EXCHANGES, "exchange")
        choice(self.engine or "none", ENGINES, "engine")
        if self.floor_scale is not None:
            real(self.floor_scale, 0.0, 1.0, "floor_scale")
            if self.kernels == "ideal":
                raise InputError("the ideal clock has no floors to scale; leave out one of the two", field="floor_scale")
        real(self.memory_utilization, 0.0, 1.0, "memory_utilization", above_low=True)
        whole(self.kv_block_tokens, 1, 2**20, "kv_block_tokens")
        real(self.step_overhead_s, 0.0, MAX_SECONDS, "step_overhead_s")

    @property
    def clock(self) -> float:
        """The floor scale in force: 1 is the measured clock, 0 the speed of light."""
        if self.floor_scale is not None:
            return self.floor_scale
        return 0.0 if self.kernels == "ideal" else 1.0


@dataclass(frozen=True)
class Request:
    """What a search must keep, and what it is to be best at. Raises InputError for any value out of bounds."""

    ttl_s: float | None = None
    batch: int | None = None
    gpus: int | None = None
    max_gpus: int | None = None
    family: str = "helix"
    pins: dict[str, int] = field(default_factory=dict)
    objective: str | None = None

    def __post_init__(self) -> None:
        if self.ttl_s is not None:
            real(self.ttl_s, 0.0, MAX_SECONDS, "ttl_s", above_low=True)
        if self.batch is not None:
            whole(self.batch, 1, MAX_BATCH, "batch")
        if self.gpus is not None and self.max_gpus is not None:
            raise InputError("give the exact number (gpus) or the most there may be (max_gpus), not both", field="gpus")
        for name in ("gpus", "max_gpus"):
            if getattr(self, name) is not None:
                whole(getattr(self, name), 1, MAX_GPUS, name)
        choice(self.family, FAMILIES, "family")
        if not isinstance(self.pins, dict):
            raise InputError(f"got {shown(self.pins)}; give a dict like {{'kvp': 8}}", field="pins")
        for name, value in self.pins.items():
            choice(name, PINS, "pin")
            whole(value, 1, MAX_GPUS, f"pin {name}")
        if self.objective is not None:
            choice(self.objective, OBJECTIVES, "objective")

    @property
    def goal(self) -> str:
        """The objective in force: throughput under a TTL limit, interactivity without one, unless said."""
        return self.objective or ("interactivity" if self.ttl_s is None else "throughput")
