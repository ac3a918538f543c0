"""Finds bundled and user files by name or path."""

from __future__ import annotations

import stat
from functools import cache
from pathlib import Path

from helixplan.errors import InputError, did_you_mean, shown

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def _data_folder(kind: str) -> Path:
    """Inside an installed wheel the data lies in the package; in a checkout, beside it."""
    installed = _PACKAGE / "data" / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def _bundled(kind: str, suffix: str) -> dict[str, Path]:
    return {path.stem: path for path in sorted(_data_folder(kind).glob(f"*{suffix}"), key=lambda path: path.stem)}


def bundled_models() -> dict[str, Path]:
    """The models that ship with helixplan, by name."""
    return _bundled("models", ".json")


def bundled_hardware() -> dict[str, Path]:
    """The systems that ship with helixplan, by name."""
    return _bundled("hardware_profiles", ".toml")


def find_model(name_or_path: str) -> Path:
    """The file of a model: a bundled name, a config.json, or a folder that holds one."""
    return _find(name_or_path, "model", bundled_models(), ".json", in_folder="config.json")


def find_hardware(name_or_path: str) -> Path:
    """The file of a hardware profile: a bundled name or a TOML file."""
    return _find(name_or_path, "hardware profile", bundled_hardware(), ".toml", in_folder=None)


def _find(given: str, what: str, bundled: dict[str, Path], suffix: str, in_folder: str | None) -> Path:
    if given in bundled:
        return bundled[given]
    try:
        return _find_file(given, what, bundled, suffix, in_folder)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})", file=shown(given)) from None


def _find_file(given: str, what: str, bundled: dict[str, Path], suffix: str, in_folder: str | None) -> Path:
    path = Path(given)
    looks_like_path = given.endswith(suffix) or "/" in given or path.exists()
    if not looks_like_path or not given:
        message = f"{shown(given)} is not a bundled {what} or a file{did_you_mean(given, bundled)}"
        raise InputError(f"{message}; bundled: {', '.join(bundled)}")
    if stat.S_ISDIR(path.stat().st_mode):
        if in_folder is None:
            raise InputError(f"is a folder; name a {suffix} file", file=given)
        path = path / in_folder
        if not path.exists() and not path.is_symlink():
            raise InputError(f"is a folder without a {in_folder}", file=given)
    path.stat()
    return path
