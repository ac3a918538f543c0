"""A model as the planner sees it: layers of attention and FFN, their GEMMs, parameters and KV cache.

Shapes follow Helix (arXiv 2507.07120) 2.1-2.2; latent attention (MLA) is the absorbed decode form of DeepSeek-V2
(arXiv 2405.04434) 2.1. Norms and biases are left out of every count: under 0.1 % of any bundled model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from helixplan.inputs.workload import BYTES_PER_ELEMENT
from helixplan.numeric import Amount, ceil_div

Part = TypeVar("Part")


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

    def gemms(self, hidden: int, query_heads: Amount, kv_heads: Amount, output_heads: Amount, up_heads: Amount) -> list[Gemm]:
        """The projections of a GPU that holds so many heads. ``up_heads`` concerns only MLA."""
        return [
            Gemm("attention.qkv", hidden, (query_heads + 2 * kv_heads) * self.head_dim),
            Gemm("attention.out", output_heads * self.head_dim, hidden),
        ]

    @property
    def kv_elements_per_head(self) -> int:
        """Of one token and one KV head: a key and a value."""
        return 2 * self.head_dim

    @property
    def output_dim(self) -> int:
        """Width of a head's partial output in the exchange."""
        return self.head_dim


@dataclass(frozen=True)
class LatentAttention:
    """MLA: every query head reads the one latent vector of a token, so for sharding there is one KV head."""

    query_heads: int
    query_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int

    kv_heads: int = field(default=1, init=False)
    window: None = field(default=None, init=False)

    def gemms(self, hidden: int, query_heads: Amount, kv_heads: Amount, output_heads: Amount, up_heads: Amount) -> list[Gemm]:
        """The projections of a GPU; ``up_heads`` are the heads whose latent output it lifts to values."""
        down = (self.query_rank or 0) + self.kv_rank + self.rope_dim
        return [
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


Attention = GroupedQueryAttention | LatentAttention


@dataclass(frozen=True)
class DenseFFN:
    """SwiGLU: gate and up projections to ``width``, and down again."""

    width: int

    def gemms(self, hidden: int, tp: Amount, phase: str = "ffn.dense", component: str = "dense") -> list[Gemm]:
        """The slice of one of ``tp`` GPUs; widths that do not divide are padded."""
        share = ceil_div(self.width, tp)
        return [
            Gemm(phase, hidden, 2 * share, component=component),
            Gemm(phase, share, hidden, component=component),
        ]


@dataclass(frozen=True)
class Expert:
    """A slice of one SwiGLU expert: ``width`` columns of two matrices in and one out."""

    hidden: Amount
    width: Amount

    @property
    def elements(self) -> Amount:
        return 3 * self.hidden * self.width


@dataclass(frozen=True)
class MoE:
    """``experts_per_token`` of ``experts`` routed SwiGLU experts, and a shared expert of ``shared_width`` (0: none)."""

    experts: int
    experts_per_token: int
    width: int
    shared_width: int = 0

    @property
    def shared(self) -> DenseFFN | None:
        return DenseFFN(self.shared_width) if self.shared_width else None

    def router(self, hidden: int) -> Gemm:
        return Gemm("ffn.router", hidden, self.experts, component="router")

    def expert(self, hidden: int, tpf: Amount) -> Expert:
        """One expert on a GPU that holds a ``tpf``-th of it."""
        return Expert(hidden, ceil_div(self.width, tpf))


FFN = DenseFFN | MoE


@dataclass(frozen=True)
class LayerGroup:
    """Layers that are alike, by their indices."""

    name: str
    attention: Attention
    ffn: FFN
    layers: tuple[int, ...]

    def kv_bytes_per_token(self, dtype: str = "bf16") -> float:
        """Bytes a request's cache grows by with each token in these layers (those with a sliding window do not grow)."""
        if self.attention.window is not None:
            return 0.0
        elements = self.attention.kv_heads * self.attention.kv_elements_per_head * len(self.layers)
        return elements * BYTES_PER_ELEMENT[dtype]


@dataclass(frozen=True)
class WeightPrecision:
    """The dtype of each component's weights. Router, embedding and head stay bf16."""

    attention: str = "bf16"
    dense: str = "bf16"
    experts: str = "bf16"
    shared: str = "bf16"
    router: str = field(default="bf16", init=False)

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

    @cached_property
    def layers(self) -> int:
        return sum(len(group.layers) for group in self.groups)

    @cached_property
    def attention_kinds(self) -> tuple[tuple[str, Attention, tuple[int, ...]], ...]:
        """Each distinct attention, a name for it, and the layers that have it."""
        return _merged((g.name, g.attention, g.layers) for g in self.groups)

    @cached_property
    def ffn_kinds(self) -> tuple[tuple[str, FFN, tuple[int, ...]], ...]:
        """Each distinct FFN, a name for it, and the layers that have it."""
        return _merged((g.name, g.ffn, g.layers) for g in self.groups)

    @cached_property
    def query_heads(self) -> int:
        """Every attention group divides this many heads."""
        return self.groups[0].attention.query_heads

    @cached_property
    def kv_heads(self) -> int:
        """The KV heads that TPA may spread over: the fewest of any layer whose cache grows (all layers, if none grows)."""
        kinds = [attention for _, attention, _ in self.attention_kinds]
        growing = [attention for attention in kinds if attention.window is None]
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
        total = 0
        for group in self.groups:
            attention, ffn = group.attention, group.ffn
            heads = attention.query_heads
            gemms = attention.gemms(self.hidden, heads, attention.kv_heads, heads, heads)
            if isinstance(ffn, MoE):
                routed = ffn.experts_per_token if active else ffn.experts
                gemms.append(ffn.router(self.hidden))
                gemms += ffn.shared.gemms(self.hidden, 1) if ffn.shared else []
                experts = routed * int(ffn.expert(self.hidden, 1).elements)
            else:
                gemms += ffn.gemms(self.hidden, 1)
                experts = 0
            total += len(group.layers) * (experts + sum(int(gemm.elements) for gemm in gemms))
        return total

    def kv_bytes_per_token(self, dtype: str = "bf16") -> float:
        """Bytes the whole cache of one request grows by with each token."""
        return sum(group.kv_bytes_per_token(dtype) for group in self.groups)

    @cached_property
    def sha256(self) -> str:
        """Of what the cost depends on: not of the name, the order of keys or where the file lies."""
        content = asdict(replace(self, name=""))
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _merged(parts: Iterator[tuple[str, Part, tuple[int, ...]]]) -> tuple[tuple[str, Part, tuple[int, ...]], ...]:
    kinds: dict[Part, tuple[str, tuple[int, ...]]] = {}
    for name, part, layers in parts:
        known_name, known_layers = kinds.get(part, ("", ()))
        kinds[part] = (f"{known_name}+{name}" if known_name else name, tuple(sorted(known_layers + layers)))
    return tuple((name, part, layers) for part, (name, layers) in kinds.items())
