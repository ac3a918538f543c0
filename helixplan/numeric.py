"""Array types and the few numeric helpers that every formula shares."""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]

Amount: TypeAlias = Any
"""A number or an array of them, one entry a layout: formulas broadcast."""

Either = TypeVar("Either", float, Floats)


def ceil_div(a: Amount, b: Amount) -> Amount:
    """``a / b`` rounded up: shards that do not divide are padded.

    Whole numbers stay whole; arrays come back as floats, exact below 2**50 and several times faster than integer division.
    """
    if isinstance(a, int) and isinstance(b, int):
        return -(-a // b)
    return np.ceil(np.asarray(a) / np.asarray(b))
