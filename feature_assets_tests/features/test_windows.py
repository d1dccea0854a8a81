"""Rolling windows against naive loops over each row's own window."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from feature_assets.features.windows import (
    divide_or_zero,
    expanding_then_rolling_mean_std,
    expanding_then_rolling_sum,
    lag,
    relative_change,
    rolling_max,
    rolling_mean_std,
    rolling_median,
    rolling_min,
    rolling_rank,
    rolling_sum,
    zero_in_warmup,
)

QUICK = settings(max_examples=300, deadline=None)
NAN = math.nan

# Nine decimals: the square of a deviation below 1e-162 would be 0, which no market comes near.
_NUMBERS = st.floats(-1e3, 1e3).map(lambda value: round(value, 9))
# Few different values make ties and constant stretches, and the ten millions swamp what is beside them.
_VALUES = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 1.0, 0.1, -0.3, 3.5e7, 1e7, 1e-7, NAN]), _NUMBERS)
ARRAYS = st.one_of(
    st.lists(_VALUES, max_size=45),
    st.lists(st.sampled_from([0.0, -0.0, 2.5]), max_size=45),
    st.lists(_NUMBERS, max_size=45).map(lambda values: [value * 1e7 for value in values]),
    st.tuples(st.floats(-1e9, 1e9), st.integers(0, 45)).map(lambda pair: [pair[0]] * pair[1]),
).map(lambda values: np.array(values, dtype=np.float64))
ROWS = st.integers(1, 20)


def _windows(values: np.ndarray, rows: int) -> Iterator[list[float] | None]:
    """Each row's window as Python floats; None where it is not full or holds a null."""
    for t in range(len(values)):
        window = values[max(t - rows + 1, 0) : t + 1].tolist()
        yield None if t < rows - 1 or any(map(math.isnan, window)) else window


def _naive(values: np.ndarray, rows: int, of_window: Callable[[list[float]], float]) -> np.ndarray:
    return np.array([NAN if window is None else of_window(window) for window in _windows(values, rows)], dtype=np.float64)


def _rank(window: list[float]) -> float:
    return sum(value <= window[-1] for value in window) / len(window)


def _assert_near(found: np.ndarray, expected: np.ndarray, scale: np.ndarray | float) -> None:
    """Null in the same rows, and within a few roundings of values as large as `scale`."""
    assert np.isnan(found).tolist() == np.isnan(expected).tolist()
    assert np.all((np.abs(found - expected) <= 1e-14 * np.asarray(scale)) | np.isnan(expected))


def _sizes(values: np.ndarray, rows: int) -> np.ndarray:
    """The largest absolute value of each row's window, 0 where there is none."""
    return np.array(
        [max((abs(v) for v in values[max(t - rows + 1, 0) : t + 1] if v == v), default=0.0) for t in range(len(values))]
    )


# Against naive versions


@QUICK
@given(values=ARRAYS, rows=ROWS)
def test_extrema_are_those_of_the_window(values, rows):
    np.testing.assert_array_equal(rolling_max(values, rows), _naive(values, rows, max))
    np.testing.assert_array_equal(rolling_min(values, rows), _naive(values, rows, min))


@QUICK
@given(values=ARRAYS, rows=ROWS)
def test_the_sum_is_that_of_the_window(values, rows):
    _assert_near(rolling_sum(values, rows), _naive(values, rows, math.fsum), rows * _sizes(values, rows))


@QUICK
@given(values=ARRAYS, rows=st.integers(2, 20))
def test_mean_and_deviation_are_those_of_the_window(values, rows):
    mean, deviation = rolling_mean_std(values, rows)
    _assert_near(mean, _naive(values, rows, statistics.fmean), _sizes(values, rows))
    _assert_near(deviation, _naive(values, rows, statistics.stdev), _sizes(values, rows))


@QUICK
@given(values=ARRAYS, rows=ROWS)
def test_the_rank_is_the_share_of_the_window_that_is_at_most_the_last_value(values, rows):
    np.testing.assert_array_equal(rolling_rank(values, rows), _naive(values, rows, _rank))


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize("rows", [5, 255, 256, 590])
def test_an_infinite_value_takes_rank_and_median_from_its_windows_as_a_null_does(rows, infinite):
    values = np.arange(600.0)
    values[300] = infinite
    without = values.copy()
    without[300] = NAN
    np.testing.assert_array_equal(rolling_rank(values, rows), _naive(without, rows, _rank))
    np.testing.assert_array_equal(rolling_median(values, rows), _naive(without, rows, statistics.median))


@QUICK
@given(values=ARRAYS, rows=ROWS)
def test_the_median_is_the_middle_or_the_mean_of_the_middle_two(values, rows):
    np.testing.assert_array_equal(rolling_median(values, rows), _naive(values, rows, statistics.median))


@QUICK
@given(values=ARRAYS, rows=ROWS)
def test_the_expanding_sum_is_over_all_rows_there_are(values, rows):
    found = expanding_then_rolling_sum(values, rows)
    windows = [values[max(t - rows + 1, 0) : t + 1].tolist() for t in range(len(values))]
    expected = np.array([NAN if any(map(math.isnan, window)) else math.fsum(window) for window in windows], dtype=np.float64)
    _assert_near(found, expected, rows * _sizes(values, rows))


@QUICK
@given(values=ARRAYS, rows=st.integers(2, 20), least=st.integers(2, 20))
@example(values=np.array([1.0, 2.0, 4.0]), rows=20, least=2)
def test_the_expanding_mean_and_deviation_are_over_all_rows_there_are_from_the_least_on(values, rows, least):
    least = min(least, rows)
    mean, deviation = expanding_then_rolling_mean_std(values, rows, least)
    expected_mean, expected_deviation = np.full(len(values), NAN), np.full(len(values), NAN)
    for t in range(least - 1, len(values)):
        window = values[max(t - rows + 1, 0) : t + 1].tolist()
        if not any(map(math.isnan, window)):
            expected_mean[t], expected_deviation[t] = statistics.fmean(window), statistics.stdev(window)
    _assert_near(mean, expected_mean, _sizes(values, rows))
    _assert_near(deviation, expected_deviation, _sizes(values, rows))


def test_a_single_row_has_a_mean_and_no_deviation():
    mean, deviation = expanding_then_rolling_mean_std(np.array([3.0, 5.0]), 4, 1)
    assert mean.tolist() == [3.0, 4.0]
    assert np.isnan(deviation[0])
    assert deviation[1] == math.sqrt(2.0)


@QUICK
@given(values=ARRAYS, rows=st.integers(0, 60))
def test_the_lag_is_the_value_that_many_rows_before(values, rows):
    expected = [values[t - rows] if t >= rows else NAN for t in range(len(values))]
    np.testing.assert_array_equal(lag(values, rows), np.array(expected, dtype=np.float64))


@QUICK
@given(values=ARRAYS, rows=st.integers(1, 60))
def test_the_relative_change_is_against_the_value_that_many_rows_before(values, rows):
    found = relative_change(values, rows)
    for t, value in enumerate(values.tolist()):
        before = values[t - rows].item() if t >= rows else NAN
        if before == 0 or math.isnan(before) or math.isnan(value):
            assert not math.isfinite(found[t])
        else:
            assert found[t] == value / before - 1.0


@pytest.mark.parametrize("rows", [14, 15, 59, 60, 240, 1440])
def test_the_features_own_window_lengths_are_whole(rows):
    values = np.round(np.random.default_rng(rows).normal(0.0, 3.0, rows + 40), 1) + 1e7
    mean, deviation = rolling_mean_std(values, rows)
    _assert_near(rolling_sum(values, rows), _naive(values, rows, math.fsum), rows * 1e7)
    _assert_near(mean, _naive(values, rows, statistics.fmean), 2e7)
    _assert_near(deviation, _naive(values, rows, statistics.stdev), 1e7)
    np.testing.assert_array_equal(rolling_max(values, rows), _naive(values, rows, max))
    np.testing.assert_array_equal(rolling_min(values, rows), _naive(values, rows, min))
    np.testing.assert_array_equal(rolling_rank(values, rows), _naive(values, rows, _rank))
    np.testing.assert_array_equal(rolling_median(values, rows), _naive(values, rows, statistics.median))


# Constants


@QUICK
@given(value=st.floats(allow_nan=False, allow_infinity=False), rows=st.integers(2, 70), more=st.integers(0, 30))
def test_a_constant_window_has_a_deviation_of_exactly_zero_and_itself_as_mean(value, rows, more):
    values = np.full(rows + more, value)
    mean, deviation = rolling_mean_std(values, rows)
    assert deviation[rows - 1 :].tolist() == [0.0] * (more + 1)
    assert mean[rows - 1 :].tolist() == [value] * (more + 1)


@QUICK
@given(value=st.floats(-1e150, 1e150), rows=st.integers(2, 70), length=st.integers(2, 90))
def test_a_constant_beginning_has_a_deviation_of_exactly_zero_too(value, rows, length):
    mean, deviation = expanding_then_rolling_mean_std(np.full(length, value), rows, 2)
    assert deviation[1:].tolist() == [0.0] * (length - 1)
    assert mean[1:].tolist() == [value] * (length - 1)


@pytest.mark.parametrize("rows", [15, 60, 1440])
def test_a_constant_stretch_after_wild_values_has_a_deviation_of_exactly_zero(rows):
    values = np.concatenate([np.random.default_rng(rows).normal(0.0, 1e9, rows), np.full(rows, 0.1)])
    assert rolling_mean_std(values, rows)[1][-1] == 0.0
    assert rolling_mean_std(values, rows)[1][-2] > 0.0
    assert rolling_sum(values, rows)[-1] == pytest.approx(0.1 * rows, rel=1e-14)


@pytest.mark.parametrize("rows", [5, 300, 70_000])
def test_a_flat_window_ranks_its_last_value_at_one_however_long_it_is(rows):
    assert rolling_rank(np.full(rows + 3, 0.3), rows)[rows - 1 :].tolist() == [1.0] * 4


# Purity

WINDOW_FUNCTIONS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, ...]]] = {
    "maximum": lambda values, rows: (rolling_max(values, rows),),
    "minimum": lambda values, rows: (rolling_min(values, rows),),
    "sum": lambda values, rows: (rolling_sum(values, rows),),
    "expanding sum": lambda values, rows: (expanding_then_rolling_sum(values, rows),),
    "mean and deviation": rolling_mean_std,
    "expanding mean and deviation": lambda values, rows: expanding_then_rolling_mean_std(values, rows, 1),
    "rank": lambda values, rows: (rolling_rank(values, rows),),
    "median": lambda values, rows: (rolling_median(values, rows),),
    "lag": lambda values, rows: (lag(values, rows - 1),),
    "relative change": lambda values, rows: (relative_change(values, rows - 1),),
}


def _bits(value: np.float64) -> bytes:
    return b"null" if np.isnan(value) else value.tobytes()


@pytest.mark.parametrize("function", WINDOW_FUNCTIONS.values(), ids=WINDOW_FUNCTIONS)
@settings(max_examples=60, deadline=None)
@given(values=ARRAYS, rows=st.integers(2, 20))
def test_a_row_has_the_same_bits_whether_computed_from_all_rows_or_from_its_window_alone(function, values, rows):
    whole = function(values, rows)
    for t in range(rows - 1, len(values)):
        alone = function(values[t - rows + 1 : t + 1], rows)
        assert [_bits(column[t]) for column in whole] == [_bits(column[-1]) for column in alone]


@pytest.mark.parametrize("function", WINDOW_FUNCTIONS.values(), ids=WINDOW_FUNCTIONS)
def test_a_day_long_window_has_the_same_bits_from_any_history(function):
    # Rank and median are counted and sorted for a few windows, and pandas' for many.
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0.0, 1e12, 1500), rng.choice([0.0, -0.0, 0.1, 7.3, 1e7], 1500)])
    whole = function(values, 1440)
    for t in (1439, 1500, 2938, 2939, 2999):
        alone = function(values[t - 1439 : t + 1].copy(), 1440)
        assert [_bits(column[t]) for column in whole] == [_bits(column[-1]) for column in alone]


@pytest.mark.parametrize("function", WINDOW_FUNCTIONS.values(), ids=WINDOW_FUNCTIONS)
@settings(max_examples=40, deadline=None)
@given(values=ARRAYS, rows=st.integers(2, 20), cut=st.integers(0, 45))
def test_a_row_has_the_same_bits_when_the_rows_after_it_are_gone(function, values, rows, cut):
    whole, before = function(values, rows), function(values[:cut], rows)
    for column, cut_column in zip(whole, before, strict=True):
        assert list(map(_bits, column[:cut])) == list(map(_bits, cut_column))


@pytest.mark.parametrize("function", WINDOW_FUNCTIONS.values(), ids=WINDOW_FUNCTIONS)
def test_the_shape_is_kept_and_the_input_left_alone(function):
    for length in (0, 1, 4, 5, 6):
        values = np.arange(length, dtype=np.float64)
        assert [column.shape for column in function(values, 5)] == [(length,)] * len(function(values, 5))
        assert values.tolist() == list(range(length))


def test_a_null_makes_null_exactly_the_rows_whose_window_holds_it():
    values = np.arange(12.0)
    values[4] = NAN
    for name in ("maximum", "minimum", "sum", "mean and deviation", "rank", "median"):
        for column in WINDOW_FUNCTIONS[name](values, 3):
            assert np.flatnonzero(np.isnan(column)).tolist() == [0, 1, 4, 5, 6], name


# The two that have no window


@QUICK
@given(
    columns=st.integers(0, 30).flatmap(
        lambda n: st.lists(st.lists(st.sampled_from([0.0, 1.5, NAN]), min_size=n, max_size=n), min_size=1, max_size=3)
    ),
    rows=st.integers(0, 35),
)
def test_a_warm_up_is_zero_up_to_its_first_hole_and_null_from_there(columns, rows):
    inputs = [np.array(column, dtype=np.float64) for column in columns]
    values = np.arange(len(inputs[0]), dtype=np.float64) + 100.0
    expected = values.tolist()
    for t in range(min(rows, len(values))):
        has_hole = any(math.isnan(column[i]) for column in inputs for i in range(t + 1))
        expected[t] = NAN if has_hole else 0.0
    np.testing.assert_array_equal(zero_in_warmup(values, rows, *inputs), np.array(expected))
    assert values.tolist() == [100.0 + t for t in range(len(values))]


def test_a_hole_after_the_warm_up_changes_nothing():
    column = np.array([1.0, 1.0, 1.0, NAN])
    assert zero_in_warmup(np.array([NAN, 5.0, 6.0, 7.0]), 2, column).tolist() == [0.0, 0.0, 6.0, 7.0]


def test_a_division_by_zero_is_zero_and_a_null_stays_null():
    found = divide_or_zero(np.array([6.0, 6.0, 0.0, NAN, 6.0, NAN]), np.array([3.0, 0.0, -0.0, 2.0, NAN, 0.0]))
    assert found[[0, 1, 2]].tolist() == [2.0, 0.0, 0.0]
    assert np.isnan(found[[3, 4]]).all()
