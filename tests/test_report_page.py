"""The report's page in a browser: every tab, hover and key, both themes, narrow screens, paper, and no scripts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helixplan.report.material import Material
from tests.browser import BINARY, Page, browser
from tests.conftest import Main

pytestmark = pytest.mark.skipif(BINARY is None, reason="no Chromium on the PATH")
SECTIONS = ["why", "layout", "timeline", "memory", "frontier", "sensitivity", "assumptions", "reproduce"]


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


SHOWN = "[...document.querySelectorAll('section')].filter(s => s.checkVisibility()).map(s => s.id)"


def test_the_page_loads_fast_and_says_nothing_on_the_console(screen: Page, r1_page_file: Path) -> None:
    assert screen.open(r1_page_file) < 2
    assert screen.run(SHOWN) == ["why"]
    assert screen.said == []


def test_every_tab_works_by_mouse_and_by_key(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file)
    for name in SECTIONS:
        screen.run(f"document.querySelector('nav a[href=\"#{name}\"]').click()")
        assert screen.run(SHOWN) == [name]
        assert screen.run("location.hash") == f"#{name}"
        tab = screen.run(
            "(t => [t.getAttribute('role'), t.getAttribute('aria-controls')])(document.querySelector('[aria-selected=true]'))"
        )
        assert tab == ["tab", name]
    screen.run("document.getElementById('tab-why').click(), document.getElementById('tab-why').focus()")
    walk = []
    for _ in SECTIONS:
        screen.key("ArrowRight")
        walk += screen.run(SHOWN)
    assert walk == [*SECTIONS[1:], SECTIONS[0]]
    for key, name in (("End", SECTIONS[-1]), ("Home", SECTIONS[0]), ("ArrowLeft", SECTIONS[-1])):
        screen.key(key)
        assert screen.run(SHOWN) == [name]
        assert screen.run("document.activeElement.hash") == f"#{name}"
    outline = screen.run("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    assert screen.said == []


HOVER = """(() => {
  const tip = document.getElementById('tip'), wrong = [];
  for (const mark of document.querySelectorAll('[data-tip]')) {
    document.getElementById('tab-' + mark.closest('section').id).click();
    mark.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
    const box = tip.getBoundingClientRect();
    const inside = box.left >= 0 && box.right <= innerWidth;
    const right = tip.textContent && tip.textContent === mark.getAttribute('aria-label');
    if (tip.hidden || !right || !inside) wrong.push(mark.outerHTML);
    document.body.dispatchEvent(new MouseEvent('mouseover', {bubbles: true}));
    if (!tip.hidden) wrong.push('stays: ' + mark.outerHTML);
  }
  return [document.querySelectorAll('[data-tip]').length, wrong];
})()"""


@pytest.mark.parametrize("width", [1280, 360])
def test_every_mark_says_on_hover_what_it_is(screen: Page, r1_page_file: Path, r1_report: Material, width: int) -> None:
    screen.open(r1_page_file, width)
    count, wrong = screen.run(HOVER)
    assert wrong == []
    assert count > 2 * r1_report.plan.layout.gpus + len(r1_report.frontier.points)  # type: ignore[union-attr]


def test_a_real_mouse_and_the_arrow_keys_reach_the_marks(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file)
    screen.run("document.getElementById('tab-layout').click()")
    box = screen.run(
        "(b => [b.x + b.width / 2, b.y + b.height / 2])(document.querySelectorAll('.cells > span')[3].getBoundingClientRect())"
    )
    screen.point_at(*box)
    assert screen.run("document.getElementById('tip').textContent").startswith("GPU 3: ")
    screen.run("document.querySelector('.cells > span').focus()")
    for key, gpu in (("ArrowRight", 1), ("ArrowDown", 2), ("ArrowLeft", 1), ("Home", 0)):
        screen.key(key)
        assert screen.run("document.activeElement.textContent") == str(gpu)
        assert screen.run("document.getElementById('tip').textContent").startswith(f"GPU {gpu}: ")
    screen.key("Escape")
    assert screen.run("document.getElementById('tip').hidden")
    stops = "[...document.querySelectorAll('[data-walk]')].map(p => p.querySelectorAll('[tabindex=\"0\"]').length)"
    assert set(screen.run(stops)) == {1}


@pytest.mark.parametrize("width", [1280, 390, 360, 320])
def test_no_page_scrolls_sideways(screen: Page, r1_page_file: Path, width: int) -> None:
    screen.open(r1_page_file, width)
    for name in SECTIONS:
        screen.run(f"document.getElementById('tab-{name}').click()")
        assert screen.run("(d => d.scrollWidth - d.clientWidth)(document.documentElement)") == 0, name


CONTRAST = """(() => {
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const rgb = numbers(getComputedStyle(node).backgroundColor);
      if (rgb.length === 3 || rgb[3] === 1) return rgb;
    }
  };
  const low = [];
  document.querySelectorAll('section').forEach((s) => { s.hidden = false; });
  for (const node of document.querySelectorAll('body *')) {
    const said = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!said || !node.checkVisibility() || ['SCRIPT', 'STYLE'].includes(node.nodeName)) continue;
    const style = getComputedStyle(node), svg = node instanceof SVGElement;
    const [one, other] = [light(numbers(svg ? style.fill : style.color)), light(ground(node))].sort((a, b) => b - a);
    if ((one + 0.05) / (other + 0.05) < 4.5) low.push([(one + 0.05) / (other + 0.05), node.outerHTML.slice(0, 120)]);
  }
  return [getComputedStyle(document.documentElement).backgroundColor, low];
})()"""


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_can_be_told_from_its_ground_in_both_themes(screen: Page, r1_page_file: Path, colours: str) -> None:
    screen.open(r1_page_file, colours=colours)
    ground, low = screen.run(CONTRAST)
    assert (ground == "rgb(255, 255, 255)") == (colours == "light")
    assert low == []


def test_the_theme_follows_the_system_until_it_is_chosen(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file, colours="dark")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = screen.run(ground)
    assert screen.run("document.getElementById('theme').getAttribute('aria-pressed')") == "true"
    screen.run("document.getElementById('theme').click()")
    assert screen.run(ground) == "rgb(255, 255, 255)"
    assert screen.run("document.getElementById('theme').getAttribute('aria-pressed')") == "false"
    screen.run("document.getElementById('theme').click()")
    assert screen.run(ground) == dark


def test_paper_has_every_section_and_no_controls(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file, colours="dark")
    screen.call("Emulation.setEmulatedMedia", media="print")
    assert screen.run(SHOWN) == SECTIONS
    assert not screen.run("['nav', '#theme', '#tip'].some(s => document.querySelector(s).checkVisibility())")
    assert screen.run("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    printed = screen.printed()
    screen.call("Emulation.setEmulatedMedia", media="")
    assert printed.startswith(b"%PDF-")
    assert printed.count(b"/Type /Page\n") >= 3


def test_no_figure_is_broken_on_paper(screen: Page, r1_page_file: Path, place: Path, main: Main) -> None:
    suite = place / "suite.html"
    assert main("report", str(place / "suite.toml"), "--output", str(suite))[0] == 0
    for file in (r1_page_file, suite):
        screen.open(file, 718)  # an A4 sheet within Chromium's margins
        screen.call("Emulation.setEmulatedMedia", media="print")
        broken = screen.run(BROKEN)
        wide = screen.run("document.documentElement.scrollWidth")
        screen.call("Emulation.setEmulatedMedia", media="")
        assert broken == []
        assert wide <= 718


BROKEN = """[...document.querySelectorAll('td.figure, td:nth-child(2), thead th:not(:empty)')].filter((cell) => {
  const text = [...cell.childNodes].find((node) => node.nodeType === 3) || cell.firstElementChild?.firstChild;
  if (text?.nodeType !== 3 || text.textContent.includes(' ')) return false;
  const range = document.createRange();
  range.selectNodeContents(text);
  return new Set([...range.getClientRects()].map((box) => box.top)).size > 1;
}).map((cell) => cell.outerHTML)"""


def test_marks_are_seen_in_forced_colours(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file)
    screen.call("Emulation.setEmulatedMedia", features=[{"name": "forced-colors", "value": "active"}])
    grounds = screen.run(
        "['.bar.floor', '.bar.compute', '.legend i.memory', '.cells > .hue0']"
        ".map((mark) => getComputedStyle(document.querySelector(mark)).backgroundColor)"
    )
    canvas = screen.run("getComputedStyle(document.body.parentNode).backgroundColor")
    screen.call("Emulation.setEmulatedMedia", features=[])
    assert canvas not in grounds
    assert len(set(grounds)) == len(grounds)


def test_what_a_focused_mark_says_stays_when_the_walk_scrolls(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file, 360, 400)
    screen.run("document.getElementById('tab-layout').click(), document.querySelector('.cells > span').focus()")
    screen.key("End")
    start = screen.run("document.activeElement.getBoundingClientRect().top")
    assert start < 400
    screen.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    tip = screen.run("(t => [t.hidden, t.textContent, t.getBoundingClientRect().bottom])(document.getElementById('tip'))")
    mark = screen.run("(b => [b.top, b.bottom])(document.activeElement.getBoundingClientRect())")
    assert tip[:2] == [False, screen.run("document.activeElement.getAttribute('aria-label')")]
    assert tip[2] <= mark[0] or tip[2] > mark[1]


@pytest.mark.parametrize(("anchor", "shown"), [("#memory", "memory"), ("#%", "why"), ("#nothing", "why")])
def test_whatever_an_address_ends_in_the_page_works(screen: Page, r1_page_file: Path, anchor: str, shown: str) -> None:
    screen.open(r1_page_file)
    screen.call("Page.navigate", url="about:blank")
    screen.call("Page.navigate", url=r1_page_file.resolve().as_uri() + anchor)
    deadline = time.perf_counter() + 5
    while screen.run("document.readyState + location.protocol") != "completefile:":
        assert time.perf_counter() < deadline
    assert screen.run(SHOWN) == [shown]
    assert screen.run("document.getElementById('theme').checkVisibility()")
    assert screen.said == []


def test_the_pages_own_keys_stay_its_own(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file)
    screen.run("document.getElementById('tab-why').focus()")
    for key in ("ArrowDown", "ArrowUp"):
        screen.key(key)
        assert screen.run(SHOWN) == ["why"]


CROSSED = """(() => {
  const name = document.querySelector('.chart .said').getBoundingClientRect(), path = document.querySelector('.chart .line');
  const here = (x, y) => x > name.left && x < name.right && y > name.top + 2 && y < name.bottom - 2;
  const matrix = path.getScreenCTM(), length = path.getTotalLength();
  const line = [...Array(2000).keys()].map((i) => path.getPointAtLength(i * length / 2000).matrixTransform(matrix));
  const dots = [...document.querySelectorAll('.chart .point')].map((dot) => dot.getBoundingClientRect());
  const box = document.querySelector('.chart').getBoundingClientRect();
  return [line.length, [...line, ...dots.map((dot) => ({ x: dot.x + 4, y: dot.y + 4 }))].filter((at) => here(at.x, at.y)).length,
    name.left >= box.left && name.right <= innerWidth && name.bottom <= box.bottom];
})()"""


@pytest.mark.parametrize("width", [1280, 360])
def test_the_plans_name_hides_nothing_of_the_frontier(
    screen: Page, r1_page_file: Path, tmp_path: Path, main: Main, width: int
) -> None:
    plan, file = str(tmp_path / "plan.json"), tmp_path / "fastest.html"
    assert main("plan", "qwen3-32b", "gb200-nvl72", "--context", "100k", "--gpus", "1", "--output", plan)[0] == 0
    assert main("report", plan, "--output", str(file))[0] == 0
    for page in (r1_page_file, file):
        screen.open(page, width)
        screen.run("document.getElementById('tab-frontier').click()")
        assert screen.run(CROSSED) == [2000, 0, True]


def test_without_scripts_everything_is_shown(screen: Page, r1_page_file: Path) -> None:
    screen.open(r1_page_file, scripts=False)
    assert screen.run(SHOWN) == SECTIONS
    assert not screen.run("document.getElementById('theme').checkVisibility()")
    assert screen.run("document.querySelectorAll('main [title], main title').length") > 100


def test_a_suites_table_leads_to_each_case(screen: Page, place: Path, main: Main) -> None:
    report = place / "report.html"
    assert main("report", str(place / "suite.toml"), "--output", str(report))[0] == 0
    screen.open(report, 390)
    assert screen.run(SHOWN) == ["cases"]
    screen.run("document.querySelector('a[href=\"#case-many\"]').click()")
    deadline = time.perf_counter() + 5
    while screen.run(SHOWN) != ["answers"]:
        assert time.perf_counter() < deadline
    assert screen.run("document.documentElement.scrollWidth") <= 390
    assert screen.said == []
