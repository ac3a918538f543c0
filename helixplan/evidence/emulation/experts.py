"""The FFN half of a layer on emulated ranks: tokens gathered or dispatched, slices computed, sums made (Helix 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from helixplan.evidence.emulation.mathematics import normed, routed
from helixplan.evidence.emulation.ranks import Rank, WrongLayout
from helixplan.evidence.emulation.wires import gathered, reduced
from helixplan.inputs.model import FFN, MoE
from helixplan.inputs.workload import ACTIVATION_BYTES, DISPATCH_BYTES
from helixplan.layout import dealt, may_dispatch
from helixplan.numeric import Floats, Ints

Groups = Callable[[str, int], list[int]]
"""(name of a collective, rank) -> the ranks of its group, itself included."""


@dataclass(frozen=True)
class Tokens:
    """Hidden states of some requests, by their numbers, which rise."""

    ids: Ints
    x: Floats

    def of(self, ids: Ints) -> Floats:
        return self.x[np.searchsorted(self.ids, ids)]


@dataclass
class FfnHalf:
    """One stage's ranks at one layer. ``route`` is how reductions run, as the plan's ``collectives`` names it."""

    ranks: dict[int, Rank]
    groups: Groups
    ffn: FFN
    kind: str
    way: str

    def output(self, before: dict[int, Tokens]) -> tuple[dict[int, Tokens], dict[int, Tokens]]:
        """(each rank's own requests after the layer, every request it knows after the layer)."""
        if isinstance(self.ffn, MoE) and self.way.startswith("dispatch"):
            after = self._dispatched(before)
            return after, after
        everything = {number: self._gathered(number, before) for number in self.ranks}
        partials = {}
        for number, rank in self.ranks.items():
            if rank.plan.tpf is not None:
                partials[number] = self._partial(rank, before[number], everything[number])
        total = self._summed(partials)
        known = {number: Tokens(tokens.ids, tokens.x + total[number]) for number, tokens in everything.items()}
        return {number: Tokens(before[number].ids, known[number].of(before[number].ids)) for number in self.ranks}, known

    def _gathered(self, number: int, before: dict[int, Tokens]) -> Tokens:
        members = self.groups("data_gather", number)
        rank = self.ranks[number]
        own = before[number].x
        rank.ledger.add("ffn.gather", self.kind, number, wire=(len(members) - 1) * own.size * ACTIVATION_BYTES)
        ids = np.concatenate([before[member].ids for member in members])
        if len(np.unique(ids)) != len(ids):
            raise WrongLayout(f"rank {number}: its data_gather group {members} brings some requests twice")
        order = np.argsort(ids)
        return Tokens(ids[order], np.concatenate([before[member].x for member in members])[order])

    def _partial(self, rank: Rank, own: Tokens, everything: Tokens) -> Floats:
        """This rank's part of the sum, for every token of the stage."""
        h = normed(everything.x)
        if not isinstance(self.ffn, MoE):
            return rank.swiglu("ffn.dense", self.kind, h, "dense")
        logits = rank.multiply("ffn.router", self.kind, h, rank.weights[rank.ledger.layer]["router"], "router")
        experts, weights = routed(logits, self.ffn.experts_per_token)
        total = np.zeros_like(h)
        for expert in range(*rank.plan.experts):
            rows, slots = np.nonzero(experts == expert)
            if len(rows):
                total[rows] += weights[rows, slots, None] * rank.expert(self.kind, h[rows], expert)
        if self.ffn.shared_width:
            if may_dispatch(rank.scaled.layout):
                rows = np.searchsorted(everything.ids, own.ids)
                total[rows] += rank.swiglu("ffn.shared", self.kind, h[rows], "shared")
            else:
                total += rank.swiglu("ffn.shared", self.kind, h, "shared")
        return total

    def _summed(self, partials: dict[int, Floats]) -> dict[int, Floats]:
        """Every rank's sum of the partials: one all-reduce over the stage, or over TPF with an all-gather over EP after it."""
        if self.way.startswith("all-gather"):
            return self._summed_by_gather(partials)
        shot = self.way.split()[-1]
        sums: dict[int, Floats] = {}
        for members in self._distinct("ffn_reduce", self.ranks):
            given = {number: partials[number] for number in members if number in partials}
            ledger = self.ranks[members[0]].ledger
            total = reduced(ledger, "ffn.reduce", self.kind, given, len(members), shot)
            sums |= dict.fromkeys(members, total)
        return sums

    def _summed_by_gather(self, partials: dict[int, Floats]) -> dict[int, Floats]:
        shot = self.way.split()[-1]
        ledger = next(iter(self.ranks.values())).ledger
        by_slice: dict[int, Floats] = {}
        for members in self._distinct("ffn_tensor", partials):
            total = reduced(ledger, "ffn.reduce", self.kind, {n: partials[n] for n in members}, len(members), shot)
            by_slice |= dict.fromkeys(members, total)
        sums: dict[int, Floats] = {}
        for members in self._distinct("expert", partials):
            parts = gathered(ledger, "ffn.reduce", self.kind, {n: by_slice[n] for n in members})
            for number in members:
                if len(members) > 1:
                    ledger.add("ffn.reduce", self.kind, number, other=(len(parts) + 1) * parts[0].size * ACTIVATION_BYTES)
                sums[number] = np.asarray(sum(parts))
        return sums

    def _distinct(self, name: str, ranks: Iterable[int]) -> list[list[int]]:
        return [list(group) for group in dict.fromkeys(tuple(self.groups(name, number)) for number in ranks)]

    # dispatch and combine

    def _dispatched(self, before: dict[int, Tokens]) -> dict[int, Tokens]:
        """Each rank routes its share of its group's tokens, sends them to their experts, and gets them back."""
        ledger = next(iter(self.ranks.values())).ledger
        h = {number: normed(tokens.x) for number, tokens in before.items()}
        own, routes = {}, {}
        for number, rank in self.ranks.items():
            members = self.groups("attention_reduce", number)
            own[number] = slice(*dealt(len(h[number]), len(members))[members.index(number)])
            router = rank.weights[ledger.layer]["router"]
            logits = rank.multiply("ffn.router", self.kind, h[number][own[number]], router, "router")
            assert isinstance(self.ffn, MoE)
            routes[number] = routed(logits, self.ffn.experts_per_token)
        inbox = self._sent(h, own, routes)
        outbox = self._computed(inbox)
        parts = {}
        for number, tokens in before.items():
            part = np.zeros_like(tokens.x)
            for row, weight, y in outbox[number]:
                part[own[number].start + row] += weight * y
            if isinstance(self.ffn, MoE) and self.ffn.shared_width:
                part += self.ranks[number].swiglu("ffn.shared", self.kind, h[number], "shared")
            parts[number] = part
        after: dict[int, Tokens] = {}
        for members in self._distinct("attention_reduce", self.ranks):
            given = {number: parts[number] for number in members}
            total = reduced(ledger, "ffn.reduce", self.kind, given, len(members), self.way.split()[-1])
            after |= {number: Tokens(before[number].ids, before[number].x + total) for number in members}
        return after

    def _sent(self, h: dict[int, Floats], own: dict[int, slice], routes: dict[int, tuple[Ints, Floats]]) -> dict[int, list[Pair]]:
        """Pairs of token and expert, at the rank of the sender's expert group that holds the expert."""
        inbox: dict[int, list[Pair]] = {number: [] for number in self.ranks}
        for number in self.ranks:
            members = self.groups("expert", number)
            experts, weights = routes[number]
            for row, slot in np.ndindex(experts.shape):
                expert = int(experts[row, slot])
                holders = [m for m in members if self.ranks[m].plan.experts[0] <= expert < self.ranks[m].plan.experts[1]]
                if len(holders) != 1:
                    who = f"ranks {holders}" if holders else "nobody"
                    raise WrongLayout(f"rank {number}: experts: expert {expert} is held by {who} in its expert group {members}")
                x = h[number][own[number].start + row]
                inbox[holders[0]].append(Pair(number, row, float(weights[row, slot]), expert, x))
                if holders[0] != number:
                    self.ranks[number].ledger.add("ffn.gather", self.kind, number, wire=x.size * DISPATCH_BYTES)
        return inbox

    def _computed(self, inbox: dict[int, list[Pair]]) -> dict[int, list[tuple[int, float, Floats]]]:
        """Every pair's output back at its sender: slices of an expert share all their pairs before and sum them after."""
        outbox: dict[int, list[tuple[int, float, Floats]]] = {number: [] for number in self.ranks}
        for members in self._distinct("ffn_tensor", self.ranks):
            pairs = [pair for member in members for pair in inbox[member]]
            width = {member: sum(pair.x.size for pair in inbox[member]) for member in members}
            for member in members:
                # The two halves of an all-reduce: inputs gathered, outputs summed and scattered.
                sent = (len(members) - 1) * width[member] + sum(width.values()) - width[member]
                if len(members) > 1:
                    self.ranks[member].ledger.add("ffn.reduce", self.kind, member, wire=sent * ACTIVATION_BYTES)
            total = [np.zeros(0)] * len(pairs)
            for expert in sorted({pair.expert for pair in pairs}):
                rows = [index for index, pair in enumerate(pairs) if pair.expert == expert]
                x = np.stack([pairs[index].x for index in rows])
                y = np.asarray(sum(self.ranks[member].expert(self.kind, x, expert) for member in members))
                for index, row in zip(rows, y, strict=True):
                    total[index] = row
            at = 0
            for member in members:
                for pair in inbox[member]:
                    outbox[pair.sender].append((pair.row, pair.weight, total[at]))
                    if pair.sender != member:
                        self.ranks[member].ledger.add("ffn.reduce", self.kind, member, wire=total[at].size * ACTIVATION_BYTES)
                    at += 1
        return outbox


@dataclass(frozen=True)
class Pair:
    """A token on its way to one of its experts: who sent it, which of the sender's tokens, and how much the expert counts."""

    sender: int
    row: int
    weight: float
    expert: int
    x: Floats
