"""The frontier against brute force, the comparison against the frontiers, the pictures, and the paper's page."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import helixplan as hp
from helixplan.api import family_lines
from helixplan.cost.case import pose
from helixplan.inputs.workload import Request, Workload
from helixplan.report.curves import shown
from helixplan.report.paper import reproduction
from helixplan.report.pictures import STYLES, Picture, as_image, as_page, in_terminal
from helixplan.search.frontier import beaten, find_frontier, joint
from tests.conftest import ROOT, Main, Run, llama_config
from tests.strategies import contexts, models, systems
from tests.test_oracle import MOST_BATCH, Scored, brute_force

FAMILIES = ("helix", "tp", "pp", "dp-ep", "medha")
R1 = ("frontier", "deepseek-r1", "gb200-nvl72", "--context", "1M", "--max-gpus", "16")


def pareto(found: list[Scored], *, of_users: bool = False) -> list[tuple[float, float]]:
    """By sorting: rates that none beats in one without losing in the other."""
    rates = sorted({(1 / s.ttl_s, s.batch / s.gpus / (1 if of_users else s.ttl_s)) for s in found}, reverse=True)
    kept: list[tuple[float, float]] = []
    for user, gpu in rates:
        if not kept or gpu > kept[-1][1] * (1 + 1e-9):
            if kept and user > kept[-1][0] * (1 - 1e-9):
                kept.pop()
            kept.append((user, gpu))
    return kept


@settings(max_examples=60)
@given(
    model=models(),
    hardware=systems(),
    context=contexts(),
    family=st.sampled_from([*FAMILIES, "any"]),
    request=st.fixed_dictionaries(
        {}, optional={"ttl_s": st.sampled_from([2e-3, 2e-2]), "batch": st.sampled_from([1, 7]), "gpus": st.sampled_from([4, 6])}
    ),
)
def test_the_frontier_is_brute_forces_no_point_more_and_none_less(
    model: hp.Model, hardware: hp.Hardware, context: int, family: str, request: dict[str, Any]
) -> None:
    assume(request.get("gpus", 1) <= hardware.interconnect.domain_gpus or hardware.interconnect.scale_out_bytes_per_s)
    found = brute_force(model, hardware, request | {"family": family}, context_tokens=context)
    assume(found is not None)
    assert found is not None
    if not found:
        with pytest.raises(hp.InfeasibleError):
            hp.frontier(model, hardware, context_tokens=context, family=family, **request)
        return
    curve = hp.frontier(model, hardware, context_tokens=context, family=family, **request)
    ours = [(point.cost.tokens_per_s_per_user, point.cost.tokens_per_s_per_gpu) for point in curve.points]
    np.testing.assert_allclose(ours, pareto(found), rtol=1e-8)
    if family != "any":
        asked = Request(family=family, **request)
        crowd = find_frontier(pose(model, hardware, Workload(context)), asked, of_users=True).points
        users = [(point.tokens_per_s_per_user, point.users_per_gpu) for point in crowd]
        np.testing.assert_allclose(users, pareto(found, of_users=True), rtol=1e-8)
    assert max(point.layout.batch for point in curve.points) <= MOST_BATCH
    for point in curve.points[:: max(1, len(curve.points) // 5)]:
        one = hp.estimate(model, hardware, point.layout.layout, context_tokens=context, batch=point.layout.batch)
        assert one.cost.ttl_s == pytest.approx(point.cost.ttl_s, rel=1e-12)
        assert one.cost.ttl_ideal_s == pytest.approx(point.cost.ttl_ideal_s, rel=1e-12)
        assert one.memory.total_bytes == pytest.approx(point.memory.total_bytes, rel=1e-12)
        assert one.memory.kv_cache_bytes == pytest.approx(point.memory.kv_cache_bytes, rel=1e-12)


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=20))
def test_beaten_means_no_better_in_one_and_worse_in_the_other(rates: list[tuple[int, int]]) -> None:
    user, gpu = (np.array(side, float) for side in zip(*rates, strict=True))
    expected = [any(u >= a and g >= b and (u > a or g > b) for u, g in rates) for a, b in rates]
    assert beaten(user, gpu, user, gpu).tolist() == expected


@given(models(), systems(), contexts())
@settings(max_examples=12)
def test_with_one_kvp_rank_and_no_copied_heads_helix_and_tp_are_one(model: hp.Model, hardware: hp.Hardware, context: int) -> None:
    pins = {"kvp": 1, "dp": 1, "pp": 1}
    widest = max(n for n in range(1, model.kv_heads + 1) if model.query_heads % n == 0)
    most = min(widest, hardware.interconnect.domain_gpus)
    try:
        both = [
            hp.frontier(model, hardware, context_tokens=context, family=family, pins=pins, max_gpus=most)
            for family in ("helix", "tp")
        ]
    except hp.InfeasibleError:
        assume(False)
    helix, tp = ([point.cost for point in one.points] for one in both)
    assert helix == tp


def test_with_windows_only_kvp_buys_nothing_and_compare_says_so(gb200: hp.Hardware) -> None:
    window = {"architectures": ["MistralForCausalLM"], "sliding_window": 256}
    model = hp.load_model(llama_config(**window))
    said = hp.compare(model, gb200, context_tokens=100_000, max_gpus=8).comparisons[0]
    assert "KVP buys nothing" in (said.note or "")
    free = hp.frontier(model, gb200, context_tokens=100_000, max_gpus=8)
    without = hp.frontier(model, gb200, context_tokens=100_000, max_gpus=8, pins={"kvp": 1})
    fastest = [one.points[0].cost.ttl_s for one in (free, without)]
    assert fastest[0] == pytest.approx(fastest[1], rel=0.02)
    full = hp.load_model(llama_config())
    assert hp.compare(full, gb200, context_tokens=100_000, max_gpus=8).comparisons[0].note is None


@pytest.mark.parametrize("model", ["deepseek-r1", "llama-3.1-405b"])
def test_compares_ratios_are_those_of_the_frontiers(model: str, gb200: hp.Hardware) -> None:
    request: dict[str, Any] = {"context_tokens": 1_000_000, "max_gpus": 32}
    baselines = ["tp", "pp", "medha"]
    said = hp.compare(model, gb200, baselines=baselines, **request).comparisons[0]
    helix = hp.frontier(model, gb200, family="any", **request).points
    baseline = hp.frontier(model, gb200, family=baselines, **request).points
    fastest = [max(point.cost.tokens_per_s_per_user for point in side) for side in (helix, baseline)]
    assert said.interactivity_ratio == pytest.approx(fastest[0] / fastest[1], rel=1e-9)
    ratios = {
        point.cost.tokens_per_s_per_user: max(
            other.cost.tokens_per_s_per_gpu for other in helix if other.cost.ttl_s <= point.cost.ttl_s * (1 + 1e-9)
        )
        / point.cost.tokens_per_s_per_gpu
        for point in baseline
        if any(other.cost.ttl_s <= point.cost.ttl_s * (1 + 1e-9) for other in helix)
    }
    assert said.throughput_ratio == pytest.approx(max(ratios.values()), rel=1e-9)
    assert ratios[said.at_tokens_per_s_per_user] == pytest.approx(said.throughput_ratio, rel=1e-9)
    sides = [side["throughput"].cost.tokens_per_s_per_gpu for side in (said.helix, said.baseline)]
    assert sides[0] / sides[1] == pytest.approx(said.throughput_ratio, rel=1e-9)
    crowd = [side["users"].layout for side in (said.helix, said.baseline)]
    assert said.user_ratio == pytest.approx((crowd[0].batch / crowd[0].gpus) / (crowd[1].batch / crowd[1].gpus), rel=1e-9)
    assert said.helix["users"].cost.ttl_s <= said.baseline["users"].cost.ttl_s * (1 + 1e-9)
    case = pose(hp.load_model(model), gb200, Workload(1_000_000))
    crowds = []
    for names in (FAMILIES, baselines):
        own = [find_frontier(case, Request(family=name, max_gpus=32), of_users=True).points for name in names]
        crowds.append(joint(own, of_users=True))
    expected = max(
        max(other.users_per_gpu for other in crowds[0] if other.ttl_s <= point.ttl_s * (1 + 1e-9)) / point.users_per_gpu
        for point in crowds[1]
    )
    assert said.user_ratio == pytest.approx(expected, rel=1e-9)


def test_users_at_a_speed_are_the_most_that_a_plan_can_hold(gb200: hp.Hardware) -> None:
    """The users' ratio lies between points that a search for users under the same TTL finds too."""
    said = hp.compare("llama-3.1-405b", gb200, context_tokens=1_000_000, gpus=16, baselines=["tp"]).comparisons[0]
    limit = said.baseline["users"].cost.ttl_s * (1 + 1e-9)
    most = hp.plan("llama-3.1-405b", gb200, context_tokens=1_000_000, gpus=16, family="any", ttl_s=limit, objective="users")
    assert most.layout.batch == said.helix["users"].layout.batch


def test_the_overlaps_worth_is_what_the_same_points_lose_without_it(r1: hp.Model, gb200: hp.Hardware) -> None:
    request: dict[str, Any] = {"context_tokens": 1_000_000, "max_gpus": 32, "floor_scale": 0.0}
    said = hp.compare(r1, gb200, **request).comparisons[0]
    lost = []
    for point in hp.frontier(r1, gb200, family="any", **request).points:
        layout, how = point.layout.layout, {"context_tokens": 1_000_000, "batch": point.layout.batch, "floor_scale": 0.0}
        once = hp.Layout(layout.kvp, layout.tpa, layout.tpf, layout.ep, layout.dp, layout.pp, layout.exchange, 1)
        lost.append(1 - point.cost.ttl_s / hp.estimate(r1, gb200, once, **how).cost.ttl_s)
    assert said.overlap_loss == pytest.approx(max(lost), abs=1e-12)
    assert said.overlap_loss > 0.01
    off = hp.compare(r1, gb200, overlap="none", **request).comparisons[0]
    assert off.overlap_loss == 0


def test_the_frontier_prints_what_its_schema_says_and_csv_a_spreadsheet_reads(cli: Run) -> None:
    done = cli(*R1, "--format", "json", "--family", "helix", "--family", "tp")
    document = json.loads(done.stdout)
    jsonschema.validate(document, json.loads(cli("schema", "frontier").stdout))
    users = [point["cost"]["tokens_per_s_per_user"] for point in document["points"]]
    assert users == sorted(users, reverse=True)
    assert document["families"] == ["helix", "tp"]
    table = list(csv.DictReader(io.StringIO(cli(*R1, "--format", "csv", "--family", "helix", "--family", "tp").stdout)))
    assert [float(row["tokens_per_s_per_user"]) for row in table] == users
    assert [int(row["batch"]) for row in table] == [point["layout"]["batch"] for point in document["points"]]
    compared = cli("compare", *R1[1:], "--context", "128k", "--format", "json")
    document = json.loads(compared.stdout)
    jsonschema.validate(document, json.loads(cli("schema", "comparison").stdout))
    assert [one["context_tokens"] for one in document["comparisons"]] == [1_000_000, 128_000]


@pytest.mark.parametrize(("terminal", "colours"), [("xterm-256color", True), ("dumb", False)])
def test_a_picture_has_colours_where_the_terminal_does(
    terminal: str, colours: bool, main: Main, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    code, out, _ = main("frontier", "qwen3-32b", "gb200-nvl72", "--context", "10k", "--gpus", "1")
    assert code == 0
    assert ("\x1b[" in out.split("family")[0]) is colours


def test_views_fit_80_columns_and_name_the_layouts(cli: Run) -> None:
    for command in (R1, (*R1, "--format", "markdown"), ("compare", *R1[1:])):
        done = cli(*command)
        assert done.returncode == 0, done.stderr
        if "markdown" not in command:
            assert max(len(line) for line in done.stdout.splitlines()) <= 80
    assert "tokens/s/user" in cli(*R1).stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((*R1, "--family", "helixx"), 2, ["family", "helixx"]),
        ((*R1, "--plot", "x.gif"), 2, ["--plot", ".gif", ".html"]),
        ((*R1, "--plot", "nowhere/x.svg"), 2, ["nowhere"]),
        ((*R1, "--ttl", "1us"), 3, []),
        (("compare", *R1[1:], "--baseline", "helix"), 2, ["baseline", "helix", "medha"]),
        (("compare", *R1[1:], "--ttl", "1us"), 3, []),
        ((*R1, "--plot", "."), 2, ["--plot"]),
        (("reproduce", "the-moon"), 2, ["the-moon"]),
        (("reproduce", "helix-paper", "--output", "page.txt"), 2, ["--output", ".md"]),
    ],
)
def test_mistakes_are_told_before_any_work(cli: Run, arguments: tuple[str, ...], code: int, said: list[str]) -> None:
    done = cli(*arguments)
    assert done.returncode == code, done.stderr
    for word in said:
        assert word in done.stderr


def test_several_families_that_all_fail_each_say_why(cli: Run) -> None:
    request = (*R1, "--family", "tp", "--family", "pp", "--pin", "pp=4", "--pin", "dp=2", "--format", "json")
    done = cli(*request)
    assert done.returncode == 3
    rules = [member["rule"] for member in json.loads(done.stdout)["conflict"]]
    assert {rule.partition(": ")[0] for rule in rules} == {"tp", "pp"}
    assert "pp: pin dp=2" in rules
    compared = cli("compare", *R1[1:], "--pin", "kvp=16", "--format", "json")
    document = json.loads(compared.stdout)
    assert {member["rule"].partition(": ")[0] for member in document["conflict"]} == {"tp", "pp", "dp-ep", "medha"} - {
        family for family in ("medha",) if not any(member["rule"].startswith(family) for member in document["conflict"])
    }
    assert not any("--family" in option["change"] for option in document["relaxations"])


@pytest.fixture(scope="module")
def picture() -> Picture:
    case = pose(hp.load_model("deepseek-r1"), hp.load_hardware("gb200-nvl72"), Workload(1_000_000))
    lines, limit = family_lines(case, Request(max_gpus=16), FAMILIES)
    return Picture("R1 <on> & 16 GPUs", lines, limit)


def test_the_ideal_clocks_limit_lies_over_every_line(picture: Picture) -> None:
    for points in picture.lines.values():
        for point in points:
            assert any(
                light.cost.ttl_s <= point.cost.ttl_s and light.cost.tokens_per_s_per_gpu >= point.cost.tokens_per_s_per_gpu
                for light in picture.limit
            )


def test_images_are_whole_and_the_same_each_time(picture: Picture) -> None:
    assert as_image([picture], "png").startswith(b"\x89PNG")
    svg = as_image([picture], "svg")
    assert svg == as_image([picture], "svg")
    for name in (*FAMILIES, "speed of light", "tokens/s/user"):
        assert name.encode() in svg


def test_families_differ_in_colour_marker_and_dash() -> None:
    for look in zip(*STYLES.values(), strict=True):
        assert len({str(one) for one in look}) == len(FAMILIES)


def test_the_picture_in_characters_has_every_family_and_no_colour_codes(picture: Picture) -> None:
    text = in_terminal(picture, 80, colour=False)
    assert "\x1b" not in text
    assert all(name in text for name in FAMILIES)
    assert max(len(line) for line in text.splitlines()) <= 80


def test_the_page_is_self_contained_and_tells_each_point(picture: Picture) -> None:
    page = as_page(picture)
    assert "R1 &lt;on&gt; &amp; 16 GPUs" in page
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="?https?:', page)
    point = picture.lines["helix"][0]
    assert f"KVP {point.layout.kvp} x TPA {point.layout.tpa}" in page
    assert "GB a GPU" in page


BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
@pytest.mark.parametrize("width", [1200, 500])
def test_a_browser_draws_the_page_without_an_error(picture: Picture, tmp_path: Path, width: int) -> None:
    page = tmp_path / "page.html"
    probe = """<script>window.addEventListener('load', () => setTimeout(() => {
    const plot = document.querySelector('.js-plotly-plot'); Plotly.Fx.hover(plot, [{curveNumber: 1, pointNumber: 0}]);
    document.title = [document.documentElement.scrollWidth <= window.innerWidth, plot.data.length,
      document.querySelector('.hoverlayer').textContent].join('|'); }, 500));
    window.addEventListener('error', event => document.documentElement.dataset.failed = event.message);</script></head>"""
    page.write_text(as_page(picture).replace("</head>", probe, 1))
    done = subprocess.run(
        [
            str(BROWSER),
            *("--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},800", "--virtual-time-budget=8000"),
            *("--dump-dom", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stderr
    fits, lines, hover = title[1].split("|")
    assert (fits, int(lines)) == ("true", 1 + len(FAMILIES))
    assert "tokens/s/user" in hover
    assert "data-failed" not in done.stdout


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_the_frontier_of_r1_over_64_gpus_is_quick_and_small() -> None:
    """Every family and every batch, in a fresh process: under 5 s of one core and 500 MB."""
    code = (
        "import re, time, helixplan as hp\n"
        "started = time.process_time()\n"
        "one = hp.frontier('deepseek-r1', 'gb200-nvl72', context_tokens=1_000_000, family='any', max_gpus=64)\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]\n"
        "print(len(one.points), time.process_time() - started, int(peak) / 1e3)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    points, seconds, megabytes = (float(word) for word in done.stdout.split())
    assert points > 100
    assert seconds < 5
    assert megabytes < 500


def test_long_frontiers_are_shown_in_part_with_both_ends(r1: hp.Model, gb200: hp.Hardware) -> None:
    points = hp.frontier(r1, gb200, context_tokens=1_000_000, max_gpus=64).points
    part = shown(points)
    assert (part[0], part[-1]) == (points[0], points[-1])
    assert len(part) == len({id(point) for point in part}) == 16


def test_the_papers_page_is_what_the_program_writes() -> None:
    """Regenerate with: helixplan reproduce helix-paper --output docs/reproducing-helix.md --force"""
    assert reproduction("reproducing-helix.svg") == (ROOT / "docs" / "reproducing-helix.md").read_text()
