"""Work in threads: results come in order, and an error where its result would have come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import groupby

import pytest

from feature_assets.dataset.threads import in_order


def give(number: int) -> int:
    time.sleep(0.001 * (7 - number % 7))
    return number


def fail() -> int:
    raise ValueError("the third")


@pytest.mark.parametrize("beside_work", [False, True])
def test_results_come_in_the_order_of_the_calls_whichever_ends_first(beside_work):
    assert list(in_order((lambda n=n: give(n) for n in range(50)), beside_work=beside_work)) == list(range(50))


@pytest.mark.parametrize("while_making", [False, True])
def test_an_error_comes_after_the_results_before_it_whether_a_call_raises_or_the_making_of_one(while_making):
    def calls() -> Iterator[Callable[[], int]]:
        yield lambda: give(0)
        yield lambda: give(1)
        if while_making:
            fail()
        yield fail

    found = in_order(calls())
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(found)


def test_the_switch_interval_is_afterwards_as_it_was_though_an_error_came():
    before = sys.getswitchinterval()
    with pytest.raises(ValueError, match="the third"):
        list(in_order([fail]))
    assert sys.getswitchinterval() == before


@pytest.mark.parametrize("beside_work", [False, True])
def test_calls_are_taken_a_few_ahead_of_their_results(beside_work):
    made = []

    def calls() -> Iterator[Callable[[], int]]:
        for number in range(100):
            made.append(number)
            yield lambda number=number: number

    found = in_order(calls(), beside_work=beside_work)
    assert next(found) == 0
    assert len(made) < 20
    assert list(found) == list(range(1, 100))


def test_beside_work_several_calls_are_made_and_several_results_given_in_a_row():
    said: list[str] = []

    def calls() -> Iterator[Callable[[], str]]:
        for _ in range(48):
            said.append("made")
            yield lambda: "given"

    # Each result is said before the next is asked for.
    any(said.append(result) for result in in_order(calls(), beside_work=True))
    assert [len(list(group)) for _, group in groupby(said)] == [16, *[8] * 8, 16]
