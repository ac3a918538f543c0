"""What the fullest GPU holds, against what it may."""

from __future__ import annotations

from helixplan.plans import Plan
from helixplan.report import wording
from helixplan.report.material import Material
from helixplan.report.page.bars import bar
from helixplan.report.page.elements import Markup, element, heading, joined, paragraph, table
from helixplan.units import format_bytes

PARTS = {"weights": "memory", "KV cache": "network", "buffers": "compute", "workspace": "floor"}
"""What a GPU's memory holds, and the colour and pattern it is drawn in."""


def section(material: Material) -> Markup:
    plan, memory = material.plan, material.plan.memory
    held = (memory.weights_bytes, memory.kv_cache_bytes, memory.buffers_bytes, memory.workspace_bytes)
    whole = max(material.profile.gpu.memory_bytes.value, memory.total_bytes)
    marks, at = [], 0.0
    for (name, kind), size in zip(PARTS.items(), held, strict=True):
        marks.append(bar(kind, at / whole, (at + size) / whole, f"{name}: {format_bytes(size)}"))
        at += size
    limit = element("span", class_="limit", style=f"left:{100 * memory.limit_bytes / whole:.3f}%")
    names = [element("li", element("i", class_=kind), name) for name, kind in PARTS.items()]
    rows = [
        (name, format_bytes(size), wording.percent(size / memory.limit_bytes)) for name, size in zip(PARTS, held, strict=True)
    ]
    rows.append(("in all", format_bytes(memory.total_bytes), wording.percent(memory.total_bytes / memory.limit_bytes)))
    return joined(
        (
            paragraph(_sentence(material)),
            element("div", *marks, limit, class_="stack", data_walk=True),
            element("ul", *names, element("li", "dashed line: the limit"), class_="legend", aria_label="Legend"),
            table("The fullest GPU", ("part", "bytes", "of the limit"), rows),
            _stages(plan),
        )
    )


def _sentence(material: Material) -> str:
    plan, memory = material.plan, material.plan.memory
    verdict = "" if memory.fits else " It does not fit."
    whole = format_bytes(material.profile.gpu.memory_bytes.value)
    return (
        f"The fullest GPU holds {format_bytes(memory.total_bytes)}; {format_bytes(memory.limit_bytes)} are allowed, "
        f"{wording.percent(plan.workload.memory_utilization)} of {whole}.{verdict}"
    )


def _stages(plan: Plan) -> Markup | None:
    """Stages of a pipeline hold layers of their own."""
    if plan.layout.pp == 1:
        return None
    first = {rank.stage: rank for rank in reversed(plan.ranks)}
    rows = [
        (f"stage {at}", f"{rank.layers[0]}-{rank.layers[1] - 1}", format_bytes(rank.memory_bytes))
        for at, rank in sorted(first.items())
    ]
    return joined((heading("Stages of the pipeline"), table("A GPU of each stage", ("stage", "layers", "holds"), rows)))
