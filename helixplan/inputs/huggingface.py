"""config.json -> Model. The only module that knows Hugging Face's keys."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from helixplan.errors import InputError, did_you_mean
from helixplan.inputs.catalog import find_model
from helixplan.inputs.model import (
    FFN,
    Attention,
    DenseFFN,
    GroupedQueryAttention,
    LatentAttention,
    LayerGroup,
    Model,
    MoE,
)
from helixplan.inputs.quantization import Quantization, precision_of, read_sidecar
from helixplan.inputs.validation import parse_json, read_text, validate

Width = Annotated[int, Field(ge=1, le=2**24)]
Count = Annotated[int, Field(ge=1, le=2**16)]
Layers = Annotated[int, Field(ge=1, le=4096)]


class ConfigFile(BaseModel):
    """The keys of a config.json that decide shapes, cache, precision and context; any further key is let be."""

    model_config = ConfigDict(extra="allow", strict=True, title="helixplan model file (config.json of Hugging Face)")

    architectures: Annotated[list[str], Field(min_length=1)]
    hidden_size: Width
    num_hidden_layers: Layers
    num_attention_heads: Count
    vocab_size: Width
    num_key_value_heads: Count | None = None
    head_dim: Width | None = None
    intermediate_size: Width | None = None
    tie_word_embeddings: bool = False
    max_position_embeddings: Width | None = None

    kv_lora_rank: Width | None = None
    q_lora_rank: Width | None = None
    qk_nope_head_dim: Width | None = None
    qk_rope_head_dim: Width | None = None
    v_head_dim: Width | None = None

    attention_chunk_size: Width | None = None
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: Annotated[int, Field(ge=1, le=4096)] | None = None
    interleave_moe_layer_step: Annotated[int, Field(ge=1, le=4096)] | None = None
    intermediate_size_mlp: Width | None = None
    global_head_dim: Width | None = None
    num_global_key_value_heads: Count | None = None
    enable_moe_block: bool | None = None
    top_k_experts: Count | None = None
    num_kv_shared_layers: Annotated[int, Field(ge=0, le=0)] = 0
    hidden_size_per_layer_input: Annotated[int, Field(ge=0, le=0)] = 0
    shared_intermediate_size: Annotated[int, Field(ge=0, le=2**24)] = 0

    sliding_window: Width | None = None
    use_sliding_window: bool | None = None
    max_window_layers: Annotated[int, Field(ge=0, le=4096)] | None = None
    layer_types: list[str] | None = None

    n_routed_experts: Count | None = None
    num_experts: Count | None = None
    num_local_experts: Count | None = None
    num_experts_per_tok: Count | None = None
    moe_intermediate_size: Width | None = None
    n_shared_experts: Annotated[int, Field(ge=0, le=64)] | None = None
    first_k_dense_replace: Annotated[int, Field(ge=0, le=4096)] = 0
    moe_layer_freq: Annotated[int, Field(ge=1, le=1)] = 1
    decoder_sparse_step: Annotated[int, Field(ge=1, le=1)] = 1
    mlp_only_layers: list[int] = []
    quantization_config: Quantization | None = None
    source: dict[str, Any] | str | None = None


def load_model(model: str | Path | dict[str, Any]) -> Model:
    """A bundled name, a path to a config.json (or its folder), or a dict of its shape. Raises InputError."""
    if isinstance(model, dict):
        return read_config(model, "model", name=str(model.get("name", "model")))
    path = find_model(str(model))
    name = path.parent.resolve().name if path.name == "config.json" else path.stem
    return read_config(parse_json(read_text(path), str(path)), str(path), name=name, stored=_beside(path))


def _beside(path: Path) -> Quantization | None:
    """What ``hf_quant_config.json`` beside a config.json says of the weights."""
    sidecar = path.parent / "hf_quant_config.json"
    if path.name != "config.json" or not sidecar.is_file():
        return None
    return read_sidecar(parse_json(read_text(sidecar), str(sidecar)), str(sidecar))


def language_model(data: dict[str, Any]) -> dict[str, Any]:
    """The keys of the language model: those of ``text_config`` in a model that also sees, its architecture the outer one."""
    inner = data.get("text_config")
    if not isinstance(inner, dict):
        return data
    outer = {key: data[key] for key in ("architectures", "quantization_config", "source", "name") if key in data}
    merged = inner | outer
    # Where both say, the inner model's own word counts, but for the tie, which wrappers repeat as a default.
    return merged | {"tie_word_embeddings": data.get("tie_word_embeddings", inner.get("tie_word_embeddings", False))}


def bundled_style(path: Path) -> dict[str, Any]:
    """The keys of a config.json that helixplan reads, as a file that stands alone: the language model's, and its precision."""
    data = language_model(parse_json(read_text(path), str(path)))
    kept = {key: value for key, value in data.items() if key in ConfigFile.model_fields}
    stored = _beside(path)
    if kept.get("quantization_config") is None and stored is not None:
        kept["quantization_config"] = stored.model_dump(exclude_none=True)
    return kept | {"source": data.get("source") or {"config": path.name}}


def read_config(data: dict[str, Any], file: str, name: str, stored: Quantization | None = None) -> Model:
    """The model a config.json describes. Raises InputError naming ``file`` and the key that is wrong or missing.

    ``stored``: what the weights are stored in, where the config itself does not say.
    """
    data = language_model(data)
    _refuse_unpriced(data, file)
    config = validate(ConfigFile, data, file)
    _refuse_misspelt(data, file)
    architecture = config.architectures[0]
    family = ARCHITECTURES.get(architecture)
    if family is None:
        hint = did_you_mean(architecture, ARCHITECTURES)
        raise InputError(
            f"{architecture!r} is not an architecture helixplan can place{hint}; known: {', '.join(ARCHITECTURES)}",
            file=file,
            field="architectures",
        )
    reader = _Reader(config, file)
    attention, ffn = family
    groups = _group(attention(reader), ffn(reader))
    return Model(
        name=name,
        hidden=config.hidden_size,
        vocabulary=config.vocab_size,
        tied_embedding=config.tie_word_embeddings,
        groups=groups,
        max_context=config.max_position_embeddings,
        precision=precision_of(config.quantization_config or stored, groups, reader.wrong),
    )


UNPRICED = {
    "linear_num_value_heads": "layers of linear attention (Gated DeltaNet)",
    "linear_attn_config": "layers of linear attention (Kimi Delta Attention)",
    "hybrid_override_pattern": "state-space layers (Mamba)",
    "ssm_state_size": "state-space layers (Mamba)",
    "index_topk": "sparse attention, whose indexer picks the tokens that are read",
    "compress_ratios": "attention over compressed tokens",
}
"""Keys of what helixplan has no formulas for yet: to leave them out would be to guess."""


def _refuse_unpriced(data: dict[str, Any], file: str) -> None:
    named = data.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else "the model"
    for key, what in UNPRICED.items():
        if data.get(key) is not None:
            raise InputError(f"{architecture} has {what}, which helixplan cannot price yet", file=file, field=key)


def _refuse_misspelt(data: dict[str, Any], file: str) -> None:
    """A key one slip away from a known one that the file lacks would otherwise be passed over in silence."""
    known = set(ConfigFile.model_fields)
    for key in data.keys() - known:
        near = difflib.get_close_matches(key, known - data.keys(), n=1, cutoff=0.93)
        if near:
            raise InputError(f"is not a known key; did you mean {near[0]!r}?", file=file, field=key)


class _Reader:
    """The questions each architecture asks of a config."""

    def __init__(self, config: ConfigFile, file: str) -> None:
        self.config, self.file = config, file

    def need(self, key: str) -> int:
        value = getattr(self.config, key)
        if value is None:
            near = did_you_mean(key, self.config.model_extra or {}, lead="the file has")
            raise InputError(f"is missing, and {self.config.architectures[0]} needs it{near}", file=self.file, field=key)
        return int(value)

    def stated(self, *keys: str) -> None:
        """Keys whose absence would not mean none: other readers fill in defaults of their own. Null is a statement."""
        for key in keys:
            if key not in self.config.model_fields_set:
                near = did_you_mean(key, self.config.model_extra or {}, lead="the file has")
                message = f"is missing, and {self.config.architectures[0]} needs it (null or 0 for none){near}"
                raise InputError(message, file=self.file, field=key)

    def wrong(self, key: str, message: str) -> InputError:
        return InputError(message, file=self.file, field=key)

    def heads(self, window: int | None = None) -> GroupedQueryAttention:
        config = self.config
        query, kv = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
        if query % kv:
            raise self.wrong("num_key_value_heads", f"got {kv}, but it must divide num_attention_heads ({query})")
        if config.head_dim is None and config.hidden_size % query:
            raise self.wrong("num_attention_heads", f"got {query}, but it must divide hidden_size ({config.hidden_size})")
        return GroupedQueryAttention(query, kv, config.head_dim or config.hidden_size // query, window)


def _full(reader: _Reader) -> list[Attention]:
    return [reader.heads()] * reader.config.num_hidden_layers


def _windowed(reader: _Reader) -> list[Attention]:
    """Layers with a window where ``layer_types`` (or its older spellings) says so."""
    config = reader.config
    layers = config.num_hidden_layers
    if config.sliding_window is None or config.use_sliding_window is False:
        kinds = ["full_attention"] * layers
    elif config.layer_types is not None:
        kinds = config.layer_types
    else:
        first = (config.max_window_layers or 0) if config.use_sliding_window else 0
        kinds = ["full_attention"] * min(first, layers) + ["sliding_attention"] * max(0, layers - first)
    if len(kinds) != layers:
        raise reader.wrong("layer_types", f"has {len(kinds)} entries, but num_hidden_layers is {layers}")
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise reader.wrong("layer_types", f"got {kind!r}; allowed: full_attention, sliding_attention")
    return [reader.heads(config.sliding_window if kind == "sliding_attention" else None) for kind in kinds]


def _chunked(reader: _Reader) -> list[Attention]:
    """Llama 4: chunks of the sequence attend within themselves, which bounds the cache; every so many layers attend to all."""
    config = reader.config
    layers, chunk = config.num_hidden_layers, reader.need("attention_chunk_size")
    rotary = config.no_rope_layers
    if not rotary:
        interval = config.no_rope_layer_interval or 4
        rotary = [int((layer + 1) % interval != 0) for layer in range(layers)]
    if len(rotary) != layers:
        raise reader.wrong("no_rope_layers", f"has {len(rotary)} entries, but num_hidden_layers is {layers}")
    return [reader.heads(chunk if in_chunks else None) for in_chunks in rotary]


def _global_and_sliding(reader: _Reader) -> list[Attention]:
    """Gemma 4: global layers have heads of their own size and number."""
    config, sliding = reader.config, _alternating(reader)
    if config.global_head_dim is None and config.num_global_key_value_heads is None:
        return sliding
    heads = config.num_global_key_value_heads or config.num_key_value_heads or config.num_attention_heads
    if config.num_attention_heads % heads:
        query = config.num_attention_heads
        raise reader.wrong("num_global_key_value_heads", f"got {heads}, but it must divide num_attention_heads ({query})")
    size = config.global_head_dim or reader.heads().head_dim
    whole = GroupedQueryAttention(config.num_attention_heads, heads, size)
    return [whole if attention.window is None else attention for attention in sliding]


def _alternating(reader: _Reader) -> list[Attention]:
    """Layers that ``layer_types`` tells apart: without it nobody could say which have a window."""
    reader.stated("layer_types", "sliding_window")
    return _windowed(reader)


def _latent(reader: _Reader) -> list[Attention]:
    config = reader.config
    reader.stated("q_lora_rank")
    attention = LatentAttention(
        query_heads=config.num_attention_heads,
        query_rank=config.q_lora_rank,
        kv_rank=reader.need("kv_lora_rank"),
        nope_dim=reader.need("qk_nope_head_dim"),
        rope_dim=reader.need("qk_rope_head_dim"),
        value_dim=reader.need("v_head_dim"),
    )
    return [attention] * config.num_hidden_layers


def _dense(reader: _Reader) -> list[FFN]:
    return [DenseFFN(reader.need("intermediate_size"))] * reader.config.num_hidden_layers


def _experts(count_key: str, width_key: str) -> Callable[[_Reader], list[FFN]]:
    """MoE layers, save leading dense ones (DeepSeek) and those named (Qwen)."""

    def read(reader: _Reader) -> list[FFN]:
        config = reader.config
        if count_key == "n_routed_experts":
            reader.stated("n_shared_experts", "first_k_dense_replace")
        experts, per_token = reader.need(count_key), reader.need("num_experts_per_tok")
        if per_token > experts:
            raise reader.wrong("num_experts_per_tok", f"got {per_token}, but there are only {experts} experts ({count_key})")
        width = reader.need(width_key)
        shared = (config.n_shared_experts or 0) * width + config.shared_intermediate_size
        moe = MoE(experts, per_token, width, shared_width=shared)
        dense = {*range(config.first_k_dense_replace), *config.mlp_only_layers}
        layers = range(config.num_hidden_layers)
        return [DenseFFN(reader.need("intermediate_size")) if layer in dense else moe for layer in layers]

    return read


def _interleaved(reader: _Reader) -> list[FFN]:
    """Llama 4: every so many layers routed experts beside a shared one of the same width, dense layers between."""
    config = reader.config
    step, width = reader.need("interleave_moe_layer_step"), reader.need("intermediate_size")
    experts, per_token = reader.need("num_local_experts"), reader.need("num_experts_per_tok")
    if per_token > experts:
        raise reader.wrong("num_experts_per_tok", f"got {per_token}, but there are only {experts} experts (num_local_experts)")
    moe = MoE(experts, per_token, width, shared_width=width)
    dense = DenseFFN(config.intermediate_size_mlp or width)
    return [moe if (layer + 1) % step == 0 else dense for layer in range(config.num_hidden_layers)]


def _experts_beside_dense(reader: _Reader) -> list[FFN]:
    """Gemma 4: every layer's dense FFN runs beside its experts, so that it is their shared expert."""
    config = reader.config
    if not config.enable_moe_block:
        return _dense(reader)
    experts, per_token = reader.need("num_experts"), reader.need("top_k_experts")
    if per_token > experts:
        raise reader.wrong("top_k_experts", f"got {per_token}, but there are only {experts} experts (num_experts)")
    moe = MoE(experts, per_token, reader.need("moe_intermediate_size"), shared_width=reader.need("intermediate_size"))
    return [moe] * config.num_hidden_layers


def _group(attentions: list[Attention], ffns: list[FFN]) -> tuple[LayerGroup, ...]:
    """Layers that are alike under one name; the name says only what tells the groups apart."""
    members: dict[tuple[Attention, FFN], list[int]] = {}
    for layer, kind in enumerate(zip(attentions, ffns, strict=True)):
        members.setdefault(kind, []).append(layer)
    mixed_attention, mixed_ffn = len(set(attentions)) > 1, len(set(ffns)) > 1
    groups = []
    for (attention, ffn), layers in members.items():
        words = []
        if mixed_attention:
            words.append("full" if attention.window is None else "sliding")
        if mixed_ffn or not mixed_attention:
            words.append("moe" if isinstance(ffn, MoE) else "dense")
        groups.append(LayerGroup("-".join(words), attention, ffn, tuple(layers)))
    return tuple(groups)


ARCHITECTURES: dict[str, tuple[Callable[[_Reader], list[Attention]], Callable[[_Reader], list[FFN]]]] = {
    "DeepseekV2ForCausalLM": (_latent, _experts("n_routed_experts", "moe_intermediate_size")),
    "DeepseekV3ForCausalLM": (_latent, _experts("n_routed_experts", "moe_intermediate_size")),
    "Gemma4ForConditionalGeneration": (_global_and_sliding, _experts_beside_dense),
    "GptOssForCausalLM": (_alternating, _experts("num_local_experts", "intermediate_size")),
    "KimiK25ForConditionalGeneration": (_latent, _experts("n_routed_experts", "moe_intermediate_size")),
    "Llama4ForConditionalGeneration": (_chunked, _interleaved),
    "LlamaForCausalLM": (_full, _dense),
    "MiniMaxM2ForCausalLM": (_full, _experts("num_local_experts", "intermediate_size")),
    "MistralForCausalLM": (_windowed, _dense),
    "MixtralForCausalLM": (_windowed, _experts("num_local_experts", "intermediate_size")),
    "Qwen2ForCausalLM": (_windowed, _dense),
    "Qwen3ForCausalLM": (_windowed, _dense),
    "Qwen3MoeForCausalLM": (_windowed, _experts("num_experts", "moe_intermediate_size")),
    "Qwen3VLMoeForConditionalGeneration": (_windowed, _experts("num_experts", "moe_intermediate_size")),
}
"""How each architecture's attention and FFN layers are read."""
