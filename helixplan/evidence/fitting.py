"""Fits one kernel's constants to what was measured of it. Forms: docs/cost-model.md, "What silicon adds".

The residual is the logarithm of predicted over measured, so that a microsecond and a millisecond count alike, under a soft L1
loss, so that a few wild rows do not drag the rest. Everything is deterministic: fixed starts, no random numbers, rounded results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixplan.cost.roofline import MICRO
from helixplan.errors import InputError
from helixplan.evidence.measurements import Measurements
from helixplan.evidence.predict import predicted, with_kernel, working_set
from helixplan.inputs.hardware import (
    AllReduce,
    AttentionKernel,
    Collective,
    GemmKernel,
    GroupedGemmKernel,
    Hardware,
    LatentAttentionKernel,
)
from helixplan.numeric import Floats

SCIPY = "fitting needs scipy, which is not installed here; pip install 'helixplan[silicon]' or 'helixplan[gpu]'"
DIGITS = 4
ASSUMED_MATH = 0.6
"""The math efficiency that stands where too few measurements are bound by arithmetic to tell it."""
COMPUTE_BOUND_ROWS = 0.02
MOST_EXPERTS = {"low latency": 256}
"""Kernels that the tables hold no row of with more experts, where others have some: TensorRT-LLM's for fp4 at low latency."""
UNSPLIT_ERROR = 0.15
"""A median error past which an attention kernel is taken not to split a request's cache at all."""
WILD = 0.1
"""A residual (of logarithms) past which a row counts by its absolute, not its square."""


@dataclass(frozen=True)
class Unknown:
    """One constant to find: where the search begins and between what it stays."""

    start: float
    low: float
    high: float


def _us(start: float, high: float = 1000.0) -> Unknown:
    return Unknown(start, 0.0, high)


def _share(start: float) -> Unknown:
    return Unknown(start, 0.01, 1.0)


MATH_BINDS = 0.1
"""Where to start looking for the efficiency of arithmetic that binds few rows: so low that it binds many. Started where it binds
none, nothing pulls it down, and the last digits of a SciPy decide. (GEMMs and MLA, of which it binds many, are found from above.)
"""


@dataclass(frozen=True)
class Form:
    """A kernel's constants: those to find, those that are given, and the class that holds them."""

    holds: Any
    unknowns: dict[str, Unknown]
    given: dict[str, Any] = field(default_factory=dict)

    def kernel(self, values: Floats) -> Any:
        """The constants as a kernel. Names like ``head_dim_factors.64`` become one dictionary."""
        content: dict[str, Any] = {**self.given, "source": ""}
        for name, value in zip(self.unknowns, values.tolist(), strict=True):
            table, _, key = name.partition(".")
            if key:
                content[table] = {**content.get(table, {}), key: value}
            else:
                content[name] = value
        return self.holds.model_construct(**(_defaults(self.holds) | content))

    def without(self, name: str, value: float) -> Form:
        """The same with one constant given."""
        unknowns = {other: unknown for other, unknown in self.unknowns.items() if other != name}
        return Form(self.holds, unknowns, {**self.given, name: value})


def _defaults(holds: Any) -> dict[str, Any]:
    return {name: known.default for name, known in holds.model_fields.items() if not known.is_required()}


def form_for(found: Measurements, math: str) -> Form:
    """What there is to find out about the kernel of these measurements; ``math`` is its arithmetic."""
    return _FORMS[found.operation](found, math)


def _attention(found: Measurements, math: str) -> Form:
    unknowns = {
        "floor_us": _us(10),
        "memory_efficiency": _share(0.85),
        "math_efficiency": _share(MATH_BINDS),
        "split_us": _us(1.5),
        "kv_head_us": _us(5),
    }
    for size in np.unique(found["head_dim"]).astype(int).tolist():
        if size != 128:
            unknowns[f"head_dim_factors.{size}"] = Unknown(1.0, 0.5, 20.0)
    return Form(AttentionKernel, unknowns, {"math": math})


def _latent(found: Measurements, math: str) -> Form:
    unknowns = {
        "floor_us": _us(10),
        "memory_efficiency": _share(0.8),
        "math_efficiency": _share(0.6),
        "split_us": _us(1.5),
        "head_us": _us(0.5),
        "factor_at_32_heads": Unknown(1.2, 1.0, 5.0),
        "chain_us": _us(1.0),
    }
    return Form(LatentAttentionKernel, unknowns, {"math": math})


def _gemm(found: Measurements, math: str) -> Form:
    unknowns = {
        "floor_us": _us(4),
        "efficiency": _share(0.75),
        "math_efficiency": _share(0.5),
        "reduction_us": _us(1.0),
    }
    if found.dtype == "bf16":
        unknowns["split_k"] = Unknown(3000.0, 64.0, 100_000.0)
    return Form(GemmKernel, unknowns, {"row_tile": 128.0 if found.dtype != "nvfp4" else 1.0})


def _grouped(found: Measurements, math: str) -> Form:
    unknowns = {
        "floor_us": _us(25),
        "memory_efficiency": _share(0.8),
        "math_efficiency": _share(MATH_BINDS),
        "expert_us": _us(0.3),
        "token_us": _us(0.01),
    }
    given: dict[str, Any] = {"math": math, "variant": found.kernel or "default"}
    if found.kernel in MOST_EXPERTS:
        given["most_experts"] = MOST_EXPERTS[found.kernel]
    return Form(GroupedGemmKernel, unknowns, given)


def _collective(found: Measurements, math: str) -> Form:
    unknowns = {"floor_us": _us(10), "growth_us": _us(0.4), "link_efficiency": _share(0.6)}
    if found.kernel == "MNNVL":
        return Form(Collective, unknowns, {"growth": "log2", "ramp_us": 0.0, "ramp_bytes": 65536.0})
    ramp_bytes = 65536.0 if found.operation == "all_to_all" else 4194304.0
    return Form(Collective, {**unknowns, "ramp_us": _us(7)}, {"growth": "linear", "ramp_bytes": ramp_bytes})


def _all_reduce(found: Measurements, math: str) -> Form:
    unknowns = {"floor_us": _us(4), "growth_us": _us(0.45), "link_efficiency": _share(0.6), "two_shot_us": _us(12)}
    return Form(AllReduce, unknowns)


_FORMS: dict[str, Callable[[Measurements, str], Form]] = {
    "attention": _attention,
    "latent_attention": _latent,
    "gemm": _gemm,
    "grouped_gemm": _grouped,
    "all_to_all": _collective,
    "all_gather": _collective,
    "all_reduce": _all_reduce,
}


def fit(hardware: Hardware, found: Measurements, form: Form) -> Any:
    """The kernel whose predictions come nearest to ``found``, its constants rounded. Raises InputError where there is too little.

    Where hardly a row is bound by arithmetic the measurements do not tell its efficiency, which is then the assumed one. A kernel
    is taken to split a request's cache unless that cannot explain what was measured.
    """
    if len(found) < 2 * len(form.unknowns):
        raise InputError(
            f"{len(found)} measurements of {found.operation} {found.dtype} are too few to fit {len(form.unknowns)} constants",
            file=found.file,
        )
    if "chain_us" in form.unknowns:
        split = fit(hardware, found, form.without("chain_us", 0.0))
        off = errors(with_kernel(hardware, found.operation, found.dtype, split), found)
        if np.median(np.abs(off)) < UNSPLIT_ERROR:
            return split
    kernel = _least_squares(hardware, found, form)
    if "math_efficiency" in form.unknowns and np.mean(_bound_by_arithmetic(hardware, found, kernel)) < COMPUTE_BOUND_ROWS:
        kernel = _least_squares(hardware, found, form.without("math_efficiency", ASSUMED_MATH))
    return kernel


def _least_squares(hardware: Hardware, found: Measurements, form: Form) -> Any:
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise InputError(SCIPY) from None

    measured = np.log(found.seconds)

    def residual(values: Floats) -> Floats:
        trial = with_kernel(hardware, found.operation, found.dtype, form.kernel(values))
        return np.asarray(np.log(predicted(trial, found)) - measured)

    known = form.unknowns.values()
    result = least_squares(
        residual,
        [one.start for one in known],
        bounds=([one.low for one in known], [one.high for one in known]),
        x_scale=[max(one.start, 0.01) for one in known],
        loss="soft_l1",
        f_scale=WILD,
    )
    return form.kernel(np.array([rounded(value) for value in result.x]))


def rounded(value: float) -> float:
    """To the digits a profile shows; what is next to nothing is nothing."""
    return float(f"{value:.{DIGITS}g}") if abs(value) > 1e-4 else 0.0


def _bound_by_arithmetic(hardware: Hardware, found: Measurements, kernel: Any) -> NDArray[np.bool_]:
    """Rows that would change if arithmetic were free."""
    free = kernel.model_copy(update={"math_efficiency": 1e9})
    with_math = predicted(with_kernel(hardware, found.operation, found.dtype, kernel), found)
    without = predicted(with_kernel(hardware, found.operation, found.dtype, free), found)
    return np.asarray(with_math > 1.01 * without)


@dataclass(frozen=True)
class Usable:
    """Which rows count, and how many each stated rule left out."""

    mask: NDArray[np.bool_]
    left_out: dict[str, int]


MOST_QUERY_HEADS_A_KV_HEAD = 32
SIZES = {"attention": ("batch", "tokens"), "latent_attention": ("batch", "tokens"), "gemm": ("m", "n", "k")}
SIZES |= {"grouped_gemm": ("tokens", "active", "pairs", "width")}
"""The columns in which more is never less work; rows are compared where all others are equal."""
CONTRADICTION = 2.0


def usable(hardware: Hardware, found: Measurements) -> Usable:
    """The rows that say what a decode step's kernel costs, by rules that look at a row's shape and time alone.

    - ``query heads``: over 32 query heads a KV head TensorRT-LLM's kernel is many times slower: another kernel would be run.
    - ``warm cache``: tables replay the same operands, so that what nearly fits L2 (from a sixteenth to one and a half times its
      size) was read from it, which a step that touches every layer in turn never does. Not asked of what was measured cold.
    - ``faster than light``: a cold working set in less time than the datasheet's bandwidth allows.
    - ``contradicted``: at least twice as long as a row of the same table that does no less of anything.
    - ``same shape``: the shape again, after the first.
    """
    rules: dict[str, NDArray[np.bool_]] = {}
    held, cache = working_set(found), hardware.file.gpu.l2_bytes.value
    if found.operation == "attention":
        rules["query heads"] = found["query_heads"] > MOST_QUERY_HEADS_A_KV_HEAD * found["kv_heads"]
    rules["same shape"] = _repeated(found)
    if np.any(held):
        large = held >= 1.5 * cache
        rules["warm cache"] = ~found.cold & (held > cache / 16) & ~large
        rules["faster than light"] = large & (found.seconds < 0.98 * held / hardware.gpu.memory_bytes_per_s)
        _check_light(hardware, found, large, rules["faster than light"])
    kept = np.ones(len(found), dtype=bool)
    left_out = {}
    for name, wrong in rules.items():
        left_out[name] = int(np.sum(kept & wrong))
        kept &= ~wrong
    if found.operation in SIZES:
        # Rows that another rule refused are no witnesses.
        wrong = np.zeros(len(found), dtype=bool)
        wrong[kept] = _contradicted(found.where(kept), SIZES[found.operation])
        left_out["contradicted"] = int(np.sum(wrong))
        kept &= ~wrong
    return Usable(kept, {name: count for name, count in left_out.items() if count})


def _check_light(hardware: Hardware, found: Measurements, large: NDArray[np.bool_], fast: NDArray[np.bool_]) -> None:
    """Raises InputError where most rows beat light: then the profile's bandwidth is wrong, or the times are."""
    if 2 * int(np.sum(fast)) > int(np.sum(large)):
        row = int(np.flatnonzero(fast)[0])
        raise InputError(
            f"row {found.rows[row]} reads {working_set(found)[row]:.3g} bytes in {found.us[row]:g} us, and most large rows "
            f"are like it: faster than the profile's memory_bytes_per_s of {hardware.gpu.memory_bytes_per_s:g} allows",
            file=found.file,
            field=f"{found.operation} {found.dtype}".strip(),
        )


def _repeated(found: Measurements) -> NDArray[np.bool_]:
    table = np.stack(list(found.shape.values()), axis=1)
    _, first = np.unique(table, axis=0, return_index=True)
    again = np.ones(len(found), dtype=bool)
    again[first] = False
    return again


def _contradicted(found: Measurements, sizes: tuple[str, ...]) -> NDArray[np.bool_]:
    """Rows at least twice as slow as another that is no smaller in any of ``sizes`` and equal in the rest."""
    others = [values for name, values in found.shape.items() if name not in sizes]
    alike = np.unique(np.stack(others, axis=1), axis=0, return_inverse=True)[1].ravel() if others else np.zeros(len(found), int)
    wrong = np.zeros(len(found), dtype=bool)
    for group in range(int(np.max(alike, initial=0)) + 1):
        rows = np.flatnonzero(alike == group)
        table, us = np.stack([found[name][rows] for name in sizes]), found.us[rows]
        for start in range(0, len(rows), 256):
            part = slice(start, start + 256)
            covers = np.all(table[:, None, :] >= table[:, part][:, :, None], axis=0)
            wrong[rows[part]] = us[part] > CONTRADICTION * np.min(np.where(covers, us, np.inf), axis=1)
    return wrong


def errors(hardware: Hardware, found: Measurements) -> Floats:
    """Predicted over measured, less one, a row."""
    return np.asarray(predicted(hardware, found) / found.seconds - 1)


def ideal_seconds(hardware: Hardware, found: Measurements) -> Floats:
    """The speed of light, a row."""
    return np.maximum(predicted(hardware.at(0.0), found), 1e-3 * MICRO)
