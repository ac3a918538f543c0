"""What people write in options and suites, by the options' names, and what it means.

``given`` holds text (or numbers) by the names of the command line's options, dashes as underscores; ``spell`` says how a name is
written where the user wrote it, so that an error names it so.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from helixplan.errors import InputError
from helixplan.inputs.workload import Request, Workload
from helixplan.units import exact_seconds, format_context, parse_count, parse_seconds

Spell = Callable[[str], str]

DEFAULTS: dict[str, Any] = {
    "weights": None,
    "kv": None,
    "attention_math": None,
    "kernels": "measured",
    "floor_scale": None,
    "overlap": "auto",
    "exchange": "auto",
    "engine": "none",
    "memory_utilization": "0.9",
    "kv_block": "32",
    "step_overhead": "0us",
    "ttl": None,
    "batch": None,
    "gpus": None,
    "max_gpus": None,
    "family": "helix",
    "pin": None,
    "objective": None,
}
"""What an option means that is not given."""

OPTION_OF = {
    "context_tokens": "context",
    "weight_dtype": "weights",
    "kv_dtype": "kv",
    "kv_block_tokens": "kv_block",
    "step_overhead_s": "step_overhead",
    "ttl_s": "ttl",
}
"""The option behind a field of ``Workload`` or ``Request``, where its name is another."""


def as_flag(name: str) -> str:
    """As it is typed on the command line."""
    return "--" + name.replace("_", "-")


def modelling(given: Mapping[str, Any], spell: Spell = as_flag) -> dict[str, Any]:
    """The keyword arguments of ``Workload`` but the context. Raises InputError for what is no number or time."""
    return {
        "weight_dtype": given["weights"],
        "kv_dtype": given["kv"],
        "attention_math": given["attention_math"],
        "kernels": given["kernels"],
        "floor_scale": None if given["floor_scale"] is None else _number(given["floor_scale"], spell("floor_scale")),
        "overlap": given["overlap"],
        "exchange": given["exchange"],
        "engine": given["engine"],
        "memory_utilization": _number(given["memory_utilization"], spell("memory_utilization")),
        "kv_block_tokens": parse_count(str(given["kv_block"]), spell("kv_block")),
        "step_overhead_s": parse_seconds(str(given["step_overhead"]), spell("step_overhead")),
    }


def context_tokens(given: Mapping[str, Any], spell: Spell = as_flag) -> int:
    """Tokens of context. Raises InputError for what is no whole number."""
    return parse_count(str(given["context"]), spell("context"))


def request(given: Mapping[str, Any], objective: str | None, spell: Spell = as_flag) -> Request:
    """What a search must keep. Raises InputError for what is no number or time, or out of bounds."""
    counts = {
        name: None if given[name] is None else parse_count(str(given[name]), spell(name))
        for name in ("batch", "gpus", "max_gpus")
    }
    return Request(
        ttl_s=None if given["ttl"] is None else parse_seconds(str(given["ttl"]), spell("ttl")),
        family=given.get("family", "helix"),
        pins=_pins(given["pin"] or [], spell("pin")),
        objective=objective,
        **counts,
    )


def _pins(texts: list[str], field: str) -> dict[str, int]:
    pins: dict[str, int] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"got {text!r}; write a dimension and its value, like kvp=8", field=field)
        if name in pins:
            raise InputError(f"{name} is pinned twice", field=field)
        pins[name] = parse_count(value, f"{field} {name}")
    return pins


def as_options(work: Workload, request: Request | None = None) -> list[str]:
    """The options that ask this, the other way round: what is left out is the default."""
    told = ["--context", format_context(work.context_tokens)]
    usual = vars(Workload(work.context_tokens)) | vars(Request())
    implied = {"floor_scale": 1.0, "engine": DEFAULTS["engine"], "objective": request and replace(request, objective=None).goal}
    for name, value in (vars(work) | (vars(request) if request else {})).items():
        option = OPTION_OF.get(name, name)
        if name == "pins":
            told += [part for pin, size in value.items() for part in ("--pin", f"{pin}={size}")]
        elif option in DEFAULTS and value not in (None, usual[name], implied.get(name)):
            told += [as_flag(option), exact_seconds(value) if name.endswith("_s") else str(value)]
    return told


def plan_command(model: str, hardware: str, work: Workload, asked: Request) -> str:
    """The command line that asks this."""
    return shlex.join(["helixplan", "plan", model, hardware, *as_options(work, asked)])


def _number(text: object, field: str) -> float:
    try:
        return float(str(text))
    except ValueError:
        raise InputError(f"{text!r} is not a number", field=field) from None
