"""The same decode on one rank: whole weights, whole caches, attention over all tokens at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from helixplan.evidence.emulation.mathematics import activated, chosen, normed, rotated, routed, sigmoid
from helixplan.evidence.emulation.recurrent import State, advanced
from helixplan.evidence.emulation.weights import Tensors, World, prefilled_state
from helixplan.inputs.model import (
    FFN,
    Attention,
    CompressedAttention,
    GroupedQueryAttention,
    LatentAttention,
    Model,
    MoE,
    RecurrentAttention,
)
from helixplan.numeric import Floats


@dataclass
class Reference:
    """``step`` decodes one token of every request; ``seen`` keeps what each layer's attention and FFN gave, by (layer, name)."""

    model: Model
    world: World
    caches: dict[int, Floats] = field(init=False)
    index_keys: dict[int, Floats] = field(init=False)
    states: dict[int, State] = field(init=False)
    inputs: dict[tuple[int, str], Floats] = field(init=False)
    """Of every token so far what compressors take of it."""
    seen: dict[tuple[int, str], Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        prefill = list(enumerate(self.world.prefill))
        self.caches = {layer: tensors["kv"] for layer, tensors in prefill if "kv" in tensors}
        self.index_keys = {layer: tensors["index"] for layer, tensors in prefill if "index" in tensors}
        named = [(layer, name, tensors[name]) for layer, tensors in prefill for name in tensors if name.endswith(" inputs")]
        self.inputs = {(layer, name): tensor for layer, name, tensor in named}
        self.states = {layer: prefilled_state(tensors) for layer, tensors in prefill if "states" in tensors}

    def step(self, step: int) -> Floats:
        """Logits of every request.  -> (requests, vocabulary)"""
        x = self.world.embedding[self.world.tokens[step]]
        kinds = {layer: group for group in self.model.groups for layer in group.layers}
        for layer in range(self.model.layers):
            tensors, attention, ffn = self.world.layers[layer], kinds[layer].attention, kinds[layer].ffn
            if attention is not None:
                heads = self._heads(layer, attention, tensors, normed(x))
                self.seen[layer, "attention heads"] = heads
                x = x + _output(attention, tensors, heads)
                self.seen[layer, "attention output"] = x
            if ffn is not None:
                x = x + swiglu_layer(ffn, tensors, normed(x))
                self.seen[layer, "FFN output"] = x
        return np.asarray(normed(x) @ self.world.head)

    def _heads(self, layer: int, attention: Attention, tensors: Tensors, h: Floats) -> Floats:
        if isinstance(attention, RecurrentAttention):
            return self._recurrent(layer, attention, tensors, h)
        if isinstance(attention, LatentAttention):
            heads = self._latent(layer, attention, tensors, h)
        elif isinstance(attention, CompressedAttention):
            heads = self._compressed(layer, attention, tensors, h)
        else:
            heads = self._grouped(layer, attention, tensors, h)
        return heads * sigmoid(np.einsum("bi,ihv->bhv", h, tensors["gate"])) if attention.output_gate else heads

    def _recurrent(self, layer: int, attention: RecurrentAttention, tensors: Tensors, h: Floats) -> Floats:
        query, key, value, scalars = (np.einsum("bi,ihd->bhd", h, tensors[name]) for name in ("query", "key", "value", "scalars"))
        decay = np.einsum("bi,ihd->bhd", h @ tensors["decay_down"], tensors["decay_up"]) if "decay_up" in tensors else None
        self.states[layer], heads = advanced(attention, self.states[layer], (query, key, value), scalars, decay)
        if attention.gate_rank is None:
            gate = np.einsum("bi,ihd->bhd", h, tensors["gate"])
        else:
            gate = np.einsum("bi,ihd->bhd", h @ tensors["gate_down"], tensors["gate_up"])
        return np.asarray(heads * gate * sigmoid(gate))

    def _append(self, layer: int, entry: Floats) -> Floats:
        self.caches[layer] = np.concatenate([self.caches[layer], entry[:, None]], axis=1)
        return self.caches[layer]

    def _grouped(self, layer: int, attention: GroupedQueryAttention, tensors: Tensors, h: Floats) -> Floats:
        position, size = self.caches[layer].shape[1], attention.head_dim
        query = rotated(np.einsum("bi,ihd->bhd", h, tensors["query"]), position)
        key = rotated(np.einsum("bi,ihd->bhd", h, tensors["key"]), position)
        value = np.einsum("bi,ihd->bhd", h, tensors["value"])
        cache = self._append(layer, np.concatenate([key, value], axis=-1))
        cache = cache if attention.window is None else cache[:, -attention.window :]
        of_head = np.arange(attention.query_heads) // (attention.query_heads // attention.kv_heads)
        keys, values = cache[..., :size][:, :, of_head], cache[..., size:][:, :, of_head]
        return softmaxed(np.einsum("bhd,bthd->bht", query, keys) / np.sqrt(size), values)

    def _latent(self, layer: int, attention: LatentAttention, tensors: Tensors, h: Floats) -> Floats:
        """The plain form: every head's keys and values lifted from the latents, token by token."""
        position = self.caches[layer].shape[1]
        rank, nope = attention.kv_rank, attention.nope_dim
        low = h @ tensors["query_down"] if "query_down" in tensors else h
        query = np.einsum("bi,ihd->bhd", low, tensors["query_up"])
        query = np.concatenate([query[..., :nope], rotated(query[..., nope:], position)], axis=-1)
        down = h @ tensors["kv_down"]
        entry = np.concatenate([down[:, :rank], rotated(down[:, rank:], position)], axis=-1)
        cache = self._append(layer, entry[:, None])[:, :, 0]
        keys = np.einsum("btr,hnr->bthn", cache[..., :rank], tensors["key_up"])
        values = np.einsum("btr,hrv->bthv", cache[..., :rank], tensors["value_up"])
        scores = np.einsum("bhn,bthn->bht", query[..., :nope], keys) + np.einsum(
            "bhd,btd->bht", query[..., nope:], cache[..., rank:]
        )
        if attention.indexer is not None:
            new = h @ tensors["index_key"]
            width = attention.indexer.head_dim
            own = np.concatenate([self.index_keys[layer], rotated(new[:, :width], position)[:, None]], axis=1)
            self.index_keys[layer] = own
            asked = rotated(np.einsum("bi,ihd->bhd", low, tensors["index_query"]), position)
            read = chosen(asked, new[:, width:], own, attention.indexer.top_k)
            unread = np.ones((len(h), own.shape[1]), dtype=bool)
            np.put_along_axis(unread, read, values=False, axis=1)
            scores = np.where(unread[:, None], -np.inf, scores)
        return softmaxed(scores / np.sqrt(nope + attention.rope_dim), values)

    def _compressed(self, layer: int, attention: CompressedAttention, tensors: Tensors, h: Floats) -> Floats:
        """Every entry made anew from all tokens, and one softmax over those that are read and the window."""
        position, width = self.caches[layer].shape[1], attention.head_dim
        low = h @ tensors["query_down"]
        query = rotated(np.einsum("bi,ihd->bhd", low, tensors["query_up"]), position)
        tokens = self._append(layer, rotated(h @ tensors["kv_down"], position)[:, None])[:, -attention.window :, 0]
        scores = np.einsum("bhd,btd->bht", query, tokens)
        if not attention.split_by_kvp:
            return softmaxed(scores / np.sqrt(width), tokens[:, :, None])
        entries = self._entries(layer, attention, "entries inputs", np.einsum("bi,icsd->bcsd", h, tensors["compress"]))
        over_entries = np.einsum("bhd,btd->bht", query, entries)
        if attention.indexer is not None:
            index, columns = attention.indexer, 2 * attention.spans * attention.indexer.head_dim
            new = h @ tensors["index_compress"]
            inputs = new[:, :columns].reshape(len(h), 2, attention.spans, index.head_dim)
            keys = self._entries(layer, attention, "index inputs", inputs)
            asked = rotated(np.einsum("bi,ihd->bhd", low, tensors["index_query"]), position)
            read = chosen(asked, new[:, columns:], keys, index.top_k)
            unread = np.ones((len(h), keys.shape[1]), dtype=bool)
            np.put_along_axis(unread, read, values=False, axis=1)
            over_entries = np.where(unread[:, None], -np.inf, over_entries)
        both = np.concatenate([over_entries, scores], axis=-1) / np.sqrt(width)
        return softmaxed(both, np.concatenate([entries, tokens], axis=1)[:, :, None])

    def _entries(self, layer: int, attention: CompressedAttention, name: str, new: Floats) -> Floats:
        """Run by run of ``ratio`` tokens; where runs overlap, each with the one before."""
        inputs = self.inputs[layer, name] = np.concatenate([self.inputs[layer, name], new[:, None]], axis=1)
        count, ratio = inputs.shape[1] // attention.ratio, attention.ratio
        runs = inputs[:, : count * ratio].reshape(len(inputs), count, ratio, *inputs.shape[2:])
        made = []
        for number in range(count):
            values, gates = runs[:, number, :, 0, -1], runs[:, number, :, 1, -1]
            if attention.spans == 2 and number:
                values = np.concatenate([runs[:, number - 1, :, 0, 0], values], axis=1)
                gates = np.concatenate([runs[:, number - 1, :, 1, 0], gates], axis=1)
            shares = np.exp(gates) / np.exp(gates).sum(axis=1, keepdims=True)
            made.append(rotated(normed(np.sum(shares * values, axis=1)), number * ratio))
        return np.stack(made, axis=1) if made else np.zeros((len(inputs), 0, inputs.shape[-1]))


def _output(attention: Attention, tensors: Tensors, heads: Floats) -> Floats:
    """The heads' values as hidden states; where heads are grouped, by way of a narrow vector a group."""
    if not isinstance(attention, CompressedAttention):
        return np.asarray(np.einsum("bhv,hvo->bo", heads, tensors["out"]))
    of_group = np.arange(attention.query_heads) // (attention.query_heads // attention.output_groups)
    return np.asarray(np.einsum("bhv,hvr,hro->bo", heads, tensors["out_down"], tensors["out"][of_group], optimize=True))


def softmaxed(scores: Floats, values: Floats) -> Floats:
    """Attention over all tokens at once: ``scores`` (b, h, t), ``values`` (b, t, h or 1, v)."""
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(np.einsum("bht,bthv->bhv", weights / weights.sum(axis=-1, keepdims=True), values))


def swiglu_layer(ffn: FFN, tensors: Tensors, h: Floats) -> Floats:
    """The whole FFN of one layer, token by token."""
    if not isinstance(ffn, MoE):
        return _swiglu(h, tensors["dense_in"], tensors["dense_out"])
    shared = _swiglu(h, tensors["shared_in"], tensors["shared_out"]) if ffn.shared_width else np.zeros_like(h)
    experts, weights = routed(h @ tensors["router"], ffn.experts_per_token)
    seen = h @ tensors["latent_in"] if ffn.latent is not None else h
    total = np.zeros_like(seen)
    for token in range(len(h)):
        for expert, weight in zip(experts[token], weights[token], strict=True):
            total[token] += weight * _swiglu(seen[token], tensors["expert_in"][expert], tensors["expert_out"][expert])
    return shared + (total @ tensors["latent_out"] if ffn.latent is not None else total)


def _swiglu(h: Floats, into: Floats, out: Floats) -> Floats:
    inner = np.tensordot(h, into, axes=([-1], [0]))
    return np.asarray(activated(inner) @ out)
