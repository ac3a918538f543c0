"""A launch as people have it, a command line or a file, read into a layout and what goes with it."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from helixplan.errors import InputError, shown
from helixplan.export import dynamo
from helixplan.export.shell import ASKED, MOST, assignments, check_continued, commands, resolved, spliced, substitute, unwrapped
from helixplan.export.spelling import Launch, Reader, Spelling, plain, read_keys, read_words
from helixplan.export.spellings import SPELLINGS
from helixplan.export.yamls import flat, read_yaml
from helixplan.inputs.model import Model
from helixplan.inputs.validation import read_text

YAML_FILES = (".yaml", ".yml", ".json")
MODULES = {
    "vllm.entrypoints.openai.api_server": "vllm",
    "sglang.launch_server": "sglang",
    **{f"dynamo.{engine}": engine for engine in SPELLINGS},
}
IMAGE = re.compile(r"([\w.:-]+/)*vllm-openai([:@][\w.:-]+)?")
"""The image that starts vLLM itself, so that its name stands for the command."""
ROUTERS = ("disaggregated", "disaggregated_mpi_worker")
"""What trtllm-serve can do besides serving a model: send requests on to servers that do."""
FILE_OPTIONS = ("config", "extra-llm-api-options", "extra-engine-args")
"""What names a file of settings, in one engine or another."""


def read_launch(given: str, model: Model) -> Launch:
    """The launch that a text is or a file holds. Raises InputError for what is neither, contradicts itself or is out of range."""
    path = _path(given)
    if path is None:
        return _of_text(_short(given, None), model, Path())
    text = _short(read_text(path), str(path))
    try:
        if path.suffix in YAML_FILES:
            return _of_yaml(read_yaml(text, str(path)), model, path)
        return _of_text(text, model, path.parent)
    except InputError as error:
        if error.file is not None:
            raise
        raise InputError(error.message, file=str(path), field=error.field) from None


def _path(given: str) -> Path | None:
    """The file that is meant, where one is: a command has more than one word."""
    words = given.split()
    if len(words) > 1 and not given.endswith((*YAML_FILES, ".sh")):
        return None
    if not words:
        raise InputError("is empty; give a launch command or a file that holds one", field=ASKED)
    try:
        found = Path(given).is_file()
    except (OSError, ValueError):
        found = False
    if found or (len(words) == 1 and given.endswith((*YAML_FILES, ".sh"))):
        return Path(given)
    return None


def _short(text: str, file: str | None) -> str:
    if len(text) > MOST:
        raise InputError(
            f"has more than {MOST:,} characters, more than any launch needs", file=file, field=None if file else ASKED
        )
    return text


def _of_text(text: str, model: Model, folder: Path) -> Launch:
    """The one launch in a shell's text."""
    lines = [inner for line in commands(text) for inner in unwrapped(line)]
    variables = assignments(lines)
    read = [(number, *_engine_of(line)) for number, line in enumerate(lines)]
    found = [(number, engine, words) for number, engine, words in read if engine is not None]
    if not found:
        named = "vllm serve, python -m sglang.launch_server, trtllm-serve"
        raise InputError(f"got {shown(text)}, in which no engine is launched; it has to hold one of: {named}", field=ASKED)
    if len(found) > 1:
        raise InputError(f"holds {len(found)} launches; give the one that decodes", field=ASKED)
    number, engine, words = found[0]
    spelling = SPELLINGS[engine]
    words = spliced(words, variables)
    check_continued(lines[number + 1 :])
    return spelling.launch(_of_words(spelling, words, variables, folder), model)


def _engine_of(words: list[str]) -> tuple[str | None, list[str]]:
    """Which engine a command launches, and the words after its name."""
    for index, (word, after) in enumerate(zip(words, [*words[1:], ""], strict=True)):
        name = PurePath(word).name
        if name in ("vllm", "sglang") and after == "serve":
            return name, words[index + 2 :]
        if name == "trtllm-serve" and after in ROUTERS:
            raise InputError(f"got {shown(f'{name} {after}')}, which has no ranks; give the server that generates", field=ASKED)
        if name == "trtllm-serve":
            return "trtllm", words[index + 1 + (after == "serve") :]
        if word == "-m" and after in MODULES:
            return MODULES[after], words[index + 2 :]
    for index, word in enumerate(words):
        if IMAGE.fullmatch(word):
            return "vllm", words[index + 1 :]
    return None, []


def _of_words(spelling: Spelling, words: list[str], variables: dict[str, str], folder: Path) -> Reader:
    """Settings of the words and of the files they name, each as strong as the engine holds it."""
    words, files, inline = _set_apart(words)
    told = read_words(spelling, words, partial(substitute, variables))
    for text in inline:
        told = read_keys(spelling, flat(_json(text))).over(told)
    for name in files:
        path = folder / resolved(name, variables)
        kept = read_keys(spelling, flat(read_yaml(_short(read_text(path), str(path)), str(path))))
        told = kept.over(told) if spelling.file_wins else told.over(kept)
    return told


def _set_apart(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The words but those that name files of settings or hold settings themselves; the files; the settings, as JSON."""
    rest: list[str] = []
    files: list[str] = []
    inline: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        kind = plain(name) if name.startswith("--") else ""
        if kind in FILE_OPTIONS or kind == plain(dynamo.OVERRIDES):
            if not equals and not queue:
                raise InputError("needs a value", field=name)
            (files if kind in FILE_OPTIONS else inline).append(value if equals else queue.pop(0))
        else:
            rest.append("--" + word.removeprefix("--trtllm.") if word.startswith("--trtllm.") else word)
    return rest, files, inline


def _json(text: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InputError(f"got {shown(text)}, which is no JSON object", field=dynamo.OVERRIDES)
    return data


def _of_yaml(data: dict[str, Any], model: Model, path: Path) -> Launch:
    """A Dynamo deployment, or an engine's settings."""
    file = str(path)
    if data.get("kind") == dynamo.KIND:
        words, gpus = dynamo.worker_of(data, file)
        engine, rest = _engine_of(words)
        if engine is None:
            raise InputError(f"runs none of {', '.join(MODULES)}", file=file, field="spec.components")
        found = SPELLINGS[engine].launch(_of_words(SPELLINGS[engine], rest, {}, path.parent), model)
        dynamo.check_gpus(gpus, found.layout.gpus, file)
        return found
    keys = flat(data)
    spelling = _whose(list(keys), file)
    return spelling.launch(read_keys(spelling, keys), model)


def _whose(keys: list[str], file: str) -> Spelling:
    """The engine most of whose settings the keys are, written as it writes them. Raises InputError where none is, or two are."""
    known = {engine: _known(spelling, keys) for engine, spelling in SPELLINGS.items()}
    best = max(known.values())
    named = [engine for engine, many in known.items() if many == best]
    if not best[0] or len(named) > 1:
        which = (
            f"could be {' or '.join(SPELLINGS[engine].title for engine in named)}'s" if best[0] else "holds no engine's settings"
        )
        raise InputError(f"{which}; give the whole launch command", file=file)
    return SPELLINGS[named[0]]


def _known(spelling: Spelling, keys: list[str]) -> tuple[int, int]:
    """How many of the keys the engine has, and how many of those are written as it writes them."""
    names = {name: flag.name for name, flag in spelling.spelled()}
    found = [key for key in keys if plain(key) in names]
    exact = [key for key in found if key == names[plain(key)]]
    return len(found), len(exact)
