"""A recurrent layer's step on real numbers: a state a head, and a short convolution's last inputs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.evidence.emulation.mathematics import normed, sigmoid
from helixplan.inputs.model import RecurrentAttention
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.numeric import Floats, Ints

Tails = tuple[Floats, Floats, Floats]


@dataclass(frozen=True)
class State:
    """``states`` (requests, heads, key_dim, value_dim); ``tails``: the last queries, keys and values, oldest first."""

    states: Floats
    tails: Tails

    def held_bytes(self, attention: RecurrentAttention) -> float:
        return self.states.size * attention.state_bytes + sum(tail.size for tail in self.tails) * ACTIVATION_BYTES

    def of(self, requests: Ints, heads: slice, kv_heads: slice) -> State:
        """What a rank has of it: some requests, and its heads."""
        query, key, value = (tail[requests] for tail in self.tails)
        states = self.states[requests][:, heads]
        return State(states, (query[:, :, kv_heads], key[:, :, kv_heads], value[:, :, heads]))


def convolved(tail: Floats, new: Floats) -> tuple[Floats, Floats]:
    """A fixed short convolution: (its output for the new input, the inputs kept). Its weights are left out of every count."""
    span = np.concatenate([tail, new[:, None]], axis=1)
    weights = 0.5 ** np.arange(span.shape[1])[::-1]
    return np.tensordot(weights, span, axes=([0], [1])), span[:, 1:]


def advanced(
    attention: RecurrentAttention, state: State, inputs: Tails, scalars: Floats, decay: Floats | None, first_head: int = 0
) -> tuple[State, Floats]:
    """One token: (the state after it, each head's output (requests, heads, value_dim)).

    ``inputs`` queries and keys (requests, key heads, key_dim) and values (requests, heads, value_dim); ``scalars``
    (requests, heads, n); ``decay`` (requests, heads, key_dim) where every channel has its own. The heads are those from
    ``first_head`` on.
    """
    (query, queries), (key, keys), (value, values) = (convolved(tail, new) for tail, new in zip(state.tails, inputs, strict=True))
    shared = attention.query_heads // attention.kv_heads
    numbers = np.arange(first_head, first_head + value.shape[1]) // shared - first_head // shared
    query, key = query[:, numbers], normed(key[:, numbers]) / np.sqrt(attention.key_dim)
    rate, keep = _step_size(attention, scalars, decay)
    states = keep[..., None] * state.states
    if attention.delta:
        value = value - np.einsum("bhkv,bhk->bhv", states, key)
    states = states + np.einsum("bhk,bhv->bhkv", key, rate[..., None] * value)
    return State(states, (queries, keys, values)), np.einsum("bhkv,bhk->bhv", states, query)


def _step_size(attention: RecurrentAttention, scalars: Floats, decay: Floats | None) -> tuple[Floats, Floats]:
    """(how much of the new token goes in (requests, heads), how much of the state is kept (requests, heads, key_dim or 1))."""
    if not attention.scalars:
        # Fixed by the head's number in the model; one number will do.
        return np.ones(scalars.shape[:2]), np.full((*scalars.shape[:2], 1), 0.9)
    rate = sigmoid(scalars[..., -1])
    if decay is not None:
        return rate, sigmoid(decay)
    return rate, (sigmoid(scalars[..., 0]) if attention.scalars > 1 else 1 - rate)[..., None]
