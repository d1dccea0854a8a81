"""The look-ahead proof over stored partitions, at any depth: it proves what is on disk, not what was in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.dataset.keys import ONE_DAY, Key
from feature_assets.dataset.store import FEATURE_FRAME, SYMBOL_FEATURES, Store
from feature_assets.dataset.symbol_features import ReplayDays
from feature_assets.dataset.tables import content_hash
from feature_assets.dataset.threads import in_order
from feature_assets.errors import FeatureAssetsError
from feature_assets.features.build import FeatureOptions, window_of_day
from feature_assets.features.catalogue import LOOKBACK_DAYS, SYMBOL_FEATURES_SCHEMA
from feature_assets.leakage.lookahead import cuts, look_ahead
from feature_assets.market.bars import Bars


@dataclass(frozen=True)
class Audited:
    """What became of a partition: how many rows were recomputed and compared, over all cuts, and what was found."""

    key: Key
    cuts: int = 0
    rows_compared: int = 0
    broken: list[str] = field(default_factory=list)


def audit(
    store: Store, options: FeatureOptions, keys: Sequence[Key], count: int = 1, hidden_from: int | None = None
) -> Iterator[Audited]:
    """Prove the stored features of `keys` against their stored replay with `count` cuts each, by date and symbol.

    A partition's table must have the hash that its footer names, stand on inputs that are still the same, and be in the
    frame of its date bit for bit; then every row up to each cut must come out of the replay up to that cut alone.
    hidden_from: no value that rows from this time on may have made is told, in milliseconds since the epoch.
    """
    return in_order(_calls(store, options, sorted(keys), count, hidden_from))


def _calls(
    store: Store, options: FeatureOptions, keys: Sequence[Key], count: int, hidden_from: int | None
) -> Iterator[Callable[[], Audited]]:
    replays: dict[str, ReplayDays] = {}
    frame: tuple[Key, pa.Table | str] | None = None
    for key in keys:
        assert key.symbol is not None
        replay = replays.setdefault(key.symbol, ReplayDays(store, key.symbol, options))
        replay.forget_before(key.date - LOOKBACK_DAYS * ONE_DAY)
        if frame is None or frame[0].date != key.date:
            frame = (Key(key.date), _frame(store, Key(key.date)))
        try:
            table, footer = store.read(SYMBOL_FEATURES, key)
            found = replay.read_for(key.date)
        except FeatureAssetsError as error:
            yield partial(Audited, key, broken=[f"{key}: {error}"])
            continue
        broken = []
        if content_hash(table) != footer.content_hash:
            broken.append(f"{key}: the table's content hash is not the one in its footer; build it again.")
        if {day.name: day.content_hash for day in found.values()} != footer.inputs:
            broken.append(f"{key}: it was built from another replay than there is now; build it again.")
        broken += _in_frame(key, table, frame[1])
        days = [day.bars for _, day in sorted(found.items()) if day.bars is not None]
        bars = Bars.concat(days) if days else None
        yield partial(_prove, key, bars, table, options, count, hidden_from, broken)


def _prove(
    key: Key,
    bars: Bars | None,
    table: pa.Table,
    options: FeatureOptions,
    count: int,
    hidden_from: int | None,
    broken: list[str],
) -> Audited:
    if not table.num_rows:
        return Audited(key, broken=broken)
    if bars is None:
        return Audited(key, broken=[*broken, f"{key}: there are rows without a replay that they could come from."])
    window, first = window_of_day(bars, key.date)
    show_values = hidden_from is None or bool(window["event_time"][-1] < hidden_from)
    compared = 0
    for cut in cuts(key.symbol or "", key.date, table.num_rows, count):
        compared += cut.row + 1
        if found := look_ahead(window, first, table, cut, options, show_values=show_values):
            return Audited(key, count, compared, [*broken, f"{key}: {found}"])
    return Audited(key, count, compared, broken)


def _frame(store: Store, key: Key) -> pa.Table | str:
    """The frame's rows of a date, or why there are none."""
    try:
        return store.read_table(FEATURE_FRAME, key, ["symbol", *SYMBOL_FEATURES_SCHEMA.names])
    except FeatureAssetsError as error:
        return str(error)


def _in_frame(key: Key, table: pa.Table, frame: pa.Table | str) -> list[str]:
    if isinstance(frame, str):
        return [f"{key}: {frame}"]
    rows = frame.filter(pc.equal(frame["symbol"], key.symbol)).select(table.schema.names)
    if content_hash(rows) == content_hash(table):
        return []
    same = len(rows) == len(table)
    names = [name for name in table.schema.names if not same or not np.array_equal(*_pair(rows, table, name))]
    what = f"feature_frame {key.date} has other rows of {key.symbol} than symbol_features ({', '.join(names)})"
    return [f"{key}: {what}; build it again."]


def _pair(one: pa.Table, other: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    left, right = (table[name].to_numpy() for table in (one, other))
    return (left.view(np.int32), right.view(np.int32)) if left.dtype == np.float32 else (left, right)
