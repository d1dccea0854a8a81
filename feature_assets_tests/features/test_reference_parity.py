"""The features' values are the reference's, and an independent naive version's."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_assets.features import build_symbol_features
from feature_assets.features.catalogue import FEATURE_ORDER, feature_order_json, feature_schema_json
from feature_assets.quality.parity import AFTER_AN_EXTREME_BAR, TOLERANCES
from feature_assets_tests.support.compare import assert_equal_rows, assert_equal_values
from feature_assets_tests.support.naive import naive_features, zscore
from feature_assets_tests.support.replays import days, random_replay

FIXTURES = Path(__file__).parents[1] / "fixtures"
REFERENCE = Path(os.environ.get("FEATURE_ASSETS_REFERENCE", "/nowhere"))
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="FEATURE_ASSETS_REFERENCE names no folder")
CASES = ("three_by_five", "missing_and_incomplete_dropped", "incomplete_allowed")


def reference_frame(replay: pd.DataFrame, folder: Path, *, allow_incomplete_days: bool) -> pd.DataFrame:
    spec = importlib.util.spec_from_file_location("run_reference", REFERENCE / "run_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    replay.to_parquet(folder / "replay.parquet")
    (folder / "splits.json").write_text('{"splits": []}')
    return module.run(folder / "replay.parquet", folder / "splits.json", folder / "out", allow_incomplete_days)


def whole_days(replay: pd.DataFrame) -> pd.DataFrame:
    return replay[replay.groupby(replay["event_time"].dt.date)["symbol"].transform("size") == 1440]


def test_order_and_schema_are_byte_equal_to_the_references():
    assert feature_order_json() == (FIXTURES / "feature_order.json").read_bytes()
    assert feature_schema_json() == (FIXTURES / "feature_schema.json").read_bytes()


@needs_reference
@pytest.mark.parametrize("case", CASES)
def test_golden_cases_come_out_as_the_reference_wrote_them(case):
    golden = REFERENCE.parent / "golden" / case
    options = json.loads((golden / "args.json").read_text())
    expected = pd.read_parquet(golden / "feature_frame.parquet")
    replay = pd.read_parquet(golden / "replay.parquet").sample(frac=1.0, random_state=3)
    found = pd.concat([build_symbol_features(bars, **options) for _, bars in replay.groupby("symbol")], ignore_index=True)
    assert_equal_rows(found, expected)
    assert_equal_values(found, expected, TOLERANCES)


@needs_reference
@pytest.mark.filterwarnings("ignore")  # the reference's own
@pytest.mark.parametrize("seed", range(24))
def test_random_replays_come_out_as_the_reference_makes_them(seed, tmp_path):
    incomplete = seed % 3 == 0
    replay = random_replay(seed, incomplete_days=incomplete)
    expected = reference_frame(replay, tmp_path, allow_incomplete_days=incomplete)
    found = build_symbol_features(replay, allow_incomplete_days=incomplete)
    assert_equal_rows(found, expected)
    # Where next to nothing trades after an extreme bar, the reference's running sums are mostly that bar's remainder:
    # on the rows beyond the tolerance the exact value has to be ours.
    name = "volume_zscore_60m"
    doubtful = (found[name] - expected[name]).abs() > AFTER_AN_EXTREME_BAR[name]
    assert doubtful.sum() < 20
    volume = replay["volume"].to_numpy() if incomplete else whole_days(replay)["volume"].to_numpy()
    for row in np.flatnonzero(doubtful):
        assert found[name][row] == np.float32(zscore(volume[row], volume[row - 59 : row + 1]))
        expected.loc[row, name] = found.loc[row, name]
    assert_equal_values(found, expected, AFTER_AN_EXTREME_BAR)


@pytest.mark.parametrize("seed", range(4))
def test_random_replays_come_out_as_the_naive_version_makes_them(seed):
    replay = random_replay(seed, incomplete_days=True)
    found = build_symbol_features(replay, allow_incomplete_days=True)
    # Of the tolerances only the rounding of sums is left: the oracle has no running sums.
    imbalances = [name for name in FEATURE_ORDER if "imbalance" in name]
    tolerances = dict.fromkeys(FEATURE_ORDER, 0.0) | dict.fromkeys(imbalances, 1e-15) | {"volume_zscore_60m": 1e-12}
    assert_equal_values(found, naive_features(replay), tolerances)


def test_the_first_row_that_is_not_in_warm_up_is_the_1440th():
    found = build_symbol_features(days("ETHUSDT", 2))
    flags = found["data_quality_flag"].to_numpy()
    assert set(flags[:1439]) == {"WARMUP"}
    assert "WARMUP" not in flags[1439:]


@pytest.mark.parametrize(
    ("name", "first"),
    [("ret_240m_bps", 240), ("realized_vol_60m_bps", 60), ("range_15m_bps", 14), ("compression_score_4h_pct", 253)],
)
def test_a_feature_begins_after_its_look_back(name, first):
    values = build_symbol_features(days("ETHUSDT", 1))[name].to_numpy()
    assert np.isnan(values[:first]).all()
    assert np.isfinite(values[first:]).all()
