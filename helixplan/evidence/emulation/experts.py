"""The FFN half of a layer on emulated ranks: tokens gathered or dispatched, slices computed, sums made (Helix 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from helixplan.evidence.emulation.ledger import Ledger
from helixplan.evidence.emulation.mathematics import normed, routed
from helixplan.evidence.emulation.ranks import Rank, WrongLayout
from helixplan.evidence.emulation.wires import Mail, bytes_of, gathered, reduced
from helixplan.inputs.model import FFN, MoE
from helixplan.inputs.workload import ACTIVATION_BYTES, DISPATCH_BYTES
from helixplan.layout import dealt, may_dispatch
from helixplan.numeric import Floats, Ints

Groups = Callable[[str, int], list[int]]
"""(name of a collective, rank) -> the ranks of its group, itself included."""
Route = Callable[[Floats, int], tuple[Ints, Floats]]
BETWEEN, COMBINE = "ffn.reduce, slices", "ffn.reduce, combine"
"""What an expert's slices tell each other about dispatched pairs, and what the pairs bring back: expectations, so counted apart
from the all-reduce of ``ffn.reduce``."""


@dataclass(frozen=True)
class Tokens:
    """Hidden states of some requests, by their numbers, which rise."""

    ids: Ints
    x: Floats

    def of(self, ids: Ints) -> Floats:
        return self.x[np.searchsorted(self.ids, ids)]


def together(parts: list[Tokens]) -> Tokens:
    """Several ranks' tokens as one, in the order of their numbers. Raises WrongLayout where some come twice."""
    ids = np.concatenate([part.ids for part in parts])
    if len(np.unique(ids)) != len(ids):
        raise WrongLayout("a data_gather group brings some requests twice")
    order = np.argsort(ids)
    return Tokens(ids[order], np.concatenate([part.x for part in parts])[order])


@dataclass(frozen=True)
class Pair:
    """A token on its way to one of its experts: who sent it, which of the sender's tokens, and how much the expert counts."""

    sender: int
    row: int
    weight: float
    expert: int
    x: Floats


@dataclass
class FfnHalf:
    """One stage's ranks at one layer. ``way`` is how reductions run, as the plan's ``collectives`` names it."""

    ranks: dict[int, Rank]
    groups: Groups
    ffn: FFN
    kind: str
    way: str
    route: Route = routed
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = next(iter(self.ranks.values())).ledger

    def output(self, before: dict[int, Tokens]) -> tuple[dict[int, Tokens], dict[int, Tokens]]:
        """(each rank's own requests after the layer, every request it knows after the layer)."""
        if isinstance(self.ffn, MoE) and self.way.startswith("dispatch"):
            after = self._dispatched(self.ffn, before)
            return after, after
        everything = self._gathered(before)
        partials = {
            number: self._partial(rank, before[number], everything[number])
            for number, rank in self.ranks.items()
            if rank.plan.tpf is not None
        }
        total = self._summed(partials)
        known = {number: Tokens(tokens.ids, tokens.x + total[number]) for number, tokens in everything.items()}
        return {number: Tokens(before[number].ids, known[number].of(before[number].ids)) for number in self.ranks}, known

    def _distinct(self, name: str, ranks: Iterable[int]) -> list[list[int]]:
        return [list(group) for group in dict.fromkeys(tuple(self.groups(name, number)) for number in ranks)]

    @property
    def _shot(self) -> str:
        return self.way.split()[-1]

    def _gathered(self, before: dict[int, Tokens]) -> dict[int, Tokens]:
        """Every attention group's tokens on every rank."""
        mail = Mail(self.ledger, "ffn.gather", self.kind)
        for number, tokens in before.items():
            mail.send(number, self.groups("data_gather", number), tokens, bytes_of(tokens.x))
        return mail.each(self.ranks, together)

    def _partial(self, rank: Rank, own: Tokens, everything: Tokens) -> Floats:
        """This rank's part of the sum, for every token of the stage."""
        h = normed(everything.x)
        if not isinstance(self.ffn, MoE):
            return rank.swiglu("ffn.dense", self.kind, h, "dense")
        logits = rank.multiply("ffn.router", self.kind, h, rank.weights[self.ledger.layer]["router"], "router")
        experts, weights = self.route(logits, self.ffn.experts_per_token)
        seen = self._to_latent(rank, h)
        total = np.zeros_like(seen)
        for expert in range(*rank.plan.experts):
            rows, slots = np.nonzero(experts == expert)
            if len(rows):
                total[rows] += weights[rows, slots, None] * rank.expert(self.kind, seen[rows], expert)
        total = self._from_latent(rank, total)
        if self.ffn.shared_width and may_dispatch(rank.scaled.layout):
            rows = np.searchsorted(everything.ids, own.ids)
            total[rows] += rank.swiglu("ffn.shared", self.kind, h[rows], "shared")
        elif self.ffn.shared_width:
            total += rank.swiglu("ffn.shared", self.kind, h, "shared")
        return total

    def _to_latent(self, rank: Rank, h: Floats) -> Floats:
        """Tokens at the width that experts see."""
        own = rank.weights[self.ledger.layer]
        return rank.multiply("ffn.latent", self.kind, h, own["latent_in"], "shared") if "latent_in" in own else h

    def _from_latent(self, rank: Rank, total: Floats) -> Floats:
        """Experts' weighted sums at the model's width again."""
        own = rank.weights[self.ledger.layer]
        return rank.multiply("ffn.latent", self.kind, total, own["latent_out"], "shared") if "latent_out" in own else total

    def _summed(self, partials: dict[int, Floats]) -> dict[int, Floats]:
        """Every rank's sum of the partials: one all-reduce over the stage, or over TPF with an all-gather over EP after it."""
        sums: dict[int, Floats] = {}
        if not self.way.startswith("all-gather"):
            for members in self._distinct("ffn_reduce", self.ranks):
                given = {number: partials[number] for number in members if number in partials}
                sums |= reduced(self.ledger, "ffn.reduce", self.kind, given, members, self._shot)
            return sums
        by_slice: dict[int, Floats] = {}
        for members in self._distinct("ffn_tensor", partials):
            given = {number: partials[number] for number in members}
            by_slice |= reduced(self.ledger, "ffn.reduce", self.kind, given, members, self._shot)
        for members in self._distinct("expert", partials):
            parts = gathered(self.ledger, "ffn.reduce", self.kind, {number: by_slice[number] for number in members})
            sums |= {number: self._added_up(number, parts[number]) for number in members}
        return sums

    def _added_up(self, number: int, parts: list[Floats]) -> Floats:
        """The local sum of gathered arrays: each read once, the sum written once."""
        total = np.asarray(sum(parts))
        if len(parts) > 1:
            self.ledger.add("ffn.reduce", self.kind, number, other=sum(map(bytes_of, parts)) + bytes_of(total))
        return total

    # dispatch and combine

    def _dispatched(self, moe: MoE, before: dict[int, Tokens]) -> dict[int, Tokens]:
        """Each rank routes its share of its group's tokens, sends them to their experts, and gets them back."""
        h = {number: normed(tokens.x) for number, tokens in before.items()}
        own = {}
        sent = Mail(self.ledger, "ffn.gather", self.kind)
        for number, rank in self.ranks.items():
            members = self.groups("attention_reduce", number)
            own[number] = slice(*dealt(len(h[number]), len(members))[members.index(number)])
            mine = h[number][own[number]]
            logits = rank.multiply("ffn.router", self.kind, mine, rank.weights[self.ledger.layer]["router"], "router")
            self._send_pairs(sent, number, self._to_latent(rank, mine), *self.route(logits, moe.experts_per_token))
        back = self._computed(sent)
        partials = {}
        for number, tokens in before.items():
            returned = np.zeros((own[number].stop - own[number].start, moe.token_width(tokens.x.shape[1])))
            for pair, y in back.contents(number):
                returned[pair.row] += pair.weight * y
            partials[number] = np.zeros_like(tokens.x)
            partials[number][own[number]] = self._from_latent(self.ranks[number], returned)
            if moe.shared_width:
                partials[number] += self.ranks[number].swiglu("ffn.shared", self.kind, h[number], "shared")
        sums: dict[int, Floats] = {}
        for members in self._distinct("attention_reduce", self.ranks):
            given = {number: partials[number] for number in members}
            sums |= reduced(self.ledger, "ffn.reduce", self.kind, given, members, self._shot)
        return {number: Tokens(tokens.ids, tokens.x + sums[number]) for number, tokens in before.items()}

    def _send_pairs(self, mail: Mail, number: int, x: Floats, experts: Ints, weights: Floats) -> None:
        """Each token, with each of its experts, to the rank of the sender's expert group that holds the expert."""
        members = self.groups("expert", number)
        for row, slot in np.ndindex(experts.shape):
            expert = int(experts[row, slot])
            holders = [m for m in members if self.ranks[m].plan.experts[0] <= expert < self.ranks[m].plan.experts[1]]
            if len(holders) != 1:
                who = f"ranks {holders}" if holders else "nobody"
                raise WrongLayout(f"rank {number}: experts: expert {expert} is held by {who} in its expert group {members}")
            pair = Pair(number, row, float(weights[row, slot]), expert, x[row])
            mail.send(number, holders, pair, pair.x.size * DISPATCH_BYTES)

    def _computed(self, sent: Mail) -> Mail:
        """Every pair's output on its way back to its sender: slices of an expert share their pairs before, and sum them after."""
        back = Mail(self.ledger, COMBINE, self.kind)
        for members in self._distinct("ffn_tensor", self.ranks):
            shared, halves = Mail(self.ledger, BETWEEN, self.kind), Mail(self.ledger, BETWEEN, self.kind)
            for member in members:
                pairs = sent.contents(member)
                shared.send(member, members, (member, pairs), sum(pair.x.size for pair in pairs) * ACTIVATION_BYTES)
            for member in members:
                pairs = [pair for _, own in shared.contents(member) for pair in own]
                outputs = self._outputs(member, pairs)
                for owner, own in shared.contents(member):
                    size = sum(pair.x.size for pair in own) * ACTIVATION_BYTES
                    halves.send(member, [owner], outputs[: len(own)], size)
                    outputs = outputs[len(own) :]
            for member in members:
                for index, pair in enumerate(sent.contents(member)):
                    y = np.asarray(sum(outputs[index] for outputs in halves.contents(member)))
                    back.send(member, [pair.sender], (pair, y), bytes_of(y))
        return back

    def _outputs(self, number: int, pairs: list[Pair]) -> list[Floats]:
        """What a rank's columns of the experts give for each pair, an expert at a time."""
        outputs: list[Floats] = [np.zeros(0)] * len(pairs)
        for expert in sorted({pair.expert for pair in pairs}):
            rows = [index for index, pair in enumerate(pairs) if pair.expert == expert]
            y = self.ranks[number].expert(self.kind, np.stack([pairs[index].x for index in rows]), expert)
            for index, row in zip(rows, y, strict=True):
                outputs[index] = row
        return outputs
