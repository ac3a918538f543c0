"""The kernels that a GPU is measured with: split-KV decode attention, GQA and MLA, and a layer's small kernels. Triton.

Attention over one request's cache is cut into ``splits`` parts, each read by one program, and the parts are merged by their
log-sum-exps. The cache lies as (request, KV head, token, element), so that a part is one run of memory. An fp8 cache is widened
to fp16 as it is read, which Hopper does in fewer instructions than to bf16, and which loses nothing.
"""

# pyright: basic
# mypy: ignore-errors
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LATENT, ROPE = 512, 64


@triton.jit(do_not_specialize=["tokens", "heads_a_kv", "split_tokens"])
def _attention_part(
    q, k, v, part, lse, tokens, scale, heads_a_kv, split_tokens,
    D: tl.constexpr, G: tl.constexpr, N: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """One KV head's group of query heads over one part of one request's cache."""
    pair, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows, columns, within = tl.arange(0, G), tl.arange(0, D), tl.arange(0, N)
    used = rows < heads_a_kv
    query = tl.load(q + (pair * heads_a_kv + rows[:, None]) * D + columns[None, :], mask=used[:, None], other=0.0)
    if WIDEN:
        query = query.to(tl.float16)
    best = tl.full([G], -float("inf"), tl.float32)
    total = tl.zeros([G], tl.float32)
    out = tl.zeros([G, D], tl.float32)
    first = split * split_tokens
    last = tl.minimum(first + split_tokens, tokens)
    for start in range(first, last, N):
        at = start + within
        inside = at < last
        place = (pair * tokens + at)[:, None] * D + columns[None, :]
        keys = tl.load(k + place, mask=inside[:, None], other=0.0)
        values = tl.load(v + place, mask=inside[:, None], other=0.0)
        if WIDEN:
            keys, values = keys.to(tl.float16), values.to(tl.float16)
        score = tl.dot(query, tl.trans(keys)) * (scale * LOG2E)
        score = tl.where(inside[None, :], score, -float("inf"))
        high = tl.maximum(best, tl.max(score, 1))
        weight = tl.exp2(score - high[:, None])
        shrink = tl.exp2(best - high)
        total = total * shrink + tl.sum(weight, 1)
        out = out * shrink[:, None] + tl.dot(weight.to(values.dtype), values)
        best = high
    place = (pair * tl.num_programs(1) + split) * heads_a_kv + rows
    tl.store(part + place[:, None] * D + columns[None, :], out / total[:, None], mask=used[:, None])
    tl.store(lse + place, best + tl.log2(total), mask=used)


@triton.jit(do_not_specialize=["tokens", "heads", "split_tokens"])
def _latent_part(
    q, cache, part, lse, tokens, scale, heads, split_tokens,
    R: tl.constexpr, P: tl.constexpr, G: tl.constexpr, N: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """G query heads over one part of one request's latent cache: R elements are key and value both, P more only key."""
    request, split, block = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    rows, latent, rope, within = block * G + tl.arange(0, G), tl.arange(0, R), tl.arange(0, P), tl.arange(0, N)
    used = rows < heads
    base = q + (request * heads + rows[:, None]) * (R + P)
    query = tl.load(base + latent[None, :], mask=used[:, None], other=0.0)
    turned = tl.load(base + R + rope[None, :], mask=used[:, None], other=0.0)
    if WIDEN:
        query, turned = query.to(tl.float16), turned.to(tl.float16)
    best = tl.full([G], -float("inf"), tl.float32)
    total = tl.zeros([G], tl.float32)
    out = tl.zeros([G, R], tl.float32)
    first = split * split_tokens
    last = tl.minimum(first + split_tokens, tokens)
    for start in range(first, last, N):
        at = start + within
        inside = at < last
        place = (request * tokens + at)[:, None] * (R + P)
        held = tl.load(cache + place + latent[None, :], mask=inside[:, None], other=0.0)
        key = tl.load(cache + place + R + rope[None, :], mask=inside[:, None], other=0.0)
        if WIDEN:
            held, key = held.to(tl.float16), key.to(tl.float16)
        score = (tl.dot(query, tl.trans(held)) + tl.dot(turned, tl.trans(key))) * (scale * LOG2E)
        score = tl.where(inside[None, :], score, -float("inf"))
        high = tl.maximum(best, tl.max(score, 1))
        weight = tl.exp2(score - high[:, None])
        shrink = tl.exp2(best - high)
        total = total * shrink + tl.sum(weight, 1)
        out = out * shrink[:, None] + tl.dot(weight.to(held.dtype), held)
        best = high
    place = (request * tl.num_programs(1) + split) * heads + rows
    tl.store(part + place[:, None] * R + latent[None, :], out / total[:, None], mask=used[:, None])
    tl.store(lse + place, best + tl.log2(total), mask=used)


@triton.jit(do_not_specialize=["parts", "heads"])
def _merge_parts(part, lse, out, parts, heads, D: tl.constexpr, S: tl.constexpr):
    """One head's parts into one output, weighted by their log-sum-exps (in base 2); an empty part has -inf and counts nothing."""
    group, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.arange(0, D)
    best = -float("inf")
    total = 0.0
    merged = tl.zeros([D], tl.float32)
    for start in range(0, parts, S):
        which = start + tl.arange(0, S)
        known = which < parts
        place = (group * parts + which) * heads + head
        told = tl.load(lse + place, mask=known, other=-float("inf"))
        values = tl.load(part + place[:, None] * D + columns[None, :], mask=known[:, None], other=0.0).to(tl.float32)
        high = tl.maximum(tl.maximum(best, tl.max(told, 0)), -1e30)
        weight = tl.exp2(told - high)
        shrink = tl.exp2(best - high)
        total = total * shrink + tl.sum(weight, 0)
        merged = merged * shrink + tl.sum(values * weight[:, None], 0)
        best = high
    tl.store(out + (group * heads + head) * D + columns, (merged / total).to(out.dtype.element_ty))


@triton.jit(do_not_specialize=["H"])
def _norm(x, w, out, H, B: tl.constexpr):
    row, columns = tl.program_id(0).to(tl.int64), tl.arange(0, B)
    inside = columns < H
    values = tl.load(x + row * H + columns, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(values * values, 0) / H + 1e-6)
    weight = tl.load(w + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * H + columns, (values * scale * weight).to(tl.bfloat16), mask=inside)


@triton.jit(do_not_specialize=["W"])
def _activate(x, out, W, B: tl.constexpr):
    row, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = block * B + tl.arange(0, B)
    inside = columns < W
    gate = tl.load(x + row * 2 * W + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * W + W + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * W + columns, (gate * tl.sigmoid(gate) * up).to(tl.bfloat16), mask=inside)


@triton.jit(do_not_specialize=["heads"])
def _turn_and_append(q, k, v, cos, sin, k_cache, v_cache, slots, heads, D: tl.constexpr):
    """Rotary of one head's query or key, and the new key and value into the request's slot of the cache."""
    request, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    half, whole = tl.arange(0, D // 2), tl.arange(0, D)
    c, s = tl.load(cos + request * (D // 2) + half), tl.load(sin + request * (D // 2) + half)
    slot = tl.load(slots + request)
    if head < heads:
        base = q + (request * heads + head) * D
        low, high = tl.load(base + half).to(tl.float32), tl.load(base + D // 2 + half).to(tl.float32)
        tl.store(base + half, (low * c - high * s).to(tl.bfloat16))
        tl.store(base + D // 2 + half, (high * c + low * s).to(tl.bfloat16))
    else:
        own, count = head - heads, tl.num_programs(1) - heads
        base = k + (request * count + own) * D
        low, high = tl.load(base + half).to(tl.float32), tl.load(base + D // 2 + half).to(tl.float32)
        place = k_cache + (slot * count + own) * D
        tl.store(place + half, (low * c - high * s).to(k_cache.dtype.element_ty))
        tl.store(place + D // 2 + half, (high * c + low * s).to(k_cache.dtype.element_ty))
        value = tl.load(v + (request * count + own) * D + whole)
        tl.store(v_cache + (slot * count + own) * D + whole, value.to(v_cache.dtype.element_ty))


def _power(number: int, least: int = 1) -> int:
    return max(least, triton.next_power_of_2(number))


def merge(part: Any, lse: Any, out: Any) -> None:
    """(G, parts, heads, D) and (G, parts, heads) into (G, heads, D)."""
    groups, parts, heads, width = part.shape
    _merge_parts[(groups, heads)](part, lse, out, parts, heads, D=width, S=16 if width <= 128 else 4, num_warps=4)


def attention(q: Any, k: Any, v: Any, scratch: tuple[Any, Any], out: Any, splits: int, tile: tuple[int, int, int]) -> None:
    """q (B, K, G, D), k and v (B, K, T, D) -> out (B, K, G, D). ``tile``: tokens a step, warps, stages."""
    batch, kv_heads, group, width = q.shape
    tokens = k.shape[2]
    part, lse = scratch
    rows, warps, stages = tile
    each = -(-tokens // splits)
    each = -(-each // rows) * rows
    used = -(-tokens // each)
    pairs = batch * kv_heads
    where = part[: pairs * used * group * width], lse[: pairs * used * group]
    _attention_part[(pairs, used)](
        q, k, v, where[0], where[1], tokens, width**-0.5, group, each,
        D=width, G=_power(group, 16), N=rows, WIDEN=k.dtype != q.dtype, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    merge(where[0].view(pairs, used, group, width), where[1].view(pairs, used, group), out.view(pairs, group, width))


def latent_attention(
    q: Any, cache: Any, scratch: tuple[Any, Any], out: Any, splits: int, tile: tuple[int, int, int, int]
) -> None:
    """q (B, H, 576), cache (B, T, 576) -> out (B, H, 512). ``tile``: tokens a step, warps, stages, heads a program."""
    batch, heads, _ = q.shape
    tokens = cache.shape[1]
    part, lse = scratch
    rows, warps, stages, together = tile
    together = min(together, _power(heads, 16))
    each = -(-tokens // splits)
    each = -(-each // rows) * rows
    used = -(-tokens // each)
    where = part[: batch * used * heads * LATENT], lse[: batch * used * heads]
    _latent_part[(batch, used, -(-heads // together))](
        q, cache, where[0], where[1], tokens, (128 + ROPE) ** -0.5, heads, each,
        R=LATENT, P=ROPE, G=together, N=rows, WIDEN=cache.dtype != q.dtype, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    merge(where[0].view(batch, used, heads, LATENT), where[1].view(batch, used, heads), out)


def norm(x: Any, weight: Any, out: Any) -> None:
    """RMS norm of (B, H)."""
    _norm[(x.shape[0],)](x, weight, out, x.shape[1], B=_power(x.shape[1]), num_warps=8)


def activate(x: Any, out: Any) -> None:
    """SwiGLU's activation: (B, 2 W) into (B, W)."""
    width = out.shape[1]
    _activate[(x.shape[0], -(-width // 1024))](x, out, width, B=1024, num_warps=4)


def turn_and_append(q: Any, k: Any, v: Any, angles: tuple[Any, Any], caches: tuple[Any, Any], slots: Any) -> None:
    """Rotary of q (B, H, D) in place and of k (B, K, D) into the cache (slots, K, D), with v."""
    batch, heads, width = q.shape
    _turn_and_append[(batch, heads + k.shape[1])](q, k, v, *angles, *caches, slots, heads, D=width, num_warps=1)


def scratch(parts: int, width: int) -> tuple[Any, Any]:
    """Room for so many partial outputs and their log-sum-exps."""
    return (
        torch.empty(parts * width, dtype=torch.float32, device="cuda"),
        torch.empty(parts, dtype=torch.float32, device="cuda"),
    )
