"""The attention half of a layer on emulated ranks: projections, local shards, the exchange in chunks, the merge (Helix 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from helixplan.cost.case import ALL_TO_ALL, GATHERED_REDUCE_SCATTER
from helixplan.cost.roofline import STATISTIC_BYTES
from helixplan.evidence.emulation import mathematics
from helixplan.evidence.emulation.ranks import Rank, WrongLayout
from helixplan.evidence.emulation.wires import Mail, bytes_of
from helixplan.inputs.model import Attending, GroupedQueryAttention, Indexer, LatentAttention
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.numeric import Floats, Ints

TOKEN_NUMBER_BYTES = 4.0
Merge = Callable[[Floats, Floats], Floats]


@dataclass(frozen=True)
class Partial:
    """What one rank has of one chunk: outputs (requests, heads, width) and statistics (requests, heads, 1 or 2) of its heads."""

    outputs: Floats
    statistics: Floats


@dataclass
class AttentionHalf:
    """One attention group's ranks at one layer and position. ``x`` the group's hidden states, normed, the same on every rank."""

    ranks: list[Rank]
    exchanges: dict[int, list[int]]
    """Each rank's exchange group, itself included."""
    attention: Attending
    kind: str
    layer: int
    micro_batch: int
    position: int
    chunks: int
    value_exchange: bool
    way: str = ALL_TO_ALL
    merge: Merge = mathematics.merged
    read: dict[int, Ints] = field(default_factory=dict)
    """Sparse attention: the positions that each rank's indexer chose.  -> (requests, top_k)"""

    def heads(self, x: Floats) -> dict[int, Floats]:
        """Every rank's output heads, merged.  -> {rank: (requests, output heads, value width)}"""
        queries = {rank.number: self._taken_in(rank, x) for rank in self.ranks}
        if self._gathers:
            queries = self._gathered(queries)
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
        lifted = {rank.number: self._lifted(rank, np.concatenate([part[rank.number] for part in done])) for rank in self.ranks}
        return {rank.number: self._gated(rank, x, lifted[rank.number]) for rank in self.ranks}

    def _taken_in(self, rank: Rank, x: Floats) -> Floats:
        """The new token put into the rank's cache.  -> the queries (b, heads, width) that it projects itself"""
        project = self._latent if isinstance(self.attention, LatentAttention) else self._grouped
        query, entry = project(rank, x, self._projected(rank))
        self._append(rank, entry)
        return query

    def _gated(self, rank: Rank, x: Floats, heads: Floats) -> Floats:
        """Where there is an output gate, of the heads that the rank has after the exchange."""
        if not self.attention.output_gate:
            return heads
        gate = rank.multiply("attention.qkv", self.kind, x, rank.weights[self.layer]["gate"], "attention")
        return heads * mathematics.sigmoid(gate)

    def _split(self) -> bool:
        """Whether this kind of layer's cache is split along the sequence."""
        return self.attention.split_by_kvp

    @property
    def _exchanges(self) -> bool:
        return self._split() and any(len(group) > 1 for group in self.exchanges.values())

    @property
    def _gathers(self) -> bool:
        """Whether ranks project their share of the queries and get the rest from each other."""
        return self._exchanges and self.way != ALL_TO_ALL

    def _projected(self, rank: Rank) -> slice:
        """Of the query heads whose weights the rank holds, those it projects."""
        if not self._gathers:
            return slice(None)
        heads = rank.heads(self.attention)
        start, own = heads.query_heads[0], heads.output_heads
        return slice(own[0] - start, own[1] - start)

    def _gathered(self, own: dict[int, Floats]) -> dict[int, Floats]:
        """All the queries that each rank attends to, put together from its exchange group's by the heads they are of."""
        mail = Mail(self.ranks[0].ledger, "attention.exchange", self.kind)
        ranks = {rank.number: rank for rank in self.ranks}
        for sender in self.ranks:
            first = sender.heads(self.attention).output_heads[0]
            content = (first, own[sender.number])
            mail.send(sender.number, self._group(sender), content, bytes_of(own[sender.number]))
        found = {}
        for number, rank in ranks.items():
            parts = sorted(mail.contents(number), key=lambda part: part[0])
            wanted = rank.heads(self.attention).query_heads
            heads = [first + head for first, part in parts for head in range(part.shape[1])]
            if heads != list(range(*wanted)):
                due = f"query_heads are {wanted[0]}..{wanted[1] - 1}"
                raise WrongLayout(f"rank {number}: {due}, but its attention_exchange group projects others")
            found[number] = np.concatenate([part for _, part in parts], axis=1)
        return found

    def _group(self, rank: Rank) -> list[int]:
        """With whom the rank exchanges, itself included. Raises WrongLayout where one is of another attention group."""
        here = {one.number for one in self.ranks}
        for number in self.exchanges[rank.number]:
            if number not in here:
                raise WrongLayout(f"rank {rank.number}: attention_exchange names rank {number} of another attention group")
        return self.exchanges[rank.number]

    def _append(self, rank: Rank, entry: Floats) -> None:
        """The new token's keys and values, kept by the owner of its block; by every rank where a window is held whole."""
        cache = rank.caches[self.layer, self.micro_batch]
        if not self._split() or rank.schedule.owner(self.position) == rank.index:
            cache = np.concatenate([cache, entry[:, None]], axis=1)
        if self.attention.window is not None:
            cache = cache[:, -self.attention.window :]
        rank.caches[self.layer, self.micro_batch] = cache

    def _grouped(self, rank: Rank, x: Floats, heads: slice) -> tuple[Floats, Floats]:
        """(queries (b, heads, d), cache entry (b, KV heads, 2 d)): one GEMM on every KVP rank, for these of its heads."""
        own = dict(rank.weights[self.layer])
        own["query"] = own["query"][:, heads]
        whole = np.concatenate([own["query"], own["key"], own["value"]], axis=1)
        out = rank.multiply("attention.qkv", self.kind, x, whole, "attention")
        ends = np.cumsum([own["query"].shape[1], own["key"].shape[1]])
        query, key, value = np.split(out, ends, axis=1)
        query, key = (mathematics.rotated(part, self.position) for part in (query, key))
        return query, np.concatenate([key, value], axis=-1)

    def _latent(self, rank: Rank, x: Floats, heads: slice) -> tuple[Floats, Floats]:
        """(absorbed queries (b, heads, r_kv + d_rope), cache entry (b, 1, r_kv + d_rope))"""
        attention, own = self.attention, rank.weights[self.layer]
        assert isinstance(attention, LatentAttention)
        down = own["kv_down"]
        if "query_down" in own:
            down = np.concatenate([own["query_down"], down], axis=1)
        both = rank.multiply("attention.qkv", self.kind, x, down, "attention")
        low = both[:, : attention.query_rank] if attention.query_rank else x
        latent = both[:, attention.query_rank or 0 :]
        query = rank.multiply("attention.qkv", self.kind, low, own["query_up"][:, heads], "attention")
        nope = rank.multiply_heads("attention.qkv", self.kind, query[..., : attention.nope_dim], own["key_up"][heads])
        rope = mathematics.rotated(query[..., attention.nope_dim :], self.position)
        key = mathematics.rotated(latent[:, attention.kv_rank :], self.position)
        entry = np.concatenate([latent[:, : attention.kv_rank], key], axis=-1)[:, None]
        if attention.indexer is not None:
            self.read[rank.number] = self._chosen(rank, attention.indexer, low, x)
        return np.concatenate([nope, rope], axis=-1), entry

    def _chosen(self, rank: Rank, indexer: Indexer, low: Floats, x: Floats) -> Ints:
        """The tokens that sparse attention reads: every rank scores every token, the new one included."""
        own, key = rank.weights[self.layer], (self.layer, self.micro_batch)
        asked = rank.multiply("attention.index", self.kind, low, own["index_query"], "attention")
        new = rank.multiply("attention.index", self.kind, x, own["index_key"], "attention")
        asked = mathematics.rotated(asked, self.position)
        entry = mathematics.rotated(new[:, : indexer.head_dim], self.position)
        keys = rank.index_keys[key] = np.concatenate([rank.index_keys[key], entry[:, None]], axis=1)
        return self._scored(rank, indexer, asked, new[:, indexer.head_dim :], keys)

    def _scored(self, rank: Rank, indexer: Indexer, asked: Floats, weights: Floats, keys: Floats) -> Ints:
        """What the indexer picks of ``keys`` (requests, tokens or entries, d), and what picking moves."""
        read = mathematics.chosen(asked, weights, keys, indexer.top_k)
        rank.ledger.add(
            "attention.index",
            self.kind,
            rank.number,
            stored=keys.size * rank.case.machine.kv_bytes,
            other=(asked.size + weights.size) * ACTIVATION_BYTES + read.size * TOKEN_NUMBER_BYTES,
            flops=2.0 * keys.size * indexer.heads,
        )
        return read

    def _unread(self, rank: Rank, chunk: slice, held: int, of: int) -> Floats:
        """Which of the rank's ``held`` tokens, ``of`` so many, a chunk's requests do not read.  -> (requests, tokens) of bool"""
        positions = np.arange(of)
        owned = positions[rank.schedule.owner(positions) == rank.index]
        if len(owned) != held:
            raise WrongLayout(f"rank {rank.number}: kv_blocks give it {len(owned)} tokens, its cache holds {held}")
        return np.asarray(~(self.read[rank.number][chunk][:, :, None] == owned).any(axis=1))

    def _core(self, rank: Rank, query: Floats, chunk: slice, *, first: bool) -> Partial:
        """Attention of one chunk of requests over the rank's shard."""
        cache, attention = rank.caches[self.layer, self.micro_batch][chunk], self.attention
        if isinstance(attention, LatentAttention):
            keys, values = cache.transpose(0, 2, 1, 3), cache[..., : attention.kv_rank].transpose(0, 2, 1, 3)
            scores = (query @ keys[:, 0].transpose(0, 2, 1)) / np.sqrt(attention.nope_dim + attention.rope_dim)
            tokens = cache.shape[1]
            if attention.indexer is not None:
                scores = np.where(self._unread(rank, chunk, tokens, self.position + 1)[:, None], -np.inf, scores)
                # A kernel goes through the whole list of chosen tokens, those that lie on other ranks masked.
                tokens = self.read[rank.number].shape[1]
        else:
            assert isinstance(attention, GroupedQueryAttention)
            read = rank.read_heads(attention, rank.heads(attention))
            by_head = cache[:, :, read].transpose(0, 2, 1, 3)
            keys, values = by_head[..., : attention.head_dim], by_head[..., attention.head_dim :]
            scores = (query[:, :, None] @ keys.transpose(0, 1, 3, 2))[:, :, 0] / np.sqrt(attention.head_dim)
            tokens = cache.shape[1]
        outputs, lse = mathematics.partial_attention(scores, values)
        self._count_core(rank, query, outputs, tokens, cache.shape[2] * cache.shape[3])
        if self.value_exchange and isinstance(attention, LatentAttention):
            # The weights stay in the cache between chunks, so they are read once.
            outputs = rank.multiply_heads(
                "attention.value_up", self.kind, outputs, rank.weights[self.layer]["value_up"], read=first
            )
        return Partial(outputs, mathematics.told(scores, lse, rank.case.communication.statistics))

    def _count_core(self, rank: Rank, query: Floats, outputs: Floats, tokens: int, elements: int) -> None:
        """What a kernel reads and computes that goes through so many tokens, of ``elements`` cached numbers each."""
        rank.ledger.add(
            "attention.core",
            self.kind,
            rank.number,
            stored=len(query) * tokens * elements * rank.case.machine.kv_bytes,
            other=(query.size + outputs.size) * ACTIVATION_BYTES,
            flops=2.0 * len(query) * query.shape[1] * tokens * (query.shape[-1] + outputs.shape[-1]),
        )

    def _exchanged(self, partials: dict[int, Partial]) -> dict[int, Floats]:
        """The exchange of one chunk and the merge: each rank ends with its own output heads."""
        if not self._exchanges:
            return {number: partial.outputs for number, partial in partials.items()}
        if self.way == GATHERED_REDUCE_SCATTER:
            return self._scattered(partials)
        mail = Mail(self.ranks[0].ledger, "attention.exchange", self.kind)
        for sender in self.ranks:
            partial = partials[sender.number]
            for receiver, where in self._receivers(sender):
                part = Partial(partial.outputs[:, where], partial.statistics[:, where])
                mail.send(sender.number, [receiver], part, bytes_of(part.outputs) + _bytes_told(part.statistics))
        return {rank.number: self._merged(rank, mail.contents(rank.number)) for rank in self.ranks}

    def _receivers(self, sender: Rank) -> Iterator[tuple[int, slice]]:
        """Who gets which of the heads that a rank computes. Raises WrongLayout where somebody is due one it does not compute."""
        ranks, (start, end) = {rank.number: rank for rank in self.ranks}, sender.heads(self.attention).query_heads
        for number in self._group(sender):
            wanted = ranks[number].heads(self.attention).output_heads
            if wanted[0] < start or wanted[1] > end:
                raise WrongLayout(
                    f"rank {number}: output_heads {wanted[0]}..{wanted[1] - 1} are not among the query heads that rank "
                    f"{sender.number} of its attention_exchange group computes"
                )
            yield number, slice(wanted[0] - start, wanted[1] - start)

    def _merged(self, rank: Rank, parts: list[Partial]) -> Floats:
        outputs, statistics = np.stack([part.outputs for part in parts]), np.stack([part.statistics for part in parts])
        whole = self.merge(outputs, mathematics.understood(statistics))
        moved = bytes_of(outputs) + bytes_of(whole) + _bytes_told(statistics)
        rank.ledger.add("attention.merge", self.kind, rank.number, other=moved)
        return whole

    def _scattered(self, partials: dict[int, Partial]) -> dict[int, Floats]:
        """Statistics to all of the group; each rank weighs its own outputs by them, and their sums are dealt out by heads."""
        ledger = self.ranks[0].ledger
        statistics, sums = (Mail(ledger, "attention.exchange", self.kind) for _ in range(2))
        for rank in self.ranks:
            told = partials[rank.number].statistics
            statistics.send(rank.number, self._group(rank), told, _bytes_told(told))
        for rank in self.ranks:
            known = statistics.boxes[rank.number]
            everyone = np.stack([told for _, told in known])
            place = [sender for sender, _ in known].index(rank.number)
            outputs = partials[rank.number].outputs
            weighed = outputs * mathematics.shard_weights(mathematics.understood(everyone))[place][..., None]
            moved = bytes_of(outputs) + bytes_of(weighed) + _bytes_told(everyone)
            ledger.add("attention.merge", self.kind, rank.number, other=moved)
            for receiver, where in self._receivers(rank):
                sums.send(rank.number, [receiver], weighed[:, where], bytes_of(weighed[:, where]))
        return {rank.number: np.asarray(sum(sums.contents(rank.number))) for rank in self.ranks}

    def _lifted(self, rank: Rank, heads: Floats) -> Floats:
        """MLA's latent outputs as values, where that is done after the merge."""
        if self.value_exchange or not isinstance(self.attention, LatentAttention):
            return heads
        return rank.multiply_heads("attention.value_up", self.kind, heads, rank.weights[self.layer]["value_up"])


def _bytes_told(statistics: Floats) -> float:
    return statistics.size * STATISTIC_BYTES
