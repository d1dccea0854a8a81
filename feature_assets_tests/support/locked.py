"""Stores with a locked split, built without Dagster: a replay table, its settings, and what building it gave."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd

from feature_assets.dataset.feature_frame import build_feature_frame
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.lock import Lock, hidden_from, publish_splits, read_lock
from feature_assets.dataset.outcomes import Outcome, Published
from feature_assets.dataset.plan import symbol_dates
from feature_assets.dataset.replay import build_replay
from feature_assets.dataset.store import Store
from feature_assets.dataset.symbol_features import build_symbol_features
from feature_assets.features.catalogue import LOOKBACK_DAYS
from feature_assets.market.sources import load_source
from feature_assets.settings import Settings, load_settings
from feature_assets_tests.support.replays import START

DAYS = [str(START + dt.timedelta(days=number)) for number in range(8)]
SPLITS = f"FIT:{DAYS[0]}..{DAYS[1]},TUNE:{DAYS[1]}..{DAYS[2]},VALIDATION_LOCKED:{DAYS[2]}..{DAYS[4]}"


class LockedStore:
    """A store of a folder; `bars` and `variables` may be changed between builds."""

    def __init__(self, folder: Path, bars: pd.DataFrame, **variables: str) -> None:
        self.folder, self.bars = folder, bars
        symbols = ",".join(sorted(bars["symbol"].unique()))
        days = bars["event_time"].dt.date
        span = {"START_DATE": str(days.min()), "END_DATE": str(days.max() + ONE_DAY)}
        self.variables = {"SYMBOLS": symbols, **span, "SPLITS": SPLITS, **variables}
        folder.mkdir(exist_ok=True)

    @property
    def settings(self) -> Settings:
        values = {"ROOT": str(self.folder / "store"), "SOURCE": f"parquet:{self.folder / 'replay.parquet'}", **self.variables}
        return load_settings({f"FEATURE_ASSETS_{name}": value for name, value in values.items()}, self.folder)

    @property
    def store(self) -> Store:
        return Store(str(self.folder / "store"))

    @property
    def lock(self) -> Lock:
        return read_lock(self.store)

    def below(self) -> list[Outcome]:
        """Build replay and features of all dates from the bars as they are now."""
        self.bars.to_parquet(self.folder / "replay.parquet", index=False, row_group_size=1440)
        settings, store = self.settings, self.store
        source = load_source(settings.source).source
        pairs = symbol_dates(settings, settings.start, settings.end_date())
        before = symbol_dates(settings, settings.start - LOOKBACK_DAYS * ONE_DAY, settings.start)
        found = list(build_replay(store, source, settings, before + pairs))
        return found + list(build_symbol_features(store, settings.options, pairs, hidden_from(store, settings.splits)))

    def frames(self, *days: str) -> list[Outcome]:
        """Build the frames of some dates, by default all; the split manifest must be there."""
        settings = self.settings
        keys = [Key.parse(day) for day in days] or [Key(day) for day in dates(settings.start, settings.end_date())]
        return list(build_feature_frame(self.store, settings, keys))

    def build(self) -> list[Outcome]:
        """Build all layers up to the frame; gives the frames that were not published."""
        self.below()
        publish_splits(self.store, self.settings.splits)
        return [outcome for outcome in self.frames() if not isinstance(outcome, Published)]

    def frame_bytes(self, day: str) -> bytes:
        return (self.folder / f"store/feature_frame/date={day}/part-0.parquet").read_bytes()

    def lock_bytes(self) -> bytes:
        return (self.folder / "store/split/validation_lock.json").read_bytes()


def changed(bars: pd.DataFrame, *days: str, by: float = 1.0) -> pd.DataFrame:
    """The bars with another volume in a minute of some days."""
    other = bars.copy()
    for day in days:
        other.loc[other["event_time"] == pd.Timestamp(f"{day} 23:50", tz="UTC"), "volume"] += by
    return other
