"""Which rank takes which token, and how many tokens each then holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import helixplan as hp


@given(kvp=st.integers(1, 70), block=st.integers(1, 40), prefill=st.integers(0, 5000), steps=st.integers(0, 300))
def test_the_schedule_is_what_counting_every_token_gives(kvp: int, block: int, prefill: int, steps: int) -> None:
    schedule = hp.AppendSchedule(kvp, block, prefill)
    held: list[list[int]] = [[] for _ in range(kvp)]
    for position in range(prefill + steps):
        owner = int(schedule.owner(position))
        assert schedule.slot(position) == len(held[owner])
        held[owner].append(position)
    assert schedule.tokens(steps).tolist() == [len(positions) for positions in held]
    assert schedule.largest_difference(steps) == max(map(len, held)) - min(map(len, held)) <= block


def test_blocks_go_round_robin() -> None:
    schedule = hp.AppendSchedule(3, 2)
    assert np.asarray(schedule.owner(np.arange(8))).tolist() == [0, 0, 1, 1, 2, 2, 0, 0]


@pytest.mark.parametrize("sizes", [(0, 1, 0), (1, 0, 0), (1, 1, -1), (2.5, 1, 0)])
def test_impossible_schedules_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(hp.InputError):
        hp.AppendSchedule(*sizes)
