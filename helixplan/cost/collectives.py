"""The time of one collective, by bytes on the wire. Forms and constants: docs/cost-model.md, "What silicon adds".

Every function takes ``ranks`` (the group's size; a group of one costs nothing) and ``reach``, the span of consecutive GPU
numbers the group lies in, which decides whether it stays inside a domain of the fast link.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helixplan.cost.case import Machine
from helixplan.cost.roofline import MICRO
from helixplan.cost.timing import Timing
from helixplan.inputs.hardware import Collective
from helixplan.numeric import Amount

REDUCE_WAYS = ("one-shot", "two-shot")


@dataclass(frozen=True)
class Fabric:
    """The links as one replica sees them: ``gpus`` is the replica's size, one entry a layout."""

    machine: Machine
    gpus: Amount

    def link(self, reach: Amount) -> Amount:
        """Bytes a second a GPU, one direction: the fast link where every group of this reach stays inside a domain.

        Groups start at multiples of their reach, so they do where the replica fits a domain or the reach divides it. Where a
        profile has no scale-out link a rule refuses such replicas; the fast link stands in so that they can be spoken of.
        """
        wires = self.machine.hardware.interconnect
        if np.all(np.asarray(self.gpus) <= wires.domain_gpus):
            return wires.domain_bytes_per_s
        shares = wires.domain_gpus / np.asarray(reach, dtype=float)
        inside = (np.asarray(self.gpus) <= wires.domain_gpus) | (shares == np.floor(shares))
        return np.where(inside, wires.domain_bytes_per_s, wires.scale_out_bytes_per_s or wires.domain_bytes_per_s)


def _only_groups(ranks: Amount, timing: Timing) -> Timing:
    return timing.times(np.where(np.asarray(ranks) > 1, 1.0, 0.0))


def _told(machine: Machine, seconds: Amount, wire: Amount, network_s: Amount, median_error: float | None) -> Timing:
    """Of a collective its seconds and, for what may be overlapped, those on the wire; the rest where details are asked for."""
    if not machine.detailed:
        return Timing(seconds, network_s=network_s)
    return Timing(seconds, wire_bytes=wire, network_s=network_s).judged(median_error)


def _collective(machine: Machine, kernel: Collective, ranks: Amount, wire: Amount, link: Amount) -> Timing:
    """a0 + a1 log2(p) or a0 + a1 (p-1), + d S/(S+S0) + wire/(e link)"""
    ranks = np.asarray(ranks, dtype=float)
    growth = np.log2(ranks) if kernel.growth == "log2" else ranks - 1
    ramp = kernel.ramp_us * wire / (wire + kernel.ramp_bytes)
    network_s = wire / (kernel.link_efficiency * link)
    seconds = (kernel.floor_us + kernel.growth_us * growth + ramp) * MICRO + network_s
    return _only_groups(ranks, _told(machine, seconds, wire, network_s, kernel.median_error))


def all_to_all(fabric: Fabric, ranks: Amount, reach: Amount, wire: Amount) -> Timing:
    """``wire``: the bytes a rank sends."""
    return _collective(fabric.machine, fabric.machine.hardware.kernels.all_to_all, ranks, wire, fabric.link(reach))


def all_gather(fabric: Fabric, ranks: Amount, reach: Amount, contribution: Amount) -> Timing:
    """Every rank's ``contribution`` bytes to every other rank."""
    wire = (np.asarray(ranks) - 1) * contribution
    return _collective(fabric.machine, fabric.machine.hardware.kernels.all_gather, ranks, wire, fabric.link(reach))


def reduce_scatter(fabric: Fabric, ranks: Amount, reach: Amount, size: Amount) -> Timing:
    """The sum of every rank's ``size`` bytes, a share of it to each: an all-gather backwards, at an all-gather's constants."""
    return all_gather(fabric, ranks, reach, size / np.asarray(ranks, dtype=float))


def all_reduce(
    fabric: Fabric, ranks: Amount, reach: Amount, size: Amount, receivers: Amount | None = None, way: str | None = None
) -> Timing:
    """The sum of every rank's ``size`` bytes, to all: in one shot, or in two (fewer bytes, a longer start), as is cheaper.

    ``receivers``: how many need the sum, where GPUs that had nothing to add wait for it too. Of p ranks a rank sends size (r-1)
    to r receivers in one shot; in two it sends size (p-1)/p to be summed and its share of the sum, size (r-1)/p, to all.
    ``way``: one of ``REDUCE_WAYS`` instead of the cheaper.
    """
    kernel, link = fabric.machine.hardware.kernels.all_reduce, fabric.link(reach)
    ranks = np.asarray(ranks, dtype=float)
    receivers = ranks if receivers is None else np.asarray(receivers, dtype=float)
    start = (kernel.floor_us + kernel.growth_us * np.log2(receivers)) * MICRO

    def shot(wire: Amount, extra_us: float) -> Timing:
        network_s = wire / (kernel.link_efficiency * link)
        seconds = start + extra_us * MICRO + network_s
        if not fabric.machine.detailed:
            return Timing(seconds)
        return Timing(seconds, wire_bytes=wire, network_s=network_s).judged(kernel.median_error)

    one, two = shot(size * (receivers - 1), 0.0), shot(size * (ranks + receivers - 2) / ranks, kernel.two_shot_us)
    taken = one.or_cheaper(two) if way is None else (one, two)[REDUCE_WAYS.index(way)]
    return _only_groups(receivers, taken)


def pipeline_hop(fabric: Fabric, reach: Amount, size: Amount) -> Timing:
    """Handing ``size`` bytes to the next stage."""
    network_s = size / fabric.link(reach)
    hop = fabric.machine.hardware.kernels.overheads.pipeline_hop_us * MICRO
    return Timing(hop + network_s, wire_bytes=size, network_s=network_s)


def overlapped(
    attention_floor: Amount,
    attention: Amount,
    exchange_floor: Amount,
    exchange: Amount,
    handover: float,
    chunks: Amount,
) -> Amount:
    """HOP-B (Helix 2.1.3): the seconds of attention and exchange together, cut into ``chunks``.

    With A and X the parts that scale with requests, a0 and x0 the floors, and a hand-over a chunk:
    T(c) = a0 + A/c + (c-1) max(a0 + A/c, X/c + handover) + X/c + x0. Convex in c.
    """
    a, x = attention_floor + attention / chunks, exchange / chunks
    return a + (chunks - 1) * np.maximum(a, x + handover) + x + exchange_floor


def best_chunks(
    attention_floor: Amount,
    attention: Amount,
    exchange_floor: Amount,
    exchange: Amount,
    handover: float,
    most: Amount,
    relaunch: Amount = 0.0,
) -> Amount:
    """The fewest chunks, of 1..most, that make ``overlapped`` and (c-1) ``relaunch`` least.

    The sum is the larger of two convex functions of c, one where attention is the longer stage and one where the exchange is, so
    its least real c is where either is least or where they cross; being convex, its best whole c is next to it.
    """

    def seconds_of(chunks: Amount) -> Amount:
        together = overlapped(attention_floor, attention, exchange_floor, exchange, handover, chunks)
        return together + (chunks - 1) * relaunch

    with np.errstate(divide="ignore", invalid="ignore"):
        turns = (
            np.sqrt(exchange / (attention_floor + relaunch)),
            np.sqrt(attention / (handover + relaunch)),
            (exchange - attention) / (attention_floor - handover),
        )
    best = np.ones_like(np.asarray(attention + exchange, dtype=float))
    least = seconds_of(best)
    for turn in turns:
        # Where a floor is 0 the turn lies at infinity, so that most chunks are best; 0/0 means that chunks do not matter.
        near = np.floor(np.clip(np.nan_to_num(turn, nan=1.0, posinf=np.inf, neginf=1.0), 1.0, most))
        for chunks in (near, np.minimum(near + 1, most)):
            seconds = seconds_of(chunks)
            better = (seconds < least) | ((seconds == least) & (chunks < best))
            best, least = np.where(better, chunks, best), np.where(better, seconds, least)
    return best
