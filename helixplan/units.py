"""What people write ("1M", "128Ki", "20ms", "186GB") to plain SI numbers, and back."""

from __future__ import annotations

import math
import re

from helixplan.errors import InputError

DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BINARY = {"Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}

_QUANTITY = re.compile(r"([+-]?(?:\d[\d_]*)?(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-zµ]*)")


def _split(text: str) -> tuple[float, str] | None:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or not match[1]:
        return None
    try:
        number = float(match[1].replace("_", ""))
    except ValueError:
        return None
    return (number, match[2]) if math.isfinite(number) else None


def parse_count(text: str, field: str) -> int:
    """A whole number of things: "1M" is 1,000,000 and "1Mi" is 1,048,576."""
    parts = _split(text)
    scale = None if parts is None else {**DECIMAL, **BINARY}.get(parts[1])
    if parts is None or scale is None or parts[0] * scale != int(parts[0] * scale):
        raise InputError(f"{text!r} is not a whole number; write one like 8, 128k, 128Ki or 1M", field=field)
    return int(parts[0] * scale)


def parse_seconds(text: str, field: str) -> float:
    """A time: "20ms", "1.5s", "800us"; a plain number counts seconds."""
    parts = _split(text)
    scale = None if parts is None else {"": 1.0, **SECONDS}.get(parts[1])
    if parts is None or scale is None:
        raise InputError(f"{text!r} is not a time; write one like 20ms, 1.5s or 800us", field=field)
    # Dividing keeps "20ms" equal to the literal 0.020, which multiplying by 1e-3 does not always do.
    return parts[0] if scale == 1.0 else parts[0] / round(1 / scale)


def parse_bytes(text: str, field: str) -> float:
    """A size of memory: "186GB" is 186e9 bytes, "80GiB" is 80 * 2**30."""
    parts = _split(text)
    units = {unit + "B": scale for unit, scale in {**DECIMAL, **BINARY}.items()}
    scale = None if parts is None else {"": 1, **units}.get(parts[1])
    if parts is None or scale is None:
        raise InputError(f"{text!r} is not a size; write one like 186GB or 80GiB", field=field)
    return parts[0] * scale


def format_seconds(seconds: float) -> str:
    """Three or four significant digits in the unit people would use: "12.35 ms"."""
    if seconds == 0:
        return "0 us"
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= scale * 0.9995:
            return f"{seconds / scale:.4g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def format_bytes(size: float) -> str:
    """Decimal units, as datasheets use: "178.8 GB"."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= scale:
            return f"{size / scale:.4g} {unit}"
    return f"{size:.0f} B"


def format_count(count: float) -> str:
    """Thousands apart: "1,000,000"."""
    return f"{count:,.0f}"


def format_context(tokens: int) -> str:
    """A context as people say it: "1M", "128Ki", "1,234,567"."""
    for units in (DECIMAL, BINARY):
        for unit, scale in sorted(units.items(), key=lambda item: -item[1]):
            if scale > 1 and unit not in ("K", "ki") and tokens >= scale and tokens % scale == 0:
                return f"{tokens // scale}{unit}"
    return format_count(tokens)
