"""The few formulas of a decode step that emulated ranks and the single-rank reference share: norm, rotary, SwiGLU, routing."""

from __future__ import annotations

import numpy as np

from helixplan.numeric import Floats, Ints


def normed(x: Floats) -> Floats:
    """RMS norm without weights, row by row."""
    return np.asarray(x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-12))


def rotated(x: Floats, position: int | Ints) -> Floats:
    """Rotary embedding of the last axis (an even number of entries) at a position, or at positions (n, 1) of the axis before."""
    half = x.shape[-1] // 2
    angle = position * 10_000.0 ** (-np.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], axis=-1)


def sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def activated(inner: Floats) -> Floats:
    """An FFN's inner activation: silu(gate) up of (rows, 2, width); of (rows, 1, width), without a gate, relu squared."""
    first = inner[..., 0, :]
    if inner.shape[-2] == 1:
        return np.asarray(np.maximum(first, 0.0) ** 2)
    return np.asarray(first * sigmoid(first) * inner[..., 1, :])


def chosen(query: Floats, weights: Floats, keys: Floats, top_k: int) -> Ints:
    """Sparse attention's choice: the tokens whose keys score highest, sum over heads of weight relu(query key).

    ``query`` (requests, heads, d), ``weights`` (requests, heads), ``keys`` (requests, tokens, d).
    -> (requests, min(top_k, tokens))
    """
    scores = np.einsum("bh,bht->bt", weights, np.maximum(query @ keys.transpose(0, 2, 1), 0.0))
    few = min(top_k, scores.shape[1])
    if not few:
        return np.zeros((len(scores), 0), dtype=np.int64)
    return np.asarray(np.sort(np.argpartition(-scores, few - 1, axis=-1)[:, :few], axis=-1))


def routed(logits: Floats, per_token: int) -> tuple[Ints, Floats]:
    """Each token's experts, in their order of number, and their weights.  -> (tokens, k) twice"""
    chosen = np.sort(np.argpartition(-logits, per_token - 1, axis=-1)[:, :per_token], axis=-1)
    taken = np.take_along_axis(logits, chosen, axis=-1)
    weights = np.exp(taken - taken.max(axis=-1, keepdims=True))
    return chosen, np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def partial_attention(scores: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Softmax-weighted values over the tokens of one shard, and the log-sum-exp that says how much they weigh.

    ``scores`` (b, heads, tokens), ``values`` (b, heads or 1, tokens, width).  -> (b, heads, width), (b, heads)
    An empty shard weighs nothing, nor does one whose tokens are all at -inf: its log-sum-exp is -inf.
    """
    if not scores.shape[-1]:
        return np.zeros((*scores.shape[:2], values.shape[-1])), np.full(scores.shape[:2], -np.inf)
    most = scores.max(axis=-1, keepdims=True)
    empty = np.isneginf(most)
    weights = np.exp(scores - np.where(empty, 0.0, most))
    total = np.where(empty, 1.0, weights.sum(axis=-1, keepdims=True))
    output = weights @ values[:, 0] if values.shape[1] == 1 else (weights[:, :, None, :] @ values)[:, :, 0]
    return output / total, (most + np.log(total))[..., 0]


def told(scores: Floats, lse: Floats, statistics: int) -> Floats:
    """A shard's log-sum-exps (b, heads) as they are sent: whole, or maxima and sums apart.  -> (b, heads, statistics)"""
    if statistics == 1:
        return lse[..., None]
    most = scores.max(axis=-1, initial=-np.inf)
    return np.stack([most, np.where(np.isfinite(most), np.exp(lse - np.where(np.isfinite(most), most, 0.0)), 0.0)], axis=-1)


def understood(statistics: Floats) -> Floats:
    """The log-sum-exps behind what ``told`` gives.  -> (..., heads)"""
    if statistics.shape[-1] == 1:
        return statistics[..., 0]
    most, total = statistics[..., 0], statistics[..., 1]
    return np.where(total > 0, most + np.log(np.where(total > 0, total, 1.0)), -np.inf)


def merged(outputs: Floats, lse: Floats) -> Floats:
    """Shards' partial outputs as one: O = sum_i exp(LSE_i - LSE) O_i, LSE = log sum_i exp(LSE_i) (Helix 2.1.2).

    ``outputs`` (shards, requests, heads, width), ``lse`` (shards, requests, heads); shards at -inf are skipped.
    """
    return np.asarray((shard_weights(lse)[..., None] * outputs).sum(axis=0))


def shard_weights(lse: Floats) -> Floats:
    """How much each shard's output weighs: exp(LSE_i - LSE); they sum to 1.  (shards, requests, heads) -> the same"""
    weights = np.exp(lse - lse.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))
