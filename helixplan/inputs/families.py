"""How each architecture's layers of attention and FFN are read from its config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from helixplan.inputs.config import Reader
from helixplan.inputs.model import (
    FFN,
    Attention,
    CompressedAttention,
    DenseFFN,
    GroupedQueryAttention,
    Indexer,
    LatentAttention,
    MoE,
    RecurrentAttention,
)


def _full(reader: Reader) -> list[Attention]:
    return [reader.heads()] * reader.config.num_hidden_layers


def _windowed(reader: Reader) -> list[Attention]:
    """Layers with a window where ``layer_types`` (or its older spellings) says so."""
    config = reader.config
    layers = config.num_hidden_layers
    if config.sliding_window is None or config.use_sliding_window is False:
        kinds = ["full_attention"] * layers
    elif config.layer_types is not None:
        kinds = config.layer_types
    elif config.sliding_window_pattern is not None:
        every = config.sliding_window_pattern
        kinds = ["sliding_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]
    else:
        first = (config.max_window_layers or 0) if config.use_sliding_window else 0
        kinds = ["full_attention"] * min(first, layers) + ["sliding_attention"] * max(0, layers - first)
    reader.known("layer_types", kinds, ("full_attention", "sliding_attention"), layers)
    return [reader.heads(config.sliding_window if kind == "sliding_attention" else None) for kind in kinds]


def _chunked(reader: Reader) -> list[Attention]:
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


def _global_and_sliding(reader: Reader) -> list[Attention]:
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


def _alternating(reader: Reader) -> list[Attention]:
    """Layers that ``layer_types`` tells apart: without it nobody could say which have a window."""
    reader.stated("layer_types", "sliding_window")
    return _windowed(reader)


def _pattern_or_types(reader: Reader) -> list[Attention]:
    """Gemma 2 and 3: every so many layers attend to all, unless ``layer_types`` tells."""
    reader.stated("sliding_window")
    return _windowed(reader)


def _delta_net(reader: Reader) -> list[Attention]:
    """Qwen's hybrids: Gated DeltaNet, and every so many layers attention, its output gated."""
    config = reader.config
    layers, kinds = config.num_hidden_layers, config.layer_types
    if kinds is None:
        every = reader.need("full_attention_interval")
        kinds = ["linear_attention" if (layer + 1) % every else "full_attention" for layer in range(layers)]
    reader.known("layer_types", kinds, ("full_attention", "linear_attention"), layers)
    heads, keys = reader.need("linear_num_value_heads"), reader.need("linear_num_key_heads")
    reader.divides("linear_num_key_heads", keys, "linear_num_value_heads", heads)
    recurrent = RecurrentAttention(
        query_heads=heads,
        kv_heads=keys,
        key_dim=reader.need("linear_key_head_dim"),
        value_dim=reader.need("linear_value_head_dim"),
        convolution=reader.need("linear_conv_kernel_dim"),
        scalars=2,
        state_bytes=_state_bytes(reader, "mamba_ssm_dtype"),
    )
    # Qwen3-Next has the gate without naming it.
    full = replace(reader.heads(), output_gate="attn_output_gate" not in config.model_fields_set or config.attn_output_gate)
    return [recurrent if kind == "linear_attention" else full for kind in kinds]


def _state_bytes(reader: Reader, key: str) -> int:
    """Of an element of the state: fp32 unless the config says otherwise."""
    said = getattr(reader.config, key) or "float32"
    known = {"float32": 4, "bfloat16": 2, "float16": 2}
    if said not in known:
        raise reader.wrong(key, f"got {said!r}; allowed: {', '.join(known)}")
    return known[said]


def _kimi(reader: Reader) -> list[Attention]:
    """Kimi Linear and K3: Kimi Delta Attention, and MLA in the layers named (counted from 1)."""
    config = reader.config
    layers, keys = config.num_hidden_layers, config.linear_attn_config
    if keys is None:
        return _latent(reader)
    named = sorted([*keys.full_attn_layers, *keys.kda_layers])
    if named != list(range(1, layers + 1)):
        raise reader.wrong(
            "linear_attn_config", f"must name each of the layers 1 to {layers} once in full_attn_layers and kda_layers"
        )
    recurrent = RecurrentAttention(
        query_heads=keys.num_heads,
        kv_heads=keys.num_heads,
        key_dim=keys.head_dim,
        value_dim=keys.head_dim,
        convolution=keys.short_conv_kernel_size,
        decay_rank=keys.head_dim,
        gate_rank=None if keys.use_full_rank_gate else keys.head_dim,
    )
    full = _latent(reader)[0]
    linear = {*keys.kda_layers}
    return [recurrent if layer in linear else full for layer in range(1, layers + 1)]


def _lightning(reader: Reader) -> list[Attention]:
    """MiniMax-01 and M1: lightning attention (0) and softmax attention (1), layer by layer."""
    config = reader.config
    kinds = config.attn_type_list
    if kinds is None:
        raise reader.wrong("attn_type_list", f"is missing, and {config.architectures[0]} needs it")
    reader.known("attn_type_list", kinds, (0, 1), config.num_hidden_layers)
    full = reader.heads()
    heads, size = full.query_heads, full.head_dim
    recurrent = RecurrentAttention(heads, heads, size, size, convolution=1, scalars=0, delta=False)
    return [full if kind else recurrent for kind in kinds]


MAMBA, ATTENTION, MLP, EXPERTS = "M*-E"
"""Nemotron-H's layers: each is one of these and nothing else."""


def _nemotron_pattern(reader: Reader) -> str:
    config = reader.config
    pattern = config.hybrid_override_pattern
    if pattern is None:
        raise reader.wrong("hybrid_override_pattern", f"is missing, and {config.architectures[0]} needs it")
    reader.known("hybrid_override_pattern", pattern, (MAMBA, ATTENTION, MLP, EXPERTS), config.num_hidden_layers)
    return pattern


def _nemotron_attention(reader: Reader) -> list[Attention | None]:
    pattern = _nemotron_pattern(reader)
    kinds: dict[str, Attention] = {}
    if ATTENTION in pattern:
        kinds[ATTENTION] = reader.heads()
    if MAMBA in pattern:
        heads, shared = reader.need("mamba_num_heads"), reader.need("n_groups")
        reader.divides("n_groups", shared, "mamba_num_heads", heads)
        kinds[MAMBA] = RecurrentAttention(
            query_heads=heads,
            kv_heads=shared,
            key_dim=reader.need("ssm_state_size"),
            value_dim=reader.need("mamba_head_dim"),
            convolution=reader.need("conv_kernel"),
            delta=False,
            state_bytes=_state_bytes(reader, "mamba_ssm_cache_dtype"),
        )
    return [kinds.get(kind) for kind in pattern]


def _nemotron_ffn(reader: Reader) -> list[FFN | None]:
    """Without a gate: relu squared."""
    config, pattern = reader.config, _nemotron_pattern(reader)
    kinds: dict[str, FFN] = {}
    if MLP in pattern:
        kinds[MLP] = DenseFFN(reader.need("intermediate_size"), gated=False)
    if EXPERTS in pattern:
        reader.stated("n_shared_experts")
        shared = reader.need("moe_shared_expert_intermediate_size") if config.n_shared_experts else 0
        kinds[EXPERTS] = MoE(
            *reader.experts("n_routed_experts"),
            reader.need("moe_intermediate_size"),
            shared_width=shared * (config.n_shared_experts or 0),
            gated=False,
            latent=config.moe_latent_size,
        )
    return [kinds.get(kind) for kind in pattern]


def _latent(reader: Reader) -> list[Attention]:
    config = reader.config
    reader.stated("q_lora_rank")
    indexer = None
    if config.index_topk is not None:
        indexer = Indexer(reader.need("index_n_heads"), reader.need("index_head_dim"), config.index_topk)
    attention = LatentAttention(
        query_heads=config.num_attention_heads,
        query_rank=config.q_lora_rank,
        kv_rank=reader.need("kv_lora_rank"),
        nope_dim=reader.need("qk_nope_head_dim"),
        rope_dim=reader.need("qk_rope_head_dim"),
        value_dim=reader.need("v_head_dim"),
        output_gate=config.mla_use_output_gate,
        indexer=indexer,
    )
    return [attention] * config.num_hidden_layers


SLIDING, SPARSE, HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
"""DeepSeek-V4's layers, as transformers' DeepseekV4Config spells them."""
RATIO_KINDS = {0: SLIDING, 1: SLIDING, 4: SPARSE, 128: HEAVY}
"""What an entry of ``compress_ratios`` means, the release's spelling."""


def _compressed(reader: Reader) -> list[Attention]:
    """DeepSeek-V4: the last tokens, and entries made of 4 (some of them read) or of 128 tokens (all read)."""
    config = reader.config
    if config.num_key_value_heads not in (None, 1):
        raise reader.wrong("num_key_value_heads", f"got {config.num_key_value_heads}, but all query heads share one vector (1)")
    kinds, rates = _compressed_kinds(reader), _compress_rates(reader)
    heads, groups = config.num_attention_heads, reader.need("o_groups")
    reader.divides("o_groups", groups, "num_attention_heads", heads)
    window = CompressedAttention(
        query_heads=heads,
        query_rank=reader.need("q_lora_rank"),
        head_dim=reader.need("head_dim"),
        window=reader.need("sliding_window"),
        output_groups=groups,
        output_rank=reader.need("o_lora_rank"),
    )
    known: dict[str, Attention] = {SLIDING: window, HEAVY: replace(window, ratio=rates[HEAVY])}
    if SPARSE in kinds:
        indexer = Indexer(*(reader.need(key) for key in ("index_n_heads", "index_head_dim", "index_topk")))
        known[SPARSE] = replace(window, ratio=rates[SPARSE], indexer=indexer)
    return [known[kind] for kind in kinds]


RATES = {SPARSE: 4, HEAVY: 128}
"""Tokens an entry, unless ``compress_rates`` says otherwise."""


def _compress_rates(reader: Reader) -> dict[str, int]:
    """Tokens an entry by kind of layer; what ``compress_ratios`` says already may not be said differently."""
    config = reader.config
    said = config.compress_rates or {}
    for kind, rate in said.items():
        if kind not in RATES:
            raise reader.wrong("compress_rates", f"got {kind!r}; allowed: {', '.join(RATES)}")
        if config.compress_ratios is not None and rate != RATES[kind]:
            raise reader.wrong("compress_rates", f"says {rate} for {kind}, but compress_ratios means {RATES[kind]} by it")
    return RATES | said


def _compressed_kinds(reader: Reader) -> list[str]:
    """A kind of attention a layer, by ``compress_ratios`` or by ``layer_types``; both may be there, but not differ."""
    config = reader.config
    layers, ratios, types = config.num_hidden_layers, config.compress_ratios, config.layer_types
    if ratios is None and types is None:
        raise reader.wrong("compress_ratios", f"is missing, and {config.architectures[0]} needs it (or layer_types)")
    if types is not None:
        reader.known("layer_types", types, (SLIDING, SPARSE, HEAVY), layers)
    if ratios is None:
        return types or []
    if all(RATIO_KINDS.get(ratio) == SLIDING for ratio in ratios[layers:]):
        # Layers that predict further tokens, which compress none, stand at the end.
        ratios = ratios[:layers]
    reader.known("compress_ratios", ratios, tuple(RATIO_KINDS), layers)
    kinds = [RATIO_KINDS[ratio] for ratio in ratios]
    if types is not None and types != kinds:
        layer = next(layer for layer, pair in enumerate(zip(types, kinds, strict=True)) if pair[0] != pair[1])
        raise reader.wrong("layer_types", f"says {types[layer]} of layer {layer}, but compress_ratios says {ratios[layer]}")
    return kinds


def _compressed_ffn(reader: Reader) -> list[FFN]:
    """Experts in every layer; the first few take theirs by the token's number (num_hash_layers), which changes no shape."""
    reader.stated("n_shared_experts")
    width = reader.need("moe_intermediate_size")
    moe = MoE(*reader.experts("n_routed_experts"), width, shared_width=(reader.config.n_shared_experts or 0) * width)
    return [moe] * reader.config.num_hidden_layers


def _mistral(reader: Reader) -> list[Attention]:
    """Mistral's wrapper holds models of several kinds."""
    return _latent(reader) if reader.config.kv_lora_rank is not None else _windowed(reader)


def _mistral_ffn(reader: Reader) -> list[FFN]:
    return _deepseek_ffn(reader) if reader.config.n_routed_experts is not None else _dense(reader)


def _dense(reader: Reader) -> list[FFN]:
    return [DenseFFN(reader.need("intermediate_size"))] * reader.config.num_hidden_layers


def _ungated(reader: Reader) -> list[FFN]:
    """Nemotron-4: relu squared, two matrices."""
    return [DenseFFN(reader.need("intermediate_size"), gated=False)] * reader.config.num_hidden_layers


def _kimi_ffn(reader: Reader) -> list[FFN]:
    """Kimi Linear and K3 spell the experts in their own way; K3's see tokens of another width."""
    config = reader.config
    reader.stated("num_shared_experts", "first_k_dense_replace")
    width = reader.need("moe_intermediate_size")
    moe = MoE(
        *reader.experts("num_experts", "num_experts_per_token"),
        width,
        shared_width=(config.num_shared_experts or 0) * width,
        latent=config.routed_expert_hidden_size,
    )
    dense = range(config.first_k_dense_replace)
    layers = range(config.num_hidden_layers)
    return [DenseFFN(reader.need("intermediate_size")) if layer in dense else moe for layer in layers]


def _experts(count_key: str, width_key: str, shared_key: str | None = None) -> Callable[[Reader], list[FFN]]:
    """MoE layers, save leading dense ones (DeepSeek) and those named (Qwen)."""

    def read(reader: Reader) -> list[FFN]:
        config = reader.config
        if count_key == "n_routed_experts":
            reader.stated("n_shared_experts", "first_k_dense_replace")
        if count_key == "num_experts" and shared_key is not None:
            reader.stated(shared_key)
        counts, width = reader.experts(count_key), reader.need(width_key)
        shared = (config.n_shared_experts or 0) * width + config.shared_intermediate_size
        shared += (shared_key is not None and getattr(config, shared_key)) or 0
        moe = MoE(*counts, width, shared_width=shared)
        dense = {*range(config.first_k_dense_replace), *config.mlp_only_layers}
        layers = range(config.num_hidden_layers)
        return [DenseFFN(reader.need("intermediate_size")) if layer in dense else moe for layer in layers]

    return read


def _interleaved(reader: Reader) -> list[FFN]:
    """Llama 4: every so many layers routed experts beside a shared one of the same width, dense layers between."""
    config = reader.config
    step, width = reader.need("interleave_moe_layer_step"), reader.need("intermediate_size")
    moe = MoE(*reader.experts("num_local_experts"), width, shared_width=width)
    dense = DenseFFN(config.intermediate_size_mlp or width)
    return [moe if (layer + 1) % step == 0 else dense for layer in range(config.num_hidden_layers)]


def _experts_beside_dense(reader: Reader) -> list[FFN]:
    """Gemma 4: every layer's dense FFN runs beside its experts, so that it is their shared expert."""
    config = reader.config
    if not config.enable_moe_block:
        return _dense(reader)
    moe = MoE(
        *reader.experts("num_experts", "top_k_experts"),
        reader.need("moe_intermediate_size"),
        shared_width=reader.need("intermediate_size"),
    )
    return [moe] * config.num_hidden_layers


_deepseek_ffn = _experts("n_routed_experts", "moe_intermediate_size")
_qwen_ffn = _experts("num_experts", "moe_intermediate_size")
_qwen_shared_ffn = _experts("num_experts", "moe_intermediate_size", "shared_expert_intermediate_size")
_mixtral_ffn = _experts("num_local_experts", "intermediate_size")

GEMMA_TIES = {"tie_word_embeddings": True}
"""Gemma's config classes tie the embedding unless told otherwise, and the files leave it out."""
GEMMA_3 = GEMMA_TIES | {"vocab_size": 262_208, "sliding_window_pattern": 6}
"""What transformers' Gemma3TextConfig (4.57) fills in where a wrapper's file leaves it out."""


@dataclass(frozen=True)
class Architecture:
    """How attention and FFN layers are read (None for a layer without), and what a file may leave out."""

    attention: Callable[[Reader], list[Attention] | list[Attention | None]]
    ffn: Callable[[Reader], list[FFN] | list[FFN | None]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    """Those of ``DECISIVE`` that it reads."""


DECISIVE = {
    "kv_source_layer_ids": "layers that attend to other layers' caches",
    "kv_source_layers": "layers that attend to other layers' caches",
    "engram_layer_ids": "memories of n-grams (Engram)",
    "compress_ratios": "attention over compressed tokens",
    "linear_num_value_heads": "layers of linear attention (Gated DeltaNet)",
    "linear_attn_config": "layers of linear attention (Kimi Delta Attention)",
    "attn_type_list": "layers of linear attention (lightning attention)",
    "hybrid_override_pattern": "state-space layers (Mamba)",
    "ssm_state_size": "state-space layers (Mamba)",
    "index_topk": "sparse attention, whose indexer picks the tokens that are read",
    "moe_latent_size": "experts that see tokens of another width",
    "routed_expert_hidden_size": "experts that see tokens of another width",
    "hc_mult": "residual streams that are mixed (hyper-connections)",
}
"""Keys of layers that change what is read and held: to pass over one in an architecture that is not known to have it would be to
guess. The first three (DeepSeek-V4.1) are priced for none."""
MAMBA_KEYS = ("hybrid_override_pattern", "ssm_state_size", "moe_latent_size")

ARCHITECTURES = {
    "DeepseekV2ForCausalLM": Architecture(_latent, _deepseek_ffn),
    "DeepseekV3ForCausalLM": Architecture(_latent, _deepseek_ffn),
    "DeepseekV32ForCausalLM": Architecture(_latent, _deepseek_ffn, reads=("index_topk",)),
    "DeepseekV4ForCausalLM": Architecture(_compressed, _compressed_ffn, reads=("compress_ratios", "index_topk", "hc_mult")),
    "GemmaForCausalLM": Architecture(_full, _dense, GEMMA_TIES),
    "Gemma2ForCausalLM": Architecture(_pattern_or_types, _dense, GEMMA_TIES | {"sliding_window_pattern": 2}),
    "Gemma3ForCausalLM": Architecture(_pattern_or_types, _dense, GEMMA_TIES | {"sliding_window_pattern": 6}),
    "Gemma3ForConditionalGeneration": Architecture(_pattern_or_types, _dense, GEMMA_3),
    "Gemma4ForCausalLM": Architecture(_global_and_sliding, _experts_beside_dense, GEMMA_TIES),
    "Gemma4ForConditionalGeneration": Architecture(_global_and_sliding, _experts_beside_dense),
    "Glm4ForCausalLM": Architecture(_full, _dense),
    "Glm4MoeForCausalLM": Architecture(_full, _deepseek_ffn),
    "Glm4MoeLiteForCausalLM": Architecture(_latent, _deepseek_ffn),
    "Glm4vMoeForConditionalGeneration": Architecture(_full, _deepseek_ffn),
    "GlmMoeDsaForCausalLM": Architecture(_latent, _deepseek_ffn, reads=("index_topk",)),
    "GptOssForCausalLM": Architecture(_alternating, _mixtral_ffn),
    "KimiK25ForConditionalGeneration": Architecture(_latent, _deepseek_ffn),
    "KimiK3ForConditionalGeneration": Architecture(_kimi, _kimi_ffn, reads=("linear_attn_config", "routed_expert_hidden_size")),
    "KimiLinearForCausalLM": Architecture(_kimi, _kimi_ffn, reads=("linear_attn_config", "routed_expert_hidden_size")),
    "Llama4ForCausalLM": Architecture(_chunked, _interleaved),
    "Llama4ForConditionalGeneration": Architecture(_chunked, _interleaved),
    "LlamaForCausalLM": Architecture(_full, _dense),
    "MiniMaxM1ForCausalLM": Architecture(_lightning, _mixtral_ffn, reads=("attn_type_list",)),
    "MiniMaxM2ForCausalLM": Architecture(_full, _mixtral_ffn),
    "MiniMaxText01ForCausalLM": Architecture(_lightning, _mixtral_ffn, reads=("attn_type_list",)),
    "Mistral3ForConditionalGeneration": Architecture(_mistral, _mistral_ffn),
    "MistralForCausalLM": Architecture(_windowed, _dense),
    "MixtralForCausalLM": Architecture(_windowed, _mixtral_ffn),
    "NemotronForCausalLM": Architecture(_full, _ungated),
    "NemotronHForCausalLM": Architecture(_nemotron_attention, _nemotron_ffn, reads=MAMBA_KEYS),
    "Qwen2ForCausalLM": Architecture(_windowed, _dense),
    "Qwen2MoeForCausalLM": Architecture(_windowed, _qwen_shared_ffn),
    "Qwen2VLForConditionalGeneration": Architecture(_windowed, _dense),
    "Qwen2_5_VLForConditionalGeneration": Architecture(_windowed, _dense),
    "Qwen3ForCausalLM": Architecture(_windowed, _dense),
    "Qwen3MoeForCausalLM": Architecture(_windowed, _qwen_ffn),
    "Qwen3NextForCausalLM": Architecture(_delta_net, _qwen_shared_ffn, reads=("linear_num_value_heads",)),
    "Qwen3VLForConditionalGeneration": Architecture(_windowed, _dense),
    "Qwen3VLMoeForConditionalGeneration": Architecture(_windowed, _qwen_ffn),
    "Qwen3_5ForCausalLM": Architecture(_delta_net, _dense, reads=("linear_num_value_heads",)),
    "Qwen3_5ForConditionalGeneration": Architecture(_delta_net, _dense, reads=("linear_num_value_heads",)),
    "Qwen3_5MoeForCausalLM": Architecture(_delta_net, _qwen_shared_ffn, reads=("linear_num_value_heads",)),
    "Qwen3_5MoeForConditionalGeneration": Architecture(_delta_net, _qwen_shared_ffn, reads=("linear_num_value_heads",)),
}
"""Every architecture that helixplan reads."""
