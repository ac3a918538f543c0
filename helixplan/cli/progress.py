"""Progress of long work: on stderr, and only where somebody looks on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def shown_while(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner with a line about what is being done; the function given changes the line. Silent without a terminal."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda said: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(what)
        yield lambda said: bar.update(task, description=f"{what}: {said}")


@contextmanager
def counted_while(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """A bar of so many things done; the function given counts one more and names it. Silent without a terminal."""
    if not (sys.stderr and sys.stderr.isatty()):
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[last]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, last="")
        yield lambda name: bar.update(task, advance=1, last=name)
