"""The measured kernel tables of the package aiconfigurator-core, read as files: which table, which rows, in which units.

The package (extra ``silicon``) is found, never imported: its parquet files are all that is wanted of it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixplan.errors import InputError, did_you_mean
from helixplan.evidence.measurements import Measurements, checked
from helixplan.numeric import Floats

PACKAGE = "aiconfigurator-core"
INSTALL = "pip install 'helixplan[silicon]'"

FOLDERS = {
    "gb200-nvl72": "gb200",
    "gb300-nvl72": "gb300",
    "b200-hgx": "b200_sxm",
    "b300-hgx": "b300_sxm",
    "h200-hgx": "h200_sxm",
    "h100-hgx": "h100_sxm",
    "a100-hgx": "a100_sxm",
    "rtx-pro-6000": "rtx_pro_6000_server",
}
"""Profiles and where their tables lie."""
NEVER_FITTED = "gb300-nvl72"
"""The system that shows whether constants carry over: its tables test gb200's and are never fitted."""

DECODE_TOKENS = 512
"""More rows than this are no decode step's."""
DECODE_BYTES = DECODE_TOKENS * 16_384 * 2
"""Nor is a larger all-reduce: so many tokens of the widest hidden state there is, in bf16."""

Columns = dict[str, Any]


@dataclass(frozen=True)
class Table:
    """One parquet file and what becomes of its rows."""

    operation: str
    path: str
    dtypes: dict[str, str]
    """The table's dtypes and ours; rows of another are no concern of this table's."""
    kernels: dict[str, str]
    """The table's kernels and what we call them; empty: all, as one."""
    shape: Callable[[Columns], dict[str, Any]]
    needs: tuple[str, ...]
    keep: Callable[[Columns], Any] | None = None
    dtype_column: str = ""
    unit_us: float = 1000.0
    """Microseconds in a unit of ``latency``: most tables are in milliseconds."""


def _attention(columns: Columns) -> dict[str, Any]:
    # A KV head count of 0 stands for as many as query heads.
    heads = columns["num_heads"]
    kv_heads = np.where(columns["num_key_value_heads"] == 0, heads, columns["num_key_value_heads"])
    names = {"batch": columns["batch_size"], "tokens": columns["step"] + 1, "query_heads": heads, "kv_heads": kv_heads}
    return names | {"head_dim": columns["head_dim"]}


def _latent(columns: Columns) -> dict[str, Any]:
    return {"batch": columns["batch_size"], "tokens": columns["step"] + 1, "query_heads": columns["num_heads"]}


def _gemm(columns: Columns) -> dict[str, Any]:
    return {"m": columns["m"], "n": columns["n"], "k": columns["k"]}


def _balanced(columns: Columns) -> dict[str, Any]:
    """Tokens go to experts in turn: a rank's share of the pairs, and as many of its experts as they reach."""
    pairs, experts = columns["num_tokens"] * columns["topk"], columns["num_experts"] / columns["moe_ep_size"]
    mine = np.maximum(pairs / columns["moe_ep_size"], np.minimum(pairs, 1))
    return {
        "tokens": columns["num_tokens"],
        "active": np.minimum(experts, np.maximum(1, np.ceil(mine))),
        "pairs": mine,
        "hidden": columns["hidden_size"],
        "width": np.ceil(columns["inter_size"] / columns["moe_tp_size"]),
    }


def _dispatch(columns: Columns) -> dict[str, Any]:
    """A token goes once to each rank that holds one of its experts, evenly spread: top-k ranks of the others at most."""
    ranks = columns["moe_ep_size"]
    element = np.select([columns["moe_dtype"] == "bfloat16", columns["moe_dtype"] == "fp8"], [2.0, 1.0], 0.5625)
    copies = np.minimum(columns["topk"], ranks) * (1 - 1 / ranks)
    return {"gpus": ranks, "bytes": columns["num_tokens"] * copies * columns["hidden_size"] * element}


def _nccl(columns: Columns) -> dict[str, Any]:
    """``message_size`` counts the elements of a whole buffer: a rank sends all but its own share of it, or contributes that."""
    ranks, element = columns["num_gpus"], np.where(columns["nccl_dtype"] == "half", 2.0, 1.0)
    whole = columns["message_size"] * element
    sent = np.where(columns["op_name"] == "alltoall", whole * (ranks - 1) / ranks, whole / ranks)
    return {"gpus": ranks, "bytes": sent}


def _all_reduce(columns: Columns) -> dict[str, Any]:
    # message_size counts bf16 elements.
    return {"gpus": columns["num_gpus"], "bytes": columns["message_size"] * 2.0}


def _is_decode(columns: Columns) -> Any:
    return columns["isl"] == 1


def _is_full_decode(columns: Columns) -> Any:
    return (columns["isl"] == 1) & (columns["window_size"] == 0)


def _has_few_rows(columns: Columns) -> Any:
    return columns["m"] <= DECODE_TOKENS


def _is_small(columns: Columns) -> Any:
    return columns["message_size"] * 2 <= DECODE_BYTES


def _is_balanced_decode(columns: Columns) -> Any:
    return (columns["num_tokens"] <= DECODE_TOKENS) & (columns["distribution"] == "balanced")


def _named(name: str) -> Callable[[Columns], Any]:
    return lambda columns: columns["op_name"] == name


_SHAPED = {
    "attention": (_attention, ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "step")),
    "latent_attention": (_latent, ("batch_size", "num_heads", "step")),
    "gemm": (_gemm, ("m", "n", "k")),
    "grouped_gemm": (
        _balanced,
        ("num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size", "distribution"),
    ),
    "all_reduce": (_all_reduce, ("num_gpus", "message_size")),
}
_DTYPE_COLUMNS = {
    "attention": "kv_cache_dtype",
    "latent_attention": "kv_cache_dtype",
    "gemm": "gemm_dtype",
    "grouped_gemm": "moe_dtype",
    "all_reduce": "",
}
_CACHES = {"bfloat16": "bf16", "fp8": "fp8"}
_ONE = {"": ""}
_SWIGLU = ("moe_torch_flow", "moe_torch_flow_cutlass", "deepgemm", "moe_torch_flow_triton_fp8_block")
"""TensorRT-LLM's kernels of SwiGLU experts; the ungated ones multiply two matrices an expert, not three."""
_FP4 = {"moe_torch_flow_cutlass": "throughput", "moe_torch_flow_min_latency": "low latency"}
_CUSTOM = {"TRTLLM": "", "TRTLLM_MNNVL_oneshot": "MNNVL", "TRTLLM_MNNVL_twoshot": "MNNVL"}
"""All-reduces: TensorRT-LLM's own, and gb300's over the rack's NVLink."""
_MARLIN = {"vllm_compressedtensorswna16marlinmoe_marlin_marlinexperts": "Marlin"}


def _table(operation: str, path: str, dtypes: dict[str, str], kernels: dict[str, str] | None = None, keep: Any = None) -> Table:
    shape, needs = _SHAPED[operation]
    return Table(operation, path, dtypes, kernels or {}, shape, needs, keep, _DTYPE_COLUMNS[operation])


def tables_of(system: str) -> list[Table]:
    """Every table a system's constants are fitted to: TensorRT-LLM's, but where another engine's kernel is what people run."""
    engine = "trtllm/1.0.0" if system == "a100-hgx" else "trtllm/1.3.0rc20"
    weights = {"bfloat16": "bf16"} if system == "a100-hgx" else {"bfloat16": "bf16", "fp8_block": "fp8", "nvfp4": "nvfp4"}
    return [
        *_attention_tables(system),
        _table("latent_attention", f"mla/{engine}/generation_mla_perf", _CACHES),
        _table("gemm", f"gemm/{engine}/gemm_perf", weights, keep=_has_few_rows),
        *_expert_tables(system),
        _table("all_reduce", f"comm/{engine}/custom_allreduce_perf", _ONE, _CUSTOM, _is_small),
        *_exchange_tables(system),
    ]


def _attention_tables(system: str) -> list[Table]:
    """TensorRT-LLM's on data-centre Blackwell; vLLM's FlashAttention on Hopper and Ampere and SGLang's FlashInfer on RTX, which
    split the cache well there, where TensorRT-LLM's do not."""
    name = "generation_attention_perf"
    if system == "a100-hgx":
        return [_table("attention", f"attention/vllm/0.14.0/{name}", _CACHES, {"vllm_flash_attn": "FA2"}, _is_decode)]
    path, kernels = f"attention/trtllm/1.3.0rc20/{name}", {"torch_flow": ""}
    if system in ("h200-hgx", "h100-hgx"):
        path, kernels = f"attention/vllm/0.24.0/{name}", {"vllm_flash_attn_fa3": "FA3"}
    elif system == "rtx-pro-6000":
        path, kernels = f"attention/sglang/0.5.14/{name}", {"flashinfer": "FlashInfer"}
    table = _table("attention", path, _CACHES, kernels, _is_full_decode)
    return [replace(table, needs=(*table.needs, "window_size"))]


def _expert_tables(system: str) -> list[Table]:
    def table(path: str, dtypes: dict[str, str], kernels: dict[str, str]) -> Table:
        return _table("grouped_gemm", f"moe/{path}/moe_perf", dtypes, kernels, _is_balanced_decode)

    if system == "a100-hgx":
        sglang, engine = {"sglang_fused_moe_triton": "Triton"}, "sglang/0.5.10"
        return [table(engine, {"bfloat16": "bf16"}, sglang), table(engine, {"int4_wo": "int4"}, {"sglang_marlin_moe": "Marlin"})]
    hopper, engine = system in ("h200-hgx", "h100-hgx"), "trtllm/1.3.0rc20"
    plain = {"bfloat16": "bf16", "fp8_block": "fp8", ("w4a16_mxfp4" if hopper else "w4a8_mxfp4_mxfp8"): "mxfp4"}
    return [
        table(engine, plain, dict.fromkeys(_SWIGLU, "")),
        *([] if hopper else [table(engine, {"nvfp4": "nvfp4"}, _FP4)]),
        table("vllm/0.24.0", {"int4_wo": "int4"}, _MARLIN),
    ]


def _exchange_tables(system: str) -> list[Table]:
    """All-to-all over the rack's NVLink was measured on gb200 alone; NCCL's collectives on the eight-GPU systems."""
    if "nvl72" in system:
        return [_mnnvl()] if system == "gb200-nvl72" else []
    return _nccl_tables(system)


def _mnnvl() -> Table:
    return Table(
        "all_to_all",
        "comm/trtllm/1.3.0rc10/trtllm_alltoall_perf",
        _ONE,
        {"NVLinkTwoSided": "MNNVL"},
        _dispatch,
        ("op_name", "moe_dtype", "num_tokens", "hidden_size", "topk", "moe_ep_size"),
        keep=lambda columns: (columns["op_name"] == "alltoall_dispatch") & (columns["num_tokens"] <= DECODE_TOKENS),
    )


def _nccl_tables(system: str) -> list[Table]:
    version = "2.27.3" if system == "a100-hgx" else "2.29.2"
    needs = ("op_name", "nccl_dtype", "num_gpus", "message_size")
    return [
        Table(operation, f"comm/nccl/{version}/nccl_perf", _ONE, {"NCCL": "NCCL"}, _nccl, needs, keep=_named(name))
        for operation, name in (("all_to_all", "alltoall"), ("all_gather", "all_gather"))
    ]


def module_table(system: str) -> str:
    """The path of the table of whole MLA attention modules."""
    return f"{FOLDERS[system]}/mla/trtllm/1.3.0rc20/mla_generation_module_perf"


@cache
def data_folder() -> Path:
    """Where the package keeps its tables. Raises InputError where it is not installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"the measured tables come with the package {PACKAGE}, which is not installed here; {INSTALL}")
    return Path(next(iter(spec.submodule_search_locations))) / "systems" / "data"


def package_version() -> str:
    return importlib.metadata.version(PACKAGE)


def check_system(system: str, field: str = "SYSTEM") -> None:
    """Raises InputError, naming ``field``, where no tables of a system are known."""
    if system not in FOLDERS:
        raise InputError(f"got {system!r}{did_you_mean(system, FOLDERS)}; there are tables of: {', '.join(FOLDERS)}", field=field)


def read_table(system: str, table: Table, folder: Path | None = None) -> list[Measurements]:
    """A table's rows, one ``Measurements`` a dtype and kernel. Raises InputError about the first thing that is wrong."""
    name = f"{FOLDERS[system]}/{table.path}.parquet"
    needs = dict.fromkeys((*table.needs, *([table.dtype_column] if table.dtype_column else []), "kernel_source", "latency"))
    columns = read_columns((folder or data_folder()) / name, tuple(needs))
    mask = np.ones(len(columns["latency"]), dtype=bool) if table.keep is None else np.asarray(table.keep(columns))
    source = f"{PACKAGE} {package_version()}, {name.removesuffix('.parquet')}"
    found = []
    for dtype, ours in table.dtypes.items():
        of_dtype = mask & (columns[table.dtype_column] == dtype) if table.dtype_column else mask
        for kernel in dict.fromkeys(table.kernels.values()) if table.kernels else ("",):
            sources = [given for given, called in table.kernels.items() if called == kernel]
            rows = of_dtype & np.isin(columns["kernel_source"], sources) if sources else of_dtype
            if np.any(rows):
                found.append(_measured(table, ours, kernel, columns, rows, source, str((folder or data_folder()) / name)))
    return found


def _measured(
    table: Table, dtype: str, kernel: str, columns: Columns, rows: NDArray[np.bool_], source: str, file: str
) -> Measurements:
    shape = {name: np.asarray(values, dtype=float)[rows] for name, values in table.shape(columns).items()}
    us: Floats = np.asarray(columns["latency"], dtype=float)[rows] * table.unit_us
    warm = np.zeros(len(us), dtype=bool)
    found = Measurements(table.operation, dtype, kernel, shape, us, np.flatnonzero(rows), source, file, warm)
    return checked(found, column="latency")


def read_columns(path: Path, needs: tuple[str, ...]) -> Columns:
    """The columns of a parquet file. Raises InputError where it is none, is empty, or lacks one of them."""
    import pyarrow
    import pyarrow.parquet

    file = str(path)
    try:
        content = pyarrow.parquet.read_table(path)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or 'not a whole parquet file'})", file=file) from None
    except pyarrow.ArrowInvalid:
        raise InputError("is not a parquet file", file=file) from None
    for name in needs:
        if name not in content.column_names:
            near = did_you_mean(name, content.column_names, lead="the table has")
            raise InputError(f"is missing{near}", file=file, field=f"column {name!r}")
    if content.num_rows == 0:
        raise InputError("holds no rows", file=file)
    return {name: content.column(name).to_numpy() for name in needs}
