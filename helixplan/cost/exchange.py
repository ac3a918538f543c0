"""How KVP ranks bring attention together: what they tell each other before and after the core, and how partials are folded.

The ways are ``case.EXCHANGE_WAYS``; docs/cost-model.md, "What an engine changes", has their bytes. A layer whose cache is not
split along the sequence exchanges nothing, and neither does a layout with one KVP rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from helixplan.cost.case import ALL_TO_ALL, GATHERED_REDUCE_SCATTER
from helixplan.cost.collectives import all_gather, all_to_all, reduce_scatter
from helixplan.cost.roofline import STATISTIC_BYTES, merge
from helixplan.cost.shares import Heads, Shares
from helixplan.cost.timing import Timing
from helixplan.inputs.model import Attending, Attention, LatentAttention
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.numeric import Amount


def projected_heads(held: Heads, attention: Attention, way: str) -> Amount:
    """The query heads that a rank projects itself: all it attends to, or where queries are gathered its share of them."""
    return held.query if way == ALL_TO_ALL or not attention.split_by_kvp else held.output


def query_width(attention: Attending) -> int:
    """Of one head as the core takes it: MLA's is absorbed, a latent and a rotary part."""
    return attention.kv_elements_per_head if isinstance(attention, LatentAttention) else attention.head_dim


@dataclass(frozen=True)
class Exchange:
    """One layer's exchange in one way, for partial outputs of a ``width`` a head."""

    shares: Shares
    held: Heads
    attention: Attending
    width: Amount
    way: str

    @property
    def statistics_bytes(self) -> float:
        """Of one head."""
        return self.shares.case.communication.statistics * STATISTIC_BYTES

    def before(self) -> Timing:
        """What has to arrive before the core begins: the other ranks' queries, where each projects its share."""
        if self.way == ALL_TO_ALL:
            return Timing()
        own = self.shares.group_requests * self.held.output * query_width(self.attention) * ACTIVATION_BYTES
        return all_gather(self.shares.fabric, self.shares.kvp, self.shares.kvp, own)

    def after(self) -> Timing:
        """Partial outputs with their statistics, all-to-all; or the statistics to all, and the outputs reduce-scattered."""
        fabric, kvp = self.shares.fabric, self.shares.kvp
        partials = self.shares.group_requests * self.held.query
        outputs = partials * self.width * ACTIVATION_BYTES
        if self.way == GATHERED_REDUCE_SCATTER:
            told = all_gather(fabric, kvp, kvp, partials * self.statistics_bytes)
            return told + reduce_scatter(fabric, kvp, kvp, outputs)
        # Bytes of a head first: rounding is then the same whoever asks.
        sent = (kvp - 1) / kvp * self.shares.group_requests * self.held.query
        return all_to_all(fabric, kvp, kvp, sent * (self.width * ACTIVATION_BYTES + self.statistics_bytes))

    def median_error(self) -> float | None:
        """What tests say of the constants behind ``after``."""
        kernels = self.shares.case.hardware.kernels
        kernel = kernels.all_gather if self.way == GATHERED_REDUCE_SCATTER else kernels.all_to_all
        return kernel.median_error

    def folded(self) -> Timing:
        """The merge of a rank's own heads, or the correction of all its partial outputs before they are summed on the way."""
        machine, requests = self.shares.case.machine, self.shares.group_requests
        statistics: Amount = self.shares.case.communication.statistics
        written = self.held.output
        if self.way == GATHERED_REDUCE_SCATTER:
            statistics, written = statistics * self.shares.kvp, self.held.query
        return merge(machine, requests, self.held.query, written, self.width, statistics)
