"""The cost model once more, in plain Python with one layout at a time, written from docs/cost-model.md.

It shares no code with helixplan/cost: no arrays, no halves, no Timing. What both agree on is what the page says.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist
from typing import Any

from helixplan.inputs.hardware import Hardware
from helixplan.inputs.model import CompressedAttention, LatentAttention, Model, MoE, RecurrentAttention
from helixplan.layout import Layout

BYTES = {"bf16": 2, "fp8": 1, "fp4": 0.5, "nvfp4": 0.5625, "mxfp4": 0.53125, "int4": 0.515625}
US = 1e-6


def up(a: float, b: float) -> int:
    return math.ceil(a / b)


@cache
def largest_normal(p: int) -> float:
    """E max of p normals, by summing x f(x) p F(x)^(p-1) on a fine grid: another integral than the package's."""
    normal = NormalDist()
    step = 0.002
    return sum(x * normal.pdf(x) * p * normal.cdf(x) ** (p - 1) * step for x in (-9 + step * i for i in range(9001)))


@cache
def hottest(experts: int, k: int, ep: int, tokens: int) -> float:
    p = 1 - (1 - k / experts) ** tokens
    e = up(experts, ep)
    total = 0.0
    for x in range(e):
        below = sum(math.comb(e, i) * p**i * (1 - p) ** (e - i) for i in range(x + 1))
        total += 1 - min(below, 1.0) ** ep
    return total


class Step:
    """One decode step at a floor scale. ``work`` has kv, weights (or None), context, block, math (or None)."""

    def __init__(self, model: Model, hardware: Hardware, layout: Layout, batch: int, scale: float = 1.0, **work: Any) -> None:
        self.m, self.h, self.layout, self.s, self.work = model, hardware, layout, scale, work
        self.k = hardware.file.kernels
        self.bw, self.peak = hardware.gpu.memory_bytes_per_s, hardware.gpu.flops_per_s
        self.batch = batch
        self.bm = up(batch, layout.pp)
        self.b = up(self.bm, layout.dp)
        self.g = layout.kvp * layout.tpa
        self.n = self.g * layout.dp
        self.w = layout.tpf * layout.ep
        self.kv = work.get("kv") or ("fp8" if "fp8" in self.peak else "bf16")

    def eff(self, e: float) -> float:
        return 1 - self.s * (1 - e)

    def dtype(self, component: str) -> str:
        return self.work.get("weights") or getattr(self.m.precision, component)

    def gemm_kernel(self, dtype: str) -> tuple[Any, str]:
        if dtype == "fp8" and "fp8" in self.k.gemm and "fp8" in self.peak:
            return self.k.gemm["fp8"], "fp8"
        if dtype in ("fp4", "nvfp4", "mxfp4") and "nvfp4" in self.k.gemm and "fp4" in self.peak:
            return self.k.gemm["nvfp4"], "fp4"
        return self.k.gemm["bf16"], "bf16"

    def gemm(self, m: float, k: float, n: float, dtype: str, heads: float = 1) -> float:
        kernel, math_dtype = self.gemm_kernel(dtype)
        size = heads * (k * n * BYTES[dtype] + m * k * 2 + m * n * 2)
        tile = 1 + self.s * (kernel.row_tile - 1)
        compute = 2 * math.ceil(m / tile) * tile * k * n * heads / self.peak[math_dtype]
        roof = max(size / self.bw / self.eff(kernel.efficiency), compute / self.eff(kernel.math_efficiency or kernel.efficiency))
        parts = 1.0
        if kernel.split_k:
            blocks = up(m, 128) * up(n, 128) * heads
            parts = max(1.0, min(k / kernel.split_k, max(1.0, self.h.gpu.sms / blocks)))
        return self.s * kernel.floor_us * US + math.hypot(roof, self.s * kernel.reduction_us * US * k / 1024 / parts)

    def link(self, reach: int) -> float:
        wires = self.h.interconnect
        if self.n * self.layout.pp <= wires.domain_gpus or wires.domain_gpus % reach == 0:
            return wires.domain_bytes_per_s
        return wires.scale_out_bytes_per_s or math.nan

    def collective(self, name: str, p: int, wire: float, reach: int) -> tuple[float, float]:
        """(what does not scale with bytes, what does)"""
        if p == 1:
            return 0.0, 0.0
        c = getattr(self.k, name)
        grown = c.growth_us * (math.log2(p) if c.growth == "log2" else p - 1)
        fixed = self.s * US * (c.floor_us + grown + c.ramp_us * wire / (wire + c.ramp_bytes))
        return fixed, wire / (self.eff(c.link_efficiency) * self.link(reach))

    def all_reduce(self, p: int, size: float, reach: int, to: int = 0, twice: bool = False) -> float:
        """Over p ranks, the sum to ``to`` ranks (p if not given); ``twice``: in two shots whatever it takes."""
        to = to or p
        if to == 1:
            return 0.0
        c = self.k.all_reduce
        rate = self.eff(c.link_efficiency) * self.link(reach)
        start = self.s * US * (c.floor_us + c.growth_us * math.log2(to))
        two = self.s * US * c.two_shot_us + (size * (p - 1) / p + size * (to - 1) / p) / rate
        return start + (two if twice else min(size * (to - 1) / rate, two))

    def core(self, a: Any, b: float, tokens: float, q: float, kvh: float) -> tuple[float, float]:
        """(floor, variable) seconds of attention, the variable part the most of any batch up to b, whole or not."""
        latent = isinstance(a, (LatentAttention, CompressedAttention))
        table = self.k.latent_attention if latent else self.k.attention
        c = table.get("bf16" if self.kv == "bf16" else "fp8", table["bf16"])
        arithmetic = self.work.get("math") or (c.math if c.math in self.peak else "bf16")
        if isinstance(a, CompressedAttention):
            kv = tokens * a.head_dim * BYTES[self.kv]
            rest, flops = q * 2 * a.head_dim * 2, 2 * q * tokens * 2 * a.head_dim
        elif latent:
            kv = tokens * (a.kv_rank + a.rope_dim) * BYTES[self.kv]
            rest, flops = q * (2 * a.kv_rank + a.rope_dim) * 2, 2 * q * tokens * (2 * a.kv_rank + a.rope_dim)
        else:
            kv = tokens * 2 * kvh * a.head_dim * BYTES[self.kv]
            rest, flops = 2 * q * a.head_dim * 2, 4 * q * tokens * a.head_dim
        read = (kv + rest) / (self.eff(c.memory_efficiency) * self.bw)
        if not latent:
            read *= 1 + self.s * (c.head_dim_factors.get(str(a.head_dim), 1.0) - 1)
        roof = max(read, flops / (self.eff(c.math_efficiency) * self.peak[arithmetic]))
        if not latent:
            one = math.hypot(roof, self.s * c.kv_head_us * US * kvh / 1024 * (a.head_dim / 128) ** 0.5)
        else:
            one = roof * (1 + self.s * (c.factor_at_32_heads - 1) if q == 32 else 1) + self.s * c.head_us * US * q / 1024

        def at(requests: float) -> float:
            splits = math.log2(max(1.0, min(tokens / 512, self.h.gpu.sms / (requests * kvh))))
            return one * requests + self.s * c.split_us * US * splits

        turn = min(max(1.0, self.h.gpu.sms * 512 / (tokens * kvh)), self.h.gpu.sms / kvh, b)
        chain = self.s * c.chain_us * US * tokens / 1024 if latent else 0.0
        return self.s * c.floor_us * US, max(at(b), at(max(1.0, turn)), at(1), chain)

    def hop_b(self, a0: float, A: float, x0: float, X: float, c: int) -> float:
        sync = self.s * self.k.overheads.chunk_handover_us * US
        return a0 + A / c + (c - 1) * max(a0 + A / c, X / c + sync) + X / c + x0

    def attention(self, exchange: str, chunks: int | None) -> dict[str, float]:
        out: dict[str, float] = {}
        for _, a, layers in self.m.attention_kinds:
            if isinstance(a, RecurrentAttention):
                one = self.recurrent(a)
            elif isinstance(a, CompressedAttention):
                one = self.compressed(a, chunks)
            else:
                one = self.attending(a, exchange, chunks)
            for name, seconds in one.items():
                out[name] = out.get(name, 0.0) + seconds * len(layers)
        return out

    def tokens(self, a: Any) -> int:
        """That a rank holds of a request."""
        S = self.work["context"]
        return min(S, a.window) if a.window else self.dealt(S)

    def dealt(self, things: int) -> int:
        """Of so many, those of the fullest KVP rank."""
        block, kvp = self.work.get("block", 32), self.layout.kvp
        return (things // (kvp * block)) * block + min(block, things % (kvp * block))

    def attending(self, a: Any, exchange: str, chunks: int | None) -> dict[str, float]:
        """One layer that reads a cache."""
        m, lay, b, dt = self.m, self.layout, self.b, self.dtype("attention")
        spread = self.g if a.window else lay.tpa
        q, kvh, held = a.query_heads // spread, up(a.kv_heads, spread), a.query_heads // self.g
        out = {"attention.reduce": self.all_reduce(self.g, b * m.hidden * 2, self.g)}
        width = wide = a.head_dim if not isinstance(a, LatentAttention) else a.value_dim
        tokens = self.tokens(a)
        if isinstance(a, LatentAttention):
            lifted = q if exchange == "value" else held
            out["attention.qkv"] = (
                self.gemm(b, m.hidden, (a.query_rank or 0) + a.kv_rank + a.rope_dim, dt)
                + self.gemm(b, a.query_rank or m.hidden, q * (a.nope_dim + a.rope_dim), dt)
                + self.gemm(b, a.nope_dim, a.kv_rank, dt, heads=q)
            )
            out["attention.value_up"] = self.gemm(b, a.kv_rank, a.value_dim, dt, heads=lifted)
            width = a.value_dim if exchange == "value" else a.kv_rank
            if a.indexer:
                out["attention.index"] = self.index(a)
                tokens = min(self.work["context"], a.indexer.top_k)
        else:
            out["attention.qkv"] = self.gemm(b, m.hidden, (q + 2 * kvh) * a.head_dim, dt)
        if a.output_gate:
            out["attention.qkv"] += self.gemm(b, m.hidden, held * wide, dt)
        out["attention.out"] = self.gemm(b, held * wide, m.hidden, dt)
        a0, A = self.core(a, b, tokens, q, kvh)
        out["attention.core"] = a0 + A
        if not a.window:
            self.exchange(out, width, q, held, a0, A, chunks, lifting=exchange == "value")
        return out

    def exchange(
        self, out: dict[str, float], width: int, q: int, held: int, a0: float, A: float, chunks: int | None, lifting: bool = False
    ) -> None:
        """What KVP ranks add to a layer's phases, overlapped with its core of a0 and A."""
        lay, b = self.layout, self.b
        if lay.kvp > 1:
            sent = (lay.kvp - 1) / lay.kvp * b * q * (width * 2 + 4)
            x0, X = self.collective("all_to_all", lay.kvp, sent, lay.kvp)
            c = min(chunks or b, b)
            options = [c] if chunks else range(1, b + 1)
            again = self.s * US * self.gemm_kernel(self.dtype("attention"))[0].floor_us if lifting else 0.0
            c = min(options, key=lambda c: (self.hop_b(a0, A, x0, X, c) + (c - 1) * again, c))
            if again:
                out["attention.value_up"] += (c - 1) * again
            out["attention.core"] = c * a0 + A
            out["attention.exchange"] = self.hop_b(a0, A, x0, X, c) - c * a0 - A
            merged = b * q * (width * 2 + 4) + b * held * width * 2
            out["attention.merge"] = self.s * self.k.overheads.merge_us * US + merged / self.bw

    def compressed(self, a: CompressedAttention, chunks: int | None) -> dict[str, float]:
        """One layer that reads a window and entries of several tokens each, the KVP rank that has both."""
        m, b, dt, S, d = self.m, self.b, self.dtype("attention"), self.work["context"], a.head_dim
        whole_here = a.ratio == 1
        q, held = a.query_heads // (self.g if whole_here else self.layout.tpa), a.query_heads // self.g
        groups, overlap = self.groups(a, held), 2 if a.indexer else 1
        out = {
            "attention.reduce": self.all_reduce(self.g, b * m.hidden * 2, self.g),
            "attention.qkv": self.gemm(b, m.hidden, a.query_rank + d, dt) + self.gemm(b, a.query_rank, q * d, dt),
            "attention.out": self.gemm(b, held * d / groups, a.output_rank, dt, heads=groups)
            + self.gemm(b, groups * a.output_rank, m.hidden, dt),
        }
        entries, read = S // a.ratio, min(S, a.window)
        if not whole_here:
            out["attention.qkv"] += self.gemm(b, m.hidden, 2 * overlap * d, "bf16")
            read += self.dealt(entries) if a.indexer is None else min(entries, a.indexer.top_k)
        if a.indexer:
            queries = self.gemm(b, a.query_rank, a.indexer.heads * a.indexer.head_dim, dt)
            keys = self.gemm(b, m.hidden, 2 * overlap * a.indexer.head_dim + a.indexer.heads, "bf16")
            out["attention.index"] = queries + keys + self.scoring(a, entries)
        a0, A = self.core(a, b, read, q, 1)
        out["attention.core"] = a0 + A
        if not whole_here:
            self.exchange(out, d, q, held, a0, A, chunks)
        return out

    def groups(self, a: CompressedAttention, held: int) -> int:
        """The most output groups that any GPU has heads of."""
        size = a.query_heads // a.output_groups
        return max(len({head // size for head in range(i * held, (i + 1) * held)}) for i in range(a.query_heads // held))

    def scoring(self, a: Any, things: int) -> float:
        """Of one index over so many keys."""
        index = a.indexer
        c = self.k.latent_attention.get("bf16" if self.kv == "bf16" else "fp8", self.k.latent_attention["bf16"])
        arithmetic = self.work.get("math") or (c.math if c.math in self.peak else "bf16")
        size = things * index.head_dim * BYTES[self.kv] + index.heads * (index.head_dim + 1) * 2 + min(things, index.top_k) * 4
        scored = max(
            self.b * size / (self.eff(c.memory_efficiency) * self.bw),
            2 * self.b * things * index.heads * index.head_dim / (self.eff(c.math_efficiency) * self.peak[arithmetic]),
        )
        return scored + 2 * self.s * self.k.overheads.small_kernel_us * US

    def recurrent(self, a: RecurrentAttention) -> dict[str, float]:
        """One layer with a state: heads over the whole group, the state read and written."""
        m, b, dt = self.m, self.b, self.dtype("attention")
        q, kvh = a.query_heads // self.g, up(a.kv_heads, self.g)
        wide = 2 * kvh * a.key_dim + q * a.value_dim + q * a.scalars
        qkv = 0.0
        if a.gate_rank is None:
            wide += q * a.value_dim
        else:
            qkv += self.gemm(b, m.hidden, a.gate_rank, dt) + self.gemm(b, a.gate_rank, q * a.value_dim, dt)
        if a.decay_rank is not None:
            qkv += self.gemm(b, m.hidden, a.decay_rank, dt) + self.gemm(b, a.decay_rank, q * a.key_dim, dt)
        qkv += self.gemm(b, m.hidden, wide, dt)
        c = self.k.attention["bf16"]
        size = 2 * b * self.state(a) + b * (2 * q * a.value_dim + 2 * kvh * a.key_dim) * 2
        flops = (6 if a.delta else 4) * b * q * a.key_dim * a.value_dim
        rate = self.eff(c.memory_efficiency)
        core = (
            max(size / (rate * self.bw), flops / (rate * self.peak["bf16"])) + 2 * self.s * self.k.overheads.small_kernel_us * US
        )
        return {
            "attention.qkv": qkv,
            "attention.core": core,
            "attention.out": self.gemm(b, q * a.value_dim, m.hidden, dt),
            "attention.reduce": self.all_reduce(self.g, b * m.hidden * 2, self.g),
        }

    def state(self, a: RecurrentAttention) -> float:
        """Bytes of one request on a GPU."""
        q, kvh = a.query_heads // self.g, up(a.kv_heads, self.g)
        kept = (a.convolution - 1) * (2 * kvh * a.key_dim + q * a.value_dim) * 2
        return q * a.key_dim * a.value_dim * a.state_bytes + kept

    def index(self, a: LatentAttention) -> float:
        """One layer's choice of tokens, over the whole context on every rank."""
        index, S, dt = a.indexer, self.work["context"], self.dtype("attention")
        assert index is not None
        queries = self.gemm(self.b, a.query_rank or self.m.hidden, index.heads * index.head_dim, dt)
        keys = self.gemm(self.b, self.m.hidden, index.head_dim + index.heads, dt)
        return self.scoring(a, S) + queries + keys

    def ffn(self) -> dict[str, float]:
        m, lay = self.m, self.layout
        out: dict[str, float] = {}

        def add(name: str, seconds: float, layers: int = 1) -> None:
            out[name] = out.get(name, 0.0) + seconds * layers

        def dense(width: int, dt: str, over: int, tokens: int, sides: int) -> float:
            share = up(width, over)
            return self.gemm(tokens, m.hidden, sides * share, dt) + self.gemm(tokens, share, m.hidden, dt)

        exchanging = lay.dp > 1 and lay.ep > 1 and self.w == self.n
        everywhere = self.all_reduce(self.w, self.bm * m.hidden * 2, self.n, to=self.n)

        size = self.bm * m.hidden * 2
        gather = sum(self.collective("all_gather", lay.dp, (lay.dp - 1) * self.b * m.hidden * 2, self.n))
        for _, f, layers in m.ffn_kinds:
            count = len(layers)
            if not isinstance(f, MoE):
                add("ffn.gather", gather, count)
                add("ffn.dense", dense(f.width, self.dtype("dense"), self.w, self.bm, 1 + f.gated), count)
                add("ffn.reduce", everywhere, count)
                continue
            if f.shared_width:
                over, tokens = (self.g, self.b) if exchanging else (self.w, self.bm)
                add("ffn.shared", dense(f.shared_width, self.dtype("shared"), over, tokens, 1 + f.gated), count)
            mean = self.bm * f.experts_per_token / lay.ep
            pairs = mean + (largest_normal(lay.ep) if lay.ep > 1 else 0.0) * math.sqrt(mean)
            active = hottest(f.experts, f.experts_per_token, lay.ep, self.bm)
            share = up(f.width, lay.tpf)
            z = f.latent or m.hidden
            add("ffn.experts", self.experts(active, pairs, share, self.dtype("experts"), z, 2 + f.gated), count)

            def projected(tokens: int, width: int | None = f.latent) -> float:
                """To the latent width and back."""
                dt = self.dtype("shared")
                return self.gemm(tokens, m.hidden, width, dt) + self.gemm(tokens, width, m.hidden, dt) if width else 0.0

            paper = self.all_reduce(lay.tpf, size, lay.tpf)
            if lay.ep > 1:
                paper += sum(self.collective("all_gather", lay.ep, (lay.ep - 1) * size, self.w)) + (lay.ep + 1) * size / self.bw
            route, there_and_back = self.gemm(self.bm, m.hidden, f.experts, "bf16"), projected(self.bm)
            before, after = gather, min(paper, everywhere) if self.w == self.n else everywhere
            if exchanging:
                own = up(self.b, self.g)
                elements = own * f.experts_per_token * (1 - 1 / lay.ep) * z
                there = sum(self.collective("all_to_all", lay.ep, elements, self.w))
                back = sum(self.collective("all_to_all", lay.ep, elements * 2, self.w))
                back += self.all_reduce(lay.tpf, mean * z * 2, lay.tpf, twice=True)
                back += self.all_reduce(self.g, self.b * m.hidden * 2, self.g)
                own_route, own_trip = self.gemm(own, m.hidden, f.experts, "bf16"), projected(own)
                if own_route + own_trip + there + back < route + there_and_back + before + after:
                    route, there_and_back, before, after = own_route, own_trip, there, back
            add("ffn.latent", there_and_back, count)
            add("ffn.router", route, count)
            add("ffn.gather", before, count)
            add("ffn.reduce", after, count)
        add("small", self.s * self.k.overheads.small_kernel_us * US * self.short_kernels())
        return out

    def short_kernels(self) -> float:
        """Launches of a step that are told of in "small"."""
        m = self.m
        halves = sum((group.attention is not None) + (group.ffn is not None) for group in m.groups for _ in group.layers)
        short = 2.5 * halves + (3 * halves if m.streams > 1 else 0)
        for group in m.groups:
            if isinstance(group.attention, CompressedAttention) and group.attention.ratio > 1:
                short += 2 * (2 if group.attention.indexer else 1) * len(group.layers)
        return short

    def experts(self, active: float, pairs: float, share: int, dtype: str, z: int, matrices: int) -> float:
        own = self.k.grouped_gemm.get("nvfp4" if dtype == "fp4" else dtype, [])
        most = max(ffn.experts for _, ffn, _ in self.m.ffn_kinds if isinstance(ffn, MoE))
        own = [kernel for kernel in own if kernel.most_experts is None or most <= kernel.most_experts]
        kernels = [kernel for kernel in own if kernel.math in self.peak] or self.k.grouped_gemm["bf16"]
        weights = matrices * z * share
        size = active * weights * BYTES[dtype] + pairs * (2 * z + matrices * share) * 2
        return min(
            self.s * US * (c.floor_us + c.expert_us * active + c.token_us * self.bm)
            + max(
                size / (self.eff(c.memory_efficiency) * self.bw),
                2 * pairs * weights / (self.eff(c.math_efficiency) * self.peak[c.math]),
            )
            for c in kernels
        )

    def phases(self) -> dict[str, float]:
        lay = self.layout
        latent = self.m.is_latent and lay.kvp > 1
        exchanges = ["latent", "value"] if lay.exchange == "auto" else [lay.exchange]
        exchanges = exchanges if latent else ["latent"]
        best = min((self.attention(x, lay.overlap_chunks) for x in exchanges), key=lambda p: sum(p.values()))
        phases = best | self.ffn()
        L = self.m.layers
        phases["pipeline"] = sum(phases.values()) * (up(L, lay.pp) * lay.pp / L - 1)
        phases["head"] = self.gemm(self.bm, self.m.hidden, up(self.m.vocabulary, self.n), "bf16")
        if lay.pp > 1:
            hop = self.s * self.k.overheads.pipeline_hop_us * US + self.b * self.m.hidden * 2 / self.link(self.n * lay.pp)
            phases["pipeline"] += lay.pp * hop
        return {name: seconds for name, seconds in phases.items() if seconds}

    def attention_bytes(self, a: Any, exchange: str) -> float:
        """One layer's projections and cache on a GPU."""
        m, lay, dt = self.m, self.layout, BYTES[self.dtype("attention")]
        requests = up(self.batch, lay.dp)
        if a is None:
            return 0.0
        if isinstance(a, RecurrentAttention):
            q, kvh = a.query_heads // self.g, up(a.kv_heads, self.g)
            weights = m.hidden * (2 * kvh * a.key_dim + q * (a.value_dim + a.scalars)) + q * a.value_dim * m.hidden
            gate = q * a.value_dim
            weights += m.hidden * gate if a.gate_rank is None else a.gate_rank * (m.hidden + gate)
            weights += a.decay_rank * (m.hidden + q * a.key_dim) if a.decay_rank else 0
            return weights * dt + requests * self.state(a)
        if isinstance(a, CompressedAttention):
            return self.compressed_bytes(a) + requests * self.compressed_cache(a)
        spread = self.g if a.window else lay.tpa
        q, kvh, held = a.query_heads // spread, up(a.kv_heads, spread), a.query_heads // self.g
        if isinstance(a, LatentAttention):
            elements, wide = self.tokens(a) * (a.kv_rank + a.rope_dim), a.value_dim
            weights = m.hidden * ((a.query_rank or 0) + a.kv_rank + a.rope_dim)
            weights += (a.query_rank or m.hidden) * q * (a.nope_dim + a.rope_dim) + q * a.nope_dim * a.kv_rank
            weights += (q if exchange == "value" else held) * a.kv_rank * a.value_dim
            if a.indexer:
                i = a.indexer
                weights += (a.query_rank or m.hidden) * i.heads * i.head_dim + m.hidden * (i.heads + i.head_dim)
                elements += self.work["context"] * i.head_dim
        else:
            elements, wide = self.tokens(a) * 2 * kvh * a.head_dim, a.head_dim
            weights = m.hidden * (q + 2 * kvh) * a.head_dim
        weights += held * wide * m.hidden * (1 + a.output_gate)
        return weights * dt + requests * elements * BYTES[self.kv]

    def compressed_bytes(self, a: CompressedAttention) -> float:
        """One layer's projections on a GPU: compressors in bf16."""
        h, d = self.m.hidden, a.head_dim
        q, held = a.query_heads // (self.g if a.ratio == 1 else self.layout.tpa), a.query_heads // self.g
        weights = h * (a.query_rank + d) + a.query_rank * q * d
        weights += held * d * a.output_rank + self.groups(a, held) * a.output_rank * h
        kept = 0
        if a.ratio > 1:
            kept += h * 2 * d * (2 if a.indexer else 1)
        if a.indexer:
            weights += a.query_rank * a.indexer.heads * a.indexer.head_dim
            kept += h * (4 * a.indexer.head_dim + a.indexer.heads)
        return weights * BYTES[self.dtype("attention")] + kept * 2

    def compressed_cache(self, a: CompressedAttention) -> float:
        """Of one request on KVP rank 0, in one layer: window, entries, index keys, fp32 values and gates of the last tokens."""
        S, size = self.work["context"], BYTES[self.kv]
        held = min(S, a.window) * a.head_dim * size
        if a.ratio == 1:
            return held
        entries, overlap = S // a.ratio, 2 if a.indexer else 1
        held += self.dealt(entries) * a.head_dim * size
        widths = a.head_dim + (a.indexer.head_dim if a.indexer else 0)
        held += (overlap * a.ratio) * (2 * overlap * widths) * 4
        return held + (entries * a.indexer.head_dim * size if a.indexer else 0)

    def ffn_bytes(self, f: Any) -> float:
        """One layer's FFN weights on a GPU."""
        m, lay = self.m, self.layout
        if f is None:
            return 0.0
        if not isinstance(f, MoE):
            return (2 + f.gated) * m.hidden * up(f.width, self.w) * BYTES[self.dtype("dense")]
        over = self.g if lay.dp > 1 and lay.ep > 1 and self.w == self.n else self.w
        shared = (2 + f.gated) * m.hidden * up(f.shared_width, over) + 2 * m.hidden * (f.latent or 0)
        expert = (2 + f.gated) * (f.latent or m.hidden) * up(f.width, lay.tpf) * BYTES[self.dtype("experts")]
        return m.hidden * f.experts * 2 + up(f.experts, lay.ep) * expert + shared * BYTES[self.dtype("shared")]

    def memory(self, exchange: str) -> float:
        """Bytes of the fullest GPU: each stage's layers, one by one."""
        m, lay = self.m, self.layout
        of_layer = {}
        for group in m.groups:
            for layer in group.layers:
                of_layer[layer] = self.attention_bytes(group.attention, exchange) + self.ffn_bytes(group.ffn)
        short, longer = divmod(m.layers, lay.pp)
        table, fullest, first = up(m.vocabulary, self.n) * m.hidden * 2, 0.0, 0
        for stage in range(lay.pp):
            size = short + (stage < longer)
            tables = {s for s in ("embedding" if stage == 0 else None, "head" if stage == lay.pp - 1 else None) if s}
            count = 1 if m.tied_embedding and tables else len(tables)
            fullest = max(fullest, sum(of_layer[layer] for layer in range(first, first + size)) + count * table)
            first += size
        buffers = 2 * self.bm * m.hidden * 2
        grown = [a for _, a, _ in m.attention_kinds if not whole(a)]
        exchanged = grown if lay.kvp > 1 else []
        if exchanged:
            a = exchanged[0]
            width = (a.value_dim if exchange == "value" else a.kv_rank) if isinstance(a, LatentAttention) else a.head_dim
            buffers += 2 * self.b * a.query_heads // lay.tpa * (width * 2 + 4)
        return fullest + buffers + self.k.overheads.workspace_bytes

    @property
    def ttl_s(self) -> float:
        return sum(self.phases().values())


def whole(a: Any) -> bool:
    """Whether every KVP rank keeps all that such a layer remembers."""
    if isinstance(a, CompressedAttention):
        return a.ratio == 1
    return isinstance(a, RecurrentAttention) or a.window is not None


def sound_layouts(model: Model, most_gpus: int) -> list[Layout]:
    """Every layout on up to so many GPUs that splits no head, found by trying all numbers."""
    found = []
    sizes = [
        (kvp, tpa, dp, pp)
        for kvp in range(1, most_gpus + 1)
        for tpa in range(1, most_gpus // kvp + 1)
        for dp in range(1, most_gpus // (kvp * tpa) + 1)
        for pp in range(1, min(most_gpus // (kvp * tpa * dp), model.layers) + 1)
    ]
    for kvp, tpa, dp, pp in sizes:
        n = kvp * tpa * dp
        groups = [a.output_groups for _, a, _ in model.attention_kinds if isinstance(a, CompressedAttention)]
        fine = all(size % (kvp * tpa) == 0 or (kvp * tpa) % size == 0 for size in groups) and all(
            a.query_heads % (kvp * tpa) == 0 and (a.kv_heads % (s := kvp * tpa if whole(a) else tpa) == 0 or s % a.kv_heads == 0)
            for _, a, _ in model.attention_kinds
        )
        if fine:
            found += [Layout(kvp, tpa, tpf, n // tpf, dp, pp) for tpf in range(1, n + 1) if n % tpf == 0]
    return found
