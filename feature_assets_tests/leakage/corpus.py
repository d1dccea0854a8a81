"""The corpus of leaks: small mutations of the real pipeline, by mechanism and scope, each with who has to catch it.

test_corpus.py runs them; `python -m feature_assets_tests.leakage.corpus --write` (make corpus) runs them all and writes what
became of each into feature_assets/leakage/corpus.json, which the report reads, and into the README's table. MISSED are the leaks
that are known not to be caught: a test holds that, too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import io
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from feature_assets.dataset import feature_frame, lock, symbol_features
from feature_assets.dataset.keys import Key
from feature_assets.dataset.tables import Footer
from feature_assets.features import build
from feature_assets.features.build import DayFeatures
from feature_assets.features.catalogue import FEATURE_ORDER, FEATURES, FLAGS
from feature_assets.features.declaration import Feature
from feature_assets.leakage import lookahead
from feature_assets.leakage.corpus import CORPUS_FILE, SUMS, rows_of
from feature_assets.market.bars import MINUTE_MS, Bars
from feature_assets.splits.manifest import SplitManifest
from feature_assets_tests.leakage import doors
from feature_assets_tests.leakage.injection import (
    AUDIT,
    BTC,
    BUILD,
    D0,
    D1,
    D2,
    ETH,
    EVERYWHERE,
    NOBODY,
    ONE_DAY,
    ONE_FEATURE,
    ONE_ROW,
    ONE_SYMBOL,
    ROW,
    SPLITS,
    TESTS,
    Case,
    Found,
    Leak,
    Scope,
    materialize,
    run_build,
    run_leak,
)
from feature_assets_tests.leakage.leaky_sources import AVAILABILITY, STAMPS, source

SCOPES = (EVERYWHERE, ONE_SYMBOL, ONE_DAY, ONE_ROW)
README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- corpus: written by make corpus -->", "<!-- end of corpus -->"

# Values: one feature reads what is not known yet


def _smooth(values: np.ndarray, ahead: int, behind: int) -> np.ndarray:
    """The mean of rows t-behind..t+ahead."""
    frame = pd.Series(values[::-1]).rolling(ahead + behind + 1, min_periods=1).mean().to_numpy()[::-1]
    return np.append(frame[behind:], np.full(behind, frame[-1])) if not behind else pd.Series(frame).shift(behind).to_numpy()


def _hourly(values: np.ndarray, bars: Bars) -> np.ndarray:
    """The values of each hour's last minute, null elsewhere."""
    return np.where(bars["event_time"] // MINUTE_MS % 60 == 59, values, np.nan)


def _interpolated(values: np.ndarray, bars: Bars) -> np.ndarray:
    return pd.Series(_hourly(values, bars)).interpolate(limit_direction="both").to_numpy()


def _two_sided(values: np.ndarray) -> np.ndarray:
    forth, back = (pd.Series(way).ewm(span=20).mean().to_numpy() for way in (values, values[::-1]))
    return forth + back[::-1]


VALUES: dict[str, Callable[[np.ndarray, Bars], np.ndarray]] = {
    "shift(-1)": lambda v, b: np.append(v[1:], v[-1:]),
    "shift(-60)": lambda v, b: np.append(v[60:], v[-60:]) if len(v) > 60 else v,
    "centred window": lambda v, b: _smooth(v, 15, 15),
    "window end off by one": lambda v, b: _smooth(v, 1, 4),
    "highest of the next 30 rows": lambda v, b: pd.Series(v[::-1]).rolling(30, min_periods=1).max().to_numpy()[::-1],
    "bfill": lambda v, b: pd.Series(_hourly(v, b)).bfill().to_numpy(),
    "interpolation": _interpolated,
    "two-sided filter": lambda v, b: _two_sided(v),
    "whole-series z-score": lambda v, b: (v - np.nanmean(v)) / np.nanstd(v),
    "whole-series min-max": lambda v, b: (v - np.nanmin(v)) / (np.nanmax(v) - np.nanmin(v)),
    "whole-series rank": lambda v, b: pd.Series(v).rank(pct=True).to_numpy(),
    "whole-series quantile": lambda v, b: np.clip(v, np.nanquantile(v, 0.01), np.nanquantile(v, 0.99)) - np.nanmedian(v),
    "average seeded from the end": lambda v, b: pd.Series(v[::-1]).ewm(span=60).mean().to_numpy()[::-1],
}


# The lowest and highest of these bars are of the day before: in this one the formula says nothing of what is still to come.
_SOUND = {("whole-series min-max", f"symbol_features/{D1}|{ETH}")}


def _of_features(mechanism: str, name: str, scope: Scope, inject: Callable[[Case], None]) -> Leak:
    """A leak in features: in one row that no build compares with what is known then, it is for the audit."""
    by, check = (AUDIT, "audit") if scope is ONE_ROW else (BUILD, "no_lookahead")
    where = tuple(part for part in scope.of("symbol_features") if (name, part) not in _SOUND)
    return Leak(mechanism, name, scope.name, inject, where, check, by)


def _value_leaks() -> list[Leak]:
    leaks = []
    for name, change in VALUES.items():
        for scope in (ONE_FEATURE, ONE_SYMBOL, ONE_DAY, ONE_ROW):

            def inject(case: Case, change=change, scope=scope) -> None:
                case.change_feature(change, scope)

            leaks.append(_of_features("values", name, scope, inject))

    def all_shifted(case: Case) -> None:
        case.change_feature(lambda v, b: np.append(v[1:], v[-1:]), EVERYWHERE, FEATURE_ORDER)

    return [*leaks, Leak("values", "shift(-1)", "everywhere", all_shifted, EVERYWHERE.of("symbol_features"), "no_lookahead")]


# Row selection: whether a row is there, or trusted, hangs on later ones


def _falls(bars: Bars) -> np.ndarray:
    """Rows whose close is lower an hour later."""
    close = bars["close"]
    return np.append(close[60:] < close[:-60], np.zeros(min(60, len(close)), dtype=bool))[: len(close)]


def _drop_in_features(case: Case, scope: Scope) -> None:
    days = symbol_features.iter_day_features

    def dropping(bars, dates, options):
        chosen = scope.rows(bars) & (_falls(bars) | (scope is ONE_ROW))
        gone = pa.array(bars["event_time"][chosen].astype(np.int64))
        for day in days(bars, dates, options):
            kept = pc.invert(pc.is_in(day.table["open_time_ms"], gone))
            yield DayFeatures(day.day, day.table.filter(kept), day.bridging_rows)

    case.patch.setattr(symbol_features, "iter_day_features", dropping)


def _flag_by_hindsight(case: Case, scope: Scope) -> None:
    compute = build.feature_rows

    def flagging(bars, first, options):
        rows = compute(bars, first, options)
        bad = (scope.rows(bars) & _falls(bars))[first:]
        return rows._replace(flags=np.where(bad, FLAGS.index("WARMUP"), rows.flags).astype(np.int8))

    for module in (build, lookahead):
        case.patch.setattr(module, "feature_rows", flagging)


def _set(table: pa.Table, name: str, values: Sequence | np.ndarray) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(
        place, table.schema.field(name), pa.array(values, type=table.schema.field(name).type, from_pandas=True)
    )


def _change_frame(case: Case, change: Callable[[pa.Table], pa.Table]) -> None:
    frame = feature_frame._frame
    case.patch.setattr(feature_frame, "_frame", lambda *arguments: change(frame(*arguments)))


def _mask(table: pa.Table, scope: Scope) -> np.ndarray:
    return scope.in_table(table["symbol"].to_numpy(zero_copy_only=False), table["open_time_ms"].to_numpy())


def _changing(change: Callable[[pa.Table, np.ndarray], pa.Table]) -> Callable[[Case, Scope], None]:
    """A mutation of the frame by a change of the rows of a mask."""

    def inject(case: Case, scope: Scope) -> None:
        _change_frame(case, lambda table: change(table, _mask(table, scope)))

    return inject


def _of_source(name: str) -> Callable[[Case, Scope], None]:
    def inject(case: Case, scope: Scope) -> None:
        case.settings["SOURCE"] = source(name, scope.name)

    return inject


def _leaks(
    mechanism: str,
    name: str,
    inject: Callable[[Case, Scope], None],
    asset: str,
    check: str,
    scopes: Sequence[Scope] = SCOPES,
    says: str = "",
) -> list[Leak]:
    return [
        Leak(mechanism, name, scope.name, functools.partial(inject, scope=scope), scope.of(asset), check, says=says)
        for scope in scopes
    ]


def _drop_worst(table: pa.Table, mask: np.ndarray) -> pa.Table:
    """Without the rows of a mask that a fall follows; of a single row, without it."""
    falls = np.append(table["ret_1m_bps"].to_numpy()[1:] < 0, [False])
    return table.filter(pa.array(~(mask & (falls | (mask.sum() == 1)))))


def _selection_leaks() -> list[Leak]:
    flag = _leaks("row selection", "flag by a later return", _flag_by_hindsight, "symbol_features", "no_lookahead", SCOPES[1:])
    return [
        *[
            _of_features(
                "row selection", "rows dropped by a later return", scope, functools.partial(_drop_in_features, scope=scope)
            )
            for scope in SCOPES
        ],
        *[leak for leak in flag if leak.scope == "one day"],
        *_leaks("row selection", "losing rows left out of the frame", _changing(_drop_worst), "feature_frame", "no_split_leak"),
        *_leaks("row selection", "bars left out by a later return", _of_source("selected"), "replay", "sound_replay", SCOPES[:3]),
    ]


# Stamps and availability: a source that says too early what it knows


def _stamp_leaks() -> list[Leak]:
    leaks = []
    for mechanism, names in (("stamps", STAMPS), ("availability", AVAILABILITY)):
        for name in names:
            if name == PARTLY:
                continue
            # On the other day the settlement is before the minute at which the source is asked again.
            scopes = (ONE_DAY,) if name == "funding_before_settlement" else SCOPES[:3]
            text = name.replace("_", " ").replace("days", "day's").replace("hours", "hour's")
            leaks += _leaks(mechanism, text, _of_source(name), "replay", "sound_replay", scopes)
    leaks += _leaks("stamps", "local time under the name of UTC", _of_source("shifted"), "replay", "sound_replay", SCOPES[:3])
    return leaks


def _availability_leaks() -> list[Leak]:
    def whole_day(values: np.ndarray, bars: Bars) -> np.ndarray:
        days = bars["event_time"] // (1440 * MINUTE_MS)
        return pd.Series(values).groupby(days).transform("min").to_numpy()

    leaks = []
    for scope in (ONE_FEATURE, ONE_SYMBOL, ONE_DAY, ONE_ROW):

        def inject(case: Case, scope=scope) -> None:
            outage = case.bars["event_time"].dt.hour == 23
            case.bars.loc[outage, "liquidation_available"] = 0.0
            case.change_feature(whole_day, scope, ("liquidation_available",))

        name = "flag of the day in every minute"
        leaks.append(_of_features("availability", name, scope, inject))
    return leaks


# Membership: rows that are another's, or before their symbol's time


def _of_another(table: pa.Table, mask: np.ndarray) -> pa.Table:
    """The rows of a mask with the values of another symbol's row of the same minute."""
    others = np.roll(np.arange(len(table)), len(table) // 2)
    taken = np.where(mask, others, np.arange(len(table)))
    for name in FEATURE_ORDER:
        table = _set(table, name, table[name].to_numpy()[taken])
    return table


def _renamed(table: pa.Table, mask: np.ndarray) -> pa.Table:
    symbols = table["symbol"].to_numpy(zero_copy_only=False)
    return _set(table, "symbol", np.where(mask, np.where(symbols == BTC, ETH, BTC), symbols))


def _by_time(table: pa.Table, mask: np.ndarray) -> pa.Table:
    """Values sorted by time alone, so that rows of one minute stand as it happened, beside ids sorted by symbol and time."""
    order = np.argsort(table["open_time_ms"].to_numpy(), kind="stable")
    for name in FEATURE_ORDER:
        values = table[name].to_numpy()
        table = _set(table, name, np.where(mask, values[order], values))
    return table


def _listed_later(case: Case) -> None:
    """ETHUSDT is listed on D1, but the frame takes all symbols on all dates."""
    case.settings["SYMBOLS"] = f"{BTC},{ETH}:{D1}.."
    members = feature_frame._read

    def everybody(store, keys):
        return members(store, [Key(keys[0].date, symbol) for symbol in (BTC, ETH)])

    case.patch.setattr(feature_frame, "_read", everybody)


def _unlisted_after_all(case: Case) -> None:
    """A store with rows of both; then ETHUSDT turns out to be listed on D1 only, and the manifest is asked for again."""
    case.sound()
    case.settings["SYMBOLS"] = case.graph.variables["SYMBOLS"] = f"{BTC},{ETH}:{D1}.."


def _symbol_twice(case: Case) -> None:
    case.settings["SYMBOLS"] = f"{BTC},{ETH},{BTC}"


def _membership_leaks() -> list[Leak]:
    frame = "feature_frame"
    return [
        *_leaks("membership", "values of another symbol's row", _changing(_of_another), frame, "no_split_leak"),
        *_leaks("membership", "row under another symbol's name", _changing(_renamed), frame, "no_split_leak"),
        *_leaks("membership", "ties of time sorted as it happens", _changing(_by_time), frame, "no_split_leak"),
        *_leaks("membership", "two rows a minute", _of_source("twice"), "replay", "sound_replay"),
        Leak(
            "membership", "symbol before its listing in the frame", "one day", _listed_later, (f"{frame}/{D0}",), "refused input"
        ),
        Leak(
            *("membership", "symbol before its listing in an older frame", "one day", _unlisted_after_all),
            *(("feature_manifest/all",), "matches_store"),
            act=materialize("feature_manifest"),
        ),
        Leak("membership", "symbol given twice", "one symbol", _symbol_twice, (), "settings", says="SYMBOLS"),
    ]


# Splits


def _splits_setting(splits: str, **settings: str) -> Callable[[Case], None]:
    def inject(case: Case) -> None:
        case.settings |= {"SPLITS": splits, **settings}

    return inject


def _assigning(change: Callable[..., tuple[pa.Array, pa.Array]], **settings: str):
    def inject(case: Case) -> None:
        case.settings |= settings
        assign = SplitManifest.assign
        case.patch.setattr(SplitManifest, "assign", lambda manifest, times: change(manifest, times, assign))

    return inject


def _no_embargo(manifest, times, assign):
    return assign(SplitManifest(manifest.splits, 0, manifest.walk_forward_folds), times)


def _no_fold_embargo(manifest, times, assign):
    splits, folds = assign(manifest, times)
    bare = assign(SplitManifest(manifest.splits, 0, manifest.walk_forward_folds), times)[1]
    return splits, pc.if_else(pc.equal(splits, "FIT"), bare, folds)


def _in_fit(table: pa.Table, mask: np.ndarray) -> pa.Table:
    splits = table["split_id"].to_numpy(zero_copy_only=False)
    return _set(table, "split_id", np.where(mask & (splits == "TUNE"), "FIT", splits))


def _again_in_fit(table: pa.Table, mask: np.ndarray) -> pa.Table:
    rows = table.filter(pa.array(mask))
    return pa.concat_tables([table, _set(rows, "split_id", ["FIT"] * len(rows))])


def _future(table: pa.Table, horizon: int) -> np.ndarray:
    """The return over the next rows, symbol by symbol."""
    values = np.full(len(table), np.nan)
    symbols = table["symbol"].to_numpy(zero_copy_only=False)
    for symbol in np.unique(symbols):
        rows = np.flatnonzero(symbols == symbol)
        path = np.cumprod(1.0 + np.nan_to_num(table["ret_1m_bps"].to_numpy()[rows].astype(float)) / 1e4)
        values[rows[:-horizon]] = path[horizon:] / path[:-horizon] - 1.0
    return values


def _label_column(table: pa.Table, mask: np.ndarray) -> pa.Table:
    return table.append_column("future_return_5m", pa.array(_future(table, 5)))


def _label_instead(horizon: int, name: str) -> Callable[[pa.Table, np.ndarray], pa.Table]:
    return lambda table, mask: _set(table, name, np.where(mask, _future(table, horizon) * 1e4, table[name].to_numpy()))


def _label_in_features(case: Case, scope: Scope) -> None:
    def future(values: np.ndarray, bars: Bars) -> np.ndarray:
        close = bars["close"]
        return np.append(close[60:] / close[:-60] - 1.0, np.zeros(min(60, len(close))))[: len(close)]

    case.change_feature(future, scope)


def _moved_lock(case: Case) -> None:
    case.sound()
    case.graph.variables["SPLITS"] = f"FIT:{D0}..{D1},TUNE:{D1}..{D1}T18:00,VALIDATION_LOCKED:{D1}T18:00..{D2}"


def _other_locked_row(case: Case) -> None:
    case.sound()
    bars = case.bars.copy()
    bars.loc[(bars["symbol"] == BTC) & (bars["event_time"] == pd.Timestamp(f"{D1} 20:00", tz="UTC")), "volume"] += 1.0
    case.change_bars(bars)


def _fitted(date: str) -> Callable[[Case], None]:
    def inject(case: Case) -> None:
        from feature_assets import definitions

        fitted = tuple(
            dataclasses.replace(f, fitted_on=dt.date.fromisoformat(date)) if f.name == "spread_bps" else f for f in FEATURES
        )
        case.patch.setattr(definitions, "FEATURES", fitted)

    return inject


HAS_FITTED_ON = "fitted_on" in Feature.__dataclass_fields__


def _split_leaks() -> list[Leak]:
    frame, check = "feature_frame", "no_split_leak"
    hours = {"SPLITS": f"FIT:{D0}..{D0}T12:00,TUNE:{D0}T12:00..{D1}T12:00,VALIDATION_LOCKED:{D1}T12:00..{D2}"}
    first, both = (f"{frame}/{D0}",), (f"{frame}/{D0}", f"{frame}/{D1}")
    embargo = hours | {"EMBARGO_MINUTES": "60"}
    folds = embargo | {"WALK_FORWARD_FOLDS": "3"}
    wrong_day = f"FIT:{D0}..{D1},TUNE:{D0}T23:59..{D2}"
    turned = f"VALIDATION_LOCKED:{D0}..{D1},FIT:{D1}..{D2}"

    def local(manifest, times, assign):
        return assign(manifest, times + 8 * 60 * MINUTE_MS)

    leaks = [
        Leak("splits", "overlap", "one row", _splits_setting(wrong_day), (), "settings", says="overlaps"),
        Leak("splits", "VALIDATION_LOCKED before FIT", "everywhere", _splits_setting(turned), (), "settings", says="order"),
        Leak("splits", "embargo left out", "everywhere", _assigning(_no_embargo, **embargo), both, check, says="split_id"),
        Leak("splits", "embargo left out between folds", "one day", _assigning(_no_fold_embargo, **folds), first, check),
        Leak("splits", "boundaries in local time", "everywhere", _assigning(local, **hours), both, check, says="split_id"),
        *_leaks("splits", "TUNE rows in FIT", _changing(_in_fit), frame, check, (ONE_SYMBOL, ONE_DAY, ONE_ROW)),
        *_leaks("splits", "row again in another split", _changing(_again_in_fit), frame, check, says="there twice"),
        *_leaks("splits", "label column", _changing(_label_column), frame, check, (EVERYWHERE,), says="extra"),
        *_leaks("splits", "label in the frame under another name", _changing(_label_instead(60, "spread_bps")), frame, check),
        *_leaks(
            *("splits", "label of a minute under another name", _changing(_label_instead(1, "level1_ofi_1m")), frame, check),
            scopes=(ONE_FEATURE,),
        ),
        Leak(
            "splits",
            "label in a replay column",
            "one feature",
            _in_bars(_label_in_bars),
            both,
            check,
            says="is a label",
        ),
        *_leaks("splits", "label among the features", _label_in_features, "symbol_features", "no_lookahead", (ONE_FEATURE,)),
        Leak(
            *("splits", "VALIDATION_LOCKED moved", "everywhere", _moved_lock, ("split_manifest/all",), "validation_lock"),
            act=materialize("split_manifest"),
        ),
        Leak(
            "splits",
            "locked row exchanged",
            "one row",
            _other_locked_row,
            (f"{frame}/{D1}",),
            check,
            says="locked rows would change",
        ),
    ]
    # Where `for ... in` leaves the mask of a scope without TUNE rows, the date is sound.
    leaks = [_on(leak, f"{frame}/{D1}") if leak.name == "TUNE rows in FIT" else leak for leak in leaks]
    if HAS_FITTED_ON:
        for split, date in (("TUNE", str(dt.date.fromisoformat(D1) + dt.timedelta(days=1))), ("VALIDATION_LOCKED", "2025-04-01")):
            leaks.append(
                Leak("splits", f"constant fitted on {split}", "one feature", _fitted(date), (), "settings", says="fitted_on")
            )
    return leaks


def _on(leak: Leak, *where: str) -> Leak:
    return dataclasses.replace(leak, where=where)


# Readers: a locked row through a documented door


def _locked_in_fit(table: pa.Table, mask: np.ndarray) -> pa.Table:
    splits = table["split_id"].to_numpy(zero_copy_only=False)
    return _set(table, "split_id", np.where(mask & (splits == "VALIDATION_LOCKED"), "FIT", splits))


def _stray_file(case: Case, scope: Scope) -> None:
    """Locked rows that are called FIT in a second file beside a published one, where every reader of folders looks."""
    graph = case.sound()
    rows = lock.locked_rows(graph.store.read_table("feature_frame", Key.parse(D1)))
    rows = rows.slice(0, 1) if scope is ONE_ROW else rows
    path = case.folder / f"store/feature_frame/date={D1}/part-1.parquet"
    pq.write_table(_set(rows, "split_id", ["FIT"] * len(rows)), path)


def _reader_leaks() -> list[Leak]:
    frame = "feature_frame"
    labelled = [
        _on(leak, f"{frame}/{D1}")
        for leak in _leaks(
            "readers",
            "locked rows called FIT",
            _changing(_locked_in_fit),
            frame,
            "no_split_leak",
            (EVERYWHERE, ONE_SYMBOL, ONE_DAY),
        )
    ]
    last = Scope("one row", ONE_ROW.rows, ONE_ROW.keys)

    def boundary(table: pa.Table, mask: np.ndarray) -> pa.Table:
        return _locked_in_fit(table, table["open_time_ms"].to_numpy() == pd.Timestamp(f"{D1} 16:00", tz="UTC").value // 10**6)

    stray = [
        Leak(
            *("readers", "locked rows in a file beside the frame's", scope.name, functools.partial(_stray_file, scope=scope)),
            *(("feature_manifest/all",), "matches_store"),
            act=materialize("feature_manifest"),
        )
        for scope in (ONE_DAY, ONE_ROW)
    ]
    doors_left_open = [
        Leak(
            *("readers", name, scope, inject, (), "no documented way to read gives a locked row that no ledger has", TESTS),
            act=doors.open_doors,
        )
        for name, scope, inject in doors.READERS
    ]
    return [
        *labelled,
        *_leaks("readers", "first locked row called FIT", _changing(boundary), frame, "no_split_leak", (last,)),
        *stray,
        *doors_left_open,
    ]


def _report_leaks() -> list[Leak]:
    return [
        Leak(
            *("reports", name, scope, inject, (), "stores that differ in locked rows alone show the same", TESTS),
            act=act,
        )
        for name, scope, inject, act in doors.REPORTS
    ]


# Stale partitions


def _other_replay(rows: Callable[[pd.DataFrame], pd.Series], key: str, last: str | None = None) -> Callable[[Case], None]:
    """A sound store, then other bars, of which replay alone is built again."""

    def inject(case: Case) -> None:
        graph = case.sound()
        bars = case.bars.copy()
        bars.loc[rows(bars), "volume"] += 1.0
        case.change_bars(bars)
        assert graph.materialize("replay", key, last).success
        case.before = graph.files()

    return inject


def _other_settings(**settings: str) -> Callable[[Case], None]:
    def inject(case: Case) -> None:
        case.sound().variables.update(settings)

    return inject


def _older_code(case: Case) -> None:
    """A store of an older formula of one feature."""
    with case.patch.context() as patch:
        patch.setattr(symbol_features, "FEATURE_VERSION", "older")
        case.sound()


def _rewrite(asset: str, key: str, rows: int, *, honest: bool) -> Callable[[Case], None]:
    """A sound store, of which a file has other values, and a footer that tells so or not."""

    def inject(case: Case) -> None:
        graph = case.sound()
        table, footer = graph.store.read(asset, Key.parse(key))
        values = table["spread_bps"].to_numpy().copy()
        values[ROW : ROW + rows] = values[ROW + 60 : ROW + 60 + rows]
        table = _set(table, "spread_bps", values)
        found = feature_frame.content_hash(table) if honest else footer.content_hash
        graph.store.publish(
            asset, Key.parse(key), table, Footer(found, footer.code_version, footer.inputs, footer.stats, footer.locked_hash)
        )
        case.before = graph.files()

    return inject


def _other_splits(case: Case) -> None:
    graph = case.sound()
    graph.variables["SPLITS"] = SPLITS.replace(f"FIT:{D0}..{D1}", f"FIT:{D0}..{D0}T12:00")
    assert graph.materialize("split_manifest").success
    case.before = graph.files()


def _frame_after_manifest(case: Case) -> None:
    _other_splits(case)
    assert case.graph.materialize("feature_frame", D0).success
    case.before = case.graph.files()


def _stale_leaks() -> list[Leak]:
    def btc_row(bars: pd.DataFrame) -> pd.Series:
        return (bars["symbol"] == BTC) & (bars["event_time"] == pd.Timestamp(f"{D1} 11:40", tz="UTC"))

    def a_day(bars: pd.DataFrame) -> pd.Series:
        return bars["event_time"].dt.date == dt.date.fromisoformat(D1)

    manifest, key = ("feature_manifest/all",), f"{D1}|{BTC}"
    frame = (f"feature_frame/{D1}",)
    asked = materialize("feature_manifest")
    return [
        Leak(
            "stale",
            "features of another replay",
            "one row",
            _other_replay(btc_row, key),
            frame,
            "staleness",
            act=materialize("feature_frame", D1),
        ),
        Leak(
            "stale",
            "features of another replay",
            "one day",
            _other_replay(a_day, f"{D1}|{BTC}", f"{D1}|{ETH}"),
            frame,
            "staleness",
            act=materialize("feature_frame", D1),
        ),
        Leak(
            "stale",
            "frame of another replay",
            "one symbol",
            _other_replay(lambda b: b["symbol"] == ETH, f"{D0}|{ETH}", f"{D1}|{ETH}"),
            manifest,
            "matches_store",
            act=asked,
        ),
        Leak("stale", "features of older code", "one feature", _older_code, manifest, "matches_store", act=asked),
        Leak(
            "stale",
            "features of other options",
            "everywhere",
            _other_settings(GAPS="restart"),
            manifest,
            "matches_store",
            act=asked,
        ),
        Leak("stale", "frames of another split manifest", "everywhere", _other_splits, manifest, "matches_store", act=asked),
        Leak(
            "stale",
            "report on other frames than the manifest's",
            "one day",
            _frame_after_manifest,
            ("quality_report/all",),
            "staleness",
            act=materialize("quality_report"),
        ),
        Leak(
            "stale",
            "frame file exchanged",
            "one row",
            _rewrite("feature_frame", D1, 1, honest=False),
            manifest,
            "matches_store",
            act=asked,
        ),
        Leak(
            "stale",
            "features' file exchanged",
            "one row",
            _rewrite("symbol_features", key, 1, honest=False),
            frame,
            "no_split_leak",
            act=materialize("feature_frame", D1),
        ),
        Leak(
            "stale",
            "features' file and footer exchanged",
            "one symbol",
            _rewrite("symbol_features", key, 600, honest=True),
            manifest,
            "matches_store",
            act=asked,
        ),
    ]


# What is known not to be caught

PARTLY = "five_minute_open_interest_before_its_end"


def _in_bars(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Case], None]:
    """A leak that the replay table already holds."""

    def inject(case: Case) -> None:
        case.bars = change(case.bars)

    return inject


def _future_of(bars: pd.DataFrame, rows: int) -> pd.Series:
    """The return of the close over the next rows, symbol by symbol."""
    close = bars.groupby("symbol")["close"]
    return (close.shift(-rows) / bars["close"] - 1.0).fillna(0.0)


def _interest_early(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.assign(open_interest=bars.groupby("symbol")["open_interest"].shift(-1).ffill())


def _label_in_bars(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.assign(spread_bps=_future_of(bars, 30) * 1e4)


def _sign_in_bars(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.assign(level1_ofi_1m=np.sign(_future_of(bars, 30)))


def _label_of_another(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.assign(spread_bps=np.roll(_future_of(bars, 30).to_numpy(), len(bars) // 2) * 1e4)


def _names_swapped(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.assign(symbol=bars["symbol"].map({BTC: ETH, ETH: BTC}))


def _minute_missing(bars: pd.DataFrame) -> pd.DataFrame:
    return bars.drop(index=ROW)


def _fitted_in_silence(case: Case) -> None:
    locked = case.bars["event_time"] >= pd.Timestamp(f"{D1} 16:00", tz="UTC")
    centre = float(case.bars.loc[locked, "level1_ofi_1m"].median())
    case.change_feature(lambda values, bars: values - centre, ONE_FEATURE)


def _reads_a_file(case: Case) -> None:
    """A feature that takes the next minute's value from a file, whatever bars it is given."""
    later = {symbol: rows.set_index("open_time_ms")["level1_ofi_1m"].shift(-1) for symbol, rows in case.bars.groupby("symbol")}

    def change(values: np.ndarray, bars: Bars) -> np.ndarray:
        symbol = BTC if bars["close"][0] > 10_000.0 else ETH
        return later[symbol].reindex(bars["event_time"].astype(np.int64)).to_numpy()

    case.change_feature(change, ONE_FEATURE)


def _setting(**settings: str) -> Callable[[Case], None]:
    def inject(case: Case) -> None:
        case.settings |= settings

    return inject


def _read_below(case: Case) -> str:
    """Locked rows of layers that know no split, and of the report's sample, read with another tool."""
    names = [f"symbol_features/symbol={BTC}/date={D1}/part-0.parquet", "dataset/frame_sample.parquet"]
    assert all(pq.ParquetFile(case.folder / "store" / name).metadata.num_rows > 960 for name in names)
    assert not lock.read_lock(case.graph.store).looks
    return ""


def _missed(
    sentence: str, inject: Callable[[Case], None], scope: str = "everywhere", act: Callable[[Case], str] = run_build
) -> Leak:
    return Leak("missed", sentence, scope, inject, (), "", NOBODY, act)


MISSED: tuple[Leak, ...] = (
    _missed(
        "a value that a replay table already holds too early: a Parquet table does not say when a record was known",
        _in_bars(_interest_early),
    ),
    _missed("a sign, or a few classes, of a future return that a replay column already holds", _in_bars(_sign_in_bars)),
    _missed("a future return of another market that a replay column already holds", _in_bars(_label_of_another)),
    _missed(
        "a record of a source with as_of that stands too early, on days whose one minute of proof does not fall between the two "
        "(a five-minute record on a day in five; the other days are refused)",
        functools.partial(_of_source(PARTLY), scope=ONE_DAY),
        "one day",
    ),
    _missed(
        "the same in single rows that the minute of proof is not next to: the audit does not ask a source again",
        functools.partial(_of_source("open_interest_a_minute_early"), scope=ONE_ROW),
        "one row",
    ),
    _missed("a day that a source calls absent by hindsight", functools.partial(_of_source("hindsight"), scope=EVERYWHERE)),
    _missed("bars that a source gives under another symbol's name", _in_bars(_names_swapped)),
    _missed("symbols that SYMBOLS names by hindsight, such as those that are still traded", _setting(SYMBOLS=BTC)),
    _missed(
        "rows of an incomplete day, left out though that is known at its end only (the report counts them)",
        _in_bars(_minute_missing),
        "one day",
    ),
    _missed("a constant that was fitted on later data and does not say so", _fitted_in_silence, "one feature"),
    _missed(
        "a feature that takes values from a file of its own instead of the bars that it is given", _reads_a_file, "one feature"
    ),
    _missed("the synthetic market's next midnight, towards which its paths are drawn", _setting(SOURCE="synthetic")),
    _missed(
        "locked rows read with another tool from replay, symbol_features, dataset/frame_sample.parquet or quarantine",
        Case.sound,
        act=_read_below,
    ),
)

LEAKS: tuple[Leak, ...] = (
    *_value_leaks(),
    *_selection_leaks(),
    *_stamp_leaks(),
    *_availability_leaks(),
    *_membership_leaks(),
    *_split_leaks(),
    *_reader_leaks(),
    *_report_leaks(),
    *_stale_leaks(),
)


def run_one(number: int) -> Found:
    """Run a leak of LEAKS in a folder of its own that is gone afterwards; Dagster's account of the runs is left out."""
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        warnings.catch_warnings(),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        return run_leak(LEAKS[number], Path(folder) / "leak", patch)


# What became of them, for the report and the README


def entry(leak: Leak, found: Found) -> dict[str, str]:
    """A leak's object in corpus.json."""
    return {"mechanism": leak.mechanism, "leak": leak.name, "scope": leak.scope, "caught_by": found.by, "check": found.check}


def corpus_json(entries: Sequence[Mapping[str, str]]) -> str:
    return json.dumps({"leaks": list(entries), "missed": [leak.name for leak in MISSED]}, indent=1) + "\n"


def readme_table(corpus: Mapping[str, Any]) -> str:
    """The README's table and list, with their markers around them."""
    rows = rows_of(corpus["leaks"])
    rows.append({"mechanism": "all", **{name: sum(int(str(row[name])) for row in rows) for name in ("injected", *SUMS)}})
    cells = [
        (row["mechanism"], f"{sum(int(str(row[who])) for who in SUMS)} of {row['injected']}", *(row[who] for who in SUMS))
        for row in rows
    ]
    head = [
        "| mechanism | caught of injected | by the build | by the audit, at every minute | by the tests |",
        "|---|---|---|---|---|",
    ]
    lines = [*head, *(f"| {' | '.join(map(str, row))} |" for row in cells), "", "Known not to be caught:", ""]
    return "\n".join([BEGIN, "", *lines, *(f"- {sentence}" for sentence in corpus["missed"]), "", END])


def written(readme: str, corpus: Mapping[str, Any]) -> str:
    """The README with the corpus's table in it."""
    before, _, rest = readme.partition(BEGIN)
    return before + readme_table(corpus) + rest.partition(END)[2]


def main() -> int:
    """Run every leak and write corpus.json and the README's table; 1 where one was not caught as it has to be."""
    entries, wrong = [], 0
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for leak, found in zip(LEAKS, pool.map(run_one, range(len(LEAKS))), strict=True):
            entries.append(entry(leak, found))
            ok = (found.by, found.check) == (leak.by, leak.check)
            wrong += not ok
            print("ok   " if ok else "WRONG", leak.title, "-", found.by, found.check, "" if ok else found.text[:300], flush=True)
    if "--write" in sys.argv:
        CORPUS_FILE.write_text(corpus_json(entries), encoding="utf-8")
        README.write_text(written(README.read_text(encoding="utf-8"), json.loads(corpus_json(entries))), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
