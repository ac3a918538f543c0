"""What emulated ranks read, compute and send, counted from the arrays themselves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from helixplan.numeric import Floats

QUANTITIES = ("wire_bytes", "hbm_bytes", "stored_bytes", "flops")
WIRE, HBM, STORED, FLOPS = range(4)


@dataclass
class Ledger:
    """Sums by (phase, kind of layer), and there by (rank, layer, micro-batch)."""

    counts: dict[tuple[str, str], dict[tuple[int, int, int], Floats]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(lambda: np.zeros(len(QUANTITIES))))
    )
    layer: int = 0
    micro_batch: int = 0

    def add(
        self, phase: str, kind: str, rank: int, *, wire: float = 0.0, stored: float = 0.0, other: float = 0.0, flops: float = 0.0
    ) -> None:
        """Bytes sent; bytes read of weights or cache (``stored``) and of activations (``other``); operations."""
        entry = self.counts[phase, kind][rank, self.layer, self.micro_batch]
        entry += (wire, stored + other, stored, flops)

    def fullest(self, phase: str, kind: str) -> Floats:
        """The most that any rank has of each quantity in one layer and micro-batch.  -> (4,)"""
        entries = self.counts.get((phase, kind), {})
        return np.max(np.array(list(entries.values()), dtype=np.float64), axis=0) if entries else np.zeros(len(QUANTITIES))
