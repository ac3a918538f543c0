"""What one operation costs a GPU: seconds, traffic, work, and the terms that tell what binds it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from helixplan.numeric import NOTHING, Amount, plus, times

BOUNDS = ("memory", "compute", "network", "floor")


@dataclass(frozen=True)
class Timing:
    """Numbers, or arrays with one entry a layout. ``floor_s`` holds whatever is no roofline: launches, latencies, splits."""

    seconds: Amount = NOTHING
    hbm_bytes: Amount = NOTHING
    stored_bytes: Amount = NOTHING
    """Of those, weights and KV cache: what is there before the step. The rest are activations."""
    flops: Amount = NOTHING
    wire_bytes: Amount = NOTHING
    memory_s: Amount = NOTHING
    compute_s: Amount = NOTHING
    network_s: Amount = NOTHING
    backed_s: Amount = NOTHING
    """Of the seconds, those whose constants were tested on measurements."""
    error_s: Amount = NOTHING
    """By how much those are off in the median of such tests."""

    def __add__(self, other: Timing) -> Timing:
        return Timing(*(plus(a, b) for a, b in zip(self._parts(), other._parts(), strict=True)))

    def times(self, count: Amount) -> Timing:
        """The same ``count`` times over (0: not at all)."""
        return Timing(*(times(part, count) for part in self._parts()))

    def judged(self, median_error: float | None) -> Timing:
        """The same with what its constants' tests say, if there were any."""
        if median_error is None:
            return self
        return replace(self, backed_s=self.seconds, error_s=self.seconds * median_error)

    def or_cheaper(self, other: Timing) -> Timing:
        """Whichever takes less time, layout by layout; this one where they tie."""
        return self.where(np.asarray(self.seconds) <= other.seconds, other)

    def where(self, condition: Amount, other: Timing) -> Timing:
        """This timing where ``condition`` holds, the other elsewhere."""
        pairs = zip(self._parts(), other._parts(), strict=True)
        return Timing(*(NOTHING if a is b is NOTHING else np.where(condition, a, b) for a, b in pairs))

    @property
    def floor_s(self) -> Amount:
        return self.seconds - np.maximum(np.maximum(self.memory_s, self.compute_s), self.network_s)

    @property
    def bound(self) -> str:
        """What most of the time goes to. For one layout only."""
        terms = (self.memory_s, self.compute_s, self.network_s, self.floor_s)
        return BOUNDS[int(np.argmax([float(np.asarray(term).item()) for term in terms]))]

    def _parts(self) -> tuple[Amount, ...]:
        return (
            self.seconds,
            self.hbm_bytes,
            self.stored_bytes,
            self.flops,
            self.wire_bytes,
            self.memory_s,
            self.compute_s,
            self.network_s,
            self.backed_s,
            self.error_s,
        )
