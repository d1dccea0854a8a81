"""The live row: a symbol's last bars give the very row that the store has, bit for bit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from feature_assets.errors import ReplayError
from feature_assets.features import build_symbol_features, latest_row
from feature_assets.features.catalogue import LOOKBACK_ROWS
from feature_assets_tests.support.replays import days, random_replay

ROWS = LOOKBACK_ROWS + 1


@pytest.fixture(scope="module")
def three_days() -> pd.DataFrame:
    return days("BTCUSDT", 3)


def assert_bit_equal(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    expected = expected.reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    for name in expected.columns[4:]:
        assert found[name].to_numpy().tobytes() == expected[name].to_numpy().tobytes(), name


@pytest.mark.parametrize("gaps", ["bridge", "restart"])
@pytest.mark.parametrize("seed", range(4))
def test_any_minutes_row_comes_out_of_its_last_1454_bars_bit_for_bit(seed, gaps):
    replay = random_replay(seed, incomplete_days=True)
    stored = build_symbol_features(replay, allow_incomplete_days=True, gaps=gaps)
    rng = np.random.default_rng(seed)
    # After the gaps, at the start, where the window is just not full, and just full.
    after_gap = np.flatnonzero(np.diff(replay["open_time_ms"]) != 60_000) + 1
    places = {0, 1, 59, 60, ROWS - 2, ROWS - 1, len(replay) - 1, *after_gap, *after_gap + 59, *after_gap + 60}
    for place in {*places, *rng.integers(len(replay), size=20)}:
        bars = replay.iloc[max(place + 1 - ROWS, 0) : place + 1]
        assert_bit_equal(latest_row(bars, gaps=gaps), stored.iloc[[place]])


def test_a_row_with_whole_days_alone_behind_it_is_the_one_that_a_store_of_whole_days_has():
    replay = random_replay(11, incomplete_days=True)
    stored = build_symbol_features(replay)
    whole = replay[replay["event_time"].isin(stored["event_time"])]
    for place in (1439, 2000, len(stored) - 1):
        assert_bit_equal(latest_row(whole.iloc[max(place + 1 - ROWS, 0) : place + 1]), stored.iloc[[place]])


def test_rows_from_before_the_seventh_day_are_never_read():
    # The first day lies eight days before the last; the bars reach into it, the row must not.
    nine = days("BTCUSDT", 9)
    replay = pd.concat([nine.iloc[: 1440 + 500], nine.iloc[8 * 1440 : 8 * 1440 + 100]])
    row = latest_row(replay.iloc[-ROWS:])
    assert_bit_equal(row, build_symbol_features(replay, allow_incomplete_days=True).iloc[[-1]])
    assert_bit_equal(latest_row(replay.iloc[1440:]), row)
    assert np.isnan(row["spread_rank_24h_pct"].iloc[0])


def test_more_rows_and_any_order_change_nothing(three_days):
    row = latest_row(three_days.iloc[-ROWS:])
    assert_bit_equal(latest_row(three_days.sample(frac=1.0, random_state=1)), row)


def test_optional_groups_decide_the_flag_as_in_the_store(three_days):
    bars = three_days.iloc[-ROWS:].assign(open_interest=np.nan)
    assert latest_row(bars)["data_quality_flag"].tolist() == ["WARMUP"]
    groups = ("open_interest", "liquidations")
    assert latest_row(bars, optional_groups=groups)["data_quality_flag"].tolist() == ["PARTIAL_OPTIONAL"]


def test_no_bar_gives_no_row_and_the_full_schema(three_days):
    pd.testing.assert_frame_equal(latest_row(three_days.iloc[:0]), build_symbol_features(three_days.iloc[:0]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda f: f.drop(columns="volume"), ReplayError, r"missing column\(s\) volume"),
        (lambda f: f.drop(columns="symbol"), ReplayError, r"missing column\(s\) symbol"),
        (lambda f: pd.concat([f, f.iloc[[-1]]]), ReplayError, "one row a minute: 1 row"),
        (lambda f: f.assign(close=-1.0), ReplayError, "close > 0"),
        (lambda f: f.assign(symbol=["A", *["B"] * (len(f) - 1)]), ReplayError, r"2 symbols \(A, B\)"),
    ],
)
def test_what_the_whole_frame_refuses_the_live_row_refuses_too(three_days, change, error, message):
    with pytest.raises(error, match=message):
        latest_row(change(three_days.iloc[-ROWS:]))


def test_a_wrong_option_is_refused(three_days):
    with pytest.raises(ValueError, match="optional_groups: taker unknown"):
        latest_row(three_days, optional_groups=("taker",))
    with pytest.raises(ValueError, match="gaps: 'skip'"):
        latest_row(three_days, gaps="skip")
