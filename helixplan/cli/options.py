"""The options that several commands share, each defined once, and how they become requests.

A command takes them all as ``**given`` and says which sets it wants with ``@takes``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from helixplan.errors import HelixplanError, InputError
from helixplan.inputs.spelled import DEFAULTS, OPTION_OF, as_flag


class Format(StrEnum):
    """How a result is printed on stdout."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def names_from(find: str) -> Callable[[str], list[str]]:
    """Shell completion from a catalog of bundled files."""

    def complete(incomplete: str) -> list[str]:
        from helixplan.inputs import catalog

        return [name for name in getattr(catalog, find)() if name.startswith(incomplete)]

    return complete


def one_of(constant: str) -> Callable[[str], list[str]]:
    """Shell completion from one of the workload's lists of allowed values."""

    def complete(incomplete: str) -> list[str]:
        from helixplan.inputs import workload

        return [name for name in getattr(workload, constant) if name.startswith(incomplete)]

    return complete


ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        autocompletion=names_from("bundled_models"),
        help="A bundled model, a config.json, or a folder holding one.",
    ),
]
HardwareName = Annotated[
    str,
    typer.Argument(metavar="HARDWARE", autocompletion=names_from("bundled_hardware"), help="A bundled system or a TOML profile."),
]
PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan's JSON file, as plan --output writes it.")]
PlansModel = Annotated[str | None, typer.Option("--model", help="The model's file, where the plan's is not a bundled one.")]
PlansHardware = Annotated[str | None, typer.Option("--hardware", help="The profile, where the plan's is not a bundled one.")]
OutputFormat = Annotated[Format, typer.Option("--format", help="How the result is printed.")]

Text = str | None

MODELLING: dict[str, Any] = {
    "context": Annotated[str, typer.Option(help="Tokens of context a request holds: 1M, 128k, 128Ki.")],
    "weights": Annotated[
        Text,
        typer.Option(
            autocompletion=one_of("WEIGHT_DTYPES"),
            help="Weights' dtype: bf16, fp8, fp4, nvfp4, mxfp4, int4. Default: what the model states.",
        ),
    ],
    "kv": Annotated[
        Text,
        typer.Option(
            autocompletion=one_of("KV_DTYPES"),
            help="KV cache's dtype: bf16, fp8, fp4, nvfp4, int4. Default: fp8 where computed in.",
        ),
    ],
    "attention_math": Annotated[
        Text,
        typer.Option(
            autocompletion=one_of("MATH_DTYPES"), help="Attention's arithmetic: bf16, fp8, fp4. Default: the kernels' own."
        ),
    ],
    "kernels": Annotated[
        str, typer.Option(autocompletion=one_of("KERNELS"), help="The clock: measured, or ideal (the speed of light).")
    ],
    "floor_scale": Annotated[Text, typer.Option(help="Between the ideal clock (0) and the measured one (1).")],
    "overlap": Annotated[
        str, typer.Option(autocompletion=one_of("OVERLAPS"), help="Overlapping the exchange: auto, none, hop-b.")
    ],
    "exchange": Annotated[
        str, typer.Option(autocompletion=one_of("EXCHANGES"), help="What MLA ranks exchange: auto, latent, value.")
    ],
    "engine": Annotated[
        str, typer.Option(autocompletion=one_of("ENGINES"), help="The engine to plan for: none, trtllm, vllm, sglang.")
    ],
    "memory_utilization": Annotated[str, typer.Option(help="Share of a GPU's memory that may be used.")],
    "kv_block": Annotated[str, typer.Option(help="Tokens of KV that go to a KVP rank at a time.")],
    "step_overhead": Annotated[str, typer.Option(help="Host and sampling time a step: 50us.")],
}
LIMITS: dict[str, Any] = {
    "ttl": Annotated[Text, typer.Option(help="The most a token may take: 20ms.")],
    "batch": Annotated[Text, typer.Option(help="Concurrent requests. Default: the search chooses.")],
    "gpus": Annotated[Text, typer.Option(help="Exactly so many GPUs.")],
    "max_gpus": Annotated[Text, typer.Option(help="At most so many GPUs. Default: one domain of the fast link.")],
    "pin": Annotated[list[str] | None, typer.Option(help="Fix a dimension: kvp=8 (kvp, tpa, dp, pp, tpf, ep). Repeatable.")],
}

"""What a search must keep, whatever the family."""
SEARCH: dict[str, Any] = LIMITS | {
    "family": Annotated[
        str, typer.Option(autocompletion=one_of("FAMILIES"), help="Layouts searched: helix, tp, pp, dp-ep, medha, any.")
    ],
}


def takes(*sets: dict[str, Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command that ends in ``**given`` the options of some sets, as if it had listed them."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
        shared = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=kind,
                default=DEFAULTS.get(name, inspect.Parameter.empty),
            )
            for options in sets
            for name, kind in options.items()
        ]
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + shared

        @wraps(command)
        def wrapper(**given: Any) -> None:
            command(**given)

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
        return wrapper

    return decorate


_FLAGS = {field: as_flag(option) for field, option in OPTION_OF.items()}
_FLAGS |= {
    name: as_flag(name)
    for name in (
        *("attention_math", "exchange", "floor_scale", "kernels", "memory_utilization", "overlap", "overlap_chunks", "engine"),
        *("batch", "gpus", "max_gpus", "family", "objective", "pin", "kvp", "tpa", "dp", "pp", "tpf", "ep"),
    )
}


def as_typed(error: HelixplanError) -> HelixplanError:
    """The error with a keyword argument's name turned into the flag that the user typed."""
    if isinstance(error, InputError) and error.file is None and error.field is not None:
        name, _, rest = error.field.partition(" ")
        return InputError(error.message, field=" ".join(part for part in (_FLAGS.get(name, name), rest) if part))
    return error
