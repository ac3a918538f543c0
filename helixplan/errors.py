"""Every error helixplan raises on purpose.

HelixplanError
├── InputError           a value, a file or a name is wrong; nothing was searched   (exit code 2)
├── InfeasibleError      the search proved that no layout keeps the requests        (exit code 3)
├── NotExpressibleError  an engine cannot run the layout                            (exit code 2)
└── RegressionFound      a gate failed                                              (exit code 1)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helixplan.plans import Relaxation


class HelixplanError(Exception):
    """The base of them all: one sentence a user can act on."""


class InputError(HelixplanError):
    """One sentence that names the file, the field, what was given and what is allowed."""

    def __init__(self, message: str, *, file: str | None = None, field: str | None = None) -> None:
        self.message, self.file, self.field = message, file, field
        super().__init__(": ".join(part for part in (file, field, message) if part))


@dataclass(frozen=True)
class Conflict:
    """One member of a minimal conflict: a request of the user's or a named rule, and what it says here."""

    rule: str
    detail: str


class InfeasibleError(HelixplanError):
    """No allowed layout keeps all the requests: the smallest set that clashes, and what would help."""

    def __init__(self, conflict: list[Conflict], relaxations: list[Relaxation]) -> None:
        self.conflict, self.relaxations = conflict, relaxations
        super().__init__("no layout can keep all of: " + "; ".join(f"{c.rule} ({c.detail})" for c in conflict))


class NotExpressibleError(HelixplanError):
    """An engine cannot run this layout, and why; ``nearest`` says what it can run instead, where there is such a plan."""

    def __init__(self, engine: str, reason: str, nearest: str | None = None) -> None:
        self.engine, self.reason, self.nearest = engine, reason, nearest
        super().__init__(f"{engine} cannot run this layout: {reason}" + (f"; {nearest}" if nearest else ""))


class RegressionFound(HelixplanError):  # noqa: N818 - the public name, after what it says
    """A gate failed; every failure is a sentence."""

    def __init__(self, failures: list[str]) -> None:
        self.failures = failures
        super().__init__("; ".join(failures))


def did_you_mean(given: str, known: Iterable[str], lead: str = "did you mean") -> str:
    """``" (did you mean 'x' or 'y'?)"``, or nothing where no known name is near."""
    near = difflib.get_close_matches(given, list(known), n=3, cutoff=0.6)
    mark = "?" if lead.startswith("did") else ""
    return f" ({lead} {' or '.join(repr(name) for name in near)}{mark})" if near else ""


def shown(value: object) -> str:
    """What was given, cut short where it is long."""
    # No longer text is ever made: a list may have millions of entries.
    text = repr(value[:60] if isinstance(value, str | bytes | list | tuple) else value)
    return text if len(text) <= 60 else text[:57] + "..."
