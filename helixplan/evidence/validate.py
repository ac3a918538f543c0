"""Predictions held against measured kernels, whole attention modules and choices between splits, each under its limit.

The bundled constants are what is tested, on rows that no fit saw: one shape in four, and every row of the system that is never
fitted. Limits lie in limits.toml beside this file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixplan.cost.roofline import attention_core, gemm, small_kernels
from helixplan.evidence.calibrate import tested_rows
from helixplan.evidence.fitting import usable
from helixplan.evidence.measurements import Measurements
from helixplan.evidence.predict import DEEPSEEK, machine_for, predicted, with_kernel, working_set
from helixplan.evidence.silicon import (
    FOLDERS,
    NEVER_FITTED,
    PACKAGE,
    data_folder,
    module_table,
    package_version,
    read_columns,
    read_table,
    tables_of,
)
from helixplan.inputs.hardware import Beyond, Hardware, load_hardware
from helixplan.inputs.validation import parse_toml
from helixplan.numeric import Floats

MODULE_SYSTEMS = tuple(name for name in FOLDERS if name != "a100-hgx")
"""Systems whose MLA modules were measured."""
MODULE_HIDDEN = 7168
MODULE_SMALL_KERNELS = 3
"""Of a layer's small kernels those inside an attention module: the latent's norm, rotary, KV append."""


@dataclass(frozen=True)
class Comparison:
    """Predicted against measured over rows of one kind. Times in seconds, at the row of median time; errors are fractions."""

    system: str
    what: str
    source: str
    rows: int
    measured_s: float
    predicted_s: float
    median_error: float
    p90_error: float
    bias: float
    limit_median: float
    limit_p90: float

    @property
    def holds(self) -> bool:
        return self.median_error <= self.limit_median and self.p90_error <= self.limit_p90


@cache
def limits() -> dict[str, Any]:
    """The limits file."""
    path = resources.files("helixplan.evidence") / "limits.toml"
    return parse_toml(path.read_text(encoding="utf-8"), "limits.toml")


def limit_for(kind: str, operation: str, system: str, kernel: str = "", dtype: str = "") -> dict[str, Any]:
    """The first entry of the limits file that speaks of this comparison."""
    for entry in limits()[kind]:
        if (
            entry["operation"] == operation
            and system in entry.get("systems", [system])
            and kernel in entry.get("kernels", [kernel])
            and dtype in entry.get("dtypes", [dtype])
        ):
            return dict(entry)
    raise KeyError(f"no limit for {kind} {operation} on {system}")


def against_silicon(systems: list[str], tell: Callable[[str], None] = lambda said: None) -> Iterator[Comparison]:
    """Every operation of every system there are tables of, whole modules, and the choice between splits. Raises InputError."""
    for system in systems:
        hardware = load_hardware(system)
        tell(system)
        measured = [m for table in tables_of(system) for m in read_table(system, table)]
        for found in measured + _fastest(measured):
            if _has_constants(hardware, found):
                yield _operation(hardware, found)
                if found.operation == "gemm":
                    yield _cold_gemm(hardware, found)
        yield from _beyond(hardware)
        if system in MODULE_SYSTEMS:
            yield from _modules(hardware)
        if system == "gb200-nvl72":
            yield split_choice(hardware)


def _has_constants(hardware: Hardware, found: Measurements) -> bool:
    return not found.dtype or found.dtype in getattr(hardware.kernels, found.operation)


def _fastest(measured: list[Measurements]) -> list[Measurements]:
    """Where two kernels of experts of one dtype were measured, the faster at each shape that both ran: the one that would be."""
    found = []
    for dtype in dict.fromkeys(one.dtype for one in measured if one.operation == "grouped_gemm"):
        kernels = [one for one in measured if one.operation == "grouped_gemm" and one.dtype == dtype]
        if len(kernels) == 2:
            found.append(_faster(*kernels))
    return found


def _faster(one: Measurements, other: Measurements) -> Measurements:
    keys = [{tuple(row): index for index, row in enumerate(_rows(m))} for m in (one, other)]
    common = [key for key in keys[0] if key in keys[1]]
    first = np.array([keys[0][key] for key in common])
    second = np.array([keys[1][key] for key in common])
    us = np.minimum(one.us[first], other.us[second])
    shape = {name: values[first] for name, values in one.shape.items()}
    return replace(one, kernel="fastest", shape=shape, us=us, rows=one.rows[first], cold=one.cold[first])


def _rows(found: Measurements) -> list[list[float]]:
    return np.stack(list(found.shape.values()), axis=1).tolist()  # type: ignore[no-any-return]


def _operation(hardware: Hardware, found: Measurements) -> Comparison:
    tested = found.where(_never_fitted(hardware, found) & tested_rows(hardware, found))
    what = " ".join(part for part in (found.operation.replace("_", " "), found.dtype, found.kernel) if part)
    limit = limit_for("silicon", found.operation, hardware.name, found.kernel, found.dtype)
    return _compare(hardware.name, what, found.source, predicted(_running(hardware, found), tested), tested.seconds, limit)


def _never_fitted(hardware: Hardware, found: Measurements) -> NDArray[np.bool_]:
    """The usable rows that no fit saw: one shape in four, or every one of the system that is never fitted."""
    mask = usable(hardware, found).mask
    return mask if hardware.name == NEVER_FITTED else mask & found.kept_for_testing


def _cold_gemm(hardware: Hardware, found: Measurements) -> Comparison:
    """GEMMs too large for L2 alone, which small warm ones would otherwise outnumber."""
    large = working_set(found) >= 1.5 * hardware.file.gpu.l2_bytes.value
    tested = found.where(_never_fitted(hardware, found) & large)
    limit = limit_for("silicon", "cold_gemm", hardware.name, dtype=found.dtype)
    return _compare(
        hardware.name, f"gemm {found.dtype}, over L2", found.source, predicted(hardware, tested), tested.seconds, limit
    )


def _beyond(hardware: Hardware) -> Iterator[Comparison]:
    """The errors that the profile's own evidence tells of second fits, where a limit speaks of them."""
    for what, source, far, limit in beyond_limits(hardware):
        errors = (far.median_error, far.p90_error)
        yield Comparison(
            hardware.name,
            what,
            source,
            far.tested_rows,
            0.0,
            0.0,
            *errors,
            bias=0.0,
            limit_median=limit["median"],
            limit_p90=limit["p90"],
        )


def _running(hardware: Hardware, found: Measurements) -> Hardware:
    """The system with the measured one of an operation's kernels alone, where but one of several was measured."""
    if found.operation != "grouped_gemm":
        return hardware
    own = [kernel for kernel in hardware.kernels.grouped_gemm[found.dtype] if kernel.variant == found.kernel]  # type: ignore[index]
    return with_kernel(hardware, found.operation, found.dtype, own) if own else hardware


def _compare(system: str, what: str, source: str, said: Floats, measured: Floats, limit: dict[str, Any]) -> Comparison:
    off = said / measured - 1
    middle = int(np.argsort(measured, kind="stable")[len(measured) // 2])
    return Comparison(
        system,
        what,
        source,
        len(measured),
        float(measured[middle]),
        float(said[middle]),
        float(np.median(np.abs(off))),
        float(np.quantile(np.abs(off), 0.9)),
        float(np.median(off)),
        limit["median"],
        limit["p90"],
    )


def _modules(hardware: Hardware) -> Iterator[Comparison]:
    """DeepSeek-V3's attention module, whole: projections, core and small kernels, by the dtypes of cache and weights."""
    name = module_table(hardware.name)
    columns = read_columns(
        data_folder() / f"{name}.parquet", ("kv_cache_dtype", "gemm_type", "num_heads", "batch_size", "step", "latency")
    )
    source = f"{PACKAGE} {package_version()}, {name}"
    for cache_dtype, kv in (("bfloat16", "bf16"), ("fp8", "fp8")):
        for gemm_type, weights in (("bfloat16", "bf16"), ("fp8_block", "fp8"), ("nvfp4", "nvfp4")):
            rows = (columns["kv_cache_dtype"] == cache_dtype) & (columns["gemm_type"] == gemm_type)
            if not np.any(rows) or weights not in hardware.kernels.gemm:
                continue
            said = module_seconds(
                hardware,
                kv,
                weights,
                *(columns[column][rows].astype(float) for column in ("batch_size", "step", "num_heads")),
            )
            measured = np.asarray(columns["latency"][rows], dtype=float) * 1e-3
            limit = limit_for("silicon", "mla_module", hardware.name)
            yield _compare(hardware.name, f"MLA module {weights}, KV {kv}", source, said, measured, limit)


def module_seconds(hardware: Hardware, kv: str, weights: str, batch: Floats, tokens: Floats, heads: Floats) -> Floats:
    """Seconds of a DeepSeek-V3 attention module with ``heads`` on the GPU.

    The projections of each head apart run in bf16 where TensorRT-LLM runs them so: on Blackwell, and for nvfp4 weights.
    """
    machine = machine_for(hardware, kv)
    apart = "bf16" if weights == "nvfp4" or hardware.file.gpu.architecture == "blackwell" else weights
    floor, core = attention_core(machine, DEEPSEEK, batch, tokens, heads, 1.0)
    total = floor + core.seconds + small_kernels(machine, MODULE_SMALL_KERNELS).seconds
    for matrix in DEEPSEEK.gemms(MODULE_HIDDEN, heads, 1.0, heads, heads):
        total = total + gemm(machine, batch, matrix, apart if matrix.heads is heads else weights).seconds
    return np.asarray(total)


CHOICE_HEADS, CHOICE_KV_HEADS = (128, 96, 64, 32), 8


def split_choice(hardware: Hardware) -> Comparison:
    """What choosing (kvp, tpa) by the predicted times costs over the measured best, set by set of splits of equal KV bytes."""
    found = next(m for table in tables_of(hardware.name) for m in read_table(hardware.name, table) if m.operation == "attention")
    lost = split_losses(hardware, found)
    limit = limits()["split_choice"]["median"]
    wrong = float(np.mean(lost > 0.1))
    return Comparison(
        hardware.name,
        "split choice",
        f"{found.source}: {wrong:.0%} of the sets of splits lose over a tenth",
        len(lost),
        0.0,
        0.0,
        float(np.median(lost)),
        float(np.quantile(lost, 0.9)),
        float(np.mean(lost)),
        limit,
        float("inf"),
    )


def split_losses(hardware: Hardware, found: Measurements) -> Floats:
    """For each set of measured splits of one attention over as many GPUs: time of the predicted best over the best, less one."""
    said = predicted(hardware, found)
    rows = {tuple(row): index for index, row in enumerate(_rows(found))}
    cold = working_set(found) >= 1.5 * hardware.file.gpu.l2_bytes.value
    lost = []
    for heads in CHOICE_HEADS:
        for batch in np.unique(found["batch"]).tolist():
            for tokens in np.unique(found["tokens"]).tolist():
                split = [
                    rows.get((batch, tokens * tpa / CHOICE_KV_HEADS, heads / tpa, CHOICE_KV_HEADS / tpa, 128.0))
                    for tpa in (1, 2, 4, 8)
                ]
                known = np.array([row for row in split if row is not None])
                if len(known) > 1 and np.any(cold[known]):
                    lost.append(_loss(said[known], found.seconds[known]))
    return np.array(lost)


def _loss(said: Floats, measured: Floats) -> float:
    return float(measured[int(np.argmin(said))] / np.min(measured) - 1)


def beyond_limits(hardware: Hardware) -> Iterator[tuple[str, str, Beyond, dict[str, Any]]]:
    """(what was tested beyond its fit, its source, the errors, the limit) of a profile's evidence, where there is a limit."""
    kernels = hardware.kernels
    tables = [("attention", dtype, kernel) for dtype, kernel in kernels.attention.items()]
    tables += [("attention", f"MLA {dtype}", kernel) for dtype, kernel in kernels.latent_attention.items()]  # type: ignore[misc]
    tables.append(("all_to_all", "", kernels.all_to_all))  # type: ignore[arg-type]
    for operation, which, kernel in tables:
        for entry in limits()["beyond"]:
            if entry["operation"] == operation and hardware.name in entry["systems"] and kernel.evidence:
                for name, far in kernel.evidence.beyond.items():
                    yield f"{operation.replace('_', ' ')} {which} {name}".replace("  ", " "), kernel.source, far, entry
