"""Writes fitted constants into a hardware profile: the datasheet's part stays as it is, ``[kernels]`` is written anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from helixplan.errors import InputError
from helixplan.inputs.hardware import KernelConstants

HEAD = """# Kernel constants, written by `helixplan calibrate`. What each does stands in docs/cost-model.md, "What silicon adds".
# Times are in microseconds, efficiencies fractions of the datasheet's peaks. `evidence` tells the errors (fractions of what was
# measured: the median and the 90th percentile) on rows that the fit never saw; `left_out`, the rows that stated rules kept from
# fit and test alike; `beyond`, the errors of a second fit on shapes larger than any it saw.
"""


def with_constants(profile: str, kernels: KernelConstants, file: str) -> str:
    """The text of a profile with its ``[kernels]`` tables, which must come last, replaced. Raises InputError."""
    start = re.search(r"^\[+kernels\b", profile, re.M)
    if start is None:
        raise InputError("has no [kernels] table to replace", file=file)
    rest = profile[start.start() :]
    later = re.search(r"^\[{1,2}(?!\[|kernels\b)", rest, re.M)
    if later is not None:
        raise InputError(
            f"has the table {later.string[later.start() :].splitlines()[0]} after [kernels], which must come last", file=file
        )
    first, _, tables = kernels_toml(kernels).partition("\n")
    return f"{profile[: start.start()].rstrip()}\n\n{first}\n{HEAD}{tables}"


def kernels_toml(kernels: KernelConstants) -> str:
    """``[kernels]`` and its tables as TOML, the same text for the same constants."""
    return "\n".join(_table("kernels", kernels, many=False)).rstrip() + "\n"


def _table(path: str, content: BaseModel | dict[str, Any], *, many: bool) -> Iterator[str]:
    fields = content if isinstance(content, dict) else {name: getattr(content, name) for name in type(content).model_fields}
    fields = {name: value for name, value in fields.items() if value not in (None, {})}
    inner = {name: value for name, value in fields.items() if _is_table(name, value)}
    plain = {name: value for name, value in fields.items() if name not in inner}
    if plain:
        yield f"[[{path}]]" if many else f"[{path}]"
        yield from (f"{name} = {_value(value)}" for name, value in plain.items())
        yield ""
    for name, value in inner.items():
        for one in value if isinstance(value, list) else [value]:
            yield from _table(f"{path}.{name}", one, many=isinstance(value, list))


def _is_table(name: str, value: Any) -> bool:
    """Dictionaries of numbers are written on one line, all other tables as tables."""
    if isinstance(value, dict):
        return any(isinstance(one, BaseModel | list | dict) for one in value.values()) and name != "beyond"
    return isinstance(value, list | BaseModel) and name != "evidence"


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return _value({name: getattr(value, name) for name in type(value).model_fields if getattr(value, name) != {}})
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(one)}" for name, one in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)
