"""Which KVP rank takes a token's keys and values, and how many tokens each rank holds (Helix 2.1).

Blocks of positions go round robin: position p belongs to rank (p // block) mod kvp, a prefilled context's positions and new
tokens' alike, so that ranks differ by at most one block however a request came to its length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.inputs.workload import MAX_CONTEXT, MAX_GPUS, whole
from helixplan.numeric import Amount, Ints


def shard_tokens(context: int, kvp: Amount, block: int, rank: Amount = 0) -> Amount:
    """Tokens of a request on a KVP rank; rank 0, the default, holds the most. Broadcasts over ``kvp`` and ``rank``.

    (S // (kvp block)) block + the part of the last round that is the rank's: S mod (kvp block) - rank block, from 0 to block.
    """
    rounds = np.floor(context / (kvp * block))
    return rounds * block + np.clip(context - rounds * kvp * block - rank * block, 0, block)


@dataclass(frozen=True)
class AppendSchedule:
    """The owners of one request's tokens: ``kvp`` ranks, blocks of ``block_tokens``, a context prefilled with ``prefill_tokens``.

    Raises InputError for numbers out of bounds.
    """

    kvp: int
    block_tokens: int = 32
    prefill_tokens: int = 0

    def __post_init__(self) -> None:
        whole(self.kvp, 1, MAX_GPUS, "kvp")
        whole(self.block_tokens, 1, 2**20, "block_tokens")
        whole(self.prefill_tokens, 0, MAX_CONTEXT, "prefill_tokens")

    def owner(self, position: int | Ints) -> int | Ints:
        """The KVP rank that holds the token at a position, counted from 0; the first new token's is ``prefill_tokens``."""
        return (position // self.block_tokens) % self.kvp

    def slot(self, position: int | Ints) -> int | Ints:
        """Where in its rank's cache the token at a position stands, counted from 0."""
        return position // (self.block_tokens * self.kvp) * self.block_tokens + position % self.block_tokens

    def tokens(self, steps: int = 0) -> Ints:
        """Tokens on every KVP rank after so many steps.  -> (kvp,)"""
        context = self.prefill_tokens + whole(steps, 0, MAX_CONTEXT, "steps")
        return np.asarray(shard_tokens(context, self.kvp, self.block_tokens, np.arange(self.kvp)), dtype=np.int64)

    def largest_difference(self, steps: int = 0) -> int:
        """By how many tokens the fullest rank is ahead of the emptiest: at most one block."""
        held = self.tokens(steps)
        return int(np.max(held) - np.min(held))
