"""A replay table in Parquet: one file, or a folder of files (hive folders such as symbol=BTCUSDT count as columns).

Only the row groups and columns that are needed are read, and each row group once for all the symbols and dates that
are being iterated together. docs/sources.md says how to write a table that reads well.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from feature_assets.errors import ReplayError
from feature_assets.market.bars import REPLAY_COLUMNS, check_columns
from feature_assets.market.sources.base import ABSENT, NOT_YET, DayAnswer, each_day, unreadable

_ONE_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class RowGroup:
    """A row group with what its statistics say: the range of its symbols and of its times (None: unknown)."""

    number: int
    fragment: ds.ParquetFileFragment
    schema: pa.Schema
    file: str
    symbols: tuple[str, str] | None
    times: tuple[dt.datetime, dt.datetime] | None

    def may_hold(self, symbol: str, start: dt.datetime, end: dt.datetime) -> bool:
        in_symbols = self.symbols is None or self.symbols[0] <= symbol <= self.symbols[1]
        return in_symbols and (self.times is None or (self.times[0] < end and self.times[1] >= start))


class ParquetSource:
    """A replay table of any size. Raises SourceError for a file that cannot be read or lacks a column, naming it."""

    def __init__(self, path: Path) -> None:
        self._path, self.name = path, path.name
        self._digest = functools.cache(lambda number: _digest(self.row_groups[number].fragment))
        self._reading: weakref.WeakSet[_SymbolDays] = weakref.WeakSet()

    def iter_days(self, symbol: str, start: dt.date, end: dt.date) -> Iterator[tuple[dt.date, DayAnswer]]:
        """Days of a symbol. Iterators that are created before the first is advanced share each row group's one reading."""
        days = _SymbolDays(self, symbol, start, end)
        self._reading.add(days)
        return each_day(start, end, days.read)

    def fingerprint(self, symbol: str, date: dt.date) -> str:
        """A hash of the bytes of the columns that are read, in the row groups that may hold the day; each hashed once."""
        start = _midnight(date)
        groups = [group for group in self.row_groups if group.may_hold(symbol, start, start + _ONE_DAY)]
        digests = [self._digest(group.number) for group in groups]
        return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()

    def read(self, group: RowGroup) -> None:
        """Read a row group and hand its rows, or that they cannot be read, to every iterator that waits for it."""
        waiting = [days for days in self._reading if days.waiting.pop(group.number, None) is not None]
        try:
            table = group.fragment.to_table(schema=group.schema, columns=["symbol", *REPLAY_COLUMNS])
        except (pa.ArrowException, OSError) as error:
            for days in waiting:
                days.damaged.append((group, f"{group.file}: row group cannot be read: {error}. Restore the file."))
            return
        for days in waiting:
            days.take(table)

    @functools.cached_property
    def row_groups(self) -> tuple[RowGroup, ...]:
        files = sorted(self._path.rglob("*.parquet")) if self._path.is_dir() else [self._path]
        if not files:
            raise unreadable(f"{self.name}: the folder holds no .parquet file; expected a replay table.")
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
            raise unreadable(str(error)) from error
        except (pa.ArrowException, OSError) as error:
            raise unreadable(f"{name}: not readable as Parquet: {error}. Restore the file.") from error
        if "symbol" not in dataset.schema.names:
            raise unreadable(f"{name}: missing column(s) symbol; expected a column or folders symbol=...")
        kind = dataset.schema.field("symbol").type
        if not pa.types.is_string(kind.value_type if pa.types.is_dictionary(kind) else kind) and kind != pa.large_string():
            raise unreadable(f"{name}: column symbol is {kind}; expected text.")
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
                    schema=dataset.schema,
                    file=name,
                    symbols=(in_path, in_path) if in_path else symbol and (symbol["min"], symbol["max"]),
                    times=time and (time["min"], time["max"]),
                )
            )
        return groups


class _SymbolDays:
    """A symbol's rows that have been read and not been given out, and the row groups that it waits for."""

    def __init__(self, source: ParquetSource, symbol: str, start: dt.date, end: dt.date) -> None:
        self._source, self._symbol = source, symbol
        self._range = (_midnight(start), _midnight(end))
        self._rows: list[tuple[np.ndarray, pa.Table]] = []
        self._latest = _midnight(dt.date.min)
        self.damaged: list[tuple[RowGroup, str]] = []

    @functools.cached_property
    def waiting(self) -> dict[int, RowGroup]:
        groups = [group for group in self._source.row_groups if group.may_hold(self._symbol, *self._range)]
        return {group.number: group for group in sorted(groups, key=lambda group: group.times or ())}

    @functools.cached_property
    def _last(self) -> dt.datetime:
        """The latest time of the row groups that may hold the symbol, as far as statistics tell."""
        groups = [g for g in self._source.row_groups if g.symbols is None or g.symbols[0] <= self._symbol <= g.symbols[1]]
        if not groups:
            raise unreadable(f"{self._symbol}: no row group of {self._source.name} holds this symbol; check SYMBOLS.")
        return max((group.times[1] for group in groups if group.times), default=self._latest)

    def read(self, day: dt.date) -> DayAnswer:
        start = _midnight(day)
        end = start + _ONE_DAY
        last_by_statistics = self._last
        for group in list(self.waiting.values()):
            if group.number in self.waiting and (group.times is None or group.times[0] < end):
                self._source.read(group)
        for group, message in self.damaged:
            if group.may_hold(self._symbol, start, end):
                raise unreadable(message)
        parts = []
        for times, rows in self._rows:
            first, stop = np.searchsorted(times, [_number(start, rows), _number(end, rows)])
            parts.append(rows.slice(first, stop - first))
        self._rows = [(times, rows) for times, rows in self._rows if times[-1] >= _number(end, rows)]
        bars = pa.concat_tables(parts) if parts else None
        if bars is None or not bars.num_rows:
            return ABSENT if start <= max(last_by_statistics, self._latest) else NOT_YET
        return bars

    def take(self, table: pa.Table) -> None:
        """Keep this symbol's rows of the range, and how far they go on after it."""
        start, end = (pa.scalar(bound, type=table.schema.field("event_time").type) for bound in self._range)
        mine = table.filter(pc.equal(table["symbol"].cast(pa.string()), self._symbol)).select(REPLAY_COLUMNS)
        self._latest = max(self._latest, pc.max(mine["event_time"]).as_py() or self._latest)
        inside = pc.and_(pc.greater_equal(mine["event_time"], start), pc.less(mine["event_time"], end))
        rows = mine.filter(inside).sort_by("event_time")
        if rows.num_rows:
            self._rows.append((rows["event_time"].cast(pa.int64()).to_numpy(), rows))


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _number(time: dt.datetime, table: pa.Table) -> int:
    """`time` as the integer that the table's event_time holds for it."""
    return pa.scalar(time, type=table.schema.field("event_time").type).value


def _digest(fragment: ds.ParquetFileFragment) -> str:
    """SHA-256 of the stored bytes of the columns that are read, of a fragment of one row group."""
    (info,) = fragment.row_groups
    group = fragment.metadata.row_group(info.id)
    digest = hashlib.sha256()
    with Path(fragment.path).open("rb") as file:
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema in {"symbol", *REPLAY_COLUMNS}:
                file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
                digest.update(file.read(chunk.total_compressed_size))
    return digest.hexdigest()
