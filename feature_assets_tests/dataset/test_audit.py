"""The audit proves what is on disk: it finds a leak, a tampered file, another replay, and another frame."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from feature_assets.dataset.audit import audit
from feature_assets.dataset.keys import Key
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets_tests.support.graph import parquet_graph
from feature_assets_tests.support.replays import days

KEY = Key.parse("2025-03-05|BTCUSDT")


@pytest.fixture
def graph(tmp_path):
    found = parquet_graph(tmp_path, days("BTCUSDT", 4))
    found.build()
    return found


def findings(graph, count: int = 1, hidden_from: int | None = None) -> list[str]:
    keys = graph.store.keys("symbol_features")
    return [text for found in audit(graph.store, graph.settings.options, keys, count, hidden_from) for text in found.broken]


def rewrite(graph, table: pa.Table, *, honest: bool = True) -> None:
    """Put another table in the place of KEY's, and the same rows into the frame of its date."""
    footer = graph.store.footer("symbol_features", KEY)
    for asset, key in (("symbol_features", KEY), ("feature_frame", Key(KEY.date))):
        old, footer = graph.store.read(asset, key)
        new = old
        for name in table.schema.names:
            new = new.set_column(new.schema.get_field_index(name), name, table[name])
        found = content_hash(new) if honest else footer.content_hash
        graph.store.publish(asset, key, new, Footer(found, footer.code_version, footer.inputs, footer.stats))


def shifted(table: pa.Table, name: str) -> pa.Table:
    values = table[name].to_numpy()
    return table.set_column(
        table.schema.get_field_index(name), name, pa.array(np.append(values[1:], values[-1]), from_pandas=True)
    )


@pytest.mark.parametrize("count", [1, 7])
def test_a_sound_store_is_proven_with_as_many_cuts_as_are_asked_for(graph, count):
    keys = graph.store.keys("symbol_features")
    found = list(audit(graph.store, graph.settings.options, keys, count))
    assert [each.key for each in found] == keys
    assert [each.broken for each in found] == [[]] * 4
    assert [each.cuts for each in found] == [count] * 4
    assert all(each.rows_compared >= count for each in found)


def test_a_stored_feature_that_reads_one_row_ahead_is_found_though_every_hash_is_right(graph):
    table = graph.store.read_table("symbol_features", KEY)
    rewrite(graph, shifted(table, "spread_bps"))
    (found,) = findings(graph)
    assert found.startswith("2025-03-05|BTCUSDT: spread_bps does not follow from its window: row 0 (2025-03-05 00:00:00")


def test_no_locked_value_is_told(graph):
    table = graph.store.read_table("symbol_features", KEY)
    rewrite(graph, shifted(table, "spread_bps"))
    (found,) = findings(graph, hidden_from=0)
    assert " is another by its bars, whatever comes later;" in found


def test_a_single_value_of_one_row_is_found_by_enough_cuts(graph):
    table = graph.store.read_table("symbol_features", KEY)
    values = table["ret_1m_bps"].to_numpy().copy()
    values[700] = np.nextafter(values[700], np.float32(np.inf))
    rewrite(graph, table.set_column(table.schema.get_field_index("ret_1m_bps"), "ret_1m_bps", pa.array(values)))
    assert any("row 700 " in found for found in findings(graph, count=40))


def test_a_table_that_is_not_the_one_its_footer_names_is_found(graph):
    table = graph.store.read_table("symbol_features", KEY)
    rewrite(graph, shifted(table, "spread_bps"), honest=False)
    assert any("content hash is not the one in its footer" in found for found in findings(graph))


def test_features_that_stand_on_another_replay_are_found(graph):
    key = Key.parse("2025-03-04|BTCUSDT")
    table, footer = graph.store.read("replay", key)
    graph.store.publish("replay", key, table, Footer("0" * 64, footer.code_version, footer.inputs, footer.stats))
    found = findings(graph)
    assert [text.split(":")[0] for text in found] == ["2025-03-04|BTCUSDT", "2025-03-05|BTCUSDT"] + ["2025-03-06|BTCUSDT"] * (
        len(found) - 2
    )
    assert all("another replay" in text for text in found)


def test_a_frame_with_other_values_than_the_features_is_found_and_named(graph):
    key = Key(KEY.date)
    table, footer = graph.store.read("feature_frame", key)
    table = shifted(table, "ret_5m_bps")
    graph.store.publish(
        "feature_frame", key, table, Footer(content_hash(table), footer.code_version, footer.inputs, footer.stats)
    )
    (found,) = findings(graph)
    assert "other rows of BTCUSDT than symbol_features (ret_5m_bps)" in found


def test_a_missing_frame_or_an_unreadable_file_is_a_finding_and_the_rest_is_proven(graph):
    (graph.folder / "store" / graph.store.partition_file("feature_frame", Key(KEY.date))).unlink()
    path = graph.folder / "store" / graph.store.partition_file("symbol_features", Key.parse("2025-03-03|BTCUSDT"))
    path.write_bytes(path.read_bytes()[:100])
    found = list(
        audit(graph.store, graph.settings.options, [KEY, Key.parse("2025-03-03|BTCUSDT"), Key.parse("2025-03-04|BTCUSDT")])
    )
    assert [bool(each.broken) for each in found] == [True, False, True]
    assert "not readable" in found[0].broken[0]
    assert "feature_frame 2025-03-05 is missing" in found[2].broken[0]
