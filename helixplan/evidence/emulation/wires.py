"""Collectives between emulated ranks: arrays handed from one to another, every byte counted where it is sent.

Bytes are those of the dtypes a GPU would send (activations bf16, log-sum-exps fp32, dispatched tokens fp8); the numbers
themselves stay float64, so that what is left of an error is the layout's.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from helixplan.evidence.emulation.ledger import Ledger
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.numeric import Floats

Shards = Mapping[int, Floats]


def gathered(ledger: Ledger, phase: str, kind: str, shards: Shards) -> list[Floats]:
    """Every rank's array to every other: the arrays in the order of the ranks given."""
    for rank, shard in shards.items():
        ledger.add(phase, kind, rank, wire=(len(shards) - 1) * shard.size * ACTIVATION_BYTES)
    return list(shards.values())


def reduced(ledger: Ledger, phase: str, kind: str, shards: Shards, receivers: int, way: str) -> Floats:
    """The sum of the ranks' arrays (of one shape), as ``receivers`` ranks get it, those that had nothing to add included.

    In one shot every rank sends its whole array to all. In two, each rank first gets one piece of every array, sums it, and
    then sends the summed piece to all.
    """
    ranks = list(shards)
    if receivers == 1:
        return shards[ranks[0]]
    if way == "one-shot":
        for rank, shard in shards.items():
            ledger.add(phase, kind, rank, wire=(receivers - 1) * shard.size * ACTIVATION_BYTES)
        return np.asarray(sum(shards[rank] for rank in ranks))
    pieces = {rank: np.array_split(shard.reshape(-1), len(ranks)) for rank, shard in shards.items()}
    summed = []
    for index, owner in enumerate(ranks):
        for rank in ranks:
            if rank != owner:
                ledger.add(phase, kind, rank, wire=pieces[rank][index].size * ACTIVATION_BYTES)
        piece = np.asarray(sum(pieces[rank][index] for rank in ranks))
        ledger.add(phase, kind, owner, wire=(receivers - 1) * piece.size * ACTIVATION_BYTES)
        summed.append(piece)
    return np.concatenate(summed).reshape(shards[ranks[0]].shape)
