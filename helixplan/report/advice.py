"""A launch and the best in its place, in words and rows."""

from __future__ import annotations

from helixplan.advice import Advice, Best, Running
from helixplan.engines import ENGINES
from helixplan.report.wording import layout_words
from helixplan.units import format_bytes, format_context, format_count, format_counted, format_seconds

COLUMNS = ("", "KVPxTPAxDP", "TPFxEP", "PP", "TTL", "tok/s/user", "tok/s/GPU", "faster")
CHANGE_COLUMNS = ("setting", "now", "best")


def headline(found: Advice) -> str:
    """What was asked."""
    context, limit = format_context(found.workload.context_tokens), found.workload.ttl_limit_s
    asked = f"{found.model.name} on {found.hardware.name}, {context} tokens of context"
    return asked + (f", TTL at most {format_seconds(limit)}" if limit is not None else "") + f": what {_title(found)} runs"


def _not_one(found: Advice) -> str:
    """What even one request lacks."""
    late = found.running.memory.fits and found.running.keeps_ttl is False
    return "not even one keeps the TTL" if late else "not even one fits"


def facts(found: Advice) -> list[tuple[str, str]]:
    """What is run, a line each."""
    ran, memory = found.running, found.running.memory
    fits = "fits" if memory.fits else "does not fit"
    most = f"at most {format_count(found.largest_batch)} fit" if found.largest_batch else _not_one(found)
    keeps = {None: "", True: "; keeps the TTL", False: "; does not keep the TTL"}[ran.keeps_ttl]
    most += " and keep the TTL" if ran.keeps_ttl is not None and found.largest_batch else ""
    lines = [
        ("you run", layout_words(ran.layout)),
        ("batch", f"{format_count(ran.layout.batch)}, {_whence(found)} ({most})"),
        ("TTL", f"{format_seconds(ran.ttl_s)}{keeps}"),
        ("throughput", f"{ran.tokens_per_s_per_user:.4g} tokens/s/user, {ran.tokens_per_s_per_gpu:.4g} tokens/s/GPU"),
        ("memory/GPU", f"{format_bytes(memory.total_bytes)} of {format_bytes(memory.limit_bytes)} allowed: {fits}"),
        ("KV cache", f"{found.workload.kv_dtype}"),
    ]
    if ran.exchange_way is not None:
        lines.append(("exchange", ran.exchange_way))
    return lines + [("breaks", f"{rule.rule}: {rule.detail}") for rule in found.broken_rules]


def rows(found: Advice) -> list[tuple[str, ...]]:
    """The launch, its engine's best and the best there is."""
    listed = [_row("you run", found.running, "")]
    for name, best in (("engine's best", found.engine_best), ("best of all", found.free_best)):
        if best is not None:
            listed.append(_row(name, best, _faster(best)))
    return listed


def verdict(found: Advice) -> list[str]:
    """How far from the best, in a sentence or two."""
    said, gpus = [], found.running.layout.gpus
    for name, best in (
        (f"{_title(found)}'s best", found.engine_best),
        ("The best of all, without an engine's limits,", found.free_best),
    ):
        if best is None:
            said.append(f"No layout of {format_counted(gpus, 'GPU')} holds this batch.")
        elif best.speedup > 1 + 1e-9:
            said.append(f"{name} on the same GPUs at the same batch is {_faster(best)} as fast as what you run.")
        else:
            said.append(f"{name} on the same GPUs at the same batch is no faster than what you run.")
    said = list(dict.fromkeys(said)) + [f"{member.rule}: {member.detail}" for member in found.conflict]
    return said + (["What to change:"] if found.changes else [])


def change_rows(found: Advice) -> list[tuple[str, ...]]:
    """Setting by setting."""
    return [(change.setting, change.before or "left out", change.after or "left out") for change in found.changes]


def _title(found: Advice) -> str:
    return ENGINES[found.engine].title


def _whence(found: Advice) -> str:
    if found.batch_from == "the largest that fits" and found.largest_batch is None:
        return "one for each group"
    return {"--batch": "as asked", "the launch": "the launch's limit"}.get(found.batch_from, found.batch_from)


def _faster(best: Best) -> str:
    return f"{best.speedup:.2f}x"


def _row(name: str, one: Running, faster: str) -> tuple[str, ...]:
    layout = one.layout
    return (
        name,
        f"{layout.kvp}x{layout.tpa}x{layout.dp}",
        f"{layout.tpf}x{layout.ep}",
        str(layout.pp),
        format_seconds(one.ttl_s),
        f"{one.tokens_per_s_per_user:.4g}",
        f"{one.tokens_per_s_per_gpu:.4g}",
        faster,
    )
