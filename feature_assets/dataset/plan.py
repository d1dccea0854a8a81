"""What a build of a range has to touch beside the range itself: look-back before it, and published days after it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.replay import replay_code_version, replay_fingerprint
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SYMBOL_FEATURES, Store
from feature_assets.dataset.symbol_features import look_back_inputs
from feature_assets.errors import FeatureAssetsError, MissingInputError, RefusedInputError, StaleInputError, StoreError
from feature_assets.features.catalogue import LOOKBACK_DAYS
from feature_assets.market.sources import Source
from feature_assets.settings import Settings


def symbol_dates(settings: Settings, start: dt.date, end: dt.date) -> list[Key]:
    """Every member's partitions of [start, end)."""
    return [Key(date, symbol) for date in dates(start, end) for symbol in settings.members(date)]


def look_back_keys(keys: Sequence[Key]) -> list[Key]:
    """The replay that the features of `keys` may look back to, without `keys` themselves.

    A symbol that joins in the middle of a range has look-back days of its own, which are absent.
    """
    own = set(keys)
    back = {Key(key.date - days * ONE_DAY, key.symbol) for key in own for days in range(1, LOOKBACK_DAYS + 1)}
    return sorted(back - own, key=str)


def outdated_replay(store: Store, source: Source, settings: Settings, keys: Sequence[Key]) -> list[Key]:
    """Those of `keys` whose replay is missing, refused, or from other raw data or code than there is now."""
    version = replay_code_version(source)
    return [key for key in keys if _is_outdated(store, source, settings, version, key)]


def _is_outdated(store: Store, source: Source, settings: Settings, version: str, key: Key) -> bool:
    if store.refusal(REPLAY, key):
        return True
    try:
        footer = store.footer(REPLAY, key)
        if footer is None or footer.code_version != version:
            return True
        return footer.inputs["source"] != replay_fingerprint(source, settings, key)
    except StoreError:
        return True


def stale(store: Store, asset: str, keys: Iterable[Key], code_version: str) -> list[Key]:
    """Those of `keys` of an asset that are published and that other inputs or other code made than there are now."""
    return [key for key in keys if _is_stale(store, asset, key, code_version)]


def _is_stale(store: Store, asset: str, key: Key, code_version: str) -> bool:
    """Whether there is a partition to be built again; refused or missing inputs are not for a build to mend."""
    try:
        footer = store.footer(asset, key)
        if footer is None:
            return False
        if footer.code_version != code_version:
            return True
        store.input_hash(f"{asset}/{key}")
    except (StaleInputError, StoreError):
        return True
    except (MissingInputError, RefusedInputError):
        return False
    return False


def holes(store: Store, asset: str, settings: Settings, start: dt.date, end: dt.date, last: dt.date) -> list[Key]:
    """The missing partitions of [end, last) that lie before a published one, look back into [start, end) and can be built.

    A refused day leaves them in the middle of a range: what is mended by building that day again mends them, too.
    """
    wanted = [Key(date) for date in dates(end, last)] if asset == FEATURE_FRAME else symbol_dates(settings, end, last)
    missing = [key for key in wanted if not store.exists(store.partition_file(asset, key))]
    newest = {symbol: store.newest(asset, symbol) for symbol in {key.symbol for key in missing}}
    return [
        key
        for key in missing
        if (later := newest[key.symbol]) and key.date < later.date and _looks_back_into(store, key, settings, start, end)
    ]


def _looks_back_into(store: Store, key: Key, settings: Settings, start: dt.date, end: dt.date) -> bool:
    """Whether a partition reads replay of [start, end) and has all that it reads."""
    members = [key] if key.symbol else [Key(key.date, symbol) for symbol in settings.members(key.date)]
    try:
        read = [name for member in members for name in look_back_inputs(store, member, settings.options)]
        if key.symbol is None:
            for member in members:
                store.input_hash(f"{SYMBOL_FEATURES}/{member}")
    except FeatureAssetsError:
        return False
    return any(start <= Key.parse(name.partition("/")[2]).date < end for name in read)


def rectangles(keys: Sequence[Key], symbols: Sequence[str]) -> list[tuple[Key, Key]]:
    """`keys` as ranges (first, last) of consecutive dates, over neighbours in `symbols` where these have the same dates.

    A range run of Dagster covers every date and symbol between its two keys.
    """
    found: list[tuple[Key, Key]] = []
    by_symbol: dict[str | None, list[dt.date]] = {}
    for key in sorted(keys, key=str):
        by_symbol.setdefault(key.symbol, []).append(key.date)
    runs = [(run, symbol) for symbol, days in by_symbol.items() for run in _runs(days)]
    place = {symbol: number for number, symbol in enumerate(symbols)}
    for (first, last), symbol in sorted(runs, key=lambda item: (item[0], place.get(item[1] or "", 0))):
        if found and symbol is not None:
            begin, end = found[-1]
            if (begin.date, end.date) == (first, last) and place[end.symbol or ""] + 1 == place[symbol]:
                found[-1] = (begin, Key(last, symbol))
                continue
        found.append((Key(first, symbol), Key(last, symbol)))
    return found


def _runs(days: Sequence[dt.date]) -> list[tuple[dt.date, dt.date]]:
    runs: list[tuple[dt.date, dt.date]] = []
    for day in days:
        if runs and day == runs[-1][1] + ONE_DAY:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs
