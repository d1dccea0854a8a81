"""Pins what feature_assets.event_log leans on in Dagster 1.13, and that it loses nothing that the stock log keeps."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
from dagster._core.storage.event_log import SqliteEventLogStorage

import feature_assets
from feature_assets.cli import set_dagster_home
from feature_assets.event_log import _KEPT, PooledSqliteEventLogStorage
from feature_assets_tests.support.crash import start
from feature_assets_tests.support.graph import Graph, parquet_graph
from feature_assets_tests.support.replays import days

DAGSTER_YAML = Path(feature_assets.__file__).parent.parent / "dagster.yaml"
STOCK_YAML = "storage:\n  sqlite:\n    base_dir: .dagster/storage\ntelemetry:\n  enabled: false\n"
CLASSES = {"stock": SqliteEventLogStorage, "pooled": PooledSqliteEventLogStorage}
OF_THE_CLOCK = {"create_timestamp", "migration_completed"}
FDS = Path("/proc/self/fd")
KEY = dg.AssetKey("asset")


@contextmanager
def event_log(folder: Path | str, name: str = "pooled") -> Iterator[SqliteEventLogStorage]:
    storage = CLASSES[name](str(folder))
    try:
        yield storage
    finally:
        storage.dispose()


def event(run_id: str, number: int) -> dg.EventLogEntry:
    """The materialization of a partition named by its number, with a tag that the log indexes."""
    materialization = dg.AssetMaterialization(KEY, partition=str(number), tags={"dagster/data_version": str(number)})
    data = StepMaterializationData(materialization)
    occurred = DagsterEvent(DagsterEventType.ASSET_MATERIALIZATION.value, "job", event_specific_data=data)
    return dg.EventLogEntry(None, 10, "", run_id, time.time(), dagster_event=occurred)


def partitions(storage: SqliteEventLogStorage, run_id: str) -> list[int]:
    """The numbers of a run's events, in the order that its shard has them."""
    return [int(entry.asset_materialization.partition) for entry in storage.get_logs_for_run(run_id)]


def indexed(storage: SqliteEventLogStorage) -> list[tuple[str, int]]:
    """The run and number of every event in the index, sorted."""
    records = storage.fetch_materializations(KEY, limit=10_000).records
    return sorted((record.run_id, int(record.partition_key)) for record in records)


def rows(folder: Path) -> dict[str, list[tuple]]:
    """All tables of all shards, without the columns that say when a row was written."""
    found = {}
    for path in sorted(folder.glob("*.db")):
        with closing(sqlite3.connect(path)) as connection:
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                cursor = connection.execute(f'SELECT * FROM "{table}"')
                kept = [n for n, column in enumerate(cursor.description) if column[0] not in OF_THE_CLOCK]
                found[f"{path.name} {table}"] = [tuple(row[n] for n in kept) for row in cursor]
    return found


def open_files(folder: Path) -> dict[str, str]:
    """The files under a folder that this process has open, by descriptor."""
    found = {}
    for entry in FDS.iterdir():
        try:
            path = entry.readlink()
        except FileNotFoundError:
            continue
        if path.is_relative_to(folder):
            found[entry.name] = path.name
    return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> dict[str, list[dg.EventLogEntry]]:
    """The events of real runs, by run: checks, planned and done partitions, a refused one, observed inputs."""
    bars = days("BTCUSDT", 3)
    bars.loc[2 * 1440 + 7, "high"] = 1.0
    graph = parquet_graph(tmp_path_factory.mktemp("recorded"), bars)
    assert not graph.materialize("replay", "2025-02-24|BTCUSDT", "2025-03-05|BTCUSDT").success
    assert graph.materialize("split_manifest").success
    assert graph.materialize("symbol_features", "2025-03-03|BTCUSDT", "2025-03-04|BTCUSDT").success
    runs = sorted(graph.instance.get_run_records(), key=lambda record: record.storage_id)
    return {record.dagster_run.run_id: graph.instance.all_logs(record.dagster_run.run_id) for record in runs}


@pytest.fixture(scope="module")
def stock_rows(recorded, tmp_path_factory) -> dict[str, list[tuple]]:
    folder = tmp_path_factory.mktemp("stock")
    with event_log(folder, "stock") as storage:
        for entry in every(recorded):
            storage.store_event(entry)
    return rows(folder)


def every(recorded: dict[str, list[dg.EventLogEntry]]) -> list[dg.EventLogEntry]:
    return [entry for entries in recorded.values() for entry in entries]


def test_the_same_runs_leave_the_same_rows_as_with_the_stock_class(tmp_path, recorded, stock_rows):
    with event_log(tmp_path) as storage:
        for entry in every(recorded):
            storage.store_event(entry)
    assert rows(tmp_path) == stock_rows
    for table in ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions"):
        assert stock_rows[f"index.db {table}"], table
    assert {path.name for path in tmp_path.iterdir()} == {f"{shard}.db" for shard in ["index", *recorded]}


@pytest.mark.parametrize(("first", "second"), [("stock", "pooled"), ("pooled", "stock")])
def test_a_log_is_read_and_continued_by_the_other_class(tmp_path, recorded, stock_rows, first, second):
    entries = every(recorded)
    half = len(recorded[next(iter(recorded))]) // 2
    with event_log(tmp_path, first) as storage:
        for entry in entries[:half]:
            storage.store_event(entry)
    with event_log(tmp_path, second) as storage:
        assert storage.get_logs_for_run(entries[0].run_id) == entries[:half]
        for entry in entries[half:]:
            storage.store_event(entry)
    with event_log(tmp_path, first) as storage:
        for run_id, expected in recorded.items():
            assert storage.get_logs_for_run(run_id) == expected
    assert rows(tmp_path) == stock_rows


def test_both_classes_may_write_the_same_run_turn_about(tmp_path, recorded, stock_rows):
    with event_log(tmp_path, "stock") as stock, event_log(tmp_path, "pooled") as pooled:
        for number, entry in enumerate(every(recorded)):
            (stock, pooled)[number % 2].store_event(entry)
            for storage in (stock, pooled):
                assert storage.get_records_for_run(entry.run_id, limit=1, ascending=False).records[0].event_log_entry == entry
    assert rows(tmp_path) == stock_rows


# A new run's shard


def shape(path: Path) -> dict[str, object]:
    """What a shard is beside its rows: tables, indexes, how it is written, and who may read it."""
    with closing(sqlite3.connect(path)) as connection:
        pragmas = {
            name: connection.execute(f"PRAGMA {name}").fetchone() for name in ("journal_mode", "page_size", "user_version")
        }
        return {"schema": sorted(connection.execute("SELECT type, name, sql FROM sqlite_master"), key=str), **pragmas} | {
            "mode": path.stat().st_mode
        }


def test_the_shard_of_every_run_is_made_as_the_stock_class_makes_it(tmp_path):
    entries = [event(run_id, 1) for run_id in ("first", "second", "third")]
    for name in CLASSES:
        (tmp_path / name).mkdir()
        with event_log(tmp_path / name, name) as storage:
            for entry in entries:
                storage.store_event(entry)
    shapes = {name: [shape(tmp_path / name / f"{run}.db") for run in ("first", "second", "third")] for name in CLASSES}
    assert shapes["pooled"] == shapes["stock"]
    assert shapes["stock"][0]["journal_mode"] == ("wal",)
    assert rows(tmp_path / "pooled") == rows(tmp_path / "stock")
    assert [path.name for path in (tmp_path / "pooled").iterdir() if path.suffix != ".db"] == []


def test_a_shard_that_another_process_makes_meanwhile_is_kept(tmp_path, monkeypatch):
    empty = PooledSqliteEventLogStorage._empty_shard
    with event_log(tmp_path) as storage, event_log(tmp_path, "stock") as other:

        def overtaken(self):
            other.store_event(event("run", 1))
            return empty(self)

        monkeypatch.setattr(PooledSqliteEventLogStorage, "_empty_shard", overtaken)
        storage.store_event(event("run", 2))
        assert partitions(storage, "run") == [1, 2]


def test_a_file_system_without_links_has_shards_as_the_stock_class_makes_them(tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", no_links)
    with event_log(tmp_path) as storage:
        storage.store_event(event("run", 1))
        assert partitions(storage, "run") == [1]
    assert {path.name for path in tmp_path.iterdir()} == {"index.db", "run.db"}


# What a run plans


def test_a_batch_leaves_the_same_rows_as_its_events_one_by_one_with_the_stock_class(tmp_path, recorded, stock_rows):
    entries = every(recorded)
    with event_log(tmp_path) as storage:
        storage.store_event_batch(entries[:7])
        storage.store_event_batch(entries[7:])
    assert rows(tmp_path) == stock_rows


def test_dagster_gives_what_a_run_plans_as_a_batch(tmp_path, monkeypatch):
    stored = []
    batch = PooledSqliteEventLogStorage.store_event_batch
    monkeypatch.setattr(
        PooledSqliteEventLogStorage, "store_event_batch", lambda log, events: stored.append(events) or batch(log, events)
    )
    shutil.copy(DAGSTER_YAML, tmp_path)
    monkeypatch.chdir(tmp_path)
    graph = parquet_graph(tmp_path, days("BTCUSDT", 3))
    with dg.DagsterInstance.from_config(str(tmp_path)) as graph.instance:
        assert graph.materialize("replay", "2025-02-24|BTCUSDT", "2025-03-05|BTCUSDT").success
    kinds = [entry.dagster_event_type for events in stored for entry in events]
    assert kinds.count(DagsterEventType.ASSET_MATERIALIZATION_PLANNED) == 10
    assert set(kinds) == {DagsterEventType.ASSET_MATERIALIZATION_PLANNED, DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED}


def test_a_batch_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    def fails(*_):
        raise RuntimeError("stopped")

    with event_log(tmp_path) as storage, event_log(tmp_path, "stock") as other:
        storage.store_event_batch([event("run", n) for n in range(3)])
        with monkeypatch.context() as patch:
            patch.setattr(PooledSqliteEventLogStorage, "_store_asset_event", fails)
            with pytest.raises(RuntimeError, match="stopped"):
                storage.store_event_batch([event("run", n) for n in range(3, 6)])
        assert partitions(other, "run") == [0, 1, 2]
        assert indexed(other) == [("run", 0), ("run", 1), ("run", 2)]
        storage.store_event_batch([event("run", 3), event("other run", 4)])
        assert indexed(other) == [("other run", 4), *(("run", n) for n in range(4))]


def test_an_event_is_as_durable_as_with_the_stock_class(tmp_path):
    """Written ahead, and on the disk before store_event returns."""
    with event_log(tmp_path) as storage:
        storage.store_event(event("run", 0))
        for connect in (storage.index_connection, lambda: storage.run_connection("run")):
            with connect() as connection:
                found = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
                assert found == ["wal", 2]


def write(folder: str, name: str, run_id: str, count: int) -> None:
    with event_log(folder, name) as storage:
        for number in range(count):
            storage.store_event(event(run_id, number))


@pytest.mark.parametrize("others", [("pooled", "pooled"), ("pooled", "stock")])
def test_processes_that_write_at_once_lose_nothing(tmp_path, others):
    names = [f"{name} {number}" for number, name in enumerate(others)]
    processes = [start(write, str(tmp_path), name.split()[0], name, 60) for name in names]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with event_log(tmp_path) as storage:
        for name in names:
            assert partitions(storage, name) == list(range(60))
        assert indexed(storage) == sorted((name, number) for name in names for number in range(60))


def test_threads_that_write_and_read_at_once_lose_nothing(tmp_path):
    def work(storage: SqliteEventLogStorage, run_id: str) -> None:
        for number in range(25):
            storage.store_event(event(run_id, number))
            assert partitions(storage, run_id) == list(range(number + 1))
            assert (run_id, number) in indexed(storage)

    with event_log(tmp_path) as storage:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda number: work(storage, f"run {number}"), range(4)))
        assert len(indexed(storage)) == 100


def test_a_connection_within_a_connection_is_the_same_one(tmp_path):
    """A second one would wait for the first one's transaction for ever."""
    with event_log(tmp_path) as storage:
        with storage.index_connection() as outer, storage.run_connection("run"), storage.index_connection() as inner:
            assert inner is outer
            storage.store_event(event("run", 0))
        assert indexed(storage) == [("run", 0)]


def write_over_a_fork(folder: str, busy: bool) -> None:
    with event_log(folder) as storage:
        storage.store_event(event("run", 0))
        other = threading.Thread(target=hold, args=(storage,))
        if busy:
            other.start()
            while not storage._shards.in_use:
                time.sleep(0.01)
        child = os.fork()
        if not child:
            signal.alarm(60)
            inherited = open_files(Path(folder))
            storage.dispose()
            storage.store_event(event("run", 1))
            storage.dispose()
            gc.collect()
            os._exit(0 if inherited and inherited.items() <= open_files(Path(folder)).items() else 1)
        assert os.waitpid(child, 0)[1] == 0
        if busy:
            other.join()
        storage.store_event(event("run", 2))


def hold(storage: SqliteEventLogStorage) -> None:
    with storage.run_connection("another run"):
        time.sleep(1)


@pytest.mark.skipif(not FDS.exists(), reason="needs fork and /proc")
@pytest.mark.parametrize("busy", [False, True], ids=["alone", "another thread writes"])
def test_a_fork_opens_connections_of_its_own_and_leaves_the_parents(tmp_path, busy):
    process = start(write_over_a_fork, str(tmp_path), busy)
    process.join()
    assert process.exitcode == 0
    with event_log(tmp_path) as storage:
        assert partitions(storage, "run") == [0, 1, 2]
        assert indexed(storage) == [("run", 0), ("run", 1), ("run", 2)]


def write_for_ever(folder: str, run_id: str) -> None:
    write(folder, "pooled", run_id, 1_000_000)


@pytest.mark.parametrize("reader", ["pooled", "stock"])
def test_a_killed_process_leaves_a_log_that_opens_reads_and_goes_on(tmp_path, reader):
    process = start(write_for_ever, str(tmp_path), "run")
    with event_log(tmp_path, reader) as storage:
        while len(seen := partitions(storage, "run")) < 30:
            assert process.is_alive()
        process.kill()
        process.join()
    with event_log(tmp_path, reader) as storage:
        count = len(partitions(storage, "run"))
        assert count >= len(seen)
        assert partitions(storage, "run") == list(range(count))
        # The kill may have come between the event's two shards, as with the stock class.
        assert indexed(storage) in ([("run", number) for number in range(n)] for n in (count, count - 1))
        storage.store_event(event("run", count))
        assert ("run", count) in indexed(storage)
    for path in tmp_path.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def write_and_stay(folder: str, run_id: str) -> None:
    with event_log(folder) as storage:
        for number in range(20):
            storage.store_event(event(run_id, number))
        time.sleep(600)


@pytest.mark.parametrize("watcher", ["pooled", "stock"])
def test_a_watcher_in_another_process_is_told_of_events_while_the_run_goes_on(tmp_path, watcher):
    """The UI's page of a run; a kept connection leaves the events beside the shard for a while."""
    told, all_told = [], threading.Event()

    def tell(entry: dg.EventLogEntry, _cursor: str) -> None:
        told.append(int(entry.asset_materialization.partition))
        if len(told) == 20:
            all_told.set()

    with event_log(tmp_path, watcher) as storage:
        storage.watch("run", None, tell)
        process = start(write_and_stay, str(tmp_path), "run")
        try:
            assert all_told.wait(60), told
        finally:
            process.kill()
            process.join()
            storage.end_watch("run", tell)
    assert told == list(range(20))


@pytest.mark.skipif(not FDS.exists(), reason="needs /proc")
def test_the_files_open_stay_few_over_many_runs_and_none_is_left_in_the_end(tmp_path):
    few = 3 * _KEPT + 1  # the shard, its log and their index; and one that SQLite may not close while a lock is held
    with event_log(tmp_path) as storage:
        for number in range(3 * _KEPT):
            storage.store_event(event(f"run {number}", number))
            assert len(open_files(tmp_path)) <= few
        for number in range(3 * _KEPT):
            assert partitions(storage, f"run {number}") == [number]
            assert len(open_files(tmp_path)) <= few
        assert open_files(tmp_path)
        assert indexed(storage) == sorted((f"run {number}", number) for number in range(3 * _KEPT))
    assert not open_files(tmp_path)


@pytest.mark.skipif(not FDS.exists(), reason="needs /proc")
def test_a_deleted_run_is_let_go_of_and_so_is_all_that_is_wiped(tmp_path):
    with event_log(tmp_path) as storage:
        for run_id in ("one", "two"):
            storage.store_event(event(run_id, 0))
        storage.delete_events("one")
        assert {name.partition(".")[0] for name in open_files(tmp_path).values()} == {"index", "two"}
        assert indexed(storage) == [("two", 0)]
        storage.wipe()
        assert {name.partition(".")[0] for name in open_files(tmp_path).values()} == {"index"}
        assert indexed(storage) == []
        storage.store_event(event("one", 1))
        assert partitions(storage, "one") == [1]


def test_events_go_to_the_file_of_that_name_though_another_process_has_deleted_the_one_that_was_open(tmp_path):
    with event_log(tmp_path) as storage:
        storage.store_event(event("run", 0))
        with event_log(tmp_path, "stock") as other:
            other.wipe()
        storage.store_event(event("run", 1))
        with event_log(tmp_path, "stock") as other:
            assert partitions(other, "run") == [1]
            assert indexed(other) == [("run", 1)]


def test_reading_leaves_no_transaction_open(tmp_path, recorded):
    """It would show the same state for ever, and the write-ahead log would grow without end."""
    with event_log(tmp_path) as storage:
        for entry in every(recorded):
            storage.store_event(entry)
        replay = dg.AssetKey("replay")
        for run_id in recorded:
            assert storage.get_records_for_run(run_id, limit=1).has_more
            assert storage.get_stats_for_run(run_id).start_time
        (check,) = {evaluation.asset_check_key for entries in recorded.values() for evaluation in checks(entries, replay)}
        assert storage.get_asset_check_execution_history(check, limit=1)
        assert storage.get_latest_asset_check_execution_by_key([check])
        assert storage.fetch_materializations(replay, limit=1).has_more
        assert storage.get_materialized_partitions(replay)
        assert storage.get_asset_records([replay])
        assert storage.get_maximum_record_id()
        assert storage.get_latest_planned_materialization_info(replay)
        for shard in ("index", *recorded):
            with closing(sqlite3.connect(tmp_path / f"{shard}.db")) as connection:
                busy, left, done = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                assert (busy, left, done) == (0, 0, 0), shard


def checks(entries: list[dg.EventLogEntry], asset: dg.AssetKey) -> list[dg.AssetCheckEvaluation]:
    found = [
        e.dagster_event.event_specific_data for e in entries if e.dagster_event_type == DagsterEventType.ASSET_CHECK_EVALUATION
    ]
    return [evaluation for evaluation in found if evaluation.asset_key == asset]


def materialize_replay(folder: Path, instance: dg.DagsterInstance) -> None:
    graph = Graph(folder, **SETTINGS)
    graph.instance.dispose()
    graph.instance = instance
    assert graph.materialize("replay", KEYS[0], KEYS[-1]).success


SETTINGS = {"SYMBOLS": "BTCUSDT", "START_DATE": "2026-02-01", "END_DATE": "2026-02-04"}
KEYS = [f"2026-02-0{day}|BTCUSDT" for day in (1, 2, 3)]


def test_the_repositorys_dagster_yaml_keeps_the_log_where_the_stock_configuration_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").write_text(STOCK_YAML)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        materialize_replay(tmp_path, instance)
        (run,) = instance.get_runs()
        logs = instance.all_logs(run.run_id)
    shutil.copy(DAGSTER_YAML, tmp_path)
    files = set((tmp_path / ".dagster/storage").rglob("*.db"))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert type(instance.event_log_storage) is PooledSqliteEventLogStorage
        assert instance.get_runs() == [run]
        assert instance.all_logs(run.run_id) == logs
        assert sorted(instance.get_materialized_partitions(dg.AssetKey("replay"))) == KEYS
        # As a run's own process opens it.
        with dg.DagsterInstance.from_ref(instance.get_ref()) as again:
            assert type(again.event_log_storage) is PooledSqliteEventLogStorage
            assert again.all_logs(run.run_id) == logs
    assert set((tmp_path / ".dagster/storage").rglob("*.db")) == files


def test_a_build_without_a_dagster_yaml_keeps_the_log_where_dagster_has_it_by_itself(tmp_path, monkeypatch):
    folder = tmp_path / 'a "folder": \\ with $signs'
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DAGSTER_HOME", "")
    set_dagster_home()
    with dg.DagsterInstance.get() as instance:
        assert type(instance.event_log_storage) is PooledSqliteEventLogStorage
        materialize_replay(folder, instance)
        (run,) = instance.get_runs()
        logs = instance.all_logs(run.run_id)
    (folder / ".dagster/dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.get() as instance:
        assert type(instance.event_log_storage) is SqliteEventLogStorage
        assert instance.all_logs(run.run_id) == logs


@contextmanager
def webserver(home: Path) -> Iterator[str]:
    """A real one over the home's dagster.yaml; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("dagster-webserver"), "-m", "feature_assets.definitions", "-h", "127.0.0.1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FEATURE_ASSETS_")}
    environment |= {"DAGSTER_HOME": str(home)} | {f"FEATURE_ASSETS_{name}": value for name, value in SETTINGS.items()}
    with (home / "webserver.log").open("w") as log:
        process = subprocess.Popen([*command, "-p", str(port)], cwd=home, env=environment, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{address}/server_info").close()
                    break
                except OSError:
                    assert process.poll() is None, (home / "webserver.log").read_text()
                    time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(60)


def ask(address: str, query: str) -> dict:
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        found = json.load(answer)
    assert "errors" not in found, found
    return found["data"]


QUERY = """{
  runsOrError { ... on Runs { results { runId status stats { ... on RunStatsSnapshot { materializations } } } } }
  assetOrError(assetKey: {path: ["replay"]}) { ... on Asset { assetMaterializations { partition runId } } }
  assetCheckExecutions(assetKey: {path: ["replay"]}, checkName: "sound_replay", limit: 10) { status runId }
}"""


@pytest.mark.slow
def test_the_ui_shows_runs_and_events_of_other_processes_and_deletes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(DAGSTER_YAML, tmp_path)
    with webserver(tmp_path) as address, dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        for number in (1, 2):
            materialize_replay(tmp_path, instance)
            found = ask(address, QUERY)
            runs = found["runsOrError"]["results"]
            assert [(run["status"], run["stats"]["materializations"]) for run in runs] == [("SUCCESS", 3)] * number
            assert sorted(m["partition"] for m in found["assetOrError"]["assetMaterializations"]) == sorted(KEYS * number)
            assert [check["status"] for check in found["assetCheckExecutions"]].count("SUCCEEDED") == 3 * number
        deleted = runs[-1]["runId"]
        ask(address, f'mutation {{ deletePipelineRun(runId: "{deleted}") {{ __typename }} }}')
        assert [run.run_id for run in instance.get_runs()] == [runs[0]["runId"]]
        assert instance.all_logs(deleted) == []
        assert len(ask(address, QUERY)["assetOrError"]["assetMaterializations"]) == 3
