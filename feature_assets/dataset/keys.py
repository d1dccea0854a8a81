"""Partition keys: which there are, how they are written, and that nothing else becomes a path."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from feature_assets.errors import PartitionKeyError

# Upper case alone, so that two symbols never meet in one folder of a file system that ignores case.
SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9_-]{0,39}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
ONE_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, order=True)
class Key:
    """A partition's date and, where the asset has one a symbol, its symbol. Written 2026-02-01|BTCUSDT or 2026-02-01."""

    date: dt.date
    symbol: str | None = None

    def __post_init__(self) -> None:
        if self.symbol is not None and not SYMBOL.fullmatch(self.symbol):
            raise PartitionKeyError(f"partition key {str(self)!r}: {self.symbol!r} is no symbol.")

    def __str__(self) -> str:
        return f"{self.date}" if self.symbol is None else f"{self.date}|{self.symbol}"

    @staticmethod
    def parse(text: str) -> Key:
        """The key that `text` writes; raises PartitionKeyError for anything else, so that no text becomes a path."""
        return _parsed(text)


@functools.lru_cache(1 << 16)  # as each listing of a store parses every name in it
def _parsed(text: str) -> Key:
    date, bar, symbol = text.partition("|")
    if _DATE.fullmatch(date) and (not bar or SYMBOL.fullmatch(symbol)):
        with contextlib.suppress(ValueError):
            return Key(dt.date.fromisoformat(date), symbol if bar else None)
    raise PartitionKeyError(
        f"partition key {text!r} is neither a date (2026-02-01) nor a date and a symbol (2026-02-01|BTCUSDT)."
    )


def dates(start: dt.date, end: dt.date) -> Iterator[dt.date]:
    """The dates of [start, end)."""
    while start < end:
        yield start
        start += ONE_DAY
