"""TensorRT-LLM: the whole grid, in the YAML that ``--extra_llm_api_options`` names.

Facts of TensorRT-LLM's documentation (features/helix, commands/trtllm-serve) and source (mapping.py, llm_args.py):
Helix is ``cp_config.cp_type: HELIX``; both tokens_per_block must be equal; ranks are tp x cp x pp and moe_tp x moe_ep = tp x cp;
the file overrides the command line; max_batch_size is of one attention DP rank and one micro-batch of the pipeline
(github.com/ai-dynamo/dynamo/pull/11982 traces it through the scheduler).
"""

from __future__ import annotations

from helixplan.cost.case import Case
from helixplan.errors import InputError
from helixplan.export.memory import free_share
from helixplan.export.spelling import Flag, Launch, Reader, Settings, Spelling, count, laid_out, tokens
from helixplan.inputs.model import Model
from helixplan.inputs.workload import MAX_BATCH
from helixplan.plans import Plan

UNSET = -1
"""What the engine's own default of the experts' sizes is: the other one decides."""


def _settings(plan: Plan, case: Case) -> Settings:
    layout = plan.layout
    found: Settings = {
        "tensor_parallel_size": layout.dp if layout.dp > 1 else layout.tpa,
        "pipeline_parallel_size": layout.pp,
        "context_parallel_size": layout.kvp,
        "enable_attention_dp": layout.dp > 1,
    }
    if case.model.experts:
        found |= {"moe_tensor_parallel_size": layout.tpf, "moe_expert_parallel_size": layout.ep}
    if layout.kvp > 1:
        found |= {
            "cp_config.cp_type": "HELIX",
            "cp_config.tokens_per_block": layout.kv_block_tokens,
            "cp_config.use_nccl_for_alltoall": False,
            "cp_config.fifo_version": 2,
        }
    found |= {
        "kv_cache_config.tokens_per_block": layout.kv_block_tokens,
        "kv_cache_config.dtype": TRTLLM.kv_dtypes[plan.workload.kv_dtype],
        "kv_cache_config.free_gpu_memory_fraction": free_share(plan.memory, plan.workload.memory_utilization),
        "max_batch_size": -(-layout.batch // (layout.dp * layout.pp)),
        "max_seq_len": plan.workload.context_tokens,
    }
    return found


def _launch(read: Reader, model: Model) -> Launch:
    tp, pp, kvp = (read.number(f"{name}_parallel_size") for name in ("tensor", "pipeline", "context"))
    block = _block(read, kvp)
    dp = tp if read["enable_attention_dp"] else 1
    tpf, ep = _experts(read, tp * kvp) if model.experts else (tp * kvp, 1)
    seats = read.maybe("max_batch_size")
    return Launch(
        engine="trtllm",
        settings=read.effective(),
        layout=laid_out(kvp, tp // dp, tpf, ep, dp, pp),
        kv_dtype=TRTLLM.kv_read(str(read["kv_cache_config.dtype"])),
        kv_block_tokens=block,
        batch=None if seats is None else seats * dp * pp,
        context_tokens=read.maybe("max_seq_len"),
        memory_share=float(read["kv_cache_config.free_gpu_memory_fraction"]),
        exchange_way=None,
        ignored=tuple(read.ignored),
    )


def _block(read: Reader, kvp: int) -> int:
    """Tokens of a block. Raises InputError where the cache and the exchange are told differently, or cp is no Helix."""
    block = read.number("kv_cache_config.tokens_per_block")
    if kvp == 1:
        return block
    if read.get("cp_config.cp_type") is None:
        raise InputError(f"is missing: context_parallel_size {kvp} needs cp_type HELIX", field="cp_config.cp_type")
    if read.maybe("cp_config.tokens_per_block") != block:
        told = read.maybe("cp_config.tokens_per_block")
        given = "is missing" if told is None else f"got {told}"
        raise InputError(
            f"{given}, but kv_cache_config.tokens_per_block is {block}, and the two have to be equal",
            field="cp_config.tokens_per_block",
        )
    return block


def _experts(read: Reader, stage: int) -> tuple[int, int]:
    """TPF and EP: where one is not given, what the other leaves of the stage; where neither is, TPF alone."""
    tpf, ep = read.number("moe_tensor_parallel_size"), read.number("moe_expert_parallel_size")
    given = "moe_expert_parallel_size" if tpf == UNSET else "moe_tensor_parallel_size"
    if tpf == UNSET:
        tpf, ep = (stage, 1) if ep == UNSET else (stage // max(ep, 1), ep)
    elif ep == UNSET:
        ep = stage // max(tpf, 1)
    if tpf * ep != stage:
        raise read.refuse(given, f"but moe_tensor_parallel_size x moe_expert_parallel_size has to be tensor x context, {stage}")
    return tpf, ep


_KV = {"bf16": "auto", "fp8": "fp8", "nvfp4": "nvfp4"}
_KV_READ = {"bfloat16": "bf16"}

TRTLLM = Spelling(
    engine="trtllm",
    title="TensorRT-LLM",
    flags=(
        count("tensor_parallel_size", "tp_size", "--tp", shapes=True),
        count("pipeline_parallel_size", "pp_size", "--pp", shapes=True),
        count("context_parallel_size", "cp_size", "--cp", shapes=True),
        Flag("enable_attention_dp", bool, False, shapes=True),
        count("moe_tensor_parallel_size", default=UNSET, least=UNSET, shapes=True),
        count("moe_expert_parallel_size", "ep_size", "expert_parallel_size", "--ep", default=UNSET, least=UNSET, shapes=True),
        count(
            "moe_cluster_parallel_size", "cluster_size", default=UNSET, least=UNSET, only="helixplan's layouts have no such split"
        ),
        Flag("cp_config.cp_type", str, None, allowed=("HELIX",), shapes=True),
        count("cp_config.tokens_per_block", default=None, most=2**20, shapes=True),
        Flag("cp_config.use_nccl_for_alltoall", bool, None),
        count("cp_config.fifo_version", default=None),
        count("kv_cache_config.tokens_per_block", "tokens_per_block", default=32, most=2**20, shapes=True),
        Flag("kv_cache_config.dtype", str, "auto", ("kv_cache_dtype",), allowed=(*_KV.values(), *_KV_READ)),
        Flag(
            "kv_cache_config.free_gpu_memory_fraction",
            float,
            0.9,
            ("kv_cache_free_gpu_memory_fraction", "free_gpu_memory_fraction"),
        ),
        count("max_batch_size", default=None, most=MAX_BATCH),
        tokens("max_seq_len"),
    ),
    kv_dtypes=_KV,
    kv_dtypes_read=_KV_READ,
    settings=_settings,
    launch=_launch,
    command=("trtllm-serve", '"$MODEL"'),
    config_option="--extra_llm_api_options",
    block="kv_cache_config.tokens_per_block",
    model_option="--model-path",
    file_wins=True,
    dashes="",
)
