"""What an engine keeps a layout from, limit by limit, each with what the case is without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from helixplan.cost.case import ALL_TO_ALL, PAPER, Case
from helixplan.engines.engine import Engine


@dataclass(frozen=True)
class Limit:
    """``without``: the case with this one limit lifted and all others kept. ``kind``: "rule" or "communication"."""

    name: str
    kind: str
    reason: str
    without: Case


def limits_of(engine: Engine, case: Case) -> Iterator[Limit]:
    """Every limit that an engine puts on a case posed for it."""
    for rule in engine.rules:
        yield Limit(rule.name, "rule", rule.reason, replace(case, lifted=case.lifted | {rule.name}))
    own = case.communication
    if engine.dearer is not None:
        ways = tuple(dict.fromkeys((ALL_TO_ALL, *own.exchange_ways)))
        better = replace(own, exchange_ways=ways, statistics=PAPER.statistics)
        yield Limit(
            f"{engine.name}-exchange", "communication", f"{engine.title} {engine.dearer}", replace(case, communication=better)
        )
    if not own.overlaps:
        said = f"{engine.title} does not overlap the exchange with attention (HOP-B)"
        yield Limit(f"{engine.name}-no-hop-b", "communication", said, replace(case, communication=replace(own, overlaps=True)))
    if not own.exchanges_values and case.model.is_latent:
        said = f"{engine.title} exchanges MLA's latent outputs, never the values made of them"
        lifted = replace(own, exchanges_values=True)
        yield Limit(f"{engine.name}-no-value-exchange", "communication", said, replace(case, communication=lifted))
