"""The proof at the source: what became known after a minute may not stand in it."""

from __future__ import annotations

import datetime as dt
import io
import zipfile

import numpy as np
import pyarrow as pa
import pytest

from feature_assets.errors import SourceError
from feature_assets.leakage.known import day_as_of, not_known_in_time
from feature_assets.market.bars import MINUTE_MS, day_start_ms
from feature_assets.market.sources import ABSENT, NOT_YET, each_day
from feature_assets.market.sources.binance import BinanceSource
from feature_assets.market.sources.synthetic import SyntheticSource

DAY = dt.date(2026, 2, 3)
START = day_start_ms(DAY)


class Recorded:
    """A source over raw records (when known, column, minute, value), as a recorder would have kept them.

    `derive(self, table, column, records)` puts the records that are known into the day's table.
    """

    def __init__(self, derive, known_ms: float = float("inf")) -> None:
        self.derive, self.known_ms = derive, known_ms

    def as_of(self, time: dt.datetime) -> Recorded:
        return Recorded(self.derive, time.timestamp() * 1000)

    def fingerprint(self, symbol: str, date: dt.date) -> str:
        return "recorded"

    def iter_days(self, symbol: str, start: dt.date, end: dt.date):
        return each_day(start, end, lambda day: self.day(symbol, day))

    def day(self, symbol: str, day: dt.date) -> pa.Table:
        table = SyntheticSource().day(symbol, day)
        known = table["open_time_ms"].to_numpy() + MINUTE_MS <= self.known_ms
        return self.derive(table, known)


def keep(table: pa.Table, known: np.ndarray, column: str | None = None, values: np.ndarray | None = None) -> pa.Table:
    """The rows whose bars are known, with another column in them."""
    if column is not None:
        table = table.set_column(table.schema.get_field_index(column), column, pa.array(values, from_pandas=True))
    return table.filter(pa.array(known))


def as_of(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """What of a column of records is known, the others null."""
    return np.where(known, values, np.nan)


def interest(table: pa.Table) -> np.ndarray:
    return table["open_interest"].to_numpy()


def last_known(values: np.ndarray) -> np.ndarray:
    places = np.maximum.accumulate(np.where(np.isnan(values), 0, np.arange(len(values))))
    return values[places]


def found(derive, row: int = 700, **options) -> str | None:
    source = Recorded(derive)
    cut = day_as_of(source, "BTCUSDT", DAY, START + row * MINUTE_MS)
    return not_known_in_time(source.day("BTCUSDT", DAY), row, cut, **options)


@pytest.mark.parametrize("row", [0, 1, 700, 1438, 1439])
def test_rows_of_their_own_minute_are_known_in_time(row):
    assert found(keep, row) is None


@pytest.mark.parametrize(
    ("column", "leaking"),
    [
        ("open_interest", lambda t, k: np.append(as_of(interest(t), k)[1:], np.nan)),
        ("open_interest", lambda t, k: np.repeat(as_of(interest(t), k)[4::5], 5)),
        ("close", lambda t, k: np.repeat(np.nan_to_num(as_of(t["close"].to_numpy(), k)[59::60], nan=1.0), 60)),
        ("funding_bps", lambda t, k: np.full(1440, as_of(t["funding_bps"].to_numpy(), k)[960])),
        ("mark_price", lambda t, k: np.append(as_of(t["mark_price"].to_numpy(), k)[1:], np.nan)),
        ("volume", lambda t, k: t["volume"].to_numpy() / np.nanmax(as_of(t["volume"].to_numpy(), k))),
        ("spread_bps", lambda t, k: np.roll(as_of(t["spread_bps"].to_numpy(), k), -60)),
        ("liquidation_available", lambda t, k: np.full(1440, float(k.all()))),
    ],
    ids=[
        *("open interest a minute early", "a five-minute record before its end", "an hourly bar before its close"),
        *("funding before its settlement", "the mark of the next minute", "a day's aggregate on the same day"),
        *("a shift of the time zone", "a flag of the day's file"),
    ],
)
def test_a_record_that_stands_before_it_was_known_is_found(column, leaking):
    text = found(lambda table, known: keep(table, known, column, leaking(table, known)))
    assert text is not None
    assert text.startswith(f"{column} was not known in time: row ")
    assert "as of 2026-02-03 11:40:00+00:00 + 60 s" in text


def test_the_last_record_that_was_known_may_stand():
    assert found(lambda t, k: keep(t, k, "open_interest", last_known(as_of(interest(t), k)))) is None


def test_no_value_is_told_where_none_may_be_shown():
    text = found(
        lambda t, k: keep(t, k, "mark_price", np.append(as_of(t["mark_price"].to_numpy(), k)[1:], 1.0)), show_values=False
    )
    minute = "2026-02-03 11:40:00+00:00"
    assert text == f"mark_price was not known in time: row 700 ({minute}) is another as of {minute} + 60 s; 1 row(s) differ."


def test_a_row_that_was_not_there_yet_is_found():
    text = found(lambda table, known: table.filter(pa.array(np.append(known[1:], False) if not known.all() else known)))
    assert "there are 700 rows, not 701" in str(text)


def test_an_as_of_that_cuts_nothing_is_found():
    assert "its as_of cuts nothing" in str(found(lambda table, known: table))


@pytest.mark.parametrize("answer", [ABSENT, NOT_YET])
def test_a_day_that_is_not_there_in_the_middle_of_it_is_found(answer):
    table = SyntheticSource().day("BTCUSDT", DAY)
    assert f"the day is {answer.value}." in str(not_known_in_time(table, 3, answer))
    assert "cannot be read: torn" in str(not_known_in_time(table, 3, SourceError("torn")))


def test_a_source_without_as_of_has_nothing_to_prove_and_one_that_raises_is_named():
    assert day_as_of(SyntheticSource(), "BTCUSDT", DAY, START) is None

    class Broken(Recorded):
        def as_of(self, time: dt.datetime) -> Recorded:
            raise KeyError("mine")

    assert "as_of(2026-02-03 00:01:00+00:00) raised KeyError: 'mine'" in str(day_as_of(Broken(keep), "BTCUSDT", DAY, START))


def klines(folder, minutes: int, *, unit: int = 1) -> BinanceSource:
    """An archive of one daily file; unit: of its times, in parts of a millisecond."""
    lines = []
    for minute in range(1440 // minutes):
        open_ms = START + minute * minutes * MINUTE_MS
        close_ms = open_ms + minutes * MINUTE_MS - 1
        lines.append(f"{open_ms * unit},1,2,0.5,1.5,{minute + 1},{close_ms * unit},0,1,0.5,0,0")
    text = io.BytesIO()
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("klines.csv", "\n".join(lines))
    (folder / f"BTCUSDT-1m-{DAY}.zip").write_bytes(text.getvalue())
    return BinanceSource(folder)


@pytest.mark.parametrize("unit", [1, 1000])
def test_klines_of_the_archive_are_known_when_their_last_millisecond_has_passed(tmp_path, unit):
    source = klines(tmp_path, 1, unit=unit)
    ((_, day),) = source.iter_days("BTCUSDT", DAY, DAY + dt.timedelta(days=1))
    for row in (0, 700, 1439):
        cut = day_as_of(source, "BTCUSDT", DAY, START + row * MINUTE_MS)
        assert cut.num_rows == row + 1
        assert not_known_in_time(day, row, cut) is None


def test_longer_klines_under_the_name_of_minutes_are_found(tmp_path):
    source = klines(tmp_path, 60)
    ((_, day),) = source.iter_days("BTCUSDT", DAY, DAY + dt.timedelta(days=1))
    cut = day_as_of(source, "BTCUSDT", DAY, START + 10 * 60 * MINUTE_MS)
    assert "there are 10 rows, not 11: a row was not known at its minute's end" in str(not_known_in_time(day, 10, cut))
