"""Where the numbers of a model and of a system come from, as their files say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from helixplan.inputs.catalog import find_model
from helixplan.inputs.hardware import Evidence, Figure, HardwareFile, Whole
from helixplan.inputs.validation import parse_json, read_text


@dataclass(frozen=True)
class Sourced:
    """One number of a profile's, by its path in the file."""

    name: str
    value: float
    source: str


@dataclass(frozen=True)
class SourcedKernel:
    """One kernel's constants: what they were fitted to, and their errors on rows kept from the fit where there were any."""

    name: str
    source: str
    evidence: Evidence | None


def figures(profile: HardwareFile) -> list[Sourced]:
    """Every datasheet number of a profile."""
    tables = {"gpu": profile.gpu, "domain": profile.domain, "scale_out": profile.scale_out}
    return [found for name, part in tables.items() for found in _figures(name, part)]


def _figures(path: str, value: Any) -> Iterator[Sourced]:
    if isinstance(value, Figure | Whole):
        yield Sourced(path, value.value, value.source)
    elif isinstance(value, BaseModel | dict):
        for name, part in value.items() if isinstance(value, dict) else value:
            yield from _figures(f"{path}.{name}", part)


def kernels(profile: HardwareFile) -> list[SourcedKernel]:
    """Every kernel that a profile has constants of."""
    return [found for name, part in profile.kernels for found in _kernels(name, part)]


def _kernels(name: str, value: Any) -> Iterator[SourcedKernel]:
    if isinstance(value, dict):
        for dtype, part in value.items():
            yield from _kernels(f"{name}.{dtype}", part)
    elif isinstance(value, list):
        for part in value:
            yield from _kernels(f"{name} ({part.variant})", part)
    elif isinstance(value, BaseModel):
        yield SourcedKernel(name, value.source, value.evidence)  # type: ignore[attr-defined]


def model_sources(name_or_path: str) -> list[tuple[str, str]]:
    """What a model's file says of where it comes from, by its keys; of a file that says nothing, the file."""
    path = find_model(name_or_path)
    said = parse_json(read_text(path), str(path), constants=True).get("source")
    if isinstance(said, dict):
        return [(str(key).replace("_", " "), _told(value)) for key, value in said.items()]
    return [("source", said)] if isinstance(said, str) else [("file", name_or_path)]


def _told(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)
