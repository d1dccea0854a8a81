"""The graph as a whole: what it publishes is what the domain computes, however it is run."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import dagster as dg
import pandas as pd
import pyarrow.dataset as ds
import pytest

from feature_assets.dataset.feature_frame import FRAME_SCHEMA
from feature_assets.features import build_symbol_features
from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.quality.parity import TOLERANCES
from feature_assets_tests.support.compare import assert_equal_rows, assert_equal_values
from feature_assets_tests.support.graph import Graph, parquet_graph
from feature_assets_tests.support.replays import days, random_replay

REFERENCE = Path(os.environ.get("FEATURE_ASSETS_REFERENCE", "/nowhere"))
REAL_DATA = Path(os.environ.get("FEATURE_ASSETS_REAL_DATA", "/nowhere"))


def test_the_demo_builds_every_asset_and_passes_every_check(tmp_path):
    graph = Graph(tmp_path)
    result = graph.build()
    assert not result.errors
    # 36 replay partitions, 15 of features with two checks, 5 of the frame with two, the manifest and the report.
    assert result.checks == {"passed": 36 + 2 * 15 + 2 * 5 + 2}
    frame = graph.frame()
    assert len(frame) == 3 * 5 * 1440
    assert frame.groupby("split_id").size().to_dict() == {"FIT": 12960, "TUNE": 4320, "VALIDATION_LOCKED": 4320}
    assert graph.exists("replay", "2026-01-25|BTCUSDT")
    report = (tmp_path / "store/report/feature_quality_report.md").read_text()
    assert "- row_count: 17280" in report


def test_the_frame_holds_the_contracts_columns_and_types(tmp_path):
    graph = Graph(tmp_path, SYMBOLS="BTCUSDT", END_DATE="2026-02-02", START_DATE="2026-02-01")
    graph.build()
    (key,) = graph.store.keys("feature_frame")
    table = graph.store.read_table("feature_frame", key)
    assert table.schema.equals(FRAME_SCHEMA)
    assert table["sample_id"][0].as_py() == "BTCUSDT:1769904000000"
    assert set(table["split_id"].to_pylist()) == {"UNASSIGNED"}
    replay = ds.dataset(tmp_path / "store/replay", partitioning="hive")
    assert replay.count_rows(filter=ds.field("symbol") == "BTCUSDT") == 8 * 1440


@pytest.mark.parametrize("incomplete", [False, True])
def test_random_replays_come_through_the_graph_as_the_domain_computes_them(tmp_path, incomplete):
    replays = [random_replay(seed, f"S{seed:02d}USDT", incomplete_days=incomplete) for seed in range(12)]
    graph = parquet_graph(tmp_path, pd.concat(replays), ALLOW_INCOMPLETE_DAYS=str(incomplete).lower())
    assert not graph.build().errors
    frame = graph.frame()
    assert sorted(frame["symbol"].unique()) == [f"S{seed:02d}USDT" for seed in range(12)]
    for replay in replays:
        expected = build_symbol_features(replay, allow_incomplete_days=incomplete)
        found = frame[frame["symbol"] == replay["symbol"].iloc[0]].reset_index(drop=True)
        assert_equal_rows(found, expected)
        pd.testing.assert_frame_equal(found[list(FEATURE_ORDER)], expected[list(FEATURE_ORDER)], check_exact=True)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="FEATURE_ASSETS_REFERENCE names no folder")
@pytest.mark.parametrize("case", ["three_by_five", "missing_and_incomplete_dropped", "incomplete_allowed"])
def test_golden_cases_come_through_the_graph(tmp_path, case):
    golden = REFERENCE.parent / "golden" / case
    replay = pd.read_parquet(golden / "replay.parquet")
    allow = json.loads((golden / "args.json").read_text())["allow_incomplete_days"]
    graph = parquet_graph(
        tmp_path, replay, SPLITS=f"file:{golden / 'split_manifest.json'}", ALLOW_INCOMPLETE_DAYS=str(allow).lower()
    )
    assert not graph.build().errors
    expected = pd.read_parquet(golden / "feature_frame.parquet")
    found = graph.frame()
    assert_equal_rows(found, expected)
    for name in ("sample_id", "split_id", "walk_forward_fold"):
        assert found[name].tolist() == expected[name].tolist()
    assert_equal_values(found, expected, TOLERANCES)
    for name in ("feature_order.json", "feature_schema.json"):
        assert (tmp_path / "store/dataset" / name).read_bytes() == (golden / name).read_bytes()


def test_a_store_has_the_same_bytes_whatever_order_and_cut_it_was_built_in(tmp_path):
    whole, daily, shuffled = (Graph(tmp_path / name) for name in ("whole", "daily", "shuffled"))
    assert not whole.build().errors
    for day in range(1, 6):
        assert not daily.build(f"2026-02-{day:02d}", f"2026-02-{day + 1:02d}").errors
    order = [f"2026-02-{day:02d}|{symbol}" for day in range(1, 6) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    random.Random(5).shuffle(order)
    assert shuffled.materialize("replay", "2026-01-25|BTCUSDT", "2026-02-05|SOLUSDT").success
    for key in order:
        assert shuffled.materialize("symbol_features", key).success
    assert shuffled.materialize("split_manifest,feature_frame", "2026-02-01", "2026-02-05").success
    assert shuffled.materialize("feature_manifest,quality_report").success
    assert whole.files() == daily.files() == shuffled.files()


def test_every_materialization_says_what_it_holds(tmp_path):
    graph = Graph(tmp_path, SYMBOLS="BTCUSDT", START_DATE="2026-02-01", END_DATE="2026-02-03")
    graph.build()
    for asset in ("replay", "symbol_features", "feature_frame"):
        records = graph.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
        found = records[0].asset_materialization
        assert found.partition.startswith("2026-02-02")
        assert {"rows", "content_hash", "path", "bytes", "seconds", "dagster/column_schema"} <= set(found.metadata)
        assert found.metadata["rows"].value == 1440
        assert found.tags["dagster/data_version"] == found.metadata["content_hash"].value
    replay = graph.instance.fetch_materializations(dg.AssetKey("replay"), limit=1).records[0].asset_materialization
    assert replay.metadata["source_fingerprint"].value == "synthetic 1, seed 7"
    features = graph.instance.fetch_materializations(dg.AssetKey("symbol_features"), limit=1).records[0]
    metadata = features.asset_materialization.metadata
    assert metadata["OK"].value + metadata["PARTIAL_OPTIONAL"].value + metadata["WARMUP"].value == 1440
    lineage = metadata["dagster/column_lineage"].value.deps_by_column
    assert {dep.column_name for dep in lineage["mark_index_basis_bps"]} == {"mark_price", "index_price"}
    earlier = graph.instance.fetch_materializations(dg.AssetKey("symbol_features"), limit=2).records[1].asset_materialization
    assert "dagster/column_lineage" not in earlier.metadata, "a range tells the columns once"


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="FEATURE_ASSETS_REAL_DATA names no folder")
def test_real_klines_make_a_frame_with_finite_features_from_the_first_row(tmp_path):
    graph = Graph(
        tmp_path,
        SOURCE=f"binance:{REAL_DATA / 'binance_um_klines'}",
        SYMBOLS="LINKUSDT,LTCUSDT,AVAXUSDT,NEARUSDT",
        START_DATE="2026-02-03",
        END_DATE="2026-02-06",
        OPTIONAL_GROUPS="funding,mark_index,open_interest,quotes,liquidations",
    )
    result = graph.build()
    assert not result.errors
    assert not result.checks["failed"]
    assert not result.checks["warned"]
    frame = graph.frame()
    assert len(frame) == 3 * 4 * 1440
    assert set(frame["data_quality_flag"]) == {"PARTIAL_OPTIONAL"}
    bars_and_flow = [name for name in FEATURE_ORDER[:24] if name != "spread_rank_24h_pct"]
    assert frame[bars_and_flow].notna().all().all()
    assert frame[["spread_bps", "funding_bps", "mark_index_basis_bps"]].isna().all().all()
    assert (frame["liquidation_available"] == 0.0).all()


def test_two_stores_of_one_graph_name_no_folder_and_no_clock(tmp_path):
    graph = parquet_graph(tmp_path, days("BTCUSDT", 3))
    graph.build()
    for name, data in graph.files().items():
        assert str(tmp_path).encode() not in data, name
