"""The commands as a user or a CI job types them, in processes of their own, with their exit codes."""

from __future__ import annotations

import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feature_assets.dataset.tables import Footer, content_hash
from feature_assets_tests.support.replays import days

BIN = Path(sys.executable).parent


def run(command: list[str], folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FEATURE_ASSETS_", "DAGSTER"))}
    environment |= {"DAGSTER_DISABLE_TELEMETRY": "1"} | {f"FEATURE_ASSETS_{k}": v for k, v in settings.items()}
    program = BIN / command[0]
    return subprocess.run([program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def materialize(folder: Path, select: str, *partition: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return run(
        ["dagster", "asset", "materialize", "-m", "feature_assets.definitions", "--select", select, *partition],
        folder,
        **settings,
    )


@pytest.fixture
def replay(tmp_path):
    """Settings of three days of one symbol, the last of them unsound."""
    bars = days("BTCUSDT", 3)
    bars.loc[2 * 1440 + 7, "high"] = 1.0
    path = tmp_path / "replay.parquet"
    bars.to_parquet(path, index=False)
    return {"SOURCE": f"parquet:{path}", "SYMBOLS": "BTCUSDT", "START_DATE": "2025-03-03", "END_DATE": "2025-03-06"}


def test_build_prints_a_table_and_exits_0(tmp_path):
    result = run(["feature-assets", "build", "--from", "2026-02-04"], tmp_path, SYMBOLS="BTCUSDT")
    assert result.returncode == 0, result.stderr
    assert "BTCUSDT         TUNE                     1,440" in result.stdout
    assert "checks    19 passed, 0 warned, 0 failed" in result.stdout
    assert f"frame     {tmp_path}/data/feature_frame" in result.stdout
    assert "feature_frame    2/2 partitions" in result.stderr
    assert "dagster.yaml" not in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"data", ".dagster"}


def test_build_exits_1_where_a_partition_is_refused_and_names_it(tmp_path, replay):
    result = run(["feature-assets", "build"], tmp_path, **replay)
    assert result.returncode == 1
    assert "high >= max(open, close): 1 row(s), e.g. row 7 at 2025-03-05 00:07:00+00:00 (open=" in result.stderr
    assert "FAILED symbol_features: 1 partition(s) not published." in result.stderr
    assert "on 2 of 3 dates" in result.stdout


def test_build_exits_3_where_only_leaves_later_days_stale(tmp_path, replay):
    run(["feature-assets", "build"], tmp_path, **replay)
    bars = days("BTCUSDT", 3)
    bars.loc[1435, "volume"] += 1.0
    bars.to_parquet(tmp_path / "replay.parquet", index=False)
    result = run(["feature-assets", "build", "--from", "2025-03-03", "--to", "2025-03-04", "--only"], tmp_path, **replay)
    assert result.returncode == 3, result.stdout + result.stderr
    assert "left stale: symbol_features 2025-03-04|BTCUSDT" in result.stdout


def test_status_shows_every_partition_and_exits_0_only_where_all_is_built(tmp_path, replay):
    run(["feature-assets", "build"], tmp_path, **replay)
    result = run(["feature-assets", "status"], tmp_path, **replay)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "date        BTCUSDT  frame",
        "2025-03-03  ##       #",
        "2025-03-04  ##       #",
        "2025-03-05  !?       ?",
    ]
    assert "# built 6   ~ stale 0   ! refused 1   - absent 0   . not yet 0   ? missing 2" in lines
    assert lines[-1].startswith("refused replay 2025-03-05|BTCUSDT: 2025-03-05|BTCUSDT: not a sound replay. high >= max")
    built = run(["feature-assets", "status", "--to", "2025-03-05", "--json"], tmp_path, **replay)
    assert built.returncode == 0
    found = json.loads(built.stdout)
    assert found["built"] is True
    assert found["partitions"][0] == {
        "asset": "replay",
        "partition": "2025-03-03|BTCUSDT",
        "state": "built",
        "reason": "",
    }


@pytest.mark.slow
def test_relock_accepts_what_a_build_has_refused_and_the_next_build_publishes_it(tmp_path):
    bars = days("BTCUSDT", 3)
    path = tmp_path / "replay.parquet"
    splits = "FIT:2025-03-03..2025-03-05,VALIDATION_LOCKED:2025-03-05..2025-03-06"
    settings = {"SOURCE": f"parquet:{path}", "SYMBOLS": "BTCUSDT", "SPLITS": splits}
    settings |= {"START_DATE": "2025-03-03", "END_DATE": "2025-03-06"}
    bars.to_parquet(path, index=False)
    assert run(["feature-assets", "build"], tmp_path, **settings).returncode == 0
    unchanged = run(["feature-assets", "relock", "--reason", "to be sure"], tmp_path, **settings)
    assert (unchanged.returncode, unchanged.stdout) == (0, "nothing has changed: no amendment is needed\n")
    bars.loc[2 * 1440 + 600, "volume"] += 1.0
    bars.to_parquet(path, index=False)
    refused = run(["feature-assets", "build"], tmp_path, **settings)
    assert refused.returncode == 1
    assert "FAILED feature_frame: 1 partition(s) not published.\n2025-03-05: locked rows would change" in refused.stderr
    assert "`feature-assets relock --reason TEXT` accepts the present state" in refused.stderr
    empty = run(["feature-assets", "relock", "--reason", " "], tmp_path, **settings)
    assert (empty.returncode, empty.stdout) == (2, "")
    assert "--reason: it is empty" in empty.stderr
    assert run(["feature-assets", "relock"], tmp_path, **settings).returncode == 2
    accepted = run(["feature-assets", "relock", "--reason", "late prints"], tmp_path, **settings)
    assert accepted.returncode == 0, accepted.stderr
    lines = accepted.stdout.splitlines()
    assert lines[:2] == [
        "amendment 1: late prints",
        "VALIDATION_LOCKED  2025-03-05T00:00:00+00:00..2025-03-06T00:00:00+00:00",
    ]
    assert lines[2].startswith("2025-03-05  ")
    assert lines[3:] == ["`feature-assets build` publishes it"]
    assert run(["feature-assets", "build"], tmp_path, **settings).returncode == 0
    manifest = json.loads((tmp_path / "data/dataset/feature_frame.manifest.json").read_text())
    assert [entry["reason"] for entry in manifest["amendments"]] == ["late prints"]


def test_diff_exits_0_for_equal_stores_and_1_with_the_first_difference_for_others(tmp_path, replay):
    run(["feature-assets", "build"], tmp_path, **replay)
    shutil.copytree(tmp_path / "data", tmp_path / "same")
    # The settings of the working directory are none of a diff's.
    same = run(["feature-assets", "diff", "data", "same"], tmp_path, GAPS="mind")
    assert (same.returncode, same.stdout.splitlines()[:4]) == (
        0,
        [f"A  {tmp_path}/data", f"B  {tmp_path}/same", "", "the same: 13 partitions"],
    )
    assert "replay           9/9 partitions" in same.stderr
    bars = days("BTCUSDT", 3)
    bars.loc[7, "volume"] += 1.0
    bars.to_parquet(tmp_path / "replay.parquet", index=False)
    run(["feature-assets", "build"], tmp_path, **replay, ROOT="other")
    other = run(["feature-assets", "diff", "data", "other"], tmp_path)
    assert other.returncode == 1
    assert "DIFFERENT: replay, symbol_features, feature_frame" in other.stdout
    assert "  2025-03-03|BTCUSDT: 1 row(s) changed, first 2025-03-03 00:07 BTCUSDT volume: " in other.stdout
    assert "  only in B: 2025-03-05|BTCUSDT" in other.stdout
    assert "inputs     symbol_features: 2 partition(s) have others, first 2025-03-03|BTCUSDT: replay/2025-03-03" in other.stdout
    found = run(["feature-assets", "diff", "data", "other", "--from", "2025-03-05", "--json"], tmp_path)
    assert found.returncode == 1
    layers = json.loads(found.stdout)["layers"]
    assert [layer["only"]["b"] for layer in layers.values()] == [["2025-03-05|BTCUSDT"]] * 2 + [["2025-03-05"]]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["."], "the following arguments are required: ROOT_B"),
        ([".", "."], "feature-assets: ROOT_A: {folder} is neither a store (store.json, or partitions of replay, "),
        (["s3://user:word@bucket", "."], "feature-assets: ROOT_A: the URL holds credentials"),
        (
            [".", ".", "--from", "2026-02-02", "--to", "2026-02-02"],
            "feature-assets: --from 2026-02-02 --to 2026-02-02 is no range",
        ),
    ],
)
def test_diff_exits_2_for_a_wrong_argument(tmp_path, arguments, sentence):
    result = run(["feature-assets", "diff", *arguments], tmp_path)
    assert result.returncode == 2
    assert sentence.format(folder=tmp_path) in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--from", "2026-02-09"], "--from 2026-02-09 --to 2026-02-06 is no range within START_DATE 2026-02-01"),
        (["--from", "tomorrow"], "--from: 'tomorrow' is no date of the form YYYY-MM-DD"),
    ],
)
def test_build_exits_2_for_a_wrong_range(tmp_path, arguments, sentence):
    result = run(["feature-assets", "build", *arguments], tmp_path)
    assert result.returncode == 2
    assert sentence in result.stderr


def test_build_exits_2_for_a_wrong_setting(tmp_path):
    result = run(["feature-assets", "build"], tmp_path, GAPS="mind")
    assert result.returncode == 2
    assert result.stderr == "feature-assets: GAPS: 'mind' is neither bridge nor restart.\n"


def test_dagster_asset_materialize_builds_layer_by_layer_and_exits_0(tmp_path, replay):
    span = ("--partition-range", "2025-02-24|BTCUSDT...2025-03-04|BTCUSDT")
    assert materialize(tmp_path, "replay", *span, **replay).returncode == 0
    assert materialize(tmp_path, "split_manifest", **replay).returncode == 0
    for day in ("2025-03-03", "2025-03-04"):
        one = materialize(tmp_path, "symbol_features", "--partition", f"{day}|BTCUSDT", **replay)
        assert one.returncode == 0, one.stderr
    frames = ("--partition-range", "2025-03-03...2025-03-04")
    assert materialize(tmp_path, "feature_frame", *frames, **replay).returncode == 0
    assert materialize(tmp_path, "feature_manifest,quality_report", **replay).returncode == 0
    assert (tmp_path / "data/report/feature_quality_report.md").exists()


def test_dagster_asset_materialize_exits_1_for_a_refused_partition_and_for_a_skipped_one(tmp_path, replay):
    refused = materialize(tmp_path, "replay", "--partition", "2025-03-05|BTCUSDT", **replay)
    assert refused.returncode == 1
    assert "not a sound replay" in refused.stderr
    skipped = materialize(tmp_path, "feature_frame,feature_manifest", "--partition", "2025-03-03", **replay)
    assert skipped.returncode == 1
    assert "cannot share a run" in skipped.stderr


def test_audit_exits_0_where_all_is_proven_1_where_it_is_not_and_2_for_a_wrong_number_of_cuts(tmp_path):
    settings = {"SYMBOLS": "BTCUSDT", "END_DATE": "2026-02-03"}
    assert run(["feature-assets", "audit"], tmp_path, **settings).returncode == 1, "nothing is stored"
    assert run(["feature-assets", "build"], tmp_path, **settings).returncode == 0
    result = run(["feature-assets", "audit", "--cuts", "3"], tmp_path, **settings)
    assert result.returncode == 0, result.stderr
    assert "2 partitions, 6 cuts, " in result.stdout
    assert "all bit-equal" in result.stdout
    (tmp_path / "data/feature_frame/date=2026-02-01/part-0.parquet").unlink()
    result = run(["feature-assets", "audit"], tmp_path, **settings)
    assert result.returncode == 1
    assert "2026-02-01|BTCUSDT: feature_frame 2026-02-01 is missing" in result.stderr
    assert run(["feature-assets", "audit", "--cuts", "1441"], tmp_path, **settings).returncode == 2


@pytest.mark.slow
def test_commands_that_build_the_same_range_at_once_with_a_reader_beside_them_end_as_one_alone(tmp_path):
    """Whole runs, each with an event log of its own: two builds, a range of one layer, and a reader that sees no torn file."""
    settings = {"SYMBOLS": "BTCUSDT,ETHUSDT", "END_DATE": "2026-02-04", "SPLITS": "FIT:2026-02-01..2026-02-04"}
    alone = tmp_path / "alone"
    alone.mkdir()
    assert run(["feature-assets", "build"], alone, **settings).returncode == 0
    shared = settings | {"ROOT": str(tmp_path / "shared")}
    layer = [
        "dagster",
        "asset",
        "materialize",
        "-m",
        "feature_assets.definitions",
        "--select",
        "symbol_features",
        "--partition-range",
    ]
    commands = [
        ["feature-assets", "build"],
        ["feature-assets", "build"],
        [*layer, "2026-02-02|BTCUSDT...2026-02-03|ETHUSDT"],
    ]
    # The range of one layer may come before its replay is there, and fails then; it must not harm the others.
    assert run(["feature-assets", "build", "--to", "2026-02-02"], alone.parent, **shared).returncode == 0
    folders = [tmp_path / f"run{number}" for number in range(len(commands))]
    with concurrent.futures.ThreadPoolExecutor(len(commands)) as pool:
        for folder in folders:
            folder.mkdir()
        running = [pool.submit(run, command, folder, **shared) for command, folder in zip(commands, folders, strict=True)]
        while not all(each.done() for each in running):
            for path in (tmp_path / "shared").rglob("part-0.parquet"):
                table = pq.ParquetFile(path).read()
                footer = Footer.from_metadata(table.schema.metadata)
                assert content_hash(table.replace_schema_metadata(None)) == footer.content_hash
    assert [each.result().returncode for each in running[:2]] == [0, 0], [each.result().stderr for each in running]
    stores = [
        {p.relative_to(r): p.read_bytes() for p in r.rglob("part-0.parquet")} for r in (alone / "data", tmp_path / "shared")
    ]
    assert stores[0] == stores[1]
    assert run(["feature-assets", "status"], tmp_path, **shared).returncode == 0
