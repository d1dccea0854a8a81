"""Builds and readers at the same time: never a torn or mixed file, and the end is that of some serial order."""

from __future__ import annotations

import pathlib
import random

import pandas as pd
import pytest

from feature_assets.dataset.keys import Key
from feature_assets.dataset.outcomes import Blocked, Published
from feature_assets.dataset.replay import build_replay
from feature_assets.dataset.store import REPLAY, SYMBOL_FEATURES, Store
from feature_assets.dataset.symbol_features import build_symbol_features
from feature_assets.dataset.tables import content_hash
from feature_assets.errors import MissingInputError
from feature_assets.features import build_symbol_features as feature_rows
from feature_assets.market.sources import load_source
from feature_assets.settings import load_settings
from feature_assets_tests.support.crash import start
from feature_assets_tests.support.replays import days

KEYS = [Key.parse(f"2025-03-0{day}|BTCUSDT") for day in (3, 4, 5)]


def settings_of(folder: str, replay: str) -> dict[str, str]:
    values = {"ROOT": f"{folder}/store", "SOURCE": f"parquet:{folder}/{replay}.parquet", "SYMBOLS": "BTCUSDT"}
    values |= {"START_DATE": "2025-03-03", "END_DATE": "2025-03-06"}
    return {f"FEATURE_ASSETS_{name}": value for name, value in values.items()}


def write_replay(folder: str, replay: str, key: str) -> None:
    settings = load_settings(settings_of(folder, replay), pathlib.Path(folder))
    list(build_replay(Store(settings.root), load_source(settings.source).source, settings, [Key.parse(key)]))


def write_features(folder: str, key: str) -> None:
    settings = load_settings(settings_of(folder, "one"), pathlib.Path(folder))
    for outcome in build_symbol_features(Store(settings.root), settings.options, [Key.parse(key)]):
        assert isinstance(outcome, Published | Blocked), outcome


def read_everything(folder: str) -> None:
    store = Store(f"{folder}/store")
    for _ in range(5):
        for asset in (REPLAY, SYMBOL_FEATURES):
            for key in KEYS:
                try:
                    table, footer = store.read(asset, key)
                except MissingInputError:
                    continue
                assert content_hash(table) == footer.content_hash
                assert table.num_rows == 1440


@pytest.mark.slow
def test_200_random_races_end_as_a_serial_order_would(tmp_path):
    """Two replays of the same days, features that read them and readers race; every file is one build's own."""
    one = days("BTCUSDT", 3)
    two = one.copy()
    two["volume"] += 1.0
    for name, bars in (("one", one), ("two", two)):
        bars.to_parquet(tmp_path / f"{name}.parquet", index=False)
    folder = str(tmp_path)
    for key in KEYS:
        write_replay(folder, "one", str(key))
    # The look-back of the first day: the source begins with it, so these are absent.
    for day in range(24, 29):
        write_replay(folder, "one", f"2025-02-{day}|BTCUSDT")
    for day in (1, 2):
        write_replay(folder, "one", f"2025-03-0{day}|BTCUSDT")
    store = Store(f"{folder}/store")
    rng = random.Random(3)
    for number in range(200):
        key = str(rng.choice(KEYS))
        targets = [(write_replay, folder, "one", key), (write_replay, folder, "two", key), (read_everything, folder)]
        targets += [(write_features, folder, str(rng.choice(KEYS))) for _ in range(2)]
        rng.shuffle(targets)
        processes = [start(target, *arguments) for target, *arguments in targets]
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0] * len(processes), number
        assert_some_serial_order(store)
    leftovers = [path for path in (tmp_path / "store").rglob("*") if path.name.startswith(".")]
    assert leftovers == []


def assert_some_serial_order(store: Store) -> None:
    """Every features file holds exactly what the replay files that its footer names give."""
    for key in store.keys(SYMBOL_FEATURES):
        table, footer = store.read(SYMBOL_FEATURES, key)
        assert content_hash(table) == footer.content_hash
        assert {name.partition("/")[0] for name in footer.inputs} == {REPLAY}
        now = {name: store.read(REPLAY, Key.parse(name.partition("/")[2])) for name in footer.inputs}
        if any(found.content_hash != footer.inputs[name] for name, (_, found) in now.items()):
            continue  # built before the last replay: stale, which a build on it says
        bars = [replay.to_pandas() for replay, _ in now.values() if replay.num_rows]
        rows = feature_rows(pd.concat(bars).assign(symbol=key.symbol))
        expected = rows[rows["event_time"].dt.date == key.date].drop(columns="symbol").reset_index(drop=True)
        pd.testing.assert_frame_equal(table.to_pandas(), expected, check_exact=True)
