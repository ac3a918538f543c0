"""What was measured: one array a column of an operation's shape, and the microseconds it took.

A CSV of a user's own measurements has one row a measurement, whatever the operation; columns that an operation does not have
stay empty (docs/files.md, "Measurements").
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixplan.errors import InputError, did_you_mean, shown
from helixplan.inputs.validation import read_text
from helixplan.numeric import Floats

OPERATIONS: dict[str, tuple[str, ...]] = {
    "attention": ("batch", "tokens", "query_heads", "kv_heads", "head_dim"),
    "latent_attention": ("batch", "tokens", "query_heads"),
    "gemm": ("m", "n", "k"),
    "grouped_gemm": ("tokens", "active", "pairs", "hidden", "width"),
    "all_to_all": ("gpus", "bytes"),
    "all_gather": ("gpus", "bytes"),
    "all_reduce": ("gpus", "bytes"),
    "small": ("batch", "hidden"),
    "merge": ("batch", "query_heads", "head_dim", "parts"),
}
"""The columns of each operation's shape. ``bytes`` of a collective: what a rank sends (all-to-all), contributes (all-gather) or
holds (all-reduce). ``active`` experts are read for ``pairs`` of a token and an expert; ``tokens`` are all that were routed."""

COLLECTIVES = ("all_to_all", "all_gather", "all_reduce")
SHAPES = tuple(dict.fromkeys(column for columns in OPERATIONS.values() for column in columns))
TEXTS = ("operation", "kernel", "dtype")
ABOUT = ("device", "driver", "measured_on")
COLD = {"yes": True, "no": False, "": False}
"""Whether every launch's operands had to come from memory."""
CSV_COLUMNS = (*TEXTS, *SHAPES, "us", "cold", *ABOUT)
DTYPES: dict[str, tuple[str, ...]] = {
    "attention": ("bf16", "fp8"),
    "latent_attention": ("bf16", "fp8"),
    "gemm": ("bf16", "fp8", "nvfp4"),
    "grouped_gemm": ("bf16", "fp8", "nvfp4", "mxfp4", "int4"),
}
"""Of the cache or the weights; operations that are not named have none."""
TEST_SHARE = 4
"""One shape in so many is kept from every fit."""


@dataclass(frozen=True)
class Measurements:
    """One kernel of one operation. All arrays have one entry a row; ``rows`` are their numbers in the table they came from."""

    operation: str
    dtype: str
    kernel: str
    shape: dict[str, Floats]
    us: Floats
    rows: NDArray[np.int64]
    source: str
    file: str
    cold: NDArray[np.bool_]
    """Whether a row's operands came from memory each time; where not, sizes near the cache's say little of a step."""

    def __len__(self) -> int:
        return len(self.us)

    def __getitem__(self, column: str) -> Floats:
        return self.shape[column]

    def where(self, mask: NDArray[np.bool_]) -> Measurements:
        """The rows for which ``mask`` holds."""
        shape = {name: values[mask] for name, values in self.shape.items()}
        return replace(self, shape=shape, us=self.us[mask], rows=self.rows[mask], cold=self.cold[mask])

    @property
    def kept_for_testing(self) -> NDArray[np.bool_]:
        """The rows no fit may see: one shape in four, by a hash of the shape alone, so the same on every system and dtype."""
        columns = [self.shape[name] for name in OPERATIONS[self.operation]]
        digests = [hashlib.sha256(",".join(f"{x:g}" for x in row).encode()).digest()[0] for row in zip(*columns, strict=True)]
        return np.array([digest % TEST_SHARE == 0 for digest in digests], dtype=bool)

    @property
    def seconds(self) -> Floats:
        return self.us * 1e-6


def checked(found: Measurements, column: str = "us") -> Measurements:
    """``found`` again. Raises InputError with the file, column and row of what no measurement can be."""
    for name, values in {**found.shape, column: found.us}.items():
        wrong = np.flatnonzero(~np.isfinite(values) | (values <= 0))
        if len(wrong):
            row = int(wrong[0])
            raise InputError(
                f"row {found.rows[row]} has {values[row]:g}, which must be a number above 0",
                file=found.file,
                field=f"column {name!r}",
            )
    return found


def check_units(found: Measurements, ideal_seconds: Floats, column: str = "us") -> None:
    """Refuses a table in wrong units. Raises InputError with the file, the column and the row.

    Some rows may be wrong for their own reasons, so the whole table decides: half of its rows must lie between a fifth of the
    speed of light (a cache may help) and a thousand times 1 us more than it, and above half a microsecond, in which no kernel
    has ever ended.
    """
    low, high = np.maximum(ideal_seconds / 5, 0.5e-6), 1000 * (ideal_seconds + 1e-6)
    for wrong, said in ((found.seconds < low, "1000 times too short"), (found.seconds > high, "1000 times too long")):
        if 2 * int(np.sum(wrong)) > len(found):
            row = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"row {found.rows[row]} says {found.us[row]:g} us where the datasheet allows {ideal_seconds[row] * 1e6:.3g} us "
                f"at best, and most rows are like it: times look {said}",
                file=found.file,
                field=f"column {column!r}",
            )


def read_csv(path: Path) -> list[Measurements]:
    """A user's own measurements, one ``Measurements`` an operation, dtype and kernel. Raises InputError."""
    file = str(path)
    reader = csv.DictReader(io.StringIO(read_text(path)))
    header = reader.fieldnames or []
    for name in (*TEXTS, "us"):
        if name not in header:
            raise InputError(f"is missing{did_you_mean(name, header, lead='the file has')}", file=file, field=f"column {name!r}")
    for name in header:
        if name not in CSV_COLUMNS:
            raise InputError(
                f"is not a known column{did_you_mean(name, CSV_COLUMNS)}; known: {', '.join(CSV_COLUMNS)}",
                file=file,
                field=f"column {name!r}",
            )
    groups: dict[tuple[str, str, str], list[tuple[int, dict[str, str]]]] = {}
    for number, row in enumerate(reader, start=2):
        groups.setdefault(_kind(row, number, file), []).append((number, row))
    if not groups:
        raise InputError("holds no measurements", file=file)
    return [_gathered(kind, rows, file) for kind, rows in groups.items()]


def _kind(row: dict[str, str], number: int, file: str) -> tuple[str, str, str]:
    _one_of(row, "operation", tuple(OPERATIONS), number, file)
    _one_of(row, "dtype", DTYPES.get(row["operation"], ("",)), number, file)
    _one_of(row, "cold", tuple(COLD), number, file)
    return row["operation"], row["dtype"] or "", row["kernel"] or ""


def _one_of(row: dict[str, str], name: str, values: tuple[str, ...], number: int, file: str) -> None:
    given = row.get(name) or ""
    if given not in values:
        named = ", ".join(value or "(empty)" for value in values)
        raise InputError(f"row {number} has {shown(given)}; allowed: {named}", file=file, field=f"column {name!r}")


def _gathered(kind: tuple[str, str, str], rows: list[tuple[int, dict[str, str]]], file: str) -> Measurements:
    operation, dtype, kernel = kind
    columns: dict[str, list[float]] = {name: [] for name in (*OPERATIONS[operation], "us")}
    for number, row in rows:
        for name, values in columns.items():
            values.append(_number(row.get(name), name, number, file))
        if operation in COLLECTIVES and columns["gpus"][-1] < 2:
            said = f"row {number} has {columns['gpus'][-1]:g}; a group has at least 2"
            raise InputError(said, file=file, field="column 'gpus'")
    about = {name: rows[0][1].get(name) for name in ABOUT}
    told = ", ".join(str(value) for value in about.values() if value)
    us = np.array(columns.pop("us"))
    return checked(
        Measurements(
            operation,
            dtype,
            kernel,
            {name: np.array(values) for name, values in columns.items()},
            us,
            np.array([number for number, _ in rows]),
            source=f"{path_name(file)}{f' ({told})' if told else ''}",
            file=file,
            cold=np.array([COLD[row.get("cold") or ""] for _, row in rows]),
        )
    )


def path_name(file: str) -> str:
    return Path(file).name


def _number(text: str | None, name: str, number: int, file: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        said = "is empty" if not text else f"has {shown(text)}"
        raise InputError(f"row {number} {said}, which must be a number above 0", file=file, field=f"column {name!r}")
    return value


def as_csv(found: Iterable[Measurements], about: dict[str, str]) -> str:
    """The text of a measurements file. ``about``: device, driver, measured_on."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for one in found:
        for index in range(len(one)):
            row: dict[str, Any] = {name: f"{values[index]:g}" for name, values in one.shape.items()}
            row |= {"operation": one.operation, "kernel": one.kernel, "dtype": one.dtype, "us": f"{one.us[index]:.4g}"}
            row["cold"] = "yes" if one.cold[index] else "no"
            writer.writerow(row | about)
    return text.getvalue()
