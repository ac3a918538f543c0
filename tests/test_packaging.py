"""The built wheel in an empty environment, from another folder, with no checkout in sight."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

from tests.conftest import ROOT


def test_an_installed_wheel_runs_the_main_command_from_another_folder(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "helixplan/data/models/deepseek-r1.json" in names
    assert "helixplan/data/hardware_profiles/gb200-nvl72.toml" in names
    assert "helixplan/py.typed" in names
    assert {"helixplan/report/page/page.css", "helixplan/report/page/page.js"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]

    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python.parent / "helixplan"), "plan", "deepseek-r1", "gb200-nvl72", "--context", "1M", "--ttl", "20ms"]
    done = subprocess.run(
        [*command, "--output", "plan.json"], cwd=elsewhere, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "optimal" in done.stdout
    assert [path.name for path in elsewhere.iterdir()] == ["plan.json"]
