"""Pins what feature_assets.assets.events leans on in Dagster 1.13: one event a partition from a multi_asset's body."""

from __future__ import annotations

import dagster as dg
import pytest

from feature_assets.assets.events import failure
from feature_assets.dataset.keys import Key
from feature_assets_tests.support.graph import Graph, failure_text

KEYS = [f"2026-02-0{day}|{symbol}" for day in (1, 2) for symbol in ("BTCUSDT", "ETHUSDT")]


@pytest.fixture
def graph(tmp_path):
    return Graph(tmp_path, SYMBOLS="BTCUSDT,ETHUSDT", START_DATE="2026-02-01", END_DATE="2026-02-04")


def test_a_range_run_records_each_partition_once_with_its_own_metadata(graph):
    result = graph.materialize("replay", KEYS[0], KEYS[-1])
    assert result.success
    events = result.asset_materializations_for_node("replay")
    assert [event.partition for event in events] == KEYS
    assert len({event.metadata["content_hash"].value for event in events}) == 4
    assert graph.materialized("replay") == KEYS


def test_a_range_run_records_each_check_once_a_partition(graph):
    result = graph.materialize("replay", KEYS[0], KEYS[-1])
    found = result.get_asset_check_evaluations()
    assert [evaluation.partition for evaluation in found] == KEYS
    assert all(evaluation.blocking and evaluation.severity == dg.AssetCheckSeverity.ERROR for evaluation in found)


def test_a_single_partition_run_records_the_same_events_as_a_range(graph):
    single = graph.materialize("replay", KEYS[0]).asset_materializations_for_node("replay")
    ranged = graph.materialize("replay", KEYS[0], KEYS[0]).asset_materializations_for_node("replay")
    assert [event.partition for event in single] == [event.partition for event in ranged] == [KEYS[0]]
    assert single[0].tags == ranged[0].tags
    assert set(single[0].metadata) == set(ranged[0].metadata)


def test_the_mapping_of_a_features_partition_reaches_seven_days_back(graph):
    from feature_assets.definitions import make_definitions

    assets = make_definitions(graph.settings).get_repository_def().asset_graph
    features, replay = assets.get(dg.AssetKey("symbol_features")), assets.get(dg.AssetKey("replay"))
    mapping = features.partition_mappings[replay.key]
    subset = features.partitions_def.subset_with_partition_keys(["2026-02-01|ETHUSDT"])
    upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
        subset, features.partitions_def, replay.partitions_def
    )
    days = [f"2026-01-{day}" for day in range(25, 32)] + ["2026-02-01"]
    assert sorted(upstream.partitions_subset.get_partition_keys()) == [f"{day}|ETHUSDT" for day in days]
    assert not upstream.required_but_nonexistent_subset.get_partition_keys()


def test_partitions_end_the_day_before_end_date_and_begin_a_week_before_start_for_the_replay(graph):
    from feature_assets.partitions import Partitions

    partitions = Partitions(graph.settings)
    replay = partitions.replay.get_partition_keys()
    assert (replay[0], replay[-1], len(replay)) == ("2026-01-25|BTCUSDT", "2026-02-03|ETHUSDT", 20)
    assert partitions.symbol_features.get_partition_keys()[0] == "2026-02-01|BTCUSDT"
    assert partitions.feature_frame.get_partition_keys() == ["2026-02-01", "2026-02-02", "2026-02-03"]


def test_a_failure_tells_twenty_partitions_in_full_and_names_them_all():
    keys = [Key.parse(f"2026-02-{day:02d}|BTCUSDT") for day in range(1, 23)]
    text = failure("replay", {key: f"reason of {key}" for key in keys}).description
    assert text.startswith("replay: 22 partition(s) not published.\nreason of 2026-02-01|BTCUSDT\n")
    assert text.endswith("reason of 2026-02-20|BTCUSDT\nand 2026-02-21|BTCUSDT, 2026-02-22|BTCUSDT")


def test_a_reversed_range_fails_instead_of_building_nothing(graph):
    result = graph.materialize("replay", KEYS[-1], KEYS[0])
    assert "replay: the range holds no partition" in failure_text(result)
