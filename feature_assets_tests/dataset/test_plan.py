"""What a build touches: ranges that cover the wanted partitions and no other."""

from __future__ import annotations

import datetime as dt

import dagster as dg
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.plan import rectangles, symbol_dates
from feature_assets.partitions import Partitions
from feature_assets.settings import load_settings

DAY = dt.date(2026, 2, 1)
SYMBOLS = ("AAA", "BBB", "CCC", "DDD")


def _day(number: int) -> dt.date:
    return DAY + number * ONE_DAY


def _covered(ranges: list[tuple[Key, Key]], symbols: tuple[str, ...]) -> list[Key]:
    """Every key of the cartesian products of dates and symbols between the ranges' ends, repeats and all."""
    keys = []
    for first, last in ranges:
        if first.symbol is None or last.symbol is None:
            between: tuple[str | None, ...] = (None,)
        else:
            between = symbols[symbols.index(first.symbol) : symbols.index(last.symbol) + 1]
        keys += [Key(date, symbol) for date in dates(first.date, last.date + ONE_DAY) for symbol in between]
    return keys


@settings(max_examples=300, deadline=None)
@given(
    wanted=st.sets(st.tuples(st.integers(0, 8), st.sampled_from(SYMBOLS)), max_size=36),
    symbols=st.permutations(SYMBOLS).map(tuple),
    seed=st.randoms(use_true_random=False),
)
def test_ranges_cover_each_wanted_partition_once_and_no_other(wanted, symbols, seed):
    keys = [Key(_day(number), symbol) for number, symbol in sorted(wanted)]
    seed.shuffle(keys)
    covered = _covered(rectangles(keys, symbols), symbols)
    assert len(covered) == len(keys)
    assert set(covered) == set(keys)


@settings(max_examples=100, deadline=None)
@given(wanted=st.sets(st.integers(0, 12)))
def test_ranges_of_dates_alone_cover_each_wanted_date_once_and_no_other(wanted):
    keys = [Key(_day(number)) for number in wanted]
    covered = _covered(rectangles(keys, SYMBOLS), SYMBOLS)
    assert sorted(map(str, covered)) == sorted(map(str, keys))


def test_a_full_range_is_one_run():
    keys = [Key(_day(number), symbol) for number in range(5) for symbol in SYMBOLS]
    assert rectangles(keys, SYMBOLS) == [(Key(_day(0), "AAA"), Key(_day(4), "DDD"))]
    assert rectangles([Key(_day(number)) for number in range(5)], SYMBOLS) == [(Key(_day(0)), Key(_day(4)))]


def test_symbols_that_are_no_neighbours_are_not_joined():
    keys = [Key(_day(0), "AAA"), Key(_day(0), "CCC")]
    assert rectangles(keys, SYMBOLS) == [(keys[0], keys[0]), (keys[1], keys[1])]


def test_a_missing_day_parts_a_range():
    keys = [Key(_day(number)) for number in (0, 1, 3)]
    assert rectangles(keys, SYMBOLS) == [(keys[0], keys[1]), (keys[2], keys[2])]


def test_nothing_wanted_is_no_range():
    assert rectangles([], SYMBOLS) == []


def test_dagster_takes_a_range_between_two_keys_as_that_cartesian_product(tmp_path):
    asked = load_settings({"FEATURE_ASSETS_SYMBOLS": "DDD,AAA,CCC,BBB"}, tmp_path)
    first, last = Key(_day(1), "BBB"), Key(_day(3), "CCC")
    found = Partitions(asked).symbol_features.get_partition_keys_in_range(dg.PartitionKeyRange(str(first), str(last)))
    assert sorted(found) == sorted(map(str, _covered([(first, last)], asked.symbol_names)))


def test_a_symbol_has_partitions_on_the_dates_of_its_lifetime_alone(tmp_path):
    asked = load_settings({"FEATURE_ASSETS_SYMBOLS": "BBB:2026-02-02..2026-02-03,AAA"}, tmp_path)
    assert list(map(str, symbol_dates(asked, _day(0), _day(3)))) == [
        "2026-02-01|AAA",
        "2026-02-02|AAA",
        "2026-02-02|BBB",
        "2026-02-03|AAA",
    ]
