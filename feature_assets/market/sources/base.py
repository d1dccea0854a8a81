"""The interface of a source, and how the graph takes days from one."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterator
from typing import Final, Protocol, TypeAlias

import pandas as pd
import pyarrow as pa

from feature_assets.errors import ReplayError, SourceError
from feature_assets.market import bars as market

_ONE_DAY = dt.timedelta(days=1)


class Availability(enum.Enum):
    """What a source says of a day that it has no bars for."""

    ABSENT = "absent"
    NOT_YET = "not yet"


ABSENT: Final = Availability.ABSENT
"""There are no bars and there never will be: not listed, delisted, lost for good, before the source begins."""
NOT_YET: Final = Availability.NOT_YET
"""The day is to be published still; it is asked for again."""

Bars: TypeAlias = pd.DataFrame | pa.Table
DayAnswer: TypeAlias = Bars | Availability


class Source(Protocol):
    """What a source offers. A user's own needs no base class, only these two methods.

    Two more are optional. publication_delay: a timedelta from a day's end to when it is worth asking for. as_of(time):
    the same source as it was at `time` (UTC): of the raw records only those that were known by then, whatever their own
    stamps say. With it every build proves that no row holds what was not known when its minute had passed.
    """

    def iter_days(self, symbol: str, start: dt.date, end: dt.date) -> Iterator[tuple[dt.date, DayAnswer]]:
        """Each date of [start, end), in order, with its bars, ABSENT or NOT_YET.

        Bars are a frame or table of market.bars.REPLAY_SCHEMA's columns (more are ignored), a row a minute. Taking a day
        that is there and cannot be read raises SourceError; iteration can go on after it.
        """

    def fingerprint(self, symbol: str, date: dt.date) -> str:
        """A text that changes when the day's raw data change; it holds no path, host or clock."""


def each_day(start: dt.date, end: dt.date, read: Callable[[dt.date], DayAnswer]) -> Iterator[tuple[dt.date, DayAnswer]]:
    """An iterator over [start, end) that calls `read` for each date and goes on after one that raised.

    A generator function cannot: it is over once it has raised.
    """
    return _EachDay(start, end, read)


class _EachDay:
    def __init__(self, start: dt.date, end: dt.date, read: Callable[[dt.date], DayAnswer]) -> None:
        self._next, self._end, self._read = start, end, read

    def __iter__(self) -> _EachDay:
        return self

    def __next__(self) -> tuple[dt.date, DayAnswer]:
        if self._next >= self._end:
            raise StopIteration
        day, self._next = self._next, self._next + _ONE_DAY
        return day, self._read(day)


def read_days(
    source: Source, symbol: str, start: dt.date, end: dt.date
) -> Iterator[tuple[dt.date, pa.Table | Availability | SourceError]]:
    """Each date of [start, end) with its table of REPLAY_SCHEMA, its availability, or the error that reading it gave.

    A source whose iterator is over after an error is asked anew from the next date on. Raises SourceError where the
    source breaks its interface: a date out of order, skipped or missing.
    """
    # Made here and not when the first day is taken: a source may share work among iterators that exist together.
    return _answers(source.iter_days(symbol, start, end), source, symbol, start, end)


def _answers(
    days: Iterator[tuple[dt.date, DayAnswer]], source: Source, symbol: str, start: dt.date, end: dt.date
) -> Iterator[tuple[dt.date, pa.Table | Availability | SourceError]]:
    day = start
    while day < end:
        answer: pa.Table | Availability | SourceError
        try:
            found, bars = next(days)
        except StopIteration:
            raise SourceError(f"{symbol}: the source ended before {day}; expected every date of {start}..{end}.") from None
        except Exception as error:  # noqa: BLE001 - a user's code: whatever one day raises must not cost the others
            yield day, error if isinstance(error, SourceError) else _unexpected(symbol, day, error)
            day += _ONE_DAY
            days = _after_error(days, source, symbol, day, end)
            continue
        if found != day:
            raise SourceError(f"{symbol}: the source gave {found} where {day} was due; expected every date in order.")
        if isinstance(bars, Availability):
            answer = bars
        elif not isinstance(bars, pd.DataFrame | pa.Table):
            expected = "a frame, a table, ABSENT or NOT_YET"
            answer = unreadable(f"{symbol} {day}: the source gave a {type(bars).__name__}; expected {expected}.")
        else:
            try:
                answer = market.to_table(bars, f"{symbol} {day}")
            except ReplayError as error:
                answer = SourceError(str(error), error.unseen)
        yield day, answer
        day += _ONE_DAY


def unreadable(text: str) -> SourceError:
    """A SourceError whose text holds no value of any row, so that it may be shown of locked days, too."""
    return SourceError(text, unseen=text)


def _unexpected(symbol: str, day: dt.date, error: Exception) -> SourceError:
    what = f"{symbol} {day}: the source raised {type(error).__name__}"
    return SourceError(f"{what}: {error}; expected a SourceError. Mend it.", f"{what}; expected a SourceError. Mend it.")


def _after_error(
    days: Iterator[tuple[dt.date, DayAnswer]], source: Source, symbol: str, day: dt.date, end: dt.date
) -> Iterator[tuple[dt.date, DayAnswer]]:
    if hasattr(days, "gi_frame") and days.gi_frame is None:
        return source.iter_days(symbol, day, end)
    return days
