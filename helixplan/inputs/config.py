"""The keys of a config.json that helixplan reads, checked, and the questions each architecture asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from helixplan.errors import InputError, did_you_mean, shown
from helixplan.inputs.model import GroupedQueryAttention
from helixplan.inputs.quantization import Quantization

Width = Annotated[int, Field(ge=1, le=2**24)]
Count = Annotated[int, Field(ge=1, le=2**16)]
Layers = Annotated[int, Field(ge=1, le=4096)]
Kernel = Annotated[int, Field(ge=1, le=64)]


class LinearAttentionKeys(BaseModel):
    """``linear_attn_config`` of Kimi's models: which layers (counted from 1), and their heads."""

    model_config = ConfigDict(extra="allow", strict=True)

    full_attn_layers: Annotated[list[int], Field(max_length=4096)]
    kda_layers: Annotated[list[int], Field(max_length=4096)]
    num_heads: Count
    head_dim: Width
    short_conv_kernel_size: Kernel
    use_full_rank_gate: bool = False


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
    model_max_length: Width | None = None

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
    attention_k_eq_v: bool | None = None
    moe_layers: Annotated[list[int], Field(max_length=4096)] | None = None
    shared_intermediate_size: Annotated[int, Field(ge=0, le=2**24)] = 0

    index_topk: Width | None = None
    index_n_heads: Count | None = None
    index_head_dim: Width | None = None
    indexer_types: Annotated[list[str], Field(max_length=4096)] | None = None
    index_topk_pattern: Annotated[str | list[str], Field(max_length=4096)] | None = None
    index_topk_freq: Annotated[int, Field(ge=0, le=4096)] | None = None
    mla_use_output_gate: bool = False
    attn_output_gate: bool = False

    full_attention_interval: Annotated[int, Field(ge=1, le=4096)] | None = None
    linear_num_key_heads: Count | None = None
    linear_num_value_heads: Count | None = None
    linear_key_head_dim: Width | None = None
    linear_value_head_dim: Width | None = None
    linear_conv_kernel_dim: Kernel | None = None
    linear_attn_config: LinearAttentionKeys | None = None
    mamba_ssm_dtype: str | None = None
    mamba_ssm_cache_dtype: str | None = None
    hybrid_override_pattern: Annotated[str, Field(max_length=4096)] | None = None
    mamba_num_heads: Count | None = None
    mamba_head_dim: Width | None = None
    attention_head_dim: Width | None = None
    layers_block_type: Annotated[list[str], Field(max_length=4096)] | None = None
    n_groups: Count | None = None
    ssm_state_size: Width | None = None
    conv_kernel: Kernel | None = None
    attn_type_list: Annotated[list[int], Field(max_length=4096)] | None = None

    compress_ratios: Annotated[list[int], Field(max_length=4096)] | None = None
    compress_rates: dict[str, Annotated[int, Field(ge=2, le=4096)]] | None = None
    o_groups: Count | None = None
    o_lora_rank: Width | None = None
    hc_mult: Annotated[int, Field(ge=1, le=64)] | None = None
    expert_dtype: str | None = None

    sliding_window: Width | None = None
    sliding_window_pattern: Annotated[int, Field(ge=1, le=4096)] | None = None
    use_sliding_window: bool | None = None
    max_window_layers: Annotated[int, Field(ge=0, le=4096)] | None = None
    layer_types: Annotated[list[str], Field(max_length=4096)] | None = None
    mlp_layer_types: Annotated[list[str], Field(max_length=4096)] | None = None

    n_routed_experts: Count | None = None
    num_experts: Count | None = None
    num_local_experts: Count | None = None
    num_experts_per_tok: Count | None = None
    num_experts_per_token: Count | None = None
    num_shared_experts: Annotated[int, Field(ge=0, le=64)] | None = None
    shared_expert_intermediate_size: Annotated[int, Field(ge=0, le=2**24)] | None = None
    moe_shared_expert_intermediate_size: Annotated[int, Field(ge=0, le=2**24)] | None = None
    routed_expert_hidden_size: Width | None = None
    moe_latent_size: Width | None = None
    moe_intermediate_size: Width | None = None
    n_shared_experts: Annotated[int, Field(ge=0, le=64)] | None = None
    first_k_dense_replace: Annotated[int, Field(ge=0, le=4096)] | None = None
    moe_layer_freq: Annotated[int, Field(ge=1, le=4096)] | None = None
    decoder_sparse_step: Annotated[int, Field(ge=1, le=4096)] | None = None
    mlp_only_layers: Annotated[list[int], Field(max_length=4096)] | None = None
    quantization_config: Quantization | None = None
    source: dict[str, Any] | str | None = None


HEADS_UNLESS_SAID = ("LlamaForCausalLM", "GemmaForCausalLM")
"""Architectures whose files may leave out the KV heads: they are then as many as the query heads."""


class Reader:
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
        if config.architectures[0] not in HEADS_UNLESS_SAID:
            self.stated("num_key_value_heads")
        query, kv = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
        if query % kv:
            raise self.wrong("num_key_value_heads", f"got {kv}, but it must divide num_attention_heads ({query})")
        if config.head_dim is None and config.hidden_size % query:
            raise self.wrong("num_attention_heads", f"got {query}, but it must divide hidden_size ({config.hidden_size})")
        size = config.head_dim or config.hidden_size // query
        return GroupedQueryAttention(query, kv, size, window, output_gate=config.attn_output_gate)

    def experts(self, count_key: str, chosen_key: str = "num_experts_per_tok") -> tuple[int, int]:
        """How many experts there are, and how many of them a token visits."""
        experts, per_token = self.need(count_key), self.need(chosen_key)
        if per_token > experts:
            raise self.wrong(chosen_key, f"got {per_token}, but there are only {experts} experts ({count_key})")
        return experts, per_token

    def alike(self, *kinds: str) -> int:
        """How many layers there are. Raises InputError where ``layer_types`` names one that is none of ``kinds``."""
        layers = self.config.num_hidden_layers
        if self.config.layer_types is not None:
            self.known("layer_types", self.config.layer_types, kinds, layers)
        return layers

    def divides(self, key: str, value: int, whole_key: str, whole: int) -> None:
        """Raises InputError where ``value`` does not divide ``whole``."""
        if whole % value:
            raise self.wrong(key, f"got {value}, but it must divide {whole_key} ({whole})")

    def inside(self, key: str, named: Sequence[int]) -> None:
        """Raises InputError where a layer is named that there is not."""
        last = self.config.num_hidden_layers - 1
        outside = next((layer for layer in named if not 0 <= layer <= last), None)
        if outside is not None:
            raise self.wrong(key, f"names layer {shown(outside)}, but layers are 0 to {last}")

    def known(self, key: str, kinds: Sequence[Any], allowed: Sequence[Any], layers: int) -> None:
        """Raises InputError where there is not one kind a layer, or one that is not ``allowed``."""
        if len(kinds) != layers:
            raise self.wrong(key, f"has {len(kinds)} entries, but num_hidden_layers is {layers}")
        for kind in kinds:
            if kind not in allowed:
                raise self.wrong(key, f"got {shown(kind)}; allowed: {', '.join(str(one) for one in allowed)}")
