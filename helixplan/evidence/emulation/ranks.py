"""One emulated rank: the slices of the weights that the plan gives it, its shard of the cache, and what it counts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from helixplan.append import AppendSchedule
from helixplan.cost.case import Case
from helixplan.errors import HelixplanError
from helixplan.evidence.emulation.compression import kept_at, pooled_before
from helixplan.evidence.emulation.ledger import Ledger
from helixplan.evidence.emulation.mathematics import activated, sigmoid
from helixplan.evidence.emulation.recurrent import State, advanced
from helixplan.evidence.emulation.scaling import Scaled
from helixplan.evidence.emulation.weights import Tensors, World, prefilled_state
from helixplan.inputs.model import (
    COMPRESSOR_BYTES,
    FFN,
    Attention,
    CompressedAttention,
    GroupedQueryAttention,
    LatentAttention,
    MoE,
    RecurrentAttention,
)
from helixplan.inputs.workload import ACTIVATION_BYTES, BYTES_PER_ELEMENT
from helixplan.numeric import Floats, Ints
from helixplan.placement import spoken_of_first
from helixplan.plans import PlanHeads, PlanRank

BLOCKS = re.compile(r"rank (\d{1,7}) of (\d{1,7}), (\d{1,7}) tokens")


class WrongLayout(HelixplanError):  # noqa: N818 - said of the plan
    """A rank cannot do its part: which rank, and which tensor it lacks."""


def owned_blocks(rank: PlanRank) -> tuple[int, int, int]:
    """(which of the KVP ranks, how many there are, tokens of a block), from the plan's words. Raises WrongLayout."""
    found = BLOCKS.fullmatch(rank.kv_blocks)
    if found is None:
        raise WrongLayout(f"rank {rank.rank}: kv_blocks is {rank.kv_blocks!r}, which names no block owner")
    index, of, block = (int(number) for number in found.groups())
    return index, of, block


@dataclass
class Rank:
    """``weights`` by scaled layer; ``caches`` by scaled layer and micro-batch: (requests, tokens, KV heads, entries).

    So are ``index_keys`` (requests, all tokens, d) of sparse attention, ``states`` of recurrent layers, and of compressed tokens
    the ``entries`` (requests, entries, d); what its compressors have ``kept`` of the last tokens is by what it is for, too.
    """

    plan: PlanRank
    scaled: Scaled
    ledger: Ledger
    index: int
    """Which of the KVP ranks it is."""
    weights: dict[int, Tensors] = field(default_factory=dict)
    caches: dict[tuple[int, int], Floats] = field(default_factory=dict)
    index_keys: dict[tuple[int, int], Floats] = field(default_factory=dict)
    states: dict[tuple[int, int], State] = field(default_factory=dict)
    entries: dict[tuple[int, int], Floats] = field(default_factory=dict)
    kept: dict[tuple[int, int, str], Floats] = field(default_factory=dict)
    embedding: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    head: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    weight_bytes: float = 0.0

    @property
    def number(self) -> int:
        return self.plan.rank

    @property
    def case(self) -> Case:
        return self.scaled.case

    def heads(self, attention: Attention) -> PlanHeads:
        """The heads of this kind of layer that the plan gives the rank."""
        name = next(kind for kind, known, _ in self.scaled.model.attention_kinds if known == attention)
        return self.plan if name == spoken_of_first(self.scaled.model)[0] else self.plan.other_heads[name]

    def load(self, world: World) -> None:
        """Take from the whole model what the plan says, and count it."""
        for layer in self.scaled.stages[self.plan.stage]:
            self.weights[layer] = self._slices(layer, world.layers[layer])
        rows = self.scaled.vocabulary.scaled(self.plan.vocabulary)
        first, last = self.plan.stage == 0, self.plan.stage == self.scaled.layout.pp - 1
        tables = int(first) + int(last)
        if first and last and self.scaled.model.tied_embedding:
            tables = 1
        self.embedding, self.head = world.embedding[rows], world.head[:, rows]
        self.weight_bytes += tables * self.embedding.size * BYTES_PER_ELEMENT["bf16"]

    def prefill(self, world: World, layer: int, micro_batch: int, requests: Ints) -> None:
        """The prefilled tokens of these requests whose blocks are the rank's, of its KV heads; of a window all that it holds."""
        attention = next(group.attention for group in self.scaled.model.groups if layer in group.layers)
        if attention is None:
            return
        held = self.heads(attention)
        heads, kv_heads = slice(*held.query_heads), slice(*held.kv_heads)
        if isinstance(attention, RecurrentAttention):
            self.states[layer, micro_batch] = prefilled_state(world.prefill[layer]).of(requests, heads, kv_heads)
            return
        whole = world.prefill[layer]["kv"]
        positions = np.arange(whole.shape[1])
        if isinstance(attention, CompressedAttention):
            self._prefill_compressed(attention, world.prefill[layer], layer, micro_batch, requests)
        if attention.window is None:
            positions = positions[self.schedule.owner(positions) == self.index]
        else:
            positions = positions[-attention.window :]
        self.caches[layer, micro_batch] = whole[requests][:, positions][:, :, kv_heads]
        if "index" in world.prefill[layer]:
            self.index_keys[layer, micro_batch] = world.prefill[layer]["index"][requests]

    def _prefill_compressed(
        self, attention: CompressedAttention, prefill: Tensors, layer: int, micro_batch: int, requests: Ints
    ) -> None:
        """Entries of the rank's blocks, the indexer's keys of all, and the last tokens that its compressors keep."""
        for what, inputs in ((name.removesuffix(" inputs"), prefill[name][requests]) for name in prefill if "inputs" in name):
            tokens = inputs.shape[1]
            numbers = np.arange(attention.entries(tokens))
            if what == "entries":
                numbers = numbers[self.schedule.owner(numbers) == self.index]
            made = self.entries if what == "entries" else self.index_keys
            made[layer, micro_batch] = pooled_before(attention, inputs, numbers)
            self.kept[layer, micro_batch, what] = kept_at(attention, inputs, np.array([tokens]))[:, 0]

    @property
    def schedule(self) -> AppendSchedule:
        return AppendSchedule(self.scaled.layout.kvp, self.case.workload.kv_block_tokens)

    @property
    def cache_bytes(self) -> float:
        grown = sum(cache.size for caches in (self.caches, self.index_keys, self.entries) for cache in caches.values())
        kept = sum(kept.size for kept in self.kept.values()) * COMPRESSOR_BYTES
        kinds = [(attention, layers) for _, attention, layers in self.scaled.model.attention_kinds]
        states = [
            state.held_bytes(attention)
            for (layer, _), state in self.states.items()
            for attention, layers in kinds
            if layer in layers and isinstance(attention, RecurrentAttention)
        ]
        return grown * self.case.machine.kv_bytes + kept + sum(states)

    def _slices(self, layer: int, whole: Tensors) -> Tensors:
        group = next(group for group in self.scaled.model.groups if layer in group.layers)
        own = self._attention_slices(group.attention, whole) if group.attention is not None else {}
        own |= self._ffn_slices(group.ffn, whole) if group.ffn is not None else {}
        self.weight_bytes += sum(
            array.size * BYTES_PER_ELEMENT[self.case.precision.of(COMPONENT[part])] for part, array in own.items()
        )
        return own

    def _attention_slices(self, attention: Attention, whole: Tensors) -> Tensors:
        heads = self.heads(attention)
        queries, kv, outputs = (slice(*pair) for pair in (heads.query_heads, heads.kv_heads, heads.output_heads))
        if isinstance(attention, RecurrentAttention):
            by_head = dict.fromkeys(("value", "scalars", "gate", "gate_up", "decay_up"), queries) | {"query": kv, "key": kv}
            own = {name: whole[name][:, where] for name, where in by_head.items() if name in whole}
            own |= {name: whole[name] for name in ("gate_down", "decay_down") if name in whole}
            return own | {"out": whole["out"][outputs]}
        if isinstance(attention, CompressedAttention):
            shared = ("query_down", "kv_down", "compress", "index_query", "index_compress")
            own = {name: whole[name] for name in shared if name in whole}
            own |= {"query_up": whole["query_up"][:, queries], "out_down": whole["out_down"][outputs]}
            return own | {"out": whole["out"][slice(*self._output_groups(attention))]}
        if isinstance(attention, LatentAttention):
            lifted = queries if self.scaled.layout.exchange == "value" else outputs
            own = {"kv_down": whole["kv_down"], "query_up": whole["query_up"][:, queries], "key_up": whole["key_up"][queries]}
            own |= {"value_up": whole["value_up"][lifted]}
            own |= {name: whole[name] for name in ("query_down", "index_query", "index_key") if name in whole}
        else:
            own = {"query": whole["query"][:, queries], "key": whole["key"][:, kv], "value": whole["value"][:, kv]}
        if attention.output_gate:
            own["gate"] = whole["gate"][:, outputs]
        return own | {"out": whole["out"][outputs]}

    def _ffn_slices(self, ffn: FFN, whole: Tensors) -> Tensors:
        if self.plan.tpf is None:
            return {}
        name = next(kind for kind, known, _ in self.scaled.model.ffn_kinds if known == ffn)
        columns = self.scaled.ffn_cuts[name].scaled(self.plan.ffn_columns[name])
        if not isinstance(ffn, MoE):
            return {"dense_in": whole["dense_in"][..., columns], "dense_out": whole["dense_out"][columns]}
        experts = slice(*self.plan.experts)
        own: Tensors = {name: whole[name] for name in ("router", "latent_in", "latent_out") if name in whole}
        own |= {"expert_in": whole["expert_in"][experts, ..., columns], "expert_out": whole["expert_out"][experts, columns]}
        if ffn.shared_width:
            columns = self.scaled.shared_cuts[name].scaled(self.plan.shared_columns[name])
            own |= {"shared_in": whole["shared_in"][..., columns], "shared_out": whole["shared_out"][columns]}
        return own

    # what a GPU does, counted from the arrays it touches

    def multiply(self, phase: str, kind: str, x: Floats, matrix: Floats, component: str, *, read: bool = True) -> Floats:
        """``x`` (rows, k) times ``matrix`` (k, ...), as one GEMM. ``read`` off: the weights are in the cache already."""
        flat = matrix.reshape(matrix.shape[0], int(np.prod(matrix.shape[1:])))
        out = x @ flat
        self._count(phase, kind, flat, x.size + out.size, 2.0 * x.shape[0] * flat.size, component, read)
        return np.asarray(out.reshape(len(x), *matrix.shape[1:]))

    def multiply_heads(self, phase: str, kind: str, x: Floats, matrices: Floats, *, read: bool = True) -> Floats:
        """``x`` (rows, heads, k) times a matrix a head (heads, k, n), as one batched GEMM."""
        out = np.einsum("bhk,hkn->bhn", x, matrices)
        self._count(phase, kind, matrices, x.size + out.size, 2.0 * len(x) * matrices.size, "attention", read)
        return np.asarray(out)

    def _count(self, phase: str, kind: str, weights: Floats, activations: int, flops: float, component: str, read: bool) -> None:
        stored = weights.size * BYTES_PER_ELEMENT[self.case.precision.of(component)] if read else 0.0
        self.ledger.add(phase, kind, self.number, stored=stored, other=activations * ACTIVATION_BYTES, flops=flops)

    def advance(self, attention: RecurrentAttention, kind: str, layer: int, micro_batch: int, x: Floats) -> Floats:
        """A recurrent layer's step: this rank's heads.  -> (requests, heads, value_dim)"""
        own, phase = self.weights[layer], "attention.qkv"
        full = ("query", "key", "value", "scalars", *(("gate",) if attention.gate_rank is None else ()))
        shapes = [own[name].shape[1:] for name in full]
        whole = np.concatenate([own[name].reshape(len(own[name]), -1) for name in full], axis=1)
        parts = np.split(self.multiply(phase, kind, x, whole, "attention"), np.cumsum([a * b for a, b in shapes])[:-1], axis=1)
        query, key, value, scalars, *gates = (part.reshape(len(x), *shape) for part, shape in zip(parts, shapes, strict=True))
        gate = gates[0] if gates else self._low_rank(kind, x, own["gate_down"], own["gate_up"])
        decay = self._low_rank(kind, x, own["decay_down"], own["decay_up"]) if "decay_up" in own else None
        before, first = self.states[layer, micro_batch], self.heads(attention).query_heads[0]
        after, heads = advanced(attention, before, (query, key, value), scalars, decay, first)
        self.states[layer, micro_batch] = after
        self.ledger.add(
            "attention.core",
            kind,
            self.number,
            stored=before.held_bytes(attention) + after.held_bytes(attention),
            other=(query.size + key.size + value.size + heads.size) * ACTIVATION_BYTES,
            flops=2.0 * (3 if attention.delta else 2) * after.states.size,
        )
        return np.asarray(heads * gate * sigmoid(gate))

    def _low_rank(self, kind: str, x: Floats, down: Floats, up: Floats) -> Floats:
        low = self.multiply("attention.qkv", kind, x, down, "attention")
        return self.multiply("attention.qkv", kind, low, up, "attention")

    def output(self, attention: Attention, kind: str, layer: int, heads: Floats) -> Floats:
        """What the heads that the rank has after the exchange add to the layer's output.  -> (requests, H), a partial sum"""
        out = self.weights[layer]["out"]
        if isinstance(attention, CompressedAttention):
            heads = self._grouped_output(attention, kind, layer, heads)
        rows = heads.reshape(len(heads), out.shape[0] * out.shape[1])
        return self.multiply("attention.out", kind, rows, out.reshape(rows.shape[1], out.shape[2]), "attention")

    def _output_groups(self, attention: CompressedAttention) -> tuple[int, int]:
        """Of the output's groups those that the rank has heads of, a half-open range."""
        each, (start, end) = attention.query_heads // attention.output_groups, self.heads(attention).output_heads
        return start // each, (end - 1) // each + 1

    def _grouped_output(self, attention: CompressedAttention, kind: str, layer: int, heads: Floats) -> Floats:
        """Each group's heads projected together, those that are here.  -> (requests, groups, output_rank), partial sums"""
        each, start = attention.query_heads // attention.output_groups, self.heads(attention).output_heads[0]
        first, last = self._output_groups(attention)
        matrices = self.weights[layer]["out_down"]
        low = np.zeros((len(heads), last - first, attention.output_rank))
        for head, matrix in enumerate(matrices):
            low[:, (start + head) // each - first] += heads[:, head] @ matrix
        self._count("attention.out", kind, matrices, heads.size + low.size, 2.0 * len(heads) * matrices.size, "attention", True)
        return low

    def swiglu(self, phase: str, kind: str, x: Floats, name: str) -> Floats:
        """This rank's columns of a SwiGLU: a partial sum of the layer's output."""
        into, out = self.weights[self.ledger.layer][f"{name}_in"], self.weights[self.ledger.layer][f"{name}_out"]
        both = self.multiply(phase, kind, x, into, name)
        return self.multiply(phase, kind, activated(both), out, name)

    def expert(self, kind: str, x: Floats, expert: int) -> Floats:
        """One routed expert's columns for its tokens (rows, H), which has to be held here."""
        start, end = self.plan.experts
        if not start <= expert < end:
            raise WrongLayout(f"rank {self.number}: experts are {start}..{end - 1}, and tokens came for expert {expert}")
        weights = self.weights[self.ledger.layer]
        into, out = weights["expert_in"][expert - start], weights["expert_out"][expert - start]
        both = np.tensordot(x, into, axes=([1], [0]))
        y = activated(both) @ out
        inner = both.shape[-1]
        stored = (into.size + out.size) * BYTES_PER_ELEMENT[self.case.precision.experts]
        moved = len(x) * (2 * x.shape[1] + (both.shape[1] + 1) * inner) * ACTIVATION_BYTES
        flops = 2.0 * len(x) * (into.size + out.size)
        self.ledger.add("ffn.experts", kind, self.number, stored=stored, other=moved, flops=flops)
        return np.asarray(y)

    def read_heads(self, attention: GroupedQueryAttention, heads: PlanHeads) -> list[int]:
        """Which of the KV heads held here each query head reads. Raises WrongLayout where one is not held."""
        each = attention.query_heads // attention.kv_heads
        wanted = [head // each for head in range(*heads.query_heads)]
        start, end = heads.kv_heads
        for head, kv in zip(range(*heads.query_heads), wanted, strict=True):
            if not start <= kv < end:
                raise WrongLayout(
                    f"rank {self.number}: query head {head} reads KV head {kv}, but kv_heads are {start}..{end - 1}"
                )
        return [kv - start for kv in wanted]


COMPONENT = {
    **dict.fromkeys(("kv_down", "query_down", "query_up", "key_up", "value_up", "query", "key", "value", "out"), "attention"),
    **dict.fromkeys(
        ("index_query", "index_key", "gate", "gate_down", "gate_up", "decay_down", "decay_up", "scalars"), "attention"
    ),
    "out_down": "attention",
    **dict.fromkeys(("compress", "index_compress"), "compressor"),
    **dict.fromkeys(("latent_in", "latent_out"), "shared"),
    **dict.fromkeys(("dense_in", "dense_out"), "dense"),
    **dict.fromkeys(("shared_in", "shared_out"), "shared"),
    **dict.fromkeys(("expert_in", "expert_out"), "experts"),
    "router": "router",
}
