"""vLLM: ``--tensor-parallel-size`` is KVP x TPA, of which ``--decode-context-parallel-size`` is KVP.

Facts of vLLM's engine arguments (docs.vllm.ai, configuration/engine_args, ParallelConfig and CacheConfig):
decode context parallelism reuses the tensor parallel ranks; ``--cp-kv-cache-interleave-size`` tokens in a row go to a rank,
and the block size must be a multiple of it; ``--max-num-seqs`` is a scheduler's, and each data parallel rank has one;
``--enable-expert-parallel`` shards experts over tensor and data parallel ranks together.
"""

from __future__ import annotations

from math import lcm

from helixplan.cost.case import ALL_TO_ALL, GATHERED_ALL_TO_ALL, GATHERED_REDUCE_SCATTER, Case
from helixplan.export.spelling import Flag, Launch, Reader, Settings, Spelling, count, laid_out, tokens
from helixplan.inputs.model import Model
from helixplan.inputs.workload import MAX_BATCH
from helixplan.numeric import ceil_div
from helixplan.plans import Plan

BLOCK = 64
"""Tokens of a cache block: every MLA and GQA backend of CUDA takes it."""
SUFFIXES = {"k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
"""Of --max-model-len (vLLM's human_readable_int)."""
WAYS = {ALL_TO_ALL: ("a2a", True), GATHERED_ALL_TO_ALL: ("a2a", False), GATHERED_REDUCE_SCATTER: ("ag_rs", False)}
"""The exchange of a plan's collectives, as communication backend and whether queries are replicated."""


def _settings(plan: Plan, case: Case) -> Settings:
    layout = plan.layout
    found: Settings = {
        "tensor-parallel-size": layout.kvp * layout.tpa,
        "pipeline-parallel-size": layout.pp,
        "data-parallel-size": layout.dp,
        "enable-expert-parallel": layout.ep > 1,
    }
    if layout.kvp > 1:
        found |= {"decode-context-parallel-size": layout.kvp, "cp-kv-cache-interleave-size": layout.kv_block_tokens}
        backend, replicated = exchange_of(plan)
        found |= {"dcp-comm-backend": backend, "dcp-q-replicate": replicated}
    found |= {
        "block-size": lcm(BLOCK, layout.kv_block_tokens) if layout.kvp > 1 else BLOCK,
        "kv-cache-dtype": VLLM.kv_dtypes[plan.workload.kv_dtype],
        "max-model-len": plan.workload.context_tokens,
        "max-num-seqs": int(ceil_div(layout.batch, layout.dp)),
        "gpu-memory-utilization": plan.workload.memory_utilization,
    }
    return found


def exchange_of(plan: Plan) -> tuple[str, bool]:
    """Backend and query replication of a plan's exchange."""
    return WAYS[plan.collectives.get("attention.exchange", ALL_TO_ALL)]


def way_of(backend: object, replicated: object) -> str:
    """The exchange that backend and query replication make; gathered outputs need gathered queries."""
    return next(way for way, spelled in WAYS.items() if spelled == (backend, backend == "a2a" and bool(replicated)))


def _launch(read: Reader, model: Model) -> Launch:
    tp, dp, pp = (read.number(name) for name in ("tensor-parallel-size", "data-parallel-size", "pipeline-parallel-size"))
    kvp = read.number("decode-context-parallel-size")
    if tp % kvp:
        raise read.refuse("decode-context-parallel-size", f"which does not divide --tensor-parallel-size {tp}")
    if dp > 1 and not model.experts:
        raise read.refuse("data-parallel-size", f"but replicas of {model.name}, a dense model, share nothing: give one's launch")
    interleave, block = read.number("cp-kv-cache-interleave-size"), read.maybe("block-size")
    if kvp > 1 and block is not None and block % interleave:
        raise read.refuse("cp-kv-cache-interleave-size", f"which does not divide --block-size {block}")
    spread = bool(read["enable-expert-parallel"]) and model.experts > 0
    stage, seats = dp * tp, read.maybe("max-num-seqs")
    return Launch(
        engine="vllm",
        settings=read.effective(),
        layout=laid_out(kvp, tp // kvp, 1 if spread else stage, stage if spread else 1, dp, pp),
        kv_dtype=VLLM.kv_read(str(read["kv-cache-dtype"])),
        kv_block_tokens=interleave if kvp > 1 else None,
        batch=None if seats is None else seats * dp,
        context_tokens=read.maybe("max-model-len"),
        memory_share=float(read["gpu-memory-utilization"]),
        exchange_way=way_of(read["dcp-comm-backend"], read["dcp-q-replicate"]) if kvp > 1 else None,
        ignored=tuple(read.ignored),
    )


_KV = {"bf16": "bfloat16", "fp8": "fp8", "nvfp4": "nvfp4"}
_KV_READ = {"auto": "bf16", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "fp8_ds_mla": "fp8"}

VLLM = Spelling(
    engine="vllm",
    title="vLLM",
    flags=(
        count("tensor-parallel-size", "-tp", shapes=True),
        count("decode-context-parallel-size", "-dcp", shapes=True),
        count("pipeline-parallel-size", "-pp", shapes=True),
        count("data-parallel-size", "-dp", shapes=True),
        Flag("enable-expert-parallel", bool, False, ("-ep",), shapes=True),
        Flag("dcp-comm-backend", str, "ag_rs", allowed=("ag_rs", "a2a"), shapes=True),
        Flag("dcp-q-replicate", bool, False, shapes=True),
        count("cp-kv-cache-interleave-size", most=2**20, shapes=True),
        count("block-size", default=None, most=2**20),
        Flag("kv-cache-dtype", str, "auto", allowed=(*_KV.values(), *_KV_READ)),
        tokens("max-model-len", left_out=("auto", "-1"), suffixes=SUFFIXES),
        count("max-num-seqs", default=None, most=MAX_BATCH),
        Flag("gpu-memory-utilization", float, 0.92),
        count("prefill-context-parallel-size", "-pcp", only="helixplan lays out decoding, where prefill's ranks have no part"),
    ),
    kv_dtypes=_KV,
    kv_dtypes_read=_KV_READ,
    settings=_settings,
    launch=_launch,
    command=("vllm", "serve", '"$MODEL"'),
    config_option="--config",
    block="block-size",
    model_option="--model",
    gone={"helix-mode": ""},
    let_be=frozenset(
        {"data-parallel-size-local", "data-parallel-start-rank", "max-num-batched-tokens", "max-num-partial-prefills"}
        | {"dpa", "dpb", "dpe", "dph", "dpl", "dpn", "dpp", "dpr"}  # Where data parallel ranks run and meet.
    ),
)
