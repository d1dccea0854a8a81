"""Feature rows: which rows there are, what is NaN and how it is flagged, and that cuts do not show."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_assets.errors import ReplayError
from feature_assets.features import build_symbol_features
from feature_assets.features.build import FeatureOptions, _flags
from feature_assets.features.catalogue import FEATURE_ORDER, FEATURES, FLAGS, LOOKBACK_DAYS, LOOKBACK_ROWS
from feature_assets_tests.support.replays import START, days, random_replay

OPTIONAL = ("funding", "liquidations", "mark_index", "open_interest", "quotes", "taker_flow")


@pytest.fixture(scope="module")
def three_days() -> pd.DataFrame:
    return days("BTCUSDT", 3)


def nan_rows(frame: pd.DataFrame, name: str) -> list[int]:
    return np.flatnonzero(frame[name].isna()).tolist()


# What is there


def test_any_row_order_gives_the_same_rows(three_days):
    shuffled = three_days.sample(frac=1.0, random_state=1)
    pd.testing.assert_frame_equal(build_symbol_features(shuffled), build_symbol_features(three_days))


def test_columns_and_types_are_the_contracts(three_days):
    frame = build_symbol_features(three_days)
    assert list(frame.columns) == ["symbol", "event_time", "open_time_ms", "data_quality_flag", *FEATURE_ORDER]
    assert str(frame["event_time"].dtype) == "datetime64[ms, UTC]"
    assert {str(frame[name].dtype) for name in FEATURE_ORDER} == {"float32"}


def test_columns_beyond_the_contract_never_reach_a_row(three_days):
    extra = three_days.assign(future_return=1.0)
    pd.testing.assert_frame_equal(build_symbol_features(extra), build_symbol_features(three_days))


def test_nothing_left_gives_an_empty_frame_with_the_full_schema(three_days):
    for bars in (three_days.iloc[:0], three_days.iloc[:100]):
        frame = build_symbol_features(bars)
        assert len(frame) == 0
        assert list(frame.columns[4:]) == list(FEATURE_ORDER)
        assert str(frame["ret_1m_bps"].dtype) == "float32"


def test_a_day_is_complete_by_its_minutes_not_by_its_row_count(three_days):
    # 1,440 rows of which one is doubled and one is missing: the reference takes such a day.
    doubled = three_days.drop(index=1440 + 30)
    doubled = pd.concat([doubled, three_days.iloc[[1440 + 31]]])
    with pytest.raises(ReplayError, match=r"one row a minute: 1 row\(s\), e.g. row 1471 at 2025-03-04 00:31:00"):
        build_symbol_features(doubled)


def test_incomplete_days_are_dropped_unless_allowed(three_days):
    short = three_days.drop(index=range(1440 + 100, 1440 + 110))
    assert len(build_symbol_features(short)) == 2 * 1440
    assert len(build_symbol_features(short, allow_incomplete_days=True)) == 3 * 1440 - 10


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="volume"), r"missing column\(s\) volume; expected all of"),
        (lambda f: f.drop(columns="symbol"), r"missing column\(s\) symbol"),
        (lambda f: f.assign(symbol=["A", "B"] * (len(f) // 2)), r"2 symbols \(A, B\); expected one"),
        (lambda f: f.assign(close=0.0), r"close > 0: 4320 row\(s\)"),
        (lambda f: f.assign(spread_bps="wide"), "column spread_bps is .*string; expected a number"),
        (lambda f: f.assign(event_time=f["event_time"].dt.tz_localize(None)), "expected a timestamp with time zone UTC"),
        (lambda f: f.assign(funding_bps=np.inf), "funding_bps is finite: 4320"),
    ],
)
def test_bars_that_break_the_contract_are_refused(three_days, change, message):
    with pytest.raises(ReplayError, match=message):
        build_symbol_features(change(three_days))


@pytest.mark.parametrize("option", [{"gaps": "mind"}, {"optional_groups": ("weather",)}])
def test_unknown_options_are_refused(three_days, option):
    with pytest.raises(ValueError, match="expected"):
        build_symbol_features(three_days, **option)


# Defects of the reference that are not carried over


@pytest.mark.parametrize("column", ["open_interest", "index_price", "mark_price", "funding_bps", "spread_bps", "level1_ofi_1m"])
def test_a_hole_in_a_column_is_never_an_ok_row(three_days, column):
    holed = three_days.copy()
    holed.loc[2000, column] = np.nan
    frame = build_symbol_features(holed)
    assert frame["data_quality_flag"][2000] == "WARMUP"
    assert "WARMUP" not in set(frame["data_quality_flag"][2000 + 1441 :])


def test_an_open_interest_of_zero_counts_as_null_and_not_as_infinite_growth(three_days):
    holed = three_days.copy()
    holed.loc[2000, "open_interest"] = 0.0
    frame = build_symbol_features(holed)
    assert nan_rows(frame, "oi_delta_15m_bps")[15:] == [2000, 2015]
    assert nan_rows(frame, "oi_delta_60m_bps")[60:] == [2000, 2060]
    assert frame["data_quality_flag"][[2000, 2015, 2060]].tolist() == ["WARMUP"] * 3


@pytest.mark.parametrize(
    ("column", "feature", "rows"),
    [
        ("volume", "volume_zscore_60m", 60),
        ("taker_buy_volume", "taker_imbalance_1m", 1),
        ("taker_sell_volume", "taker_imbalance_5m", 5),
        ("taker_buy_volume", "taker_imbalance_15m", 15),
        ("liquidation_buy_notional_1m", "liquidation_imbalance_15m", 15),
        ("liquidation_sell_notional_1m", "liquidation_notional_zscore_15m", 1454),
        ("spread_bps", "spread_rank_24h_pct", 1440),
    ],
)
def test_a_null_makes_every_window_that_holds_it_nan_and_not_neutral(column, feature, rows):
    holed = days("BTCUSDT", 4)
    holed["liquidation_available"] = 1.0
    holed.loc[3000, column] = np.nan
    found = [row for row in nan_rows(build_symbol_features(holed), feature) if row >= 1440]
    assert found == list(range(3000, 3000 + rows))


def test_a_null_in_the_warm_up_is_not_read_as_zero(three_days):
    holed = three_days.copy()
    holed.loc[10, "volume"] = np.nan
    values = build_symbol_features(holed)["volume_zscore_60m"]
    assert (values[:10] == 0.0).all()
    assert values[10:70].isna().all()
    assert np.isfinite(values[70:]).all()


def test_liquidations_count_as_zero_where_they_are_unavailable(three_days):
    unavailable = three_days.copy()
    unavailable.loc[1500:1600, "liquidation_available"] = np.nan
    unavailable.loc[1500:1600, ["liquidation_buy_notional_1m", "liquidation_sell_notional_1m"]] = 1e9
    quiet = unavailable.copy()
    quiet.loc[1500:1600, ["liquidation_buy_notional_1m", "liquidation_sell_notional_1m"]] = np.nan
    frame = build_symbol_features(unavailable)
    pd.testing.assert_frame_equal(frame, build_symbol_features(quiet))
    assert (frame["liquidation_available"][1500:1601] == 0.0).all()
    assert set(frame["data_quality_flag"][1500:1601]) == {"PARTIAL_OPTIONAL"}


def test_a_value_beyond_float32_is_nan_and_the_flag_follows(three_days):
    huge = three_days.copy()
    huge.loc[2000, "level1_ofi_1m"] = 1e39
    frame = build_symbol_features(huge)
    assert np.isnan(frame["level1_ofi_1m"][2000])
    assert frame["data_quality_flag"][2000] == "WARMUP"


def test_a_constant_volume_has_a_z_score_of_exactly_zero(three_days):
    flat = three_days.assign(volume=0.1)
    assert (build_symbol_features(flat)["volume_zscore_60m"] == 0.0).all()


def test_an_imbalance_never_leaves_its_bounds_with_one_sided_nulls(three_days):
    holed = three_days.copy()
    holed.loc[::7, "liquidation_buy_notional_1m"] = np.nan
    values = build_symbol_features(holed)["liquidation_imbalance_15m"]
    assert values.dropna().between(-1.0, 1.0).all()


# Flags


def test_optional_groups_turn_warm_up_into_partial(three_days):
    bare = three_days.copy()
    for group_column in ("funding_bps", "mark_price", "open_interest", "spread_bps", "liquidation_available"):
        bare[group_column] = np.nan
    assert set(build_symbol_features(bare)["data_quality_flag"]) == {"WARMUP"}
    flags = build_symbol_features(bare, optional_groups=OPTIONAL)["data_quality_flag"]
    assert set(flags[:253]) == {"WARMUP"}
    assert set(flags[253:]) == {"PARTIAL_OPTIONAL"}


def test_required_liquidations_make_an_unavailable_row_warm_up(three_days):
    bars = three_days.copy()
    bars["liquidation_available"] = 1.0
    bars.loc[2000, "liquidation_available"] = 0.0
    assert build_symbol_features(bars, optional_groups=())["data_quality_flag"][2000] == "WARMUP"
    assert build_symbol_features(bars)["data_quality_flag"][2000] == "PARTIAL_OPTIONAL"


@given(
    missing=st.lists(st.sets(st.sampled_from(FEATURE_ORDER), max_size=2), min_size=1, max_size=8),
    available=st.lists(st.sampled_from([0.0, 1.0]), min_size=8, max_size=8),
    optional=st.sets(st.sampled_from(("bars", *OPTIONAL))),
)
@settings(max_examples=200, deadline=None)
def test_flags_follow_the_contract_for_every_pattern_of_missing_values(missing, available, optional):
    lacks = np.array([[name in row for row in missing] for name in FEATURE_ORDER])
    found = _flags(lacks, np.array(available[: len(missing)]), FeatureOptions(tuple(optional)))
    group = {feature.name: feature.group for feature in FEATURES}
    for row, flag in enumerate(found):
        lacking = {group[name] for name in missing[row]} | ({"liquidations"} if available[row] == 0.0 else set())
        expected = "WARMUP" if lacking - optional else "PARTIAL_OPTIONAL" if lacking else "OK"
        assert FLAGS[flag] == expected


# Gaps


def test_bridging_runs_windows_across_missing_minutes_and_restarting_makes_them_nan(three_days):
    gap = three_days.drop(index=range(2000, 2010)).reset_index(drop=True)
    bridged = build_symbol_features(gap, allow_incomplete_days=True)
    assert np.isfinite(bridged["ret_5m_bps"][2000:]).all()
    restarted = build_symbol_features(gap, allow_incomplete_days=True, gaps="restart")
    for feature in FEATURES:
        after = restarted[feature.name][2000:].to_numpy()
        assert np.isnan(after[: feature.lookback_rows]).all(), feature.name
        np.testing.assert_array_equal(after[feature.lookback_rows :], bridged[feature.name][2000 + feature.lookback_rows :])


def test_with_gaps_restarted_a_feature_of_this_minute_alone_is_unhurt(three_days):
    gap = three_days.drop(index=range(2000, 2010)).reset_index(drop=True)
    restarted = build_symbol_features(gap, allow_incomplete_days=True, gaps="restart")
    assert np.isfinite(restarted["mark_index_basis_bps"]).all()


# The window of a day


def test_a_row_sees_nothing_before_midnight_seven_days_earlier():
    assert (LOOKBACK_ROWS, LOOKBACK_DAYS) == (1453, 7)
    early, late = days("BTCUSDT", 1), days("BTCUSDT", 2, start=START + dt.timedelta(days=8))
    with_history = build_symbol_features(pd.concat([early, late]))
    pd.testing.assert_frame_equal(with_history[1440:].reset_index(drop=True), build_symbol_features(late))
    near = days("BTCUSDT", 2, start=START + dt.timedelta(days=7))
    bridged = build_symbol_features(pd.concat([early, near]))
    assert np.isfinite(bridged["ret_240m_bps"][1440:2880]).all()


@given(seed=st.integers(0, 1000), data=st.data())
@settings(max_examples=12, deadline=None)
def test_a_days_bytes_do_not_depend_on_the_history_or_the_cut(seed, data):
    replay = random_replay(seed, incomplete_days=bool(seed % 2))
    whole = build_symbol_features(replay, allow_incomplete_days=True)
    dates = sorted(set(replay["event_time"].dt.date))
    day = data.draw(st.sampled_from(dates))
    first = data.draw(st.sampled_from([d for d in dates if d <= day - dt.timedelta(days=3)] or dates[:1]))
    part = replay[(replay["event_time"].dt.date >= first) & (replay["event_time"].dt.date <= day)]
    found = build_symbol_features(part, allow_incomplete_days=True)
    if first != dates[0] and (part["event_time"].dt.date < day).sum() < LOOKBACK_ROWS:
        return
    left = found[found["event_time"].dt.date == day].reset_index(drop=True)
    right = whole[whole["event_time"].dt.date == day].reset_index(drop=True)
    pd.testing.assert_frame_equal(left, right, check_exact=True)
