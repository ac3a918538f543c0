"""SGLang: ``--tp-size`` is KVP x TPA; under ``--enable-dp-attention`` it counts the whole stage, DP x KVP x TPA.

Facts of SGLang's documentation (docs.sglang.io): advanced_features/dcp: position p lies on rank p mod dcp-size, token by token;
advanced_features/dp_dpa_smg_guide: DP attention takes --dp-size above 1, plain --dp-size makes replicas that share nothing;
server arguments: --max-running-requests is the server's, and each of its --dp-size schedulers admits its part
(scheduler: max_running_requests // dp_size); --mem-fraction-static is the part of a GPU's memory for weights and cache.
"""

from __future__ import annotations

from helixplan.cost.case import Case
from helixplan.export.memory import weights_and_cache_share
from helixplan.export.spelling import Flag, Launch, Reader, Settings, Spelling, count, laid_out, tokens
from helixplan.export.vllm import exchange_of, way_of
from helixplan.inputs.model import Model
from helixplan.inputs.workload import MAX_BATCH
from helixplan.plans import Plan

PAGE = 64
"""Tokens of a page: every MLA and GQA backend of CUDA takes it."""
EXPERTS_SPREAD = (
    "deepep",
    "deepep_v2",
    "mooncake",
    "nixl",
    "mori",
    "flashinfer",
    "megamoe",
    "flashinfer_megamoe",
    "pplx",
    "ascend_fuseep",
)
"""Ways of sending tokens to experts under which SGLang sets --ep-size to --tp-size."""


def _settings(plan: Plan, case: Case) -> Settings:
    layout = plan.layout
    found: Settings = {
        "tp-size": layout.dp * layout.kvp * layout.tpa,
        "pp-size": layout.pp,
        "dp-size": layout.dp,
        "enable-dp-attention": layout.dp > 1,
        "ep-size": layout.ep,
    }
    if layout.kvp > 1:
        backend, replicated = exchange_of(plan)
        found |= {"dcp-size": layout.kvp, "dcp-comm-backend": backend, "dcp-replicate-q-proj": replicated}
    found |= {
        "page-size": PAGE,
        "kv-cache-dtype": SGLANG.kv_dtypes[plan.workload.kv_dtype],
        "context-length": plan.workload.context_tokens,
        "max-running-requests": -(-layout.batch // layout.dp) * layout.dp,
        "mem-fraction-static": weights_and_cache_share(plan.memory, plan.workload.memory_utilization),
    }
    return found


def _launch(read: Reader, model: Model) -> Launch:
    tp, pp, kvp, ep = (read.number(name) for name in ("tp-size", "pp-size", "dcp-size", "ep-size"))
    dp = _data_parallel(read, tp)
    if tp % (dp * kvp):
        raise read.refuse("dcp-size", f"but --dp-size {dp} x --dcp-size {kvp} has to divide --tp-size {tp}")
    if read["moe-a2a-backend"] in EXPERTS_SPREAD:
        if "ep-size" in read.given and ep != tp:
            raise read.refuse("ep-size", f"but --moe-a2a-backend {read['moe-a2a-backend']} makes it --tp-size, {tp}")
        ep = tp
    if tp % ep:
        raise read.refuse("ep-size", f"which does not divide --tp-size {tp}")
    ep = ep if model.experts else 1
    seats = read.maybe("max-running-requests")
    return Launch(
        engine="sglang",
        settings=read.effective(),
        layout=laid_out(kvp, tp // dp // kvp, tp // ep, ep, dp, pp),
        kv_dtype=SGLANG.kv_read(str(read["kv-cache-dtype"])),
        kv_block_tokens=1,
        batch=seats,
        context_tokens=read.maybe("context-length"),
        memory_share=None if read.get("mem-fraction-static") is None else float(read["mem-fraction-static"]),
        exchange_way=way_of(str(read["dcp-comm-backend"]).removeprefix("fi_"), read["dcp-replicate-q-proj"]) if kvp > 1 else None,
        ignored=tuple(read.ignored),
    )


def _data_parallel(read: Reader, tp: int) -> int:
    """DP of attention. Raises InputError for replicas that share nothing, and where it does not divide the stage."""
    dp = read.number("dp-size")
    if dp > 1 and not read["enable-dp-attention"]:
        raise read.refuse("dp-size", "but without --enable-dp-attention replicas share nothing: give one's launch")
    if tp % dp:
        raise read.refuse("dp-size", f"which does not divide --tp-size {tp}")
    return dp


_KV = {"bf16": "bfloat16", "fp8": "fp8_e4m3", "nvfp4": "fp4_e2m1"}
_KV_READ = {"auto": "bf16", "bf16": "bf16", "fp8_e5m2": "fp8"}
_NO_SHARE = "helixplan's layouts have no such split"

SGLANG = Spelling(
    engine="sglang",
    title="SGLang",
    flags=(
        count("tp-size", "tensor-parallel-size", "--tp", shapes=True),
        count("dcp-size", "decode-context-parallel-size", shapes=True),
        count("pp-size", "pipeline-parallel-size", "--pp", shapes=True),
        count("dp-size", "data-parallel-size", "--dp", shapes=True),
        Flag("enable-dp-attention", bool, False, shapes=True),
        count("ep-size", "expert-parallel-size", "--ep", shapes=True),
        count("moe-dp-size", "moe-data-parallel-size", only=_NO_SHARE),
        count("dwdp-size", only=_NO_SHARE),
        Flag("moe-a2a-backend", str, "none", allowed=("none", *EXPERTS_SPREAD), shapes=True),
        Flag("dcp-comm-backend", str, "ag_rs", allowed=("ag_rs", "a2a", "fi_a2a"), shapes=True),
        Flag("dcp-replicate-q-proj", bool, False, shapes=True),
        count("attn-cp-size", "attention-context-parallel-size", only=_NO_SHARE),
        count("page-size", default=None, most=2**20),
        Flag("kv-cache-dtype", str, "auto", allowed=(*_KV.values(), *_KV_READ)),
        tokens("context-length"),
        count("max-running-requests", default=None, most=MAX_BATCH),
        Flag("mem-fraction-static", float, None),
    ),
    kv_dtypes=_KV,
    kv_dtypes_read=_KV_READ,
    settings=_settings,
    launch=_launch,
    command=("python3", "-m", "sglang.launch_server", "--model-path", '"$MODEL"'),
    config_option="--config",
    block="page-size",
    model_option="--model-path",
    gone={"enable-ep-moe": "--ep-size", "enable-deepep-moe": "--moe-a2a-backend deepep"},
    let_be=frozenset({"max-queued-requests", "moe-dense-tp-size", "enable-dp-lm-head", "attn-dp-size"}),
)
