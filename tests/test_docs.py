"""The docs are true: examples run, every option, key, rule and phase is told, and nothing told is missing."""

from __future__ import annotations

import inspect
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

import helixplan as hp
from helixplan.advice import Advice
from helixplan.cli import app
from helixplan.cost.step import PHASE_ORDER
from helixplan.curves import Comparisons, Frontier
from helixplan.evidence.measurements import CSV_COLUMNS
from helixplan.explanation import Explanation
from helixplan.inputs.config import ConfigFile
from helixplan.inputs.families import ARCHITECTURES
from helixplan.inputs.hardware import ProfileFile
from helixplan.plans import Plan
from helixplan.regress.gate import VERDICTS
from helixplan.regress.metrics import METRICS
from helixplan.regress.results import Result
from helixplan.regress.suites import SuiteFile, read_suite
from tests.conftest import ROOT, Run

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README, CLI, FILES = (path.read_text() for path in (ROOT / "README.md", ROOT / "docs" / "cli.md", ROOT / "docs" / "files.md"))


def blocks(language: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, text in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.S | re.M)):
            found.append((f"{page.name}-{number}", text))
    return found


def as_pattern(expected: str) -> str:
    """The expected lines, in which ``...`` stands for any text."""
    return ".*".join(re.escape(part) for part in expected.strip("\n").split("..."))


@pytest.mark.parametrize("example", [text for _, text in blocks("console")], ids=[name for name, _ in blocks("console")])
def test_console_examples_print_what_they_say(cli: Run, example: str, tmp_path: Path, r1_plan: Plan) -> None:
    command, _, expected = example.partition("\n")
    if " plan.json" in command:
        (tmp_path / "plan.json").write_text(r1_plan.to_json())
    assert command.startswith("$ helixplan ")
    done = cli(*shlex.split(command.removeprefix("$ helixplan ")))
    assert re.fullmatch(as_pattern(expected), done.stdout.strip("\n"), re.S), done.stdout


@pytest.mark.parametrize("example", [text for _, text in blocks("python")], ids=[name for name, _ in blocks("python")])
def test_python_examples_run(example: str) -> None:
    exec(compile(example, "example", "exec"), {})


@pytest.mark.parametrize("example", [text for _, text in blocks("toml")], ids=[name for name, _ in blocks("toml")])
def test_toml_examples_load(example: str, tmp_path: Path) -> None:
    if "[[case]]" not in example:
        assert hp.load_hardware(tomllib.loads(example)).name == "my-rack"
        return
    (tmp_path / "suite.toml").write_text(example)
    assert [case.name for case in read_suite(tmp_path / "suite.toml")] == ["r1-12ms", "r1-20ms", "r1-50ms", "ours", "too-fast"]


def test_the_verdicts_and_metrics_of_the_gate_are_documented() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    for word in (*VERDICTS, *METRICS):
        assert f"`{word}`" in page, word


def test_the_readme_opens_with_what_it_is_an_output_and_the_two_commands() -> None:
    first_screen = "\n".join(README.splitlines()[:45])
    assert "planner" in first_screen
    assert "```console" in first_screen
    assert first_screen.count("```sh\npython3 -m venv .venv") == 2


def test_ci_runs_the_readmes_test_command() -> None:
    commands = re.findall(r"```sh\n(.*?)\n```", README, re.S)
    script = (ROOT / ".ci" / "run").read_text()
    assert commands[1] in script.splitlines()


def _commands(group: object, path: str = "") -> list[tuple[str, object]]:
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        full = f"{path} {name}".strip()
        found += _commands(command, full) if hasattr(command, "commands") else [(full, command)]
    return found


COMMANDS = _commands(typer.main.get_command(app))


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_and_option_is_documented(name: str, command: object) -> None:
    assert f"helixplan {name}" in CLI
    for parameter in command.params:  # type: ignore[attr-defined]
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}`" in CLI or f"`{option} " in CLI, option


def test_every_option_documented_exists() -> None:
    real = {option for _, command in COMMANDS for parameter in command.params for option in parameter.opts}  # type: ignore[attr-defined]
    told = set(re.findall(r"`(--[a-z-]+)[ `]", CLI))
    assert told - real <= {"--version", "--install-completion", "--show-completion"}


def _keys(schema: dict[str, object]) -> set[str]:
    models = [schema, *schema.get("$defs", {}).values()]  # type: ignore[attr-defined]
    return {key for model in models for key in model.get("properties", {})}


DOCUMENTS = [Plan, Explanation, ProfileFile, ConfigFile, Frontier, Comparisons, SuiteFile, Result, Advice]


@pytest.mark.parametrize("described", DOCUMENTS)
def test_every_key_of_every_file_format_is_documented(described: type[Plan]) -> None:
    only_inside = {"value", "change", "cost"}
    for key in _keys(described.model_json_schema()) - only_inside:
        assert re.search(rf"`{key}`|`{key}\.|`{key}\[|\.{key}\b|`\[+{key}\]", FILES), key


def test_every_column_of_a_measurements_file_is_documented() -> None:
    for column in CSV_COLUMNS:
        assert f"`{column}`" in FILES, column


def test_every_architecture_phase_and_rule_is_documented() -> None:
    from helixplan.search.rules import FAMILIES

    model_page = (ROOT / "docs" / "cost-model.md").read_text()
    for architecture in ARCHITECTURES:
        assert f"`{architecture}`" in FILES
    for phase in PHASE_ORDER:
        assert f"`{phase}`" in model_page, phase
    for family in FAMILIES:
        assert f"`{family}`" in CLI


def test_every_bundled_file_is_named_in_the_docs_folder_count() -> None:
    assert len(list((ROOT / "models").glob("*.json"))) == 19
    assert len(list((ROOT / "hardware_profiles").glob("*.toml"))) == 9
    assert "`models/` holds nineteen" in FILES
    assert "`hardware_profiles/` holds nine" in FILES


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]*)(?:#[^)]*)?\)", page.read_text()):
            assert not target or (page.parent / target).exists(), (page.name, target)


def test_anchors_lead_to_headings() -> None:
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", page.read_text()):
            text = (page.parent / target).read_text() if target else page.read_text()
            headings = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)}
            assert anchor in headings, (page.name, anchor)


def test_the_peers_case_is_what_the_program_says(llama: hp.Model, gb200: hp.Hardware) -> None:
    page = (ROOT / "docs" / "cost-model.md").read_text()
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) ms \| ([\d.]+) ms \| KVP (\d+) x TPA (\d+), TPF (\d+) \|$", page, re.M)
    assert [int(row[0]) for row in rows] == [8, 16, 32, 64]
    for gpus, tp, helix, *layout in rows:
        request = {"context_tokens": 1_000_000, "batch": 1, "weight_dtype": "nvfp4", "gpus": int(gpus)}
        tensor, ours = (hp.plan(llama, gb200, family=family, **request) for family in ("tp", "helix"))
        assert f"{tensor.cost.ttl_s * 1e3:.2f}" == tp
        assert f"{ours.cost.ttl_s * 1e3:.2f}" == helix
        assert [ours.layout.kvp, ours.layout.tpa, ours.layout.tpf] == [int(size) for size in layout]
    wide = {phase.name: f"{phase.seconds * 1e3:.2f} ms" for phase in ours.cost.phases}
    narrow = {phase.name: f"{phase.seconds * 1e3:.2f} ms" for phase in tensor.cost.phases}
    flat = " ".join(page.split())
    assert f"falls to {wide['attention.core']} at KVP 8, for {wide['attention.exchange']} of exchange" in flat
    assert f"and {wide['attention.merge']} of merging" in flat
    assert f"`attention.core` stays at {narrow['attention.core']}" in flat
    assert f"to {narrow['ffn.dense']} and the all-reduces grow from 0.72 to {narrow['ffn.reduce']}" in flat
    lights = f"is {ours.cost.ttl_ideal_s * 1e3:.2f} ms for helix and {tensor.cost.ttl_ideal_s * 1e3:.2f} ms for tp"
    assert lights in flat
    bf16 = hp.plan(llama, gb200, context_tokens=1_000_000, batch=1, gpus=64)
    assert f"finds {bf16.cost.ttl_s * 1e3:.2f} ms on 64 GPUs" in flat


def test_public_names_have_docstrings() -> None:
    for name in hp.__all__:
        if not name.startswith("__"):
            assert inspect.getdoc(getattr(hp, name)), name


def test_no_path_of_a_developers_machine_is_named() -> None:
    tracked = [path for path in ROOT.rglob("*") if path.suffix in (".py", ".md", ".toml", ".json") and ".venv" not in path.parts]
    word = "/".join(("", "work", ""))
    assert [str(path) for path in tracked if word in path.read_text(encoding="utf-8")] == []


def test_changelog_names_the_version() -> None:
    assert f"## {hp.__version__}" in Path(ROOT / "CHANGELOG.md").read_text()
