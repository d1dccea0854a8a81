"""The look-ahead proof: rows up to a cut must be bit-identical when everything after the cut is gone, or poison."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_assets.features.build import FeatureOptions, FeatureRows, feature_rows, feature_table
from feature_assets.features.catalogue import FEATURE_ORDER, feature_values
from feature_assets.market.bars import MINUTES_PER_DAY, NUMBER_COLUMNS, REPLAY_COLUMNS, Bars

KINDS = ("removed", "random", "huge", "nan")
"""What stands for the rows after a cut: nothing, or rows of these values, which are gone after _POISONED of them."""

# As far as a model's label looks ahead; a reader of later rows finds them gone.
_POISONED = 240
_HUGE = 1e300
# A step over the minutes of a day that comes to each of them once, and to every hour within a month.
_STEP = 497
# The flag follows from the features, so that these are named first.
_COLUMNS = ("event_time", "open_time_ms", *FEATURE_ORDER, "data_quality_flag")


@dataclass(frozen=True)
class Cut:
    """The last row of a day, 0..rows-1, that is known, and what stands for the rows after it."""

    row: int
    kind: str
    seed: int


def cuts(symbol: str, date: dt.date, rows: int, count: int = 1) -> Iterator[Cut]:
    """`count` cuts of a day of `rows` rows, as its key alone decides; 1,440 of them come to every minute of the day."""
    seed = int.from_bytes(hashlib.sha256(symbol.encode()).digest()[:4], "big")
    for number in range(count):
        minute = (seed + (date.toordinal() + number) * _STEP) % MINUTES_PER_DAY
        kind = KINDS[(seed // MINUTES_PER_DAY + date.toordinal() + number) % len(KINDS)]
        yield Cut(minute * rows // MINUTES_PER_DAY, kind, seed + number)


def look_ahead(
    bars: Bars, first: int, table: pa.Table, cut: Cut, options: FeatureOptions, *, show_values: bool = True
) -> str | None:
    """Compute the day again as if what is after the cut were not known, and say where `table` differs; None if nowhere.

    bars: the day's window, look-back included; first: the index of the day's first row; table: the day's rows as they
    were computed with all bars. Every row up to the cut must be there with the same flag and the same bits in every
    feature. The drop of incomplete days is taken as given. Without show_values the sentence names feature and minute alone.
    """
    with np.errstate(all="ignore"):
        rows = feature_rows(_unknown_after(bars, first + cut.row, cut), first, options).head(cut.row + 1)
    before = table.slice(0, cut.row + 1)
    if _same(before, rows):
        return None
    again = rows.to_table()
    where = f"cut after row {cut.row}, later rows {cut.kind}"
    if before.num_rows != again.num_rows:
        return f"{where}: {again.num_rows} rows instead of {before.num_rows}: a row's existence depends on later rows."
    for name in _COLUMNS:
        different = np.flatnonzero(_bits(before[name]) != _bits(again[name]))
        if len(different):
            row = int(different[0])
            time = before["event_time"][row]
            ahead = _reach(bars, first, row, name, cut, options)
            if not ahead:
                values = "another by its bars"
                if show_values:
                    values = f"{again[name][row]} by its bars and {before[name][row]} in the table"
                return (
                    f"{name} does not follow from its window: row {row} ({time}) is {values}, whatever comes later; "
                    f"{len(different)} row(s) differ. Does it look back further than it declares? `feature-assets prove` tells."
                )
            values = "another without the later rows"
            if show_values:
                values = f"{again[name][row]} without the later rows and {before[name][row]} with them"
            return f"{name} looks ahead {ahead} row(s): {where}, row {row} ({time}) is {values}; {len(different)} row(s) differ."
    return None


def _same(before: pa.Table, again: FeatureRows) -> bool:
    """Whether rows are the same, bit for bit: all columns at once, as they nearly always are."""
    return (
        len(before) == len(again.flags)
        and np.array_equal(_bits(before["event_time"]), again.event_time)
        and np.array_equal(_bits(before["open_time_ms"]), again.open_time_ms)
        and before["data_quality_flag"].equals(pa.chunked_array([again.flag_names()]))
        and np.array_equal(feature_values(before).view(np.int32), again.values.view(np.int32))
    )


def _unknown_after(bars: Bars, last: int, cut: Cut) -> Bars:
    """The bars up to row `last`, and what stands for those after it."""
    poisoned = 0 if cut.kind == "removed" else min(_POISONED, len(bars) - last - 1)
    if not poisoned:
        return bars.rows(0, last + 1)
    rng = np.random.default_rng(cut.seed)
    columns = {name: bars[name][: last + 1 + poisoned].copy() for name in REPLAY_COLUMNS}
    for name in (*NUMBER_COLUMNS, "next_funding_time"):
        later = columns[name][last + 1 :]
        if cut.kind == "random":
            later[:] = 10.0 ** (16.0 * rng.random(poisoned) - 8.0)
        else:
            later[:] = np.nan if cut.kind == "nan" else _HUGE
    return Bars(columns)


def _reach(bars: Bars, first: int, row: int, name: str, cut: Cut, options: FeatureOptions) -> int:
    """How many rows after `row` its value still reads: up to the last place from which on other bars change it; 0 for none."""

    def value(known: Bars) -> object:
        with np.errstate(all="ignore"):
            return _bits(feature_table(known, first, options)[name].slice(row, 1))[0]

    sound = value(bars.rows(0, len(bars)))
    near, far = first + cut.row + 1, len(bars)
    if value(_unknown_after(bars, first + cut.row, cut)) == sound:
        return 0
    while far - near > 1:
        middle = (near + far) // 2
        near, far = (middle, far) if value(_unknown_after(bars, middle - 1, cut)) != sound else (near, middle)
    return near - first - row


def _bits(column: pa.ChunkedArray) -> np.ndarray:
    """A column as comparable integers or strings; a null as NaN's bits."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values = column.to_numpy()
    return values.view(np.int32) if values.dtype == np.float32 else values
