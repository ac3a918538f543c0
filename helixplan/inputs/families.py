"""Every architecture: how its layers are read, what its files leave out, and the keys that nobody may pass over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from helixplan.inputs import attention_layers as attention
from helixplan.inputs import ffn_layers as ffn
from helixplan.inputs.config import Reader
from helixplan.inputs.model import FFN, Attention

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
    "DeepseekV2ForCausalLM": Architecture(attention.latent, ffn.deepseek),
    "DeepseekV3ForCausalLM": Architecture(attention.latent, ffn.deepseek),
    "DeepseekV32ForCausalLM": Architecture(attention.latent, ffn.deepseek, reads=INDEX_KEYS),
    "DeepseekV4ForCausalLM": Architecture(attention.compressed, ffn.compressed, reads=COMPRESSED_KEYS),
    "GemmaForCausalLM": Architecture(attention.full, ffn.dense, GEMMA),
    "Gemma2ForCausalLM": Architecture(attention.pattern_or_types, ffn.dense, GEMMA | {"sliding_window_pattern": 2}),
    "Gemma3ForCausalLM": Architecture(attention.pattern_or_types, ffn.dense, GEMMA_3),
    "Gemma3ForConditionalGeneration": Architecture(attention.pattern_or_types, ffn.dense, GEMMA_3_WRAPPED),
    "Gemma4ForCausalLM": Architecture(attention.global_and_sliding, ffn.experts_beside_dense, GEMMA_4, modules=GEMMA_4_MODULES),
    "Gemma4ForConditionalGeneration": Architecture(
        attention.global_and_sliding, ffn.experts_beside_dense, GEMMA_4, modules=GEMMA_4_MODULES
    ),
    "Glm4ForCausalLM": Architecture(attention.full, ffn.dense, HEAD_128),
    "Glm4MoeForCausalLM": Architecture(attention.full, ffn.deepseek),
    "Glm4MoeLiteForCausalLM": Architecture(attention.latent, ffn.deepseek),
    "Glm4vMoeForConditionalGeneration": Architecture(attention.full, ffn.deepseek),
    "GlmMoeDsaForCausalLM": Architecture(attention.latent, ffn.deepseek, reads=INDEX_KEYS),
    "GptOssForCausalLM": Architecture(attention.alternating, ffn.mixtral, HEAD_64),
    "KimiK25ForConditionalGeneration": Architecture(attention.latent, ffn.deepseek),
    "KimiK3ForConditionalGeneration": Architecture(attention.kimi, ffn.kimi, reads=KIMI_KEYS),
    "KimiLinearForCausalLM": Architecture(attention.kimi, ffn.kimi, reads=KIMI_KEYS),
    "KimiVLForConditionalGeneration": Architecture(attention.latent, ffn.deepseek),
    "Llama4ForCausalLM": Architecture(attention.chunked, ffn.interleaved, HEAD_128, modules=LLAMA_4_MODULES),
    "Llama4ForConditionalGeneration": Architecture(attention.chunked, ffn.interleaved, HEAD_128, modules=LLAMA_4_MODULES),
    "LlamaForCausalLM": Architecture(attention.full, ffn.dense),
    "MiniMaxM1ForCausalLM": Architecture(attention.lightning, ffn.mixtral, reads=LIGHTNING_KEYS, modules=MIXTRAL_MODULES),
    "MiniMaxM2ForCausalLM": Architecture(
        attention.softmax_alone, ffn.mixtral, HEAD_128, reads=LIGHTNING_KEYS, modules=MIXTRAL_MODULES
    ),
    "MiniMaxText01ForCausalLM": Architecture(attention.lightning, ffn.mixtral, reads=LIGHTNING_KEYS, modules=MIXTRAL_MODULES),
    "Ministral3ForCausalLM": Architecture(attention.windowed, ffn.dense, HEAD_128),
    "Mistral3ForConditionalGeneration": Architecture(attention.mistral, ffn.mistral),
    "MistralForCausalLM": Architecture(attention.all_or_none, ffn.dense),
    "MixtralForCausalLM": Architecture(attention.windowed, ffn.mixtral, modules=MIXTRAL_MODULES),
    "NemotronForCausalLM": Architecture(attention.full, ffn.ungated),
    "NemotronHForCausalLM": Architecture(
        attention.nemotron, ffn.nemotron, reads=MAMBA_KEYS, implied=attention.nemotron_layers, modules=NEMOTRON_MODULES
    ),
    "Qwen2ForCausalLM": Architecture(attention.windowed, ffn.dense, FULL_UNLESS_SAID),
    "Qwen2MoeForCausalLM": Architecture(attention.windowed, ffn.qwen_shared, FULL_UNLESS_SAID, modules=QWEN_MODULES),
    "Qwen2VLForConditionalGeneration": Architecture(attention.windowed, ffn.dense, FULL_UNLESS_SAID),
    "Qwen2_5_VLForConditionalGeneration": Architecture(attention.windowed, ffn.dense, FULL_UNLESS_SAID),
    "Qwen3ForCausalLM": Architecture(attention.windowed, ffn.dense, FULL_UNLESS_SAID | HEAD_128),
    "Qwen3MoeForCausalLM": Architecture(attention.windowed, ffn.qwen, FULL_UNLESS_SAID),
    "Qwen3NextForCausalLM": Architecture(attention.delta_net, ffn.qwen_shared, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES),
    "Qwen3VLForConditionalGeneration": Architecture(attention.windowed, ffn.dense, FULL_UNLESS_SAID | HEAD_128),
    "Qwen3VLMoeForConditionalGeneration": Architecture(attention.windowed, ffn.qwen, FULL_UNLESS_SAID),
    "Qwen3_5ForCausalLM": Architecture(attention.delta_net, ffn.dense, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES),
    "Qwen3_5ForConditionalGeneration": Architecture(
        attention.delta_net, ffn.dense, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES
    ),
    "Qwen3_5MoeForCausalLM": Architecture(attention.delta_net, ffn.qwen_shared, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES),
    "Qwen3_5MoeForConditionalGeneration": Architecture(
        attention.delta_net, ffn.qwen_shared, HEAD_256, reads=DELTA_KEYS, modules=QWEN_MODULES
    ),
}
"""Every architecture that helixplan reads."""
