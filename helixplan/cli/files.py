"""Writes result files: whole or not at all, and never over another unasked."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helixplan.errors import InputError, shown


def check_writable(path: Path, *, force: bool, option: str = "--output") -> None:
    """Raises InputError before any work is done where ``write_atomically`` could not succeed."""
    try:
        _check(path, force=force, option=option)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", file=shown(str(path)), field=option) from None


def _check(path: Path, *, force: bool, option: str) -> None:
    folder = path.parent
    if path.is_dir():
        raise InputError("is a folder; name a file", file=str(path), field=option)
    if path.exists() and not path.is_file():
        raise InputError("is not a plain file", file=str(path), field=option)
    if path.exists() and not force:
        raise InputError("exists already; add --force to replace it", file=str(path), field=option)
    if not folder.is_dir():
        raise InputError(f"the folder {str(folder)!r} does not exist", file=str(path), field=option)
    if not os.access(folder, os.W_OK):
        raise InputError(f"the folder {str(folder)!r} cannot be written", file=str(path), field=option)


def write_atomically(path: Path, content: str | bytes, *, force: bool, option: str = "--output") -> None:
    """``content`` as the file's whole content. Raises InputError where it exists without ``force``, or cannot be written."""
    check_writable(path, force=force, option=option)
    target = path.resolve()
    try:
        temporary = _staged(target, content)
        try:
            if force:
                os.replace(temporary, target)
            else:
                os.link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        raise InputError("exists already; add --force to replace it", file=str(path), field=option) from None
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror or error})", file=str(path), field=option) from None


def _staged(target: Path, content: str | bytes) -> Path:
    """The content in a temporary file beside its target, with a new file's permissions."""
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:100]}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(temporary, 0o666 & ~mask)
    return Path(temporary)


def replace_all(folder: Path, written: dict[Path, str], removed: list[Path], *, option: str) -> None:
    """Files written and removed in a folder, which is made if need be: everything is staged before anything is replaced."""
    staged: dict[Path, Path] = {}
    with undisturbed():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, content in written.items():
                staged[path] = _staged(path.resolve(), content)
            for path, temporary in staged.items():
                os.replace(temporary, path)
            for path in removed:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"cannot be written ({error.strerror or error})", file=str(folder), field=option) from None
        finally:
            for temporary in staged.values():
                temporary.unlink(missing_ok=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """An interrupt or an order to end waits until several files are written, and is taken then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda number, frame: waiting.append(number)) for kind in kinds]
    try:
        yield
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)
    for number in waiting:
        signal.raise_signal(number)
