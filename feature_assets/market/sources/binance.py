"""The Binance public-data archive, USD-M futures: 1m klines from monthly and daily zips.

The files lie in the archive's folder tree (.../monthly/klines/BTCUSDT/1m/) or flat in one folder. Klines give the
groups bars and taker_flow; the other columns are null. Another data type (markPriceKlines, metrics, ...) is another
reader beside _read_klines and another key of the index; it says for its records when they are known, as _known does for
klines. Format and quirks: docs/sources.md.
"""

from __future__ import annotations

import copy
import datetime as dt
import functools
import hashlib
import io
import re
import weakref
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from feature_assets.market.bars import MINUTE_MS, REPLAY_SCHEMA, day_start_ms
from feature_assets.market.sources.base import ABSENT, NOT_YET, DayAnswer, each_day, unreadable

_FILE = re.compile(r"(?P<symbol>[A-Z0-9_]+)-1m-(?P<period>\d{4}-\d{2}(-\d{2})?)\.zip")
# Folders whose files have the same names as the klines of USD-M futures.
_OTHER_DATA = {"markPriceKlines", "indexPriceKlines", "premiumIndexKlines", "spot", "cm", "option"}
_KLINE_COLUMNS = {
    "open_time": pa.int64(),
    "open": pa.float64(),
    "high": pa.float64(),
    "low": pa.float64(),
    "close": pa.float64(),
    "volume": pa.float64(),
    "close_time": pa.int64(),
    "quote_volume": pa.float64(),
    "count": pa.int64(),
    "taker_buy_volume": pa.float64(),
    "taker_buy_quote_volume": pa.float64(),
    "ignore": pa.string(),
}
# Times from here on are microseconds (spot archives from 2025); milliseconds reach it in the year 5138.
_MICROSECONDS_FROM = 100_000_000_000_000


class BinanceSource:
    """1m klines of a folder. Raises SourceError, naming the file, for a zip, a checksum or a row that is wrong."""

    # Daily files appear in the course of the next day; a day that is later still is asked for again.
    publication_delay = dt.timedelta(hours=8)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._as_of_ms: int | None = None
        # A source lives for a run: a month's file is hashed once for all its days.
        self._sha256 = functools.cache(_sha256)
        # Klines that somebody holds, by file, so that as_of need not read them again.
        self._held: weakref.WeakValueDictionary[Path, pa.Table] = weakref.WeakValueDictionary()

    def as_of(self, time: dt.datetime) -> BinanceSource:
        """The archive without the klines that were not known at `time`: one is known when its close_time has passed."""
        earlier = copy.copy(self)
        earlier._as_of_ms = int(time.timestamp() * 1000)  # noqa: SLF001 - one of its own
        return earlier

    def iter_days(self, symbol: str, start: dt.date, end: dt.date) -> Iterator[tuple[dt.date, DayAnswer]]:
        """Days of a symbol; a month's file is parsed once and held while its days are taken.

        A day's own file comes before its month's. A day without rows is absent where a file covers its period or a
        later one, and not yet published otherwise.
        """
        month: tuple[Path, pa.Table] | None = None

        def read(day: dt.date) -> DayAnswer:
            nonlocal month
            files = self._files_of(symbol)
            daily, monthly = files.get(f"{day}"), files.get(f"{day:%Y-%m}")
            if daily is not None:
                bars = self._day(self._klines(daily), day)
            elif monthly is not None:
                if month is None or month[0] != monthly:
                    month = None
                    month = (monthly, self._klines(monthly))
                bars = self._day(month[1], day)
            else:
                return ABSENT if f"{day}" < max(files) else NOT_YET
            return bars if bars.num_rows else ABSENT

        return each_day(start, end, read)

    def fingerprint(self, symbol: str, date: dt.date) -> str:
        """The SHA-256 of the file that the day is read from; `none` where there is no file."""
        files = self._files_of(symbol)
        file = files.get(f"{date}") or files.get(f"{date:%Y-%m}")
        return self._sha256(file) if file else "none"

    def _klines(self, path: Path) -> pa.Table:
        klines = self._held.get(path)
        if klines is None:
            klines = self._held[path] = _read_klines(path)
        return klines

    def _day(self, klines: pa.Table, day: dt.date) -> pa.Table:
        rows = _of_day(klines, day)
        return _replay(rows if self._as_of_ms is None else _known(rows, self._as_of_ms))

    def _files_of(self, symbol: str) -> dict[str, Path]:
        if symbol not in self._files:
            found = ", ".join(sorted(self._files)) or "no symbol at all"
            raise unreadable(f"{symbol}: no 1m klines in {self._folder.name}; found {found}. Check SYMBOLS or get the files.")
        return self._files[symbol]

    @functools.cached_property
    def _files(self) -> dict[str, dict[str, Path]]:
        """By symbol and period (YYYY-MM or YYYY-MM-DD)."""
        files: defaultdict[str, dict[str, Path]] = defaultdict(dict)
        for path in sorted(self._folder.rglob("*.zip")):
            match = _FILE.fullmatch(path.name)
            if match and not _OTHER_DATA & set(path.relative_to(self._folder).parts):
                files[match["symbol"]].setdefault(match["period"], path)
        return dict(files)


def _of_day(klines: pa.Table, day: dt.date) -> pa.Table:
    start = day_start_ms(day)
    times = klines["open_time"]
    return klines.filter(pc.and_(pc.greater_equal(times, start), pc.less(times, start + 24 * 60 * MINUTE_MS)))


def _known(klines: pa.Table, time_ms: int) -> pa.Table:
    """The klines that were known at a time: a kline changes until its last millisecond has passed."""
    return klines.filter(pc.less(klines["close_time"], time_ms))


def _replay(klines: pa.Table) -> pa.Table:
    """Klines as a replay table; what they do not have is null."""
    times = klines["open_time"]
    columns = {
        "event_time": times.cast(REPLAY_SCHEMA.field("event_time").type),
        "open_time_ms": times,
        **{name: klines[name] for name in ("open", "high", "low", "close", "volume", "taker_buy_volume")},
        "taker_sell_volume": pc.subtract(klines["volume"], klines["taker_buy_volume"]),
    }
    nothing = {field.name: pa.nulls(len(times), field.type) for field in REPLAY_SCHEMA}
    return pa.table({**nothing, **columns}, schema=REPLAY_SCHEMA)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_klines(path: Path) -> pa.Table:
    """A zip's klines, their times in milliseconds."""
    _verify_checksum(path)
    text = _unzip(path)
    header = text[: text.find(b"\n")].decode("ascii", "replace").strip().split(",")
    try:
        klines = csv.read_csv(
            io.BytesIO(text),
            read_options=csv.ReadOptions(column_names=list(_KLINE_COLUMNS), skip_rows=int(header[0] in _KLINE_COLUMNS)),
            convert_options=csv.ConvertOptions(
                column_types=_KLINE_COLUMNS,
                include_columns=["open_time", "open", "high", "low", "close", "volume", "close_time", "taker_buy_volume"],
            ),
        )
    except pa.ArrowInvalid as error:
        expected = f"{len(_KLINE_COLUMNS)} columns ({', '.join(_KLINE_COLUMNS)})"
        raise unreadable(f"{path.name}: not a kline file of {expected}{_without_values(error)}. Get it again.") from error
    for name in ("open_time", "close_time"):
        place = klines.schema.get_field_index(name)
        klines = klines.set_column(place, name, _milliseconds(klines[name], name, path))
    return klines


def _without_values(error: pa.ArrowInvalid) -> str:
    """What is wrong in a file's text without the value or line that Arrow quotes, which may be of a locked day."""
    found = re.search(r"(In CSV column #\d+: )?CSV conversion error to \w+|Expected \d+ columns, got \d+", str(error))
    return f": {found[0]}" if found else ""


def _unzip(path: Path) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise unreadable(f"{path.name} holds {len(names)} files ({', '.join(names[:3])}), not one.")
            return archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        # RuntimeError: zipfile's for a password or an unknown compression, which a flipped bit can feign.
        raise unreadable(f"{path.name}: not readable as a zip: {error}. Get it again.") from error


def _verify_checksum(path: Path) -> None:
    """Compare with the archive's NAME.CHECKSUM (`sha256  filename`) where that file is there."""
    beside = path.with_name(path.name + ".CHECKSUM")
    if not beside.is_file():
        return
    expected, found = beside.read_text(encoding="ascii", errors="replace").split()[:1], _sha256(path)
    if expected != [found]:
        raise unreadable(f"{path.name}: SHA-256 is {found}, {beside.name} says {' '.join(expected)}. Get the file again.")


def _milliseconds(times: pa.ChunkedArray, name: str, path: Path) -> pa.ChunkedArray:
    bounds = pc.min_max(times).as_py()
    if bounds["min"] is None or bounds["max"] < _MICROSECONDS_FROM:
        return times
    if bounds["min"] < _MICROSECONDS_FROM:
        raise unreadable(f"{path.name}: {name} mixes milliseconds and microseconds. Get the file again.")
    milliseconds = pc.divide(times, 1000)
    if name == "open_time" and not pc.multiply(milliseconds, 1000).equals(times):
        raise unreadable(f"{path.name}: open_time holds microseconds that are no whole millisecond. Get the file again.")
    return milliseconds
