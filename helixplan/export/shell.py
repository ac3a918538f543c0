"""Words of a shell's text: enough of its grammar to find one command and the variables it uses. Nothing is run."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import PurePath

from helixplan.errors import InputError, shown

_ENDS = ";&|\n"
_SHELLS = ("bash", "sh", "zsh")
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")


def commands(text: str) -> list[list[str]]:
    """The words of each command. Raises InputError where a quote is left open."""
    lexer = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=_ENDS)
    lexer.whitespace, lexer.whitespace_split = " \t\r", True
    found: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word and not word.strip(_ENDS):
                found.append([])
            else:
                found[-1].append(word)
    except ValueError as error:
        raise InputError(f"cannot be read as a command: {str(error).lower()}", field="--from-launch") from None
    return [words for words in found if words]


def unwrapped(words: list[str]) -> list[list[str]]:
    """The commands that a shell is given as one word (``bash -c '...'``), after what stands before them; else the words."""
    for index, word in enumerate(words):
        if PurePath(word).name in _SHELLS:
            options = list(takewhile(lambda option: option.startswith("-"), words[index + 1 :]))
            script = words[index + 1 + len(options) :]
            if script and options and re.fullmatch("-[a-z]*c", options[-1]):
                return commands(script[0])
    return [words]


def assignments(lines: list[list[str]]) -> dict[str, str]:
    """Variables that the text sets, with or without ``export``."""
    found: dict[str, str] = {}
    for words in lines:
        for word in words[1:] if words[0] == "export" else words:
            assigned = _ASSIGNED.fullmatch(word)
            if assigned is None:
                break
            found[assigned[1]] = resolved(assigned[2], found)
    return found


def resolved(value: str, variables: dict[str, str]) -> str:
    """A word with its variables replaced; what is not set stays as it is written."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return variables.get(name) or (match[3] if match[3] is not None else match[0])

    return _VARIABLE.sub(replaced, value)


def substitute(variables: dict[str, str], option: str, value: str) -> str:
    """An option's value as the shell would pass it. Raises InputError where it takes more than the text to know."""
    found = resolved(value, variables)
    if "$" in found:
        raise InputError(f"got {shown(value)}, which the launch does not set; write the number in its place", field=option)
    return found
