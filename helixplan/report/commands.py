"""The commands that give a report's answers again."""

from __future__ import annotations

import shlex

from helixplan.inputs.spelled import plan_command
from helixplan.regress.suites import Case
from helixplan.report.material import Material

Commands = list[tuple[str, str]]
"""What each does, and the command as a shell reads it."""
FILE = "plan.json"


def plan_commands(material: Material) -> Commands:
    """From the question to this page."""
    question = shlex.join(material.command)
    kept = f"--output {FILE}" if material.plan.proof is not None else f"--format json > {FILE}"
    files = "".join(f" {shlex.quote(part)}" for part in material.files)
    commands = [("The plan:", f"{question} {kept}")]
    if material.explanation is not None:
        commands.append(("Why it is the best, and what would move it:", f"helixplan explain {FILE}{files}"))
    if material.frontier is not None:
        commands.append(("Every point of the frontier:", f"{shlex.join(material.frontier_command)} --format csv"))
    return [
        *commands,
        ("Whether it is right, run on emulated ranks:", f"helixplan verify {FILE}{files}"),
        ("This page:", f"helixplan report {FILE} --output report.html{files}"),
    ]


def case_command(case: Case) -> str:
    """Asks one case of a suite, in the suite's folder."""
    return plan_command(case.question["model"], case.question["hardware"], case.workload, case.request)


def suite_commands(suite: str) -> Commands:
    """The page, and the gate that keeps its answers from getting worse."""
    file = shlex.quote(suite)
    return [
        ("This page:", f"helixplan report {file} --output report.html"),
        ("The answers as a baseline, and held against it later:", f"helixplan check {file} --baseline baseline --update"),
    ]
