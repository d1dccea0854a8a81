"""log and exp: how near they are to the true value, and what they make of values outside their range."""

from __future__ import annotations

import decimal
import math

import numpy as np
import pytest

from feature_assets.elementary import exp, log

_RNG = np.random.default_rng(7)
LOG_SAMPLES = {
    "around one": 1.0 + _RNG.uniform(-1e-6, 1e-6, 500),
    "returns": 1.0 + _RNG.uniform(-0.3, 0.4, 1500),
    "every magnitude": 10.0 ** _RNG.uniform(-307, 308, 1500),
    "edges": np.array(
        [5e-324, 1e-310, 2.0**-1022, math.sqrt(0.5), math.sqrt(2.0), 2.0, np.finfo(float).max, math.nextafter(1, 2)]
    ),
}
EXP_SAMPLES = {
    "around zero": _RNG.uniform(-1e-6, 1e-6, 500),
    "moves": _RNG.uniform(-3.0, 3.0, 1500),
    "every magnitude": _RNG.uniform(-700.0, 700.0, 1500),
    "edges": np.array([-700.0, 700.0, math.log(2) / 2, -math.log(2) / 2, math.log(2), 5e-324, -5e-324]),
}


def _worst_error(found: np.ndarray, x: np.ndarray, true: str) -> float:
    """The largest distance from decimal's 40-digit `ln` or `exp`, in units in the last place of the result."""
    with decimal.localcontext(prec=40):
        return max(
            float(abs(decimal.Decimal(value) - getattr(decimal.Decimal(argument), true)()) / decimal.Decimal(math.ulp(value)))
            for value, argument in zip(found.tolist(), x.tolist(), strict=True)
        )


@pytest.mark.parametrize("x", LOG_SAMPLES.values(), ids=LOG_SAMPLES)
def test_log_is_within_two_units_in_the_last_place_of_the_true_value(x):
    assert _worst_error(log(x), x, "ln") <= 2.0


@pytest.mark.parametrize("x", EXP_SAMPLES.values(), ids=EXP_SAMPLES)
def test_exp_is_within_two_units_in_the_last_place_of_the_true_value(x):
    assert _worst_error(exp(x), x, "exp") <= 2.0


@pytest.mark.parametrize("x", LOG_SAMPLES.values(), ids=LOG_SAMPLES)
def test_log_is_within_two_units_in_the_last_place_of_numpys(x):
    assert np.all(np.abs(log(x) - np.log(x)) <= 2.0 * np.spacing(np.abs(np.log(x))))


@pytest.mark.parametrize("x", EXP_SAMPLES.values(), ids=EXP_SAMPLES)
def test_exp_is_within_two_units_in_the_last_place_of_numpys(x):
    assert np.all(np.abs(exp(x) - np.exp(x)) <= 2.0 * np.spacing(np.exp(x)))


def test_log_of_one_is_exactly_zero():
    assert log(np.ones(3)).tolist() == [0.0, 0.0, 0.0]


def test_log_of_one_is_the_positive_zero():
    assert not np.signbit(log(np.array([1.0])))[0]


def test_exp_of_zero_is_exactly_one():
    assert exp(np.array([0.0, -0.0])).tolist() == [1.0, 1.0]


def test_log_of_a_power_of_two_is_that_many_times_log_two():
    powers = np.arange(-1074, 1024)
    assert np.max(np.abs(log(np.ldexp(1.0, powers)) - powers * math.log(2.0)) / 700.0) < 1e-15


@pytest.mark.parametrize("x", [0.0, -0.0, -1.0, -5e-324, math.inf, -math.inf, math.nan])
def test_log_of_what_is_not_positive_and_finite_is_nan(x):
    assert np.isnan(log(np.array([x])))[0]


def test_a_nan_beside_them_leaves_the_other_values_as_they_are():
    x = np.array([2.0, math.nan, 0.0, 3.0])
    assert log(x)[[0, 3]].tolist() == log(np.array([2.0, 3.0])).tolist()


def test_nothing_gives_nothing():
    assert log(np.empty(0)).tolist() == []
    assert exp(np.empty(0)).tolist() == []


def test_a_value_does_not_depend_on_its_neighbours_or_its_place():
    x = LOG_SAMPLES["returns"][:67]
    assert log(x).tolist() == [log(x[i : i + 1])[0] for i in range(len(x))]
    assert exp(x).tolist() == [exp(x[i : i + 1])[0] for i in range(len(x))]


def test_the_argument_is_left_alone():
    x = np.array([0.5, -1.0, math.nan])
    log(x)
    assert x[:2].tolist() == [0.5, -1.0]


def test_log_and_exp_undo_each_other():
    x = EXP_SAMPLES["moves"]
    assert np.max(np.abs(log(exp(x)) - x)) < 1e-15
