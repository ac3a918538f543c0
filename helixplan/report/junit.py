"""Verdicts as a JUnit report, which CI servers show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from helixplan.regress.gate import Judged
from helixplan.report.regression import because, moved

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_junit(judged: list[Judged], suite: str) -> bytes:
    """One test case a case of the suite; failures and what moved as text."""
    failed, suite = sum(one.fails for one in judged), _clean(suite)
    counts = {"tests": str(len(judged)), "failures": str(failed), "errors": "0"}
    root = ElementTree.Element("testsuites", {"name": "helixplan", **counts, "time": "0"})
    body = ElementTree.SubElement(root, "testsuite", {"name": suite, **counts, "skipped": "0", "time": "0"})
    for one in judged:
        case = ElementTree.SubElement(body, "testcase", {"classname": suite, "name": one.case, "time": "0"})
        if one.fails:
            text = _clean("\n".join(one.sentences))
            failure = ElementTree.SubElement(case, "failure", {"type": one.verdict, "message": text.splitlines()[0]})
            failure.text = text
        told = "; ".join(part for part in (one.verdict, moved(one), because(one)) if part)
        ElementTree.SubElement(case, "system-out").text = _clean(told)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return NOT_XML.sub("?", text)
