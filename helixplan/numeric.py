"""Array types and the few numeric helpers that every formula shares."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

Amount: TypeAlias = Any
"""A number or an array of them, one entry a layout: formulas broadcast."""

NOTHING = 0.0
"""The one zero that marks a term that is not there, so that no array of zeros is ever added up."""


def plus(a: Amount, b: Amount) -> Amount:
    """``a + b``, either of which may not be there."""
    if a is NOTHING:
        return b
    return a if b is NOTHING else a + b


def times(a: Amount, count: Amount) -> Amount:
    """``a * count``, of which ``a`` may not be there."""
    return NOTHING if a is NOTHING else a * count


def ceil_div(a: Amount, b: Amount) -> Amount:
    """``a / b`` rounded up: shards that do not divide are padded.

    Whole numbers stay whole; arrays come back as floats, exact below 2**50 and several times faster than integer division.
    """
    if isinstance(a, int) and isinstance(b, int):
        return -(-a // b)
    return np.ceil(np.asarray(a) / np.asarray(b))


def distinct(values: Ints | Floats) -> tuple[Floats, Ints]:
    """Distinct whole numbers, sorted, and where each entry finds its own: by counting, where sorting would take longer."""
    whole = np.asarray(values).astype(np.int64)
    top = int(np.max(whole)) if whole.size else 0
    if top > 4 * whole.size + 1024:
        few, index = np.unique(whole, return_inverse=True)
        return few.astype(float), index
    seen = np.zeros(top + 1, dtype=bool)
    seen[whole] = True
    return np.flatnonzero(seen).astype(float), (np.cumsum(seen) - 1)[whole]


SAMPLE = 4096


def shared_rows(*columns: Ints) -> tuple[Ints, Ints | slice]:
    """``distinct_rows`` where rows repeat, every row for itself where a sample of them hardly does: sorting would cost more."""
    count = len(columns[0])
    sample = slice(None, None, max(1, count // SAMPLE))
    few, index = distinct_rows(*(column[sample] for column in columns))
    if len(few) < 0.9 * len(index):
        return distinct_rows(*columns)
    return np.arange(count), slice(None)


def distinct_rows(*columns: Ints) -> tuple[Ints, Ints]:
    """One row number of each distinct row of the columns, and for each row which of those is like it."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    size = 1
    for column in columns:
        few, index = distinct(column)
        if few.size > 1:
            code = code * few.size + index
            size *= few.size
            if size > 2**20:
                few, code = distinct(code)
                size = few.size
    few, index = distinct(code)
    rows = np.empty(few.size, dtype=np.int64)
    rows[index] = np.arange(len(index))
    return rows, index


BLOCK = 32768
"""Rows worked on at a time: few enough for the temporaries of a formula to stay in a core's cache."""


def blocks(rows: Ints) -> list[Ints]:
    """``rows`` in runs of at most ``BLOCK``; one empty run where there are none."""
    return [rows[start : start + BLOCK] for start in range(0, max(len(rows), 1), BLOCK)]
