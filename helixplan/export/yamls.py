"""YAML as launch files use it: plain values, no aliases, no key twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from helixplan.errors import InputError, shown

MOST_BRACKETS = 1000
"""The reader looks back at every open one again and again."""


class _Plain(yaml.SafeLoader):
    """Values alone: an alias may stand for a whole tree, many times over, so there is none."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it uses an alias (*name); write the values out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise yaml.YAMLError(f"the key {shown(twice[0])} stands twice")
        return super().construct_mapping(node, deep)


def read_yaml(text: str, file: str) -> dict[str, Any]:
    """A mapping. Raises InputError for anything else."""
    if sum(text.count(bracket) for bracket in "[{") > MOST_BRACKETS:
        raise InputError(f"opens more than {MOST_BRACKETS:,} brackets, more than any launch needs", file=file)
    try:
        data = yaml.load(text, Loader=_Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"is not YAML that can be read: {_reason(error)}", file=file) from None
    if not isinstance(data, dict):
        raise InputError(f"must hold one mapping, not {type(data).__name__}", file=file)
    return data


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    mark = getattr(error, "problem_mark", None)
    where = f" (line {mark.line + 1})" if mark is not None else ""
    return shown_line(str(getattr(error, "problem", None) or error)) + where


def shown_line(text: str) -> str:
    """The first line of a message, cut short where it is long."""
    line = text.splitlines()[0] if text else "it is empty"
    return line if len(line) <= 100 else line[:97] + "..."


def flat(data: Mapping[Any, Any], prefix: str = "") -> dict[str, object]:
    """Nested mappings as one, their keys joined by dots."""
    found: dict[str, object] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return found


def nested(settings: Mapping[str, object]) -> dict[str, Any]:
    """What ``flat`` made flat."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *folders, last = name.split(".")
        place = found
        for folder in folders:
            place = place.setdefault(folder, {})
        place[last] = value
    return found


def written(data: Mapping[str, Any]) -> str:
    """A mapping as YAML, keys in their order."""
    return str(yaml.safe_dump(dict(data), sort_keys=False, default_flow_style=False, width=1000))
