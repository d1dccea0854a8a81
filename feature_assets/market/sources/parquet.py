"""A replay table in Parquet: one file, or a folder of files (hive folders such as symbol=BTCUSDT count as columns).

Only the row groups and columns that are needed are read, and each row group once for all the symbols and dates that
are being iterated together. docs/sources.md says how to write a table that reads well.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import json
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feature_assets.errors import ReplayError, SourceError
from feature_assets.market.bars import REPLAY_COLUMNS, check_columns
from feature_assets.market.sources.base import ABSENT, NOT_YET, DayAnswer, each_day

_ONE_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class RowGroup:
    """A row group with what its statistics say: the range of its symbols and of its times (None: unknown)."""

    number: int
    fragment: ds.ParquetFileFragment
    file: Path
    symbols: tuple[str, str] | None
    times: tuple[dt.datetime, dt.datetime] | None
    digest: str

    def may_hold(self, symbol: str, start: dt.datetime, end: dt.datetime) -> bool:
        in_symbols = self.symbols is None or self.symbols[0] <= symbol <= self.symbols[1]
        return in_symbols and (self.times is None or (self.times[0] < end and self.times[1] >= start))


class ParquetSource:
    """A replay table of any size. Raises SourceError for a file that cannot be read or lacks a column, naming it."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        self._reading: weakref.WeakSet[_SymbolDays] = weakref.WeakSet()

    def iter_days(self, symbol: str, start: dt.date, end: dt.date) -> Iterator[tuple[dt.date, DayAnswer]]:
        """Days of a symbol. Iterators that are created before the first is advanced share each row group's one reading."""
        days = _SymbolDays(self, symbol, start, end)
        self._reading.add(days)
        return each_day(start, end, days.read)

    def fingerprint(self, symbol: str, date: dt.date) -> str:
        """A hash of the statistics of the row groups that may hold the day: they are read anyway, the data are not."""
        start = _midnight(date)
        digests = [g.digest for g in self.row_groups if g.may_hold(symbol, start, start + _ONE_DAY)]
        return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()

    def read(self, group: RowGroup) -> None:
        """Read a row group and hand its rows to every iterator that waits for it."""
        try:
            table = group.fragment.to_table(columns=["symbol", *REPLAY_COLUMNS])
        except (pa.ArrowException, OSError) as error:
            for days in self._reading:
                days.waiting.pop(group.number, None)
            raise SourceError(f"{group.file.name}: row group cannot be read: {error}. Restore the file.") from error
        for days in list(self._reading):
            if days.waiting.pop(group.number, None) is not None:
                days.take(table)

    @functools.cached_property
    def row_groups(self) -> tuple[RowGroup, ...]:
        files = sorted(self._path.rglob("*.parquet")) if self._path.is_dir() else [self._path]
        if not files:
            raise SourceError(f"{self.name}: the folder holds no .parquet file; expected a replay table.")
        groups: list[RowGroup] = []
        for file in files:
            groups += self._row_groups_of(file, len(groups))
        return tuple(groups)

    def _row_groups_of(self, file: Path, first: int) -> list[RowGroup]:
        folder = self._path if self._path.is_dir() else self._path.parent
        name = str(file.relative_to(folder))
        try:
            dataset = ds.dataset(file, format="parquet", partitioning="hive", partition_base_dir=str(folder))
            check_columns(dataset.schema, name)
            (fragment,) = dataset.get_fragments()
            parts = fragment.split_by_row_group()
        except ReplayError as error:
            raise SourceError(str(error)) from error
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{name}: not readable as Parquet: {error}. Restore the file.") from error
        if "symbol" not in dataset.schema.names:
            raise SourceError(f"{name}: missing column(s) symbol; expected a column or folders symbol=...")
        in_path = ds.get_partition_keys(fragment.partition_expression).get("symbol")
        groups: list[RowGroup] = []
        for part in parts:
            (info,) = part.row_groups
            statistics = info.statistics or {}
            symbol, time = statistics.get("symbol"), statistics.get("event_time")
            groups.append(
                RowGroup(
                    number=first + len(groups),
                    fragment=part,
                    file=Path(name),
                    symbols=(in_path, in_path) if in_path else symbol and (symbol["min"], symbol["max"]),
                    times=time and (time["min"], time["max"]),
                    digest=_digest(name, info, statistics),
                )
            )
        return groups


class _SymbolDays:
    """A symbol's rows that have been read and not been given out, and the row groups that it waits for."""

    def __init__(self, source: ParquetSource, symbol: str, start: dt.date, end: dt.date) -> None:
        self._source, self._symbol = source, symbol
        self._range = (_midnight(start), _midnight(end))
        self._rows: list[tuple[np.ndarray, pa.Table]] = []

    @functools.cached_property
    def waiting(self) -> dict[int, RowGroup]:
        groups = [group for group in self._source.row_groups if group.may_hold(self._symbol, *self._range)]
        return {group.number: group for group in sorted(groups, key=lambda group: group.times or ())}

    @functools.cached_property
    def _last(self) -> dt.datetime:
        """The symbol's latest time in the whole table, as far as the statistics tell."""
        groups = [g for g in self._source.row_groups if g.symbols is None or g.symbols[0] <= self._symbol <= g.symbols[1]]
        if not groups:
            raise SourceError(f"{self._symbol}: no row group of {self._source.name} holds this symbol; check SYMBOLS.")
        return max(group.times[1] if group.times else self._range[1] for group in groups)

    def read(self, day: dt.date) -> DayAnswer:
        start = _midnight(day)
        end = start + _ONE_DAY
        last = self._last
        for group in list(self.waiting.values()):
            if group.number in self.waiting and (group.times is None or group.times[0] < end):
                self._source.read(group)
        parts = []
        for times, rows in self._rows:
            first, stop = np.searchsorted(times, [_number(start, rows), _number(end, rows)])
            parts.append(rows.slice(first, stop - first))
        self._rows = [(times, rows) for times, rows in self._rows if times[-1] >= _number(end, rows)]
        bars = pa.concat_tables(parts) if parts else None
        if bars is None or not bars.num_rows:
            return ABSENT if start <= last else NOT_YET
        return bars

    def take(self, table: pa.Table) -> None:
        """Keep this symbol's rows of the range."""
        start, end = (pa.scalar(bound, type=table.schema.field("event_time").type) for bound in self._range)
        mine = pc.equal(table["symbol"].cast(pa.string()), self._symbol)
        inside = pc.and_(pc.greater_equal(table["event_time"], start), pc.less(table["event_time"], end))
        rows = table.filter(pc.and_(mine, inside)).select(REPLAY_COLUMNS).sort_by("event_time")
        if rows.num_rows:
            self._rows.append((rows["event_time"].cast(pa.int64()).to_numpy(), rows))


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _number(time: dt.datetime, table: pa.Table) -> int:
    """`time` as the integer that the table's event_time holds for it."""
    return pa.scalar(time, type=table.schema.field("event_time").type).value


def _digest(name: str, info: object, statistics: dict[str, object]) -> str:
    rows, size = info.num_rows, info.total_byte_size  # type: ignore[attr-defined]
    text = json.dumps([name, rows, size, statistics], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
