"""What people write ("1M", "128Ki", "20ms", "186GB") to plain SI numbers, and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from helixplan.errors import InputError

DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
BINARY = {"Ki": 2**10, "ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
SECONDS = {"": "1", "s": "1", "ms": "1e-3", "us": "1e-6", "µs": "1e-6", "ns": "1e-9"}

_QUANTITY = re.compile(r"([+-]?(?:\d[\d_]*)?(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([A-Za-zµ]*)")


def _split(text: str) -> tuple[Decimal, str] | None:
    """The number, exactly as written, and its unit."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        return None
    try:
        return Decimal(match[1].replace("_", "")), match[2]
    except InvalidOperation:
        return None


def parse_count(text: str, field: str) -> int:
    """A whole number of things: "1M" is 1,000,000 and "1Mi" is 1,048,576."""
    parts = _split(text)
    scale = None if parts is None else {**DECIMAL, **BINARY}.get(parts[1])
    number = None if parts is None or scale is None else parts[0] * scale
    if number is None or abs(number) >= 10**18 or number != number.to_integral_value():
        raise InputError(f"{text[:60]!r} is not a whole number; write one like 8, 128k, 128Ki or 1M", field=field)
    return int(number)


def parse_seconds(text: str, field: str) -> float:
    """A time: "20ms", "1.5s", "800us"; a plain number counts seconds."""
    parts = _split(text)
    scale = None if parts is None else SECONDS.get(parts[1])
    if parts is None or scale is None:
        raise InputError(f"{text[:60]!r} is not a time; write one like 20ms, 1.5s or 800us", field=field)
    return float(parts[0] * Decimal(scale))


def format_seconds(seconds: float, digits: int = 4) -> str:
    """So many significant digits (of microseconds one fewer) in the unit people would use: "12.35 ms"."""
    if seconds == 0:
        return "0 us"
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if abs(seconds) >= scale * 0.9995:
            return f"{seconds / scale:.{digits}g} {unit}"
    return f"{seconds / 1e-6:.{digits - 1}g} us"


def exact_seconds(seconds: float, between: str = "") -> str:
    """All digits, as ``parse_seconds`` reads them back exactly: "20ms"; ``between`` stands before the unit."""
    exact = Decimal(repr(seconds))
    unit = next((unit for unit in ("s", "ms") if exact >= Decimal(SECONDS[unit])), "us")
    return f"{(exact / Decimal(SECONDS[unit])).normalize():f}{between}{unit}"


def format_bytes(size: float, digits: int = 4) -> str:
    """Decimal units, as datasheets use: "178.8 GB"."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(size) >= scale:
            return f"{size / scale:.{digits}g} {unit}"
    return f"{size:.0f} B"


def told_apart(one: float, other: float, written: Callable[[float, int], str]) -> tuple[str, str]:
    """Two quantities of which one is the larger, in as many digits as it takes to see that, but at least four."""
    digits = next((digits for digits in range(4, 17) if written(one, digits) != written(other, digits)), 4)
    return written(one, digits), written(other, digits)


def format_count(count: float) -> str:
    """Thousands apart: "1,000,000"."""
    return f"{count:,.0f}"


def format_counted(count: int, noun: str) -> str:
    """So many of something: "1 GPU", "1,024 GPUs"."""
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"


def format_ordinal(number: int) -> str:
    """ "2nd", "8th", "11th", "32nd"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def format_context(tokens: int) -> str:
    """A context as people say it, and as ``parse_count`` reads it back exactly: "1M", "1.37M", "128Ki", "1234567"."""
    if tokens < 1000:
        return str(tokens)
    for unit, scale in (("M", 10**6), ("k", 10**3)):
        if tokens >= scale and tokens % (scale // 1000) == 0 and (tokens % scale == 0 or tokens % 1024):
            return f"{Decimal(tokens) / scale:f}{unit}"
    for unit, scale in (("Mi", 2**20), ("Ki", 2**10)):
        if tokens % scale == 0:
            return f"{tokens // scale}{unit}"
    return str(tokens)
