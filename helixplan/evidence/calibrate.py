"""Measurements to constants: fits every kernel there are measurements of, and says how each does on rows kept from its fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixplan.errors import InputError
from helixplan.evidence.fitting import ASSUMED_MATH, errors, fit, form_for, ideal_seconds, rounded, usable
from helixplan.evidence.measurements import Measurements, check_units
from helixplan.evidence.predict import with_kernel, working_set
from helixplan.evidence.silicon import NEVER_FITTED, check_system, read_table, tables_of
from helixplan.inputs.hardware import Beyond, Evidence, Hardware, KernelConstants
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.numeric import Floats

LONGEST_FITTED = 32_768
"""Tokens of the fit that is tested on longer caches only."""


@dataclass(frozen=True)
class Fitted:
    """One kernel's constants, with their source and evidence in them."""

    operation: str
    dtype: str
    variant: str
    constants: Any

    @property
    def name(self) -> str:
        """As the profile's table is called."""
        return ".".join(part for part in (self.operation, self.dtype) if part)


@dataclass(frozen=True)
class Calibration:
    """A system's constants after a fit. ``hardware`` holds them; ``borrowed`` names the tables that no measurement covers."""

    hardware: Hardware
    fitted: list[Fitted]
    borrowed: list[str]


def from_silicon(hardware: Hardware) -> Iterator[Measurements]:
    """The tables of a system, read one by one. Raises InputError."""
    check_system(hardware.name)
    if hardware.name == NEVER_FITTED:
        raise InputError(
            f"{NEVER_FITTED} is never fitted: it takes gb200's constants, so that its tables can test them "
            f"(helixplan validate --against silicon)",
            field="SYSTEM",
        )
    for table in tables_of(hardware.name):
        yield from read_table(hardware.name, table)


def calibrate(hardware: Hardware, measured: list[Measurements], tell: Callable[[str], None] = lambda said: None) -> Calibration:
    """Fits every kernel of ``measured``. ``tell`` is told what is being fitted. Raises InputError about unusable tables."""
    fitted: list[Fitted] = []
    _check_kernels(measured)
    for found in measured:
        tell(f"{found.operation} {found.dtype} {found.kernel}".strip())
        check_units(found, ideal_seconds(hardware, found), "latency" if found.file.endswith(".parquet") else "us")
        if found.operation not in ("small", "merge"):
            fitted.append(_fit(hardware, found))
    constants = _assembled(hardware, fitted)
    overheads = _overheads(hardware, measured)
    if overheads is not None:
        constants["overheads"] = overheads
    borrowed = [name for name in FITTABLE if name not in constants]
    kernels = _told(hardware.file.kernels.model_copy(update={"inherit": None, **constants}), hardware, fitted, borrowed)
    return Calibration(with_kernels(hardware, kernels), fitted, borrowed)


FITTABLE = ("attention", "latent_attention", "gemm", "grouped_gemm", "all_to_all", "all_gather", "all_reduce")


def _check_kernels(measured: list[Measurements]) -> None:
    """Raises InputError where two kernels of one operation were measured and only one can be kept."""
    seen: dict[tuple[str, str], str] = {}
    for found in measured:
        key = (found.operation, found.dtype)
        if found.operation not in ("small", "merge", "grouped_gemm") and key in seen:
            raise InputError(
                f"holds two kernels of {found.operation} {found.dtype}, {seen[key]!r} and {found.kernel!r}; keep the rows of one",
                file=found.file,
                field="column 'kernel'",
            )
        seen[key] = found.kernel


def _told(kernels: KernelConstants, hardware: Hardware, fitted: list[Fitted], borrowed: list[str]) -> KernelConstants:
    """The constants with what can be said of them as a whole. What was another system's stays so, untested here."""
    own = hardware.file.kernels.calibrated
    if own or not borrowed:
        source = "fit by helixplan calibrate; each table names its measurements and its errors on rows kept from the fit"
        return kernels.model_copy(update={"calibrated": own or bool(fitted), "source": source})
    done = ", ".join(dict.fromkeys(one.operation for one in fitted)) or "nothing"
    before = hardware.file.kernels.source.removeprefix("uncalibrated: ")
    source = f"uncalibrated: {done} fitted by helixplan calibrate; for the rest, {before}"
    without = {name: _untested(getattr(kernels, name)) for name in borrowed}
    return kernels.model_copy(update={"calibrated": False, "source": source, **without})


def _untested(table: Any) -> Any:
    """Constants without their evidence, kernel by kernel."""
    if isinstance(table, dict):
        return {name: _untested(one) for name, one in table.items()}
    if isinstance(table, list):
        return [_untested(one) for one in table]
    return table.model_copy(update={"evidence": None})


def with_kernels(hardware: Hardware, kernels: Any) -> Hardware:
    """The same system with other constants."""
    return replace(hardware, kernels=kernels, file=hardware.file.model_copy(update={"kernels": kernels}))


def math_of(hardware: Hardware, found: Measurements) -> str:
    """The arithmetic of a kernel: as narrow as its operands where the GPU computes so; MLA in fp8 on Blackwell alone."""
    flops = hardware.gpu.flops_per_s
    if found.operation == "latent_attention" and hardware.file.gpu.architecture != "blackwell":
        return "bf16"
    wanted = {"fp8": "fp8", "nvfp4": "fp4", "mxfp4": "fp8"}.get(found.dtype, "bf16")
    if found.dtype == "mxfp4" and "fp4" not in flops:
        return "bf16"
    return wanted if wanted in flops else "bf16"


def _fit(hardware: Hardware, found: Measurements) -> Fitted:
    form, held_out = form_for(found, math_of(hardware, found)), found.kept_for_testing
    rows = usable(hardware, found)
    kernel = fit(hardware, found.where(rows.mask & ~held_out), form)
    tested = found.where(rows.mask & held_out & tested_rows(hardware, found))
    median, p90 = _spread(hardware, found, kernel, tested)
    evidence = Evidence(
        fitted_rows=int(np.sum(rows.mask & ~held_out)),
        tested_rows=len(tested),
        median_error=median,
        p90_error=p90,
        left_out=rows.left_out,
        beyond=_beyond(hardware, found, rows.mask, held_out),
    )
    source = f"fit to {found.source}"
    if found.kernel:
        source += f", {found.kernel} kernel"
    if getattr(kernel, "math_efficiency", None) == ASSUMED_MATH and "math_efficiency" in form.unknowns:
        source += f"; math_efficiency {ASSUMED_MATH} is an assumption: too few rows are bound by arithmetic"
    holds = type(kernel)
    constants = holds.model_validate({**kernel.model_dump(), "source": source, "evidence": evidence})
    return Fitted(found.operation, found.dtype, found.kernel, constants)


def tested_rows(hardware: Hardware, found: Measurements) -> NDArray[np.bool_]:
    """Of attention only caches too large for L2 are tested: smaller ones are no long context."""
    if found.operation in ("attention", "latent_attention"):
        return np.asarray(working_set(found) >= 1.5 * hardware.file.gpu.l2_bytes.value)
    return np.ones(len(found), dtype=bool)


def _spread(hardware: Hardware, found: Measurements, kernel: Any, tested: Measurements) -> tuple[float, float]:
    if not len(tested):
        raise InputError(f"no measurement of {found.operation} {found.dtype} is left to test the fit on", file=found.file)
    off = np.abs(errors(with_kernel(hardware, found.operation, found.dtype, kernel), tested))
    return rounded(float(np.median(off))), rounded(float(np.quantile(off, 0.9)))


def _beyond(hardware: Hardware, found: Measurements, kept: NDArray[np.bool_], held_out: NDArray[np.bool_]) -> dict[str, Beyond]:
    """A second fit that never sees the largest shapes, tested on them: longer caches, or the widest group."""
    if "tokens" in found.shape and found.operation != "grouped_gemm":
        far, name = found["tokens"] > LONGEST_FITTED, f"{LONGEST_FITTED // 1024}Ki+"
    elif "gpus" in found.shape and len(np.unique(found["gpus"])) > 2:
        widest = np.max(found["gpus"])
        far, name = found["gpus"] == widest, f"{int(widest)} GPUs"
    else:
        return {}
    tested = found.where(kept & far & tested_rows(hardware, found))
    if not len(tested):
        return {}
    kernel = fit(hardware, found.where(kept & ~far & ~held_out), form_for(found, math_of(hardware, found)))
    median, p90 = _spread(hardware, found, kernel, tested)
    return {name: Beyond(tested_rows=len(tested), median_error=median, p90_error=p90)}


def _assembled(hardware: Hardware, fitted: list[Fitted]) -> dict[str, Any]:
    """The profile's tables: what was fitted, beside what the profile already had of its own."""
    tables: dict[str, Any] = {}
    if hardware.file.kernels.calibrated:
        fresh = {one.operation for one in fitted if one.operation in ("attention", "latent_attention", "gemm", "grouped_gemm")}
        tables = {name: dict(getattr(hardware.file.kernels, name)) for name in fresh}
        for one in fitted:
            if one.operation == "grouped_gemm":
                tables[one.operation][one.dtype] = []
    for one in fitted:
        if one.operation == "grouped_gemm":
            tables.setdefault(one.operation, {}).setdefault(one.dtype, []).append(one.constants)
        elif one.dtype:
            tables.setdefault(one.operation, {})[one.dtype] = one.constants
        else:
            tables[one.operation] = one.constants
    for name, table in tables.items():
        if isinstance(table, dict) and "bf16" not in table:
            table["bf16"] = getattr(hardware.file.kernels, name)["bf16"]
    if "all_to_all" in tables and "all_gather" not in tables:
        source = "assumption: as all-to-all, whose constants these are"
        tables["all_gather"] = tables["all_to_all"].model_copy(update={"source": source, "evidence": None})
    return tables


def _overheads(hardware: Hardware, measured: list[Measurements]) -> Any:
    """Small kernels and the merge, where they were measured: the median, and the start-up that its bytes leave the merge."""
    changes: dict[str, float] = {}
    small = [found for found in measured if found.operation == "small"]
    merges = [found for found in measured if found.operation == "merge"]
    if small:
        changes["small_kernel_us"] = rounded(float(np.median(np.concatenate([found.us for found in small]))))
    if merges:
        read = np.concatenate([_merge_bytes(found) / hardware.gpu.memory_bytes_per_s * 1e6 for found in merges])
        changes["merge_us"] = rounded(_start_up(np.concatenate([found.us for found in merges]), read))
    sources = [found.source for found in small + merges]
    if not changes:
        return None
    old = hardware.file.kernels.overheads
    told = f"{', '.join(changes)}: measured, {', '.join(dict.fromkeys(sources))}; the rest: {old.source}"
    return old.model_copy(update={**changes, "source": told})


def _start_up(us: Floats, read: Floats) -> float:
    """The constant that, with the bytes' time, comes nearest to the measurements by the median distance of logarithms."""
    tried = np.unique(np.maximum(us - read, 0.0))
    off = np.median(np.abs(np.log((tried[:, None] + read) / us)), axis=1)
    return float(tried[int(np.argmin(off))])


def _merge_bytes(found: Measurements) -> Floats:
    partials = found["batch"] * found["query_heads"] * (found["head_dim"] * ACTIVATION_BYTES + 4)
    return partials + partials / found["parts"]
