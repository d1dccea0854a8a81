"""The proof at the source: a day's replay up to a cut must be the same when the records known only later are gone."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa

from feature_assets.errors import SourceError
from feature_assets.market.bars import MINUTE_MS, REPLAY_COLUMNS
from feature_assets.market.sources.base import Availability, Source, read_days

_ONE_DAY = dt.timedelta(days=1)


def day_as_of(source: Source, symbol: str, day: dt.date, row_time_ms: int) -> pa.Table | Availability | SourceError | None:
    """The day as the source had it when the minute that starts at `row_time_ms` had passed.

    None where the source has no as_of(time), so that nothing can be proven. What as_of raises is a SourceError.
    """
    if not hasattr(source, "as_of"):
        return None
    known = dt.datetime.fromtimestamp((row_time_ms + MINUTE_MS) / 1000, dt.UTC)
    try:
        ((_, answer),) = read_days(source.as_of(known), symbol, day, day + _ONE_DAY)
    except Exception as error:  # noqa: BLE001 - a user's code: one day's proof must not cost the others
        return SourceError(f"{symbol} {day}: as_of({known}) raised {type(error).__name__}: {error}.")
    return answer


def not_known_in_time(
    table: pa.Table, row: int, cut: pa.Table | Availability | SourceError, *, show_values: bool = True
) -> str | None:
    """Where rows 0..row of a day's replay differ from those of the same day as of the end of row's minute; None if nowhere.

    table: the day's replay with all records; cut: what day_as_of gave. Every column must have the same bits.
    """
    where = f"as of {_time(table, row)} + 60 s"
    if isinstance(cut, SourceError):
        return f"{where} the day cannot be read: {cut if show_values else cut.unseen}"
    if not isinstance(cut, pa.Table):
        return f"{where} the day is {cut.value}."
    before, again = table.slice(0, row + 1), cut.slice(0, row + 1)
    if cut.num_rows > row + 1:
        return f"{where} the source has {cut.num_rows - row - 1} row(s) that are later: its as_of cuts nothing."
    for name in REPLAY_COLUMNS:
        if len(again) != len(before):
            return f"{where} there are {len(again)} rows, not {len(before)}: a row was not known at its minute's end."
        different = np.flatnonzero(_bits(before[name]) != _bits(again[name]))
        if len(different):
            first = int(different[0])
            values = f": {again[name][first]} then, {before[name][first]} with what came later" if show_values else ""
            return (
                f"{name} was not known in time: row {first} ({_time(table, first)}) is another {where}{values}; "
                f"{len(different)} row(s) differ."
            )
    return None


def _time(table: pa.Table, row: int) -> str:
    return str(table["event_time"][row])


def _bits(column: pa.ChunkedArray) -> np.ndarray:
    """A column as integers with the same bits; a null as one that no value has."""
    array = column.combine_chunks()
    values = array.fill_null(pa.scalar(0).cast(array.type)).to_numpy(zero_copy_only=False).view(np.int64)
    return np.where(np.asarray(array.is_null()), np.iinfo(np.int64).min + 1, values)
