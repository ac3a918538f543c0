"""Attention over compressed tokens on emulated ranks: entries made of the last tokens, dealt out, and read beside the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.evidence.emulation import mathematics
from helixplan.evidence.emulation.attention import AttentionHalf, Partial
from helixplan.evidence.emulation.compression import kept_after, pooled
from helixplan.evidence.emulation.ranks import Rank
from helixplan.inputs.model import CompressedAttention
from helixplan.numeric import Floats, Ints


@dataclass
class CompressedHalf(AttentionHalf):
    """Every rank keeps the window and compresses for itself; of the entries it keeps those whose blocks are its own."""

    attention: CompressedAttention

    @property
    def _key(self) -> tuple[int, int]:
        return self.layer, self.micro_batch

    @property
    def _entries(self) -> int:
        """That there are once the new token is in."""
        return self.attention.entries(self.position + 1)

    def _taken_in(self, rank: Rank, x: Floats) -> Floats:
        own, attention = rank.weights[self.layer], self.attention
        down = np.concatenate([own["query_down"], own["kv_down"]], axis=1)
        both = rank.multiply("attention.qkv", self.kind, x, down, "attention")
        low, token = both[:, : attention.query_rank], mathematics.rotated(both[:, attention.query_rank :], self.position)
        query = rank.multiply("attention.qkv", self.kind, low, own["query_up"][:, self._projected(rank)], "attention")
        recent = np.concatenate([rank.caches[self._key], token[:, None, None]], axis=1)
        rank.caches[self._key] = recent[:, -attention.window :]
        if attention.split_by_kvp:
            new = rank.multiply("attention.qkv", self.kind, x, own["compress"], "compressor")
            self._entered(rank, self._compressed(rank, "entries", new))
        if attention.indexer is not None:
            self.read[rank.number] = self._picked(rank, low, x)
        return mathematics.rotated(query, self.position)

    def _compressed(self, rank: Rank, what: str, new: Floats) -> Floats | None:
        """The entry that the new token's input completes, if it does."""
        kept = rank.kept[(*self._key, what)] = kept_after(rank.kept[(*self._key, what)], new)
        first = self.position + 1 - self.attention.ratio
        return pooled(self.attention, kept, first) if (self.position + 1) % self.attention.ratio == 0 else None

    def _entered(self, rank: Rank, entry: Floats | None) -> None:
        """A new entry, kept by the owner of its block."""
        if entry is not None and rank.schedule.owner(self._entries - 1) == rank.index:
            rank.entries[self._key] = np.concatenate([rank.entries[self._key], entry[:, None]], axis=1)

    def _picked(self, rank: Rank, low: Floats, x: Floats) -> Ints:
        """The entries that are read: every rank scores every one.  -> (requests, top_k)"""
        own, attention, indexer = rank.weights[self.layer], self.attention, self.attention.indexer
        assert indexer is not None
        asked = rank.multiply("attention.index", self.kind, low, own["index_query"], "attention")
        asked = mathematics.rotated(asked, self.position)
        new = rank.multiply("attention.index", self.kind, x, own["index_compress"], "compressor")
        columns = attention.projected(indexer.head_dim)
        key = self._compressed(rank, "index", new[:, :columns].reshape(len(x), 2, attention.spans, indexer.head_dim))
        keys = rank.index_keys[self._key]
        if key is not None:
            keys = rank.index_keys[self._key] = np.concatenate([keys, key[:, None]], axis=1)
        return self._scored(rank, indexer, asked, new[:, columns:], keys)

    def _attends_to_window(self, rank: Rank) -> bool:
        """Every token counts once: of ranks that share a request's entries one attends to the window."""
        return rank.index == 0 or not self._split()

    def _core(self, rank: Rank, query: Floats, chunk: slice, *, first: bool) -> Partial:
        """Attention of one chunk of requests over the rank's entries and, on one rank, the window: one softmax over both."""
        recent = rank.caches[self._key][chunk][:, :, 0]
        if not self._attends_to_window(rank):
            recent = recent[:, :0]
        held, tokens = recent, recent.shape[1]
        unread = np.zeros(recent.shape[:2], dtype=bool)
        if self.attention.split_by_kvp:
            entries = rank.entries[self._key][chunk]
            passed = np.zeros(entries.shape[:2], dtype=bool)
            if self.attention.indexer is not None:
                passed = self._unread(rank, chunk, entries.shape[1], self._entries)
            held, unread = np.concatenate([entries, recent], axis=1), np.concatenate([passed, unread], axis=1)
            tokens += entries.shape[1] if self.attention.indexer is None else self.read[rank.number].shape[1]
        scores = (query @ held.transpose(0, 2, 1)) / np.sqrt(self.attention.head_dim)
        scores = np.where(unread[:, None], -np.inf, scores)
        outputs, lse = mathematics.partial_attention(scores, held[:, None])
        self._count_core(rank, query, outputs, tokens, held.shape[2])
        return Partial(outputs, mathematics.told(scores, lse, rank.case.communication.statistics))
