"""What is refused, blocked or left unbuilt: alone, in a range, and downstream."""

from __future__ import annotations

import datetime as dt
import json

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from feature_assets.dataset.keys import Key
from feature_assets_tests.support.graph import failure_text, parquet_graph
from feature_assets_tests.support.replays import START, days

SYMBOL = "BTCUSDT"


def day(number: int) -> str:
    return str(START + dt.timedelta(days=number))


def key(number: int) -> str:
    return f"{day(number)}|{SYMBOL}"


def evaluations(result: dg.ExecuteInProcessResult, name: str) -> dict[str, bool]:
    """A run's evaluations of a check by partition."""
    found = [evaluation for evaluation in result.get_asset_check_evaluations() if evaluation.check_name == name]
    return {evaluation.partition: evaluation.passed for evaluation in found}


@pytest.fixture
def sound() -> pd.DataFrame:
    return days(SYMBOL, 6)


def spoil(replay: pd.DataFrame, number: int) -> pd.DataFrame:
    """The replay with a negative volume at 10:00 of a day."""
    spoiled = replay.copy()
    spoiled.loc[number * 1440 + 600, "volume"] = -1.0
    return spoiled


def test_a_day_that_breaks_a_rule_is_refused_alone(tmp_path, sound):
    graph = parquet_graph(tmp_path, spoil(sound, 2))
    result = graph.materialize("replay", key(2))
    assert not result.success
    assert "volume >= 0: 1 row(s), e.g. row 600" in failure_text(result)
    assert "volume=-1.0" in failure_text(result)
    assert not graph.exists("replay", key(2))
    assert graph.materialized("replay") == []
    assert evaluations(result, "sound_replay") == {key(2): False}
    folder = tmp_path / "store/quarantine/replay" / key(2)
    assert json.loads((folder / "REFUSED.json").read_text())["check"] == "sound_replay"
    assert len(pd.read_parquet(folder / "rejected.parquet")) == 1440


def test_in_a_range_the_other_days_are_published_and_the_refused_one_is_named(tmp_path, sound):
    graph = parquet_graph(tmp_path, spoil(sound, 2))
    result = graph.materialize("replay", key(-1), key(5))
    assert not result.success
    assert failure_text(result).startswith("replay: 1 partition(s) not published.\n" + key(2))
    assert graph.materialized("replay") == [key(n) for n in (-1, 0, 1, 3, 4, 5)]
    assert evaluations(result, "sound_replay") == {key(n): n != 2 for n in range(-1, 6)}


def test_nothing_is_built_downstream_of_a_refused_day_and_the_rest_is(tmp_path, sound):
    graph = parquet_graph(tmp_path, spoil(sound, 2))
    result = graph.build()
    assert graph.materialized("symbol_features") == [key(n) for n in (0, 1, 5)]
    assert graph.materialized("feature_frame") == [day(n) for n in (0, 1, 5)]
    blocked = "\n".join(result.errors)
    for number in (2, 3, 4):
        assert f"symbol_features {key(number)}: replay/{key(2)} was refused" in blocked
    assert (tmp_path / "store/dataset/feature_frame.manifest.json").exists()
    manifest = json.loads((tmp_path / "store/dataset/feature_frame.manifest.json").read_text())
    assert manifest["missing_dates"] == [day(n) for n in (2, 3, 4)]


def test_a_mended_day_is_built_with_the_later_days_that_look_back_to_it(tmp_path, sound):
    graph = parquet_graph(tmp_path, spoil(sound, 2))
    graph.build()
    graph = parquet_graph(tmp_path, sound)
    assert graph.materialized("symbol_features") == []
    assert not graph.build(day(2), day(3)).errors
    # The day itself and exactly the two that look back to it, which the refusal had left out.
    assert graph.materialized("symbol_features") == [key(n) for n in (2, 3, 4)]
    assert graph.materialized("feature_frame") == [day(n) for n in (2, 3, 4)]
    assert not (tmp_path / "store/quarantine/replay" / key(2)).joinpath("REFUSED.json").exists()
    (tmp_path / "fresh").mkdir()
    fresh = parquet_graph(tmp_path / "fresh", sound)
    fresh.build()
    assert graph.frame().equals(fresh.frame())


def test_a_refused_rebuild_leaves_the_last_good_file_and_stops_what_is_downstream(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    assert not graph.build().errors
    before = graph.files()
    graph = parquet_graph(tmp_path, spoil(sound, 3))
    assert not graph.materialize("replay", key(3)).success
    after = graph.files()
    assert {name for name in after if name not in before} == {
        f"quarantine/replay/{key(3)}/{name}" for name in ("REFUSED.json", "rejected.parquet")
    }
    assert all(after[name] == data for name, data in before.items())
    for asset, partition in (("symbol_features", key(4)), ("feature_frame", day(3)), ("feature_frame", day(5))):
        result = graph.materialize(asset, partition)
        assert not result.success
        assert f"replay/{key(3)} was refused" in failure_text(result)
    assert not graph.materialize("feature_manifest").success


def test_a_good_build_takes_the_marker_away(tmp_path, sound):
    spoiled = parquet_graph(tmp_path, spoil(sound, 1))
    spoiled.materialize("replay", key(1))
    assert spoiled.store.refusal("replay", Key.parse(key(1)))
    mended = parquet_graph(tmp_path, sound)
    assert mended.materialize("replay", key(1)).success
    assert mended.store.refusal("replay", Key.parse(key(1))) is None


def test_an_input_that_was_built_from_another_replay_is_refused_as_stale(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.build()
    old = graph.store.footer("replay", Key.parse(key(2))).content_hash
    changed = sound.copy()
    changed.loc[2 * 1440 + 5, "volume"] += 1.0
    graph = parquet_graph(tmp_path, changed)
    assert graph.materialize("replay", key(2)).success
    new = graph.store.footer("replay", Key.parse(key(2))).content_hash
    result = graph.materialize("feature_frame", day(3))
    assert not result.success
    assert f"symbol_features/{key(3)} is stale: built from replay/{key(2)} {old}, which is {new} now" in failure_text(result)


def test_a_build_of_a_changed_day_rebuilds_exactly_the_days_that_look_back_to_it(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.build()
    before = graph.files()
    changed = sound.copy()
    changed.loc[1 * 1440 + 1435, "volume"] += 1.0
    graph = parquet_graph(tmp_path, changed)
    assert not graph.build(day(1), day(2)).errors
    after = graph.files()
    touched = {name for name in after if after[name] != before[name] and name.startswith("symbol_features")}
    assert touched == {f"symbol_features/symbol={SYMBOL}/date={day(n)}/part-0.parquet" for n in (1, 2, 3)}
    assert graph.materialize("feature_manifest").success


def test_only_leaves_the_later_days_and_names_them(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.build()
    changed = sound.copy()
    changed.loc[1 * 1440 + 1435, "volume"] += 1.0
    graph = parquet_graph(tmp_path, changed)
    result = graph.build(day(1), day(2), only=True)
    assert not result.errors
    assert result.left_stale == [f"symbol_features {key(n)}" for n in (2, 3)] + [f"feature_frame {day(n)}" for n in (2, 3)]
    assert graph.build(day(1), day(2)).left_stale == []
    assert graph.materialize("feature_manifest").success


def test_days_without_a_replay_yet_are_left_unbuilt_without_failing(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound, END_DATE=day(8))
    result = graph.build()
    assert not result.errors
    assert graph.materialized("replay") == [key(n) for n in range(-7, 6)]
    assert graph.materialized("symbol_features") == [key(n) for n in range(6)]
    assert graph.materialized("feature_frame") == [day(n) for n in range(6)]


def test_a_missing_look_back_day_is_a_failure_that_names_every_missing_partition(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.materialize("replay", key(3))
    result = graph.materialize("symbol_features", key(3))
    assert not result.success
    assert f"look-back missing: replay/{key(2)}, replay/{key(1)}" in failure_text(result)
    assert graph.materialized("symbol_features") == []


def test_only_the_look_back_days_that_are_read_must_exist(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.materialize("replay", key(1), key(3))
    assert graph.materialize("symbol_features", key(3)).success


def test_an_absent_day_is_an_empty_partition_with_a_warning(tmp_path, sound):
    holed = sound[sound["event_time"].dt.day != START.day + 2]
    graph = parquet_graph(tmp_path, holed)
    result = graph.build()
    assert not result.errors
    # The absent day at replay and at frame; two later days whose windows bridge it.
    assert result.checks["warned"] == 1 + 3
    assert graph.store.read_table("symbol_features", Key.parse(key(2))).num_rows == 0
    assert graph.store.read_table("feature_frame", Key.parse(day(2))).num_rows == 0
    bridging = graph.store.footer("symbol_features", Key.parse(key(3))).stats["rows_bridging_gaps"]
    assert bridging == 1440


def test_an_incomplete_day_is_dropped_and_counted(tmp_path, sound):
    short = sound.drop(index=range(2 * 1440 + 100, 2 * 1440 + 110))
    graph = parquet_graph(tmp_path, short)
    graph.build()
    assert graph.store.footer("symbol_features", Key.parse(key(2))).stats["rows_dropped"] == 1430
    manifest = json.loads((tmp_path / "store/dataset/feature_frame.manifest.json").read_text())
    assert manifest["rows_dropped_with_incomplete_days"] == 1430
    report = (tmp_path / "store/report/feature_quality_report.md").read_text()
    assert "- rows_dropped_with_incomplete_days: 1430" in report
    (check,) = graph.materialize("replay", key(2)).get_asset_check_evaluations()
    assert check.description == f"{key(2)} is short: 1430 of 1440 minutes; every rule holds."
    assert check.severity == dg.AssetCheckSeverity.WARN


def test_a_value_out_of_bounds_is_refused_by_finite_values(tmp_path, sound, monkeypatch):
    import dataclasses

    from feature_assets.features import build, catalogue

    def broken(bars):
        return np.full(len(bars), 1.5)

    features = tuple(dataclasses.replace(f, function=broken) if f.name == "taker_imbalance_5m" else f for f in catalogue.FEATURES)
    monkeypatch.setattr(build, "FEATURES", features)
    graph = parquet_graph(tmp_path, sound)
    graph.materialize("replay", key(0), key(2))
    result = graph.materialize("symbol_features", key(2))
    assert not result.success
    assert "taker_imbalance_5m lies outside [-1.0, 1.0] in 1440 row(s)" in failure_text(result)
    assert evaluations(result, "finite_values") == {key(2): False}
    assert not graph.exists("symbol_features", key(2))


def test_a_feature_that_looks_ahead_is_refused_by_no_lookahead(tmp_path, sound, monkeypatch):
    import dataclasses

    from feature_assets.features import build, catalogue

    def peeking(bars):
        return np.append(bars["index_price"][1:], bars["index_price"][-1:])

    features = tuple(dataclasses.replace(f, function=peeking) if f.name == "funding_bps" else f for f in catalogue.FEATURES)
    monkeypatch.setattr(build, "FEATURES", features)
    graph = parquet_graph(tmp_path, sound)
    graph.materialize("replay", key(0), key(3))
    result = graph.materialize("symbol_features", key(2), key(3))
    assert not result.success
    assert failure_text(result).count("funding_bps looks ahead 1 row(s): cut after row") == 2
    assert evaluations(result, "no_lookahead") == {key(2): False, key(3): False}
    assert graph.materialized("symbol_features") == []


def test_a_frame_and_the_manifest_in_one_run_fail_instead_of_being_skipped(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.build()
    result = graph.materialize("feature_frame,feature_manifest", day(1))
    assert not result.success
    assert "feature_frame and feature_manifest cannot share a run" in failure_text(result)


def test_the_manifest_fails_where_no_frame_exists_and_where_a_file_was_changed(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    result = graph.materialize("feature_manifest")
    assert "there is no feature_frame partition at all" in failure_text(result)
    graph.build()
    before = graph.files()["dataset/feature_frame.manifest.json"]
    frame_file = tmp_path / "store/feature_frame" / f"date={day(1)}" / "part-0.parquet"
    other = graph.store.read_table("feature_frame", Key.parse(day(2)))
    footer = graph.store.footer("feature_frame", Key.parse(day(1)))
    graph.store.publish("feature_frame", Key.parse(day(1)), other, footer)
    assert frame_file.exists()
    result = graph.materialize("feature_manifest,quality_report")
    assert not result.success
    assert f"feature_frame {day(1)}: the file's content hash is" in failure_text(result)
    assert graph.files()["dataset/feature_frame.manifest.json"] == before
    assert (tmp_path / "store/quarantine/feature_manifest/all/REFUSED.json").exists()


def test_a_store_of_two_split_versions_fails_matches_store_until_the_range_is_built(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.build()
    graph.variables["SPLITS"] = f"FIT:{day(0)}..{day(3)},TUNE:{day(3)}..{day(5)}"
    assert graph.materialize("split_manifest").success
    assert graph.materialize("feature_frame", day(0)).success
    result = graph.materialize("feature_manifest")
    assert "is stale: built from split_manifest" in failure_text(result)
    assert not graph.build().errors
    assert graph.materialize("feature_manifest").success


def test_a_store_of_another_source_is_refused_naming_both(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.materialize("split_manifest")
    graph.variables["SOURCE"] = "synthetic"
    text = failure_text(graph.materialize("split_manifest"))
    assert "was built from source {'identity': 'replay.parquet', 'kind': 'parquet'}" in text
    assert "SOURCE now is {'kind': 'synthetic', 'identity': 'seed 7'}" in text


def test_a_truncated_replay_file_fails_every_day_naming_the_file(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    path = tmp_path / "replay.parquet"
    path.write_bytes(path.read_bytes()[:-1000])
    result = graph.materialize("replay", key(0), key(1))
    assert not result.success
    assert "cannot be read: replay.parquet: not readable as Parquet" in failure_text(result)
    assert graph.materialized("replay") == []


def test_features_of_two_options_fail_matches_store_until_the_range_is_built(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.build()
    graph.variables["GAPS"] = "restart"
    text = failure_text(graph.materialize("feature_manifest"))
    assert f"symbol_features/{key(0)}" in text
    assert "made by other feature code or options" in text
    # Neighbours within the look-back's reach of what is built are mended with it.
    assert not graph.build(day(0), day(1)).errors
    assert graph.materialize("feature_manifest").success


def test_a_report_on_other_frames_than_the_manifest_names_is_refused_as_stale(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound)
    graph.build()
    graph.variables["SPLITS"] = f"FIT:{day(0)}..{day(3)}"
    assert graph.materialize("split_manifest,feature_frame", day(0), day(5)).success
    text = failure_text(graph.materialize("quality_report"))
    assert f"feature_manifest is stale: it names feature_frame/{day(0)}" in text


def test_a_symbol_that_joins_in_the_middle_of_a_range_is_built_with_it(tmp_path, sound):
    both = pd.concat([sound, days("ETHUSDT", 6)])
    graph = parquet_graph(tmp_path, both, SYMBOLS=f"BTCUSDT,ETHUSDT:{day(2)}..{day(5)}")
    assert not graph.build().errors
    counts = graph.frame().groupby("symbol").size().to_dict()
    assert counts == {"BTCUSDT": 6 * 1440, "ETHUSDT": 3 * 1440}
    # Nothing before its lifetime is read: its first day is warm-up.
    first = graph.frame().query("symbol == 'ETHUSDT'")["data_quality_flag"].iloc[:1439]
    assert set(first) == {"WARMUP"}


def test_a_longer_lifetime_gives_the_bytes_that_it_would_have_given_from_the_start(tmp_path, sound):
    graph = parquet_graph(tmp_path, sound, SYMBOLS=f"BTCUSDT:{day(2)}..")
    assert not graph.build(day(2), day(4)).errors
    graph.variables["SYMBOLS"] = "BTCUSDT"
    assert not graph.build(day(2), day(4)).errors
    (tmp_path / "fresh").mkdir()
    fresh = parquet_graph(tmp_path / "fresh", sound)
    fresh.build(day(2), day(4))
    assert graph.frame().equals(fresh.frame())


def test_a_build_tells_what_it_left_unbuilt_and_what_was_warned_about(tmp_path, sound):
    holed = sound[sound["event_time"].dt.day != START.day + 2]
    graph = parquet_graph(tmp_path, holed, END_DATE=day(7))
    warnings = "\n".join(graph.build().warnings)
    assert f"sound_replay {key(2)} is absent: the source has no bars" in warnings
    assert f"complete {day(3)}: rows whose window runs across missing minutes" in warnings
    assert f"replay {key(6)} is not published yet; it is asked for again." in warnings
    assert f"feature_frame {day(6)} is left unbuilt: no replay yet of {key(6)}." in warnings


def test_restarted_gaps_bridge_nothing(tmp_path, sound):
    short = sound.drop(index=range(2 * 1440 + 100, 2 * 1440 + 110))
    graph = parquet_graph(tmp_path, short, ALLOW_INCOMPLETE_DAYS="true", GAPS="restart")
    graph.build()
    assert graph.store.footer("symbol_features", Key.parse(key(2))).stats["rows_bridging_gaps"] == 0
    bridge = parquet_graph(tmp_path, short, ALLOW_INCOMPLETE_DAYS="true")
    bridge.build()
    assert bridge.store.footer("symbol_features", Key.parse(key(2))).stats["rows_bridging_gaps"] == 1440 - 110


def test_a_failed_check_has_the_offending_rows_in_its_metadata(tmp_path, sound):
    graph = parquet_graph(tmp_path, spoil(sound, 2))
    (check,) = graph.materialize("replay", key(2)).get_asset_check_evaluations()
    assert check.metadata["volume >= 0"].value == [1, "row 600 at 2025-03-05 10:00:00+00:00 (volume=-1.0)"]
    sound_graph = parquet_graph(tmp_path, sound)
    sound_graph.build()
    sound_graph.materialize("split_manifest")
    path = tmp_path / "store/feature_frame" / f"date={day(1)}" / "part-0.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    (check,) = sound_graph.materialize("feature_manifest").get_asset_check_evaluations()
    assert not check.passed
    assert f"feature_frame {day(1)} is not readable" in check.metadata["offending"].value[0]
