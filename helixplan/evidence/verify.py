"""Whether a plan is right: what its ranks hold, what it costs, and what happens when emulated ranks run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from helixplan.cost.case import Case
from helixplan.evaluation import evaluate
from helixplan.evidence import coverage
from helixplan.evidence.emulation import mathematics
from helixplan.evidence.emulation.attention import Merge
from helixplan.evidence.emulation.expectations import Expected, expectations, is_expected
from helixplan.evidence.emulation.full_size import full_size_error
from helixplan.evidence.emulation.ledger import QUANTITIES
from helixplan.evidence.emulation.ranks import WrongLayout
from helixplan.evidence.emulation.run import TOLERANCE, Emulation
from helixplan.evidence.emulation.scaling import scale_down
from helixplan.evidence.rescore import ROUNDING, rescored, structural
from helixplan.inputs.model import RecurrentAttention
from helixplan.placement import spoken_of_first
from helixplan.plans import Plan

NOT_COUNTED = ("small", "step")
ONCE_A_STEP = ("embedding", "hidden states for the head", "logits")
"""What ranks tell each other once a step: counted here, charged nowhere (docs/cost-model.md)."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Counted:
    """One quantity of one phase, of the fullest rank in one layer."""

    phase: str
    group: str | None
    quantity: str
    counted: float
    charged: float

    @property
    def holds(self) -> bool:
        return abs(self.counted - self.charged) <= ROUNDING * max(abs(self.charged), 1.0)


@dataclass
class Verification:
    """``failures`` are sentences; none means that the plan holds."""

    ranks: int
    steps: int = 0
    requests: int = 0
    context_tokens: int = 0
    layers: tuple[int, ...] = ()
    largest_error: float | None = None
    full_size_error: float | None = None
    counted: list[Counted] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    once_a_step: dict[str, float] = field(default_factory=dict)
    """Bytes the fullest rank sends once a step and nobody charges."""
    failures: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.failures


def verify(
    plan: Plan, case: Case, *, full_size: bool = False, merge: Merge = mathematics.merged, tell: Tell = lambda said: None
) -> Verification:
    """Everything there is to check of a plan that was made for this case."""
    found = Verification(len(plan.ranks))
    tell("structure")
    found.failures += structural(plan, case)
    if not found.failures:
        found.failures += coverage.findings(plan, case.model)
        tell("asking again")
        found.failures += list(rescored(plan, case))
    if not found.failures:
        _emulated(found, plan, case, merge, tell)
    if full_size and not found.failures:
        _at_full_size(found, plan, case, merge, tell)
    return found


def _emulated(found: Verification, plan: Plan, case: Case, merge: Merge, tell: Tell) -> None:
    """Run it, and count."""
    scaled = scale_down(plan, case)
    emulation = Emulation(plan, scaled, merge=merge)
    found.steps, found.requests, found.layers = emulation.steps, scaled.batch, scaled.layers
    found.context_tokens = scaled.case.workload.context_tokens
    try:
        emulation.run(tell)
    except WrongLayout as error:
        found.failures.append(str(error))
    found.largest_error = emulation.largest_error
    tell("counting")
    for step in range(len(emulation.ledgers)):
        counted = list(compare(emulation, step))
        found.counted = found.counted or counted
        found.failures += [_miscounted(one, step) for one in counted if not one.holds]
    if emulation.ledgers:
        first = emulation.ledgers[0]
        found.once_a_step = {name: float(first.fullest(name, "")[0]) for name in ONCE_A_STEP if (name, "") in first.counts}
    tell("draws")
    if found.holds:
        found.expected = list(expectations(emulation))
        found.failures += [
            f"{one.what}: {one.charged:.4g} is charged, the mean of draws is {one.mean:.4g} +- {one.standard_error:.2g}"
            for one in found.expected
            if not one.holds
        ]


def _miscounted(one: Counted, step: int) -> str:
    group = f" ({one.group})" if one.group else ""
    return f"{one.phase}{group}: {one.quantity} counted {one.counted:.10g} in step {step + 1}, charged {one.charged:.10g}"


def compare(emulation: Emulation, step: int) -> Iterator[Counted]:
    """Counted against charged for one step: every phase whose cost is no expectation, and the memory at the first step."""
    scaled, ledger = emulation.scaled, emulation.ledgers[step]
    work = replace(scaled.case.workload, context_tokens=scaled.case.workload.context_tokens + step)
    charged = evaluate(replace(scaled.case, workload=work), scaled.layout, scaled.batch)
    for phase in charged.cost.phases:
        if phase.name in NOT_COUNTED or is_expected(scaled, phase):
            continue
        # Counted in one layer and micro-batch, charged over all; of a pipeline's hops a GPU does one a micro-batch.
        times = scaled.layout.pp if phase.name == "pipeline" else phase.layers
        for name, counted in zip(QUANTITIES, ledger.fullest(phase.name, phase.group or ""), strict=True):
            due = getattr(phase, name) / times
            if counted or due:
                yield Counted(phase.name, phase.group, name, float(counted), due)
    if step == 0:
        due = charged.memory.weights_bytes + charged.memory.kv_cache_bytes
        yield Counted("memory", None, "weights and KV cache", emulation.held_bytes, due)


def _at_full_size(found: Verification, plan: Plan, case: Case, merge: Merge, tell: Tell) -> None:
    attention = spoken_of_first(case.model)[1]
    if isinstance(attention, RecurrentAttention):
        found.failures.append("no layer attends over the context: leave out --full-size-attention")
        return
    found.full_size_error = full_size_error(plan, attention, merge=merge, tell=tell)
    if not found.full_size_error <= TOLERANCE:
        found.failures.append(f"full-size attention is off by {found.full_size_error:.2g}; at most {TOLERANCE:g} is allowed")
