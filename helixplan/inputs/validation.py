"""Reads files and turns pydantic's findings into one sentence that names the file, the field and what is allowed."""

from __future__ import annotations

import io
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from helixplan.errors import InputError, did_you_mean, shown

Schema = TypeVar("Schema", bound=BaseModel)

MAX_FILE_BYTES = 64_000_000
"""Larger than any plan, config or profile there is; a file over it is refused unread."""


def read_text(path: Path, most: int = MAX_FILE_BYTES) -> str:
    """The text of a file of the user's. Raises InputError where it cannot be read, is not UTF-8 or has over ``most`` bytes."""
    try:
        data = _read(path, most + 1)
        if len(data) > most:
            raise InputError(f"is larger than {most / 1e6:.0f} MB, more than any such file needs", file=str(path))
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 text (byte {error.start})", file=str(path)) from None


def _read(path: Path, most: int) -> bytes:
    """The first bytes of a file. Raises InputError about a pipe that nothing writes to: to open it would be to wait for ever."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        start = None
        if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            start = file.raw.read(1)
            if start == b"":
                raise InputError("is a pipe that nothing writes to", file=str(path))
        os.set_blocking(file.fileno(), True)
        return (start or b"") + file.read(most)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number JSON allows")


def _infinity(name: str) -> float:
    return _refuse_constant(name) if name == "NaN" else float(name)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"the key {key!r} stands twice in one object")
        seen[key] = value
    return seen


def parse_json(text: str, file: str, *, constants: bool = False) -> dict[str, Any]:
    """A JSON object. Raises InputError for anything else, doubled keys and bottomless nesting included.

    ``constants``: whether Infinity, which JSON has not but Python writes, may stand in it.
    """
    try:
        data = json.loads(text, parse_constant=_infinity if constants else _refuse_constant, object_pairs_hook=_unique_keys)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        if "integer string conversion" in reason:
            reason = "it has a number of thousands of digits"
        raise InputError(f"is not valid JSON: {reason}", file=file) from None
    if not isinstance(data, dict):
        raise InputError(f"must hold one JSON object, not {type(data).__name__}", file=file)
    return data


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """A TOML document. Raises InputError where it is none."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"is not valid TOML: {reason}", file=file) from None


def validate(schema: type[Schema], data: Mapping[str, Any], file: str) -> Schema:
    """``data`` as ``schema``. Raises InputError about the first thing that is wrong."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        # A key that is wrong explains one that is missing, so it is told first.
        findings = sorted(error.errors(), key=lambda finding: finding["type"] != "extra_forbidden")
        raise _as_input_error(schema, dict(findings[0]), data, file) from None


def _as_input_error(schema: type[BaseModel], finding: dict[str, Any], data: Mapping[str, Any], file: str) -> InputError:
    location = [str(part) for part in finding["loc"]]
    field = ".".join(location)
    if finding["type"] == "missing":
        near = did_you_mean(location[-1], _keys_at(data, finding["loc"][:-1]), lead="the file has")
        return InputError(f"is missing{near}", file=file, field=field)
    if finding["type"] == "extra_forbidden":
        known = _fields_at(schema, location[:-1])
        allowed = f"; allowed here: {', '.join(known)}" if known else ""
        return InputError(f"is not a known key{did_you_mean(location[-1], known)}{allowed}", file=file, field=field)
    if finding["type"] == "value_error":
        return InputError(str(finding["msg"]).removeprefix("Value error, "), file=file, field=field)
    return InputError(f"got {shown(finding['input'])}, but {_wanted(finding)}", file=file, field=field)


def _wanted(finding: dict[str, Any]) -> str:
    message = str(finding["msg"])
    return message[0].lower() + message[1:]


def _keys_at(data: Any, location: tuple[Any, ...]) -> list[str]:
    for part in location:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return []
    return [str(key) for key in data] if isinstance(data, Mapping) else []


def _fields_at(schema: type[BaseModel], location: list[str]) -> list[str]:
    """The keys ``schema`` knows at ``location``, through nested models, dictionaries and lists of them."""
    here: type[BaseModel] | None = schema
    for part in location:
        if here is None:
            return []
        # A part that is no field is the key of a dictionary or the index of a list: the schema stays the same.
        if part in here.model_fields:
            here = _model_in(here.model_fields[part].annotation)
    return [] if here is None else list(here.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
