"""What one GPU of a layout is given: its share of requests, context and heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from helixplan.append import shard_tokens
from helixplan.cost.case import Case
from helixplan.cost.collectives import Fabric
from helixplan.inputs.model import Attention, CompressedAttention, LatentAttention, RecurrentAttention
from helixplan.layout import Layouts, may_dispatch
from helixplan.numeric import Amount, Bools, Floats, ceil_div


@dataclass(frozen=True)
class Heads:
    """Of one kind of attention layer, on one GPU: heads it computes, caches and holds after the exchange; of a request the tokens
    its core reads, and the bytes it holds in a layer."""

    query: Amount
    kv: Amount
    output: Amount
    tokens: Amount
    cache_bytes: Amount


@dataclass(frozen=True)
class Shares:
    """The symbols of docs/cost-model.md for M layouts at a batch (a number, or M of them). All arrays are (M,) floats."""

    case: Case
    layouts: Layouts
    batch: Amount

    @cached_property
    def kvp(self) -> Floats:
        return np.asarray(self.layouts.kvp, dtype=float)

    @cached_property
    def tpa(self) -> Floats:
        return np.asarray(self.layouts.tpa, dtype=float)

    @cached_property
    def dp(self) -> Floats:
        return np.asarray(self.layouts.dp, dtype=float)

    @cached_property
    def pp(self) -> Floats:
        return np.asarray(self.layouts.pp, dtype=float)

    @cached_property
    def tpf(self) -> Floats:
        return np.asarray(self.layouts.tpf, dtype=float)

    @cached_property
    def ep(self) -> Floats:
        return np.asarray(self.layouts.ep, dtype=float)

    @cached_property
    def attention_group(self) -> Floats:
        """g: the GPUs that share a request's attention."""
        return self.kvp * self.tpa

    @cached_property
    def stage(self) -> Floats:
        """n: the GPUs of a pipeline stage."""
        return self.dp * self.attention_group

    @cached_property
    def gpus(self) -> Floats:
        return self.stage * self.pp

    @cached_property
    def ffn_group(self) -> Floats:
        """w: the GPUs that share the FFN."""
        return self.tpf * self.ep

    @cached_property
    def stage_requests(self) -> Floats:
        """b_m: requests in a stage at a time."""
        return np.asarray(ceil_div(np.asarray(self.batch), self.pp), dtype=float)

    @cached_property
    def group_requests(self) -> Floats:
        """b: requests in an attention group at a time."""
        return np.asarray(ceil_div(self.stage_requests, self.dp), dtype=float)

    @cached_property
    def cached_requests(self) -> Floats:
        """Requests whose cache an attention group's GPUs hold, over all that are in flight."""
        return np.asarray(ceil_div(np.asarray(self.batch), self.dp), dtype=float)

    @cached_property
    def may_dispatch(self) -> Bools:
        """As ``layout.may_dispatch``."""
        return np.asarray(may_dispatch(self.layouts))

    @cached_property
    def shared_group(self) -> Floats:
        """The GPUs that share the shared expert: the FFN group, or the attention group where tokens may be dispatched."""
        return np.where(self.may_dispatch, self.attention_group, self.ffn_group)

    @cached_property
    def shared_requests(self) -> Floats:
        """The requests that the shared expert sees on one GPU."""
        return np.where(self.may_dispatch, self.group_requests, self.stage_requests)

    @cached_property
    def fabric(self) -> Fabric:
        return Fabric(self.case.machine, self.gpus)

    def heads(self, attention: Attention) -> Heads:
        """A layer with a sliding window or a state keeps all of it on every KVP rank and splits its heads over the group instead.

        Sparse attention's tokens may all lie on one rank, and its indexer's keys lie on every rank: KVP shortens neither.
        """
        workload, kv_bytes = self.case.workload, self.case.machine.kv_bytes
        spread = self.tpa if attention.split_by_kvp else self.attention_group
        query, kv = attention.query_heads / spread, ceil_div(attention.kv_heads, spread)
        if isinstance(attention, RecurrentAttention):
            tokens, held = 0.0, attention.held_bytes(query, kv)
        elif isinstance(attention, CompressedAttention):
            tokens, held = self._compressed(attention)
        else:
            context = float(workload.context_tokens)
            tokens = shard_tokens(workload.context_tokens, self.kvp, workload.kv_block_tokens)
            tokens = min(context, attention.window) if attention.window is not None else tokens
            held = tokens * kv * attention.kv_elements_per_head * kv_bytes
            indexer = attention.indexer if isinstance(attention, LatentAttention) else None
            if indexer is not None:
                held, tokens = held + context * indexer.head_dim * kv_bytes, min(context, float(indexer.top_k))
        return Heads(query, kv, attention.query_heads / self.attention_group, tokens, held)

    def _compressed(self, attention: CompressedAttention) -> tuple[Amount, Amount]:
        """(entries and tokens that the core reads, bytes held) of one request, on the KVP rank that attends to the window too."""
        workload, kv_bytes = self.case.workload, self.case.machine.kv_bytes
        entries, recent = attention.entries(workload.context_tokens), min(workload.context_tokens, attention.window)
        shard: Amount = 0.0
        if attention.split_by_kvp:
            shard = shard_tokens(entries, self.kvp, workload.kv_block_tokens)
        held = (shard + recent) * attention.kv_elements_per_head * kv_bytes + attention.state_bytes
        if attention.indexer is None:
            return shard + recent, held
        return float(min(entries, attention.indexer.top_k) + recent), held + entries * attention.indexer.head_dim * kv_bytes
