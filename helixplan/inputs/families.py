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
    return [reader.heads()] * reader.alike("full_attention")


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
    kinds = config.layer_types
    if kinds is None:
        rotary, every = config.no_rope_layers, config.no_rope_layer_interval or 4
        if rotary and len(rotary) != layers:
            raise reader.wrong("no_rope_layers", f"has {len(rotary)} entries, but num_hidden_layers is {layers}")
        in_chunks = rotary or [(layer + 1) % every for layer in range(layers)]
        kinds = ["chunked_attention" if one else "full_attention" for one in in_chunks]
    reader.known("layer_types", kinds, ("full_attention", "chunked_attention"), layers)
    return [reader.heads(chunk if kind == "chunked_attention" else None) for kind in kinds]


def _global_and_sliding(reader: Reader) -> list[Attention]:
    """Gemma 4: global layers have heads of their own size and number."""
    config, sliding = reader.config, _alternating(reader)
    own = None if config.attention_k_eq_v is False else config.num_global_key_value_heads
    heads = own or config.num_key_value_heads or config.num_attention_heads
    if config.num_attention_heads % heads:
        query = config.num_attention_heads
        raise reader.wrong("num_global_key_value_heads", f"got {heads}, but it must divide num_attention_heads ({query})")
    size = config.global_head_dim or reader.heads().head_dim
    whole = GroupedQueryAttention(config.num_attention_heads, heads, size)
    return [whole if attention.window is None else attention for attention in sliding]


def _alternating(reader: Reader) -> list[Attention]:
    """Layers that ``layer_types`` tells apart: without it nobody could say which have a window."""
    reader.stated("layer_types", "sliding_window")
    if reader.config.layer_types is None:
        raise reader.wrong("layer_types", f"is null, and {reader.config.architectures[0]} needs it")
    return _windowed(reader)


def _pattern_or_types(reader: Reader) -> list[Attention]:
    """Gemma 2 and 3: every so many layers attend to all, unless ``layer_types`` tells."""
    reader.stated("sliding_window")
    return _windowed(reader)


def _all_or_none(reader: Reader) -> list[Attention]:
    """Mistral: transformers fills in a window where a file does not say that there is none."""
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
        raise reader.wrong("linear_attn_config", f"is missing, and {config.architectures[0]} needs it")
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
    full = _mla(reader)
    linear = {*keys.kda_layers}
    return [recurrent if layer in linear else full for layer in range(1, layers + 1)]


def _softmax_alone(reader: Reader) -> list[Attention]:
    """MiniMax-M2, whose files may still say that no layer is one of lightning attention."""
    kinds = reader.config.attn_type_list
    if kinds is not None:
        reader.known("attn_type_list", kinds, (1,), reader.config.num_hidden_layers)
    return _full(reader)


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


NEMOTRON_HEAD_DIM = 128
"""Of a file that names no size: every Nemotron-H has it, whatever its hidden size over its heads."""
MAMBA, ATTENTION, MLP, EXPERTS = "M*-E"
"""Nemotron-H's layers: each is one of these and nothing else."""


SPELLED_OUT = {"mamba": MAMBA, "attention": ATTENTION, "mlp": MLP, "moe": EXPERTS}
TRANSFORMERS_5 = {"linear_attention": MAMBA, "full_attention": ATTENTION, "mlp": MLP, "moe": EXPERTS}
"""What newer files call the layers, in ``layers_block_type`` or ``layer_types``: transformers 5's ``NemotronHConfig``."""


def _nemotron_layers(data: Mapping[str, Any]) -> dict[str, Any]:
    """How many layers there are, which newer files say by naming each."""
    named = data.get("layer_types") or data.get("layers_block_type")
    return {"num_hidden_layers": len(named)} if isinstance(named, list) else {}


def _nemotron_pattern(reader: Reader) -> str:
    config = reader.config
    for key in ("layer_types", "layers_block_type"):
        kinds, names = getattr(config, key), SPELLED_OUT | TRANSFORMERS_5
        if kinds is not None:
            reader.known(key, kinds, tuple(names), config.num_hidden_layers)
            return "".join(names[kind] for kind in kinds)
    pattern = config.hybrid_override_pattern
    if pattern is None:
        raise reader.wrong("hybrid_override_pattern", f"is missing, and {config.architectures[0]} needs it")
    reader.known("hybrid_override_pattern", pattern, (MAMBA, ATTENTION, MLP, EXPERTS), config.num_hidden_layers)
    return pattern


def _nemotron_attention(reader: Reader) -> list[Attention | None]:
    pattern = _nemotron_pattern(reader)
    kinds: dict[str, Attention] = {}
    if ATTENTION in pattern:
        own = reader.config.head_dim or reader.config.attention_head_dim or NEMOTRON_HEAD_DIM
        kinds[ATTENTION] = replace(reader.heads(), head_dim=own)
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
    return [_mla(reader)] * reader.alike("full_attention", "deepseek_sparse_attention", "indexed_attention")


def _mla(reader: Reader) -> LatentAttention:
    config = reader.config
    reader.stated("q_lora_rank")
    indexer = None
    if config.index_topk is not None:
        _every_layer_chooses(reader)
        indexer = Indexer(reader.need("index_n_heads"), reader.need("index_head_dim"), config.index_topk)
    return LatentAttention(
        query_heads=config.num_attention_heads,
        query_rank=config.q_lora_rank,
        kv_rank=reader.need("kv_lora_rank"),
        nope_dim=reader.need("qk_nope_head_dim"),
        rope_dim=reader.need("qk_rope_head_dim"),
        value_dim=reader.need("v_head_dim"),
        output_gate=config.mla_use_output_gate,
        indexer=indexer,
    )


def _every_layer_chooses(reader: Reader) -> None:
    """Raises InputError where layers read the tokens that an earlier layer's indexer chose (GLM-5.2)."""
    config = reader.config
    # The first of them that a file states decides, as in transformers' GlmMoeDsaConfig (5.24).
    if config.indexer_types is not None:
        reader.known("indexer_types", config.indexer_types, ("full", "shared"), config.num_hidden_layers)
        key, shared = "indexer_types", set(config.indexer_types) - {"full"} != set()
    elif config.index_topk_pattern is not None:
        key, shared = "index_topk_pattern", set(config.index_topk_pattern) - {"F", "full"} != set()
    else:
        key, shared = "index_topk_freq", (config.index_topk_freq or 1) > 1
    if shared:
        what = "layers that read what another layer's indexer chose"
        raise reader.wrong(key, f"{config.architectures[0]} with {what} is none that helixplan can price")


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
    reader.stated("num_shared_experts", *_dense_layers(reader))
    width = reader.need("moe_intermediate_size")
    moe = MoE(
        *reader.experts("num_experts", "num_experts_per_token"),
        width,
        shared_width=(config.num_shared_experts or 0) * width,
        latent=config.routed_expert_hidden_size,
    )
    return _sparse(reader, moe)


def _sparse(reader: Reader, moe: MoE) -> list[FFN]:
    """MoE layers, save leading ones and those between every so many (DeepSeek, Qwen), those named, and what newer files tell."""
    config, layers = reader.config, range(reader.config.num_hidden_layers)
    reader.inside("mlp_only_layers", config.mlp_only_layers or ())
    every, step = config.moe_layer_freq or 1, config.decoder_sparse_step or 1
    dense = {*range(config.first_k_dense_replace or 0), *(config.mlp_only_layers or ())}
    dense |= {layer for layer in layers if layer % every or (layer + 1) % step}
    if config.mlp_layer_types is not None:
        reader.known("mlp_layer_types", config.mlp_layer_types, ("dense", "sparse"), len(layers))
        dense = {layer for layer in layers if config.mlp_layer_types[layer] == "dense"}
    return [DenseFFN(reader.need("intermediate_size")) if layer in dense else moe for layer in layers]


def _experts(count_key: str, width_key: str, shared_key: str | None = None) -> Callable[[Reader], list[FFN]]:
    """Layers of experts, under the keys that count and size them."""

    def read(reader: Reader) -> list[FFN]:
        config = reader.config
        if count_key == "n_routed_experts":
            reader.stated("n_shared_experts", *_dense_layers(reader))
        if count_key == "num_experts" and shared_key is not None:
            reader.stated(shared_key)
        counts, width = reader.experts(count_key), reader.need(width_key)
        shared = (config.n_shared_experts or 0) * width + config.shared_intermediate_size
        shared += (shared_key is not None and getattr(config, shared_key)) or 0
        return _sparse(reader, MoE(*counts, width, shared_width=shared))

    return read


def _dense_layers(reader: Reader) -> list[str]:
    """The key that has to say which layers are dense, unless ``mlp_layer_types`` does."""
    return ["first_k_dense_replace"] if reader.config.mlp_layer_types is None else []


def _interleaved(reader: Reader) -> list[FFN]:
    """Llama 4: every so many layers routed experts beside a shared one of the same width, dense layers between."""
    config = reader.config
    step, width = reader.need("interleave_moe_layer_step"), reader.need("intermediate_size")
    layers = range(config.num_hidden_layers)
    reader.inside("moe_layers", config.moe_layers or ())
    sparse = layers[step - 1 :: step] if config.moe_layers is None else config.moe_layers
    moe = MoE(*reader.experts("num_local_experts"), width, shared_width=width)
    dense = DenseFFN(config.intermediate_size_mlp or width)
    return [moe if layer in sparse else dense for layer in layers]


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

# What transformers' config classes (5.24) fill in where a file leaves a key out.
HEAD_64, HEAD_128, HEAD_256 = ({"head_dim": size} for size in (64, 128, 256))
FULL_UNLESS_SAID = {"use_sliding_window": False}
GEMMA = HEAD_256 | {"tie_word_embeddings": True}
GEMMA_3 = GEMMA | {"sliding_window_pattern": 6}
GEMMA_3_WRAPPED = GEMMA_3 | {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 131_072,
}
"""A wrapper's file leaves out of ``text_config`` all that stands at its default."""
GEMMA_4 = GEMMA | {"global_head_dim": 512}


@dataclass(frozen=True)
class Architecture:
    """How attention and FFN layers are read (None for a layer without), and what a file may leave out."""

    attention: Callable[[Reader], list[Attention] | list[Attention | None]]
    ffn: Callable[[Reader], list[FFN] | list[FFN | None]]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    """Those of ``DECISIVE`` that it reads."""
    implied: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda data: {}
    """What a file says in other words of keys that it leaves out."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """What its checkpoints call a module of each component in a layer, where that is not ``quantization.MODULES``."""


QWEN_MODULES = {"recurrent": "linear_attn.out_proj", "shared": "mlp.shared_expert.gate_proj"}
MIXTRAL_MODULES = {"experts": "block_sparse_moe.experts.0.w1"}
GEMMA_4_MODULES = {"experts": "experts.0.gate_proj", "shared": "mlp.gate_proj"}
LLAMA_4_MODULES = {
    "dense": "feed_forward.gate_proj",
    "experts": "feed_forward.experts.0.gate_proj",
    "shared": "feed_forward.shared_expert.gate_proj",
}
NEMOTRON_MODULES = {
    "attention": "mixer.o_proj",
    "recurrent": "mixer.out_proj",
    "dense": "mixer.up_proj",
    "experts": "mixer.experts.0.up_proj",
    "shared": "mixer.shared_experts.up_proj",
}

DECISIVE = {
    "kv_source_layer_ids": "layers that attend to other layers' caches",
    "kv_source_layers": "layers that attend to other layers' caches",
    "engram_layer_ids": "memories of n-grams (Engram)",
    "compress_ratios": "attention over compressed tokens",
    "linear_num_value_heads": "layers of linear attention (Gated DeltaNet)",
    "linear_attn_config": "layers of linear attention (Kimi Delta Attention)",
    "attn_type_list": "layers of linear attention (lightning attention)",
    "hybrid_override_pattern": "state-space layers (Mamba)",
    "layers_block_type": "state-space layers (Mamba)",
    "ssm_state_size": "state-space layers (Mamba)",
    "index_topk": "sparse attention, whose indexer picks the tokens that are read",
    "sparse_attention_config": "sparse attention over blocks of tokens",
    "moe_latent_size": "experts that see tokens of another width",
    "routed_expert_hidden_size": "experts that see tokens of another width",
    "block_configs": "layers of their own sizes each",
    "per_layer_config": "layers of their own sizes each",
    "num_kv_shared_layers": "layers that read the cache of others",
    "hidden_size_per_layer_input": "an embedding for each layer",
    "hc_mult": "residual streams that are mixed (hyper-connections)",
}
"""Keys of layers that change what is read and held: to pass over one in an architecture that is not known to have it would be to
guess. Null and 0 say that there are none."""
MAMBA_KEYS = ("hybrid_override_pattern", "layers_block_type", "ssm_state_size", "moe_latent_size")
KIMI_KEYS = ("linear_attn_config", "routed_expert_hidden_size")
DELTA_KEYS = ("linear_num_value_heads",)
LIGHTNING_KEYS = ("attn_type_list",)
INDEX_KEYS = ("index_topk",)
COMPRESSED_KEYS = ("compress_ratios", "index_topk", "hc_mult")

ARCHITECTURES = {
    "DeepseekV2ForCausalLM": Architecture(_latent, _deepseek_ffn),
    "DeepseekV3ForCausalLM": Architecture(_latent, _deepseek_ffn),
    "DeepseekV32ForCausalLM": Architecture(_latent, _deepseek_ffn, reads=INDEX_KEYS),
    "DeepseekV4ForCausalLM": Architecture(_compressed, _compressed_ffn, reads=COMPRESSED_KEYS),
    "GemmaForCausalLM": Architecture(_full, _dense, GEMMA),
    "Gemma2ForCausalLM": Architecture(_pattern_or_types, _dense, GEMMA | {"sliding_window_pattern": 2}),
    "Gemma3ForCausalLM": Architecture(_pattern_or_types, _dense, GEMMA_3),
    "Gemma3ForConditionalGeneration": Architecture(_pattern_or_types, _dense, GEMMA_3_WRAPPED),
    "Gemma4ForCausalLM": Architecture(_global_and_sliding, _experts_beside_dense, GEMMA_4, modules=GEMMA_4_MODULES),
    "Gemma4ForConditionalGeneration": Architecture(_global_and_sliding, _experts_beside_dense, GEMMA_4, modules=GEMMA_4_MODULES),
    "Glm4ForCausalLM": Architecture(_full, _dense, HEAD_128),
    "Glm4MoeForCausalLM": Architecture(_full, _deepseek_ffn),
    "Glm4MoeLiteForCausalLM": Architecture(_latent, _deepseek_ffn),
    "Glm4vMoeForConditionalGeneration": Architecture(_full, _deepseek_ffn),
    "GlmMoeDsaForCausalLM": Architecture(_latent, _deepseek_ffn, reads=INDEX_KEYS),
    "GptOssForCausalLM": Architecture(_alternating, _mixtral_ffn, HEAD_64),
    "KimiK25ForConditionalGeneration": Architecture(_latent, _deepseek_ffn),
    "KimiK3ForConditionalGeneration": Architecture(_kimi, _kimi_ffn, reads=KIMI_KEYS),
    "KimiLinearForCausalLM": Architecture(_kimi, _kimi_ffn, reads=KIMI_KEYS),
    "KimiVLForConditionalGeneration": Architecture(_latent, _deepseek_ffn),
    "Llama4ForCausalLM": Architecture(_chunked, _interleaved, HEAD_128, modules=LLAMA_4_MODULES),
    "Llama4ForConditionalGeneration": Architecture(_chunked, _interleaved, HEAD_128, modules=LLAMA_4_MODULES),
    "LlamaForCausalLM": Architecture(_full, _dense),
    "MiniMaxM1ForCausalLM": Architecture(_lightning, _mixtral_ffn, reads=LIGHTNING_KEYS, modules=MIXTRAL_MODULES),
    "MiniMaxM2ForCausalLM": Architecture(_softmax_alone, _mixtral_ffn, HEAD_128, reads=LIGHTNING_KEYS, modules=MIXTRAL_MODULES),
    "MiniMaxText01ForCausalLM": Architecture(_lightning, _mixtral_ffn, reads=LIGHTNING_KEYS, modules=MIXTRAL_MODULES),
    "Ministral3ForCausalLM": Architecture(_windowed, _dense, HEAD_128),
    "Mistral3ForConditionalGeneration": Architecture(_mistral, _mistral_ffn),
    "MistralForCausalLM": Architecture(_all_or_none, _dense),
    "MixtralForCausalLM": Architecture(_windowed, _mixtral_ffn, modules=MIXTRAL_MODULES),
    "NemotronForCausalLM": Architecture(_full, _ungated),
    "NemotronHForCausalLM": Architecture(
        _nemotron_attention, _nemotron_ffn, reads=MAMBA_KEYS, implied=_nemotron_layers, modules=NEMOTRON_MODULES
    ),
    "Qwen2ForCausalLM": Architecture(_windowed, _dense, FULL_UNLESS_SAID),
    "Qwen2MoeForCausalLM": Architecture(_windowed, _qwen_shared_ffn, FULL_UNLESS_SAID, modules=QWEN_MODULES),
    "Qwen2VLForConditionalGeneration": Architecture(_windowed, _dense, FULL_UNLESS_SAID),
    "Qwen2_5_VLForConditionalGeneration": Architecture(_windowed, _dense, FULL_UNLESS_SAID),
    "Qwen3ForCausalLM": Architecture(_windowed, _dense, FULL_UNLESS_SAID | HEAD_128),
    "Qwen3MoeForCausalLM": Architecture(_windowed, _qwen_ffn, FULL_UNLESS_SAID),
    "Qwen3NextForCausalLM": Architecture(_delta_net, _qwen_shared_ffn, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES),
    "Qwen3VLForConditionalGeneration": Architecture(_windowed, _dense, FULL_UNLESS_SAID | HEAD_128),
    "Qwen3VLMoeForConditionalGeneration": Architecture(_windowed, _qwen_ffn, FULL_UNLESS_SAID),
    "Qwen3_5ForCausalLM": Architecture(_delta_net, _dense, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES),
    "Qwen3_5ForConditionalGeneration": Architecture(_delta_net, _dense, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES),
    "Qwen3_5MoeForCausalLM": Architecture(_delta_net, _qwen_shared_ffn, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES),
    "Qwen3_5MoeForConditionalGeneration": Architecture(
        _delta_net, _qwen_shared_ffn, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES
    ),
}
"""Every architecture that helixplan reads."""
