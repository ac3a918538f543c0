"""Baselines recomputed by another helixplan: of a git revision, a released version or an environment that is there already."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

from helixplan.errors import InputError

VERSION = re.compile(r"v?\d+(\.\d+)+([a-z]+\d+)?")
Tell = Callable[[str], None]


def recompute(revision: str, suite: Path, folder: Path, jobs: int, tell: Tell) -> None:
    """Writes the suite's baseline, as the helixplan of ``revision`` has it, to ``folder``/baseline.

    ``folder`` is a temporary one, which also holds the environment that is made. Raises InputError where that helixplan cannot be
    had or has no ``check``.
    """
    python = _environment(revision, suite, folder, tell)
    tell(f"checking with the helixplan of {revision}")
    command = [str(python), "-m", "helixplan", "check", str(suite.resolve()), "--baseline", str(folder / "baseline")]
    command += ["--update", "--skip-unknown", "--jobs", str(jobs)]
    done = _run(command, folder, f"the helixplan of {revision!r}")
    # Exit code 1: a case is not what the suite expects of it, which is this side's to say.
    if done.returncode not in (0, 1) or not (folder / "baseline").is_dir():
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"the helixplan of {revision!r} could not check the suite: {said}", field="--against")


def _environment(revision: str, suite: Path, folder: Path, tell: Tell) -> Path:
    """A Python that has that helixplan: an environment's own, or one made for it."""
    path = Path(revision)
    if path.is_dir() and _python_of(path).exists():
        path = _python_of(path)
    if path.is_file():
        return path.absolute()
    if revision.startswith(("git+", "https://", "http://")):
        source = revision
    else:
        tell(f"getting {revision}")
        archive = _archive(revision, suite, folder)
        if archive is None and not VERSION.fullmatch(revision):
            raise InputError(
                f"got {revision!r}, which is no version, no environment, no git+ address and no revision of a repository of "
                "helixplan that the suite or this helixplan lies in",
                field="--against",
            )
        source = f"helixplan=={revision.removeprefix('v')}" if archive is None else str(archive)
    tell(f"installing the helixplan of {revision}")
    made = folder / "environment"
    venv.create(made, with_pip=True)
    python = _python_of(made)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source]
    done = _run(install, folder, "pip")
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"the helixplan of {revision!r} cannot be installed: {said}", field="--against")
    return python


def _run(command: list[str], folder: Path, who: str) -> subprocess.CompletedProcess[str]:
    """A command run apart from this process's Python. Raises InputError where it cannot be started."""
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=_untouched())
    except OSError as error:
        raise InputError(f"{who} cannot be run ({error.strerror or error})", field="--against") from None


def _untouched() -> dict[str, str]:
    """This process's environment without what would lead another Python to this one's packages or settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def _python_of(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _archive(revision: str, suite: Path, folder: Path) -> Path | None:
    """The sources of a git revision: of the repository of helixplan that the suite lies in, or that this one runs from.

    None where there is no such repository or revision.
    """
    for place in (suite.resolve().parent, Path(__file__).resolve().parent):
        top = _git(place, "rev-parse", "--show-toplevel")
        if top is None or not (Path(top.decode().strip()) / "helixplan" / "version.py").is_file():
            continue
        repository = Path(top.decode().strip())
        if _git(repository, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}") is None:
            continue
        # A zip, because Python before 3.11.4 unpacks a tar anywhere that the tar says.
        packed = _git(repository, "archive", "--format=zip", revision)
        if packed is not None:
            with zipfile.ZipFile(io.BytesIO(packed)) as files:
                files.extractall(folder / "source")
            return folder / "source"
    return None


def _git(place: Path, *arguments: str) -> bytes | None:
    """What git prints, or None where it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(place), *arguments], capture_output=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None
