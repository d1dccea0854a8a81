"""Two tables of the same partition, row by row and bit by bit. Which tables are compared is diff.py's.

A row is its symbol and minute. Sides are A and B, in this order everywhere. The value of a row of the locked split is in
no result, nor is how far two of them are apart.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.splits.manifest import VALIDATION_LOCKED

LOCKED_VALUE = "a locked value"
_UTC_MS = pa.timestamp("ms", tz="UTC")

Lock: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""From minutes (int64, ms since 1970) to whether each is locked."""

Allowance: TypeAlias = Callable[[str, pd.DataFrame, np.ndarray, np.ndarray], np.ndarray]
"""From a float column's name, its rows (symbol, minute) and both sides' values to whether each difference is allowed."""


@dataclass(frozen=True)
class Row:
    """A row of a partition, by the start of its minute in ms since 1970."""

    minute: int
    symbol: str

    @property
    def time(self) -> str:
        return f"{dt.datetime.fromtimestamp(self.minute / 1000, dt.UTC):%Y-%m-%d %H:%M}"

    def __str__(self) -> str:
        return f"{self.time} {self.symbol}"


@dataclass(frozen=True)
class Change:
    """A changed cell; both values as text."""

    row: Row
    column: str
    values: tuple[str, str]


@dataclass(frozen=True)
class ColumnDiff:
    """A column's changed rows.

    one_sided: those with a value on one side alone. steps: the most units in the last place, of the column's own type,
    that two values of an unlocked row are apart (allowed ones, too), and where; None where there are no such two.
    """

    rows: int
    one_sided: int
    steps: int | None = None
    where: Row | None = None

    def __add__(self, other: ColumnDiff) -> ColumnDiff:
        larger = self if (self.steps or 0) >= (other.steps or 0) else other
        return ColumnDiff(self.rows + other.rows, self.one_sided + other.one_sided, larger.steps, larger.where)


@dataclass(frozen=True)
class TableDiff:
    """What differs between two tables; `first` and `first_only` are the earliest, of those at one minute the upmost."""

    changed: int = 0
    first: Change | None = None
    only: tuple[int, int] = (0, 0)
    first_only: tuple[Row | None, Row | None] = (None, None)
    columns: dict[str, ColumnDiff] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        return not (self.changed or any(self.only) or self.notes)


def compare_tables(left: pa.Table, right: pa.Table, symbol: str | None, lock: Lock, allowance: Allowance | None) -> TableDiff:
    """Compare A's table with B's; `symbol` is theirs where they have no such column.

    A row is locked where `lock` or the split_id of either side says so. Without `allowance` equal means equal bits.
    """
    notes, names = _columns(left, right)
    keys = [name for name in ("symbol", "event_time") if name != "symbol" or symbol is None]
    if missing := [name for name in keys if name not in names]:
        return TableDiff(notes=(*notes, f"rows not compared without {', '.join(missing)}"))
    rows, *other = (_rows(table, symbol) for table in (left, right))
    aligned = _align(rows, other[0])
    left, right = left.select(names).take(aligned.left), right.select(names).take(aligned.right)
    rows = rows.iloc[aligned.left].reset_index(drop=True)
    if (np.diff(aligned.right) < 0).any():
        notes.append("the rows are in another order")
    locked = lock(rows["minute"].to_numpy())
    for table in (left, right) if "split_id" in names else ():
        locked = locked | np.asarray(pc.equal(table["split_id"], VALIDATION_LOCKED).fill_null(True))
    if symbol is None and "split_id" not in names:  # a frame that does not say it
        locked = np.ones(len(rows), dtype=bool)
    columns: dict[str, ColumnDiff] = {}
    first_column = np.full(len(rows), len(names))
    for number, name in enumerate(names):
        differs = _differs(left[name], right[name])
        if not differs.any():
            continue
        changed = differs
        if allowance is not None and pa.types.is_floating(left[name].type):
            changed = differs & ~allowance(name, rows, _floats(left[name]), _floats(right[name]))
        columns[name] = _column_diff(left[name], right[name], rows, changed, differs & ~locked)
        first_column[changed] = np.minimum(first_column[changed], number)
    changed = first_column < len(names)
    return TableDiff(
        changed=int(changed.sum()),
        first=_first_change(left, right, rows, first_column, locked) if changed.any() else None,
        only=(len(aligned.only_left), len(aligned.only_right)),
        first_only=(_earliest(aligned.only_left), _earliest(aligned.only_right)),
        columns=columns,
        notes=tuple(notes),
    )


def _columns(left: pa.Table, right: pa.Table) -> tuple[list[str], list[str]]:
    """What differs in the schemas, and the columns that can be compared, in A's order."""
    notes, names = [], []
    for name in left.column_names:
        if name not in right.column_names:
            notes.append(f"column {name} is in A alone")
        elif left.schema.field(name).type != right.schema.field(name).type:
            notes.append(f"column {name} is {left.schema.field(name).type} in A, {right.schema.field(name).type} in B")
        else:
            names.append(name)
    notes += [f"column {name} is in B alone" for name in right.column_names if name not in left.column_names]
    if not notes and left.column_names != right.column_names:
        notes.append("the columns are in another order")
    return notes, names


def _rows(table: pa.Table, symbol: str | None) -> pd.DataFrame:
    """A row's symbol and minute."""
    minutes = table["event_time"].cast(_UTC_MS).cast(pa.int64()).fill_null(0).to_numpy()
    symbols = table["symbol"].to_pandas() if symbol is None else np.repeat(symbol, table.num_rows)
    return pd.DataFrame({"symbol": symbols, "minute": minutes})


@dataclass(frozen=True)
class _Alignment:
    """Positions of the rows that both sides have, in A's order, and the rows that one of them has alone."""

    left: np.ndarray
    right: np.ndarray
    only_left: pd.DataFrame
    only_right: pd.DataFrame


def _align(left: pd.DataFrame, right: pd.DataFrame) -> _Alignment:
    if left.equals(right):
        return _Alignment(np.arange(len(left)), np.arange(len(left)), left[:0], left[:0])
    # A row that is there twice is another row each time.
    key = ["symbol", "minute", "nth"]
    numbered = [
        rows.assign(nth=rows.groupby(key[:2]).cumcount(), position=np.arange(len(rows), dtype=float)) for rows in (left, right)
    ]
    joined = numbered[0].merge(numbered[1], on=key, how="outer", indicator=True, suffixes=("_left", "_right"))
    both = joined[joined["_merge"] == "both"].sort_values("position_left")
    return _Alignment(
        both["position_left"].to_numpy().astype(np.int64),
        both["position_right"].to_numpy().astype(np.int64),
        joined[joined["_merge"] == "left_only"],
        joined[joined["_merge"] == "right_only"],
    )


def _earliest(rows: pd.DataFrame) -> Row | None:
    if rows.empty:
        return None
    first = rows.sort_values(["minute", "symbol"]).iloc[0]
    return Row(int(first["minute"]), str(first["symbol"]))


def _row(rows: pd.DataFrame, position: int) -> Row:
    return Row(int(rows["minute"].to_numpy()[position]), str(rows["symbol"].iloc[position]))


def _differs(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray:
    """Where a null is on one side alone, or two values are not the same (floats: not the same bits)."""
    valid = [np.asarray(column.is_valid()) for column in (left, right)]
    floating = pa.types.is_floating(left.type)
    same = _bits(left) == _bits(right) if floating else np.asarray(pc.equal(left, right).fill_null(False))
    return (valid[0] != valid[1]) | (valid[0] & ~same)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """A float column's values, NaN for null."""
    return column.fill_null(np.nan).to_numpy()


def _bits(column: pa.ChunkedArray) -> np.ndarray:
    values = _floats(column)
    return values.view(f"i{values.itemsize}")


def _steps(left: pa.ChunkedArray, right: pa.ChunkedArray) -> np.ndarray:
    """How many representable numbers two floats are apart (uint64), 0.0 and -0.0 being one."""
    places = []
    for column in (left, right):
        bits = _bits(column)
        places.append(np.where(bits < 0, np.iinfo(bits.dtype).min - bits, bits).astype(np.int64))
    # The difference of two int64 may need one bit more; as unsigned numbers it wraps to what is right.
    return np.maximum(*places).view(np.uint64) - np.minimum(*places).view(np.uint64)


def _column_diff(
    left: pa.ChunkedArray, right: pa.ChunkedArray, rows: pd.DataFrame, changed: np.ndarray, measured: np.ndarray
) -> ColumnDiff:
    if not pa.types.is_floating(left.type):
        one_sided = changed & (np.asarray(left.is_valid()) != np.asarray(right.is_valid()))
        return ColumnDiff(int(changed.sum()), int(one_sided.sum()))
    missing = [np.isnan(_floats(column)) for column in (left, right)]
    one_sided = int((changed & (missing[0] != missing[1])).sum())
    measured = np.flatnonzero(measured & ~missing[0] & ~missing[1])
    if not len(measured):
        return ColumnDiff(int(changed.sum()), one_sided)
    steps = _steps(left.take(measured), right.take(measured))
    largest = int(steps.argmax())
    return ColumnDiff(int(changed.sum()), one_sided, int(steps[largest]), _row(rows, measured[largest]))


def _first_change(left: pa.Table, right: pa.Table, rows: pd.DataFrame, first_column: np.ndarray, locked: np.ndarray) -> Change:
    changed = np.flatnonzero(first_column < left.num_columns)
    position = int(changed[rows["minute"].to_numpy()[changed].argmin()])
    name = left.column_names[first_column[position]]
    values = (LOCKED_VALUE, LOCKED_VALUE)
    if not locked[position]:
        values = _texts(left[name].slice(position, 1), right[name].slice(position, 1))
    return Change(_row(rows, position), name, values)


def _texts(left: pa.ChunkedArray, right: pa.ChunkedArray) -> tuple[str, str]:
    """One value of each side, with as many digits as tell it from every other of its type."""
    first, second = (_text(column) for column in (left, right))
    if first == second and pa.types.is_floating(left.type):  # two NaN
        return f"{first} (bits {_bits(left)[0]:#x})", f"{second} (bits {_bits(right)[0]:#x})"
    return first, second


def _text(column: pa.ChunkedArray) -> str:
    if column.null_count:
        return "null"
    return str(_floats(column)[0]) if pa.types.is_floating(column.type) else str(column[0])
