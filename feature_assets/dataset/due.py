"""What the sensor has to ask for now: the first layer that has dates to build, in bounded ranges.

It looks at the store and the source alone. A partition that was refused is due again once its inputs or the code have
changed; one whose inputs are refused, or not published yet, is not due.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from feature_assets.dataset import lock
from feature_assets.dataset.examination import last_examination
from feature_assets.dataset.feature_frame import frame_code_version
from feature_assets.dataset.feature_manifest import examine_store
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.plan import look_back_keys, rectangles, symbol_dates
from feature_assets.dataset.replay import replay_code_version, replay_fingerprint
from feature_assets.dataset.store import (
    FEATURE_FRAME,
    FEATURE_MANIFEST,
    QUALITY_REPORT,
    REPLAY,
    SPLIT_MANIFEST,
    SYMBOL_FEATURES,
    Store,
)
from feature_assets.dataset.symbol_features import features_code_version, look_back_inputs
from feature_assets.errors import FeatureAssetsError, SourceError
from feature_assets.market.sources import NOT_YET, Source, read_days
from feature_assets.settings import Settings

_MOST_DATES = 31
"""Dates that one run covers at most, so that an outage's backlog is not one run of hours."""


@dataclass(frozen=True)
class Request:
    """A run to ask for: its assets and, where they are partitioned, the first and the last key of its range."""

    assets: tuple[str, ...]
    first: Key | None = None
    last: Key | None = None


def publication_delay(source: Source) -> dt.timedelta:
    """How long after a day's end the source has it; a source without the attribute has it at once."""
    delay: dt.timedelta = getattr(source, "publication_delay", dt.timedelta())
    return delay


def due_requests(store: Store, source: Source, settings: Settings, now: dt.datetime) -> list[Request]:
    """The runs of the first layer that has something to build for the dates published by `now`, in date order."""
    published = (now - publication_delay(source)).date()
    end = published if settings.end is None else min(published, settings.end)
    if end <= settings.start:
        return []
    if lock.splits_are_due(store, settings.splits):
        return [Request((SPLIT_MANIFEST,))]
    for asset, keys in (
        (REPLAY, _replay(store, source, settings, end)),
        (SYMBOL_FEATURES, _symbol_features(store, settings, end)),
        (FEATURE_FRAME, _feature_frame(store, settings, end)),
    ):
        if requests := list(_bounded(asset, list(keys), settings.symbol_names)):
            return requests
    return [Request((FEATURE_MANIFEST, QUALITY_REPORT))] if _manifest_is_due(store, settings) else []


def _replay(store: Store, source: Source, settings: Settings, end: dt.date) -> Iterator[Key]:
    version, there = replay_code_version(source), set(store.keys(REPLAY))
    own = symbol_dates(settings, settings.start, end)
    for key in sorted([*look_back_keys(own), *own], key=str):
        refusal = store.refusal(REPLAY, key)
        if refusal is not None:
            if (refusal.code_version, refusal.inputs) != (version, {"source": replay_fingerprint(source, settings, key)}):
                yield key
        elif key not in there and not _is_not_yet(source, settings, key):
            yield key


def _is_not_yet(source: Source, settings: Settings, key: Key) -> bool:
    if key.symbol is None or key.symbol not in settings.members(key.date):
        return False
    try:
        ((_, answer),) = read_days(source, key.symbol, key.date, key.date + ONE_DAY)
    except SourceError:
        return False
    return answer is NOT_YET


def _symbol_features(store: Store, settings: Settings, end: dt.date) -> Iterator[Key]:
    version, there = features_code_version(settings.options), set(store.keys(SYMBOL_FEATURES))
    for key in symbol_dates(settings, settings.start, end):
        refusal = store.refusal(SYMBOL_FEATURES, key)
        if key in there and refusal is None:
            continue
        try:
            inputs = look_back_inputs(store, key, settings.options)
        except FeatureAssetsError:
            continue
        if refusal is None or (refusal.code_version, refusal.inputs) != (version, inputs):
            yield key


def _feature_frame(store: Store, settings: Settings, end: dt.date) -> Iterator[Key]:
    version, there = frame_code_version(), set(store.keys(FEATURE_FRAME))
    for key in (Key(date) for date in dates(settings.start, end) if settings.members(date)):
        refusal = store.refusal(FEATURE_FRAME, key)
        if key in there and refusal is None:
            continue
        names = [SPLIT_MANIFEST, *(f"{SYMBOL_FEATURES}/{Key(key.date, symbol)}" for symbol in settings.members(key.date))]
        try:
            inputs = {name: store.input_hash(name) for name in names} | lock.lock_input(store, key)
        except FeatureAssetsError:
            continue
        if refusal is None or (refusal.code_version, refusal.inputs) != (version, inputs):
            yield key


def _manifest_is_due(store: Store, settings: Settings) -> bool:
    """Whether there are frames that the manifest does not name as they are, or what it was refused for has changed."""
    if refusal := store.refusal(FEATURE_MANIFEST, None):
        return bool(store.keys(FEATURE_FRAME)) and examine_store(store, settings).message != refusal.reason
    last = last_examination(store)
    if not last.there:
        return False
    held = lock.read_lock(store)
    if (held.amendments, held.looks) != (last.manifest.get("amendments", []), last.manifest.get("looks", [])):
        return True
    return last.named != last.contents(store)


def _bounded(asset: str, keys: Sequence[Key], symbols: Sequence[str]) -> Iterator[Request]:
    """`keys` as requests of at most _MOST_DATES dates, in date order."""
    if not keys:
        return
    first = min(key.date for key in keys)
    blocks: dict[int, list[Key]] = {}
    for key in keys:
        blocks.setdefault((key.date - first).days // _MOST_DATES, []).append(key)
    for _, block in sorted(blocks.items()):
        for begin, end in rectangles(block, symbols):
            yield Request((asset,), begin, end)
