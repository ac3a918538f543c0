"""SGLang: decode context parallelism inside the tensor parallel group; under attention DP its tp counts the whole stage."""

from __future__ import annotations

from helixplan.cost.case import EXCHANGE_WAYS, Communication
from helixplan.engines.engine import (
    Caution,
    Engine,
    ffn_on_the_stage,
    heads_divide,
    kv_dtype_kept,
    kv_heads_reached,
    shares_compressed_tokens,
    shares_grouped_queries,
)

SGLANG = Engine(
    name="sglang",
    title="SGLang",
    rules=(
        kv_heads_reached(
            "sglang-dcp-needs-kv-heads",
            "the KV heads may not exceed --tp-size / --dcp-size, the ranks that a sequence's shards are not spread over",
        ),
        heads_divide("sglang-heads-divide", "--dcp-comm-backend a2a deals a rank's heads out to its --dcp-size ranks"),
        kv_dtype_kept("sglang-kv-dtype", "--kv-cache-dtype names no other"),
        ffn_on_the_stage("sglang-ffn-on-the-stage", "its expert tensor parallel size is the stage's GPUs over --ep-size"),
    ),
    communication=Communication(EXCHANGE_WAYS, overlaps=False, exchanges_values=False),
    cautions=(
        Caution(
            shares_grouped_queries,
            "SGLang documents query replication (--dcp-replicate-q-proj) for MLA: see that your version has it for grouped heads",
        ),
        Caution(
            shares_compressed_tokens,
            "SGLang's decode context parallelism for DeepSeek-V4's compressed tokens was still in open pull requests in "
            "September 2026 (sgl-project/sglang 30416, 37407): try your version first",
        ),
    ),
)
