"""How each architecture's FFNs are read from its config, layer by layer."""

from __future__ import annotations

from collections.abc import Callable

from helixplan.inputs.attention_layers import EXPERTS, MLP, nemotron_pattern
from helixplan.inputs.config import Reader
from helixplan.inputs.model import FFN, DenseFFN, MoE


def nemotron(reader: Reader) -> list[FFN | None]:
    """Without a gate: relu squared."""
    config, pattern = reader.config, nemotron_pattern(reader)
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


def compressed(reader: Reader) -> list[FFN]:
    """Experts in every layer; the first few take theirs by the token's number (num_hash_layers), which changes no shape."""
    reader.stated("n_shared_experts")
    width = reader.need("moe_intermediate_size")
    moe = MoE(*reader.experts("n_routed_experts"), width, shared_width=(reader.config.n_shared_experts or 0) * width)
    return [moe] * reader.config.num_hidden_layers


def mistral(reader: Reader) -> list[FFN]:
    """Mistral's wrapper holds models with experts and without."""
    return deepseek(reader) if reader.config.n_routed_experts is not None else dense(reader)


def dense(reader: Reader) -> list[FFN]:
    """One SwiGLU a layer."""
    return [DenseFFN(reader.need("intermediate_size"))] * reader.config.num_hidden_layers


def ungated(reader: Reader) -> list[FFN]:
    """Nemotron-4: relu squared, two matrices."""
    return [DenseFFN(reader.need("intermediate_size"), gated=False)] * reader.config.num_hidden_layers


def kimi(reader: Reader) -> list[FFN]:
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
    dense_ones = {*range(config.first_k_dense_replace or 0), *(config.mlp_only_layers or ())}
    dense_ones |= {layer for layer in layers if layer % every or (layer + 1) % step}
    if config.mlp_layer_types is not None:
        reader.known("mlp_layer_types", config.mlp_layer_types, ("dense", "sparse"), len(layers))
        dense_ones = {layer for layer in layers if config.mlp_layer_types[layer] == "dense"}
    return [DenseFFN(reader.need("intermediate_size")) if layer in dense_ones else moe for layer in layers]


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


def interleaved(reader: Reader) -> list[FFN]:
    """Llama 4: every so many layers routed experts beside a shared one of the same width, dense layers between."""
    config = reader.config
    step, width = reader.need("interleave_moe_layer_step"), reader.need("intermediate_size")
    layers = range(config.num_hidden_layers)
    reader.inside("moe_layers", config.moe_layers or ())
    sparse = layers[step - 1 :: step] if config.moe_layers is None else config.moe_layers
    moe = MoE(*reader.experts("num_local_experts"), width, shared_width=width)
    between = DenseFFN(config.intermediate_size_mlp or width)
    return [moe if layer in sparse else between for layer in layers]


def experts_beside_dense(reader: Reader) -> list[FFN]:
    """Gemma 4: every layer's dense FFN runs beside its experts, so that it is their shared expert."""
    config = reader.config
    if not config.enable_moe_block:
        return dense(reader)
    moe = MoE(
        *reader.experts("num_experts", "top_k_experts"),
        reader.need("moe_intermediate_size"),
        shared_width=reader.need("intermediate_size"),
    )
    return [moe] * config.num_hidden_layers


deepseek = _experts("n_routed_experts", "moe_intermediate_size")
qwen = _experts("num_experts", "moe_intermediate_size")
qwen_shared = _experts("num_experts", "moe_intermediate_size", "shared_expert_intermediate_size")
mixtral = _experts("num_local_experts", "intermediate_size")
