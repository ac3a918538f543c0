"""Suites as files, and how their cases are run: in parallel, interrupted, all files or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import helixplan as hp
from helixplan.regress.suites import read_suite
from tests.conftest import SUITE, Check, Main, Run

ASKED = "[defaults]\nmodel = 'qwen3-32b'\nhardware = 'mi300x'\ncontext = '8k'\n[[case]]\nname = 'a'\n"
BAD_SUITES = {
    "[[case]]\nname = 'a'\n": "case a: model: is missing",
    "[[case]]\nname = 'a b'\nmodel = 'x'\n": "case.name: got 'a b'",
    "x = 1\n[[case]]\nname = 'a'\n": "x: is not a known key",
    "case = []": "case: got []",
    ASKED + "context = 'long'\n": "case a: context: 'long' is not a whole number",
    ASKED + "batch = true\n": "case.0.batch",
    ASKED + "pins = { kvp = true }\n": "case.0.pins.kvp: got True",
    ASKED + "[case.matrix]\nttl = [true]\n": "case.0.matrix.ttl.0",
    ASKED.replace("'a'", f"'{'a' * 300}'"): "longer than 200 characters",
    ASKED + "ttl = '2 parsecs'\n": "case a: ttl: ",
    ASKED + "kv = 'fp3'\n": "case a: kv: got 'fp3'",
    ASKED + "pins = { kpv = 2 }\n": "case a: pin: got 'kpv'",
    ASKED + "[case.matrix]\nsize = [1]\n": "case.matrix.size: is not",
    ASKED + "[case.matrix]\nttl = []\n": "case.matrix.ttl: is empty",
    ASKED + "model = 'qwen9'\n": "case a: 'qwen9' is not a bundled model",
    ASKED + "model = 'no/where.json'\n": "no/where.json: case a: cannot be read",
    ASKED + "[[case]]\nname = 'b'\n": "case: 'b' asks the same as 'a'",
    ASKED + "[[case]]\nname = 'A'\nbatch = 2\n": "case.name: got 'A' twice",
    "[[case]": "is not valid TOML",
}


@pytest.mark.parametrize("text", BAD_SUITES)
def test_a_suite_that_is_wrong_is_refused_in_a_sentence(text: str, tmp_path: Path, main: Main) -> None:
    (tmp_path / "suite.toml").write_text(text)
    code, out, err = main("check", str(tmp_path / "suite.toml"), "--baseline", str(tmp_path / "b"), "--update")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert BAD_SUITES[text] in err


def test_a_matrix_expands_and_pins_may_stand_in_it(tmp_path: Path) -> None:
    matrix = "pins = { tpa = 2 }\n[case.matrix]\ncontext = ['8k', '1M']\n'pins.kvp' = [1, 2]\n"
    (tmp_path / "s.toml").write_text(ASKED + matrix)
    cases = read_suite(tmp_path / "s.toml")
    assert [case.name for case in cases] == ["a-8k-1", "a-8k-2", "a-1M-1", "a-1M-2"]
    assert [case.request.pins for case in cases] == [{"tpa": 2, "kvp": 1}, {"tpa": 2, "kvp": 2}] * 2
    assert [case.workload.context_tokens for case in cases] == [8000, 8000, 1_000_000, 1_000_000]


MANY = """[defaults]
objective = "interactivity"
[[case]]
name = "many"
[case.matrix]
model = ["deepseek-r1", "deepseek-v3", "gpt-oss-120b", "kimi-k2", "llama-3.1-405b", "llama-3.1-70b", "mixtral-8x22b", "qwen3-32b"]
hardware = ["a100-hgx", "b200-hgx", "b300-hgx", "gb200-nvl72", "gb300-nvl72", "h100-hgx", "h200-hgx", "mi300x", "rtx-pro-6000"]
context = ["32k", "128k", "256k", "512k", "1M", "2M", "4M"]
"""


def test_five_hundred_cases_take_less_than_a_minute(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "many.toml").write_text(MANY)
    start = time.perf_counter()
    assert cli("check", "many.toml", "--baseline", "b", "--update", "--jobs", "2").returncode == 0
    assert time.perf_counter() - start < 60
    assert len(list((tmp_path / "b").iterdir())) == 504


@pytest.mark.parametrize("seconds", [0.6, 1.5])
def test_an_interrupt_leaves_the_baseline_as_it_was(seconds: float, place: Path, check: Check) -> None:
    (place / "many.toml").write_text(MANY)
    before = {path: path.read_bytes() for path in (place / "baseline").iterdir()}
    command = [sys.executable, "-m", "helixplan", "check", str(place / "many.toml")]
    command += ["--baseline", str(place / "baseline"), "--update"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    time.sleep(seconds)
    os.killpg(started.pid, signal.SIGINT)
    out, err = started.communicate(timeout=30)
    assert (started.returncode, out, err) == (130, b"", b"")
    assert {path: path.read_bytes() for path in (place / "baseline").iterdir()} == before


def test_an_interrupt_while_files_are_written_waits_until_they_are(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helixplan.cli import files

    replace_one = os.replace

    def interrupted(source: Any, target: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        replace_one(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    names = {place / "new" / name: name for name in ("a.json", "b.json", "c.json")}
    with pytest.raises(KeyboardInterrupt):
        files.replace_all(place / "new", names, [], option="--baseline")
    assert sorted(path.name for path in (place / "new").iterdir()) == ["a.json", "b.json", "c.json"]


def test_files_that_cannot_all_be_written_are_not_written_in_part(place: Path) -> None:
    from helixplan.cli import files

    names = {place / "new" / "a.json": "a", place / "no" / "b.json": "b"}
    with pytest.raises(hp.InputError, match="cannot be written"):
        files.replace_all(place / "new", names, [], option="--baseline")
    assert list((place / "new").iterdir()) == []


def test_two_updates_at_once_leave_every_file_whole_and_one_of_theirs(place: Path) -> None:
    suites = []
    for name, gpus in (("one", 8), ("two", 4)):
        (place / f"{name}.toml").write_text(SUITE.replace("gpus = 8", f"gpus = {gpus}"))
        command = [
            sys.executable,
            "-m",
            "helixplan",
            "check",
            str(place / f"{name}.toml"),
            "--update",
            "--jobs",
            "1",
            "--baseline",
        ]
        assert subprocess.run([*command, str(place / name)], capture_output=True, check=False).returncode == 0
        suites.append([*command, str(place / "both")])
    runs = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in suites * 2]
    assert [run.wait(timeout=60) for run in runs] == [0] * 4
    for name in ("fast.json", "many.json"):
        assert (place / "both" / name).read_bytes() in [(place / side / name).read_bytes() for side in ("one", "two")]
    assert sorted(path.name for path in (place / "both").iterdir()) == ["fast.json", "many.json"]


def test_a_worker_that_is_ended_is_told_in_a_sentence(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures.process import BrokenProcessPool

    from helixplan.regress import running

    class Broken:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def map(self, *_: Any, **__: Any) -> Any:
            raise BrokenProcessPool

        def shutdown(self, **_: Any) -> None: ...

    monkeypatch.setattr(running, "ProcessPoolExecutor", Broken)
    with pytest.raises(hp.InputError, match="--jobs: a process that was planning cases was ended from outside"):
        running.run(read_suite(place / "suite.toml"), 2)
