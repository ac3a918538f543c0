"""The answer on top of a plan's page."""

from __future__ import annotations

from helixplan.plans import Plan
from helixplan.report import wording
from helixplan.report.material import Material
from helixplan.report.page.elements import Markup, element, joined, pairs, paragraph
from helixplan.units import format_bytes, format_counted, format_seconds

SAID_LARGE = ("GPUs", "batch", "TTL", "throughput", "memory/GPU", "proof", "breaks")
"""Facts that stand in the figures or in a sentence of their own."""


def answer(material: Material) -> Markup:
    """The figures people came for, the proof in one sentence, the layout, and what to know before believing it."""
    plan = material.plan
    warned = [paragraph("Warning: ", note, kind="warning") for note in material.notes]
    rest = [(name, said) for name, said in wording.facts(plan) if name not in SAID_LARGE]
    return joined((_figures(plan), verdict(plan), pairs(rest), *warned))


def _figures(plan: Plan) -> Markup:
    layout, cost, memory = plan.layout, plan.cost, plan.memory
    stages = f" in {layout.pp} stages" if layout.pp > 1 else ""
    family = "no family" if layout.family == "none" else f"{layout.family} family"
    fits = f"of {format_bytes(memory.limit_bytes)} allowed" + ("" if memory.fits else ": does not fit")
    light = f"speed of light {format_seconds(cost.ttl_ideal_s)}{wording.constants(plan)}"
    keys = [
        ("TTL", format_seconds(cost.ttl_s), light),
        ("a user", f"{cost.tokens_per_s_per_user:.4g}", "tokens/s/user"),
        ("a GPU", f"{cost.tokens_per_s_per_gpu:.4g}", "tokens/s/GPU"),
        ("GPUs", str(layout.gpus), f"{family}{stages}"),
        ("batch", *format_counted(layout.batch, "concurrent request").split(maxsplit=1)),
        ("memory a GPU", format_bytes(memory.total_bytes), fits),
    ]
    cards = [element("div", element("dt", name), element("dd", said, element("small", more))) for name, said, more in keys]
    return element("dl", *cards, class_="keys")


def verdict(plan: Plan) -> Markup:
    """The proof, or of an estimate the rules it breaks."""
    if plan.proof is not None:
        return paragraph(element("strong", "Proof"), f" {wording.proof(plan)}.")
    broken = ", ".join(plan.broken_rules or []) or "no rule of Helix's"
    return paragraph(element("strong", "An estimate"), f": nothing was searched. The layout breaks {broken}.")
