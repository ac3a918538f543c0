"""The parts of the search that brute force alone would not tell apart: ties, counts, bounds, words."""

from __future__ import annotations

import re

import numpy as np
import pytest

import helixplan as hp
from helixplan.inputs.workload import MAX_BATCH, Request
from helixplan.search.batch import primary
from helixplan.search.gaps import Pairs
from helixplan.search.optimum import break_ties
from helixplan.search.solver import HalfRows, smallest_conflict, solve, undominated
from helixplan.search.space import Halves, Space
from tests.conftest import llama_config
from tests.reference import sound_layouts


def pairs_of(layouts: list[hp.Layout], batch: list[int], ttl: list[float]) -> tuple[Space, Pairs]:
    """A space whose every key holds one layout, and the pairs of them."""
    count = len(layouts)
    rows = hp.Layouts.of(*layouts)
    each = np.arange(count)
    halves = Halves(rows, each, np.ones(count, dtype=np.int64))
    return Space(halves, halves, rows.gpus), Pairs(each, each, each, np.array(batch), np.array(ttl), np.zeros(count))


BASE = {"kvp": 2, "tpa": 2, "tpf": 8, "ep": 2, "dp": 4, "pp": 2, "exchange": "latent"}
TIES = [
    ({"pp": 1, "dp": 8}, {"pp": 2, "dp": 4}, "smaller pp before smaller dp"),
    ({"dp": 2, "kvp": 4}, {"dp": 4, "kvp": 2}, "smaller dp before smaller kvp"),
    ({"kvp": 1, "tpa": 4}, {"kvp": 2, "tpa": 2}, "smaller kvp before smaller tpa"),
    ({"tpf": 16, "ep": 1}, {"tpf": 8, "ep": 2}, "smaller ep"),
    ({"exchange": "latent"}, {"exchange": "value"}, "latent before value"),
]


@pytest.mark.parametrize(("better", "worse", "why"), TIES, ids=[why for *_, why in TIES])
@pytest.mark.parametrize("winner_first", [True, False])
def test_ties_are_broken_in_the_promised_order(better: dict, worse: dict, why: str, winner_first: bool) -> None:  # type: ignore[type-arg]
    options = [hp.Layout(**(BASE | better)), hp.Layout(**(BASE | worse))]
    assert options[0].gpus == options[1].gpus
    ordered = options if winner_first else options[::-1]
    space, pairs = pairs_of(ordered, [4, 4], [0.01, 0.01 * (1 + 1e-12)])
    assert ordered[break_ties(space, Request(objective="interactivity"), pairs)] == options[0]


def test_fewer_gpus_win_a_tie_then_lower_ttl_then_the_larger_batch() -> None:
    small, large = hp.Layout(1, 1, 1, 1), hp.Layout(1, 2, 2, 1)
    space, pairs = pairs_of([large, small], [4, 4], [0.01, 0.01])
    assert break_ties(space, Request(objective="interactivity"), pairs) == 1
    space, pairs = pairs_of([small, small, small], [4, 8, 8], [0.02, 0.03, 0.02])
    assert break_ties(space, Request(objective="gpus"), pairs) == 2


def test_values_apart_by_more_than_a_tie_do_not_tie() -> None:
    small, large = hp.Layout(1, 1, 1, 1), hp.Layout(1, 2, 2, 1)
    space, pairs = pairs_of([small, large], [4, 4], [0.01 * (1 + 1e-8), 0.01])
    assert break_ties(space, Request(objective="interactivity"), pairs) == 1
    space, pairs = pairs_of([small, large], [4, 4], [0.01 * (1 + 1e-10), 0.01])
    assert break_ties(space, Request(objective="interactivity"), pairs) == 0


def test_candidates_count_every_layout_at_every_batch_that_fits(gb200: hp.Hardware) -> None:
    model = hp.load_model("qwen3-32b")
    plan = hp.plan(model, gb200, context_tokens=1_000_000, max_gpus=4, objective="throughput")
    layouts = [x for x in sound_layouts(model, 4) if x.tpa <= model.kv_heads and x.ep == 1]
    fitting: dict[tuple[int, int, int], int] = {}
    for layout in layouts:
        many = hp.score(model, gb200, hp.Layouts.of(*[layout] * 60), context_tokens=1_000_000, batch=np.arange(1, 61))
        assert not many.fits[-1]
        key = (layout.gpus_per_stage, layout.dp, layout.pp)
        fitting[key] = max(fitting.get(key, 0), int(many.fits.sum()))
    counted = sum(fitting[layout.gpus_per_stage, layout.dp, layout.pp] for layout in layouts)
    assert plan.proof is not None
    assert plan.proof.candidates == counted


def test_the_largest_batch_there_may_be_is_a_candidate() -> None:
    """A short context leaves room for more requests than a replica may hold; the cap itself counts."""
    model = hp.load_model(llama_config(num_hidden_layers=1))
    plan = hp.plan(model, "gb200-nvl72", context_tokens=1, gpus=1, objective="users")
    assert plan.layout.batch == MAX_BATCH
    assert plan.proof is not None
    assert plan.proof.candidates == MAX_BATCH


def rows(point: list[int], seconds: list[float], size: list[list[float]]) -> HalfRows:
    return HalfRows(np.array(point), np.array(seconds), np.array(size), np.array(seconds))


def test_the_solver_chooses_halves_of_one_point_under_both_limits() -> None:
    attention = rows([0, 0, 1], [1.0, 2.0, 0.1], [[5.0, 1.0, 9.0]])
    ffn = rows([0, 1], [1.0, 0.1], [[5.0, 9.0]])
    free = solve(attention, ffn, 100.0, None, 1.0, lambda a, f: True)
    assert (free.status, free.objective) == ("optimal", pytest.approx(0.2))
    tight = solve(attention, ffn, 7.0, None, 1.0, lambda a, f: attention.bytes[0, a] + ffn.bytes[0, f] <= 7)
    assert tight.objective == pytest.approx(3.0)
    assert solve(attention, ffn, 3.0, None, 1.0, lambda a, f: True).status == "infeasible"


def test_the_solver_finds_what_exact_scores_find_where_presolve_lost_it(r1: hp.Model) -> None:
    for context in (131_000, 131_072, 131_170):
        plan = hp.plan(r1, "h200-hgx", context_tokens=context, ttl_s=0.05, max_gpus=32)
        assert plan.proof is not None
        assert plan.proof.objective == pytest.approx(plan.cost.tokens_per_s_per_gpu)


@pytest.mark.parametrize("seed", range(6))
def test_the_solver_finds_what_brute_force_finds(seed: int) -> None:
    draw = np.random.default_rng(seed)

    def half(count: int) -> HalfRows:
        seconds = draw.uniform(5e-3, 3e-2, count)
        return HalfRows(draw.integers(0, 150, count), seconds, draw.uniform(2e10, 1e11, (4, count)), seconds / 7)

    attention, ffn = half(300), half(500)
    pairs = [(a, f) for a in range(300) for f in np.flatnonzero(ffn.point == attention.point[a]).tolist()]

    def keeps(a: int, f: int) -> bool:
        return bool(attention.seconds[a] + ffn.seconds[f] <= 0.05 and np.all(attention.bytes[:, a] + ffn.bytes[:, f] <= 1.4e11))

    least = min(attention.objective[a] + ffn.objective[f] for a, f in pairs if keeps(a, f))
    assert solve(attention, ffn, 1.4e11, 0.05, 0.01, keeps).objective == pytest.approx(least, rel=1e-11)


def test_what_takes_for_ever_is_best_at_nothing() -> None:
    for goal in ("throughput", "interactivity", "users", "gpus"):
        assert primary(goal, np.array([np.inf, 1.0]), np.array([1, 2]), np.array([9, 1])).argmin() == 1


def test_a_pair_that_only_rounding_lets_in_is_forbidden() -> None:
    attention, ffn = rows([0, 0], [1.0, 2.0], [[5.4, 5.0]]), rows([0], [1.0], [[5.0]])
    found = solve(attention, ffn, 10.3, None, 1.0, lambda a, f: attention.bytes[0, a] + ffn.bytes[0, f] <= 10.3)
    assert found.objective == pytest.approx(3.0)


def test_only_halves_beaten_in_everything_are_left_out() -> None:
    half = rows([0, 0, 0, 1], [1.0, 2.0, 3.0, 9.0], [[5.0, 5.0, 4.0, 9.0], [1.0, 0.5, 9.0, 9.0]])
    assert undominated(half).tolist() == [0, 1, 2, 3]
    half = rows([0, 0, 0], [1.0, 2.0, 2.0], [[5.0, 5.0, 6.0]])
    assert undominated(half).tolist() == [0]


def test_the_smallest_conflict_is_a_smallest_hitting_set_of_the_preferred_members() -> None:
    assert smallest_conflict(np.array([0b011, 0b101]), 3, [2, 0, 1]) == [0]
    assert smallest_conflict(np.array([0b011, 0b110]), 3, [0, 1, 2]) == [1]
    assert smallest_conflict(np.array([0b0011]), 4, [1, 0, 2, 3]) == [1]
    assert smallest_conflict(np.array([0b0011]), 4, [0, 1, 2, 3]) == [0]
    with pytest.raises(RuntimeError):
        smallest_conflict(np.array([0, 1]), 1, [0])


def relaxed(**request: object) -> tuple[list[str], dict[str, hp.Plan], str]:
    with pytest.raises(hp.InfeasibleError) as caught:
        hp.plan("deepseek-r1", "gb200-nvl72", **request)
    error = caught.value
    options = {option.change.rpartition(" ")[0]: option for option in error.relaxations}
    return [member.rule for member in error.conflict], options, " ".join(member.detail for member in error.conflict)


def test_the_ttl_offered_is_the_least_there_is_and_the_sentence_says_so() -> None:
    members, options, said = relaxed(context_tokens=1_000_000, ttl_s=0.005)
    fastest = hp.plan("deepseek-r1", "gb200-nvl72", context_tokens=1_000_000)
    assert members == ["ttl"]
    assert options["--ttl"].cost.ttl_s == fastest.cost.ttl_s
    offered = float(re.fullmatch(r"--ttl ([\d.]+)ms", options["--ttl"].change)[1])  # type: ignore[index]
    assert 0 <= offered - fastest.cost.ttl_s * 1e3 < 1e-3 * offered
    # The sentence speaks of every layout, those that break rules which are no part of the conflict included.
    least = float(re.search(r"under ([\d.]+) ms", said)[1])  # type: ignore[index]
    assert 0.9 * fastest.cost.ttl_s * 1e3 < least <= fastest.cost.ttl_s * 1e3 * 1.001


def test_the_longest_context_and_the_smallest_share_of_memory_that_work_are_offered() -> None:
    request = {"context_tokens": 1_000_000, "gpus": 6, "batch": 40}
    members, options, _ = relaxed(**request)
    assert "memory-fits" in members
    context = options["--context"].change.split()[1]
    tokens = round(float(context[:-1]) * {"k": 1e3, "M": 1e6}[context[-1]])
    hp.plan("deepseek-r1", "gb200-nvl72", **(request | {"context_tokens": tokens}))
    with pytest.raises(hp.InfeasibleError):
        hp.plan("deepseek-r1", "gb200-nvl72", **(request | {"context_tokens": tokens + 10 ** (len(str(tokens)) - 3)}))
    _, options, _ = relaxed(context_tokens=1000, gpus=16, memory_utilization=0.05)
    share = float(options["--memory-utilization"].change.split()[1])
    hp.plan("deepseek-r1", "gb200-nvl72", context_tokens=1000, gpus=16, memory_utilization=share)
    with pytest.raises(hp.InfeasibleError):
        hp.plan("deepseek-r1", "gb200-nvl72", context_tokens=1000, gpus=16, memory_utilization=share - 0.001)


def test_the_least_memory_in_the_sentence_is_the_least_of_any_layout_that_keeps_the_rest() -> None:
    _, _, said = relaxed(context_tokens=1_000_000, gpus=2)
    model = hp.load_model("deepseek-r1")
    layouts = [x for x in sound_layouts(model, 2) if x.gpus == 2]
    many = hp.score(model, hp.load_hardware("gb200-nvl72"), hp.Layouts.of(*layouts), context_tokens=1_000_000, batch=1)
    assert f"under {many.memory_bytes.min() / 1e9:.4g} GB" in said


def test_the_nearest_sizes_below_and_above_are_offered() -> None:
    with pytest.raises(hp.InfeasibleError) as caught:
        hp.plan("llama-3.1-405b", "gb200-nvl72", context_tokens=1_000_000, gpus=63, pins={"kvp": 8})
    assert [option.change for option in caught.value.relaxations][:2] == ["--gpus 56", "--gpus 64"]


def test_no_alternative_repeats_the_winner_where_families_overlap() -> None:
    plan = hp.plan("llama-3.1-405b", "gb200-nvl72", context_tokens=200_000, gpus=8, family="any")
    assert plan.alternatives is not None
    splits = [(x.kvp, x.tpa, x.dp, x.pp, x.tpf, x.ep) for x in (plan.layout, *(one.layout for one in plan.alternatives))]
    assert len(set(splits)) == len(splits)


def test_in_medha_the_ranks_that_do_not_run_the_ffn_wait() -> None:
    one = hp.estimate("llama-3.1-405b", "gb200-nvl72", hp.Layout(4, 2, 2, 1), context_tokens=1000, batch=1)
    assert [(rank.rank, rank.tpf) for rank in one.ranks if rank.tpf is not None] == [(0, 0), (4, 1)]
    assert one.groups["ffn_tensor"] == [[0, 4]]
    assert one.groups["attention_exchange"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert one.layout.family == "medha"
