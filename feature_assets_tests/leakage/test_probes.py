"""The proofs of one feature: what is declared wrongly is found, with the row, the distance and the column."""

from __future__ import annotations

import dataclasses
import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from feature_assets.features.catalogue import FEATURES
from feature_assets.features.declaration import feature
from feature_assets.features.windows import lag, relative_change, rolling_sum
from feature_assets.leakage.probes import examine, frozen_bars, make_replays, rows_for
from feature_assets.market.bars import REPLAY_COLUMNS, REPLAY_SCHEMA, violations

START = dt.date(2026, 2, 1)
BY_NAME = {declared.name: declared for declared in FEATURES}


@pytest.fixture(scope="module")
def replays():
    return make_replays(rows_for(1453), START)


def _declare(function, lookback, *columns, **more):
    function.__doc__ = "For a test."
    return feature(unit="", lookback=lookback, columns=columns, **more)(function).feature


def _findings(declared, replays):
    with np.errstate(all="ignore"):
        return examine(declared, replays, declared.function)


def _table(replay) -> pa.Table:
    arrays = {name: pa.array(replay.columns[name], from_pandas=True) for name in REPLAY_COLUMNS}
    for name in ("event_time", "open_time_ms", "next_funding_time"):
        arrays[name] = arrays[name].cast(pa.int64()).cast(REPLAY_SCHEMA.field(name).type)
    return pa.table(arrays, schema=REPLAY_SCHEMA)


def test_the_replays_are_sound_and_the_same_every_time(replays):
    for replay, again in zip(replays, make_replays(rows_for(1453), START), strict=True):
        assert violations(_table(replay)) == [], replay.name
        assert len(replay) == rows_for(1453) == 8 * 1440
        assert (np.diff(replay.columns["event_time"]) > replay.slack * 60_000).all()
        for name in REPLAY_COLUMNS:
            np.testing.assert_array_equal(replay.columns[name], again.columns[name])


@pytest.mark.parametrize("name", ["ret_5m_bps", "trend_consistency_15m", "channel_position_60m_pct", "taker_imbalance_5m"])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_look_back_that_is_off_by_one_is_found_with_the_right_one(replays, name, off):
    right = BY_NAME[name].lookback_rows
    found = _findings(dataclasses.replace(BY_NAME[name], lookback_rows=right + off), replays)
    assert found.observed == right
    assert f"declare lookback={right}" in found.wrong["look-back"]
    assert ("history-free" in found.wrong) == (off < 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("declared", "off"),
    [(declared, off) for declared in FEATURES for off in (-1, 1) if declared.lookback_rows + off >= 0],
    ids=lambda value: value if isinstance(value, int) else value.name,
)
def test_every_features_look_back_off_by_one_is_found(replays, declared, off):
    right = declared.lookback_rows
    found = _findings(dataclasses.replace(declared, lookback_rows=right + off), replays)
    assert (found.observed, found.at_least) == (right, False)
    assert f"declare lookback={right}" in found.wrong["look-back"]


def _minutes_since_a_trade(bars):
    rows = np.arange(len(bars), dtype=np.float64)
    return np.minimum(rows - np.maximum.accumulate(np.where(bars["volume"] > 0, rows, -np.inf)), 240.0)


def _all_rose(bars):
    return (rolling_sum((relative_change(bars["close"], 1) > 0) * 1.0, 40) == 40) * 1.0


def _weekday(bars):
    return lag(bars["event_time"], 5) // 86_400_000 % 7


def _high_quantile(bars):
    return pd.Series(bars["spread_bps"]).rolling(1440).quantile(0.99).to_numpy()


@pytest.mark.parametrize(
    "declared",
    [
        _declare(_minutes_since_a_trade, 239, "volume"),
        _declare(_all_rose, 40, "close"),
        _declare(_weekday, 5, "event_time"),
        _declare(_high_quantile, 1439, "spread_bps", group="quotes"),
    ],
    ids=lambda declared: declared.name,
)
def test_a_sound_feature_whose_farthest_row_seldom_matters_is_proven(replays, declared):
    found = _findings(declared, replays)
    assert (found.wrong, found.observed) == ({}, declared.lookback_rows)


def test_a_row_far_outside_the_window_is_found_at_its_distance(replays):
    found = _findings(_declare(lambda bars: relative_change(bars["close"], 3000), 14, "close"), replays)
    assert (found.observed, found.at_least) == (3000, False)
    assert "moved with" in found.wrong["look-back"]


@pytest.mark.parametrize(
    ("function", "declared"),
    [
        (lambda bars: pd.Series(bars["close"]).expanding().mean().to_numpy(), 60),
        (lambda bars: pd.Series(bars["close"]).ewm(halflife=5).mean().to_numpy(), 60),
        # pandas' running sum keeps a remainder of rows long gone.
        (lambda bars: pd.Series(bars["close"]).rolling(60).mean().to_numpy(), 59),
        (lambda bars: np.nancumsum(bars["close"]), 0),
    ],
    ids=["expanding", "exponential", "running", "cumulative"],
)
def test_what_carries_history_along_is_found(replays, function, declared):
    found = _findings(_declare(function, declared, "close"), replays)
    assert found.at_least
    assert found.observed > 1000
    assert {"look-back", "history-free"} <= set(found.wrong)
    assert "from the whole history" in found.wrong["history-free"]


def _ahead_once_a_day(bars):
    """Where no cut is likely to fall."""
    once = bars["event_time"] // 60_000 % 1440 == 777
    return np.where(once, np.append(bars["close"][1:], np.nan), bars["close"])


@pytest.mark.parametrize(
    ("function", "lookback", "columns"),
    [
        (lambda bars: np.append(bars["close"][1:], np.nan), 0, ("close",)),
        (lambda bars: pd.Series(bars["close"]).rolling(15, center=True).max().to_numpy(), 7, ("close",)),
        (lambda bars: (bars["close"] - np.nanmean(bars["close"])) / np.nanstd(bars["close"]), 0, ("close",)),
        (lambda bars: np.diff(bars["event_time"], append=np.nan), 0, ("event_time",)),
        (lambda bars: bars["close"] * len(bars), 0, ("close",)),
        (_ahead_once_a_day, 0, ("close", "event_time")),
    ],
    ids=["shift(-1)", "centred window", "whole-series z-score", "next time", "number of rows", "once a day"],
)
def test_what_looks_ahead_is_found(replays, function, lookback, columns):
    found = _findings(_declare(function, lookback, *columns), replays)
    assert found.wrong["look-ahead"].endswith("; read rows up to the row itself alone")


def test_what_only_looks_ahead_is_not_said_to_carry_history_and_what_does_both_is(replays):
    ahead = _findings(_declare(lambda bars: np.append(bars["close"][1:], np.nan), 0, "close"), replays)
    assert list(ahead.wrong) == ["look-ahead", "look-back"]
    both = _findings(_declare(lambda bars: bars["close"] - np.nanmean(bars["close"]), 0, "close"), replays)
    assert "from the whole history" in both.wrong["history-free"]


@pytest.mark.parametrize(
    ("function", "columns", "said"),
    [
        (lambda bars: bars["close"] + (bars["volume"] > 500), ("close",), "it reads volume, undeclared"),
        (lambda bars: bars["close"] + bars["open_time_ms"] % 7, ("close",), "it reads open_time_ms, undeclared"),
        (lambda bars: bars["close"] + (bars["event_time"] % 7), ("close",), "it reads event_time, undeclared"),
        (lambda bars: bars["close"], ("close", "open"), "it declares open, but nothing done to that moved a value"),
        (
            lambda bars: bars["liquidation_buy_notional_1m"],
            ("liquidation_buy_notional_1m",),
            "it reads liquidation_available, undeclared",
        ),
    ],
)
def test_columns_that_are_not_those_declared_are_named(replays, function, columns, said):
    found = _findings(_declare(function, 0, *columns), replays)
    assert found.wrong["columns"].startswith(said)
    assert set(found.wrong) <= {"columns", "deterministic"}


def test_a_value_that_knows_its_date_is_found_and_the_minute_of_the_week_is_not(replays):
    week = 7 * 86_400_000
    found = _findings(_declare(lambda bars: bars["event_time"] % week, 0, "event_time"), replays)
    assert found.wrong == {}
    dated = _findings(_declare(lambda bars: (bars["event_time"] > 1.8e12) * 1.0, 0, "event_time"), replays)
    assert "days later; keep nothing by date" in dated.wrong["deterministic"]
    assert dated.unproven


def test_random_numbers_are_found_and_nothing_else_is_said_of_them(replays):
    found = _findings(_declare(lambda bars: bars["close"] + np.random.default_rng().random(len(bars)), 0, "close"), replays)
    assert list(found.wrong) == ["deterministic"]
    assert "from the same bars in the same process" in found.wrong["deterministic"]


def _writes(bars):
    bars["close"][0] = 1.0
    return bars["close"]


def _writes_to_what_is_shared(bars):
    highest = BY_NAME["range_15m_bps"].function(bars)
    highest[:] = 1.0
    return highest


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (_writes, "it raised ValueError when it was asked for 11520 rows: assignment destination is read-only"),
        (_writes_to_what_is_shared, "it raised ValueError when it was asked for 11520 rows: assignment destination is read-only"),
        (lambda bars: bars["close"][1:], "an array of shape (11519,) came back for 11520 rows"),
        (lambda bars: bars["no such"], "it raised KeyError when it was asked for 11520 rows: 'no such'"),
    ],
)
def test_a_feature_that_writes_to_the_bars_raises_or_gives_another_shape_is_named_and_not_examined(replays, function, said):
    found = _findings(_declare(function, 14, "close"), replays)
    assert said in found.wrong["runs"]
    assert list(found.wrong) == ["runs"]
    assert found.unproven


def test_a_feature_may_raise_on_what_no_sound_replay_has(replays):
    def strict(bars):
        if not (bars["close"] > 0).all():
            raise ValueError("prices are positive")
        return relative_change(bars["close"], 3)

    found = _findings(_declare(strict, 3, "close"), replays)
    assert (found.wrong, found.observed) == ({}, 3)


def test_nobody_can_write_to_frozen_bars():
    bars = frozen_bars(make_replays(1440, START)[0].columns)
    for name in REPLAY_COLUMNS:
        with pytest.raises(ValueError, match="read-only"):
            bars[name][0] = 1.0
