"""A folder that the reference wrote: one Parquet file of all rows, read date by date. What it is compared with is diff.py's."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.dataset.feature_frame import FRAME_SCHEMA
from feature_assets.dataset.store import Store
from feature_assets.errors import StoreError
from feature_assets.quality.parity import is_extreme_bar

FRAME_FILE = "feature_frame.parquet"

_COLUMNS = [name for name in FRAME_SCHEMA.names if name != "feature_version"]
"""What the contract holds equal: feature_version is ours to choose."""

_BLOCK_ROWS = 250_000
"""Rows held at a time. The reference sorts by symbol first, so that a date's rows lie all over the file."""

_BATCH_ROWS = 65_536


class ReferenceFolder:
    """The rows of a reference's feature_frame.parquet by date, as tables of FRAME_SCHEMA's columns and types.

    dates: each date's number of rows. extreme: the minute of each symbol's first extreme bar. notes: in what its columns
    are not the contract's. Raises StoreError, naming the file, where it cannot be read.
    """

    def __init__(self, folder: Store) -> None:
        self.folder, self.path = folder, folder.path(FRAME_FILE)
        self._file = folder.open_parquet(FRAME_FILE)
        schema = self._file.schema_arrow
        self.created_by: str = self._file.metadata.created_by
        self.notes = [f"column {name} is not in {self.path}" for name in FRAME_SCHEMA.names if name not in schema.names]
        self.notes += [
            f"column {name} of {self.path} is none of the frame's" for name in schema.names if name not in FRAME_SCHEMA.names
        ]
        self.columns = []
        for name in (name for name in _COLUMNS if name in schema.names):
            found, wanted = schema.field(name).type, FRAME_SCHEMA.field(name).type
            if _kind(found) == _kind(wanted):
                self.columns.append(name)
            else:
                self.notes.append(f"column {name} of {self.path} is {found}, not {wanted}")
        self.dates: Counter[dt.date] = Counter()
        self.extreme: dict[str, int] = {}
        self._groups: list[set[dt.date]] = []
        if {"symbol", "event_time"} <= set(self.columns):
            self._look_through()
        else:
            self.notes.append(f"no row of {self.path} can be compared without symbol and event_time")

    def _look_through(self) -> None:
        names = [name for name in ("symbol", "event_time", "volume_zscore_60m") if name in self.columns]
        for group in range(self._file.num_row_groups):
            dates: Counter[dt.date] = Counter()
            for batch in self._batches(names, [group]):
                if without := batch["event_time"].null_count:
                    raise StoreError(f"{self.path}: {without} row(s) have no event_time; expected one in every row.")
                try:
                    for entry in pc.value_counts(batch["event_time"].cast(pa.date32())).to_pylist():
                        dates[entry["values"]] += entry["counts"]
                except (OverflowError, ValueError) as error:
                    raise StoreError(f"{self.path}: an event_time is no date: {error}.") from error
                if "volume_zscore_60m" in names:
                    self._find_extreme(batch)
            self.dates += dates
            self._groups.append(set(dates))

    def _find_extreme(self, batch: pa.Table) -> None:
        extreme = np.flatnonzero(is_extreme_bar(batch["volume_zscore_60m"].to_numpy()))
        minutes = batch["event_time"].cast(pa.int64()).to_numpy()
        for row in extreme:
            symbol, minute = batch["symbol"][row].as_py(), int(minutes[row])
            self.extreme[symbol] = min(self.extreme.get(symbol, minute), minute)

    def tables(self, dates: Sequence[dt.date]) -> Iterator[tuple[dt.date, pa.Table]]:
        """The rows of each of `dates`, which are in order, as they follow each other in the file.

        Holds up to _BLOCK_ROWS rows, or one date's where these are more. Raises StoreError where they cannot be read.
        """
        for block in self._blocks(dates):
            groups = [number for number, found in enumerate(self._groups) if found.intersection(block)]
            wanted = pa.array(block, pa.date32())
            pieces = []
            for batch in self._batches(self.columns, groups):
                days = batch["event_time"].cast(pa.date32())
                pieces.append(batch.filter(pc.is_in(days, wanted)))
            table = pa.concat_tables(pieces)
            days = table["event_time"].cast(pa.date32())
            for date in block:
                yield date, table.filter(pc.equal(days, pa.scalar(date))).combine_chunks()

    def _blocks(self, dates: Sequence[dt.date]) -> Iterator[list[dt.date]]:
        block: list[dt.date] = []
        rows = 0
        for date in dates:
            if block and rows + self.dates[date] > _BLOCK_ROWS:
                yield block
                block, rows = [], 0
            block.append(date)
            rows += self.dates[date]
        if block:
            yield block

    def _batches(self, names: Sequence[str], groups: Sequence[int]) -> Iterator[pa.Table]:
        """The columns in FRAME_SCHEMA's types, floats without nulls, some rows at a time."""
        schema = pa.schema([FRAME_SCHEMA.field(name) for name in names])
        try:
            for group in groups:  # one at a time: pyarrow keeps the bytes of all that one call is given
                for batch in self._file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(names)):
                    yield pa.table(batch).select(list(names)).cast(schema)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(f"{self.path}: not readable: {error}.") from error


def _kind(column_type: pa.DataType) -> str:
    """A type as far as it matters: pandas' own choice of strings and of a time's unit does not."""
    if pa.types.is_large_string(column_type):
        return "string"
    if pa.types.is_timestamp(column_type) and column_type.tz == "UTC":
        return "timestamp"
    return str(column_type)
