"""The sensor over a simulated month: late files, outages and a refused day, against a real instance."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from dagster._core.events import DagsterEvent
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.test_utils import create_run_for_test

from feature_assets.automation import run_requests
from feature_assets.definitions import make_definitions
from feature_assets.resources import SourceResource, StoreResource
from feature_assets_tests.support.graph import Graph
from feature_assets_tests.support.replays import days

FIRST = dt.date(2025, 3, 3)
DAYS = 30
SYMBOLS = ("BTCUSDT", "ETHUSDT")
ONE_DAY = dt.timedelta(days=1)


class Archive:
    """A folder source of a file a symbol and day, written as the days go by; the test decides which and when."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.bars = {symbol: dict(list(days(symbol, DAYS).groupby(lambda row: row // 1440))) for symbol in SYMBOLS}

    def publish(self, symbol: str, number: int, *, broken: bool = False) -> None:
        bars = self.bars[symbol][number].copy()
        if broken:
            bars.iloc[17, bars.columns.get_loc("volume")] = -1.0
        bars.to_parquet(self.folder / f"{symbol}-{FIRST + number * ONE_DAY}.parquet", index=False)


SOURCE = """
import datetime as dt, hashlib, os, pathlib
import pandas as pd
from feature_assets.market.sources import ABSENT, NOT_YET, each_day

class Daily:
    publication_delay = dt.timedelta(hours=6)
    folder = pathlib.Path(os.environ["DAILY_FOLDER"])

    def file(self, symbol, day):
        return self.folder / f"{symbol}-{day}.parquet"

    def iter_days(self, symbol, start, end):
        def read(day):
            if day < dt.date(2025, 3, 3):
                return ABSENT
            file = self.file(symbol, day)
            return pd.read_parquet(file) if file.exists() else NOT_YET
        return each_day(start, end, read)

    def fingerprint(self, symbol, day):
        file = self.file(symbol, day)
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else "none"
"""


class Operations:
    """The graph with its sensor, ticked and its requests carried out as a daemon would."""

    def __init__(self, folder: Path) -> None:
        self.graph = Graph(
            folder,
            SOURCE="python:daily_source:Daily",
            SYMBOLS=",".join(SYMBOLS),
            START_DATE=str(FIRST),
            END_DATE=str(FIRST + DAYS * ONE_DAY),
        )
        self.asked: Counter[str] = Counter()

    def tick(self, now: dt.datetime) -> list[dg.RunRequest]:
        settings = self.graph.settings
        source = SourceResource(source=settings.source)
        store = StoreResource(root=settings.root, symbols=list(settings.symbol_names))
        found = list(run_requests(settings, self.graph.instance, source, store, now))
        return [request for request in found if isinstance(request, dg.RunRequest)]

    def evening(self, now: dt.datetime) -> int:
        """Tick until nothing is asked for; gives the number of runs."""
        repository = make_definitions(self.graph.settings).get_repository_def()
        runs = 0
        while requests := self.tick(now):
            for request in requests:
                job = repository.get_job(request.job_name)
                job.execute_in_process(instance=self.graph.instance, tags=dict(request.tags), raise_on_error=False)
                self.asked[f"{request.job_name} {sorted(request.tags.items())}"] += 1
                runs += 1
            assert runs < 60, "the sensor asks for ever"
        return runs

    def frames(self) -> list[str]:
        return [str(key) for key in self.graph.store.keys("feature_frame")]


def evening_of(number: int) -> dt.datetime:
    """20:00 UTC of the day after day `number`, when that day has long been published."""
    return dt.datetime.combine(FIRST + (number + 1) * ONE_DAY, dt.time(20), dt.UTC)


@pytest.fixture
def operations(tmp_path, monkeypatch):
    (tmp_path / "daily_source.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DAILY_FOLDER", str(tmp_path / "archive"))
    monkeypatch.delitem(__import__("sys").modules, "daily_source", raising=False)
    return Operations(tmp_path)


def dates(*numbers: int) -> list[str]:
    return [str(FIRST + number * ONE_DAY) for number in numbers]


def test_a_month_with_outages_late_files_and_a_refused_day(operations, tmp_path):
    archive = Archive(tmp_path / "archive")
    late, broken, outage = (5, "ETHUSDT"), 11, range(18, 21)
    for number in range(DAYS):
        for symbol in SYMBOLS:
            if (number, symbol) != late:
                archive.publish(symbol, number, broken=number == broken and symbol == "BTCUSDT")
        if number == late[0] + 2:
            archive.publish(late[1], late[0])
        if number == broken + 4:
            archive.publish("BTCUSDT", broken)
        if number in outage:
            continue
        runs = operations.evening(evening_of(number))
        built = set(operations.frames())
        if number in {late[0], late[0] + 1}:
            # The late day waits, and so do the days that look back to it.
            assert dates(late[0])[0] not in built
        elif broken <= number < broken + 4:
            # The refused day and the two that look back to it; every other day is there.
            expected = dates(*(n for n in range(number + 1) if n not in {broken, broken + 1, broken + 2}))
            assert sorted(built) == expected
        else:
            assert sorted(built) == dates(*range(number + 1)), number
        if number == outage[-1] + 1:
            # One run a layer for four dates and two symbols, then the manifest and the report.
            assert runs == 4
    assert operations.tick(evening_of(DAYS - 1)) == []
    # The refused day was tried twice: as it was, and when its file had changed.
    tries = [name for name, count in operations.asked.items() for _ in range(count) if f"{dates(broken)[0]}|BTCUSDT" in name]
    assert len([name for name in tries if name.startswith("build_replay ")]) == 2
    fresh = Graph(tmp_path / "fresh", **{k: v for k, v in operations.graph.variables.items() if k != "ROOT"})
    fresh.build()
    assert {k: v for k, v in operations.graph.files().items() if k.startswith("feature_frame")} == {
        k: v for k, v in fresh.files().items() if k.startswith("feature_frame")
    }


def test_nothing_is_asked_for_before_a_day_is_published_and_its_delay_is_over(operations, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.publish("BTCUSDT", 0)
    archive.publish("ETHUSDT", 0)
    midnight = dt.datetime.combine(FIRST + ONE_DAY, dt.time(), dt.UTC)
    assert operations.tick(midnight + dt.timedelta(hours=5, minutes=59)) == []
    assert operations.tick(midnight + dt.timedelta(hours=6)) != []


def test_nothing_is_asked_for_twice_while_a_run_is_queued_or_going_on(operations, tmp_path):
    archive = Archive(tmp_path / "archive")
    archive.publish("BTCUSDT", 0)
    archive.publish("ETHUSDT", 0)
    instance = operations.graph.instance
    assert operations.tick(evening_of(0)) != []
    server = GrpcServerCodeLocationOrigin(host="localhost", port=1, location_name="feature_assets")
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(server, "__repository__"), "build_replay")
    run = create_run_for_test(instance, status=dg.DagsterRunStatus.NOT_STARTED, remote_job_origin=origin)
    assert operations.tick(evening_of(0)) == []
    for kind in ("PIPELINE_ENQUEUED", "PIPELINE_DEQUEUED", "PIPELINE_STARTING", "PIPELINE_START"):
        instance.report_dagster_event(DagsterEvent(event_type_value=kind, job_name=run.job_name), run_id=run.run_id)
        assert operations.tick(evening_of(0)) == [], kind
        if kind == "PIPELINE_ENQUEUED":
            assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.QUEUED
    instance.report_dagster_event(DagsterEvent(event_type_value="PIPELINE_SUCCESS", job_name=run.job_name), run_id=run.run_id)
    assert operations.tick(evening_of(0)) != []


def test_a_backlog_is_asked_for_in_date_order_and_in_bounded_ranges(tmp_path):
    graph = Graph(tmp_path, SYMBOLS="BTCUSDT", START_DATE="2025-01-01", END_DATE="2025-03-31")
    settings = graph.settings
    graph.materialize("split_manifest")
    source = SourceResource(source=settings.source)
    store = StoreResource(root=settings.root, symbols=list(settings.symbol_names))
    now = dt.datetime(2025, 3, 31, 20, tzinfo=dt.UTC)
    requests = list(run_requests(settings, graph.instance, source, store, now))
    starts = [request.tags["dagster/asset_partition_range_start"] for request in requests]
    ends = [request.tags["dagster/asset_partition_range_end"] for request in requests]
    assert starts == [f"{day}|BTCUSDT" for day in ("2024-12-25", "2025-01-25", "2025-02-25", "2025-03-28")]
    assert ends == [f"{day}|BTCUSDT" for day in ("2025-01-24", "2025-02-24", "2025-03-27", "2025-03-30")]
    assert {request.job_name for request in requests} == {"build_replay"}


def test_a_refused_manifest_is_asked_for_again_once_what_was_wrong_is_mended(tmp_path):
    graph = Graph(tmp_path, SYMBOLS="BTCUSDT", START_DATE="2026-02-01", END_DATE="2026-02-03")
    graph.build()
    settings, now = graph.settings, dt.datetime(2026, 2, 3, 20, tzinfo=dt.UTC)
    source = SourceResource(source=settings.source)
    store = StoreResource(root=settings.root, symbols=list(settings.symbol_names))

    def asked() -> list[str]:
        found = run_requests(settings, graph.instance, source, store, now)
        return [request.job_name for request in found if isinstance(request, dg.RunRequest)]

    path = tmp_path / "store/feature_frame/date=2026-02-01/part-0.parquet"
    whole = path.read_bytes()
    path.write_bytes((tmp_path / "store/feature_frame/date=2026-02-02/part-0.parquet").read_bytes())
    assert asked() == ["build_feature_manifest_and_quality_report"]
    graph.variables["SPLITS"] = "FIT:2026-02-01..2026-02-02"
    assert graph.materialize("split_manifest").success
    assert not graph.materialize("feature_manifest").success
    assert asked() == []
    del graph.variables["SPLITS"]
    assert graph.materialize("split_manifest").success
    path.write_bytes(whole)
    assert asked() == ["build_feature_manifest_and_quality_report"]


def test_the_jobs_and_the_sensor_are_in_the_code_location(tmp_path):
    repository = make_definitions(Graph(tmp_path).settings).get_repository_def()
    assert {name for name in repository.job_names if name.startswith("build_")} == {
        *("build_replay", "build_split_manifest", "build_symbol_features", "build_feature_frame"),
        "build_feature_manifest_and_quality_report",
    }
    sensor = repository.get_sensor_def("keep_up")
    assert sensor.default_status == dg.DefaultSensorStatus.STOPPED
    assert pd.Timedelta(seconds=sensor.minimum_interval_seconds) == pd.Timedelta(minutes=5)
