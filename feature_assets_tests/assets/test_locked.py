"""The validation lock through Dagster: what is refused and told, and that the documented ways to read keep off it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from feature_assets.dataset.lock import read_locked
from feature_assets.dataset.relock import relock
from feature_assets_tests.support.graph import Graph, failure_text, parquet_graph
from feature_assets_tests.support.locked import DAYS, SPLITS, changed
from feature_assets_tests.support.replays import days

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def bars() -> pd.DataFrame:
    return days("BTCUSDT", 4)


@pytest.fixture
def graph(tmp_path, bars) -> Graph:
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    assert not graph.build().errors
    return graph


def metadata(graph: Graph, asset: str) -> dict:
    (record,) = graph.instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    return record.asset_materialization.metadata


def test_a_build_that_would_change_locked_rows_fails_its_check_until_relock_accepts_them(tmp_path, graph, bars):
    before = graph.files()
    changed(bars, DAYS[3]).to_parquet(tmp_path / "replay.parquet", index=False)
    result = graph.build()
    (first, *_) = result.errors
    assert first.startswith(f"feature_frame: 1 partition(s) not published.\n{DAYS[3]}: locked rows would change")
    frame = f"feature_frame/date={DAYS[3]}/part-0.parquet"
    after = graph.files()
    for name in (frame, "split/validation_lock.json", "dataset/feature_frame.manifest.json"):
        assert after[name] == before[name]
    run = graph.materialize("feature_frame", DAYS[3])
    evaluations = {evaluation.check_name: evaluation for evaluation in run.get_asset_check_evaluations()}
    assert not evaluations["no_split_leak"].passed
    assert "locked rows would change" in evaluations["no_split_leak"].metadata["offending"].value[0]
    assert not run.asset_materializations_for_node("feature_frame")
    relock(graph.store, graph.settings, "late prints")
    assert not graph.build().errors
    assert graph.files()[frame] != before[frame]
    assert not any(name.startswith("quarantine") for name in graph.files())


def test_a_split_manifest_that_moves_the_locked_split_fails_and_stops_the_frames(graph):
    before = graph.files()
    graph.variables["SPLITS"] = f"FIT:{DAYS[0]}..{DAYS[2]},VALIDATION_LOCKED:{DAYS[3]}..{DAYS[4]}"
    run = graph.materialize("split_manifest")
    assert not run.success
    assert failure_text(run).startswith(f"split_manifest: SPLITS has VALIDATION_LOCKED {DAYS[3]}T00:00:00+00:00..{DAYS[4]}")
    assert f"are locked with VALIDATION_LOCKED {DAYS[2]}T00:00:00+00:00" in failure_text(run)
    assert not run.asset_materializations_for_node("split_manifest")
    assert "split_manifest was refused" in failure_text(graph.materialize("feature_frame", DAYS[0]))
    assert set(graph.files()) - set(before) == {"quarantine/split_manifest/all/REFUSED.json"}
    graph.variables["SPLITS"] = SPLITS
    assert not graph.build().errors
    assert graph.files() == before


def test_one_build_mends_a_range_whose_fit_and_tune_have_moved(graph):
    before = graph.files()
    graph.variables["SPLITS"] = (
        f"FIT:{DAYS[0]}..{DAYS[0]}T12:00,TUNE:{DAYS[0]}T12:00..{DAYS[2]},VALIDATION_LOCKED:{DAYS[2]}..{DAYS[4]}"
    )
    assert not graph.build().errors
    assert graph.files()["split/validation_lock.json"] == before["split/validation_lock.json"]


def test_the_ui_shows_both_ledgers_at_split_manifest_and_feature_manifest(tmp_path, graph, bars):
    changed(bars, DAYS[3]).to_parquet(tmp_path / "replay.parquet", index=False)
    graph.build()
    relock(graph.store, graph.settings, "late prints")
    read_locked(graph.store.root, "the final score")
    assert not graph.build().errors
    held = json.loads(graph.files()["split/validation_lock.json"])
    for asset in ("split_manifest", "feature_manifest"):
        found = metadata(graph, asset)
        assert found["amendments"].value == held["amendments"]
        assert found["looks"].value == held["looks"]
        assert found["validation_lock"].value.splitlines() == [
            "- amendments (accepted changes of locked rows): 1, the last: late prints",
            "- looks (reads of locked rows): 1, the last: the final score",
        ]
    assert metadata(graph, "split_manifest")["locked_dates"].value == 2
    assert (metadata(graph, "feature_manifest")["amendment_count"].value, len(held["looks"])) == (1, 1)
    report = metadata(graph, "quality_report")["report"].value
    assert "- looks (reads of locked rows): 1, the last: the final score." in report


def test_the_bytes_of_replay_and_features_do_not_hang_on_the_splits(tmp_path, bars):
    files = []
    for name, splits in (("locked", SPLITS), ("free", f"FIT:{DAYS[0]}..{DAYS[4]}")):
        (tmp_path / name).mkdir()
        graph = parquet_graph(tmp_path / name, bars, SPLITS=splits)
        graph.build()
        files.append({path: data for path, data in graph.files().items() if path.startswith(("replay", "symbol_features"))})
    assert files[0] == files[1]


def test_every_documented_way_to_read_the_frame_gives_no_locked_row(tmp_path, bars, monkeypatch):
    blocks = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "data/feature_frame" in block]
    assert len(blocks) == 2
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS, ROOT=str(tmp_path / "data"))
    graph.build()
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        names: dict = {}
        exec(block, names)
        assert set(names["fit"]["split_id"]) == {"FIT"}
        assert len(names["fit"]) > 0
    (look,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "read_locked" in block]
    exec(look, names)
    assert names["locked"].num_rows == 2 * 1440
