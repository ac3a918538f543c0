"""Some decode steps of a scaled plan on emulated ranks, held against the single-rank reference tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from helixplan.cost.case import ALL_TO_ALL
from helixplan.evidence.emulation import mathematics
from helixplan.evidence.emulation.attention import AttentionHalf, Merge
from helixplan.evidence.emulation.compressed import CompressedHalf
from helixplan.evidence.emulation.experts import FfnHalf, Route, Tokens, together
from helixplan.evidence.emulation.ledger import Ledger
from helixplan.evidence.emulation.mathematics import normed
from helixplan.evidence.emulation.ranks import Rank, WrongLayout, owned_blocks
from helixplan.evidence.emulation.reference import Reference
from helixplan.evidence.emulation.scaling import Scaled
from helixplan.evidence.emulation.weights import make_world
from helixplan.evidence.emulation.wires import Mail, bytes_of, reduced
from helixplan.inputs.model import Attention, CompressedAttention, RecurrentAttention
from helixplan.inputs.workload import ACTIVATION_BYTES
from helixplan.layout import dealt
from helixplan.numeric import Floats, Ints
from helixplan.plans import Plan

TOLERANCE = 1e-10
"""The largest error allowed of any tensor, relative to its largest entry, in float64."""


@dataclass
class Emulation:
    """``ledgers``: one a step, of which the first has ``context_tokens`` of the scaled workload."""

    plan: Plan
    scaled: Scaled
    seed: int = 0
    sharpness: float = 1.0
    steps: int = 3
    merge: Merge = mathematics.merged
    ledgers: list[Ledger] = field(default_factory=list)
    largest_error: float = 0.0
    held_bytes: float = 0.0
    """Weights and cache of the fullest rank, at the first step."""

    def __post_init__(self) -> None:
        scaled, prefilled = self.scaled, self.scaled.case.workload.context_tokens - 1
        world = make_world(scaled.model, scaled.batch, prefilled, self.steps, self.seed, self.sharpness)
        self.world, self.reference = world, Reference(scaled.model, world)
        self.ledger = Ledger()
        self.ranks = {one.rank: Rank(one, scaled, self.ledger, owned_blocks(one)[0]) for one in self.plan.ranks}
        self.members = {name: {rank: group for group in groups for rank in group} for name, groups in self.plan.groups.items()}
        for rank in self.ranks.values():
            rank.load(world)
            for micro_batch in range(scaled.layout.pp):
                for layer in scaled.stages[rank.plan.stage]:
                    rank.prefill(world, layer, micro_batch, self.requests_of(rank, micro_batch))

    def group(self, name: str, rank: int) -> list[int]:
        """A rank's group of a collective; alone where the plan names none."""
        return self.members.get(name, {}).get(rank, [rank])

    def requests_of(self, rank: Rank, micro_batch: int) -> Ints:
        """Request r is its group's whose number is r mod dp, so that over all micro-batches groups stay even too."""
        layout = self.scaled.layout
        ids = np.arange(*dealt(self.scaled.batch, layout.pp)[micro_batch])
        return np.asarray(ids[ids % layout.dp == rank.plan.dp])

    def run(self, tell: Callable[[str], None] = lambda said: None) -> None:
        """Raises WrongLayout at the first tensor that a rank lacks or has wrong."""
        for step in range(self.steps):
            tell(f"step {step + 1} of {self.steps} on {len(self.ranks)} ranks")
            logits = self.reference.step(step)
            self.ledger.counts.clear()
            for micro_batch in range(self.scaled.layout.pp):
                self.ledger.micro_batch = micro_batch
                self._decode(step, micro_batch, logits)
            if step == 0:
                self.held_bytes = max(rank.weight_bytes + rank.cache_bytes for rank in self.ranks.values())
            self.ledgers.append(Ledger({key: dict(entries) for key, entries in self.ledger.counts.items()}))

    def _decode(self, step: int, micro_batch: int, logits: Floats) -> None:
        """One micro-batch through all stages."""
        layout = self.scaled.layout
        stages = [[rank for rank in self.ranks.values() if rank.plan.stage == stage] for stage in range(layout.pp)]
        own = self._embedded(stages[0], step, micro_batch)
        known = own
        for stage, ranks in enumerate(stages):
            for layer in self.scaled.stages[stage]:
                self.ledger.layer = layer
                own, known = self._layer(ranks, layer, step, micro_batch, own)
            if stage + 1 < layout.pp:
                own = self._handed_on(ranks, stages[stage + 1], own)
        self._headed(stages[-1], own, known, step, logits)

    def _layer(
        self, ranks: list[Rank], layer: int, step: int, micro_batch: int, before: dict[int, Tokens]
    ) -> tuple[dict[int, Tokens], dict[int, Tokens]]:
        attended: dict[int, Tokens] = {}
        for members in dict.fromkeys(tuple(self.group("attention_reduce", rank.number)) for rank in ranks):
            attended |= self._attention([self.ranks[number] for number in members], layer, step, micro_batch, before)
        half = self.ffn_half(ranks, layer)
        if half is None:
            return attended, attended
        own, known = half.output(attended)
        for rank in ranks:
            tokens = own[rank.number]
            self._check("FFN output", rank, layer, tokens.x, self.reference.seen[layer, "FFN output"][tokens.ids])
        return own, known

    def ffn_half(self, ranks: list[Rank], layer: int, route: Route = mathematics.routed) -> FfnHalf | None:
        """The FFN of one layer on a stage's ranks, if it has one; ``route`` picks each token's experts."""
        model = self.scaled.model
        ffn = next(group.ffn for group in model.groups if layer in group.layers)
        if ffn is None:
            return None
        kind = next(name for name, known, _ in model.ffn_kinds if known == ffn)
        way = self.plan.collectives.get(f"ffn.reduce {kind}", "all-reduce one-shot")
        told = kind if len(model.ffn_kinds) > 1 else ""
        return FfnHalf({rank.number: rank for rank in ranks}, self.group, ffn, told, way, route)

    def _attention(
        self, ranks: list[Rank], layer: int, step: int, micro_batch: int, before: dict[int, Tokens]
    ) -> dict[int, Tokens]:
        model, layout = self.scaled.model, self.scaled.layout
        tokens = before[ranks[0].number]
        if any(not np.array_equal(before[rank.number].ids, tokens.ids) for rank in ranks):
            raise WrongLayout(f"rank {ranks[0].number}: its attention_reduce group has ranks with other requests")
        kind = next(((name, attention) for name, attention, layers in model.attention_kinds if layer in layers), None)
        if kind is None or not len(tokens.ids):
            return {rank.number: tokens for rank in ranks}
        attention: Attention = kind[1]
        told = kind[0] if len(model.attention_kinds) > 1 else ""
        if isinstance(attention, RecurrentAttention):
            heads = {rank.number: rank.advance(attention, told, layer, micro_batch, normed(tokens.x)) for rank in ranks}
        else:
            shape: type[AttentionHalf] = CompressedHalf if isinstance(attention, CompressedAttention) else AttentionHalf
            half = shape(
                ranks,
                {rank.number: self.group("attention_exchange", rank.number) for rank in ranks},
                attention,
                told,
                layer,
                micro_batch,
                self.scaled.case.workload.context_tokens - 1 + step,
                layout.overlap_chunks or 1,
                layout.exchange == "value" and layout.kvp > 1,
                self.plan.collectives.get("attention.exchange", ALL_TO_ALL),
                self.merge,
            )
            heads = half.heads(normed(tokens.x))
        partials = {}
        for rank in ranks:
            outputs = slice(*rank.heads(attention).output_heads)
            known = self.reference.seen[layer, "attention heads"][tokens.ids][:, outputs]
            self._check("attention heads", rank, layer, heads[rank.number], known)
            partials[rank.number] = rank.output(attention, told, layer, heads[rank.number])
        way = self.plan.collectives.get("attention.reduce", "one-shot")
        total = reduced(self.ledger, "attention.reduce", told, partials, partials, way)
        after = {}
        for rank in ranks:
            x = tokens.x + total[rank.number]
            self._check("attention output", rank, layer, x, self.reference.seen[layer, "attention output"][tokens.ids])
            after[rank.number] = Tokens(tokens.ids, x)
        return after

    def _embedded(self, ranks: list[Rank], step: int, micro_batch: int) -> dict[int, Tokens]:
        """Every rank looks up the rows it holds; their sum goes to all. Nobody charges this: it happens once a step."""
        layout, vocabulary = self.scaled.layout, self.scaled.vocabulary
        asked = self.world.tokens[step][np.arange(*dealt(self.scaled.batch, layout.pp)[micro_batch])]
        parts = {}
        for rank in ranks:
            rows = vocabulary.scaled(rank.plan.vocabulary)
            here = (asked >= rows.start) & (asked < rows.stop)
            part = np.zeros((len(asked), self.scaled.model.hidden))
            part[here] = rank.embedding[asked[here] - rows.start]
            parts[rank.number] = part
        total = reduced(self.ledger, "embedding", "", parts, parts, "two-shot")
        first = int(dealt(self.scaled.batch, layout.pp)[micro_batch][0])
        own = {}
        for rank in ranks:
            ids = self.requests_of(rank, micro_batch)
            own[rank.number] = Tokens(ids, total[rank.number][ids - first])
            self._check("embedding", rank, 0, own[rank.number].x, self.world.embedding[self.world.tokens[step][ids]])
        return own

    def _handed_on(self, ranks: list[Rank], following: list[Rank], own: dict[int, Tokens]) -> dict[int, Tokens]:
        mail = Mail(self.ledger, "pipeline", "")
        expected = {rank.number for rank in following}
        for rank in ranks:
            line = self.group("pipeline", rank.number)
            to = line[line.index(rank.number) + 1] if rank.number != line[-1] else None
            if to is None or to not in expected:
                raise WrongLayout(f"rank {rank.number}: its pipeline group {line} names no rank of the next stage")
            mail.send(rank.number, [to], own[rank.number], bytes_of(own[rank.number].x))
        return mail.each(expected, together)

    def _headed(self, ranks: list[Rank], own: dict[int, Tokens], known: dict[int, Tokens], step: int, logits: Floats) -> None:
        """Each rank's rows of the head for all requests of the stage, which it first has to have."""
        mail = Mail(self.ledger, "hidden states for the head", "")
        for rank in ranks:
            # After a dispatch a rank knows its own requests only. Once a step, nobody charges this.
            dispatched = known is own
            to = self.group("data_gather", rank.number) if dispatched else [rank.number]
            mail.send(rank.number, to, known[rank.number], bytes_of(known[rank.number].x))
        everything = mail.each([rank.number for rank in ranks], together)
        for rank in ranks:
            tokens = everything[rank.number]
            part = rank.multiply("head", "", normed(tokens.x), rank.head, "router")
            columns = self.scaled.vocabulary.scaled(rank.plan.vocabulary)
            self._check("logits", rank, self.scaled.model.layers - 1, part, logits[tokens.ids][:, columns])
            rank.ledger.add("logits", "", rank.number, wire=(len(ranks) - 1) * part.size * ACTIVATION_BYTES)

    def _check(self, tensor: str, rank: Rank, layer: int, found: Floats, known: Floats) -> None:
        """Raises WrongLayout where a rank's tensor is not the reference's."""
        if found.shape != known.shape:
            raise WrongLayout(
                f"rank {rank.number}: {tensor} of layer {self.scaled.layers[layer]} has shape {found.shape}, not {known.shape}"
            )
        if not found.size:
            return
        scale = float(np.abs(known).max()) or 1.0
        error = float(np.abs(found - known).max()) / scale
        self.largest_error = max(self.largest_error, error)
        if not error <= TOLERANCE:
            raise WrongLayout(
                f"rank {rank.number}: {tensor} of layer {self.scaled.layers[layer]} is off by {error:.2g} of its largest entry; "
                f"at most {TOLERANCE:g} is allowed"
            )
