"""Whether a plan's ranks and groups make up the model: every head, block, expert, column, layer and row held, and by whom.

It reads only what the plan says of its ranks and groups, and looks at what that adds up to; it does not lay the model out again.
Every finding is a sentence that names the rank and the tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from helixplan.evidence.emulation.ranks import WrongLayout, owned_blocks
from helixplan.inputs.model import Attention, LatentAttention, Model, MoE
from helixplan.layout import may_dispatch
from helixplan.placement import spoken_of_first
from helixplan.plans import Plan, PlanHeads, PlanRank
from helixplan.replay import misplaced

Key = Callable[[PlanRank], object]


def findings(plan: Plan, model: Model) -> list[str]:
    """All that is wrong with what the ranks hold and with whom they talk; nothing of what it costs."""
    broken = list(misplaced(plan)) or list(_layers(plan, model))
    if broken:
        return broken
    found: list[str] = []
    for stage in range(plan.layout.pp):
        ranks = [rank for rank in plan.ranks if rank.stage == stage]
        for dp in range(plan.layout.dp):
            found += _attention_group(plan, model, [rank for rank in ranks if rank.dp == dp])
        found += _ffn(plan, model, ranks)
        if stage in (0, plan.layout.pp - 1):
            found += _covered("vocabulary", model.vocabulary, ((rank, rank.vocabulary) for rank in ranks))
    return found + list(_groups(plan)) + list(_append(plan))


def _layers(plan: Plan, model: Model) -> Iterator[str]:
    ranges = []
    for stage in range(plan.layout.pp):
        ranks = [rank for rank in plan.ranks if rank.stage == stage]
        ranges.append((ranks[0], ranks[0].layers))
        for rank in ranks:
            if rank.layers != ranks[0].layers:
                first = f"rank {ranks[0].rank} of its stage has {_span(ranks[0].layers)}"
                yield f"rank {rank.rank}: layers {_span(rank.layers)}, but {first}"
    yield from _covered("layers", model.layers, ranges)


def _attention_group(plan: Plan, model: Model, ranks: list[PlanRank]) -> Iterator[str]:
    """The ranks that share the attention of the same requests."""
    first = spoken_of_first(model)[0]
    for name, attention, _ in model.attention_kinds:
        heads = [(rank, rank if name == first else rank.other_heads.get(name)) for rank in ranks]
        told = "" if name == first else f" of {name} layers"
        for rank, held in heads:
            if held is None:
                yield f"rank {rank.rank}: other_heads says nothing{told}"
                return
        known = [(rank, held) for rank, held in heads if held is not None]
        yield from _covered(f"output_heads{told}", attention.query_heads, ((rank, held.output_heads) for rank, held in known))
        for rank, held in known:
            yield from _kv_heads_read(rank, held, attention, told)
        if attention.split_by_kvp:
            yield from _blocks(plan, known, told)


def _kv_heads_read(rank: PlanRank, held: PlanHeads, attention: Attention, told: str) -> Iterator[str]:
    queries, outputs = held.query_heads, held.output_heads
    if not (queries[0] <= outputs[0] and outputs[1] <= queries[1]) or queries[1] > attention.query_heads:
        yield f"rank {rank.rank}: output_heads{told} {_span(outputs)} are not among its query_heads {_span(queries)}"
    wanted = [0, 1]
    if not isinstance(attention, LatentAttention):
        each = attention.query_heads // attention.kv_heads
        wanted = [queries[0] // each, (queries[1] - 1) // each + 1]
    if held.kv_heads != wanted:
        yield f"rank {rank.rank}: kv_heads{told} are {_span(held.kv_heads)}, but its query heads read {_span(wanted)}"


def _blocks(plan: Plan, heads: list[tuple[PlanRank, PlanHeads]], told: str) -> Iterator[str]:
    """Of each set of query heads, every block of the sequence has one owner."""
    slices: dict[tuple[int, ...], list[PlanRank]] = {}
    for rank, held in heads:
        slices.setdefault(tuple(held.query_heads), []).append(rank)
    for queries, ranks in slices.items():
        if len(ranks) != plan.layout.kvp:
            yield (
                f"rank {ranks[0].rank}: query_heads{told} {_span(queries)} are computed by {len(ranks)} ranks "
                f"({', '.join(str(rank.rank) for rank in ranks)}), not by {plan.layout.kvp} KVP ranks"
            )
        owners: dict[int, int] = {}
        for rank in ranks:
            try:
                index, of, block = owned_blocks(rank)
            except WrongLayout as error:
                yield str(error)
                continue
            if (of, block) != (plan.layout.kvp, plan.layout.kv_block_tokens):
                due = f"{plan.layout.kvp} ranks and {plan.layout.kv_block_tokens} tokens"
                yield f"rank {rank.rank}: kv_blocks says {rank.kv_blocks!r}, the layout {due}"
            elif index in owners:
                yield f"rank {rank.rank}: kv_blocks of owner {index} are rank {owners[index]}'s already"
            elif index >= of:
                yield f"rank {rank.rank}: kv_blocks names owner {index} of {of}"
            owners[index] = rank.rank


def _ffn(plan: Plan, model: Model, ranks: list[PlanRank]) -> Iterator[str]:
    layout = plan.layout
    working = [rank for rank in ranks if rank.tpf is not None and rank.ep is not None]
    if len(working) != layout.tpf * layout.ep:
        yield f"layout.tpf x ep is {layout.tpf * layout.ep}, but {len(working)} ranks of stage {ranks[0].stage} run the FFN"
    dispatching = may_dispatch(layout.layout)
    for name, kind, _ in model.ffn_kinds:
        has_shared = isinstance(kind, MoE) and bool(kind.shared_width)
        missing = next((r for r in ranks if name not in r.ffn_columns or (has_shared and name not in r.shared_columns)), None)
        if missing is not None:
            yield f"rank {missing.rank}: ffn_columns or shared_columns say nothing of {name} layers"
            return
        if isinstance(kind, MoE):
            yield from _experts(name, kind, working)
            if kind.shared_width:
                shared = [rank for rank in ranks if name in rank.shared_columns]
                for group in _split(shared, lambda rank: rank.dp if dispatching else 0):
                    what = f"shared_columns of {name} layers"
                    yield from _covered(what, kind.shared_width, ((rank, rank.shared_columns[name]) for rank in group))
        else:
            what = f"ffn_columns of {name} layers"
            yield from _covered(what, kind.width, ((rank, rank.ffn_columns[name]) for rank in ranks))


def _experts(name: str, moe: MoE, ranks: list[PlanRank]) -> Iterator[str]:
    """Every column of every expert is held once."""
    cuts = np.unique([0, moe.width, *(end for rank in ranks for end in rank.ffn_columns[name])])
    holder = np.full((moe.experts, len(cuts) - 1), -1)
    for rank in ranks:
        (start, end), columns = rank.experts, np.searchsorted(cuts, rank.ffn_columns[name])
        if not 0 <= start <= end <= moe.experts or rank.ffn_columns[name][1] > moe.width:
            yield f"rank {rank.rank}: experts {_span(rank.experts)} lie outside the model's {moe.experts}"
            return
        part = holder[start:end, columns[0] : columns[1]]
        if (part >= 0).any():
            expert = start + int(np.argwhere(part >= 0)[0][0])
            yield f"rank {rank.rank}: experts: expert {expert} of {name} layers is held by rank {int(part[part >= 0][0])} already"
        part[:] = rank.rank
    if (holder < 0).any():
        expert, piece = np.argwhere(holder < 0)[0]
        near = next((f"rank {rank.rank}: " for rank in ranks if expert in (rank.experts[1], rank.experts[0] - 1)), "")
        lacking = _span([int(cuts[piece]), int(cuts[piece + 1])])
        yield f"{near}experts: expert {expert} of {name} layers, columns {lacking}, is held by nobody"


def _covered(what: str, size: int, held: Iterable[tuple[PlanRank, list[int]]]) -> Iterator[str]:
    """Half-open ranges make up 0..size once each."""
    upto, last = 0, None
    for rank, (start, end) in sorted(held, key=lambda one: (one[1][0], one[1][1])):
        if start == end:
            continue
        if start < upto and last is not None:
            yield f"rank {rank.rank}: {what} {_span([start, min(end, upto)])} are held by rank {last.rank} already"
        elif start > upto:
            yield f"rank {rank.rank}: {what} {_span([upto, start])}, just before its own, are held by nobody"
        upto, last = max(upto, end), rank
    if upto < size:
        who = f"rank {last.rank}: " if last else ""
        yield f"{who}{what} {_span([upto, size])}, past the last that is held, are held by nobody"
    elif upto > size and last is not None:
        yield f"rank {last.rank}: {what} end at {upto}, the model has {size}"


GROUPS: dict[str, tuple[Key, Key]] = {
    "attention_exchange": (
        lambda rank: (rank.stage, rank.dp, tuple(rank.query_heads)),
        lambda rank: rank.kv_blocks,
    ),
    "attention_reduce": (lambda rank: (rank.stage, rank.dp), lambda rank: tuple(rank.output_heads)),
    "data_gather": (lambda rank: (rank.stage, rank.kvp, rank.tpa), lambda rank: rank.dp),
    "ffn_reduce": (lambda rank: rank.stage, lambda rank: rank.rank),
    "ffn_tensor": (lambda rank: (rank.stage, rank.ep), lambda rank: rank.tpf),
    "expert": (lambda rank: (rank.stage, rank.tpf), lambda rank: rank.ep),
    "pipeline": (lambda rank: (rank.dp, rank.kvp, rank.tpa), lambda rank: rank.stage),
}
"""Of each collective, what all members of a group have in common, and what tells them apart."""


def _groups(plan: Plan) -> Iterator[str]:
    """The ranks of each collective are just those that have to talk: those alike in one thing and different in another."""
    for name, (common, own) in GROUPS.items():
        if name not in plan.groups:
            yield f"groups.{name} is missing"
            continue
        speaking = [rank for rank in plan.ranks if name not in ("ffn_tensor", "expert") or rank.ep is not None]
        needed = {
            frozenset(rank.rank for rank in group) for group in _split(speaking, common) if len({own(rank) for rank in group}) > 1
        }
        named = [frozenset(group) for group in plan.groups[name] if group]
        if name == "attention_exchange" and not named:
            needed = {group for group in needed if _exchanges(plan)}
        for members in named:
            if members not in needed:
                yield f"rank {min(members)}: groups.{name} brings {sorted(members)} together, who do not belong together"
        for members in needed - set(named):
            yield f"rank {min(members)}: groups.{name} does not bring {sorted(members)} together"


def _exchanges(plan: Plan) -> bool:
    return any(phase.name == "attention.exchange" for phase in plan.cost.phases)


def _append(plan: Plan) -> Iterator[str]:
    from helixplan.append import AppendSchedule

    told, work = plan.kv_append, plan.workload
    schedule = AppendSchedule(plan.layout.kvp, plan.layout.kv_block_tokens, work.context_tokens)
    tokens = schedule.tokens()
    due = {
        "kvp": plan.layout.kvp,
        "block_tokens": plan.layout.kv_block_tokens,
        "prefill_tokens": work.context_tokens,
        "next_rank": int(schedule.owner(work.context_tokens)),
        "fullest_tokens": int(np.max(tokens)),
        "emptiest_tokens": int(np.min(tokens)),
    }
    for name, value in due.items():
        if getattr(told, name) != value:
            yield f"kv_append.{name} is {getattr(told, name)}, the schedule gives {value}"


def _split(ranks: Iterable[PlanRank], key: Key) -> list[list[PlanRank]]:
    groups: dict[object, list[PlanRank]] = {}
    for rank in ranks:
        groups.setdefault(key(rank), []).append(rank)
    return list(groups.values())


def _span(pair: Iterable[int]) -> str:
    start, end = pair
    return f"{start}..{end - 1}" if end > start else "none"
