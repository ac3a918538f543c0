"""The report: one page that needs nothing else, says what the documents say, and works for everybody who reads it."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shlex
import time
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import helixplan as hp
from helixplan.inputs import spelled
from helixplan.inputs.hardware import load_hardware
from helixplan.inputs.sources import figures, kernels
from helixplan.inputs.workload import PINS, Request, Workload
from helixplan.plans import Plan
from helixplan.regress.suites import read_suite
from helixplan.replay import asking, case_of, inputs_of, read_plan
from helixplan.report import markdown, wording
from helixplan.report.commands import case_command, plan_commands
from helixplan.report.in_markdown import plan_report
from helixplan.report.material import Material, gather
from helixplan.report.page.axes import Scale
from helixplan.report.page.elements import VOID, element
from helixplan.report.page.of_plan import plan_page
from helixplan.units import exact_seconds, format_bytes, format_ordinal, format_seconds, parse_seconds
from tests.conftest import Main, Run, changed, llama_config

SECTIONS = ["why", "layout", "timeline", "memory", "frontier", "sensitivity", "assumptions", "reproduce"]


class Read(HTMLParser):
    """A page as elements with their attributes, its text, and whether every element that opens is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", ["none"]
        self.feed(page)
        self.close()
        assert self._open == ["none"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1] not in ("script", "style"):
            self.text += data

    def values(self, name: str) -> list[str]:
        return [found for _, attributes in self.elements if (found := attributes.get(name)) is not None]


def assert_stands_alone(page: str) -> Read:
    """Sound HTML that loads nothing, with a name for every link within it."""
    read = Read(page)
    names = read.values("id")
    assert len(set(names)) == len(names)
    for _, attributes in read.elements:
        assert not {"src", "srcset", "action"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]
    assert {link for link in read.values("href") if link.removeprefix("#") not in names} == {"data:,"}
    assert [tag for tag, _ in read.elements].count("script") == 1
    assert "@import" not in page
    assert "url(" not in page
    return read


def test_the_page_stands_alone_and_is_small(r1_page: str) -> None:
    read = assert_stands_alone(r1_page)
    assert [attributes["id"] for tag, attributes in read.elements if tag == "section"] == SECTIONS
    assert len(r1_page.encode()) < 500_000


def test_the_page_says_what_the_documents_say(r1_page: str, r1_report: Material) -> None:
    plan, found, frontier = r1_report.plan, r1_report.explanation, r1_report.frontier
    assert found is not None
    assert frontier is not None
    text, hovers = Read(r1_page).text, " ".join(Read(r1_page).values("title"))
    assert text.index("Proof") < text.index("Where a token's time goes")
    for said in (
        format_seconds(plan.cost.ttl_s),
        f"{plan.cost.tokens_per_s_per_user:.4g}",
        f"{plan.cost.tokens_per_s_per_gpu:.4g}",
        format_bytes(plan.memory.kv_cache_bytes),
        wording.proof(plan),
        *plan.warnings,
        *(format_seconds(phase.seconds) for phase in plan.cost.phases),
        *(format_seconds(one.found.ttl_s) for one in found.runners_up),
        *(held.rule for held in found.rules),
        *(one.source for one in figures(r1_report.profile)),
        *(one.source for one in kernels(r1_report.profile)),
        *(said for _, said in r1_report.model_sources),
    ):
        assert said in text, said
    for rank in plan.ranks:
        assert hovers.count(f"GPU {rank.rank}: ") == 2
    for phase in found.phases:
        assert format_seconds(phase.ideal_s) in hovers
    assert r1_page.count("<circle") == len(frontier.points) - 1
    assert text.count("this plan:") == 1


def test_a_plan_off_the_frontier_is_drawn_beside_it(gb200: hp.Hardware) -> None:
    model = hp.load_model("llama-3.1-70b")
    plan = hp.plan(model, gb200, context_tokens=100_000, gpus=8, batch=3, objective="users")
    found = gather(plan, case_of(plan, model, gb200))
    assert found.frontier is not None
    on = any(point.layout == plan.layout for point in found.frontier.points)
    read = Read(plan_page(found))
    assert [tag for tag, _ in read.elements].count("circle") == len(found.frontier.points) - on
    assert ("below the frontier" in read.text) != on


def test_a_long_frontier_keeps_the_page_small(r1_report: Material) -> None:
    found = r1_report.frontier
    assert found is not None
    many = found.model_copy(update={"points": [point for point in found.points for _ in range(40)]})
    page = plan_page(replace(r1_report, frontier=many))
    assert f"{len(many.points):,} points" in Read(page).text
    assert len(page.encode()) < 500_000


def test_stages_and_an_estimate_that_does_not_fit_have_their_pages(gb200: hp.Hardware) -> None:
    model = hp.load_model("llama-3.1-405b")
    layout = hp.Layout(kvp=1, tpa=16, tpf=16, ep=1, pp=2, overlap_chunks=1)
    plan = hp.estimate(model, gb200, layout, context_tokens=1_000_000, batch=64)
    found = gather(plan, case_of(plan, model, gb200))
    assert found.explanation is None
    read = assert_stands_alone(plan_page(found))
    for said in ("An estimate", "tpa-within-kv-heads", "does not fit", "stage 1", "2 pipeline stages"):
        assert said in read.text, said


def test_an_estimate_of_another_cost_model_says_so(gb200: hp.Hardware) -> None:
    model = hp.load_model("qwen3-32b")
    plan = hp.estimate(model, gb200, hp.Layout(kvp=1, tpa=8, tpf=8, ep=1), context_tokens=10_000, batch=1)
    older = plan.model_copy(update={"cost_model_version": "0.9"})
    assert "made under cost model 0.9" in Read(plan_page(gather(older, case_of(older, model, gb200)))).text


def test_a_plan_that_is_not_todays_answer_is_refused(r1_report: Material, r1: hp.Model, gb200: hp.Hardware) -> None:
    cost = r1_report.plan.cost.model_copy(update={"ttl_s": 0.5})
    moved = r1_report.plan.model_copy(update={"cost": cost})
    with pytest.raises(hp.InputError, match="answers the plan's question otherwise"):
        gather(moved, case_of(moved, r1, gb200))


@given(st.text(), st.text())
def test_whatever_text_is_given_stays_text(said: str, told: str) -> None:
    read = Read(element("p", said, title=told))
    assert [tag for tag, _ in read.elements] == ["p"]
    assert (read.text, read.values("title")) == (said, [told])


def test_names_from_files_become_no_elements(tmp_path: Path, main: Main) -> None:
    evil = '"><script>alert(1)<script><img src=x onerror=alert(1)>'
    model = tmp_path / f"{evil}.json"
    model.write_text(json.dumps(llama_config() | {"source": {evil: evil}}))
    profile = (Path(__file__).parent.parent / "hardware_profiles" / "gb200-nvl72.toml").read_text()
    system = tmp_path / "rack.toml"
    system.write_text(
        profile.replace('name = "gb200-nvl72"', f"name = '{evil}'").replace('source = "fit', f"source = '''{evil}''' #")
    )
    plan, report = str(tmp_path / "plan.json"), tmp_path / "report.html"
    files = ("--model", str(model), "--hardware", str(system))
    assert main("plan", str(model), str(system), "--context", "10k", "--gpus", "4", "--batch", "2", "--output", plan)[0] == 0
    assert main("report", plan, "--output", str(report), *files)[0] == 0
    read = assert_stands_alone(report.read_text(encoding="utf-8"))
    assert "img" not in {tag for tag, _ in read.elements}
    assert read.text.count(evil) > 5
    policy = next(found for found in read.values("content") if "default-src" in found)
    assert "default-src 'none'" in policy
    assert "script-src 'sha256-" in policy


QUESTIONS = [
    ["llama-3.1-70b", "gb200-nvl72", "--context", "128Ki", "--ttl", "12.5ms", "--max-gpus", "8"],
    ["gpt-oss-120b", "h200-hgx", "--context", "60k", "--batch", "4", "--objective", "gpus", "--ttl", "30ms", "--family", "any"],
    ["qwen3-32b", "a100-hgx", "--context", "32k", "--kv", "fp8", "--weights", "int4", "--pin", "kvp=2", "--pin", "pp=1"],
    ["kimi-k2", "gb200-nvl72", "--context", "1M", "--kernels", "ideal", "--exchange", "latent", "--gpus", "16"],
    ["deepseek-r1", "gb200-nvl72", "--context", "1M", "--floor-scale", "0.3", "--memory-utilization", "0.8", "--overlap", "none"],
    ["llama-3.1-70b", "h100-hgx", "--context", "100k", "--engine", "vllm", "--batch", "4", "--gpus", "8"],
    ["mixtral-8x22b", "b200-hgx", "--context", "64k", "--attention-math", "bf16", "--kv-block", "64", "--step-overhead", "55us"],
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question[0])
def test_the_command_on_the_page_gives_the_plan_again(question: list[str], tmp_path: Path, main: Main) -> None:
    file = tmp_path / "plan.json"
    assert main("plan", *question, "--output", str(file))[0] == 0
    plan = read_plan(file)
    command = asking(plan, case_of(plan, *inputs_of(plan, str(file))))
    assert command[:4] == ["helixplan", "plan", *question[:2]]
    assert sorted(command[4:]) == sorted(question[2:])
    code, again, _ = main(*command[1:], "--format", "json")
    assert (code, again) == (0, file.read_text())


def test_the_command_gives_an_estimate_again(tmp_path: Path, main: Main) -> None:
    question = ["llama-3.1-405b", "gb200-nvl72", "--context", "1M", "--batch", "4", "--kvp", "8", "--tpa", "4", "--dp", "2"]
    _, first, _ = main("estimate", *question, "--format", "json")
    (tmp_path / "plan.json").write_text(first)
    _, told, _ = main("report", str(tmp_path / "plan.json"), "--format", "markdown")
    command = re.search(r"```sh\nhelixplan (estimate .*) > plan.json\n", told)
    assert command is not None
    assert main(*shlex.split(command[1]))[1] == first


seconds = st.floats(1e-7, 3600, allow_nan=False).filter(bool)


@given(seconds)
def test_exact_seconds_are_read_back_exactly(value: float) -> None:
    assert parse_seconds(exact_seconds(value), "ttl") == value


@given(
    st.builds(
        Workload,
        st.integers(1, 10**9),
        kv_dtype=st.sampled_from([None, "bf16", "nvfp4"]),
        floor_scale=st.none() | st.floats(0, 1, exclude_max=True),
        overlap=st.sampled_from(["auto", "hop-b"]),
        memory_utilization=st.floats(0.01, 1),
        kv_block_tokens=st.integers(1, 2**20),
        step_overhead_s=seconds,
    ),
    st.builds(
        Request,
        ttl_s=st.none() | seconds,
        batch=st.none() | st.integers(1, 2**17),
        max_gpus=st.none() | st.integers(1, 4096),
        family=st.sampled_from(["helix", "any"]),
        pins=st.dictionaries(st.sampled_from(PINS), st.integers(1, 64)),
        objective=st.sampled_from([None, "users"]),
    ),
)
def test_options_say_what_was_asked(work: Workload, request: Request) -> None:
    told = spelled.as_options(work, request)
    options: dict[str, Any] = dict(spelled.DEFAULTS) | {"pin": []}
    for flag, value in zip(told[::2], told[1::2], strict=True):
        name = flag.removeprefix("--").replace("-", "_")
        options[name] = [*options["pin"], value] if name == "pin" else value
    again = Workload(spelled.context_tokens(options), **spelled.modelling(options))
    assert vars(again) | {"engine": None} == vars(work)
    assert spelled.request(options, options["objective"]) == request


@given(st.floats(1e-3, 1e6), st.floats(1.05, 1e5), st.booleans())
def test_ticks_are_round_and_lie_on_the_axis(low: float, ratio: float, logarithmic: bool) -> None:
    scale = Scale(low, low * ratio, logarithmic)
    assert (scale.at(scale.low), scale.at(scale.high)) == (pytest.approx(0), pytest.approx(100))
    ticks = scale.ticks()
    assert all(scale.low <= value <= scale.high for value in ticks)
    assert all(one < other for one, other in pairwise(ticks))
    assert len(ticks) <= 12
    if not logarithmic:
        assert len(ticks) >= 3


@given(st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc", "Co", "Cn"))), min_size=2, max_size=2))
def test_words_in_markdown_stay_words(words: list[str]) -> None:
    """Read by another's parser, with raw HTML allowed."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    said = [" ".join(word.split()) for word in words]
    for page, due in (
        (markdown.table(words, [words]), said * 2),
        (f"## name: {markdown.text(words[0])}", [f"name: {said[0]}".strip()]),
    ):
        inline = [token for token in reader.parse(page) if token.type == "inline"]
        assert [token.content and "".join(part.content for part in token.children or []) for token in inline] == due
        assert {part.type for token in inline for part in token.children or []} <= {"text", "text_special"}


def test_an_estimates_commands_are_those_that_take_one(gb200: hp.Hardware, tmp_path: Path, main: Main) -> None:
    model = hp.load_model("qwen3-32b")
    plan = hp.estimate(model, gb200, hp.Layout(kvp=2, tpa=4, tpf=8, ep=1), context_tokens=100_000, batch=3)
    commands = plan_commands(gather(plan, case_of(plan, model, gb200)))
    asked = [shlex.split(command.split(" > ")[0]) for _, command in commands]
    assert [words[1] for words in asked] == ["estimate", "frontier", "verify", "report"]
    (tmp_path / "plan.json").write_text(plan.to_json())
    for words in asked:
        here = [str(tmp_path / word) if "." in word else word for word in words[1:]]
        assert main(*here)[0] == 0, words


def test_the_frontiers_command_gives_all_its_points(r1_report: Material, r1_page: str, main: Main) -> None:
    command = next(command for _, command in plan_commands(r1_report) if " frontier " in command)
    code, out, _ = main(*shlex.split(command)[1:])
    assert code == 0
    assert r1_report.frontier is not None
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [float(row["ttl_s"]) for row in rows] == [point.cost.ttl_s for point in r1_report.frontier.points]
    assert html.escape(command) in r1_page
    listed = r1_page.split('id="frontier"')[1].split("</table>", maxsplit=1)[0].count("<tr>") - 1
    assert f"; {listed} shown, " in r1_page


def test_every_row_and_column_has_a_name(r1_page: str) -> None:
    assert not re.findall(r"<th scope=\"row\"></th>", r1_page)
    assert len(re.findall(r"<th scope=\"col\"[^>]*></th>", r1_page)) <= 1


def test_numbers_of_a_row_are_spelled_as_people_do() -> None:
    told = [format_ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 22, 32, 64, 111, 112)]
    assert told == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "32nd", "64th", "111th", "112th"]


def test_markdown_has_the_same_and_its_tables_are_whole(r1_report: Material) -> None:
    out = plan_report(r1_report)
    assert out.startswith("## deepseek-r1 on gb200-nvl72, 1M tokens of context")
    for title in ("### Why", "### Sensitivity", "### The frontier", "### Reproduce"):
        assert title in out
    for block in re.findall(r"(?:^\|.*\n)+", out, re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_suites_page_answers_every_case(place: Path, main: Main, monkeypatch: pytest.MonkeyPatch) -> None:
    suite, report = place / "suite.toml", place / "report.html"
    suite.write_text(suite.read_text() + '\n[[case]]\nname = "too-fast"\nttl = "1us"\nexpect = "infeasible"\n')
    code, _, err = main("report", str(suite), "--output", str(report))
    assert (code, err) == (0, f"wrote {report}\n")
    read = assert_stands_alone(report.read_text(encoding="utf-8"))
    assert "3 cases of suite.toml: 2 optimal, 1 infeasible" in read.text
    assert {f"#case-{name}" for name in ("fast", "many", "too-fast")} <= set(read.values("href"))
    code, out, _ = main("report", str(suite), "--format", "markdown")
    assert code == 0
    assert re.search(r"\| too-fast \| infeasible \| .*ttl", out)
    for case in read_suite(suite):
        command = case_command(case)
        assert command in read.text
        assert "--engine" not in command
        monkeypatch.chdir(place)
        assert main(*shlex.split(command)[1:])[0] == (3 if case.name == "too-fast" else 0)


def test_what_cannot_be_reported_is_refused_in_one_sentence(place: Path, r1_plan: Plan, main: Main) -> None:
    plan, suite, there = place / "plan.json", place / "suite.toml", place / "there.html"
    plan.write_text(r1_plan.to_json())
    there.write_text("mine")
    for arguments, said in (
        ((plan,), "--output: is missing"),
        ((plan, "--output", there), "exists already"),
        ((plan, "--output", place), "is a folder"),
        ((plan, "--output", place / "page.md"), "--output: got '.md' with --format html"),
        ((plan, "--output", place / "page"), "--output: got 'no ending' with --format html"),
        ((plan, "--format", "markdown", "--output", place / "page.HTML"), "--output: got '.HTML' with --format markdown"),
        ((suite, "--format", "markdown", "--model", "x.json"), "--model: goes with a plan"),
        ((place / "nothing.toml", "--format", "markdown"), "nothing.toml"),
        ((place / "mine.json", "--format", "markdown"), "mine.json"),
        ((plan, "--format", "markdown", "--model", place / "mine.json"), "made for another deepseek-r1"),
    ):
        code, out, err = main("report", *(str(part) for part in arguments))
        assert (code, out) == (2, "")
        assert said in err
        assert err.count("\n") == 1
    assert there.read_text() == "mine"
    assert not list(place.glob("*page*"))


def test_a_figure_that_is_not_todays_is_refused_by_its_name(r1_plan: Plan, tmp_path: Path, main: Main) -> None:
    whole, report = r1_plan.to_json(), tmp_path / "report.html"
    for path, value, said in (
        ("memory/kv_cache_bytes", 1.0, "memory.kv_cache_bytes is 1.0"),
        ("ranks/3/memory_bytes", 5e9, "rank 3: memory_bytes"),
        ("proof/candidates", 5, "proof.candidates is 5"),
        ("cost/phases/2/bound", "memory", "cost.phases attention.exchange.bound is memory"),
        ("alternatives/0/ttl_s", 0.01, "alternatives[0]"),
    ):
        plan = tmp_path / "plan.json"
        plan.write_text(changed(whole, path, value))
        code, out, err = main("report", str(plan), "--output", str(report))
        assert (code, out, err.count("\n")) == (2, "", 1), path
        assert said in err
        assert not report.exists()


def test_the_main_plans_report_takes_seconds(r1_plan: Plan, tmp_path: Path, cli: Run) -> None:
    (tmp_path / "plan.json").write_text(r1_plan.to_json())
    start = time.perf_counter()
    done = cli("report", "plan.json", "--output", "report.html", PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr
    # 3 s on two quiet cores; here others run beside it.
    assert time.perf_counter() - start < 15


def test_every_number_of_a_profile_has_its_source_told() -> None:
    profile = load_hardware("mi300x").file
    told = {one.name for one in figures(profile)}
    assert {"gpu.sms", "gpu.flops_per_s.fp8", "domain.bytes_per_s", "scale_out.bytes_per_s"} <= told
    named = {one.name for one in kernels(profile)}
    assert {"attention.bf16", "gemm.fp8", "all_reduce", "overheads"} <= named
    assert all(one.source for one in [*figures(profile), *kernels(profile)])
