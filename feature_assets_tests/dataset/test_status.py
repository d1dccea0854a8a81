"""The state of every partition of a range, from the files and the source alone."""

from __future__ import annotations

import pandas as pd
import pytest

from feature_assets.dataset import status
from feature_assets.market.sources import load_source
from feature_assets_tests.support.graph import Graph, failure_text, parquet_graph
from feature_assets_tests.support.replays import days

DAYS = ["2025-03-03", "2025-03-04", "2025-03-05", "2025-03-06"]
REPLAY, FEATURES, FRAME = "replay", "symbol_features", "feature_frame"


@pytest.fixture
def bars() -> pd.DataFrame:
    return days("BTCUSDT", 4)


def states(graph: Graph) -> dict[str, list[str]]:
    """By asset, the state of each partition in date order."""
    found: dict[str, list[str]] = {}
    for state in read(graph):
        found.setdefault(state.asset, []).append(state.state)
    return found


def read(graph: Graph) -> list[status.PartitionState]:
    settings = graph.settings
    source = load_source(settings.source).source
    return status.range_status(graph.store, source, settings, settings.start, settings.end_date())


def reasons(graph: Graph) -> str:
    return "\n".join(f"{state.asset} {state.key} {state.state}: {state.reason}" for state in read(graph) if state.reason)


def test_nothing_is_built_at_first(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars, END_DATE="2025-03-08")
    expected = ["missing"] * 4 + ["not yet"]
    assert states(graph) == {REPLAY: expected, FEATURES: expected, FRAME: expected}


def test_everything_is_built_after_a_build(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    assert states(graph) == {asset: ["built"] * 4 for asset in (REPLAY, FEATURES, FRAME)}
    assert status.totals(read(graph)) == {"built": 12}


def test_an_absent_day_is_told_from_a_missing_one(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars[bars["event_time"].dt.day != 4])
    graph.build()
    expected = ["built", "absent", "built", "built"]
    assert states(graph) == {REPLAY: expected, FEATURES: expected, FRAME: expected}


def test_a_refused_day_and_what_stands_on_it_are_refused_with_the_reason(tmp_path, bars):
    broken = bars.copy()
    broken.loc[2 * 1440 + 3, "low"] = -1.0
    graph = parquet_graph(tmp_path, broken)
    graph.build()
    assert states(graph)[REPLAY] == ["built", "built", "refused", "built"]
    assert states(graph)[FEATURES] == ["built", "built", "missing", "missing"]
    assert "replay 2025-03-05|BTCUSDT refused: 2025-03-05|BTCUSDT: not a sound replay. low > 0: 1 row(s)" in reasons(graph)


def test_a_refused_rebuild_shows_on_every_layer_above_it(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    broken = bars.copy()
    broken.loc[3 * 1440 + 3, "low"] = -1.0
    graph = parquet_graph(tmp_path, broken)
    graph.materialize("replay", f"{DAYS[3]}|BTCUSDT")
    for asset in (FEATURES, FRAME):
        assert states(graph)[asset] == ["built", "built", "built", "refused"]
    # The source file has changed, so the other replay days are to be read again.
    assert states(graph)[REPLAY] == ["stale", "stale", "stale", "refused"]


def test_a_change_of_the_raw_data_is_stale_before_anything_is_built(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    other = bars.copy()
    other.loc[5, "volume"] += 1.0
    graph = parquet_graph(tmp_path, other)
    assert states(graph)[REPLAY] == ["stale"] * 4  # one row group holds them all
    assert "the source's data have changed" in reasons(graph)
    graph.materialize("replay", f"{DAYS[0]}|BTCUSDT", f"{DAYS[3]}|BTCUSDT")
    assert states(graph)[REPLAY] == ["built"] * 4
    # The first day is read by the next two: 1,440 rows are not quite a look-back.
    assert states(graph)[FEATURES] == ["stale", "stale", "stale", "built"]


def test_new_splits_are_stale_frames(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    graph.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[1]}"
    graph.materialize("split_manifest")
    assert states(graph)[FRAME] == ["stale"] * 4
    assert states(graph)[FEATURES] == ["built"] * 4
    assert not graph.build().errors
    assert states(graph)[FRAME] == ["built"] * 4


def test_new_options_are_stale_features_by_their_code_version(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars)
    graph.build()
    graph.variables["GAPS"] = "restart"
    assert states(graph)[FEATURES] == ["stale"] * 4
    assert "symbol_features 2025-03-03|BTCUSDT stale: built by code version" in reasons(graph)


def test_a_symbol_added_later_leaves_older_dates_as_they_are_and_the_status_says_so(tmp_path, bars):
    both = pd.concat([bars, days("ETHUSDT", 4)])
    graph = parquet_graph(tmp_path, both, SYMBOLS="BTCUSDT")
    graph.build()
    before = {name: data for name, data in graph.files().items() if name.startswith(FRAME)}
    graph.variables["SYMBOLS"] = "BTCUSDT,ETHUSDT:2025-03-05.."
    assert states(graph)[FRAME] == ["built", "built", "stale", "stale"]
    assert "feature_frame 2025-03-05 stale: built without ETHUSDT" in reasons(graph)
    assert not graph.build("2025-03-05").errors
    after = graph.files()
    assert all((after[name] == data) == ("03-03" in name or "03-04" in name) for name, data in before.items())
    assert states(graph)[FRAME] == ["built"] * 4


def test_a_retired_symbol_keeps_its_rows_and_leaves_later_frames(tmp_path, bars):
    both = pd.concat([bars, days("ETHUSDT", 2)])
    graph = parquet_graph(tmp_path, both, SYMBOLS="BTCUSDT,ETHUSDT:..2025-03-05")
    assert not graph.build().errors
    frame = graph.frame()
    assert frame[frame["symbol"] == "ETHUSDT"]["event_time"].dt.day.unique().tolist() == [3, 4]
    assert states(graph)[FRAME] == ["built"] * 4


def test_a_symbol_that_vanishes_from_the_settings_is_refused_unless_its_lifetime_ends(tmp_path, bars):
    both = pd.concat([bars, days("ETHUSDT", 4)])
    graph = parquet_graph(tmp_path, both)
    graph.build()
    graph.variables["SYMBOLS"] = "BTCUSDT"
    text = failure_text(graph.materialize("feature_frame", DAYS[0]))
    assert "SYMBOLS: ETHUSDT is not there, but the store has published rows of it." in text
    graph.variables["SYMBOLS"] = "BTCUSDT,ETHUSDT:..2025-03-05"
    assert not graph.build().errors
    assert set(graph.store.read_table(FRAME, graph.store.keys(FRAME)[3])["symbol"].to_pylist()) == {"BTCUSDT"}
