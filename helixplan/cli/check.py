"""``helixplan check``: plans every case of a suite and holds it against a baseline; exit 1 where one got worse."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helixplan.cli import options, show
from helixplan.cli.files import check_writable, replace_all, write_atomically
from helixplan.cli.progress import counted_while, shown_while
from helixplan.errors import InputError, RegressionFound
from helixplan.units import parse_count

if TYPE_CHECKING:
    from helixplan.regress.gate import Judged
    from helixplan.regress.results import Result


class CheckFormat(StrEnum):
    """How the verdicts are printed."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    GITHUB = "github"


def check(
    suite: Annotated[Path, typer.Argument(metavar="SUITE", help="A suite's TOML file.")],
    baseline: Annotated[Path | None, typer.Option(help="The folder with the results to hold against.")] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="A metric and how much worse it may get: ttl_s:2%. Repeatable. Default: the objective by 0.1%."),
    ] = None,
    update: Annotated[bool, typer.Option("--update", help="Write what changed to the baseline.")] = False,
    against: Annotated[
        str | None, typer.Option(help="Recompute the baseline with another helixplan: a git revision, a version, an environment.")
    ] = None,
    skip_unknown: Annotated[
        bool,
        typer.Option("--skip-unknown", help="Leave out cases whose model or system cannot be read, with a warning."),
    ] = False,
    solver_proof: Annotated[bool, typer.Option("--solver-proof", help="Fail where a proof is not optimal.")] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write a JUnit report to a file.")] = None,
    jobs: Annotated[str | None, typer.Option(help="Processes. Default: one a core.")] = None,
    output_format: Annotated[CheckFormat, typer.Option("--format", help="How the verdicts are printed.")] = CheckFormat.TABLE,
) -> None:
    """Plan every case of a suite and compare with a baseline. Prints all failures and exits 1 where there are any."""
    from helixplan.regress.gate import judge, parse_tolerances
    from helixplan.regress.results import read_baseline
    from helixplan.regress.running import placeable, posed, run
    from helixplan.regress.suites import read_suite

    tolerances = parse_tolerances(fail_on or [])
    processes = _jobs(jobs)
    _check_options(baseline, against, junit, update=update)
    cases = asked = read_suite(suite)
    if skip_unknown:
        cases = placeable(cases, lambda error: show.note(f"warning: left out: {error}"))
    left_out = {case.name for case in asked} - {case.name for case in cases}
    known: dict[str, Result] = {}
    if against is not None:
        known = _recomputed(against, suite, processes)
    elif baseline is not None and not (update and not any(baseline.glob("*.json"))):
        known = read_baseline(baseline)
    known = {name: result for name, result in known.items() if name not in left_out}
    with counted_while("planning", len(cases)) as done:
        results = run(cases, processes, done)
    judged = judge(cases, results, known, tolerances, posed, solver_proof=solver_proof)
    if update and baseline is not None:
        # The answers are the new baseline, so that only what the suite itself asks can fail.
        judged = [replace(one, failures=[]) for one in judged]
        _update(baseline, results, left_out)
    _report(judged, suite, junit, output_format)
    failures = [sentence for one in judged for sentence in one.sentences]
    if failures:
        raise RegressionFound(failures)


def _check_options(baseline: Path | None, against: str | None, junit: Path | None, *, update: bool) -> None:
    """Refuses what cannot be done before any work is."""
    if baseline is None and against is None:
        raise InputError("is missing; name a folder, or a helixplan to recompute it with (--against)", field="--baseline")
    if baseline is not None and against is not None:
        raise InputError("goes without --baseline: it recomputes one", field="--against")
    if update and baseline is None:
        raise InputError("needs --baseline, the folder to write to", field="--update")
    if baseline is not None and baseline.exists() and not baseline.is_dir():
        raise InputError("is not a folder", file=str(baseline), field="--baseline")
    if junit is not None:
        check_writable(junit, force=True, option="--junit")


def _jobs(text: str | None) -> int:
    from helixplan.regress.running import cores

    if text is None:
        return cores()
    number = parse_count(text, "--jobs")
    if not 1 <= number <= 1024:
        raise InputError(f"got {text!r}, but it must be a whole number from 1 to 1,024", field="--jobs")
    return number


def _recomputed(revision: str, suite: Path, jobs: int) -> dict[str, Result]:
    from helixplan.regress.results import read_baseline
    from helixplan.regress.revisions import recompute

    with tempfile.TemporaryDirectory(prefix="helixplan-") as folder, shown_while("against") as tell:
        recompute(revision, suite, Path(folder), jobs, tell)
        return read_baseline(Path(folder) / "baseline")


def _update(folder: Path, results: list[Result], left_out: set[str]) -> None:
    """All files that change, or none. Cases that were left out keep theirs."""
    from helixplan.regress.results import to_write

    written, removed = to_write(folder, results)
    removed = [path for path in removed if path.stem not in left_out]
    replace_all(folder, written, removed, option="--baseline")
    left = len(results) - len(written)
    show.note(f"baseline {folder}: {len(written)} written, {len(removed)} removed, {left} left as they were")


def _report(judged: list[Judged], suite: Path, junit: Path | None, output_format: CheckFormat) -> None:
    from helixplan.report import regression

    if junit is not None:
        from helixplan.report.junit import as_junit

        write_atomically(junit, as_junit(judged, suite.stem), force=True, option="--junit")
    if output_format is CheckFormat.JSON:
        show.result(json.dumps(regression.check_document(judged), indent=2, sort_keys=True))
    elif output_format is CheckFormat.MARKDOWN:
        show.result(regression.check_page(judged))
    elif output_format is CheckFormat.GITHUB:
        from helixplan.report.github import as_annotations

        show.result(as_annotations(judged, suite.as_posix()))
        _job_summary(regression.check_page(judged))
    else:
        show.result(regression.summary(judged))
        rows = regression.verdict_rows(judged)
        if rows:
            show.table(regression.VERDICT_COLUMNS, rows, 3, options.Format.TABLE)


def _job_summary(page: str) -> None:
    """GitHub shows what is appended to this file on the job's page."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        try:
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(page)
        except OSError as error:
            show.note(f"warning: the job summary {path} cannot be written ({error.strerror or error})")
