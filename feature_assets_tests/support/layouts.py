"""Layouts of a build: the partitions of a range cut into groups, in an order, some at once in processes of their own."""

from __future__ import annotations

import datetime as dt
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from unittest import mock

import numpy as np
import pandas as pd

from feature_assets.dataset import symbol_features, threads
from feature_assets.dataset.feature_frame import build_feature_frame
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.lock import publish_splits
from feature_assets.dataset.outcomes import Left, Published
from feature_assets.dataset.plan import symbol_dates
from feature_assets.dataset.replay import build_replay
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SYMBOL_FEATURES, Store
from feature_assets.features import build
from feature_assets.features.catalogue import LOOKBACK_DAYS
from feature_assets.market.sources import load_source
from feature_assets.settings import Settings, load_settings
from feature_assets_tests.support.crash import start
from feature_assets_tests.support.replays import random_replay


@dataclass(frozen=True)
class Group:
    """Partitions of one layer that one call builds."""

    layer: str
    keys: tuple[Key, ...]


@dataclass(frozen=True)
class Pace:
    """What a build does at once, which no byte may depend on: threads, days read together, days computed together."""

    threads: int
    chunk: int
    batch_days: int


@dataclass(frozen=True)
class Layout:
    """Steps one after the other; the groups of a step are built one by one, or each in a process of its own at once."""

    steps: tuple[tuple[Group, ...], ...]
    pace: Pace
    processes: bool


def long_replay(seed: int, symbol: str, *, incomplete_days: bool) -> pd.DataFrame:
    """Eight to twelve random days; in some, days on end are missing, so that windows are cut off at seven days."""
    rng = np.random.default_rng([seed, 1])
    first, second = (random_replay(2 * seed + part, symbol, incomplete_days=incomplete_days) for part in (0, 1))
    after = first["event_time"].iloc[-1].normalize() + pd.Timedelta(days=1) - second["event_time"].iloc[0].normalize()
    second[["event_time", "next_funding_time"]] += after
    second["open_time_ms"] += after // pd.Timedelta(milliseconds=1)
    replay = pd.concat([first, second], ignore_index=True)
    if rng.random() < 0.4:
        number = (replay["event_time"] - replay["event_time"].iloc[0].normalize()) // pd.Timedelta(days=1)
        begin = int(rng.integers(1, 4))
        end = min(begin + int(rng.integers(2, 7)), number.iloc[-1])
        replay = replay[(number < begin) | (number >= end)].reset_index(drop=True)
    return replay


def partitions(settings: Settings) -> dict[str, list[Key]]:
    """Every partition of the settings' range, by layer, the replay's look-back included."""
    pairs = symbol_dates(settings, settings.start, settings.end_date())
    look_back = symbol_dates(settings, settings.start - LOOKBACK_DAYS * ONE_DAY, settings.start)
    frames = [Key(day) for day in dates(settings.start, settings.end_date())]
    return {REPLAY: look_back + pairs, SYMBOL_FEATURES: pairs, FEATURE_FRAME: frames}


def needs(settings: Settings, group: Group) -> set[tuple[str, Key]]:
    """The partitions that have to be there before a group is built."""
    if group.layer == REPLAY:
        return set()
    if group.layer == FEATURE_FRAME:
        return {(SYMBOL_FEATURES, Key(key.date, symbol)) for key in group.keys for symbol in settings.members(key.date)}
    return {(REPLAY, Key(key.date - back * ONE_DAY, key.symbol)) for key in group.keys for back in range(LOOKBACK_DAYS + 1)}


def random_layout(rng: np.random.Generator, settings: Settings) -> Layout:
    groups = [Group(layer, keys) for layer, own in partitions(settings).items() for keys in _cut(rng, own)]
    groups += [group for group in groups if rng.random() < 0.15]  # built twice
    rng.shuffle(groups)
    pace = Pace(*(int(rng.choice(choices)) for choices in ((1, 2, 3, 8), (1, 2, 3, 4, 7, 31), (1, 2, 3, 4, 7, 31))))
    return Layout(tuple(_steps(rng, settings, groups)), pace, bool(rng.random() < 0.2))


def _cut(rng: np.random.Generator, keys: Sequence[Key]) -> list[tuple[Key, ...]]:
    """The keys in groups: each alone, a date, seven dates or a symbol together, any subsets, or all of them."""
    first = min(key.date for key in keys)
    subsets = rng.integers(int(rng.integers(1, len(keys) + 1)), size=len(keys))
    names: dict[str, Callable[[int, Key], object]] = {
        "each": lambda number, _: number,
        "date": lambda _, key: key.date.toordinal(),
        "week": lambda _, key: (key.date - first).days // 7,
        "symbol": lambda _, key: key.symbol or "",
        "subsets": lambda number, _: int(subsets[number]),
        "whole": lambda _, __: 0,
    }
    name = names[str(rng.choice(list(names)))]
    named = sorted(enumerate(keys), key=lambda pair: name(*pair))
    cut = [[key for _, key in group] for _, group in groupby(named, key=lambda pair: name(*pair))]
    for group in cut:
        rng.shuffle(group)
    return [tuple(group) for group in cut]


def _steps(rng: np.random.Generator, settings: Settings, groups: Iterable[Group]) -> Iterator[tuple[Group, ...]]:
    """The groups in their order, but each after what it needs; up to three that could be built together make a step."""
    waiting, there = list(groups), set()
    while waiting:
        ready = [number for number, group in enumerate(waiting) if needs(settings, group) <= there]
        taken = ready[: int(rng.integers(1, 4))]
        yield tuple(waiting[number] for number in taken)
        there |= {(waiting[number].layer, key) for number in taken for key in waiting[number].keys}
        waiting = [group for number, group in enumerate(waiting) if number not in taken]


def build_layout(variables: dict[str, str], folder: pathlib.Path, layout: Layout) -> None:
    """Every step of a layout into the settings' store, without Dagster."""
    settings = load_settings(variables, folder)
    publish_splits(Store(settings.root), settings.splits)
    for step in layout.steps:
        if layout.processes and len(step) > 1:
            processes = [start(build_group, variables, str(folder), group, layout.pace) for group in step]
            for process in processes:
                process.join()
            assert [process.exitcode for process in processes] == [0] * len(step)
        else:
            for group in step:
                build_group(variables, str(folder), group, layout.pace)


def build_group(variables: dict[str, str], folder: str, group: Group, pace: Pace) -> None:
    settings = load_settings(variables, pathlib.Path(folder))
    store = Store(settings.root)
    with (
        mock.patch.multiple(threads, _THREADS=pace.threads, _AHEAD=2 * pace.threads),
        mock.patch.object(symbol_features, "_CHUNK", pace.chunk),
        mock.patch.object(build, "_BATCH_DAYS", pace.batch_days),
    ):
        if group.layer == REPLAY:
            outcomes = list(build_replay(store, load_source(settings.source).source, settings, group.keys))
        elif group.layer == SYMBOL_FEATURES:
            outcomes = list(symbol_features.build_symbol_features(store, settings.options, group.keys))
        else:
            outcomes = list(build_feature_frame(store, settings, group.keys))
    assert all(isinstance(outcome, Published | Left) for outcome in outcomes), outcomes


def layout_settings(folder: pathlib.Path, replay: pd.DataFrame, **settings: str) -> dict[str, str]:
    """Variables for a replay that is written to the folder: all of its days, in three splits with folds and embargo."""
    path = folder / "replay.parquet"
    replay.to_parquet(path, index=False, row_group_size=5_000)
    first: dt.date = replay["event_time"].min().date()
    tune, locked, end = (first + dt.timedelta(days=days) for days in (4, 6, (replay["event_time"].max().date() - first).days + 1))
    values = {
        "SOURCE": f"parquet:{path}",
        "SYMBOLS": ",".join(sorted(replay["symbol"].unique())),
        "START_DATE": str(first),
        "END_DATE": str(end),
        "SPLITS": f"FIT:{first}..{tune},TUNE:{tune}..{locked},VALIDATION_LOCKED:{locked}..{max(end, locked + ONE_DAY)}",
        "EMBARGO_MINUTES": "45",
        "WALK_FORWARD_FOLDS": "3",
    }
    return {f"FEATURE_ASSETS_{name}": value for name, value in (values | settings).items()}
