"""Imports run one way: a module imports only what stands above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache

import pytest

import helixplan as hp
from tests.conftest import ROOT

ORDER = [
    "version",
    "errors",
    "numeric",
    "units",
    "inputs.workload",
    "inputs.spelled",
    "inputs.model",
    "inputs.validation",
    "inputs.catalog",
    "inputs.quantization",
    "inputs.config",
    "inputs.attention_layers",
    "inputs.ffn_layers",
    "inputs.families",
    "inputs.huggingface",
    "inputs.hardware",
    "inputs.sources",
    "append",
    "layout",
    "placement",
    "cost.case",
    "cost.timing",
    "cost.roofline",
    "cost.collectives",
    "cost.shares",
    "cost.experts",
    "cost.memory",
    "cost.ffn",
    "cost.exchange",
    "cost.step",
    "cost.score",
    "rule",
    "engines.engine",
    "engines.sglang",
    "engines.trtllm",
    "engines.vllm",
    "engines.limits",
    "engines",
    "search.rules",
    "search.space",
    "search.gaps",
    "search.batch",
    "search.frontier",
    "search.solver",
    "search.optimum",
    "search.limits",
    "search.comparison",
    "search.infeasible",
    "search.relief",
    "search.pairs",
    "evidence.measurements",
    "evidence.predict",
    "evidence.silicon",
    "evidence.fitting",
    "evidence.calibrate",
    "evidence.profiles",
    "evidence.validate",
    "evidence.published",
    "evidence.paper",
    "evidence.gpu.kernels",
    "evidence.gpu.bench",
    "evidence.gpu.checks",
    "evidence.gpu.sweeps",
    "evidence.gpu.collectives",
    "evidence.gpu",
    "plans",
    "curves",
    "explanation",
    "evaluation",
    "holdings",
    "assembly",
    "tracing",
    "replay",
    "evidence.emulation.ledger",
    "evidence.emulation.mathematics",
    "evidence.emulation.recurrent",
    "evidence.emulation.compression",
    "evidence.emulation.scaling",
    "evidence.emulation.weights",
    "evidence.emulation.reference",
    "evidence.emulation.ranks",
    "evidence.emulation.wires",
    "evidence.emulation.attention",
    "evidence.emulation.compressed",
    "evidence.emulation.experts",
    "evidence.emulation.run",
    "evidence.emulation.expectations",
    "evidence.emulation.full_size",
    "evidence.coverage",
    "evidence.rescore",
    "evidence.verify",
    "explaining.figures",
    "explaining.steps",
    "explaining.sensitivity",
    "explaining.limits",
    "explaining.contexts",
    "explaining.whole",
    "export.spelling",
    "export.memory",
    "export.vllm",
    "export.sglang",
    "export.trtllm",
    "export.spellings",
    "export.shell",
    "export.yamls",
    "export.dynamo",
    "export.launch",
    "export.files",
    "regress.metrics",
    "regress.results",
    "regress.suites",
    "regress.running",
    "regress.differences",
    "regress.gate",
    "regress.revisions",
    "api",
    "nearest",
    "advice",
    "report.wording",
    "report.models",
    "report.curves",
    "report.pictures",
    "report.terminal",
    "report.markdown",
    "report.paper",
    "report.verification",
    "report.explanation",
    "report.layout_map",
    "report.drawing",
    "report.regression",
    "report.advice",
    "report.junit",
    "report.github",
    "report.answers",
    "report.material",
    "report.commands",
    "report.in_markdown",
    "report.page.elements",
    "report.page.frame",
    "report.page.bars",
    "report.page.axes",
    "report.page.answer",
    "report.page.why",
    "report.page.layout",
    "report.page.timeline",
    "report.page.memory",
    "report.page.frontier",
    "report.page.sensitivity",
    "report.page.assumptions",
    "report.page.reproduce",
    "report.page.of_plan",
    "report.page.of_suite",
    "cli.options",
    "cli.files",
    "cli.show",
    "cli.progress",
    "cli.catalogs",
    "cli.calibrate",
    "cli.validate",
    "cli.verify",
    "cli.explain",
    "cli.draw",
    "cli.report",
    "cli.diff",
    "cli.export",
    "cli.check",
    "cli.estimate",
    "cli.frontier",
    "cli.compare",
    "cli.reproduce",
    "cli.plan",
    "cli",
    "__main__",
]


@cache
def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted((ROOT / "helixplan").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT / "helixplan").with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text())
    return found


def imported(tree: ast.Module) -> set[str]:
    """What a module imports of helixplan, inside functions too; what only type checkers see apart."""
    seen_only_by_checkers = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ImportFrom)
            and (node.module or "").startswith("helixplan")
            and id(node) not in seen_only_by_checkers
        ):
            base = (node.module or "").removeprefix("helixplan").removeprefix(".")
            known = {f"{base}.{alias.name}" for alias in node.names} & {*ORDER}
            names |= known or {base}
    return names


def test_every_module_has_its_place() -> None:
    packages = {
        "__init__",
        "inputs",
        "cost",
        "search",
        "evidence",
        "evidence.emulation",
        "explaining",
        "export",
        "regress",
        "report",
        "report.page",
    }
    assert set(modules()) - packages == {*ORDER}


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_what_stands_above_it(name: str) -> None:
    above = {*ORDER[: ORDER.index(name)]}
    assert imported(modules()[name]) <= above


def test_only_the_solver_imports_ortools_and_only_the_cli_prints() -> None:
    for name, tree in modules().items():
        roots = {
            (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else alias.name.split(".")[0]
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert "ortools" not in roots or name == "search.solver"
        assert "click" not in roots
        calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert "print" not in calls


def test_all_is_sorted_and_complete() -> None:
    assert hp.__all__ == sorted(hp.__all__)
    assert all(getattr(hp, name) is not None for name in hp.__all__)
    assert callable(hp.plan)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = hp.nothing


def test_plan_stays_a_function_whatever_was_imported_first() -> None:
    code = "import helixplan.api, helixplan.cli, helixplan.plans, helixplan as hp; assert callable(hp.plan), hp.plan"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["plan", "--help"]])
def test_help_loads_neither_numpy_nor_ortools(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ['helixplan', *{arguments!r}]
from helixplan.cli import main
try:
    main()
except SystemExit:
    pass
assert not {{'numpy', 'ortools'}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_estimate_does_not_load_ortools(gb200: hp.Hardware) -> None:
    code = (
        "import sys, helixplan as hp\n"
        "m, h = hp.load_model('qwen3-32b'), hp.load_hardware('h100-hgx')\n"
        "hp.estimate(m, h, hp.Layout(kvp=1, tpa=8, tpf=8, ep=1), context_tokens=1000, batch=1)\n"
        "assert 'ortools' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
