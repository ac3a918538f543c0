"""The attention half of a layer on emulated ranks: projections, local shards, the exchange in chunks, the merge (Helix 2.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from helixplan.evidence.emulation import mathematics
from helixplan.evidence.emulation.ranks import Rank, WrongLayout
from helixplan.inputs.model import Attention, GroupedQueryAttention, LatentAttention
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.numeric import Floats

LSE_BYTES = 4.0
Merge = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Partial:
    """What one rank has of one chunk: outputs (requests, heads, width) and log-sum-exps (requests, heads) of its query heads."""

    outputs: Floats
    lse: Floats


@dataclass
class AttentionHalf:
    """One attention group's ranks at one layer and position. ``x`` the group's hidden states, normed, the same on every rank."""

    ranks: list[Rank]
    exchanges: dict[int, list[int]]
    """Each rank's exchange group, itself included."""
    attention: Attention
    kind: str
    layer: int
    micro_batch: int
    position: int
    chunks: int
    value_exchange: bool
    merge: Merge = mathematics.merged

    def heads(self, x: Floats) -> dict[int, Floats]:
        """Every rank's output heads, merged.  -> {rank: (requests, output heads, value width)}"""
        queries = {}
        for rank in self.ranks:
            project = self._latent if isinstance(self.attention, LatentAttention) else self._grouped
            queries[rank.number], entry = project(rank, x)
            self._append(rank, entry)
        size = -(-len(x) // self.chunks)
        chunks = [slice(start, min(start + size, len(x))) for start in range(0, len(x), size)]
        done: list[dict[int, Floats]] = []
        under_way: dict[int, Partial] | None = None
        # HOP-B: a chunk's exchange ends only after the next chunk's attention has begun.
        for index, chunk in enumerate(chunks):
            partials = {
                rank.number: self._core(rank, queries[rank.number][chunk], chunk, first=index == 0) for rank in self.ranks
            }
            if under_way is not None:
                done.append(self._exchanged(under_way))
            under_way = partials
        if under_way is not None:
            done.append(self._exchanged(under_way))
        return {rank.number: self._lifted(rank, np.concatenate([part[rank.number] for part in done])) for rank in self.ranks}

    def _split(self) -> bool:
        """Whether this kind of layer's cache is split along the sequence."""
        return self.attention.window is None

    def _append(self, rank: Rank, entry: Floats) -> None:
        """The new token's keys and values, kept by the owner of its block; by every rank where a window is held whole."""
        cache = rank.caches[self.layer, self.micro_batch]
        if not self._split() or rank.schedule.owner(self.position) == rank.index:
            cache = np.concatenate([cache, entry[:, None]], axis=1)
        if self.attention.window is not None:
            cache = cache[:, -self.attention.window :]
        rank.caches[self.layer, self.micro_batch] = cache

    def _grouped(self, rank: Rank, x: Floats) -> tuple[Floats, Floats]:
        """(queries (b, heads, d), cache entry (b, KV heads, 2 d)): one GEMM on every KVP rank, for all its heads."""
        own = rank.weights[self.layer]
        whole = np.concatenate([own["query"], own["key"], own["value"]], axis=1)
        out = rank.multiply("attention.qkv", self.kind, x, whole, "attention")
        ends = np.cumsum([own["query"].shape[1], own["key"].shape[1]])
        query, key, value = np.split(out, ends, axis=1)
        query, key = (mathematics.rotated(part, self.position) for part in (query, key))
        return query, np.concatenate([key, value], axis=-1)

    def _latent(self, rank: Rank, x: Floats) -> tuple[Floats, Floats]:
        """(absorbed queries (b, heads, r_kv + d_rope), cache entry (b, 1, r_kv + d_rope))"""
        attention, own = self.attention, rank.weights[self.layer]
        assert isinstance(attention, LatentAttention)
        down = own["kv_down"]
        if "query_down" in own:
            down = np.concatenate([own["query_down"], down], axis=1)
        both = rank.multiply("attention.qkv", self.kind, x, down, "attention")
        low = both[:, : attention.query_rank] if attention.query_rank else x
        latent = both[:, attention.query_rank or 0 :]
        query = rank.multiply("attention.qkv", self.kind, low, own["query_up"], "attention")
        nope = rank.multiply_heads("attention.qkv", self.kind, query[..., : attention.nope_dim], own["key_up"])
        rope = mathematics.rotated(query[..., attention.nope_dim :], self.position)
        key = mathematics.rotated(latent[:, attention.kv_rank :], self.position)
        entry = np.concatenate([latent[:, : attention.kv_rank], key], axis=-1)[:, None]
        return np.concatenate([nope, rope], axis=-1), entry

    def _core(self, rank: Rank, query: Floats, chunk: slice, *, first: bool) -> Partial:
        """Attention of one chunk of requests over the rank's shard."""
        cache, attention = rank.caches[self.layer, self.micro_batch][chunk], self.attention
        if isinstance(attention, LatentAttention):
            keys, values = cache.transpose(0, 2, 1, 3), cache[..., : attention.kv_rank].transpose(0, 2, 1, 3)
            scores = (query @ keys[:, 0].transpose(0, 2, 1)) / np.sqrt(attention.nope_dim + attention.rope_dim)
            width = attention.kv_rank
            operations = 2.0 * query.shape[1] * cache.shape[1] * (query.shape[-1] + width)
        else:
            assert isinstance(attention, GroupedQueryAttention)
            read = rank.read_heads(attention, rank.heads(attention))
            by_head = cache[:, :, read].transpose(0, 2, 1, 3)
            keys, values = by_head[..., : attention.head_dim], by_head[..., attention.head_dim :]
            scores = (query[:, :, None] @ keys.transpose(0, 1, 3, 2))[:, :, 0] / np.sqrt(attention.head_dim)
            width = attention.head_dim
            operations = 2.0 * query.shape[1] * cache.shape[1] * (query.shape[-1] + width)
        outputs, lse = mathematics.partial_attention(scores, values)
        rank.ledger.add(
            "attention.core",
            self.kind,
            rank.number,
            stored=cache.size * rank.case.machine.kv_bytes,
            other=(query.size + outputs.size) * ACTIVATION_BYTES,
            flops=len(query) * operations,
        )
        if self.value_exchange and isinstance(attention, LatentAttention):
            # The weights stay in the cache between chunks, so they are read once.
            outputs = rank.multiply_heads(
                "attention.value_up", self.kind, outputs, rank.weights[self.layer]["value_up"], read=first
            )
        return Partial(outputs, lse)

    def _exchanged(self, partials: dict[int, Partial]) -> dict[int, Floats]:
        """The all-to-all of one chunk and the merge: each rank ends with its own output heads."""
        if not self._split() or all(len(group) == 1 for group in self.exchanges.values()):
            return {number: partial.outputs for number, partial in partials.items()}
        ranks = {rank.number: rank for rank in self.ranks}
        inbox: dict[int, list[Partial]] = {number: [] for number in ranks}
        for sender in self.ranks:
            partial, start = partials[sender.number], sender.heads(self.attention).query_heads[0]
            sent = 0.0
            for number in self.exchanges[sender.number]:
                receiver = ranks.get(number)
                if receiver is None:
                    raise WrongLayout(f"rank {sender.number}: attention_exchange names rank {number} of another attention group")
                wanted = receiver.heads(self.attention).output_heads
                where = slice(wanted[0] - start, wanted[1] - start)
                part = Partial(partial.outputs[:, where], partial.lse[:, where])
                if where.start < 0 or part.lse.shape[1] != wanted[1] - wanted[0]:
                    raise WrongLayout(
                        f"rank {number}: output_heads {wanted[0]}..{wanted[1] - 1} are not among the query heads that rank "
                        f"{sender.number} of its attention_exchange group computes"
                    )
                inbox[number].append(part)
                if number != sender.number:
                    sent += part.outputs.size * ACTIVATION_BYTES + part.lse.size * LSE_BYTES
            sender.ledger.add("attention.exchange", self.kind, sender.number, wire=sent)
        return {number: self._merged(ranks[number], parts) for number, parts in inbox.items()}

    def _merged(self, rank: Rank, parts: list[Partial]) -> Floats:
        outputs, lse = np.stack([part.outputs for part in parts]), np.stack([part.lse for part in parts])
        whole = self.merge(outputs, lse)
        moved = (outputs.size + whole.size) * ACTIVATION_BYTES + lse.size * LSE_BYTES
        rank.ledger.add("attention.merge", self.kind, rank.number, other=moved)
        return whole

    def _lifted(self, rank: Rank, heads: Floats) -> Floats:
        """MLA's latent outputs as values, where that is done after the merge."""
        if self.value_exchange or not isinstance(self.attention, LatentAttention):
            return heads
        return rank.multiply_heads("attention.value_up", self.kind, heads, rank.weights[self.layer]["value_up"])
