"""How fast helixplan is: ``python benchmarks/run.py`` prints a table (a minute or so; nothing is asserted).

Absolute times mean little on a shared machine, so whatever can be is also given as a ratio measured in the same run.
"""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

import helixplan as hp
from helixplan.cost.case import pose
from helixplan.inputs.workload import Request, Workload
from helixplan.numeric import distinct_rows
from helixplan.regress.suites import read_suite
from helixplan.report.terminal import columns
from helixplan.search.optimum import find_optimum
from helixplan.search.space import build_space

MILLION = 1_000_000
FIELDS = 8  # kvp, tpa, tpf, ep, dp, pp, exchange, overlap_chunks
RESULTS = 6  # TTL, memory, batch, GPUs, exchange, chunks
MAIN = ["plan", "deepseek-r1", "gb200-nvl72", "--context", "1M", "--ttl", "20ms"]


def best_of(runs: int, work: Callable[[], object]) -> float:
    """The least seconds of some runs: what disturbs a run only ever adds to it."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def process(*arguments: str) -> tuple[float, float]:
    """Seconds of a whole process, and the most memory (bytes) any child had so far."""
    command = [sys.executable, "-m", "helixplan", *arguments]
    seconds = best_of(5, lambda: subprocess.run(command, capture_output=True, check=True))
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def layouts(count: int) -> hp.Layouts:
    """Layouts of DeepSeek-R1 on up to 64 GPUs, drawn evenly from all there are."""
    model, hardware = hp.load_model("deepseek-r1"), hp.load_hardware("gb200-nvl72")
    space = build_space(pose(model, hardware, Workload(MILLION)), Request(max_gpus=64))
    random = np.random.default_rng(0)
    keys = random.integers(0, space.keys, count)
    attention = space.attention.start[keys] + random.integers(0, space.attention.count[keys])
    ffn = space.ffn.start[keys] + random.integers(0, space.ffn.count[keys])
    return space.whole(attention, ffn)


def distinct(many: hp.Layouts, batch: object) -> int:
    """How many of the layouts differ, batch included: R1 has only so many on 64 GPUs, and halves are worked out once."""
    columns = (many.kvp, many.tpa, many.tpf, many.ep, many.dp, many.pp, many.exchange)
    return len(distinct_rows(*columns, np.broadcast_to(np.asarray(batch), (len(many),)))[0])


def scoring() -> list[tuple[str, str, str]]:
    model, hardware = hp.load_model("deepseek-r1"), hp.load_hardware("gb200-nvl72")
    many = layouts(MILLION)
    apart = np.random.default_rng(1).integers(1, 100_000, MILLION)
    source, target = np.ones(32 * MILLION), np.empty(32 * MILLION)
    traffic = 2 * source.nbytes / best_of(3, lambda: np.copyto(target, source))
    moved = (FIELDS + RESULTS) * 8 * MILLION
    rows = []
    for name, batch in (("one batch", 8), ("a batch of its own each", apart)):
        seconds = best_of(3, lambda batch=batch: hp.score(model, hardware, many, context_tokens=MILLION, batch=batch))
        rate = MILLION / seconds
        share = f"{moved / seconds / traffic:.1%} of a plain copy's memory traffic, {traffic / 1e9:.0f} GB/s"
        near = f"{distinct(many, batch):,} distinct; {share}"
        rows.append((f"score(), 1M layouts of R1, {name}", f"{rate / 1e6:.2f} M layouts/s", near))
    return rows


def searching() -> list[tuple[str, str, str]]:
    model, hardware = hp.load_model("deepseek-r1"), hp.load_hardware("gb200-nvl72")
    case = pose(model, hardware, Workload(MILLION))
    found = {}
    for gpus in (64, 576):
        request = Request(ttl_s=0.02, max_gpus=gpus)
        count = int(build_space(case, request).layouts_of_key.sum())
        optimum = find_optimum(case, request)
        assert optimum is not None
        found[gpus] = (best_of(3, lambda request=request: find_optimum(case, request)), count, optimum.proof.candidates)
    rows = [
        (f"search up to {gpus} GPUs, R1 at 1M", f"{seconds:.3f} s", f"{count:,} layouts, {pairs:,} with their batches")
        for gpus, (seconds, count, pairs) in found.items()
    ]
    (slow, many, all_many), (fast, few, all_few) = found[576], found[64]
    growth = f"layouts x {many / few:.1f}, with batches x {all_many / all_few:.0f}"
    return [*rows, ("search, 64 to 576 GPUs", f"time x {slow / fast:.1f}", growth)]


def trusting() -> list[tuple[str, str, str]]:
    """A plan explained, drawn up as a page and verified on emulated ranks, and a suite of some hundred cases checked."""
    suite = Path(__file__).parent.parent / "tests" / "suite" / "suite.toml"
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder) / "plan.json"
        plan.write_text(hp.plan("deepseek-r1", "gb200-nvl72", context_tokens=MILLION, ttl_s=0.02).to_json())
        explained, _ = process("explain", str(plan))
        page = Path(folder) / "report.html"
        reported, _ = process("report", str(plan), "--output", str(page), "--force")
        size = page.stat().st_size
        verified, _ = process("verify", str(plan))
        cases = len(read_suite(suite))
        checked, _ = process("check", str(suite), "--baseline", str(Path(folder) / "baseline"), "--update", "--jobs", "2")
    return [
        ("explain, the main command's plan, whole process", f"{explained:.2f} s", ""),
        ("report, the same, whole process", f"{reported:.2f} s", f"{size / 1e6:.2f} MB of HTML"),
        ("verify, 64 ranks of R1, whole process", f"{verified:.2f} s", ""),
        (f"check, {cases} cases, 2 processes", f"{checked:.2f} s", f"{cases / checked:.0f} cases/s"),
    ]


def starting() -> list[tuple[str, str, str]]:
    bare = best_of(5, lambda: subprocess.run([sys.executable, "-c", "import numpy"], check=True))
    help_s, _ = process("--help")
    main_s, peak = process(*MAIN)
    return [
        ("helixplan --help, whole process", f"{help_s:.3f} s", f"{help_s / bare:.1f} x python -c 'import numpy'"),
        ("the main command, whole process", f"{main_s:.3f} s", f"{main_s / bare:.1f} x python -c 'import numpy'"),
        ("the main command, peak memory", f"{peak / 1e6:.0f} MB", ""),
    ]


def machine() -> str:
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    processor = names[0] if names else platform.processor()
    return f"{processor}, {len(names)} cores, Python {platform.python_version()}, NumPy {np.__version__}"


def main() -> None:
    rows = [*starting(), *trusting(), *scoring(), *searching()]
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    rows.append(("this benchmark's own peak memory", f"{resident / 1e6:.0f} MB", "two copies of 32M numbers included"))
    console = Console(width=140)
    console.print(machine())
    console.print(columns(("what", "measured", "beside"), rows, left=3))


if __name__ == "__main__":
    main()
