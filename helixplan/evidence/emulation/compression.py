"""Compressed tokens on real numbers: what a compressor keeps of the last tokens, and the entries that these become.

A token's input is a value and a gate for each entry it is part of: (..., 2, spans, width). An entry is the mean of the values of
its tokens, every channel weighed by the softmax of its gates. Where two runs of tokens overlap (spans 2), its own run gives the
second of each token's values and the run before it the first.
"""

from __future__ import annotations

import numpy as np

from helixplan.evidence.emulation.mathematics import normed, rotated
from helixplan.inputs.model import CompressedAttention
from helixplan.numeric import Floats, Ints


def kept_at(attention: CompressedAttention, inputs: Floats, tokens: Ints) -> Floats:
    """What is kept after so many tokens: the inputs of the last runs, oldest first; what came before the first weighs nothing.

    ``inputs`` (requests, tokens, 2, spans, width), ``tokens`` (n,).  -> (requests, n, spans ratio, 2, spans, width)
    """
    size = attention.spans * attention.ratio
    before = np.zeros((len(inputs), size, *inputs.shape[2:]))
    before[:, :, 1] = -np.inf
    return np.concatenate([before, inputs], axis=1)[:, tokens[:, None] + np.arange(size)]


def kept_after(kept: Floats, new: Floats) -> Floats:
    """The same one token later.  (requests, spans ratio, 2, spans, width), (requests, 2, spans, width)"""
    return np.concatenate([kept[:, 1:], new[:, None]], axis=1)


def pooled(attention: CompressedAttention, kept: Floats, first: int | Ints) -> Floats:
    """The entry whose last token was the last that is kept; ``first``, the position of its own run's first token, rotates it.

    ``kept`` (..., spans ratio, 2, spans, width).  -> (..., width)
    """
    runs = np.split(kept, attention.spans, axis=-4)
    both = np.concatenate([run[..., span, :] for span, run in enumerate(runs)], axis=-3)
    values, gates = both[..., 0, :], both[..., 1, :]
    weights = np.exp(gates - gates.max(axis=-2, keepdims=True))
    return rotated(normed((weights * values).sum(axis=-2) / weights.sum(axis=-2)), first)


def pooled_before(attention: CompressedAttention, inputs: Floats, numbers: Ints) -> Floats:
    """Entries by their numbers, from the inputs of all tokens so far.  -> (requests, n, width)"""
    firsts = numbers * attention.ratio
    return pooled(attention, kept_at(attention, inputs, firsts + attention.ratio), firsts[:, None])
