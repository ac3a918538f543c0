"""How each architecture's attention is read from its config, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from helixplan.inputs.config import Reader
from helixplan.inputs.model import (
    Attention,
    CompressedAttention,
    GroupedQueryAttention,
    Indexer,
    LatentAttention,
    RecurrentAttention,
)


def full(reader: Reader) -> list[Attention]:
    """Every layer attends to all tokens."""
    return [reader.heads()] * reader.alike("full_attention")


def windowed(reader: Reader) -> list[Attention]:
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


def chunked(reader: Reader) -> list[Attention]:
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


def global_and_sliding(reader: Reader) -> list[Attention]:
    """Gemma 4: global layers have heads of their own size and number."""
    config, sliding = reader.config, alternating(reader)
    own = None if config.attention_k_eq_v is False else config.num_global_key_value_heads
    heads = own or config.num_key_value_heads or config.num_attention_heads
    if config.num_attention_heads % heads:
        query = config.num_attention_heads
        raise reader.wrong("num_global_key_value_heads", f"got {heads}, but it must divide num_attention_heads ({query})")
    size = config.global_head_dim or reader.heads().head_dim
    whole = GroupedQueryAttention(config.num_attention_heads, heads, size)
    return [whole if attention.window is None else attention for attention in sliding]


def alternating(reader: Reader) -> list[Attention]:
    """Layers that ``layer_types`` tells apart: without it nobody could say which have a window."""
    reader.stated("layer_types", "sliding_window")
    if reader.config.layer_types is None:
        raise reader.wrong("layer_types", f"is null, and {reader.config.architectures[0]} needs it")
    return windowed(reader)


def pattern_or_types(reader: Reader) -> list[Attention]:
    """Gemma 2 and 3: every so many layers attend to all, unless ``layer_types`` tells."""
    reader.stated("sliding_window")
    return windowed(reader)


def all_or_none(reader: Reader) -> list[Attention]:
    """Mistral: transformers fills in a window where a file does not say that there is none."""
    reader.stated("sliding_window")
    return windowed(reader)


def delta_net(reader: Reader) -> list[Attention]:
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
    softmax = replace(reader.heads(), output_gate="attn_output_gate" not in config.model_fields_set or config.attn_output_gate)
    return [recurrent if kind == "linear_attention" else softmax for kind in kinds]


def _state_bytes(reader: Reader, key: str) -> int:
    """Of an element of the state: fp32 unless the config says otherwise."""
    said = getattr(reader.config, key) or "float32"
    known = {"float32": 4, "bfloat16": 2, "float16": 2}
    if said not in known:
        raise reader.wrong(key, f"got {said!r}; allowed: {', '.join(known)}")
    return known[said]


def kimi(reader: Reader) -> list[Attention]:
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
    softmax = _mla(reader)
    linear = {*keys.kda_layers}
    return [recurrent if layer in linear else softmax for layer in range(1, layers + 1)]


def softmax_alone(reader: Reader) -> list[Attention]:
    """MiniMax-M2, whose files may still say that no layer is one of lightning attention."""
    kinds = reader.config.attn_type_list
    if kinds is not None:
        reader.known("attn_type_list", kinds, (1,), reader.config.num_hidden_layers)
    return full(reader)


def lightning(reader: Reader) -> list[Attention]:
    """MiniMax-01 and M1: lightning attention (0) and softmax attention (1), layer by layer."""
    config = reader.config
    kinds = config.attn_type_list
    if kinds is None:
        raise reader.wrong("attn_type_list", f"is missing, and {config.architectures[0]} needs it")
    reader.known("attn_type_list", kinds, (0, 1), config.num_hidden_layers)
    softmax = reader.heads()
    heads, size = softmax.query_heads, softmax.head_dim
    recurrent = RecurrentAttention(heads, heads, size, size, convolution=1, scalars=0, delta=False)
    return [softmax if kind else recurrent for kind in kinds]


NEMOTRON_HEAD_DIM = 128
"""Of a file that names no size: every Nemotron-H has it, whatever its hidden size over its heads."""
MAMBA, ATTENTION, MLP, EXPERTS = "M*-E"
"""Nemotron-H's layers: each is one of these and nothing else."""


SPELLED_OUT = {"mamba": MAMBA, "attention": ATTENTION, "mlp": MLP, "moe": EXPERTS}
TRANSFORMERS_5 = {"linear_attention": MAMBA, "full_attention": ATTENTION, "mlp": MLP, "moe": EXPERTS}
"""What newer files call the layers, in ``layers_block_type`` or ``layer_types``: transformers 5's ``NemotronHConfig``."""


def nemotron_layers(data: Mapping[str, Any]) -> dict[str, Any]:
    """How many layers there are, which newer files say by naming each."""
    named = data.get("layer_types") or data.get("layers_block_type")
    return {"num_hidden_layers": len(named)} if isinstance(named, list) else {}


def nemotron_pattern(reader: Reader) -> str:
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


def nemotron(reader: Reader) -> list[Attention | None]:
    pattern = nemotron_pattern(reader)
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


def latent(reader: Reader) -> list[Attention]:
    """MLA in every layer, with an indexer where the config has one."""
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


def compressed(reader: Reader) -> list[Attention]:
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


def mistral(reader: Reader) -> list[Attention]:
    """Mistral's wrapper holds models of several kinds."""
    return latent(reader) if reader.config.kv_lora_rank is not None else windowed(reader)
