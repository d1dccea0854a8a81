"""Symbol feature partitions: a day's features from the replay of the day and of the look-back days before it."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, islice
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from feature_assets import elementary, features
from feature_assets.dataset.keys import ONE_DAY, Key
from feature_assets.dataset.outcomes import Blocked, Check, Left, Outcome, Published, Refused
from feature_assets.dataset.store import REPLAY, SYMBOL_FEATURES, Refusal, Store
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets.dataset.threads import in_order
from feature_assets.dataset.version import code_version
from feature_assets.errors import MissingInputError, RefusedInputError, StoreError
from feature_assets.features.build import DayFeatures, FeatureOptions, is_kept, iter_day_features, window_of_day
from feature_assets.features.catalogue import FEATURE_VERSION, FLAGS, LOOKBACK_DAYS, LOOKBACK_ROWS, SYMBOL_FEATURES_SCHEMA
from feature_assets.leakage.lookahead import cuts, look_ahead
from feature_assets.market import bars as market
from feature_assets.market.bars import Bars
from feature_assets.quality.finite import not_finite

_T = TypeVar("_T")

FINITE_VALUES, NO_LOOKAHEAD = "finite_values", "no_lookahead"

# Dates that are computed together: their look-back is read and computed once.
_CHUNK = 8


def features_code_version(options: FeatureOptions) -> str:
    """Of the features, what they are made of, and the settings that their rows depend on."""
    return code_version(features, elementary, market, FEATURE_VERSION, repr(options))


def build_symbol_features(
    store: Store, options: FeatureOptions, keys: Sequence[Key], hidden_from: int | None = None
) -> Iterator[Outcome]:
    """Publish the features of `keys`, symbol by symbol in date order, holding a few days of one symbol at a time.

    What is refused shows no value that rows from `hidden_from` on may have made, in milliseconds since the epoch.
    """
    return in_order(_calls(store, options, keys, hidden_from), beside_work=True)


def _calls(
    store: Store, options: FeatureOptions, keys: Sequence[Key], hidden_from: int | None
) -> Iterator[Callable[[], Outcome]]:
    """A call a key that publishes it; it is computed and proven here."""
    for symbol, group in groupby(sorted(keys, key=lambda key: (key.symbol, key.date)), key=lambda key: key.symbol):
        assert symbol is not None
        replay = ReplayDays(store, symbol, options)
        remaining = iter(group)
        while chunk := list(islice(remaining, _CHUNK)):
            yield from _chunk_calls(store, replay, options, chunk, hidden_from)


def look_back(key: Key, day: Callable[[dt.date], _T], kept_rows: Callable[[_T], int]) -> dict[dt.date, _T]:
    """The days that a key's rows read, by date: backwards until LOOKBACK_ROWS rows or LOOKBACK_DAYS, as `day` gives them.

    A day of which nothing is kept reads no other. Raises MissingInputError naming every look-back day that is missing,
    and whatever else `day` raises.
    """
    read = {key.date: day(key.date)}
    rows, missing = 0, []
    for back in range(1, LOOKBACK_DAYS + 1):
        if rows >= LOOKBACK_ROWS or not kept_rows(read[key.date]):
            break
        earlier = key.date - back * ONE_DAY
        try:
            read[earlier] = day(earlier)
        except MissingInputError:
            missing.append(f"{REPLAY}/{Key(earlier, key.symbol)}")
            continue
        rows += kept_rows(read[earlier])
    if missing:
        raise MissingInputError(f"look-back missing: {', '.join(missing)}; build them first.")
    return read


def look_back_inputs(store: Store, key: Key, options: FeatureOptions) -> dict[str, str]:
    """The inputs that the features of a key would be built from now, from footers alone; raises what look_back raises."""

    def day(date: dt.date) -> tuple[str, str, int]:
        name = f"{REPLAY}/{Key(date, key.symbol)}"
        content = store.input_hash(name)
        footer = store.footer(REPLAY, Key(date, key.symbol))
        stats = footer.stats if footer else {"rows": 0, "minutes": 0}
        whole = options.allow_incomplete_days or stats["minutes"] == market.MINUTES_PER_DAY
        return name, content, stats["rows"] if whole else 0

    read = look_back(key, day, lambda found: found[2])
    return {name: content for name, content, _ in read.values()}


@dataclass(frozen=True)
class _Day:
    """A replay partition as the features read it. `bars` is None where the day is empty or dropped as incomplete."""

    name: str
    content_hash: str
    bars: Bars | None
    rows: int


class ReplayDays:
    """A symbol's replay days, each read and verified once, the last LOOKBACK_DAYS kept."""

    def __init__(self, store: Store, symbol: str, options: FeatureOptions) -> None:
        self._store, self._symbol, self._options = store, symbol, options
        self._days: dict[dt.date, _Day] = {}

    def day(self, date: dt.date) -> _Day:
        """Raises what Store.read_input raises."""
        if date not in self._days:
            key = Key(date, self._symbol)
            table, footer = self._store.read_input(REPLAY, key)
            kept = table.num_rows > 0 and is_kept(table, self._options)
            self._days[date] = _Day(
                f"{REPLAY}/{key}", footer.content_hash, Bars.from_table(table) if kept else None, table.num_rows
            )
        return self._days[date]

    def read_for(self, date: dt.date) -> dict[dt.date, _Day]:
        """The day and the look-back days that its rows read; raises what look_back raises."""
        return look_back(Key(date, self._symbol), self.day, lambda day: len(day.bars) if day.bars else 0)

    def forget_before(self, date: dt.date) -> None:
        self._days = {day: held for day, held in self._days.items() if day >= date}


def _chunk_calls(
    store: Store, replay: ReplayDays, options: FeatureOptions, keys: Sequence[Key], hidden_from: int | None
) -> Iterator[Callable[[], Outcome]]:
    started = time.perf_counter()
    replay.forget_before(keys[0].date - LOOKBACK_DAYS * ONE_DAY)
    reads: dict[Key, dict[dt.date, _Day]] = {}
    for key in keys:
        try:
            reads[key] = replay.read_for(key.date)
        except (MissingInputError, RefusedInputError, StoreError) as error:
            if store.exists(store.partition_file(REPLAY, key)) or store.refusal(REPLAY, key):
                yield partial(Blocked, key, f"symbol_features {key}: {error}")
            else:
                yield partial(Left, key, f"symbol_features {key} is left unbuilt: its own replay is not there.")
    days = {date: day.bars for read in reads.values() for date, day in read.items() if day.bars is not None}
    dates = [key.date for key in reads if key.date in days]
    bars = (
        Bars.concat(bars for _, bars in sorted(days.items(), key=lambda item: item[0]))
        if days
        else Bars.from_table(market.empty_table())
    )
    built = {day.day: day for day in iter_day_features(bars, dates, options)}
    seconds = (time.perf_counter() - started) / max(len(reads), 1)
    # A feature that looks ahead may have brought a locked value into an earlier day that was computed with it.
    show_values = hidden_from is None or not len(bars) or bool(bars["event_time"][-1] < hidden_from)
    for key, read in reads.items():
        day = built.get(key.date) or DayFeatures(key.date, SYMBOL_FEATURES_SCHEMA.empty_table(), 0)
        yield _prove(store, options, _Computed(key, read, bars, day, seconds, show_values))


@dataclass(frozen=True)
class _Computed:
    """A key's rows before they are proven, with the days that were read for it and the bars of its whole chunk."""

    key: Key
    read: dict[dt.date, _Day]
    bars: Bars
    day: DayFeatures
    seconds: float
    show_values: bool


def _prove(store: Store, options: FeatureOptions, computed: _Computed) -> Callable[[], Published | Refused]:
    """Hold a key's rows against the rules; gives the call that publishes or refuses them.

    Proof and hash are many small steps, at each of which a thread of its own would wait for the interpreter's lock.
    """
    started = time.perf_counter()
    key, read, day = computed.key, computed.read, computed.day
    checks = (_finite_values(computed, options), _no_lookahead(computed, options))
    version, inputs = features_code_version(options), {held.name: held.content_hash for held in read.values()}
    if broken := [check for check in checks if not check.passed]:
        refusal = Refusal(broken[0].name, broken[0].message, version, inputs)
        return partial(_refuse, store, key, refusal, day.table, checks, " ".join(check.message for check in broken))
    flags = pc.value_counts(day.table["data_quality_flag"]).to_pylist()
    stats = {
        "rows": day.table.num_rows,
        "rows_dropped": read[key.date].rows - day.table.num_rows,
        "rows_bridging_gaps": day.bridging_rows,
        "rows_proven": checks[1].details.get("rows_compared", 0),
        **dict.fromkeys(FLAGS, 0),
        **{entry["values"]: entry["counts"] for entry in flags},
    }
    footer = Footer(content_hash(day.table), version, inputs, stats)
    spent = computed.seconds + time.perf_counter() - started
    return partial(_publish, store, key, day.table, footer, checks, spent)


def _refuse(store: Store, key: Key, refusal: Refusal, table: pa.Table, checks: tuple[Check, ...], reason: str) -> Refused:
    store.refuse(SYMBOL_FEATURES, key, refusal, table)
    return Refused(key, checks, reason)


def _publish(store: Store, key: Key, table: pa.Table, footer: Footer, checks: tuple[Check, ...], spent: float) -> Published:
    started = time.perf_counter()
    size = store.publish(SYMBOL_FEATURES, key, table, footer)
    details = {
        **footer.stats,
        "path": store.path(store.partition_file(SYMBOL_FEATURES, key)),
        "bytes": size,
        "seconds": spent + time.perf_counter() - started,
    }
    return Published(key, footer, checks, details)


def _finite_values(computed: _Computed, options: FeatureOptions) -> Check:
    key, table = computed.key, computed.day.table
    broken = not_finite(table, options.optional_groups, show_values=computed.show_values)
    message = f"{key}: {' '.join(broken)}" if broken else f"{key}: {table.num_rows} rows finite and in bounds."
    return Check(FINITE_VALUES, not broken, message, details={"offending": broken} if broken else {})


def _no_lookahead(computed: _Computed, options: FeatureOptions) -> Check:
    key, day = computed.key, computed.day
    if not day.table.num_rows:
        return Check(NO_LOOKAHEAD, passed=True, message=f"{key}: no rows, nothing to prove.")
    window, first = window_of_day(computed.bars, key.date)
    assert key.symbol is not None
    (cut,) = cuts(key.symbol, key.date, day.table.num_rows)
    found = look_ahead(window, first, day.table, cut, options, show_values=computed.show_values)
    what = "removed" if cut.kind == "removed" else f"poisoned ({cut.kind})"
    message = (
        found or f"all {cut.row + 1} rows up to {day.table['event_time'][cut.row]} are bit-equal with the rows after it {what}."
    )
    return Check(
        NO_LOOKAHEAD,
        found is None,
        f"{key}: {message}",
        details={"cut_row": cut.row, "later_rows": cut.kind, "rows_compared": cut.row + 1}
        | ({"offending": [found]} if found else {}),
    )
