"""Sources that know too much: each is a factory for SOURCE=python:..., over records that came in minute by minute.

A leak is in the rows of a scope: everywhere, one symbol, one day (D1), one row (ROW of D1 of BTCUSDT).
"""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from feature_assets.market.bars import MINUTE_MS
from feature_assets.market.sources import ABSENT, each_day
from feature_assets.market.sources.synthetic import SyntheticSource
from feature_assets_tests.leakage.injection import BTC, D1, ROW
from feature_assets_tests.support.replays import START

Derive = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Leaky:
    """The synthetic days, of which only closed minutes are known; one column is derived from its known records."""

    def __init__(self, column: str, derive: Derive, scope: str = "everywhere", known_ms: float = float("inf")) -> None:
        self.column, self.derive, self.scope, self.known_ms = column, derive, scope, known_ms

    def as_of(self, time: dt.datetime) -> Leaky:
        return Leaky(self.column, self.derive, self.scope, time.timestamp() * 1000)

    def fingerprint(self, symbol: str, date: dt.date) -> str:
        return "leaky"

    def iter_days(self, symbol: str, start: dt.date, end: dt.date):
        return each_day(start, end, lambda day: ABSENT if day < START else self.day(symbol, day))

    def day(self, symbol: str, day: dt.date) -> pa.Table:
        table = SyntheticSource().day(symbol, day)
        known = table["open_time_ms"].to_numpy() + MINUTE_MS <= self.known_ms
        values = table[self.column].to_numpy()
        leaking = np.where(self._mask(symbol, day), self.derive(np.where(known, values, np.nan), known), values)
        place = table.schema.get_field_index(self.column)
        return table.set_column(place, self.column, pa.array(leaking, from_pandas=True)).filter(pa.array(known))

    def _mask(self, symbol: str, day: dt.date) -> np.ndarray:
        inside = {"one symbol": symbol == BTC, "one day": str(day) == D1, "one row": symbol == BTC and str(day) == D1}
        mask = np.full(1440, inside.get(self.scope, True))
        return mask & (np.arange(1440) == ROW) if self.scope == "one row" else mask


def ahead(rows: int) -> Derive:
    return lambda values, known: np.append(values[rows:], np.full(rows, np.nan))


def grouped(rows: int) -> Derive:
    """Each group of minutes has the value of its last one."""
    return lambda values, known: np.repeat(values[rows - 1 :: rows], rows)


# (column, what its known records become), by name.
STAMPS: dict[str, tuple[str, Derive]] = {
    "open_interest_a_minute_early": ("open_interest", ahead(1)),
    "five_minute_open_interest_before_its_end": ("open_interest", grouped(5)),
    "funding_before_settlement": ("funding_bps", lambda values, known: np.full(1440, values[960])),
    "mark_of_the_next_minute": ("mark_price", ahead(1)),
    "hourly_bar_before_its_close": ("level1_ofi_1m", grouped(60)),
    "aggregate_of_the_day_on_the_same_day": ("spread_bps", lambda values, known: np.full(1440, np.nanmean(values))),
    "time_zone_an_hour_off": ("index_price", ahead(60)),
}
AVAILABILITY: dict[str, tuple[str, Derive]] = {
    "flag_of_the_days_file": ("liquidation_available", lambda values, known: np.full(1440, float(known.all()))),
    "flag_of_the_hours_file": (
        "liquidation_available",
        lambda values, known: np.repeat(known[59::60].astype(float), 60),
    ),
    "value_only_where_the_day_turned_out_whole": (
        "spread_bps",
        lambda values, known: values if known.all() else np.full(1440, np.nan),
    ),
}


class Selected(Leaky):
    """Rows that are there only where the next minute turned out well."""

    def day(self, symbol: str, day: dt.date) -> pa.Table:
        table = SyntheticSource().day(symbol, day)
        known = table["open_time_ms"].to_numpy() + MINUTE_MS <= self.known_ms
        close = np.where(known, table["close"].to_numpy(), np.nan)
        good = np.append(close[60:] >= close[:-60], np.ones(60, dtype=bool))
        return table.filter(pa.array(known & (good | ~self._mask(symbol, day))))


class Twice(Leaky):
    """A minute has two rows, of which the order decides."""

    def day(self, symbol: str, day: dt.date) -> pa.Table:
        table = SyntheticSource().day(symbol, day)
        return pa.concat_tables([table, table.filter(pa.array(self._mask(symbol, day)))]).sort_by("event_time")


class Shifted(Leaky):
    """Local time under the name of UTC."""

    def day(self, symbol: str, day: dt.date) -> pa.Table:
        table = SyntheticSource().day(symbol, day)
        if not self._mask(symbol, day).any():
            return table
        for name in ("event_time", "open_time_ms"):
            times = table[name].cast(pa.int64()).to_numpy() - 8 * 60 * MINUTE_MS
            table = table.set_column(table.schema.get_field_index(name), name, pa.array(times).cast(table[name].type))
        return table


class Hindsight(Leaky):
    """A day on which the price fell is said to be absent."""

    def iter_days(self, symbol: str, start: dt.date, end: dt.date):
        def answer(day):
            table = SyntheticSource().day(symbol, day)
            fell = table["close"][-1].as_py() < table["open"][0].as_py()
            return ABSENT if day < START or fell else self.day(symbol, day)

        return each_day(start, end, answer)


def _same(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    return values


def _factories() -> dict[str, Callable[[], Leaky]]:
    scopes = ("everywhere", "one symbol", "one day", "one row")
    made: dict[str, Callable[[], Leaky]] = {}
    for scope in scopes:
        end = scope.replace(" ", "_")
        for name, (column, derive) in (STAMPS | AVAILABILITY).items():
            made[f"{name}__{end}"] = functools.partial(Leaky, column, derive, scope)
        for kind in (Selected, Twice, Shifted, Hindsight):
            made[f"{kind.__name__.lower()}__{end}"] = functools.partial(kind, "close", _same, scope)
    return made


globals().update(_factories())


def source(name: str, scope: str) -> str:
    """The SOURCE setting of a factory."""
    return f"python:{__name__}:{name}__{scope.replace(' ', '_')}"
