"""What emulated ranks hand each other: arrays put into the receivers' mailboxes, every byte counted where it is sent.

Bytes are those of the dtypes a GPU would send (activations bf16, log-sum-exps fp32, dispatched tokens fp8); the numbers
themselves stay float64, so that what is left of an error is the layout's. A receiver has what came, and nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helixplan.evidence.emulation.ledger import Ledger
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.numeric import Floats

Shards = Mapping[int, Floats]


@dataclass
class Mail:
    """One collective's mailboxes. Sending is counted under ``phase`` and ``kind``; what stays on a rank costs nothing."""

    ledger: Ledger
    phase: str
    kind: str
    boxes: dict[int, list[tuple[int, Any]]] = field(default_factory=lambda: defaultdict(list))

    def send(self, sender: int, receivers: Iterable[int], content: Any, size: float) -> None:
        """``content``, ``size`` bytes of it, to each receiver."""
        others = 0
        for receiver in receivers:
            others += receiver != sender
            self.boxes[receiver].append((sender, content))
        if others:
            self.ledger.add(self.phase, self.kind, sender, wire=others * size)

    def contents(self, receiver: int) -> list[Any]:
        """What a rank got, its own included, in the order of sending."""
        return [content for _, content in self.boxes[receiver]]

    def each(self, receivers: Iterable[int], combine: Callable[[list[Any]], Any]) -> dict[int, Any]:
        """Every receiver's contents, combined; receivers that got the very same things share the work."""
        known: dict[tuple[int, ...], Any] = {}
        results = {}
        for receiver in receivers:
            contents = self.contents(receiver)
            same = tuple(id(content) for content in contents)
            if same not in known:
                known[same] = combine(contents)
            results[receiver] = known[same]
        return results


def bytes_of(array: Floats) -> float:
    """As activations."""
    return array.size * ACTIVATION_BYTES


def gathered(ledger: Ledger, phase: str, kind: str, shards: Shards) -> dict[int, list[Floats]]:
    """Every rank's array to every other.  -> what each rank then has, in the order of the ranks given"""
    mail = Mail(ledger, phase, kind)
    for rank, shard in shards.items():
        mail.send(rank, shards, shard, bytes_of(shard))
    return mail.each(shards, list)


def reduced(ledger: Ledger, phase: str, kind: str, shards: Shards, receivers: Iterable[int], way: str) -> dict[int, Floats]:
    """The sum of the ranks' arrays (of one shape) at every receiver, those that had nothing to add included.

    In one shot every rank sends its whole array to all. In two, each rank first gets one piece of every array, sums it, and
    then sends the summed piece to all.
    """
    receivers, ranks = list(receivers), list(shards)
    mail = Mail(ledger, phase, kind)
    if way == "one-shot":
        for rank, shard in shards.items():
            mail.send(rank, receivers, shard, bytes_of(shard))
        return mail.each(receivers, lambda parts: np.asarray(sum(parts)))
    halves = Mail(ledger, phase, kind)
    for rank, shard in shards.items():
        for owner, piece in zip(ranks, np.array_split(shard.reshape(-1), len(ranks)), strict=True):
            halves.send(rank, [owner], piece, bytes_of(piece))
    for owner in ranks:
        summed = np.asarray(sum(halves.contents(owner)))
        mail.send(owner, receivers, summed, bytes_of(summed))
    shape = shards[ranks[0]].shape
    return mail.each(receivers, lambda pieces: np.concatenate(pieces).reshape(shape))
