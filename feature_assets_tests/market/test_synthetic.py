"""The synthetic market: a pure function of (seed, symbol, date) that is sound and behaves like a market."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_assets.dataset.tables import content_hash
from feature_assets.market.bars import REPLAY_COLUMNS, REPLAY_SCHEMA, distinct_minutes, violations
from feature_assets.market.sources import NOT_YET, read_days
from feature_assets.market.sources.synthetic import SyntheticSource

DAY = dt.date(2026, 2, 1)
ONE_DAY = dt.timedelta(days=1)
SYMBOLS = st.from_regex(r"[A-Z0-9][A-Z0-9_-]{0,39}", fullmatch=True)
DATES = st.dates(dt.date(2015, 1, 1), dt.date(2026, 1, 31))


@pytest.fixture(scope="module")
def sixty_days() -> list[pa.Table]:
    source = SyntheticSource()
    return [source.day("BTCUSDT", DAY - (60 - number) * ONE_DAY) for number in range(60)]


def column(days: list[pa.Table], name: str) -> np.ndarray:
    """A column of several days as an array of shape (days, minutes)."""
    return np.stack([day[name].to_numpy() for day in days])


def test_one_day_has_the_same_bytes_on_every_machine():
    table = SyntheticSource(seed=7).day("BTCUSDT", DAY)

    assert content_hash(table) == "0c7e41d93b493df77b363e82c98c8822575ff6f336488ca660f63bf798f35aa7"


def test_the_graph_gets_the_day_as_it_is():
    source = SyntheticSource()

    answers = dict(read_days(source, "ETHUSDT", DAY, DAY + 3 * ONE_DAY))

    assert list(answers) == [DAY, DAY + ONE_DAY, DAY + 2 * ONE_DAY]
    assert all(table.equals(source.day("ETHUSDT", day)) for day, table in answers.items())


def test_a_day_does_not_depend_on_what_was_asked_before_it():
    busy = SyntheticSource()
    for number in (5, -3, 1, 0):
        busy.day("SOLUSDT", DAY + number * ONE_DAY)
        busy.day("BTCUSDT", DAY + number * ONE_DAY)
    in_a_range = dict(read_days(SyntheticSource(), "BTCUSDT", DAY - 9 * ONE_DAY, DAY + ONE_DAY))[DAY]

    assert busy.day("BTCUSDT", DAY).equals(SyntheticSource().day("BTCUSDT", DAY))
    assert in_a_range.equals(SyntheticSource().day("BTCUSDT", DAY))


@settings(max_examples=150, deadline=None, database=None)
@given(symbol=SYMBOLS, date=DATES, seed=st.integers(0, 2**32))
def test_any_day_of_any_symbol_is_sound_and_complete(symbol, date, seed):
    table = SyntheticSource(seed).day(symbol, date)

    assert table.schema == REPLAY_SCHEMA
    assert violations(table, date) == []
    assert distinct_minutes(table) == table.num_rows == 1440
    assert sum(table[name].null_count for name in REPLAY_COLUMNS) == 0
    np.testing.assert_allclose(
        table["taker_buy_volume"].to_numpy() + table["taker_sell_volume"].to_numpy(), table["volume"].to_numpy(), atol=2e-3
    )


@settings(max_examples=150, deadline=None, database=None)
@given(symbol=SYMBOLS, date=DATES, seed=st.integers(0, 2**32))
def test_neighbouring_days_join_at_midnight(symbol, date, seed):
    source = SyntheticSource(seed)

    before, after = source.day(symbol, date), source.day(symbol, date + ONE_DAY)

    assert after["open"][0] == before["close"][-1]
    assert after["open_interest"][0].as_py() == pytest.approx(before["open_interest"][-1].as_py(), rel=5e-3)


def test_a_bar_opens_where_the_one_before_it_closed(sixty_days):
    opens, closes = column(sixty_days, "open").ravel(), column(sixty_days, "close").ravel()

    np.testing.assert_array_equal(opens[1:], closes[:-1])


def test_symbols_seeds_and_dates_differ_in_what_moves():
    tables = [
        SyntheticSource(seed).day(symbol, day)
        for seed, symbol, day in [(7, "BTCUSDT", DAY), (8, "BTCUSDT", DAY), (7, "ETHUSDT", DAY), (7, "BTCUSDT", DAY + ONE_DAY)]
    ]

    for name in (
        "close",
        "volume",
        "taker_buy_volume",
        "mark_price",
        "open_interest",
        "spread_bps",
        "level1_ofi_1m",
        "funding_bps",
    ):
        assert len({table[name].to_numpy().tobytes() for table in tables}) == len(tables), name


def test_prices_are_of_the_size_that_the_symbol_is_known_for(sixty_days):
    closes = column(sixty_days, "close")

    assert 20_000 < closes.min() < closes.max() < 180_000
    assert 50 < SyntheticSource().day("SOLUSDT", DAY)["close"][0].as_py() < 450


def test_volatility_comes_in_clusters(sixty_days):
    sizes = np.abs(np.diff(np.log(column(sixty_days, "close")), axis=1))
    sizes = sizes - sizes.mean()

    def autocorrelation(lag: int) -> float:
        return float((sizes[:, :-lag] * sizes[:, lag:]).mean() / (sizes**2).mean())

    assert autocorrelation(1) > 0.15
    assert autocorrelation(30) > 0.1
    returns = np.diff(np.log(column(sixty_days, "close")), axis=1)
    assert abs(float((returns[:, :-1] * returns[:, 1:]).mean() / (returns**2).mean())) < 0.05


def test_every_day_has_a_flat_stretch_without_a_trade(sixty_days):
    flat = (column(sixty_days, "high") == column(sixty_days, "low")) & (column(sixty_days, "volume") == 0)
    three_in_a_row = flat[:, :-2] & flat[:, 1:-1] & flat[:, 2:]

    assert three_in_a_row.any(axis=1).all()
    assert flat.mean() < 0.2


def test_a_minute_without_a_trade_has_no_taker_and_moves_no_price(sixty_days):
    still = column(sixty_days, "volume") == 0

    for name in ("taker_buy_volume", "taker_sell_volume"):
        assert (column(sixty_days, name)[still] == 0).all()
    for name in ("open", "high", "low"):
        np.testing.assert_array_equal(column(sixty_days, name)[still], column(sixty_days, "close")[still])


def test_the_spread_is_in_tenths_and_full_of_ties(sixty_days):
    spreads = column(sixty_days, "spread_bps")

    np.testing.assert_array_equal(spreads, np.round(spreads, 1))
    assert spreads.min() > 0
    assert all(len(np.unique(day)) < 100 for day in spreads)


def test_funding_is_settled_every_eight_hours(sixty_days):
    rates, due, times = (column(sixty_days, name) for name in ("funding_bps", "next_funding_time", "event_time"))
    slots = rates.reshape(-1, 480)
    eight_hours = np.timedelta64(8 * 3_600_000, "ms")
    since_midnight = times - times[:, :1]

    assert (slots == slots[:, :1]).all()
    assert len(np.unique(slots[:, 0])) > 150
    np.testing.assert_array_equal(due - times[:, :1], (since_midnight // eight_hours + 1) * eight_hours)


def test_liquidations_are_sparse_and_on_both_sides(sixty_days):
    for side in ("buy", "sell"):
        notional = column(sixty_days, f"liquidation_{side}_notional_1m")
        assert 0.01 < (notional > 0).mean() < 0.15
        assert notional.max() > 100 * np.median(notional[notional > 0])


def test_the_feed_of_liquidations_is_out_for_an_hour_or_more_now_and_then(sixty_days):
    out = column(sixty_days, "liquidation_available") == 0
    outages = out.sum(axis=1)

    assert 5 <= (outages > 0).sum() <= 30
    # A stretch that midnight cuts off may be shorter than an hour.
    assert np.median(outages[outages > 0]) >= 60
    assert set(np.unique(column(sixty_days, "liquidation_available"))) == {0.0, 1.0}
    for side in ("buy", "sell"):
        assert (column(sixty_days, f"liquidation_{side}_notional_1m")[out] == 0).all()


def test_mark_and_index_stay_near_the_price_and_apart(sixty_days):
    close, mark, index = (column(sixty_days, name) for name in ("close", "mark_price", "index_price"))

    assert 0 < np.abs(index / close - 1).max() < 5e-4
    assert 1e-5 < np.abs(mark / index - 1).max() < 1e-3


def test_today_and_later_are_not_published_yet():
    today = dt.datetime.now(dt.UTC).date()

    answers = dict(read_days(SyntheticSource(), "BTCUSDT", today - ONE_DAY, today + 3 * ONE_DAY))

    assert answers.pop(today - ONE_DAY).num_rows == 1440
    assert answers == {today + number * ONE_DAY: NOT_YET for number in range(3)}


def test_the_fingerprint_and_the_identity_name_the_seed():
    assert SyntheticSource(7).identity == "seed 7"
    assert SyntheticSource(7).fingerprint("BTCUSDT", DAY) == "synthetic 1, seed 7"
    assert SyntheticSource(8).fingerprint("BTCUSDT", DAY) != SyntheticSource(7).fingerprint("BTCUSDT", DAY)
