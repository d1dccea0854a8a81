"""The manifest of a store that grows: what has not changed is not read again, and what has is seen."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import time
from pathlib import Path

import pytest

from feature_assets.dataset import feature_manifest, lock
from feature_assets.dataset.examination import EXAMINED_FILE, MANIFEST_FILE, Examination
from feature_assets.dataset.feature_manifest import SAMPLE_FILE, build_feature_manifest
from feature_assets.dataset.frame_sample import FrameSample
from feature_assets.dataset.keys import Key
from feature_assets.dataset.quality_report import build_quality_report
from feature_assets.dataset.store import Store
from feature_assets.errors import MissingInputError, StaleInputError
from feature_assets.features.catalogue import FEATURES
from feature_assets_tests.support.graph import parquet_graph
from feature_assets_tests.support.replays import days

RANGE = {"START_DATE": "2025-03-03", "END_DATE": "2025-03-07"}


@pytest.fixture
def graph(tmp_path):
    """Three of four days are built, all of it an hour ago, and examined now."""
    found = parquet_graph(tmp_path, days("BTCUSDT", 4), **RANGE)
    found.build(end="2025-03-06")
    backdate(found.folder / "store")
    build_feature_manifest(found.store, found.settings)
    return found


def backdate(root: Path) -> None:
    """Make every file an hour older."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (time.time() - 3600,) * 2)


@pytest.fixture
def read_dates(monkeypatch):
    """The dates whose frames the manifest reads."""
    seen = []
    reading = feature_manifest._read
    monkeypatch.setattr(feature_manifest, "_read", lambda store, key: seen.append(str(key)) or reading(store, key))
    return seen


def from_scratch(graph) -> dict[str, bytes]:
    """The store's files after a manifest that looked at everything and knew of none before."""
    for name in (EXAMINED_FILE, MANIFEST_FILE, SAMPLE_FILE):
        (graph.folder / "store" / name).unlink()
    build_feature_manifest(graph.store, graph.settings)
    return graph.files()


def test_a_day_that_is_added_is_the_only_one_that_is_read(graph, read_dates):
    graph.build(start="2025-03-06")
    assert read_dates == ["2025-03-06"]
    files = graph.files()
    assert from_scratch(graph) == files


def test_nothing_is_read_where_nothing_has_changed(graph, read_dates):
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert check.passed
    assert "3 of them have not changed since the last manifest" in check.message
    assert read_dates == []


def test_a_frame_that_was_built_again_with_other_rows_is_counted_anew(graph, read_dates):
    bars = days("BTCUSDT", 4)
    bars.loc[2 * 1440 : 3 * 1440, "spread_bps"] += 1.0
    bars.to_parquet(graph.folder / "replay.parquet", index=False, row_group_size=20_000)
    result = graph.build(start="2025-03-05", end="2025-03-06")
    assert not result.errors
    assert sorted(set(read_dates)) == ["2025-03-03", "2025-03-04", "2025-03-05"], "counts cannot be taken back: all is read"
    files = graph.files()
    assert from_scratch(graph) == files


def test_a_day_whose_stats_are_others_now_is_counted_anew_though_its_rows_are_the_same(graph, read_dates):
    """As rows that are dropped with an incomplete day are in no table, but in its stats."""
    key = Key.parse("2025-03-04")
    table, footer = graph.store.read("feature_frame", key)
    stats = footer.stats | {"dropped/BTCUSDT": 100}
    graph.store.publish("feature_frame", key, table, dataclasses.replace(footer, stats=stats))
    manifest, check = build_feature_manifest(graph.store, graph.settings)
    assert check.passed
    assert manifest["rows_dropped_with_incomplete_days"] == 100
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]


def test_a_day_that_was_built_again_as_it_was_is_read_again_and_counted_once(graph, read_dates):
    before = graph.files()
    graph.build(start="2025-03-05", end="2025-03-06")
    assert read_dates == ["2025-03-05"]
    assert graph.files() == before
    assert from_scratch(graph) == before


def test_a_frame_that_was_put_back_with_its_old_time_is_seen(graph, read_dates):
    path = graph.folder / "store" / Store.partition_file("feature_frame", Key.parse("2025-03-04"))
    times, data = (path.stat().st_atime_ns, path.stat().st_mtime_ns), path.read_bytes()
    path.rename(path.with_name(".aside"))
    path.write_bytes(data)
    os.utime(path, ns=times)
    build_feature_manifest(graph.store, graph.settings)
    assert read_dates == ["2025-03-04"]


def test_without_a_mark_as_on_an_object_store_all_is_read_and_counted_anew(graph, read_dates, monkeypatch):
    files = graph.files()
    (graph.folder / "store" / EXAMINED_FILE).unlink()
    monkeypatch.setattr(Store, "clock", lambda *_: None)
    monkeypatch.setattr(FrameSample, "from_parquet", lambda _: pytest.fail("nothing vouches for the sample"))
    for _ in range(2):
        build_feature_manifest(graph.store, graph.settings)
    assert read_dates == 2 * ["2025-03-03", "2025-03-04", "2025-03-05"]
    assert graph.files() == files


def test_a_sample_that_is_not_the_manifests_is_made_anew_and_no_report_is_made_of_it(graph, read_dates):
    files = graph.files()
    path = graph.folder / "store" / SAMPLE_FILE
    path.write_bytes(path.read_bytes() + b"0")
    with pytest.raises(StaleInputError, match="is not the manifest's"):
        build_quality_report(graph.store, graph.settings)
    build_feature_manifest(graph.store, graph.settings)
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]
    assert graph.files() == files


def test_a_frame_that_is_built_again_while_it_is_examined_is_not_published(graph, monkeypatch):
    key = Key.parse("2025-03-04")
    table, footer = graph.store.read("feature_frame", key)
    contents = Examination.contents

    def overtaken(last, store):
        found = contents(last, store)
        store.publish("feature_frame", key, table, dataclasses.replace(footer, stats=footer.stats | {"dropped/BTCUSDT": 1}))
        return found

    (graph.folder / "store" / EXAMINED_FILE).unlink()
    monkeypatch.setattr(Examination, "contents", overtaken)
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert not check.passed
    assert "feature_frame 2025-03-04 was built again meanwhile" in check.message


@pytest.mark.parametrize("mark", [b"", b"{", b"[]", b"{}", b'{"manifest": 7, "since": 1, "frames": {"2025-03-03": 1}}'])
def test_a_mark_that_says_nothing_costs_only_time(graph, read_dates, mark):
    (graph.folder / "store" / EXAMINED_FILE).write_bytes(mark)
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert check.passed
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]


@pytest.mark.parametrize("manifest", [b"{", b"[]", b'{"partitions": 7}', b'{"partitions": [{"date": "2025-03-03"}]}'])
def test_a_manifest_that_cannot_be_read_is_made_anew_and_no_report_is_made_of_it(graph, read_dates, manifest):
    files = graph.files()
    (graph.folder / "store" / MANIFEST_FILE).write_bytes(manifest)
    with pytest.raises(MissingInputError, match="feature_manifest is missing"):
        build_quality_report(graph.store, graph.settings)
    build_feature_manifest(graph.store, graph.settings)
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]
    assert graph.files() == files


def test_the_mark_of_another_manifest_vouches_for_nothing(graph, read_dates):
    """As where an older manifest was put back."""
    path = graph.folder / "store" / MANIFEST_FILE
    path.write_bytes(path.read_bytes() + b"\n")
    build_feature_manifest(graph.store, graph.settings)
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]


def test_the_manifest_is_indented_json_with_a_line_a_date(graph):
    text = (graph.folder / "store" / MANIFEST_FILE).read_text()
    lines = [line for line in text.splitlines() if '"date": "2025-03-0' in line]
    assert len(lines) == 3
    assert [entry["date"] for entry in json.loads(text)["partitions"]] == ["2025-03-03", "2025-03-04", "2025-03-05"]


def test_a_file_that_was_tampered_with_is_found(graph):
    path = graph.folder / "store" / Store.partition_file("feature_frame", Key.parse("2025-03-04"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert not check.passed
    assert "2025-03-04" in check.message


@pytest.mark.parametrize("asset", ["replay", "symbol_features"])
def test_an_input_that_is_another_since_is_found(graph, asset):
    key = Key.parse("2025-03-04|BTCUSDT")
    table, footer = graph.store.read(asset, key)
    graph.store.publish(asset, key, table, type(footer)("0" * 64, footer.code_version, footer.inputs, footer.stats))
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert not check.passed
    assert "stale" in check.message
    with pytest.raises(StaleInputError):
        graph.store.input_hash("feature_frame/2025-03-04")


def test_other_code_makes_every_date_be_read(graph, read_dates, monkeypatch):
    monkeypatch.setattr(feature_manifest, "features_code_version", lambda _options: "other")
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert not check.passed
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]


def test_another_split_manifest_makes_every_date_be_read_and_refuses_them_all(graph, read_dates):
    graph.variables["SPLITS"] = "FIT:2025-03-03..2025-03-04"
    lock.publish_splits(graph.store, graph.settings.splits)
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]
    assert all(f"feature_frame/{date} is stale" in check.message for date in read_dates)


def test_a_symbol_that_is_no_member_any_more_is_found_in_frames_that_have_not_changed(graph, read_dates):
    graph.variables["SYMBOLS"] = "BTCUSDT:2025-03-04.."
    _, check = build_feature_manifest(graph.store, graph.settings)
    assert read_dates == ["2025-03-03", "2025-03-04", "2025-03-05"]
    assert "feature_frame 2025-03-03 has rows of BTCUSDT, no member on that date" in check.message


def test_a_refused_manifest_vouches_for_nothing(graph, read_dates):
    key = Key.parse("2025-03-04|BTCUSDT")
    table, footer = graph.store.read("symbol_features", key)
    graph.store.publish("symbol_features", key, table, type(footer)("0" * 64, footer.code_version, footer.inputs, footer.stats))
    assert not build_feature_manifest(graph.store, graph.settings)[1].passed
    backdate(graph.folder / "store")
    read_dates.clear()
    assert not build_feature_manifest(graph.store, graph.settings)[1].passed
    assert read_dates.count("2025-03-03") == 1


def test_no_mark_and_no_temporary_file_is_left_by_a_refused_manifest(graph, monkeypatch):
    before = (graph.folder / "store" / EXAMINED_FILE).read_bytes()
    monkeypatch.setattr(feature_manifest, "features_code_version", lambda _options: "other")
    assert not build_feature_manifest(graph.store, graph.settings)[1].passed
    assert (graph.folder / "store" / EXAMINED_FILE).read_bytes() == before
    assert list((graph.folder / "store").rglob("*.tmp")) == []


def test_the_manifest_tells_until_when_the_data_ran_that_a_feature_was_fitted_on(graph, monkeypatch):
    fitted = dataclasses.replace(FEATURES[0], fitted_on=dt.date(2025, 3, 3))
    monkeypatch.setattr(feature_manifest, "FEATURES", (fitted, *FEATURES[1:]))
    manifest, _ = build_feature_manifest(graph.store, graph.settings)
    assert [entry["fitted_on"] for entry in manifest["features"]] == ["2025-03-03", *[None] * 36]
    assert "fitted_on" not in fitted.schema_entry()


def test_a_manifest_of_an_empty_store_leaves_nothing_behind(tmp_path):
    graph = parquet_graph(tmp_path, days("BTCUSDT", 1))
    with pytest.raises(MissingInputError, match="no feature_frame partition at all"):
        build_feature_manifest(graph.store, graph.settings)
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
