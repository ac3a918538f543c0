"""What weights are stored in, component by component: ``quantization_config``, or ``hf_quant_config.json`` beside a config.json.

A checkpoint names one format and the modules that stay bf16. Which components those are is found by asking, for the modules that
each component has in every layer, whether the checkpoint's patterns name them; the most of a component decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from helixplan.errors import InputError
from helixplan.inputs.model import LayerGroup, MoE, RecurrentAttention, WeightPrecision
from helixplan.inputs.validation import validate

MOST_PATTERNS, LONGEST_PATTERN = 4096, 200
SAFE_REGEX = re.compile(r"(?:\.\*|\\\.|\\d\+|\[0-9\]\+|[\w^$]|\([\w|.\\]+\)|-)+")
"""Expressions that cannot take long: literals, ``.*``, digits, and choices between literals."""
ALGORITHMS = {
    "fp8": "fp8",
    "fp8_pb_wo": "fp8",
    "fp8_pb_real": "fp8",
    "nvfp4": "nvfp4",
    "nvfp4_awq": "nvfp4",
    "mxfp4": "mxfp4",
    "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_fp8": "mxfp4",
    "w4a16_awq": "int4",
    "w4a16": "int4",
    "int4_awq": "int4",
}
"""NVIDIA ModelOpt's names of what it quantised to."""
EXPERT_DTYPES = {"fp4": "mxfp4", "fp8": "fp8"}
"""``expert_dtype`` of DeepSeek-V4's configs: fp4 has an 8-bit exponent to every 32 numbers."""
METHODS = ("fp8", "mxfp4", "compressed-tensors", "modelopt", "awq", "gptq")


class Quantization(BaseModel):
    """``quantization_config``: what the weights are stored in. Keys that decide nothing here are let be."""

    model_config = ConfigDict(extra="allow", strict=True)

    quant_method: str = "compressed-tensors"
    quant_algo: str | None = None
    bits: int | None = None
    config_groups: dict[str, Any] | None = None
    modules_to_not_convert: list[str] | None = None
    ignore: list[str] | None = None
    exclude_modules: list[str] | None = None


class _SidecarBody(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    quant_algo: str | None = None
    exclude_modules: list[str] = []


class _Sidecar(BaseModel):
    """``hf_quant_config.json``, as NVIDIA's ModelOpt writes it."""

    model_config = ConfigDict(extra="allow", strict=True)

    quantization: _SidecarBody


Wrong = Callable[[str, str], InputError]
"""(key, message) -> the InputError to raise."""


@dataclass(frozen=True)
class Stated:
    """A ``quantization_config``, or what stands for one, and the file and key that state it."""

    quantization: Quantization
    file: str
    key: str = "quantization_config"

    def wrong(self, key: str, message: str) -> InputError:
        return InputError(message, file=self.file, field=f"{self.key}.{key}")


def read_sidecar(data: dict[str, Any], file: str) -> Stated | None:
    """``hf_quant_config.json`` as the ``quantization_config`` it stands for. Raises InputError where it is none."""
    body = validate(_Sidecar, data, file).quantization
    if body.quant_algo is None:
        return None
    stands_for = Quantization(quant_method="modelopt", quant_algo=body.quant_algo, exclude_modules=body.exclude_modules)
    return Stated(stands_for, file, "quantization")


def precision_of(stated: Stated | None, groups: Iterable[LayerGroup], expert_dtype: str | None = None) -> WeightPrecision:
    """Each component's dtype. Raises InputError where the format is none that helixplan prices.

    ``expert_dtype``: what DeepSeek-V4's releases say of the experts beside their fp8 format for everything else.
    """
    if stated is None:
        return WeightPrecision()
    stored, kept = _dtype(stated.quantization, stated.wrong), _kept(stated.quantization, stated.wrong)
    dtypes: dict[str, str] = {}
    for component, modules in _modules(groups).items():
        bf16 = sum(any(named(module) for named in kept) for module in modules)
        dtypes[component] = "bf16" if 2 * bf16 > len(modules) else stored
    if expert_dtype is not None and stated.quantization.quant_method == "fp8":
        if expert_dtype not in EXPERT_DTYPES:
            allowed = ", ".join(EXPERT_DTYPES)
            raise InputError(f"got {expert_dtype!r}; allowed: {allowed}", file=stated.file, field="expert_dtype")
        dtypes["experts"] = EXPERT_DTYPES[expert_dtype]
    return WeightPrecision(**dtypes)


def _kept(quantization: Quantization, wrong: Wrong) -> list[Callable[[str], bool]]:
    """Whether a module stays bf16, by each of the patterns that say so."""
    patterns = []
    for key in ("modules_to_not_convert", "ignore", "exclude_modules"):
        entries = getattr(quantization, key) or []
        if len(entries) > MOST_PATTERNS:
            raise wrong(key, f"has {len(entries)} entries; at most {MOST_PATTERNS:,} are read")
        patterns += [_pattern(text, partial(wrong, key)) for text in entries]
    return patterns


def _dtype(quantization: Quantization, wrong: Wrong) -> str:
    """What is not kept is stored in."""
    method = quantization.quant_method
    if method not in METHODS:
        raise wrong("quant_method", _advice(method, METHODS))
    if method in ("fp8", "mxfp4"):
        return method
    if method in ("awq", "gptq"):
        if quantization.bits != 4:
            raise wrong("bits", _advice(quantization.bits, (4,)))
        return "int4"
    if quantization.quant_algo is not None:
        dtype = ALGORITHMS.get(quantization.quant_algo.lower())
        if dtype is None:
            raise wrong("quant_algo", _advice(quantization.quant_algo, sorted(ALGORITHMS)))
        return dtype
    return _of_groups(quantization.config_groups or {}, wrong)


def _of_groups(groups: dict[str, Any], wrong: Wrong) -> str:
    """The dtype that ``config_groups`` tell by bits, kind of number and size of the groups that share a scale."""
    field = "config_groups"
    found = set()
    for name, group in groups.items():
        weights = group.get("weights") if isinstance(group, dict) else None
        if not isinstance(weights, dict):
            raise wrong(f"{field}.{name}", "says nothing of weights")
        bits, kind, size = weights.get("num_bits"), weights.get("type"), weights.get("group_size")
        dtype = {(8, "float"): "fp8", (4, "int"): "int4"}.get((bits, kind))  # type: ignore[arg-type]
        if (bits, kind) == (4, "float"):
            dtype = "nvfp4" if size == 16 else "mxfp4" if size == 32 else None
        if dtype is None:
            told = f"{bits}-bit {kind} in groups of {size}"
            raise wrong(f"{field}.{name}.weights", f"got {told}, which helixplan does not price; name one with --weights")
        found.add(dtype)
    if len(found) != 1:
        said = ", ".join(sorted(found)) or "none"
        raise wrong(field, f"has {said}; helixplan reads one format and the modules that stay bf16")
    return found.pop()


def _advice(given: object, known: Iterable[object]) -> str:
    allowed = ", ".join(str(one) for one in known)
    return f"got {given!r}, but helixplan reads {allowed}; drop the key and name the precision with --weights"


def _modules(groups: Iterable[LayerGroup]) -> dict[str, list[str]]:
    """The names that checkpoints give the modules of each component, a few a layer."""
    modules: dict[str, list[str]] = {}
    for group in groups:
        for layer in group.layers:
            at = f"model.layers.{layer}"
            if group.attention is not None:
                modules.setdefault("attention", []).append(f"{at}.{_attention_module(group)}")
            if isinstance(group.ffn, MoE):
                modules.setdefault("experts", []).append(f"{at}.mlp.experts.0.gate_proj")
                if group.ffn.shared_width:
                    modules.setdefault("shared", []).append(f"{at}.mlp.shared_experts.gate_proj")
            elif group.ffn is not None:
                modules.setdefault("dense", []).append(f"{at}.mlp.gate_proj")
    return modules


def _attention_module(group: LayerGroup) -> str:
    """Nemotron-H calls a layer's only half its mixer; Kimi's recurrent layers are called as its others are, Qwen's are not."""
    recurrent = isinstance(group.attention, RecurrentAttention)
    if group.ffn is None:
        return "mixer.out_proj" if recurrent else "mixer.o_proj"
    named = recurrent and group.attention.decay_rank is None  # type: ignore[union-attr]
    return "linear_attn.out_proj" if named else "self_attn.o_proj"


def _pattern(text: str, wrong: Callable[[str], InputError]) -> Callable[[str], bool]:
    """Whether a module is one that the pattern names: an expression after "re:", a glob, or a module or part of its path."""
    if len(text) > LONGEST_PATTERN:
        raise wrong(f"has an entry of {len(text)} characters; at most {LONGEST_PATTERN} are read")
    if text.startswith("re:"):
        body = text.removeprefix("re:")
        if not SAFE_REGEX.fullmatch(body) or body.count(".*") > 8:
            raise wrong(f"has {text[:60]!r}, an expression of a kind helixplan does not read")
        return lambda module: re.match(body, module) is not None
    # Wrappers of vision models put the language model one level down.
    name = text.removeprefix("model.language_model.").removeprefix("language_model.").removeprefix("model.")
    if "*" in name or "?" in name:
        globs = (name, f"{name}.*")
        return lambda module: any(fnmatchcase(module.removeprefix("model."), glob) for glob in globs)
    part = f".{name}."
    return lambda module: part in f".{module}."
