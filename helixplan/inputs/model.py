"""A model as the planner sees it: layers of attention and FFN, their GEMMs, parameters and KV cache.

Shapes follow Helix (arXiv 2507.07120) 2.1-2.2; latent attention (MLA) is the absorbed decode form of DeepSeek-V2
(arXiv 2405.04434) 2.1, its indexer DeepSeek-V3.2's (arXiv 2512.02556) 2.1; recurrent layers are Gated DeltaNet
(arXiv 2412.06464), Kimi Delta Attention (arXiv 2510.26692) and Mamba-2 (arXiv 2405.21060); attention over compressed tokens is
DeepSeek-V4's (its report, 2.3: https://huggingface.co/deepseek-ai/DeepSeek-V4-Pro/blob/main/DeepSeek_V4.pdf). Norms, biases,
short convolutions and what mixes residual streams are left out of every count: under 0.1 % of any bundled model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

from helixplan.inputs.workload import ACTIVATION_BYTES, BYTES_PER_ELEMENT
from helixplan.numeric import Amount, ceil_div

Part = TypeVar("Part")
COMPRESSOR_BYTES = 4
"""A number of what compressors keep of the last tokens: fp32, as the releases' inference code and vLLM have it."""


@dataclass(frozen=True)
class Gemm:
    """One weight matrix of a GPU (or ``heads`` of them, batched): ``k`` inputs to ``n`` outputs, charged to ``phase``.

    Sizes are whole numbers or arrays of them, one entry a layout.
    """

    phase: str
    k: Amount
    n: Amount
    heads: Amount = 1
    component: str = "attention"

    @property
    def elements(self) -> Amount:
        return self.heads * self.k * self.n


@dataclass(frozen=True)
class GroupedQueryAttention:
    """GQA; MHA where ``kv_heads`` equals ``query_heads``, MQA where it is 1. With a ``window``, only that many tokens count."""

    query_heads: int
    kv_heads: int
    head_dim: int
    window: int | None = None
    output_gate: bool = False
    """Whether a gate as wide as the heads' output multiplies it: one more projection, of the heads held after the exchange."""

    def gemms(self, hidden: int, query_heads: Amount, kv_heads: Amount, output_heads: Amount, up_heads: Amount) -> list[Gemm]:
        """The projections of a GPU that holds so many heads. ``up_heads`` concerns only MLA."""
        gate = [Gemm("attention.qkv", hidden, output_heads * self.head_dim)] if self.output_gate else []
        return [
            Gemm("attention.qkv", hidden, (query_heads + 2 * kv_heads) * self.head_dim),
            *gate,
            Gemm("attention.out", output_heads * self.head_dim, hidden),
        ]

    @property
    def split_by_kvp(self) -> bool:
        """Whether the cache grows with the context, so that KVP ranks split it; else heads are spread over all of them."""
        return self.window is None

    @property
    def kv_elements_per_head(self) -> int:
        """Of one token and one KV head: a key and a value."""
        return 2 * self.head_dim

    @property
    def output_dim(self) -> int:
        """Width of a head's partial output in the exchange."""
        return self.head_dim


@dataclass(frozen=True)
class Indexer:
    """Sparse attention's choice of the ``top_k`` tokens that are read: small queries of ``heads`` against one key a token.

    Every rank of an attention group scores every token: the choice is of the whole context, whatever a rank's shard holds. Where
    tokens are compressed the choice is among the cached entries.
    """

    heads: int
    head_dim: int
    top_k: int

    def gemms(self, hidden: int, query_width: int) -> list[Gemm]:
        """Queries (from what MLA's own queries come from), the token's key, and each head's weight."""
        return [
            Gemm("attention.index", query_width, self.heads * self.head_dim),
            Gemm("attention.index", hidden, self.head_dim + self.heads),
        ]


@dataclass(frozen=True)
class LatentAttention:
    """MLA: every query head reads the one latent vector of a token, so for sharding there is one KV head."""

    query_heads: int
    query_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    output_gate: bool = False
    indexer: Indexer | None = None

    kv_heads: int = field(default=1, init=False)
    window: None = field(default=None, init=False)
    split_by_kvp: bool = field(default=True, init=False)

    def gemms(self, hidden: int, query_heads: Amount, kv_heads: Amount, output_heads: Amount, up_heads: Amount) -> list[Gemm]:
        """The projections of a GPU; ``up_heads`` are the heads whose latent output it lifts to values."""
        down = (self.query_rank or 0) + self.kv_rank + self.rope_dim
        gate = [Gemm("attention.qkv", hidden, output_heads * self.value_dim)] if self.output_gate else []
        index = self.indexer.gemms(hidden, self.query_rank or hidden) if self.indexer else []
        return [
            *index,
            *gate,
            Gemm("attention.qkv", hidden, down),
            Gemm("attention.qkv", self.query_rank or hidden, query_heads * (self.nope_dim + self.rope_dim)),
            Gemm("attention.qkv", self.nope_dim, self.kv_rank, heads=query_heads),
            Gemm("attention.value_up", self.kv_rank, self.value_dim, heads=up_heads),
            Gemm("attention.out", output_heads * self.value_dim, hidden),
        ]

    @property
    def kv_elements_per_head(self) -> int:
        """Of one token: its latent and its rotary key."""
        return self.kv_rank + self.rope_dim

    @property
    def output_dim(self) -> int:
        """Width of a head's partial output in the latent exchange."""
        return self.kv_rank


@dataclass(frozen=True)
class RecurrentAttention:
    """Linear attention or a state-space layer: each head keeps a state of key_dim x value_dim, whatever the context.

    ``query_heads`` have a state each; groups of them share one of ``kv_heads`` keys and queries (Mamba: B and C). A short
    convolution keeps the last inputs of every channel. Heads are spread over the whole attention group.
    """

    query_heads: int
    kv_heads: int
    key_dim: int
    value_dim: int
    convolution: int
    """Tokens that the short convolution spans."""
    scalars: int = 1
    """Projected numbers a head: the step size, the decay."""
    delta: bool = True
    """Whether what the state already says of a key is taken out first (the delta rule), which reads the state once more."""
    decay_rank: int | None = None
    """The decay of every key channel, by a projection of this rank (Kimi Delta Attention); None: one of the scalars."""
    gate_rank: int | None = None
    """The rank of the output gate's projection; None: a full one."""
    state_bytes: int = 4
    """An element of the state; the convolution's inputs are activations."""

    window: None = field(default=None, init=False)
    output_dim: int = field(default=0, init=False)
    split_by_kvp: bool = field(default=False, init=False)

    def gemms(self, hidden: int, query_heads: Amount, kv_heads: Amount, output_heads: Amount, up_heads: Amount) -> list[Gemm]:
        """The projections of a GPU that holds so many heads; nothing is exchanged, so ``output_heads`` are its query heads."""
        gate = query_heads * self.value_dim
        columns = 2 * kv_heads * self.key_dim + query_heads * (self.value_dim + self.scalars)
        gemms = [Gemm("attention.qkv", hidden, columns + (gate if self.gate_rank is None else 0))]
        if self.gate_rank is not None:
            gemms += [Gemm("attention.qkv", hidden, self.gate_rank), Gemm("attention.qkv", self.gate_rank, gate)]
        if self.decay_rank is not None:
            decay = query_heads * self.key_dim
            gemms += [Gemm("attention.qkv", hidden, self.decay_rank), Gemm("attention.qkv", self.decay_rank, decay)]
        return [*gemms, Gemm("attention.out", output_heads * self.value_dim, hidden)]

    def held_bytes(self, query_heads: Amount, kv_heads: Amount) -> Amount:
        """Of one request on a GPU that holds so many heads: states, and the convolution's inputs."""
        states = query_heads * self.key_dim * self.value_dim * self.state_bytes
        channels = 2 * kv_heads * self.key_dim + query_heads * self.value_dim
        return states + (self.convolution - 1) * channels * ACTIVATION_BYTES

    kv_elements_per_head: int = field(default=0, init=False)
    """Nothing grows with the context."""


@dataclass(frozen=True)
class CompressedAttention:
    """DeepSeek-V4's attention: every query head reads the last ``window`` tokens and, of what came before, compressed entries.

    Each ``ratio`` tokens become one cached entry, a vector that is key and value at once, so for sharding there is one KV head.
    An ``indexer`` picks those that are read (CSA); without one all are (HCA). ``ratio`` 1: no entries, a window alone, and heads
    spread over the whole attention group. Entries are dealt over KVP ranks; the window, what compressors keep and the indexer's
    keys are on every rank, and one KVP rank of each group attends to the window.
    """

    query_heads: int
    query_rank: int
    head_dim: int
    window: int
    output_groups: int
    """Query heads of a group are projected together to ``output_rank``, and all groups' from there to the hidden size."""
    output_rank: int
    ratio: int = 1
    indexer: Indexer | None = None

    kv_heads: int = field(default=1, init=False)
    output_gate: bool = field(default=False, init=False)

    @property
    def split_by_kvp(self) -> bool:
        """Whether there are entries, so that KVP ranks split them."""
        return self.ratio > 1

    @property
    def spans(self) -> int:
        """Runs of ``ratio`` tokens that an entry is made of: with an indexer they overlap, its own and the one before."""
        return 2 if self.indexer else 1

    def entries(self, tokens: int) -> int:
        """That so many tokens have become: one appears with the last of its tokens."""
        return tokens // self.ratio if self.split_by_kvp else 0

    def gemms(self, hidden: int, query_heads: Amount, kv_heads: Amount, output_heads: Amount, up_heads: Amount) -> list[Gemm]:
        """The projections of a GPU: a token's own entry, the compressors' values and gates, queries, and the output in two."""
        groups = ceil_div(output_heads, self.query_heads // self.output_groups)
        made = Gemm("attention.qkv", hidden, self.projected(self.head_dim), component="compressor")
        return [
            *self._index_gemms(hidden),
            Gemm("attention.qkv", hidden, self.query_rank + self.head_dim),
            *([made] if self.split_by_kvp else []),
            Gemm("attention.qkv", self.query_rank, query_heads * self.head_dim),
            Gemm("attention.out", output_heads * self.head_dim / groups, self.output_rank, heads=groups),
            Gemm("attention.out", groups * self.output_rank, hidden),
        ]

    def _index_gemms(self, hidden: int) -> list[Gemm]:
        """The indexer's queries, and in one its compressor's values and gates and each head's weight."""
        if self.indexer is None:
            return []
        index = self.indexer
        columns = self.projected(index.head_dim) + index.heads
        return [
            Gemm("attention.index", self.query_rank, index.heads * index.head_dim),
            Gemm("attention.index", hidden, columns, component="compressor"),
        ]

    def projected(self, width: int) -> int:
        """Numbers that a compressor to entries of ``width`` wants of a token: values and gates, for each entry it is part of."""
        return 2 * self.spans * width

    @property
    def compressors(self) -> tuple[int, ...]:
        """The widths of what is made of tokens: entries, and the indexer's keys."""
        widths = (self.head_dim, self.indexer.head_dim) if self.indexer else (self.head_dim,)
        return widths if self.split_by_kvp else ()

    @property
    def state_bytes(self) -> int:
        """What every GPU keeps of a request's last tokens until they are entries: values and gates in fp32."""
        return sum(self.spans * self.ratio * self.projected(width) * COMPRESSOR_BYTES for width in self.compressors)

    @property
    def kv_elements_per_head(self) -> int:
        """Of one entry, or of one token in the window: key and value are the same vector."""
        return self.head_dim

    @property
    def output_dim(self) -> int:
        """Width of a head's partial output in the exchange."""
        return self.head_dim


Attention = GroupedQueryAttention | LatentAttention | RecurrentAttention | CompressedAttention
Attending = GroupedQueryAttention | LatentAttention | CompressedAttention
"""Kinds that read a cache."""


@dataclass(frozen=True)
class DenseFFN:
    """SwiGLU: gate and up projections to ``width``, and down again; without the gate where it is not ``gated``."""

    width: int
    gated: bool = True

    def gemms(self, hidden: int, tp: Amount, phase: str = "ffn.dense", component: str = "dense") -> list[Gemm]:
        """The slice of one of ``tp`` GPUs; widths that do not divide are padded."""
        share = ceil_div(self.width, tp)
        return [
            Gemm(phase, hidden, (2 if self.gated else 1) * share, component=component),
            Gemm(phase, share, hidden, component=component),
        ]


@dataclass(frozen=True)
class Expert:
    """A slice of one SwiGLU expert: ``width`` columns of two matrices in (one, where it is not ``gated``) and one out."""

    hidden: Amount
    width: Amount
    gated: bool = True

    @property
    def matrices(self) -> int:
        return 3 if self.gated else 2

    @property
    def elements(self) -> Amount:
        return self.matrices * self.hidden * self.width


@dataclass(frozen=True)
class MoE:
    """``experts_per_token`` of ``experts`` routed SwiGLU experts, and a shared expert of ``shared_width`` (0: none).

    With a ``latent`` width routed experts see tokens of that width: projected down before them and their weighted sum up after,
    both on every rank (LatentMoE, arXiv 2601.18089).
    """

    experts: int
    experts_per_token: int
    width: int
    shared_width: int = 0
    gated: bool = True
    latent: int | None = None

    @property
    def shared(self) -> DenseFFN | None:
        return DenseFFN(self.shared_width, self.gated) if self.shared_width else None

    def router(self, hidden: int) -> Gemm:
        return Gemm("ffn.router", hidden, self.experts, component="router")

    def expert(self, hidden: int, tpf: Amount) -> Expert:
        """One expert on a GPU that holds a ``tpf``-th of it."""
        return Expert(self.token_width(hidden), ceil_div(self.width, tpf), self.gated)

    def token_width(self, hidden: int) -> int:
        """How wide the tokens are that experts see."""
        return self.latent or hidden

    def projections(self, hidden: int) -> list[Gemm]:
        """Down to the latent width and up again, where there is one."""
        if self.latent is None:
            return []
        sizes = ((hidden, self.latent), (self.latent, hidden))
        return [Gemm("ffn.latent", k, n, component="shared") for k, n in sizes]


FFN = DenseFFN | MoE


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are alike, by their indices. Either half may be missing, as in Nemotron-H."""

    name: str
    attention: Attention | None
    ffn: FFN | None
    layers: tuple[int, ...]

    def kv_bytes_per_token(self, dtype: str = "bf16") -> float:
        """Bytes a request's cache grows by with each token in these layers: nothing under a window or where there is a state."""
        if self.attention is None or not self.attention.split_by_kvp:
            return 0.0
        elements = self.attention.kv_heads * self.attention.kv_elements_per_head
        if isinstance(self.attention, (LatentAttention, CompressedAttention)) and self.attention.indexer is not None:
            elements += self.attention.indexer.head_dim
        held = elements * len(self.layers) * BYTES_PER_ELEMENT[dtype]
        return held / self.attention.ratio if isinstance(self.attention, CompressedAttention) else held


@dataclass(frozen=True)
class WeightPrecision:
    """The dtype of each component's weights. Router, compressors, embedding and head stay bf16."""

    attention: str = "bf16"
    dense: str = "bf16"
    experts: str = "bf16"
    shared: str = "bf16"
    router: str = field(default="bf16", init=False)
    compressor: str = field(default="bf16", init=False)

    def of(self, component: str) -> str:
        return str(getattr(self, component))

    def override(self, dtype: str | None) -> WeightPrecision:
        return self if dtype is None else WeightPrecision(dtype, dtype, dtype, dtype)


@dataclass(frozen=True)
class Model:
    """All that the cost model needs to know of a model."""

    name: str
    hidden: int
    vocabulary: int
    tied_embedding: bool
    groups: tuple[LayerGroup, ...]
    max_context: int | None = None
    precision: WeightPrecision = WeightPrecision()
    streams: int = 1
    """Residual streams that hyper-connections mix before and after every half of a layer; 1: a plain residual."""

    @cached_property
    def layers(self) -> int:
        return sum(len(group.layers) for group in self.groups)

    @cached_property
    def attention_kinds(self) -> tuple[tuple[str, Attention, tuple[int, ...]], ...]:
        """Each distinct attention, a name for it, and the layers that have it."""
        return _merged((g.name, g.attention, g.layers) for g in self.groups if g.attention is not None)

    @cached_property
    def ffn_kinds(self) -> tuple[tuple[str, FFN, tuple[int, ...]], ...]:
        """Each distinct FFN, a name for it, and the layers that have it."""
        return _merged((g.name, g.ffn, g.layers) for g in self.groups if g.ffn is not None)

    @cached_property
    def query_heads(self) -> int:
        """Every attention group divides this many heads."""
        return math.gcd(*(attention.query_heads for _, attention, _ in self.attention_kinds))

    @cached_property
    def halves(self) -> int:
        """Attention and FFN halves of all layers: two a layer, but where layers have only one."""
        return sum(len(layers) for _, _, layers in (*self.attention_kinds, *self.ffn_kinds))

    @cached_property
    def kv_heads(self) -> int:
        """The KV heads that TPA may spread over: the fewest of any layer whose cache grows (all layers, if none grows)."""
        kinds = [attention for _, attention, _ in self.attention_kinds]
        growing = [attention for attention in kinds if attention.split_by_kvp]
        return min(attention.kv_heads for attention in growing or kinds)

    @cached_property
    def is_latent(self) -> bool:
        return any(isinstance(attention, LatentAttention) for _, attention, _ in self.attention_kinds)

    @cached_property
    def experts(self) -> int:
        """The fewest routed experts of any MoE layer; 0 for a dense model."""
        return min((ffn.experts for _, ffn, _ in self.ffn_kinds if isinstance(ffn, MoE)), default=0)

    @cached_property
    def parameters(self) -> int:
        """All weights, embedding and head included."""
        return self._body_parameters(active=False) + self.hidden * self.vocabulary * (1 if self.tied_embedding else 2)

    @cached_property
    def active_parameters(self) -> int:
        """Weights one token multiplies with: all but the embedding table, and of the routed experts only those it visits."""
        return self._body_parameters(active=True) + self.hidden * self.vocabulary

    def _body_parameters(self, *, active: bool) -> int:
        attention = sum(
            len(layers) * _elements(kind.gemms(self.hidden, kind.query_heads, kind.kv_heads, kind.query_heads, kind.query_heads))
            for _, kind, layers in self.attention_kinds
        )
        ffn = sum(len(layers) * self._ffn_parameters(kind, active=active) for _, kind, layers in self.ffn_kinds)
        return attention + ffn

    def _ffn_parameters(self, ffn: FFN, *, active: bool) -> int:
        if isinstance(ffn, DenseFFN):
            return _elements(ffn.gemms(self.hidden, 1))
        shared = ffn.shared.gemms(self.hidden, 1) if ffn.shared else []
        routed = (ffn.experts_per_token if active else ffn.experts) * int(ffn.expert(self.hidden, 1).elements)
        return routed + _elements([ffn.router(self.hidden), *ffn.projections(self.hidden), *shared])

    def kv_bytes_per_token(self, dtype: str = "bf16") -> float:
        """Bytes the whole cache of one request grows by with each token."""
        return sum(group.kv_bytes_per_token(dtype) for group in self.groups)

    @cached_property
    def sha256(self) -> str:
        """Of what the cost depends on: not of the name, the order of keys or where the file lies.

        What stands at its default is left out, so that a new kind of layer changes no other model's.
        """
        content = _stated(replace(self, name=""))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _elements(gemms: list[Gemm]) -> int:
    return sum(int(gemm.elements) for gemm in gemms)


def _stated(value: Any) -> Any:
    """What a dataclass says beyond its defaults, of what kind it is, and the same of all it holds."""
    if is_dataclass(value) and not isinstance(value, type):
        said = {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) != f.default}
        return {"kind": type(value).__name__} | {name: _stated(item) for name, item in said.items()}
    return [_stated(item) for item in value] if isinstance(value, tuple) else value


def _merged(parts: Iterator[tuple[str, Part, tuple[int, ...]]]) -> tuple[tuple[str, Part, tuple[int, ...]], ...]:
    kinds: dict[Part, tuple[str, tuple[int, ...]]] = {}
    for name, part, layers in parts:
        known_name, known_layers = kinds.get(part, ("", ()))
        kinds[part] = (f"{known_name}+{name}" if known_name else name, tuple(sorted(known_layers + layers)))
    return tuple((name, part, layers) for part, (name, layers) in kinds.items())
