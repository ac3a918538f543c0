"""Words of a shell's text: enough of its grammar to find one command and the variables it uses. Nothing is run."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import PurePath

from helixplan.errors import InputError, shown

MOST = 64_000
"""Characters of a launch: some tens of times the longest there are, and read in a moment. Variables may not make it longer."""
ASKED = "--from-launch"
_ENDS = ";&|\n"
_SHELLS = ("bash", "sh", "zsh")
_ASSIGNED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_COMMENT = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|(?:\A|(?<=[\s;&|]))\#[^\n]*""", re.DOTALL)
"""What may hold a # that begins no comment, or a comment: only at a word's beginning does # begin one."""
_WHOLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_ARRAY = re.compile(r"\$\{\w+\[[@*]\]\}")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")


def commands(text: str) -> list[list[str]]:
    """The words of each command. Raises InputError where a quote is left open."""
    plain = _COMMENT.sub(lambda found: "" if found[0][0] == "#" else found[0], text.replace("\r\n", "\n"))
    lexer = shlex.shlex(plain.replace("\\\n", " "), posix=True, punctuation_chars=_ENDS)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t\r", True, ""
    found: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word and not word.strip(_ENDS):
                found.append([])
            else:
                found[-1].append(word)
    except ValueError as error:
        raise InputError(f"cannot be read as a command: {str(error).lower()}", field=ASKED) from None
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
    made = 0
    for words in lines:
        for word in words[1:] if words[0] == "export" else words:
            assigned = _ASSIGNED.fullmatch(word)
            if assigned is None:
                break
            found[assigned[1]] = resolved(assigned[2], found)
            made += len(found[assigned[1]])
            _check_length(made)
    return found


def spliced(words: list[str], variables: dict[str, str]) -> list[str]:
    """The words, a variable's own where it stands for options. Raises InputError for an array: its words are not followed."""
    found: list[str] = []
    for word in words:
        if _ARRAY.fullmatch(word):
            raise InputError(f"got {shown(word)}, an array; write its words in its place", field=ASKED)
        whole = _WHOLE.fullmatch(word)
        value = variables.get(whole[1] or whole[2], "") if whole else ""
        found += value.split() if value.lstrip().startswith("-") else [word]
        _check_length(len(found))
    return found


def check_continued(after: list[list[str]]) -> None:
    """Raises InputError where the command after a launch begins with an option, which was meant for the launch."""
    first = after[0][0] if after else ""
    if first.startswith("-") and first.strip("-"):
        raise InputError(f"got a line that begins with {shown(first)}; end the one before it with \\ alone", field=ASKED)


def resolved(value: str, variables: dict[str, str]) -> str:
    """A word with its variables replaced; what is not set stays as it is written."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        return variables.get(name) or (match[3] if match[3] is not None else match[0])

    found, made, last = [], 0, 0
    for match in _VARIABLE.finditer(value):
        found += [value[last : match.start()], replaced(match)]
        made, last = made + len(found[-1]), match.end()
        _check_length(made)
    return "".join([*found, value[last:]])


def _check_length(made: int) -> None:
    if made > MOST:
        raise InputError(f"has variables that make it longer than {MOST:,} characters, more than any launch needs", field=ASKED)


def substitute(variables: dict[str, str], option: str, value: str) -> str:
    """An option's value as the shell would pass it. Raises InputError where it takes more than the text to know."""
    found = resolved(value, variables)
    if "$" in found:
        raise InputError(f"got {shown(value)}, which the launch does not set; write the number in its place", field=option)
    return found
