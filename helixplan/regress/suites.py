"""Suites: a TOML file of named cases, a matrix of values expanding to many, and what each asks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from helixplan.errors import InputError
from helixplan.inputs import spelled
from helixplan.inputs.catalog import bundled_hardware, bundled_models
from helixplan.inputs.validation import parse_toml, read_text, validate
from helixplan.inputs.workload import PINS, Request, Workload

MOST_CASES = 10_000
Quantity = StrictStr | StrictInt | StrictFloat
NAME, LONGEST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*"), 200


class Asked(BaseModel):
    """What a case may ask: the options of ``plan`` by their names, dashes as underscores."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="A bundled model, or a config.json beside the suite.")
    hardware: str | None = Field(None, description="A bundled system, or a TOML profile beside the suite.")
    context: Quantity | None = Field(None, description="Tokens of context: 1M, 128k, 128Ki.")
    ttl: Quantity | None = Field(None, description="The most a token may take: 20ms.")
    batch: Quantity | None = None
    gpus: Quantity | None = None
    max_gpus: Quantity | None = None
    family: str | None = None
    objective: str | None = None
    pins: dict[str, StrictInt] | None = Field(None, description="Fixed dimensions: { kvp = 8 }.")
    weights: str | None = None
    kv: str | None = None
    attention_math: str | None = None
    kernels: str | None = None
    floor_scale: Quantity | None = None
    overlap: str | None = None
    exchange: str | None = None
    engine: str | None = None
    memory_utilization: Quantity | None = None
    kv_block: Quantity | None = None
    step_overhead: Quantity | None = None
    expect: Literal["feasible", "infeasible"] | None = Field(
        None, description="What the case must be, whatever the baseline says."
    )


class CaseFile(Asked):
    """One named case; with ``matrix`` one for each combination of its values."""

    name: str = Field(description="Letters, digits, and . _ + - between them.")
    matrix: dict[str, list[Quantity]] | None = Field(None, description="Lists of values, by the names of keys above.")


class SuiteFile(BaseModel):
    """A suite of cases."""

    model_config = ConfigDict(extra="forbid", title="helixplan suite")

    defaults: Asked | None = Field(None, description="What cases ask that do not say otherwise.")
    case: list[CaseFile] = Field(min_length=1)


@dataclass(frozen=True)
class Case:
    """One question. ``model`` and ``hardware`` are names or files as the suite writes them, ``folder`` where files are."""

    name: str
    line: int
    model: str
    hardware: str
    workload: Workload
    request: Request
    expect: str | None
    folder: str

    @property
    def question(self) -> dict[str, Any]:
        """All that is asked, numbers as numbers."""
        files = {"model": self._told(self.model), "hardware": self._told(self.hardware)}
        asked = {**files, **asdict(self.workload), **asdict(self.request)}
        return asked | {"objective": self.request.goal}

    def _told(self, given: str) -> str:
        """A file's place as seen from the suite, so that a baseline holds no machine's paths."""
        return Path(os.path.relpath(given, self.folder)).as_posix() if Path(given).is_absolute() else given

    def path(self, given: str, bundled: dict[str, Path]) -> str:
        """A file from where the suite lies; a bundled name, or what is neither, as it is."""
        beside = Path(self.folder) / given
        return str(beside) if given not in bundled and ("/" in given or beside.exists()) else given

    @property
    def model_path(self) -> str:
        return self.path(self.model, bundled_models())

    @property
    def hardware_path(self) -> str:
        return self.path(self.hardware, bundled_hardware())


def read_suite(path: Path) -> list[Case]:
    """The suite's cases in its order. Raises InputError about the first thing that is wrong with it."""
    text = read_text(path)
    data = parse_toml(text, str(path))
    suite = validate(SuiteFile, data, str(path))
    lines = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*case\s*\]\]", line)]
    cases: list[Case] = []
    names: dict[str, str] = {}
    asked: dict[str, str] = {}
    for index, entry in enumerate(suite.case):
        line = lines[index] if len(lines) == len(suite.case) else 1
        for name, values in _expanded(entry, str(path)):
            case = _case(name, line, suite.defaults or Asked.model_validate({}), entry, values, path)
            if len(name) > LONGEST_NAME:
                raise InputError(
                    f"got {name[:60]!r}..., longer than {LONGEST_NAME} characters", file=str(path), field="case.name"
                )
            if name.lower() in names:
                raise InputError(f"got {name!r} twice", file=str(path), field="case.name")
            question = repr(sorted(case.question.items(), key=lambda item: item[0]))
            if question in asked:
                raise InputError(f"{name!r} asks the same as {asked[question]!r}", file=str(path), field="case")
            names[name.lower()], asked[question] = name, name
            cases.append(case)
            if len(cases) > MOST_CASES:
                raise InputError(f"expands to more than {MOST_CASES:,} cases", file=str(path), field="case.matrix")
    return cases


def _expanded(entry: CaseFile, file: str) -> Iterator[tuple[str, dict[str, Quantity]]]:
    """Names and values of the cases that an entry stands for."""
    if not NAME.fullmatch(entry.name):
        raise InputError(f"got {entry.name[:60]!r}; letters, digits, and . _ + - between them", file=file, field="case.name")
    matrix = entry.matrix or {}
    allowed = [name for name in Asked.model_fields if name not in ("pins", "expect")] + [f"pins.{pin}" for pin in PINS]
    for name, values in matrix.items():
        if name not in allowed:
            raise InputError(f"is not a key of a case; allowed: {', '.join(allowed)}", file=file, field=f"case.matrix.{name}")
        if not values:
            raise InputError("is empty", file=file, field=f"case.matrix.{name}")
    for combination in product(*matrix.values()):
        texts = [Path(str(value)).stem if "/" in str(value) else str(value) for value in combination]
        parts = [re.sub(r"[^A-Za-z0-9._+]", "-", text) for text in texts]
        yield "-".join([entry.name, *parts]), dict(zip(matrix, combination, strict=True))


def _case(name: str, line: int, defaults: Asked, entry: CaseFile, values: dict[str, Quantity], path: Path) -> Case:
    file, field = str(path), f"case {name}"
    given: dict[str, Any] = {}
    for source in (defaults, entry):
        given |= {key: value for key, value in source.model_dump(exclude={"name", "matrix"}).items() if value is not None}
    given["pins"] = dict(given.get("pins") or {})
    for key, value in values.items():
        if key.startswith("pins."):
            given["pins"][key.removeprefix("pins.")] = value
        else:
            given[key] = value
    for needed in ("model", "hardware", "context"):
        if needed not in given:
            raise InputError("is missing", file=file, field=f"{field}: {needed}")
    options = spelled.DEFAULTS | given | {"pin": [f"{pin}={value}" for pin, value in given["pins"].items()]}
    try:
        workload = Workload(spelled.context_tokens(options, str), **spelled.modelling(options, str))
        request = spelled.request(options, options["objective"], str)
    except InputError as error:
        said = spelled.OPTION_OF.get(error.field or "", error.field)
        raise InputError(error.message, file=file, field=f"{field}: {said}") from None
    return Case(name, line, str(given["model"]), str(given["hardware"]), workload, request, given.get("expect"), str(path.parent))
