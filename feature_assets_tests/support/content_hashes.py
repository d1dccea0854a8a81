"""Content hashes of fixed builds, which are the same on every supported numpy, pandas, pyarrow, Python and machine.

Needs neither Dagster nor pytest. `python -m feature_assets_tests.support.content_hashes` holds the present environment
against the fixture and exits with 1 where a hash differs; `--write` renews the fixture, for a change of features or of the
replays here that is meant. The files' own bytes are not compared: each pyarrow writes its version, and statistics of its
own, into Parquet.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import pathlib
import platform
import sys
import tempfile

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_assets.dataset.feature_manifest import build_feature_manifest
from feature_assets.dataset.keys import ONE_DAY
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SYMBOL_FEATURES, Store
from feature_assets.dataset.tables import content_hash
from feature_assets.features.catalogue import FEATURES
from feature_assets.market.bars import NUMBER_COLUMNS, Bars, to_table
from feature_assets.market.sources.synthetic import SyntheticSource
from feature_assets.settings import load_settings
from feature_assets_tests.support.crash import build_all
from feature_assets_tests.support.layouts import layout_settings, long_replay
from feature_assets_tests.support.replays import days

FIXTURE = pathlib.Path(__file__).parents[1] / "fixtures" / "content_hashes.json"

_PRICES = ("open", "high", "low", "close", "mark_price", "index_price")


def content_hashes() -> dict[str, str]:
    """A SHA-256 an item: synthetic days, stored layers and manifests, each feature's values before they become float32.

    Those show what float32 nearly always hides: a last bit that is another one.
    """
    found = {}
    for symbol in ("BTCUSDT", "ETHUSDT", "SHIBUSDT"):
        day = dt.date(2026, 2, 1)
        hashes = [content_hash(SyntheticSource().day(symbol, day + number * ONE_DAY)) for number in range(10)]
        found[f"synthetic/{symbol}"] = _joined(hashes)
    values = {feature.name: hashlib.sha256() for feature in FEATURES}
    for name, settings, replay in _cases():
        with tempfile.TemporaryDirectory() as folder:
            found |= {f"{name}/{item}": value for item, value in _stored(pathlib.Path(folder), replay, settings).items()}
        for symbol, rows in replay.groupby("symbol"):
            bars = Bars.from_table(to_table(rows, str(symbol)))
            for feature in FEATURES:
                values[feature.name].update(_bits(feature.function(bars)))
    return found | {f"values/{name}": digest.hexdigest() for name, digest in values.items()}


def _cases() -> list[tuple[str, dict[str, str], pd.DataFrame]]:
    """Replays made with IEEE basic operations alone, with the settings to build them under."""
    pairs = [
        pd.concat(
            [long_replay(2 * seed, "AAAUSDT", incomplete_days=True), long_replay(2 * seed + 1, "BBBUSDT", incomplete_days=True)]
        )
        for seed in range(2)
    ]
    return [
        ("incomplete days dropped", {}, pairs[0]),
        ("incomplete days bridged", {"ALLOW_INCOMPLETE_DAYS": "true"}, pairs[0]),
        ("windows restarted", {"ALLOW_INCOMPLETE_DAYS": "true", "GAPS": "restart"}, pairs[1]),
        ("optional groups", {"OPTIONAL_GROUPS": "quotes,mark_index,open_interest,liquidations"}, _with_nulls(days("AAAUSDT", 5))),
        *((f"prices times {factor}", {}, _scaled(days("AAAUSDT", 3), factor)) for factor in (1e-300, 1e-9, 1e9, 1e300)),
    ]


def _with_nulls(replay: pd.DataFrame) -> pd.DataFrame:
    for number, name in enumerate(NUMBER_COLUMNS[4:]):
        replay.loc[number::1000, name] = np.nan
    return replay


def _scaled(replay: pd.DataFrame, factor: float) -> pd.DataFrame:
    """Another price level, and a leap of it by 2**20 in the last day."""
    level = replay["close"].max()
    for name in _PRICES:
        replay[name] = replay[name] / level * factor
        replay.loc[len(replay) - 500 :, name] *= 2.0**20 if factor < 1.0 else 2.0**-20
    return replay


def _stored(folder: pathlib.Path, replay: pd.DataFrame, settings: dict[str, str]) -> dict[str, str]:
    variables = layout_settings(folder, replay, ROOT=str(folder / "store"), **settings)
    build_all(variables, str(folder))
    read = load_settings(variables, folder)
    assert not (folder / "store" / "quarantine").exists(), "a partition was refused"
    store = Store(read.root)
    found = {}
    for asset in (REPLAY, SYMBOL_FEATURES, FEATURE_FRAME):
        hashes = []
        for key in store.keys(asset):
            table, footer = store.read(asset, key)
            assert content_hash(table) == footer.content_hash, f"{asset} {key}: the file does not hold what its footer says"
            hashes += [str(key), footer.content_hash, footer.locked_hash]
        found[asset] = _joined(hashes)
    manifest, check = build_feature_manifest(store, read)
    assert check.passed, check.message
    return found | {"manifest": manifest["data_hash_sha256"]}


def _bits(values: np.ndarray) -> bytes:
    """Little-endian float64; one NaN is as good as another."""
    return np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()


def _joined(hashes: list[str]) -> str:
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def main(arguments: list[str]) -> int:
    found = content_hashes()
    for item, value in found.items():
        print(value, item)
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in (np, pd, pa))
    print(f"Python {platform.python_version()}, {versions}")
    if arguments == ["--write"]:
        FIXTURE.write_text(json.dumps(found, indent=2) + "\n")
        return 0
    expected = json.loads(FIXTURE.read_text())
    different = sorted(item for item in expected.keys() | found.keys() if expected.get(item) != found.get(item))
    print(
        f"{len(found)} content hashes, {len(different)} differ from {FIXTURE.name}" + "".join(f"\n  {item}" for item in different)
    )
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
