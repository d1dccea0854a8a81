"""Replay bars: their columns, their types, and the rules of a sound day.

A bar's event_time is the UTC start of its minute; the bar is knowable at event_time + 60 s. What a feature
makes of the bars lives in feature_assets.features, where they come from in feature_assets.market.sources.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_assets.errors import ReplayError

MINUTES_PER_DAY = 1440
MINUTE_MS = 60_000
DAY_MS = MINUTES_PER_DAY * MINUTE_MS

INPUT_GROUPS: dict[str, tuple[str, ...]] = {
    "bars": ("open", "high", "low", "close", "volume"),
    "taker_flow": ("taker_buy_volume", "taker_sell_volume"),
    "funding": ("funding_bps", "next_funding_time"),
    "mark_index": ("mark_price", "index_price"),
    "open_interest": ("open_interest",),
    "quotes": ("spread_bps", "level1_ofi_1m"),
    "liquidations": ("liquidation_buy_notional_1m", "liquidation_sell_notional_1m", "liquidation_available"),
}

_TIME = pa.timestamp("ms", tz="UTC")
REPLAY_SCHEMA = pa.schema(
    [
        ("event_time", _TIME),
        ("open_time_ms", pa.int64()),
        *((name, pa.float64()) for name in (*INPUT_GROUPS["bars"], *INPUT_GROUPS["taker_flow"])),
        ("funding_bps", pa.float64()),
        ("mark_price", pa.float64()),
        ("index_price", pa.float64()),
        ("next_funding_time", _TIME),
        *((name, pa.float64()) for name in ("open_interest", *INPUT_GROUPS["quotes"], *INPUT_GROUPS["liquidations"])),
    ]
)
REPLAY_COLUMNS: tuple[str, ...] = tuple(REPLAY_SCHEMA.names)
TIME_COLUMNS = ("event_time", "next_funding_time")
NUMBER_COLUMNS = tuple(name for name in REPLAY_COLUMNS if REPLAY_SCHEMA.field(name).type == pa.float64())

_DTYPES = {
    field.name: pd.DatetimeTZDtype("ms", dt.UTC) if field.name in TIME_COLUMNS else np.dtype(field.type.to_pandas_dtype())
    for field in REPLAY_SCHEMA
}
_PRICES = ("open", "high", "low", "close")
_AMOUNTS = ("volume", *INPUT_GROUPS["taker_flow"], "liquidation_buy_notional_1m", "liquidation_sell_notional_1m")
_EXAMPLES = 5


@dataclass(frozen=True)
class Violation:
    """A broken rule of a sound replay: how many rows break it and the first of them, in words."""

    rule: str
    rows: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.rule}: {self.rows} row(s), e.g. {'; '.join(self.examples)}"


def empty_table() -> pa.Table:
    """A replay day of no rows, with the full schema."""
    return REPLAY_SCHEMA.empty_table()


def check_columns(schema: pa.Schema, culprit: str) -> None:
    """Raise ReplayError where `schema` lacks a replay column, has it twice, or has it in a type that means something else.

    Numbers may be of any numeric type; a column of no type (all null) is a column without values; times must be
    timestamps in UTC. `culprit` begins the message: the symbol and date, or the file.
    """
    missing = [name for name in REPLAY_COLUMNS if name not in schema.names]
    if missing:
        raise ReplayError(
            f"{culprit}: missing column(s) {', '.join(missing)}; expected all of {', '.join(REPLAY_COLUMNS)}. "
            "Add them, with nulls where there is no data."
        )
    if twice := [name for name in REPLAY_COLUMNS if len(schema.get_all_field_indices(name)) > 1]:
        raise ReplayError(f"{culprit}: column(s) {', '.join(twice)} are there twice; give each once.")
    for name in REPLAY_COLUMNS:
        found = schema.field(name).type
        if pa.types.is_null(found):
            continue
        if name in TIME_COLUMNS:
            if not pa.types.is_timestamp(found) or found.tz not in {"UTC", "+00:00", "Etc/UTC"}:
                raise ReplayError(
                    f"{culprit}: column {name} is {found}; expected a timestamp with time zone UTC. Convert it to UTC."
                )
        elif not (pa.types.is_integer(found) or pa.types.is_floating(found)):
            raise ReplayError(f"{culprit}: column {name} is {found}; expected a number. Convert it.")


def to_table(bars: pd.DataFrame | pa.Table, culprit: str) -> pa.Table:
    """`bars` as a table of REPLAY_SCHEMA, sorted by event_time; NaN becomes null, columns beyond the schema are left out.

    Raises ReplayError for a missing column, a wrong type, a wrong time zone, or times finer than a millisecond.
    """
    if isinstance(bars, pd.DataFrame):
        bars = _from_pandas(bars, culprit)
    check_columns(bars.schema, culprit)
    columns = []
    for field in REPLAY_SCHEMA:
        column = bars.column(field.name)
        if column.type != field.type:
            try:
                column = column.cast(field.type)
            except pa.ArrowInvalid as error:
                what = f"{culprit}: column {field.name} ({column.type}) does not fit {field.type}"
                raise ReplayError(f"{what}: {error}.", unseen=f"{what}.") from error
        if field.type == pa.float64():
            values = column.to_numpy(zero_copy_only=False)
            column = pa.array(values, type=field.type, from_pandas=True)
        columns.append(column)
    table = pa.table(columns, schema=REPLAY_SCHEMA)
    times = _numbers(table, "event_time")
    if (times[1:] < times[:-1]).any():
        table = table.sort_by("event_time")
    return table.combine_chunks()


def _from_pandas(frame: pd.DataFrame, culprit: str) -> pa.Table:
    """The frame's replay columns, in their own types."""
    names, columns = [], []
    for name, column in frame.items():
        if name in REPLAY_COLUMNS:
            try:
                columns.append(pa.Array.from_pandas(column))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                what = f"{culprit}: column {name} holds values of several types"
                raise ReplayError(f"{what}: {error}. Convert it.", unseen=f"{what}. Convert it.") from error
            names.append(name)
    return pa.table(columns, names=names)


def sound_columns(bars: pd.DataFrame, culprit: str) -> dict[str, np.ndarray]:
    """The replay columns of `bars` as columns_of has them, sorted by event_time; raises ReplayError where they are not sound."""
    columns = _as_they_are(bars)
    if columns is None or any(mask.any() for mask in _broken(columns).values()):
        table = to_table(bars, culprit)
        if broken := violations(table):
            raise ReplayError(f"{culprit}: not a sound replay. " + ". ".join(map(str, broken)) + ". Mend these rows.")
        columns = columns_of(table)
    return columns


def _as_they_are(frame: pd.DataFrame) -> dict[str, np.ndarray] | None:
    """What columns_of makes of the frame's table, without one, in a fifth of the time; None where types or order differ."""
    columns: dict[str, np.ndarray] = {}
    for label, column in frame.items():
        name = str(label)
        if name in _DTYPES:
            if name in columns or column.dtype != _DTYPES[name]:
                return None
            values = column.to_numpy(dtype="datetime64[ms]" if name in TIME_COLUMNS else None)
            columns[name] = values.astype(np.float64, copy=False)
    times = columns.get("event_time")
    if times is None or len(columns) < len(REPLAY_COLUMNS) or (times[1:] < times[:-1]).any():
        return None
    return columns


def violations(table: pa.Table, day: dt.date | None = None, hidden_from: int | None = None) -> list[Violation]:
    """The rules of a sound replay that a table of REPLAY_SCHEMA, sorted by event_time, breaks; none for a sound one.

    `day` is the UTC day that every row must lie in; None where the table holds several days. A null makes no rule
    fail but "no nulls", which event_time, open_time_ms and the four prices must obey. Of rows from `hidden_from` on, in
    milliseconds since the epoch, the examples hold the minute alone, and so they do of rows whose time is not certain.
    """
    column = columns_of(table)
    shown = _certainly_before(hidden_from, column, day)
    return [_violation(rule, mask, table, shown) for rule, mask in _broken(column, day).items() if mask.any()]


def _broken(column: Mapping[str, np.ndarray], day: dt.date | None = None) -> dict[str, np.ndarray]:
    """For each rule, which rows break it."""
    time = column["event_time"]
    masks: dict[str, np.ndarray] = {}
    with np.errstate(invalid="ignore"):
        for name in ("event_time", "open_time_ms", *_PRICES):
            masks[f"{name} is never null"] = np.isnan(column[name])
        for name in NUMBER_COLUMNS:
            masks[f"{name} is finite"] = np.isinf(column[name])
        masks["event_time is on the minute"] = ~np.isnan(time) & (time % MINUTE_MS != 0)
        masks["one row a minute"] = np.concatenate([[False], time[1:] == time[:-1]]) if len(time) else time > 0
        masks["open_time_ms equals event_time"] = np.abs(column["open_time_ms"] - time) > 0
        if day is not None:
            start = day_start_ms(day)
            masks[f"event_time lies in {day}"] = (time < start) | (time >= start + DAY_MS)
        for name in (*_PRICES, "mark_price", "index_price"):
            masks[f"{name} > 0"] = column[name] <= 0
        masks["high >= max(open, close)"] = column["high"] < np.fmax(column["open"], column["close"])
        masks["low <= min(open, close)"] = column["low"] > np.fmin(column["open"], column["close"])
        for name in _AMOUNTS:
            masks[f"{name} >= 0"] = column[name] < 0
        masks["next_funding_time > event_time"] = column["next_funding_time"] <= time
    return masks


def _certainly_before(hidden_from: int | None, column: Mapping[str, np.ndarray], day: dt.date | None) -> np.ndarray:
    """Which rows lie before `hidden_from` by both of their times, and by the day that they were given for."""
    time, open_time = column["event_time"], column["open_time_ms"]
    if hidden_from is None:
        return np.ones(len(time), dtype=bool)
    begin = day_start_ms(day) if day is not None else -np.inf
    return (time >= begin) & (time < hidden_from) & (open_time >= begin) & (open_time < hidden_from)


def _violation(rule: str, mask: np.ndarray, table: pa.Table, shown: np.ndarray) -> Violation:
    rows = np.flatnonzero(mask)
    named = [name for name in REPLAY_COLUMNS if name in rule.replace("(", " ").replace(",", " ").replace(")", " ").split()]
    examples = []
    for row in rows[:_EXAMPLES]:
        own = [name for name in named if name != "event_time"] if shown[row] else []
        values = ", ".join(f"{name}={table.column(name)[int(row)].as_py()}" for name in own)
        examples.append(f"row {row} at {table.column('event_time')[int(row)].as_py()}" + (f" ({values})" if values else ""))
    return Violation(rule, len(rows), tuple(examples))


def day_start_ms(day: dt.date) -> int:
    """00:00 UTC of `day` in milliseconds since the epoch."""
    return (day - dt.date(1970, 1, 1)).days * DAY_MS


def distinct_minutes(table: pa.Table) -> int:
    """How many different minutes a sorted day has rows for."""
    return len(np.unique(_numbers(table, "event_time") // MINUTE_MS))


def columns_of(table: pa.Table) -> dict[str, np.ndarray]:
    """The replay columns of a table as float64 arrays, NaN where null, times in milliseconds since the epoch."""
    return {name: _numbers(table, name) for name in REPLAY_COLUMNS}


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column as float64, NaN where null; times in milliseconds since the epoch (exact in float64)."""
    column = table.column(name)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


class Bars:
    """One symbol's rows in time order, a read-only float64 array of shape (rows,) a column; what features read.

    A null is NaN. Times are milliseconds since the epoch. open_interest <= 0 is NaN, and both liquidation notionals
    are 0.0 where liquidation_available is 0 or null. `memo` keeps what several features share.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self._columns = dict(columns)
        self.memo: dict[object, np.ndarray] = {}

    @classmethod
    def from_table(cls, table: pa.Table) -> Bars:
        return cls.from_columns(columns_of(table))

    @classmethod
    def from_columns(cls, replay: Mapping[str, np.ndarray]) -> Bars:
        """From a replay's columns as columns_of gives them, which stay as they are."""
        columns = dict(replay)
        with np.errstate(invalid="ignore"):
            columns["open_interest"] = np.where(columns["open_interest"] > 0, columns["open_interest"], np.nan)
            available = np.nan_to_num(columns["liquidation_available"], nan=0.0)
        columns["liquidation_available"] = available
        for side in ("liquidation_buy_notional_1m", "liquidation_sell_notional_1m"):
            columns[side] = np.where(available == 0, 0.0, columns[side])
        return cls(columns)

    @classmethod
    def concat(cls, parts: Iterable[Bars]) -> Bars:
        parts = list(parts)
        if len(parts) == 1:
            return parts[0].rows(0, len(parts[0]))
        return cls({name: np.concatenate([part[name] for part in parts]) for name in REPLAY_COLUMNS})

    def __getitem__(self, column: str) -> np.ndarray:
        return self._columns[column]

    def __len__(self) -> int:
        return len(self._columns["event_time"])

    def rows(self, start: int, stop: int) -> Bars:
        """Rows start..stop-1, without the memo."""
        return Bars({name: values[start:stop] for name, values in self._columns.items()})

    def only(self, columns: Iterable[str]) -> Bars:
        """The same rows with these columns alone: what a feature that declares them may read."""
        return Bars({name: self._columns[name] for name in (*columns, "event_time")})
