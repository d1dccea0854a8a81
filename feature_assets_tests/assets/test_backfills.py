"""Backfills launched as the UI launches them and run by the daemon's own iteration, in this process."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.test_utils import create_test_daemon_workspace_context
from dagster._core.workspace.load_target import PythonFileTarget
from dagster._daemon.backfill import execute_backfill_iteration

from feature_assets_tests.support.graph import Graph, parquet_graph
from feature_assets_tests.support.replays import days

# Runs that this process executes inside the daemon's iteration close their event loop without awaiting its generators:
# Dagster's own, and only where a run is launched in memory as here.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine .*shutdown_asyncgens:RuntimeWarning"),
]

LAYERS = ("replay", "split_manifest", "symbol_features", "feature_frame", "feature_manifest", "quality_report")
_ITERATIONS = 60

LOCATION = """
from pathlib import Path
from feature_assets.definitions import make_definitions
from feature_assets.settings import load_settings

defs = make_definitions(load_settings({variables!r}, Path({folder!r})))
"""


class Daemon:
    """A real instance on disk with the workspace that the UI and the daemon would load."""

    def __init__(self, instance: dg.DagsterInstance, workspace) -> None:
        self.instance, self._workspace = instance, workspace

    def backfill(self, *partitions: str, assets: tuple[str, ...] = LAYERS) -> PartitionBackfill:
        """Select replay partitions and the assets, as the UI does, and iterate until the backfill is over."""
        graph = self._workspace.create_request_context().asset_graph
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id=f"backfill{len(self.instance.get_backfills())}",
            asset_graph=graph,
            partition_names=list(partitions),
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            backfill_timestamp=time.time(),
            tags={},
            dynamic_partitions_store=self.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.instance.add_backfill(backfill)
        for _ in range(_ITERATIONS):
            errors = [error for error in execute_backfill_iteration(self._workspace, logging.getLogger("backfill")) if error]
            assert not errors, errors
            found = self.instance.get_backfill(backfill.backfill_id)
            if found.status != BulkActionStatus.REQUESTED:
                return found
        raise AssertionError(f"the backfill is still {found.status} after {_ITERATIONS} iterations")


@contextmanager
def daemon(graph: Graph) -> Iterator[Daemon]:
    environment = {f"FEATURE_ASSETS_{name}": value for name, value in graph.variables.items()}
    location = graph.folder / "location.py"
    location.write_text(LOCATION.format(variables=environment, folder=str(graph.folder)))
    home = graph.folder / "home"
    home.mkdir()
    launcher = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
    coordinator = {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
    overrides = {"run_launcher": launcher, "run_coordinator": coordinator, "telemetry": {"enabled": False}}
    target = PythonFileTarget(str(location), attribute="defs", working_directory=str(graph.folder), location_name=None)
    with (
        dg.instance_for_test(overrides=overrides, temp_dir=str(home)) as instance,
        create_test_daemon_workspace_context(target, instance) as workspace,
    ):
        yield Daemon(instance, workspace)


FIRST = dt.date(2025, 3, 3)


def keys(symbols: int, start: int, stop: int) -> list[str]:
    """Replay partitions of the days start..stop-1, counted from the first day of features."""
    days_ = [FIRST + dt.timedelta(days=number) for number in range(start, stop)]
    return [f"{day}|S{symbol}USDT" for day in days_ for symbol in range(symbols)]


def replay_of(symbols: int, count: int) -> pd.DataFrame:
    return pd.concat([days(f"S{symbol}USDT", count) for symbol in range(symbols)])


def built_day_by_day(folder: Path, replay: pd.DataFrame, count: int) -> dict[str, bytes]:
    folder.mkdir()
    graph = parquet_graph(folder, replay)
    for number in range(count):
        start = FIRST + dt.timedelta(days=number)
        assert not graph.build(str(start), str(start + dt.timedelta(days=1))).errors
    return graph.files()


@pytest.mark.parametrize(
    ("symbols", "count"),
    [
        pytest.param(4, 2, id="more symbols than dates"),
        pytest.param(2, 4, id="more dates than symbols"),
        pytest.param(3, 1, id="one date"),
        pytest.param(1, 3, id="one symbol"),
    ],
)
def test_a_backfill_writes_the_bytes_of_a_build_day_by_day(tmp_path, symbols, count):
    replay = replay_of(symbols, count)
    graph = parquet_graph(tmp_path, replay)
    with daemon(graph) as running:
        found = running.backfill(*keys(symbols, -7, count))
        assert found.status == BulkActionStatus.COMPLETED_SUCCESS
        for asset in ("symbol_features", "feature_frame"):
            materialized = running.instance.get_materialized_partitions(dg.AssetKey(asset))
            assert len(materialized) == count * (symbols if asset == "symbol_features" else 1)
    assert graph.files() == built_day_by_day(tmp_path / "daily", replay, count)


def test_a_backfill_over_days_without_a_replay_yet_leaves_them_unbuilt(tmp_path):
    """Pins how the daemon ends a backfill with partitions left unbuilt: COMPLETED_FAILED, although every run succeeded."""
    replay = replay_of(2, 3)
    graph = parquet_graph(tmp_path, replay, END_DATE="2025-03-08")
    with daemon(graph) as running:
        found = running.backfill(*keys(2, -7, 5))
        assert found.status == BulkActionStatus.COMPLETED_FAILED
        assert {run.status for run in running.instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}
        assert len(running.instance.get_materialized_partitions(dg.AssetKey("replay"))) == 2 * 10
    expected = built_day_by_day(tmp_path / "daily", replay, 3)
    found_files = graph.files()
    assert {name: found_files[name] for name in found_files if "date=" in name} == {
        name: data for name, data in expected.items() if "date=" in name
    }


def test_a_backfill_without_the_look_back_builds_what_has_it_and_names_what_is_missing(tmp_path):
    replay = replay_of(1, 5)
    graph = parquet_graph(tmp_path, replay)
    with daemon(graph) as running:
        found = running.backfill(*keys(1, 0, 5))
        assert found.status == BulkActionStatus.COMPLETED_FAILED
        materialized = running.instance.get_materialized_partitions(dg.AssetKey("symbol_features"))
        assert sorted(materialized) == keys(1, 2, 5)
    expected = built_day_by_day(tmp_path / "daily", replay, 5)
    for name, data in graph.files().items():
        if name.startswith("symbol_features"):
            assert data == expected[name]


def test_a_corrupt_day_in_a_backfill_fails_alone_and_nothing_stands_on_it(tmp_path):
    """The daemon asks for nothing below a failed partition, so that days that only might look back to it wait for a build."""
    replay = replay_of(2, 6)
    broken = replay.reset_index(drop=True)
    broken.loc[2 * 1440 + 60, "volume"] = -1.0
    graph = parquet_graph(tmp_path, broken)
    with daemon(graph) as running:
        found = running.backfill(*keys(2, -7, 6))
        assert found.status == BulkActionStatus.COMPLETED_FAILED
    assert [str(key) for key in graph.store.keys("feature_frame") if key.date > FIRST + dt.timedelta(days=1)] == []
    expected = built_day_by_day(tmp_path / "daily", replay, 6)
    for name, data in graph.files().items():
        if name.startswith(("symbol_features", "feature_frame")):
            assert data == expected[name], name
