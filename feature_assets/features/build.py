"""From bars to feature rows: which rows a day's window holds, float32 values, and the quality flag.

A row of day D is computed as if the symbol had no row before 00:00 UTC of D - LOOKBACK_DAYS, so its bytes never
depend on how much history was at hand. The features themselves are in families/, the store in feature_assets.dataset.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_assets.errors import ReplayError
from feature_assets.features.catalogue import (
    FEATURES,
    FLAGS,
    LOOKBACK_DAYS,
    LOOKBACK_ROWS,
    SYMBOL_FEATURES_SCHEMA,
)
from feature_assets.market import bars as market
from feature_assets.market.bars import DAY_MS, INPUT_GROUPS, MINUTE_MS, MINUTES_PER_DAY, Bars

# Days computed at once: the look-back is computed again for each batch, so one day at a time would double the work; more
# than this saves little and holds more.
_BATCH_DAYS = 8
# Features that look back no further, which nearly all are, are spared the day of look-back that the others need.
_NEAR_ROWS = 256
_FLAG_NAMES = pa.array(list(FLAGS))


@dataclass(frozen=True)
class FeatureOptions:
    """What the rows depend on beside the bars: the three settings of the contract."""

    optional_groups: tuple[str, ...] = ("liquidations",)
    allow_incomplete_days: bool = False
    gaps: Literal["bridge", "restart"] = "bridge"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.optional_groups) - set(INPUT_GROUPS)):
            raise ValueError(f"optional_groups: {', '.join(unknown)} unknown; expected some of {', '.join(INPUT_GROUPS)}.")
        if self.gaps not in {"bridge", "restart"}:
            raise ValueError(f"gaps: {self.gaps!r}; expected 'bridge' or 'restart'.")


class DayFeatures(NamedTuple):
    """A day's rows (SYMBOL_FEATURES_SCHEMA), and how many of them have a window that runs across missing minutes."""

    day: dt.date
    table: pa.Table
    bridging_rows: int


class FeatureRows(NamedTuple):
    """Feature rows as arrays of shape (rows,): times in milliseconds, flags as places in FLAGS, the features as float32.

    values is of shape (features, rows), and each NaN in it is numpy's.
    """

    event_time: np.ndarray
    open_time_ms: np.ndarray
    flags: np.ndarray
    values: np.ndarray

    def head(self, count: int) -> FeatureRows:
        """The first `count` rows, or all where they are fewer."""
        return FeatureRows(*(column[..., :count] for column in self))

    def flag_names(self) -> pa.StringArray:
        """data_quality_flag as it is stored."""
        return _FLAG_NAMES.take(pa.array(self.flags))

    def to_table(self) -> pa.Table:
        """The rows of SYMBOL_FEATURES_SCHEMA, null for NaN."""
        event_time = pa.array(self.event_time).view(SYMBOL_FEATURES_SCHEMA.field("event_time").type)
        # Arrow looks at each value for a NaN in more time than numpy looks at all.
        has_holes = np.isnan(self.values).any(axis=1).tolist()
        values = (pa.array(row, from_pandas=holes) for row, holes in zip(self.values, has_holes, strict=True))
        return pa.table([event_time, pa.array(self.open_time_ms), self.flag_names(), *values], schema=SYMBOL_FEATURES_SCHEMA)


def build_symbol_features(
    bars: pd.DataFrame,
    *,
    optional_groups: Sequence[str] = ("liquidations",),
    allow_incomplete_days: bool = False,
    gaps: Literal["bridge", "restart"] = "bridge",
) -> pd.DataFrame:
    """The feature rows of one symbol's replay bars, of any number of days and in any row order.

    bars: symbol and the columns of feature_assets.market.bars.REPLAY_SCHEMA, a row a minute. The result has symbol,
    event_time, open_time_ms, data_quality_flag and FEATURE_ORDER as float32, sorted by event_time: a row for each kept
    bar, all days given, each row of day D computed from the rows since 00:00 UTC of D-7. Row t reads rows <= t, but
    whether an incomplete day's rows exist is known only at the day's end (allow_incomplete_days keeps them). The graph
    publishes exactly these rows. Raises ReplayError for missing columns, several symbols, duplicate minutes or a
    broken rule of a sound replay; nothing left gives a frame of no rows with the full schema.
    """
    options = FeatureOptions(tuple(optional_groups), allow_incomplete_days, gaps)
    symbol, sound = _sound_bars(bars)
    kept, days = _kept_days(sound, options)
    tables = [SYMBOL_FEATURES_SCHEMA.empty_table(), *(day.table for day in iter_day_features(kept, days, options))]
    return _frame_of(symbol, pa.concat_tables(tables))


def latest_row(
    bars: pd.DataFrame,
    *,
    optional_groups: Sequence[str] = ("liquidations",),
    gaps: Literal["bridge", "restart"] = "bridge",
) -> pd.DataFrame:
    """The feature row of the last bar given, as build_symbol_features has it, for live use.

    bars: as for build_symbol_features; of one symbol, its last LOOKBACK_ROWS + 1 rows. More change nothing; fewer say that
    the symbol had no other row since 00:00 UTC of D-7, D being the last bar's day: earlier rows are never read. The result
    has one row (none where `bars` has none) and is bit-equal to the last row of build_symbol_features with
    allow_incomplete_days=True: today is incomplete until it is over. Where the stored rows come from whole days alone
    (ALLOW_INCOMPLETE_DAYS is false), the row is bit-equal to the stored one if today becomes whole, else none is stored;
    and `bars` must hold no row of an earlier day that was dropped as incomplete: leave those out and take as many rows
    more from the days before, which only the caller can know. Raises what build_symbol_features raises.
    """
    options = FeatureOptions(tuple(optional_groups), allow_incomplete_days=True, gaps=gaps)
    symbol, sound = _sound_bars(bars)
    if not len(sound):
        return _frame_of(symbol, SYMBOL_FEATURES_SCHEMA.empty_table())
    times = sound["event_time"]
    reach = (times[-1] // DAY_MS - LOOKBACK_DAYS) * DAY_MS
    window = sound.rows(max(_row_at(times, int(reach)), len(sound) - LOOKBACK_ROWS - 1), len(sound))
    return _frame_of(symbol, feature_table(window, len(window) - 1, options))


def _sound_bars(bars: pd.DataFrame) -> tuple[str, Bars]:
    """The symbol (empty without rows) and its bars in time order; raises ReplayError, see build_symbol_features."""
    if "symbol" not in bars.columns:
        raise ReplayError("bars: missing column(s) symbol; expected one symbol's bars with their symbol.")
    symbols = sorted(str(symbol) for symbol in bars["symbol"].unique())
    if len(symbols) > 1:
        raise ReplayError(f"bars: {len(symbols)} symbols ({', '.join(symbols[:5])}); expected one. Build them one by one.")
    symbol = symbols[0] if symbols else ""
    return symbol, Bars.from_columns(market.sound_columns(bars, f"bars of {symbol}"))


def _frame_of(symbol: str, table: pa.Table) -> pd.DataFrame:
    """Rows of SYMBOL_FEATURES_SCHEMA for whoever works in pandas, with the symbol's column."""
    with_symbol = table.add_column(0, "symbol", pa.repeat(symbol, table.num_rows))
    # For a single row, handing it to threads costs more than the row.
    return with_symbol.to_pandas(use_threads=table.num_rows > 1)


def is_kept(table: pa.Table, options: FeatureOptions) -> bool:
    """Whether a day's rows take part: all 1,440 minutes are there, or incomplete days are allowed."""
    return options.allow_incomplete_days or market.distinct_minutes(table) == MINUTES_PER_DAY


def _kept_days(bars: Bars, options: FeatureOptions) -> tuple[Bars, list[dt.date]]:
    day_numbers = (bars["event_time"] // DAY_MS).astype(np.int64)
    numbers, counts = np.unique(day_numbers, return_counts=True)
    if not options.allow_incomplete_days:
        # The minutes are distinct: duplicates have been refused.
        numbers = numbers[counts == MINUTES_PER_DAY]
    keep = np.isin(day_numbers, numbers)
    kept = Bars({name: bars[name][keep] for name in market.REPLAY_COLUMNS})
    return kept, [dt.date(1970, 1, 1) + dt.timedelta(days=int(number)) for number in numbers]


def iter_day_features(bars: Bars, days: Sequence[dt.date], options: FeatureOptions) -> Iterator[DayFeatures]:
    """The rows of each of `days`, in date order, from one symbol's kept bars (sorted, of `days` and before)."""
    times = bars["event_time"]
    position = 0
    while position < len(days):
        begin = _window_begin(times, days[position])
        last = position
        while last + 1 < len(days) and last + 1 - position < _BATCH_DAYS and _shares_window(times, days[last + 1], begin):
            last += 1
        end = _row_at(times, market.day_start_ms(days[last]) + DAY_MS)
        yield from _batch(bars.rows(begin, end), days[position : last + 1], options)
        position = last + 1


def window_of_day(bars: Bars, day: dt.date) -> tuple[Bars, int]:
    """The rows that `day`'s rows are computed from, its own included, and the index of the first of its own."""
    times = bars["event_time"]
    begin = _window_begin(times, day)
    start = market.day_start_ms(day)
    return bars.rows(begin, _row_at(times, start + DAY_MS)), _row_at(times, start) - begin


def feature_table(bars: Bars, first: int, options: FeatureOptions) -> pa.Table:
    """The feature rows of bars[first:], of SYMBOL_FEATURES_SCHEMA; the bars before them are look-back."""
    return feature_rows(bars, first, options).to_table()


def feature_rows(bars: Bars, first: int, options: FeatureOptions) -> FeatureRows:
    """What feature_table makes a table of."""
    values = _values(bars, first, options)
    flags = _flags(np.isnan(values), bars["liquidation_available"][first:], options)
    event_time, open_time_ms = (bars[name][first:].astype(np.int64) for name in ("event_time", "open_time_ms"))
    return FeatureRows(event_time, open_time_ms, flags, values)


def _row_at(times: np.ndarray, milliseconds: int) -> int:
    return int(np.searchsorted(times, milliseconds))


def _window_begin(times: np.ndarray, day: dt.date) -> int:
    """The first row of a day's window: LOOKBACK_ROWS before its first row, but not before D - LOOKBACK_DAYS."""
    start = market.day_start_ms(day)
    return max(_row_at(times, start - LOOKBACK_DAYS * DAY_MS), _row_at(times, start) - LOOKBACK_ROWS)


def _shares_window(times: np.ndarray, day: dt.date, begin: int) -> bool:
    """Whether `day` has the same values when computed from row `begin` on: its window is full, or begins just there."""
    start = market.day_start_ms(day)
    reach = _row_at(times, start - LOOKBACK_DAYS * DAY_MS)
    return reach == begin or _row_at(times, start) - LOOKBACK_ROWS >= max(reach, begin)


def _batch(bars: Bars, days: Sequence[dt.date], options: FeatureOptions) -> Iterator[DayFeatures]:
    times = bars["event_time"]
    first = _row_at(times, market.day_start_ms(days[0]))
    table = feature_table(bars, first, options)
    # With the gaps restarted no value comes from such a window.
    bridging = (_rows_since_gap(times)[first:] < LOOKBACK_ROWS) & (options.gaps == "bridge")
    for day in days:
        start = market.day_start_ms(day)
        rows = slice(_row_at(times, start) - first, _row_at(times, start + DAY_MS) - first)
        yield DayFeatures(day, table.slice(rows.start, rows.stop - rows.start), int(bridging[rows].sum()))


def _rows_since_gap(times: np.ndarray) -> np.ndarray:
    """For each row, how many rows ago the last missing minute ended; a huge number where none is missing."""
    row = np.arange(len(times))
    after_gap = np.concatenate([[False], np.diff(times) != MINUTE_MS]) if len(times) else np.zeros(0, dtype=bool)
    last = np.maximum.accumulate(np.where(after_gap, row, -(1 << 40)))
    return row - last


def _values(bars: Bars, first: int, options: FeatureOptions) -> np.ndarray:
    """The features of bars[first:] as float32 of shape (features, rows); NaN where one is undefined or beyond float32."""
    values = np.empty((len(FEATURES), len(bars) - first), dtype=np.float32)
    near = bars.rows(max(first - _NEAR_ROWS, 0), len(bars))
    with np.errstate(over="ignore"):
        for row, feature in zip(values, FEATURES, strict=True):
            window = near if feature.lookback_rows <= _NEAR_ROWS else bars
            row[:] = feature.function(window)[len(window) - len(row) :]
    values[~np.isfinite(values)] = np.nan
    if options.gaps == "restart":
        since_gap = _rows_since_gap(bars["event_time"])[first:]
        for row, feature in zip(values, FEATURES, strict=True):
            row[since_gap < feature.lookback_rows] = np.nan
    return values


def _flags(missing: np.ndarray, available: np.ndarray, options: FeatureOptions) -> np.ndarray:
    """Indices into FLAGS; missing: which float32 values are NaN, of shape (features, rows)."""
    optional = np.array([feature.group in options.optional_groups for feature in FEATURES])
    optional_missing, required_missing = missing[optional].any(axis=0), missing[~optional].any(axis=0)
    unavailable = optional_missing if "liquidations" in options.optional_groups else required_missing
    unavailable |= available == 0
    flags = np.where(optional_missing, FLAGS.index("PARTIAL_OPTIONAL"), FLAGS.index("OK"))
    return np.where(required_missing, FLAGS.index("WARMUP"), flags).astype(np.int8)
