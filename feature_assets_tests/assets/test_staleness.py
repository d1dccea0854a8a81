"""Dagster shows exactly the partitions as stale whose inputs have changed, after range runs too."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from feature_assets.definitions import make_definitions
from feature_assets_tests.support.graph import Graph, parquet_graph
from feature_assets_tests.support.replays import START, days

KEYS = ["2025-03-03", "2025-03-04", "2025-03-05", "2025-03-06"]


def stale(graph: Graph, asset: str) -> list[str]:
    """The materialized partitions of an asset that Dagster does not call fresh."""
    assets = make_definitions(graph.settings).get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(graph.instance, assets, LoadingContextForTest(graph.instance))
    return [key for key in graph.materialized(asset) if resolver.get_status(dg.AssetKey(asset), key) != StaleStatus.FRESH]


@pytest.fixture
def bars():
    return days("BTCUSDT", 4)


def changed(bars):
    """The same bars with another volume in the last minutes of the first day."""
    other = bars.copy()
    other.loc[1435, "volume"] += 1.0
    return other


def replace_source(graph: Graph, folder, bars) -> None:
    """Give the graph another replay table under the same event log."""
    bars.to_parquet(folder / "replay.parquet", index=False)


def test_after_a_range_build_every_partition_is_fresh(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    for asset in ("replay", "symbol_features", "feature_frame"):
        assert stale(graph, asset) == []


def test_after_one_replay_day_changes_the_days_that_look_back_to_it_are_stale_and_no_other(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars, START_DATE=str(START))
    graph.build()
    replace_source(graph, tmp_path, changed(bars))
    graph.materialize("replay", f"{KEYS[1]}|BTCUSDT")
    assert stale(graph, "symbol_features") == []
    graph.materialize("replay", f"{KEYS[0]}|BTCUSDT")
    assert stale(graph, "symbol_features") == [f"{key}|BTCUSDT" for key in KEYS]
    graph.materialize("symbol_features", f"{KEYS[0]}|BTCUSDT", f"{KEYS[1]}|BTCUSDT")
    assert stale(graph, "symbol_features") == [f"{key}|BTCUSDT" for key in KEYS[2:]]
    assert stale(graph, "feature_frame") == KEYS[:2]


def test_a_rebuild_with_the_same_content_makes_nothing_stale(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    graph.materialize("replay", f"{KEYS[0]}|BTCUSDT", f"{KEYS[3]}|BTCUSDT")
    graph.materialize("symbol_features", f"{KEYS[0]}|BTCUSDT")
    graph.materialize("split_manifest")
    for asset in ("symbol_features", "feature_frame"):
        assert stale(graph, asset) == []


def test_new_splits_make_every_frame_stale_and_no_features(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    graph.variables["SPLITS"] = f"FIT:{KEYS[0]}..{KEYS[2]}"
    graph.materialize("split_manifest")
    assert stale(graph, "feature_frame") == KEYS
    assert stale(graph, "symbol_features") == []
    graph.build()
    assert stale(graph, "feature_frame") == []


def test_new_options_make_all_features_stale_by_their_code_version(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    graph.variables["GAPS"] = "restart"
    assert stale(graph, "symbol_features") == [f"{key}|BTCUSDT" for key in KEYS]
    graph.build()
    assert stale(graph, "symbol_features") == []
