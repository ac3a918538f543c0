"""How an engine's settings are spelled: one table an engine, by which they are both written and read."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from helixplan.cost.case import Case
from helixplan.errors import InputError, shown
from helixplan.inputs.model import Model
from helixplan.inputs.workload import MAX_CONTEXT, MAX_GPUS, choice, real, whole
from helixplan.layout import Layout
from helixplan.plans import Plan

Value = int | float | bool | str
Settings = dict[str, Value]
Substitute = Callable[[str, str], str]

PRINTED_DASHES = tuple("\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{FIGURE DASH}\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}")
"""What pages make of the hyphen before an option; no engine takes them."""
NEAR = 0.85
"""From this likeness on, an unknown name is taken for a known one with a slip of the pen."""


@dataclass(frozen=True)
class Flag:
    """One setting: its name as it is written (in a file without the dashes), and what it may be."""

    name: str
    kind: type[int] | type[float] | type[bool] | type[str]
    default: Value | None = None
    """What the engine takes where it is not given; None: what it then takes depends on more than the launch."""
    also: tuple[str, ...] = ()
    """Other spellings that the engine takes, with their dashes where only so many will do."""
    least: int = 1
    most: int = MAX_GPUS
    allowed: tuple[str, ...] = ()
    only: str = ""
    """Why it may only be its default; empty: it may be anything allowed."""
    left_out: tuple[str, ...] = ()
    """Values that mean no more than leaving it out."""
    suffixes: Mapping[str, int] = field(default_factory=dict)
    """Letters after a number, and what they multiply it by; a decimal only by a thousand's power."""
    shapes: bool = False
    """Whether it shapes how ranks are laid out and talk, so that another layout says it otherwise."""


def count(name: str, *also: str, default: int | None = 1, **rest: bool | str | int) -> Flag:
    """A whole number of ranks, by default one."""
    return Flag(name, int, default, also, **rest)  # type: ignore[arg-type]


def tokens(name: str, left_out: tuple[str, ...] = (), suffixes: Mapping[str, int] | None = None) -> Flag:
    """A length of context; the engine's default is the model's."""
    return Flag(name, int, None, most=MAX_CONTEXT, left_out=left_out, suffixes=suffixes or {})


@dataclass(frozen=True)
class Launch:
    """What one launch of an engine asks for, defaults filled in as the engine would."""

    engine: str
    settings: Settings
    layout: Layout
    kv_dtype: str
    kv_block_tokens: int | None
    """None: there is one KVP rank, and nothing is dealt, but more could be, in any blocks."""
    batch: int | None
    """Requests that all its GPUs together admit; None: the launch does not say."""
    context_tokens: int | None
    memory_share: float | None
    """As the engine counts it: of which memory, its module says."""
    exchange_way: str | None
    """How KVP ranks exchange; None: there is one way, or one rank."""
    ignored: tuple[str, ...] = ()
    """Settings that do not shape the layout, and were let be."""


def laid_out(kvp: int, tpa: int, tpf: int, ep: int, dp: int, pp: int) -> Layout:
    """The layout that a launch's sizes make. Raises InputError where it has more GPUs than helixplan lays out."""
    whole(kvp * tpa * dp * pp, 1, MAX_GPUS, "the launch's GPUs")
    return Layout(kvp, tpa, tpf, ep, dp, pp)


@dataclass(frozen=True)
class Spelling:
    """An engine's settings and what they mean: ``settings`` of a plan and ``launch`` of settings undo each other."""

    engine: str
    title: str
    flags: tuple[Flag, ...]
    kv_dtypes: Mapping[str, str]
    """The plan's KV dtypes that the engine has, as it names them."""
    kv_dtypes_read: Mapping[str, str]
    """What else it calls them."""
    settings: Callable[[Plan, Case], Settings]
    launch: Callable[[Reader, Model], Launch]
    command: tuple[str, ...]
    """What launches it, the model last."""
    config_option: str
    """Names the file of settings."""
    block: str
    """The setting that says how many tokens a cache block has."""
    model_option: str
    """Before the model, in a Dynamo worker's words."""
    file_wins: bool = False
    """Whether a file of settings overrides the command line, or the other way round."""
    let_be: frozenset[str] = frozenset()
    """Real settings that look like others here."""
    gone: Mapping[str, str] = field(default_factory=dict)
    """Settings that people write and the engine does not have, and what it has in their place, if anything."""
    dashes: str = "--"

    def say(self, name: str) -> str:
        """A setting as the user writes it."""
        return f"{self.dashes}{name}"

    def flag(self, name: str) -> Flag:
        return next(flag for flag in self.flags if flag.name == name)

    def spelled(self) -> Iterator[tuple[str, Flag]]:
        """Every spelling there is, dashes left out and underscores read as dashes."""
        for flag in self.flags:
            for name in (flag.name, *flag.also):
                yield plain(name), flag

    def find(self, given: str) -> Flag | None:
        """The setting that ``given`` names, dashes and all; None where it is another one. Raises InputError for a near miss."""
        name = plain(given)
        exact = [flag for known, flag in self.spelled() if known == name]
        if exact and _dashes_fit(given, exact[0]):
            return exact[0]
        if exact:
            raise InputError(f"{self.title} has no such option (did you mean {_full(exact[0], given)}?)", field=shown(given))
        if name in self.let_be:
            return None
        if name in self.gone:
            instead = self.gone[name] and f"; it is {self.gone[name]} now"
            raise InputError(f"{self.title} has no such option (any more{instead})", field=shown(given))
        glued = next((short for short in self._shorts() if given.startswith(short)), None) if given[:2] != "--" else None
        if glued is not None:
            raise InputError(f"{self.title} takes {glued} with a space after it", field=shown(given))
        near = difflib.get_close_matches(name, [known for known, _ in self.spelled() if len(known) > 3], n=1, cutoff=NEAR)
        if near:
            found = next(flag for known, flag in self.spelled() if known == near[0])
            raise InputError(f"{self.title} has no such option (did you mean {_full(found, given)}?)", field=shown(given))
        return None

    def _shorts(self) -> list[str]:
        """Options of one dash, the longest first."""
        return sorted((name for flag in self.flags for name in flag.also if name[:1] == "-" and name[:2] != "--"), key=len)[::-1]

    def kv_read(self, name: str) -> str:
        """The KV dtype that the engine's name stands for."""
        return {**{engines: ours for ours, engines in self.kv_dtypes.items()}, **self.kv_dtypes_read}[name]


def plain(name: str) -> str:
    """A name without its dashes in front, underscores as dashes."""
    return name.lstrip("-").replace("_", "-")


def _dashes_fit(given: str, flag: Flag) -> bool:
    """Short options take one dash, long ones two; names in files take none."""
    dashes = len(given) - len(given.lstrip("-"))
    if dashes == 0:
        return True
    short = [name for name in flag.also if plain(name) == plain(given) and name.startswith("-") and not name.startswith("--")]
    return dashes == (1 if short else 2)


def _full(flag: Flag, given: str) -> str:
    """The nearest spelling, with as many dashes as it takes."""
    if not given.startswith("-"):
        return repr(flag.name)
    same = [name for name in flag.also if plain(name) == plain(given)]
    return repr(same[0] if same and same[0].startswith("-") else f"--{flag.name}")


class Reader:
    """Settings as they are read: whoever asks for one that is not there gets the engine's default."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self.given: Settings = {}
        self.ignored: list[str] = []
        self._said: dict[str, str] = {}

    def take(self, flag: Flag, value: object, said: str) -> None:
        """One setting. Raises InputError where it is out of range or was said otherwise before."""
        if str(value) in flag.left_out:
            return
        checked = _checked(flag, value, said)
        if flag.name in self.given and self.given[flag.name] != checked:
            before = self._said[flag.name]
            raise InputError(f"is {shown(checked)}, but {before} said {shown(self.given[flag.name])} before", field=said)
        self.given[flag.name], self._said[flag.name] = checked, said

    def over(self, other: Reader) -> Reader:
        """Both, and this one's where they differ."""
        both = Reader(self.spelling)
        both.given, both._said = {**other.given, **self.given}, {**other._said, **self._said}
        both.ignored = [*other.ignored, *self.ignored]
        return both

    def said(self, name: str) -> str:
        """A setting as the user spelled it, or as the engine does."""
        return self._said.get(name, self.spelling.say(name))

    def __getitem__(self, name: str) -> Value:
        value = self.get(name)
        assert value is not None, name
        return value

    def get(self, name: str) -> Value | None:
        return self.given.get(name, self.spelling.flag(name).default)

    def number(self, name: str) -> int:
        """A setting that is a whole number."""
        return int(self[name])

    def maybe(self, name: str) -> int | None:
        """A setting that is a whole number, where the launch says so."""
        value = self.get(name)
        return None if value is None else int(value)

    def refuse(self, name: str, why: str) -> InputError:
        """The error about one setting: what was given, and why that cannot be."""
        return InputError(f"got {shown(self[name])}, {why}", field=self.said(name))

    def effective(self) -> Settings:
        """What is given, and the defaults of the rest."""
        defaults = {flag.name: flag.default for flag in self.spelling.flags if flag.default is not None}
        return {**defaults, **self.given}


def _checked(flag: Flag, value: object, said: str) -> Value:
    if flag.kind is bool:
        if not isinstance(value, bool) and str(value).lower() not in ("true", "false"):
            raise InputError(f"got {shown(value)}, but it is true or false", field=said)
        found: Value = str(value).lower() == "true"
    elif flag.kind is int:
        found = whole(_number(_multiplied(flag, value), int), flag.least, flag.most, said)
    elif flag.kind is float:
        found = real(_number(value, float), 0.0, 1.0, said, above_low=True)
    else:
        found = choice(str(value), flag.allowed, said) if flag.allowed else str(value)
    if flag.only and found != flag.default:
        raise InputError(f"got {shown(found)}, but {flag.only}", field=said)
    return found


def _multiplied(flag: Flag, value: object) -> object:
    """A number with a letter after it as the number that it stands for; anything else as it is."""
    match = re.fullmatch(r"(\d{1,9})(?:\.(\d{1,9}))?([A-Za-z])", value.strip(), re.ASCII) if isinstance(value, str) else None
    factor = flag.suffixes.get(match[3]) if match else None
    if match is None or factor is None or (match[2] and factor % 10):
        return value
    return int(match[1]) * factor + int(match[2] or 0) * factor // 10 ** len(match[2] or "")


def _number(value: object, kind: type[int] | type[float]) -> object:
    """Text as the number that it spells; anything else as it is."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return kind(text) if len(text) <= 20 and text.isascii() and "_" not in text else value
    except ValueError:
        return value


def _denied(spelling: Spelling, name: str) -> Flag | None:
    """The switch that ``--no-...`` turns off."""
    switch = plain(name).removeprefix("no-")
    found = [flag for known, flag in spelling.spelled() if known == switch and flag.kind is bool]
    return found[0] if found and name.startswith("--no-") else None


def read_words(spelling: Spelling, words: Iterable[str], substitute: Substitute) -> Reader:
    """Settings of a command's words. ``substitute`` resolves what the shell would, given the option's name."""
    reader, rest = Reader(spelling), list(words)
    while rest:
        word = rest.pop(0)
        if word[:1] in PRINTED_DASHES:
            raise InputError(f"begins with {word[0]}, a dash of print; write - in its place", field=shown(word))
        if not word.startswith("-") or word.strip("-") == "":
            continue
        name, equals, value = word.partition("=")
        denied = _denied(spelling, name)
        if denied is not None:
            reader.take(denied, False, name)
            continue
        flag = spelling.find(name)
        if flag is None:
            reader.ignored.append(name)
            continue
        if flag.kind is bool and not equals:
            value = rest.pop(0) if rest and rest[0].lower() in ("true", "false") else "true"
        elif not equals:
            if not rest:
                raise InputError("needs a value", field=name)
            value = rest.pop(0)
        reader.take(flag, substitute(name, value), name)
    return reader


def read_keys(spelling: Spelling, keys: Mapping[str, object]) -> Reader:
    """Settings of a file's keys, nested ones joined by dots."""
    reader = Reader(spelling)
    for name, value in keys.items():
        flag = spelling.find(name)
        if flag is None and any(known.name.startswith(f"{name}.") for known in spelling.flags):
            raise InputError(f"got {shown(value)}, but it holds settings of its own", field=name)
        if flag is None:
            reader.ignored.append(name)
        elif value is not None:
            reader.take(flag, value, name)
    return reader


def as_words(spelling: Spelling, settings: Settings) -> list[str]:
    """Settings as a command's words; a switch stands where it is on."""
    words = []
    for name, value in settings.items():
        if value is True:
            words.append(spelling.say(name))
        elif value is not False:
            words += [spelling.say(name), str(value)]
    return words
