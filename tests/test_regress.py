"""Plan quality under CI: what moved, by how much, and what moved it; nothing for what is harmless."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema
import yaml
from jsonschema import Draft202012Validator

import helixplan as hp
from helixplan.regress.differences import between_plans
from helixplan.regress.gate import judge, parse_tolerances
from helixplan.regress.metrics import METRICS, Change
from helixplan.regress.results import read_baseline, rounded
from helixplan.regress.running import answered, posed
from helixplan.regress.suites import read_suite
from helixplan.search import rules
from tests.conftest import ROOT, SUITE, Check, Main, Run, changed, edit


def verdicts(out: str) -> dict[str, Any]:
    return {case["case"]: case for case in json.loads(out)["cases"]}


def test_nothing_changed_is_no_difference(check: Check) -> None:
    code, out, err = check("--fail-on", "ttl_s:0%", "--solver-proof")
    assert (code, out, err) == (0, "2 cases: 2 SAME\n", "")


def slower_memory(place: Path) -> None:
    edit(place / "rack.toml", "value = 8.0e12", "value = 7.2e12")


def raised_floor(place: Path) -> None:
    text = (place / "rack.toml").read_text()
    (place / "rack.toml").write_text(text.replace("floor_us = ", "floor_us = 1"))


def fewer_kv_heads(place: Path) -> None:
    edit(place / "mine.json", '"num_key_value_heads": 8', '"num_key_value_heads": 4')


@pytest.mark.parametrize(("seed", "cause"), [(slower_memory, "hardware"), (raised_floor, "hardware"), (fewer_kv_heads, "model")])
def test_inputs_that_move_plans_are_named_and_blamed(seed: Callable[[Path], None], cause: str, check: Check, place: Path) -> None:
    seed(place)
    limits = ("--fail-on", "ttl_s:0%", "--fail-on", "tokens_per_s_per_gpu:0%", "--fail-on", "users:0%")
    code, out, err = check("--format", "json", *limits)
    moved = [case for case in verdicts(out).values() if case["verdict"] != "SAME"]
    assert moved
    assert all([one["kind"] for one in case["causes"]] == [cause] for case in moved)
    if cause == "hardware":
        assert code == 1
        assert "fast: REGRESSION: ttl_s" in err
        assert "the hardware gb200-nvl72 changed (sha256 " in err
    else:
        assert "the model mine changed (sha256 " in json.dumps(moved)
        assert any(one["direction"] != "neutral" for case in moved for one in case["metrics"])


def test_a_formula_that_changed_is_blamed_on_the_cost_model(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helixplan.cost.step.SMALL_KERNELS_A_LAYER", 12)
    code, _, err = check()
    assert code == 1
    assert "fast: REGRESSION: ttl_s " in err
    assert "a formula of the cost model changed: the baseline's own layout now has ttl_s" in err


@pytest.mark.parametrize(("share", "verdict"), [(0.5, "REGRESSION"), (0.019, "INFEASIBLE-NOW")])
def test_a_memory_rule_that_was_tightened_is_named(
    share: float, verdict: str, check: Check, monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    from helixplan.cost import memory

    (place / "suite.toml").write_text(SUITE.replace('ttl = "20ms"', 'objective = "users"'))
    assert check("--update")[0] == 0
    limit = memory.memory_limit
    for module in ("evaluation", "cost.score", "search.optimum", "search.gaps", "search.infeasible"):
        monkeypatch.setattr(f"helixplan.{module}.memory_limit", lambda case: share * limit(case))
    code, _, err = check("--fail-on", "users:0%")
    assert code == 1
    assert f"many: {verdict}: " in err
    assert "a rule changed: the baseline's layout now breaks memory-fits" in err


def test_a_rule_that_was_tightened_is_named(check: Check, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = read_baseline(place / "baseline")["fast"].layout
    assert known is not None
    rule = replace(rules.TPA_WITHIN_KV_HEADS, holds=lambda case, a: a.tpa < known.tpa)
    family = rules.FAMILIES["helix"]
    tightened = replace(family, rules=tuple(rule if one.name == rule.name else one for one in family.rules))
    monkeypatch.setitem(rules.FAMILIES, "helix", tightened)
    code, _, err = check()
    assert code == 1
    assert "fast: REGRESSION: ttl_s" in err
    assert "a rule changed: the baseline's layout now breaks tpa-within-kv-heads" in err


def test_a_case_that_becomes_infeasible_fails_and_says_why(check: Check, place: Path) -> None:
    edit(place / "rack.toml", "memory_bytes       = { value = 198.7e9", "memory_bytes       = { value = 2.0e9")
    code, out, err = check()
    assert code == 1
    assert err.count("INFEASIBLE-NOW: no layout keeps all of") == 2
    assert "the hardware gb200-nvl72 changed" in err
    assert "2 INFEASIBLE-NOW" in out


def test_a_case_that_becomes_feasible_is_told_and_passes(check: Check, place: Path) -> None:
    text = (place / "rack.toml").read_text()
    edit(place / "rack.toml", "memory_bytes       = { value = 198.7e9", "memory_bytes       = { value = 2.0e9")
    assert check("--update")[0] == 0
    (place / "rack.toml").write_text(text)
    code, out, _ = check()
    assert (code, "2 FEASIBLE-NOW" in out) == (0, True)


def another_order(place: Path) -> None:
    config = json.loads((place / "mine.json").read_text())
    (place / "mine.json").write_text(json.dumps(dict(reversed(config.items())), indent=3))


def comments(place: Path) -> None:
    for name in ("suite.toml", "rack.toml"):
        (place / name).write_text("# a comment\n\n" + (place / name).read_text())


def renamed(place: Path) -> None:
    edit(place / "suite.toml", '"many"', '"very-many"')


def reordered_cases(place: Path) -> None:
    head, fast, many = (place / "suite.toml").read_text().split("[[case]]")
    (place / "suite.toml").write_text(f"{head}[[case]]{many}\n[[case]]{fast}")


def noise(place: Path) -> None:
    edit(place / "rack.toml", "value = 8.0e12", f"value = {8e12 * (1 + 1e-12)!r}")


def spelled_otherwise(place: Path) -> None:
    edit(place / "suite.toml", '"64k"', "64_000")
    edit(place / "suite.toml", '"20ms"', "0.02")


HARMLESS = (another_order, comments, renamed, reordered_cases, noise, spelled_otherwise)


@pytest.mark.parametrize("seed", HARMLESS, ids=lambda seed: seed.__name__)
def test_what_is_harmless_is_not_flagged(seed: Callable[[Path], None], check: Check, place: Path) -> None:
    seed(place)
    assert check("--fail-on", "ttl_s:0%", "--fail-on", "memory_bytes:0%")[:2] == (0, "2 cases: 2 SAME\n")


def test_a_question_that_changed_under_its_name_is_blamed_on_the_workload(check: Check, place: Path) -> None:
    edit(place / "suite.toml", "gpus = 8", "gpus = 4")
    code, _, err = check()
    assert code == 1
    assert "the question changed: gpus 8 -> 4" in err


def test_a_case_that_left_the_suite_is_missing_and_a_new_one_is_new(check: Check, place: Path) -> None:
    text = (place / "suite.toml").read_text()
    (place / "suite.toml").write_text(text[: text.rindex("[[case]]")] + '[[case]]\nname = "other"\nbatch = 3\ngpus = 2\n')
    code, out, err = check()
    assert code == 1
    assert "many: MISSING: the baseline has it, the suite asks for it no more" in err
    assert out.startswith("3 cases: 1 MISSING, 1 NEW, 1 SAME")


def test_a_case_that_is_left_out_keeps_its_baseline(check: Check, place: Path) -> None:
    edit(place / "suite.toml", 'name = "many"', 'name = "many"\nmodel = "unheard-of"')
    before = {path: path.read_bytes() for path in (place / "baseline").iterdir()}
    code, out, err = check("--skip-unknown", "--update")
    assert (code, out) == (0, "1 cases: 1 SAME\n")
    assert "warning: left out: case many: 'unheard-of' is not a bundled model" in err
    assert {path: path.read_bytes() for path in (place / "baseline").iterdir()} == before


def test_within_its_tolerance_a_change_is_drift_and_an_improvement_a_gain(check: Check, place: Path) -> None:
    edit(place / "rack.toml", "value = 8.0e12", "value = 7.99e12")
    code, out, _ = check("--fail-on", "ttl_s:5%")
    assert (code, "DRIFT" in out) == (0, True)
    edit(place / "rack.toml", "value = 7.99e12", "value = 16e12")
    code, out, _ = check("--fail-on", "ttl_s:1%")
    assert (code, "GAIN" in out) == (0, True)


def test_every_failure_is_told_on_a_line_of_its_own(check: Check, place: Path) -> None:
    edit(place / "rack.toml", "value = 8.0e12", "value = 4e12")
    code, _, err = check("--fail-on", "ttl_s:0%", "--fail-on", "tokens_per_s_per_gpu:0%")
    assert code == 1
    assert [line.split(":")[1] for line in err.splitlines()] == [" fast", " many"]


def test_update_rewrites_only_what_changed(check: Check, place: Path) -> None:
    files = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (place / "baseline").iterdir()}
    code, _, err = check("--update")
    assert (code, err.split(": ", 1)[1]) == (0, "0 written, 0 removed, 2 left as they were\n")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (place / "baseline").iterdir()} == files
    edit(place / "suite.toml", "gpus = 8", "gpus = 4")
    code, _, err = check("--update")
    assert "1 written, 0 removed, 1 left as they were" in err
    untouched = place / "baseline" / "many.json"
    assert (untouched.stat().st_mtime_ns, untouched.read_bytes()) == files[untouched]
    text = (place / "baseline" / "fast.json").read_text()
    assert str(place) not in text
    assert json.loads(text)["question"]["model"] == "mine.json"


def without(text: str, *path: str) -> str:
    whole = json.loads(text)
    place = whole
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return json.dumps(whole)


CORRUPT = {
    "truncated": lambda text: text[:100],
    "foreign": lambda text: '{"name": "package", "version": "1.0.0"}',
    "an array": lambda text: "[]",
    "newer": lambda text: changed(text, "schema_version", "9.0"),
    "text for a number": lambda text: changed(text, "metrics/ttl_s", "fast"),
    "neither answer": lambda text: changed(changed(text, "layout", None), "metrics", None),
    "another case's": lambda text: changed(text, "case", "other"),
    "without a metric": lambda text: without(text, "metrics", "ttl_s"),
    "with a metric too many": lambda text: changed(text, "metrics/speed", 1.0),
    "with a negative metric": lambda text: changed(text, "metrics/ttl_s", -1.0),
    "without a question": lambda text: changed(text, "question", {}),
    "with a question too many": lambda text: changed(text, "question/mood", "good"),
    "an impossible layout": lambda text: changed(text, "layout/kvp", 0),
    "an unknown family": lambda text: changed(text, "layout/family", "zzz"),
    "no requests": lambda text: changed(text, "layout/batch", 0),
}


@pytest.mark.parametrize("kind", CORRUPT)
@pytest.mark.parametrize("update", [(), ("--update",)])
def test_a_baseline_that_is_corrupt_is_refused_and_nothing_rewritten(
    kind: str, update: tuple[str, ...], check: Check, place: Path
) -> None:
    file = place / "baseline" / "many.json"
    file.write_text(CORRUPT[kind](file.read_text()))
    edit(place / "suite.toml", "gpus = 8", "gpus = 4")
    before = {path: path.read_bytes() for path in (place / "baseline").iterdir()}
    code, out, err = check(*update)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {file}")
    assert {path: path.read_bytes() for path in (place / "baseline").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--baseline", "nowhere"), "nowhere: --baseline: is not a folder"),
        (("--baseline", "empty"), "empty: --baseline: holds no baseline"),
        (("--against", "rack.toml"), "--against: the helixplan of 'rack.toml' cannot be run"),
        ((), "--baseline: is missing"),
        (("--baseline", "suite.toml"), "suite.toml: --baseline: is not a folder"),
        (("--baseline", "b", "--against", "HEAD"), "--against: goes without --baseline"),
        (("--against", "HEAD", "--update"), "--update: needs --baseline"),
        (("--baseline", "b", "--fail-on", "ttl:2%"), "--fail-on: got 'ttl' (did you mean 'ttl_s'?)"),
        (("--baseline", "b", "--fail-on", "ttl_s:2"), "--fail-on: got 'ttl_s:2'; write a metric"),
        (("--baseline", "b", "--fail-on", "ttl_s:-2%"), "--fail-on: got 'ttl_s:-2%'"),
        (("--baseline", "b", "--jobs", "0"), "--jobs: got '0'"),
        (("--baseline", "b", "--junit", "no/where.xml"), "no/where.xml: --junit: the folder 'no' does not exist"),
        (("--against", "v99.99.99x"), "--against: got 'v99.99.99x'"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: tuple[str, ...], said: str, place: Path, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    (place / "empty").mkdir()
    code, out, err = main("check", "suite.toml", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {said}")


def test_what_a_case_must_be_fails_whatever_the_baseline_says(place: Path, check: Check) -> None:
    (place / "suite.toml").write_text(SUITE + 'expect = "infeasible"\n')
    code, _, err = check()
    assert code == 1
    assert "many: SAME: the suite expects it to be infeasible, and it is feasible" in err
    code, _, err = check("--update")
    assert code == 1
    assert "0 written, 0 removed, 2 left as they were" in err
    assert "many: SAME: the suite expects it to be infeasible" in err


def test_a_proof_that_is_not_optimal_fails_only_when_asked(place: Path) -> None:
    cases = read_suite(place / "suite.toml")
    results = [answered(case).model_copy(update={"status": "feasible"}) for case in cases]
    known = {result.case: result for result in results}
    assert not any(one.fails for one in judge(cases, results, known, {}, posed))
    asked = judge(cases, results, known, {}, posed, solver_proof=True)
    assert asked[0].sentences == ["fast: the solver's proof is 'feasible', not 'optimal'"]


def test_every_metric_knows_which_way_is_good() -> None:
    assert Change("ttl_s", 1.0, 1.1).direction == "worse"
    assert Change("ttl_s", 1.0, 0.9).direction == "better"
    assert Change("tokens_per_s_per_gpu", 1.0, 0.9).direction == "worse"
    assert Change("ttl_ideal_s", 1.0, 0.9).direction == "neutral"
    assert Change("ttl_s", 1.0, 1 + 1e-12).direction == "neutral"
    at_the_edge = 13.16561525
    assert not Change("ttl_s", rounded(at_the_edge * (1 - 1e-12)), rounded(at_the_edge * (1 + 1e-12))).moved
    assert {*parse_tolerances([f"{name}:1%" for name, metric in METRICS.items() if metric.good])} < {*METRICS}
    assert rounded(59009261312.123) == 59009261300.0


JUNIT = """<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:attributeGroup name="counted">
  <xs:attribute name="name" use="required"/>
  <xs:attribute name="tests" type="xs:int" use="required"/>
  <xs:attribute name="failures" type="xs:int" use="required"/>
  <xs:attribute name="errors" type="xs:int" use="required"/>
  <xs:attribute name="skipped" type="xs:int"/>
  <xs:attribute name="time" type="xs:decimal" use="required"/>
</xs:attributeGroup>
<xs:complexType name="failure" mixed="true">
  <xs:attribute name="type" use="required"/><xs:attribute name="message"/>
</xs:complexType>
<xs:complexType name="testcase">
  <xs:sequence>
    <xs:element name="failure" type="failure" minOccurs="0"/>
    <xs:element name="system-out" type="xs:string" minOccurs="0"/>
  </xs:sequence>
  <xs:attribute name="classname" use="required"/>
  <xs:attribute name="name" use="required"/>
  <xs:attribute name="time" type="xs:decimal" use="required"/>
</xs:complexType>
<xs:complexType name="testsuite">
  <xs:sequence><xs:element name="testcase" type="testcase" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
  <xs:attributeGroup ref="counted"/>
</xs:complexType>
<xs:element name="testsuites">
  <xs:complexType>
    <xs:sequence><xs:element name="testsuite" type="testsuite" maxOccurs="unbounded"/></xs:sequence>
    <xs:attributeGroup ref="counted"/>
  </xs:complexType>
</xs:element>
</xs:schema>"""
"""The elements and attributes that the common JUnit schema has, as far as a report of ours may use them."""


def test_the_junit_report_is_valid_and_counts_failures(check: Check, place: Path) -> None:
    edit(place / "rack.toml", "value = 8.0e12", "value = 4e12")
    assert check("--junit", str(place / "junit.xml"), "--fail-on", "ttl_s:0%")[0] == 1
    xmlschema.XMLSchema(JUNIT).validate(str(place / "junit.xml"))
    root = ElementTree.parse(place / "junit.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", str(len(root.findall(".//failure"))))
    failure = root.find(".//testcase[@name='fast']/failure")
    assert failure is not None
    assert (failure.get("message") or "").startswith("fast: REGRESSION: ttl_s")


def test_github_gets_annotations_on_the_line_of_the_case_and_a_summary(
    check: Check, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place / "summary.md"))
    edit(place / "rack.toml", "value = 8.0e12", "value = 4e12")
    code, out, _ = check("--format", "github")
    assert code == 1
    line = SUITE.splitlines().index("[[case]]") + 1
    assert f"::error file={place}/suite.toml,line={line},title=REGRESSION%3A fast::fast: REGRESSION: ttl_s" in out
    assert "%25" in out
    assert (place / "summary.md").read_text().startswith("### Plan quality: failed\n")


def test_markdown_tells_failures_and_what_moved(check: Check, place: Path) -> None:
    edit(place / "rack.toml", "value = 8.0e12", "value = 4e12")
    code, out, _ = check("--format", "markdown")
    assert code == 1
    assert out.startswith("### Plan quality: failed\n\n2 cases: ")
    assert "- fast: REGRESSION: ttl_s" in out
    assert "| case | verdict | what moved |" in out


def test_the_projects_own_plans_are_what_its_baseline_says(cli: Run) -> None:
    suite = ROOT / "tests" / "suite"
    done = cli("check", str(suite / "suite.toml"), "--baseline", str(suite / "baseline"), "--solver-proof", "--format", "json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["counts"] == {"SAME": len(told["cases"])}
    assert len(told["cases"]) >= 60
    asked = [json.loads(path.read_text())["question"] for path in (suite / "baseline").iterdir()]
    assert {one["model"] for one in asked} == {path.stem for path in (ROOT / "models").glob("*.json")}
    assert {one["hardware"] for one in asked} == {path.stem for path in (ROOT / "hardware_profiles").glob("*.toml")}


def test_the_projects_baseline_is_written_byte_for_byte_again(cli: Run, tmp_path: Path) -> None:
    suite = ROOT / "tests" / "suite"
    assert cli("check", str(suite / "suite.toml"), "--baseline", "again", "--update", "--jobs", "3").returncode == 0
    for path in (tmp_path / "again").iterdir():
        assert path.read_bytes() == (suite / "baseline" / path.name).read_bytes(), path.name


def in_a_checkout() -> bool:
    """Whether these tests run from a git repository whose last commit has ``check``."""
    command = ["git", "-C", str(ROOT), "cat-file", "-e", "HEAD:helixplan/regress/gate.py"]
    return shutil.which("git") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not in_a_checkout(), reason="needs a git checkout")
def test_against_a_revision_the_baseline_is_recomputed_by_it(cli: Run, place: Path) -> None:
    done = cli("check", "suite.toml", "--against", "HEAD", "--fail-on", "ttl_s:0%", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 cases: ")
    assert sorted(path.name for path in place.iterdir()) == ["mine.json", "rack.toml", "suite.toml"]


def test_against_another_helixplan_cases_it_cannot_pose_are_new_and_expectations_are_this_sides(cli: Run, place: Path) -> None:
    other = place / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(other)], check=True)
    site = next(other.glob("lib/python*/site-packages"))
    (site / "here.pth").write_text("\n".join([str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]))
    (place / "suite.toml").write_text(SUITE + 'expect = "infeasible"\n[[case]]\nname = "new"\nmodel = "unheard-of"\n')
    refused = cli("check", "suite.toml", "--against", str(other), "--jobs", "1")
    assert (refused.returncode, "case new: 'unheard-of' is not a bundled model" in refused.stderr) == (2, True)
    done = cli("check", "suite.toml", "--against", str(other), "--jobs", "1", "--skip-unknown")
    assert done.returncode == 1
    assert "many: SAME: the suite expects it to be infeasible" in done.stderr


def test_against_an_environment_uses_its_helixplan(cli: Run, place: Path) -> None:
    done = cli("check", "suite.toml", "--against", sys.executable, "--jobs", "1")
    assert (done.returncode, done.stdout) == (0, "2 cases: 2 SAME\n")


def test_the_action_and_the_hook_run_the_command(place: Path, check: Check) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    step = action["runs"]["steps"][-1]
    assert {f"${{{{ inputs.{name} }}}}" for name in action["inputs"]} == {*step["env"].values(), "${{ inputs.python-version }}"}
    given = {"SUITE": "suite.toml", "BASELINE": "baseline", "AGAINST": "", "FAIL_ON": "ttl_s:0%\nusers:1%\n", "JUNIT": "j.xml"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **given, "SOLVER_PROOF": "true", "PATH": path}
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "2 cases: 2 SAME\n"), done.stderr
    assert (place / "j.xml").exists()
    hook = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())[0]
    assert (hook["entry"], hook["pass_filenames"]) == ("helixplan check", False)


# diff


@pytest.fixture(scope="module")
def plan(gb200: hp.Hardware) -> hp.Plan:
    return hp.plan("llama-3.1-70b", gb200, context_tokens=200_000, ttl_s=0.02, max_gpus=16)


def test_a_plan_does_not_differ_from_itself(plan: hp.Plan) -> None:
    found = between_plans(plan, plan)
    assert found.same
    assert found.causes == []


def test_diff_says_which_way_each_figure_went_and_what_moved_it(plan: hp.Plan, gb200: hp.Hardware) -> None:
    more = hp.plan("llama-3.1-70b", gb200, context_tokens=400_000, ttl_s=0.02, max_gpus=16)
    found = between_plans(plan, more)
    assert [cause.kind for cause in found.causes] == ["workload"]
    assert "context_tokens 200000 -> 400000" in found.causes[0].said
    directions = {change.name: change.direction for change in found.metrics}
    assert directions["tokens_per_s_per_gpu"] == "worse"
    back = {change.name: change.direction for change in between_plans(more, plan).metrics}
    assert back["tokens_per_s_per_gpu"] == "better"
    other = hp.plan("llama-3.1-70b", "gb300-nvl72", context_tokens=200_000, ttl_s=0.02, max_gpus=16)
    assert [cause.kind for cause in between_plans(plan, other).causes] == ["hardware"]
    older = hp.Plan.from_json(changed(plan.to_json(), "cost_model_version", "0.9"))
    assert [cause.kind for cause in between_plans(older, plan).causes] == ["cost model"]


def test_diff_prints_every_format_and_exits_0(main: Main, tmp_path: Path, plan: hp.Plan) -> None:
    (tmp_path / "a.json").write_text(plan.to_json())
    (tmp_path / "b.json").write_text(changed(plan.to_json(), "cost/ttl_s", plan.cost.ttl_s * 1.05))
    pair = (str(tmp_path / "a.json"), str(tmp_path / "b.json"))
    code, out, err = main("diff", *pair)
    assert (code, err) == (0, "")
    assert "1 worse moved" in out
    assert "no input and no version that the plans record differs" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = main("diff", *pair, "--format", "json")
    assert next(one for one in json.loads(out)["metrics"] if one["name"] == "ttl_s")["direction"] == "worse"
    assert "| ttl_s |" in main("diff", *pair, "--format", "markdown")[1]
    assert "the same plan" in main("diff", pair[0], pair[0])[1]


def test_suite_and_baseline_keep_their_schemas(main: Main) -> None:
    import tomllib

    for name, documents in (
        ("suite", [tomllib.loads((ROOT / "tests" / "suite" / "suite.toml").read_text()), tomllib.loads(SUITE)]),
        ("baseline", [json.loads(path.read_text()) for path in (ROOT / "tests" / "suite" / "baseline").iterdir()]),
    ):
        validator = Draft202012Validator(json.loads(main("schema", name)[1]))
        for document in documents:
            validator.validate(document)
