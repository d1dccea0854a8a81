"""The contract of replay bars: their columns, their types, the rules of a sound replay, and what features read."""

from __future__ import annotations

import datetime as dt
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_assets.errors import ReplayError
from feature_assets.market.bars import (
    INPUT_GROUPS,
    NUMBER_COLUMNS,
    REPLAY_COLUMNS,
    REPLAY_SCHEMA,
    Bars,
    Violation,
    check_columns,
    columns_of,
    day_start_ms,
    distinct_minutes,
    empty_table,
    sound_columns,
    to_table,
    violations,
)

DAY = dt.date(2026, 2, 1)
MIDNIGHT = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
ROWS = 6
BROKEN = 2  # the row that the tests break
SOUND = {
    "open": 100.0,
    "high": 102.0,
    "low": 98.0,
    "close": 101.0,
    "volume": 10.0,
    "taker_buy_volume": 6.0,
    "taker_sell_volume": 4.0,
    "funding_bps": 1.0,
    "mark_price": 100.5,
    "index_price": 100.25,
    "next_funding_time": MIDNIGHT + dt.timedelta(hours=48),
    "open_interest": 1000.0,
    "spread_bps": 0.5,
    "level1_ofi_1m": -3.0,
    "liquidation_buy_notional_1m": 20.0,
    "liquidation_sell_notional_1m": 30.0,
    "liquidation_available": 1.0,
}
PRICES = ("open", "high", "low", "close")
ALWAYS_THERE = ("event_time", "open_time_ms", *PRICES)


def row(minute: int, **changes: object) -> dict[str, object]:
    time = MIDNIGHT + minute * MINUTE
    return {"event_time": time, "open_time_ms": day_start_ms(DAY) + minute * 60_000} | SOUND | changes


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=REPLAY_SCHEMA)


def broken_by(**changes: object) -> list[Violation]:
    """What is wrong with a sound table whose row BROKEN has these values instead."""
    rows = [row(minute) for minute in range(ROWS)]
    rows[BROKEN] |= changes
    return violations(table_of(rows), DAY)


def frame(rows: int = ROWS) -> pd.DataFrame:
    return table_of([row(minute) for minute in range(rows)]).to_pandas()


def test_a_sound_table_breaks_no_rule():
    assert violations(table_of([row(minute) for minute in range(1440)]), DAY) == []


def test_a_table_of_no_rows_breaks_no_rule():
    assert violations(empty_table(), DAY) == []
    assert violations(empty_table()) == []


@pytest.mark.parametrize(
    ("changes", "rule", "values"),
    [
        ({"high": 100.5}, "high >= max(open, close)", "open=100.0, high=100.5, close=101.0"),
        ({"open": 101.5, "high": 101.25}, "high >= max(open, close)", "open=101.5, high=101.25, close=101.0"),
        ({"low": 100.5}, "low <= min(open, close)", "open=100.0, low=100.5, close=101.0"),
        ({"close": 99.0, "low": 99.5}, "low <= min(open, close)", "open=100.0, low=99.5, close=99.0"),
        ({"low": 0.0}, "low > 0", "low=0.0"),
        ({"low": -0.5}, "low > 0", "low=-0.5"),
        ({"mark_price": 0.0}, "mark_price > 0", "mark_price=0.0"),
        ({"index_price": -1.0}, "index_price > 0", "index_price=-1.0"),
        ({"volume": -0.001}, "volume >= 0", "volume=-0.001"),
        ({"taker_buy_volume": -1.0}, "taker_buy_volume >= 0", "taker_buy_volume=-1.0"),
        ({"taker_sell_volume": -1.0}, "taker_sell_volume >= 0", "taker_sell_volume=-1.0"),
        ({"liquidation_buy_notional_1m": -1.0}, "liquidation_buy_notional_1m >= 0", "liquidation_buy_notional_1m=-1.0"),
        ({"liquidation_sell_notional_1m": -1.0}, "liquidation_sell_notional_1m >= 0", "liquidation_sell_notional_1m=-1.0"),
        (
            {"next_funding_time": MIDNIGHT + BROKEN * MINUTE},
            "next_funding_time > event_time",
            "next_funding_time=2026-02-01 00:02:00+00:00",
        ),
        (
            {"open_time_ms": day_start_ms(DAY) + BROKEN * 60_000 + 1},
            "open_time_ms equals event_time",
            "open_time_ms=1769904120001",
        ),
    ],
)
def test_a_broken_rule_is_named_alone_with_its_row_and_values(changes, rule, values):
    assert broken_by(**changes) == [Violation(rule, 1, (f"row 2 at 2026-02-01 00:02:00+00:00 ({values})",))]


@pytest.mark.parametrize("price", PRICES)
@pytest.mark.parametrize("value", [0.0, -7.0])
def test_every_price_is_positive(price, value):
    found = broken_by(**dict.fromkeys(PRICES, 5.0) | {price: value})

    assert Violation(f"{price} > 0", 1, (f"row 2 at 2026-02-01 00:02:00+00:00 ({price}={value})",)) in found
    assert {f"{other} > 0" for other in PRICES if other != price}.isdisjoint(violation.rule for violation in found)


@pytest.mark.parametrize("column", NUMBER_COLUMNS)
@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_no_number_is_infinite(column, value):
    expected = Violation(f"{column} is finite", 1, (f"row 2 at 2026-02-01 00:02:00+00:00 ({column}={value})",))

    assert expected in broken_by(**{column: value})


@pytest.mark.parametrize("price", PRICES)
def test_a_price_that_is_null_breaks_that_rule_alone(price):
    example = f"row 2 at 2026-02-01 00:02:00+00:00 ({price}=None)"

    assert broken_by(**{price: None}) == [Violation(f"{price} is never null", 1, (example,))]


@pytest.mark.parametrize(
    ("time", "example"),
    [
        ("event_time", "row 2 at None"),
        ("open_time_ms", "row 2 at 2026-02-01 00:02:00+00:00 (open_time_ms=None)"),
    ],
)
def test_a_time_that_is_null_is_named(time, example):
    assert Violation(f"{time} is never null", 1, (example,)) in broken_by(**{time: None})


@pytest.mark.parametrize("time", ["event_time", "open_time_ms"])
def test_a_time_that_is_null_breaks_that_rule_alone(time):
    assert [violation.rule for violation in broken_by(**{time: None})] == [f"{time} is never null"]


def test_every_other_column_may_be_null():
    assert broken_by(**dict.fromkeys(name for name in REPLAY_COLUMNS if name not in ALWAYS_THERE)) == []


@pytest.mark.parametrize("column", ["funding_bps", "spread_bps", "level1_ofi_1m", "open_interest"])
def test_a_column_without_a_sign_may_be_zero_or_negative(column):
    assert broken_by(**{column: 0.0}) == []
    assert broken_by(**{column: -1.0}) == []


def test_limits_that_are_met_exactly_are_sound():
    assert broken_by(open=5.0, high=5.0, low=5.0, close=5.0, volume=0.0, taker_buy_volume=0.0, taker_sell_volume=0.0) == []


@pytest.mark.parametrize(("late_ms", "time"), [(1, "00:02:00.001000"), (1000, "00:02:01"), (30_000, "00:02:30")])
def test_event_time_is_on_the_minute(late_ms, time):
    late = MIDNIGHT + BROKEN * MINUTE + dt.timedelta(milliseconds=late_ms)

    found = broken_by(event_time=late, open_time_ms=day_start_ms(DAY) + BROKEN * 60_000 + late_ms)

    assert found == [Violation("event_time is on the minute", 1, (f"row 2 at 2026-02-01 {time}+00:00",))]


@pytest.mark.parametrize(
    ("minutes", "outside"), [((-1, 0, 1439), "2026-01-31 23:59:00"), ((0, 1439, 1440), "2026-02-02 00:00:00")]
)
def test_event_time_lies_within_its_day(minutes, outside):
    table = table_of([row(minute) for minute in minutes])
    number = 0 if minutes[0] < 0 else 2

    assert violations(table, DAY) == [Violation("event_time lies in 2026-02-01", 1, (f"row {number} at {outside}+00:00",))]
    assert violations(table) == []


def test_one_minute_has_one_row():
    table = table_of([row(0), row(1), row(1, close=100.5), row(2)])

    assert violations(table, DAY) == [Violation("one row a minute", 1, ("row 2 at 2026-02-01 00:01:00+00:00",))]


def test_a_gap_in_the_minutes_is_no_broken_rule():
    assert violations(table_of([row(0), row(700), row(1439)]), DAY) == []


def test_a_rule_broken_often_counts_all_rows_and_shows_five():
    (found,) = violations(table_of([row(minute, volume=-float(minute)) for minute in range(9)]), DAY)

    assert (found.rule, found.rows, len(found.examples)) == ("volume >= 0", 8, 5)
    assert found.examples[0] == "row 1 at 2026-02-01 00:01:00+00:00 (volume=-1.0)"
    assert found.examples[4] == "row 5 at 2026-02-01 00:05:00+00:00 (volume=-5.0)"


def test_several_broken_rules_are_all_found():
    table = table_of([row(0, volume=-1.0), row(1, mark_price=-1.0), row(1)])

    assert [violation.rule for violation in violations(table, DAY)] == ["one row a minute", "mark_price > 0", "volume >= 0"]


def test_a_violation_reads_as_a_sentence():
    (found,) = broken_by(volume=-1.0)

    assert str(found) == "volume >= 0: 1 row(s), e.g. row 2 at 2026-02-01 00:02:00+00:00 (volume=-1.0)"


def test_the_columns_are_the_input_groups_and_the_two_times():
    grouped = {name for columns in INPUT_GROUPS.values() for name in columns}

    assert set(REPLAY_COLUMNS) == {"event_time", "open_time_ms", *grouped}
    assert REPLAY_SCHEMA.field("event_time").type == REPLAY_SCHEMA.field("next_funding_time").type == pa.timestamp("ms", "UTC")
    assert REPLAY_SCHEMA.field("open_time_ms").type == pa.int64()
    assert set(REPLAY_COLUMNS) - set(NUMBER_COLUMNS) == {"event_time", "open_time_ms", "next_funding_time"}
    assert {REPLAY_SCHEMA.field(name).type for name in NUMBER_COLUMNS} == {pa.float64()}


def test_a_frame_becomes_a_table_of_the_schema_with_its_values():
    assert to_table(frame(), "BTCUSDT 2026-02-01").equals(table_of([row(minute) for minute in range(ROWS)]))


@pytest.mark.parametrize("column", REPLAY_COLUMNS)
def test_a_missing_column_is_named(column):
    with pytest.raises(ReplayError, match=rf"^BTCUSDT 2026-02-01: missing column\(s\) {column}; expected all of event_time, "):
        to_table(frame().drop(columns=column), "BTCUSDT 2026-02-01")


def test_all_missing_columns_are_named_at_once():
    with pytest.raises(
        ReplayError, match=r"missing column\(s\) volume, spread_bps; .* Add them, with nulls where there is no data"
    ):
        to_table(frame().drop(columns=["spread_bps", "volume"]), "BTCUSDT")


def test_columns_beyond_the_schema_are_left_out_whatever_they_hold():
    more = frame().assign(symbol="BTCUSDT", trades=7, mixed=[1, "a", None, 2.5, b"x", {}])

    assert to_table(more, "BTCUSDT").equals(to_table(frame(), "BTCUSDT"))
    wider = to_table(frame(), "BTCUSDT").append_column("symbol", pa.array(["BTCUSDT"] * ROWS))
    assert to_table(wider, "BTCUSDT").schema == REPLAY_SCHEMA


def test_the_order_of_columns_and_the_index_do_not_matter():
    other = frame()[list(reversed(REPLAY_COLUMNS))].set_index(pd.Index(range(100, 100 + ROWS)))

    assert to_table(other, "BTCUSDT").equals(to_table(frame(), "BTCUSDT"))


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("close", ["100"] * ROWS, "BTCUSDT: column close is (large_)?string; expected a number. Convert it."),
        ("open_time_ms", ["1"] * ROWS, "BTCUSDT: column open_time_ms is (large_)?string; expected a number"),
        ("volume", [True] * ROWS, "BTCUSDT: column volume is bool; expected a number"),
        ("close", [1.5, "a", 2, 3, 4, 5], "BTCUSDT: column close holds values of several types"),
        ("event_time", list(range(ROWS)), "BTCUSDT: column event_time is int64; expected a timestamp with time zone UTC"),
        ("next_funding_time", ["2026-02-01T08:00Z"] * ROWS, "BTCUSDT: column next_funding_time is (large_)?string; expected a t"),
        ("open_time_ms", [0.5] * ROWS, r"BTCUSDT: column open_time_ms \(double\) does not fit int64"),
        ("close", [2**53 + 1] * ROWS, r"BTCUSDT: column close \(int64\) does not fit double"),
    ],
)
def test_a_wrong_type_names_the_column_and_what_it_holds(column, values, message):
    with pytest.raises(ReplayError, match=f"^{message}"):
        to_table(frame().assign(**{column: pd.Series(values)}), "BTCUSDT")


@pytest.mark.parametrize("column", ["event_time", "next_funding_time"])
def test_a_time_without_a_zone_is_refused(column):
    bars = frame()
    bars[column] = bars[column].dt.tz_localize(None)

    with pytest.raises(
        ReplayError, match=rf"column {column} is timestamp\[ms\]; expected a timestamp with time zone UTC. Convert"
    ):
        to_table(bars, "BTCUSDT")


def test_a_time_of_another_zone_is_refused():
    bars = frame()
    bars["event_time"] = bars["event_time"].dt.tz_convert("Asia/Tokyo")

    with pytest.raises(ReplayError, match=r"column event_time is timestamp\[ms, tz=Asia/Tokyo\]; expected .* time zone UTC"):
        to_table(bars, "BTCUSDT")


@pytest.mark.parametrize("zone", ["UTC", "+00:00", "Etc/UTC"])
@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_in_utc_of_any_unit_are_taken(unit, zone):
    bars = to_table(frame(), "BTCUSDT")
    other = bars
    for name in ("event_time", "next_funding_time"):
        times = bars[name].cast(pa.timestamp(unit, zone))
        other = other.set_column(other.schema.get_field_index(name), name, times)

    assert to_table(other, "BTCUSDT").equals(bars)


def test_a_time_finer_than_a_millisecond_is_refused_and_not_rounded():
    bars = frame()
    bars["event_time"] = bars["event_time"].astype("datetime64[us, UTC]") + pd.Timedelta(1, "us")

    with pytest.raises(ReplayError, match=r"^BTCUSDT: column event_time \(timestamp\[us, tz=UTC\]\) does not fit timestamp\[ms"):
        to_table(bars, "BTCUSDT")


def test_whole_numbers_and_single_precision_are_numbers():
    bars = frame().astype({"volume": "int32", "close": "float32", "open_time_ms": "float64", "liquidation_available": "uint8"})

    assert to_table(bars, "BTCUSDT").equals(to_table(frame(), "BTCUSDT"))


def test_nan_and_none_become_null_and_infinity_stays():
    bars = frame().assign(spread_bps=[math.nan, math.inf, 1.0, -math.inf, math.nan, 2.0], funding_bps=None)
    bars.loc[3, "next_funding_time"] = pd.NaT

    table = to_table(bars, "BTCUSDT")

    assert table["spread_bps"].to_pylist() == [None, math.inf, 1.0, -math.inf, None, 2.0]
    assert table["funding_bps"].to_pylist() == [None] * ROWS
    assert [time is None for time in table["next_funding_time"].to_pylist()] == [False, False, False, True, False, False]


def test_nan_in_a_table_becomes_null_as_in_a_frame():
    table = table_of([row(0, volume=math.nan), row(1)])

    assert to_table(table, "BTCUSDT")["volume"].to_pylist() == [None, 10.0]


def test_a_column_of_no_type_is_a_column_without_values():
    table = to_table(frame(), "BTCUSDT")
    for name in ("next_funding_time", "open_interest"):
        table = table.set_column(table.schema.get_field_index(name), name, pa.nulls(ROWS))

    answer = to_table(table, "BTCUSDT")

    assert answer.schema == REPLAY_SCHEMA
    assert answer["next_funding_time"].null_count == answer["open_interest"].null_count == ROWS


@settings(max_examples=25, deadline=None, database=None)
@given(order=st.permutations(range(ROWS)))
def test_rows_in_any_order_give_the_same_table(order):
    rows = [row(minute, close=100.0 + minute / 10) for minute in range(ROWS)]

    assert to_table(table_of([rows[n] for n in order]), "BTCUSDT").equals(table_of(rows))


def test_rows_of_one_minute_are_kept_for_the_rule_to_find():
    bars = pd.concat([frame(), frame().iloc[[1]]])

    table = to_table(bars, "BTCUSDT")

    assert table.num_rows == ROWS + 1
    assert [violation.rule for violation in violations(table, DAY)] == ["one row a minute"]


@pytest.mark.parametrize(
    "empty",
    [frame().iloc[:0], pd.DataFrame(columns=list(REPLAY_COLUMNS)), REPLAY_SCHEMA.empty_table()],
    ids=["frame", "frame of no types", "table"],
)
def test_bars_of_no_rows_give_an_empty_table_of_the_schema(empty):
    assert to_table(empty, "BTCUSDT").equals(empty_table())
    assert empty_table().schema == REPLAY_SCHEMA


@pytest.mark.parametrize("kind", ["frame", "table"])
def test_a_column_that_is_there_twice_is_named(kind):
    bars = to_table(frame(), "BTCUSDT")
    twice = pd.concat([frame(), frame()[["close"]]], axis=1) if kind == "frame" else bars.append_column("close", bars["close"])

    with pytest.raises(ReplayError, match=r"BTCUSDT: .*close"):
        to_table(twice, "BTCUSDT")


AS_BARS_MAY_COME = {
    "as they are": lambda f: f,
    "in another order": lambda f: f.iloc[::-1],
    "columns in another order": lambda f: f[list(reversed(REPLAY_COLUMNS))],
    "with an index and more columns": lambda f: f.assign(symbol="BTCUSDT").set_index(pd.Index(range(7, 7 + ROWS))),
    "whole numbers": lambda f: f.astype({"volume": "int64"}),
    "single precision": lambda f: f.astype({"spread_bps": "float32"}),
    "nullable numbers": lambda f: f.astype({"spread_bps": "Float64"}),
    "minutes as floats": lambda f: f.astype({"open_time_ms": "float64"}),
    "other units of time": lambda f: f.astype({"event_time": "datetime64[ns, UTC]", "next_funding_time": "datetime64[us, UTC]"}),
    "holes": lambda f: f.assign(
        next_funding_time=f["next_funding_time"].where(f.index != 2), open_interest=f["open_interest"].where(f.index != 3)
    ),
    "no rows": lambda f: f.iloc[:0],
    "Arrow's types": lambda f: pa.Table.from_pandas(f).to_pandas(types_mapper=pd.ArrowDtype),
}


@pytest.mark.parametrize("change", AS_BARS_MAY_COME.values(), ids=AS_BARS_MAY_COME)
def test_sound_columns_are_those_of_the_table_however_a_frame_comes(change):
    bars = change(table_of([row(minute, close=99.0 + minute / 10) for minute in range(ROWS)]).to_pandas())
    kept = bars.copy(deep=True)
    expected = columns_of(to_table(bars, "bars"))
    found = sound_columns(bars, "bars")
    assert set(found) == set(REPLAY_COLUMNS)
    for name, values in expected.items():
        assert found[name].dtype == np.float64
        np.testing.assert_array_equal(found[name], values)
    pd.testing.assert_frame_equal(bars, kept)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="close"), r"bars: missing column\(s\) close"),
        (lambda f: pd.concat([f, f["close"]], axis=1), r"bars: column\(s\) close are there twice"),
        (lambda f: f.assign(close="dear"), "bars: column close is (large_)?string"),
        (lambda f: f.assign(close=f["close"].where(f.index != 2)), r"bars: not a sound replay. close is never null: 1 row\(s\)"),
        (lambda f: f.assign(event_time=f["event_time"].where(f.index != 2)), "event_time is never null: 1 row"),
        (lambda f: f.assign(volume=-1.0), r"volume >= 0: 6 row\(s\), e.g. row 0 at 2026-02-01 00:00:00\+00:00 \(volume=-1.0\)"),
    ],
)
def test_columns_that_are_not_sound_are_refused_in_words(change, message):
    with pytest.raises(ReplayError, match=message):
        sound_columns(change(frame()), "bars")


def test_a_schema_is_checked_without_rows():
    check_columns(REPLAY_SCHEMA, "part-0.parquet")

    with pytest.raises(ReplayError, match=r"^part-0.parquet: missing column\(s\) close;"):
        check_columns(REPLAY_SCHEMA.remove(REPLAY_SCHEMA.get_field_index("close")), "part-0.parquet")


def test_a_day_starts_at_midnight_utc():
    assert day_start_ms(dt.date(1970, 1, 1)) == 0
    assert day_start_ms(DAY) == int(MIDNIGHT.timestamp()) * 1000
    assert day_start_ms(dt.date(1969, 12, 31)) == -86_400_000


def test_distinct_minutes_counts_minutes_and_not_rows():
    assert distinct_minutes(empty_table()) == 0
    assert distinct_minutes(table_of([row(0), row(3), row(3), row(1439)])) == 3


def test_features_read_numbers_with_nan_for_null_and_milliseconds_for_times():
    bars = Bars.from_table(table_of([row(0, spread_bps=None, next_funding_time=None), row(1)]))

    assert len(bars) == 2
    np.testing.assert_array_equal(bars["spread_bps"], [math.nan, 0.5])
    np.testing.assert_array_equal(bars["event_time"], [day_start_ms(DAY), day_start_ms(DAY) + 60_000])
    np.testing.assert_array_equal(bars["next_funding_time"], [math.nan, day_start_ms(DAY) + 48 * 3_600_000])
    assert {bars[name].dtype for name in REPLAY_COLUMNS} == {np.dtype(np.float64)}


def test_open_interest_that_is_not_positive_is_unknown():
    interest = [0.0, -5.0, None, 1e-9, 1000.0]

    bars = Bars.from_table(table_of([row(minute, open_interest=value) for minute, value in enumerate(interest)]))

    np.testing.assert_array_equal(bars["open_interest"], [math.nan, math.nan, math.nan, 1e-9, 1000.0])


@pytest.mark.parametrize("side", ["liquidation_buy_notional_1m", "liquidation_sell_notional_1m"])
def test_liquidations_are_zero_where_they_are_unavailable_and_null_stays_where_they_are(side):
    cases = [(7.0, 1.0), (7.0, 0.0), (7.0, None), (None, 0.0), (None, None), (None, 1.0), (0.0, 1.0)]

    bars = Bars.from_table(
        table_of([row(n, **{side: value}, liquidation_available=there) for n, (value, there) in enumerate(cases)])
    )

    np.testing.assert_array_equal(bars[side], [7.0, 0.0, 0.0, 0.0, 0.0, math.nan, 0.0])
    np.testing.assert_array_equal(bars["liquidation_available"], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0])


def test_bars_of_several_tables_join_and_split_again():
    parts = [Bars.from_table(table_of([row(minute, close=100.0 + minute)])) for minute in range(2)]

    joined = Bars.concat(parts)

    np.testing.assert_array_equal(joined["close"], [100.0, 101.0])
    np.testing.assert_array_equal(joined.rows(1, 2)["close"], [101.0])
    np.testing.assert_array_equal(Bars.concat(parts[:1])["close"], [100.0])


def test_a_feature_sees_the_columns_that_it_declares_and_no_other():
    bars = Bars.from_table(table_of([row(0), row(1)])).only(["close"])

    np.testing.assert_array_equal(bars["close"], [101.0, 101.0])
    assert len(bars) == 2
    with pytest.raises(KeyError, match="volume"):
        bars["volume"]


def test_what_features_share_stays_with_the_bars_it_was_made_of():
    bars = Bars.from_table(table_of([row(0), row(1)]))
    bars.memo["mid"] = bars["close"]

    assert bars.rows(0, 1).memo == bars.only(["close"]).memo == Bars.concat([bars]).memo == {}
