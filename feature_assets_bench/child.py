"""What is measured, a task a function; each runs in a process of its own: python -m feature_assets_bench.child TASK JSON.

Settings come from the environment, as for the package. A task prints one line of JSON, last; the imports above a
task's own clock are counted in the process's time alone.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from feature_assets import features
from feature_assets.dataset import feature_frame, feature_manifest, quality_report
from feature_assets.dataset import replay as replay_layer
from feature_assets.dataset import symbol_features as features_layer
from feature_assets.dataset.examination import MANIFEST_FILE
from feature_assets.dataset.frame_sample import FrameSample, add_stats
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.lock import publish_splits
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SYMBOL_FEATURES, Store
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets.dataset.threads import in_order
from feature_assets.features import build
from feature_assets.features.catalogue import FEATURE_ORDER, LOOKBACK_DAYS, LOOKBACK_ROWS
from feature_assets.market.bars import Bars
from feature_assets.market.sources import load_source
from feature_assets.market.sources.synthetic import SyntheticSource
from feature_assets.quality.report import render
from feature_assets.settings import Settings, load_settings

clock = time.perf_counter


def timed(call: Callable[[], object]) -> float:
    started = clock()
    call()
    return clock() - started


@contextlib.contextmanager
def lap(spent: dict[str, float], name: str) -> Iterator[None]:
    started = clock()
    yield
    spent[name] += clock() - started


def median_seconds(call: Callable[[], object], times: int) -> float:
    call()
    return statistics.median(timed(call) for _ in range(times))


# What the others stand on


def make_replay(path: str, symbols: list[str], start: str, days: int) -> dict[str, Any]:
    """A synthetic replay as one table in time order, a row group a day, as one would export it; the splits beside it."""
    source, writer = SyntheticSource(), None
    first = dt.date.fromisoformat(start)
    for date in dates(first, first + days * ONE_DAY):
        tables = [source.day(name, date) for name in symbols]
        table = pa.concat_tables(t.add_column(0, "symbol", pa.repeat(n, len(t))) for n, t in zip(symbols, tables, strict=True))
        table = table.sort_by([("event_time", "ascending"), ("symbol", "ascending")])
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    Path(path).with_suffix(".json").write_bytes(load_settings().splits.to_json())
    return {"bytes": Path(path).stat().st_size}


def _opened() -> tuple[Settings, Store, list[Key], list[Key]]:
    """Settings, store, and the keys of all symbols and of all dates."""
    settings = load_settings()
    days = list(dates(settings.start, settings.end_date()))
    return settings, Store(settings.root), [Key(d, name) for name in settings.symbol_names for d in days], [Key(d) for d in days]


def make_store(layers: int) -> dict[str, Any]:
    """The store's splits, replay (with the look-back before START) and as many of the layers above it, by domain functions."""
    settings, store, keys, days = _opened()
    publish_splits(store, settings.splits)
    early = [Key(settings.start - back * ONE_DAY, name) for name in settings.symbol_names for back in range(1, LOOKBACK_DAYS + 1)]
    _drain(replay_layer.build_replay(store, load_source(settings.source).source, settings, early + keys))
    if layers > 0:
        _drain(features_layer.build_symbol_features(store, settings.options, keys))
    if layers > 1:
        _drain(feature_frame.build_feature_frame(store, settings, days))
    return {}


def _drain(outcomes: Iterator[Any]) -> None:
    for outcome in outcomes:
        if type(outcome).__name__ != "Published":
            raise RuntimeError(f"{outcome}")


# A symbol's year


def naive(replay: str, rows: int) -> dict[str, Any]:
    """The tests' slow formulas on the first rows of a symbol; seconds are scaled to the whole replay."""
    from feature_assets_tests.support.naive import naive_features

    frame = pd.read_parquet(replay)
    one = frame[frame["symbol"] == frame["symbol"].iloc[0]].head(rows).reset_index(drop=True)
    return {"seconds": timed(lambda: naive_features(one)) * len(frame) / len(one)}


def bare(profiled: bool) -> dict[str, Any]:
    """Replay partitions to the frame's files, statistics, manifest and report; no proof, no layer between, no lock.

    Profiled, it works in one thread and gives the seconds of each stage and of each feature's function.
    """
    settings, store, _, _ = _opened()
    spent: dict[str, float] = defaultdict(float)
    by_feature: dict[str, float] = defaultdict(float)
    if profiled:
        watched = (replace(f, function=_watched(f.function, by_feature, f.name)) for f in build.FEATURES)  # type: ignore[attr-defined]
        build.FEATURES = tuple(watched)  # type: ignore[attr-defined]
    started = clock()
    sample, entries = FrameSample(), []
    in_turn = _one_thread if profiled else partial(in_order, beside_work=True)
    for key, table, footer, size in in_turn(_bare_calls(settings, store, spent, in_turn)):
        with lap(spent, "statistics"):
            sample.add(table)
            add_stats(sample.sums, footer.stats)
        entries.append({"date": str(key), "content_hash": footer.content_hash, "size_bytes": size})
    with lap(spent, "manifest and report"):
        manifest = feature_manifest._manifest(entries, sample, settings)
        store.write_bytes(MANIFEST_FILE, feature_manifest._to_json(manifest))
        text = render(manifest, quality_report.frame_statistics(sample), [], [])
        store.write_bytes(quality_report.REPORT_FILE, text.encode())
    return {"seconds": clock() - started, "stages": dict(spent), "features": dict(by_feature)}


def _bare_calls(
    settings: Settings, store: Store, spent: dict[str, float], in_turn: Callable[..., Iterator[Any]]
) -> Iterator[Callable[[], Any]]:
    """A call a date that writes its frame, which is made here, a few days at a time."""
    (symbol,) = settings.symbol_names
    held: list[pa.Table] = []
    tables = in_turn(partial(store.read_table, REPLAY, Key(d, symbol)) for d in dates(settings.start, settings.end_date()))
    for first in range(0, (settings.end_date() - settings.start).days, build._BATCH_DAYS):
        start = settings.start + first * ONE_DAY
        days = list(dates(start, min(start + build._BATCH_DAYS * ONE_DAY, settings.end_date())))
        with lap(spent, "read replay"):
            held = [*held[-2:], *islice(tables, len(days))]
            bars = Bars.from_table(pa.concat_tables(held))
        with lap(spent, "compute"):
            found = list(build.iter_day_features(bars, days, settings.options))
        with lap(spent, "splits and counts"):
            frames = feature_frame._frame([Key(day, symbol) for day in days], [day.table for day in found], settings.splits)
        first_row = 0
        for day in found:
            rows = frames.slice(first_row, day.table.num_rows)
            yield _bare_write(settings, store, spent, day, rows)
            first_row += day.table.num_rows


def _bare_write(
    settings: Settings, store: Store, spent: dict[str, float], day: build.DayFeatures, table: pa.Table
) -> Callable[[], tuple[Key, pa.Table, Footer, int]]:
    key, member = Key(day.day), Key(day.day, settings.symbol_names[0])
    with lap(spent, "splits and counts"):
        stats = {"rows": table.num_rows, "rows_dropped": 0, "rows_bridging_gaps": day.bridging_rows, "rows_proven": 0}
        counts = feature_frame.frame_stats(table, {member: stats}, settings.splits)
    with lap(spent, "content hash"):
        footer = Footer(content_hash(table), "", {}, counts)

    def publish() -> tuple[Key, pa.Table, Footer, int]:
        with lap(spent, "encode and write"):
            return key, table, footer, store.publish(FEATURE_FRAME, key, table, footer)

    return publish


def store_year(profiled: bool) -> dict[str, Any]:
    """The stored replay to features, frame, manifest and report, with every check and proof.

    Profiled, it works in one thread and gives the seconds of what it is made of instead.
    """
    settings, store, keys, days = _opened()
    publish_splits(store, settings.splits)
    within: dict[str, float] = defaultdict(float)
    if profiled:
        for module in (features_layer, feature_frame, feature_manifest):
            module.in_order = _one_thread  # type: ignore[attr-defined]
            module.content_hash = _watched(content_hash, within, "content hashes")  # type: ignore[attr-defined]
        for name, what in (("look_ahead", "proof against the future"), ("not_finite", "finite values")):
            setattr(features_layer, name, _watched(getattr(features_layer, name), within, what))
        for name, what in (("publish", "encode and write"), ("read_input", "read, and look at the inputs' footers")):
            setattr(Store, name, _watched(getattr(Store, name), within, what))
    layers = {
        "symbol_features": lambda: _drain(features_layer.build_symbol_features(store, settings.options, keys)),
        "feature_frame": lambda: _drain(feature_frame.build_feature_frame(store, settings, days)),
        "feature_manifest": lambda: feature_manifest.build_feature_manifest(store, settings),
        "quality_report": lambda: quality_report.build_quality_report(store, settings),
    }
    stages = {name: timed(call) for name, call in layers.items()}
    rest = sum(stages.values()) - sum(within.values())
    return {"seconds": sum(stages.values()), "stages": stages, "within": within | {"all else, features among it": rest}}


def _one_thread(calls: Iterable[Callable[[], Any]], *, beside_work: bool = False) -> Iterator[Any]:  # noqa: ARG001 - as in_order
    return (call() for call in calls)


def _watched(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        with lap(spent, name):
            return function(*arguments, **named)

    return call


# A symbol's day, a minute's row


def day_and_row(times: int) -> dict[str, Any]:
    """Milliseconds of a day's table and of a new row, and whether rows so made are the stored ones, bit for bit."""
    settings, store, keys, _ = _opened()
    last = keys[-1]
    bars = Bars.concat([Bars.from_table(store.read_table(REPLAY, key)) for key in keys[-3:]])
    window = build.window_of_day(bars, last.date)
    frame = pa.concat_tables([store.read_table(REPLAY, key) for key in keys[-3:]]).to_pandas()
    frame.insert(0, "symbol", last.symbol)
    stored = store.read_table(SYMBOL_FEATURES, last).to_pandas()
    equal = 0
    for back in range(0, 1440, 144):
        row = features.latest_row(frame.iloc[len(frame) - back - LOOKBACK_ROWS - 1 : len(frame) - back])
        wanted = stored.iloc[[-1 - back]].reset_index(drop=True)
        equal += all(row[n].to_numpy().tobytes() == wanted[n].to_numpy().tobytes() for n in FEATURE_ORDER)
    newest = frame.tail(LOOKBACK_ROWS + 1)
    rows = window[0].rows(0, len(window[0]))
    return {
        "rows": len(rows),
        "day_ms": 1000 * median_seconds(lambda: build.feature_table(rows.rows(0, len(rows)), window[1], settings.options), times),
        "row_ms": 1000 * median_seconds(lambda: features.latest_row(newest), times),
        "tested": 10,
        "equal": equal,
    }


# Dagster's part


def command(arguments: list[str]) -> dict[str, Any]:
    """`feature-assets` with these arguments, in this process."""
    from feature_assets.cli import import_building, main

    # What the command imports is not what a day costs.
    import_building()
    started = clock()
    code = main(arguments)
    if code:
        raise RuntimeError(f"feature-assets {' '.join(arguments)} ended with {code}")
    return {"seconds": clock() - started}


def layer(asset: str, empty: bool) -> dict[str, Any]:
    """One range run of one layer, its bodies as they are or empty."""
    import dagster as dg

    if empty:
        _empty_bodies()
    from feature_assets.cli import set_dagster_home
    from feature_assets.definitions import make_definitions
    from feature_assets.partitions import range_tags

    settings, _, keys, days = _opened()
    set_dagster_home()
    wanted = days if asset == FEATURE_FRAME else sorted(keys)
    started = clock()
    with dg.DagsterInstance.get() as instance:
        job = make_definitions(settings).get_repository_def().get_implicit_job_def_for_assets([dg.AssetKey(asset)])
        assert job is not None
        run = job.execute_in_process(
            instance=instance,
            asset_selection=[dg.AssetKey(asset)],
            tags=range_tags(wanted[0], wanted[-1]),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        events = len([e for e in run.all_events if e.event_type_value in {"ASSET_MATERIALIZATION", "ASSET_CHECK_EVALUATION"}])
    return {"seconds": clock() - started, "events": events}


def _empty_bodies() -> None:
    """The same graph, whose assets read, compute and write nothing: partitions, events and checks are what is left."""
    from feature_assets.assets import events, feature_frame, replay, symbol_features
    from feature_assets.checks import checks_of
    from feature_assets.dataset.outcomes import Check, Published

    some_hash = "0123456789abcdef" * 4

    def outcome(asset: str, key: Key) -> Published:
        upstream = {FEATURE_FRAME: SYMBOL_FEATURES, SYMBOL_FEATURES: REPLAY}.get(asset, "source")
        inputs = {f"{upstream}/{key.date - back * ONE_DAY}|{key.symbol}": some_hash for back in range(3)}
        checks = [
            Check(
                spec.name,
                True,
                f"{key}: 1440 rows, nothing computed, nothing written, nothing to complain of.",
                not spec.blocking,
            )
            for spec in checks_of(asset)
        ]
        details = {"rows": 1440, "OK": 1440, "path": some_hash, "bytes": 300_000, "seconds": 0.01}
        return Published(key, Footer(some_hash, some_hash, inputs), tuple(checks), details)

    def empty_asset(spec: Any, _build: Any) -> Any:
        name = spec.key.to_user_string()
        return events.partitioned_asset(spec, lambda _store, _source, keys: (outcome(name, key) for key in sorted(keys)))

    for module in (replay, symbol_features, feature_frame):
        module.partitioned_asset = empty_asset  # type: ignore[attr-defined]


def event_log(events: int) -> dict[str, Any]:
    """Milliseconds a materialization with its check: Dagster's own SQLite event log, and what dagster.yaml says."""
    import dagster as dg

    if "feature_assets.event_log" not in Path("dagster.yaml").read_text(encoding="utf-8"):
        return {}
    Path("stock").mkdir()
    Path("stock/dagster.yaml").write_text("storage: {sqlite: {base_dir: stock}}\ntelemetry: {enabled: false}\n", encoding="utf-8")
    spent = {}
    for name, folder in (("stock", "stock"), ("ours", ".")):
        with dg.DagsterInstance.from_config(folder) as instance:
            spent[name] = 1000 * timed(partial(_record, instance, events)) / events
    return spent


def _record(instance: Any, events: int) -> None:
    import dagster as dg

    partitions = dg.StaticPartitionsDefinition([str(n) for n in range(events)])

    @dg.multi_asset(
        specs=[dg.AssetSpec("a", partitions_def=partitions, skippable=True)], check_specs=[dg.AssetCheckSpec("c", asset="a")]
    )
    def a() -> Iterator[Any]:
        for n in range(events):
            yield dg.AssetCheckEvaluation(asset_key=dg.AssetKey("a"), check_name="c", passed=True, metadata={"rows": n})
            yield dg.AssetMaterialization("a", partition=str(n), metadata={"rows": n, "path": "p" * 60})
        yield dg.Output(None, output_name="a_c")

    dg.materialize(
        [a], instance=instance, partition_key="0", run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    )


# Reading


def single_file(path: str) -> dict[str, Any]:
    """The stored frame as the reference writes it: one file, by symbol and time, as pandas leaves it."""
    _, store, _, days = _opened()
    table = pa.concat_tables([store.read_table(FEATURE_FRAME, key) for key in days])
    table.to_pandas().sort_values(["symbol", "event_time"], ignore_index=True).to_parquet(path, index=False)
    return {"bytes": Path(path).stat().st_size, "store_bytes": sum(f.stat().st_size for f in _files(store))}


def _files(store: Store) -> list[Path]:
    return sorted(Path(store.path(FEATURE_FRAME)).rglob("part-0.parquet"))


def reading(path: str, times: int) -> dict[str, Any]:
    """Milliseconds to have the same columns of FIT's rows as a table, by several ways; all give the same number of rows."""
    settings, store, _, days = _opened()
    folder, columns = store.path(FEATURE_FRAME), ["symbol", "event_time", *FEATURE_ORDER[:5]]
    fit = ds.field("split_id") == "FIT"
    span = settings.splits.splits[0]
    first, last = str(span.start.date()), str((span.end - ONE_DAY).date())
    of_fit = [store.path(store.partition_file(FEATURE_FRAME, key)) for key in days if first <= str(key) <= last]
    monthly = Path(path).with_name("monthly")
    compact = timed(lambda: _compact(folder, monthly))
    schema = feature_frame.FRAME_SCHEMA
    in_dates = (ds.field("date") >= first) & (ds.field("date") <= last)
    ways: dict[str, Callable[[], pa.Table]] = {
        "single": lambda: ds.dataset(path).to_table(columns=columns, filter=fit),
        "folder": lambda: ds.dataset(folder, partitioning="hive").to_table(columns=columns, filter=fit),
        "dates": lambda: ds.dataset(folder, partitioning="hive").to_table(columns=columns, filter=fit & in_dates),
        "list": lambda: ds.dataset(of_fit, schema=schema, format="parquet").to_table(columns=columns, filter=fit),
        "monthly": lambda: ds.dataset(monthly, partitioning="hive").to_table(columns=columns, filter=fit),
    }
    rows = {name: call().num_rows for name, call in ways.items()}
    if len(set(rows.values())) != 1:
        raise RuntimeError(f"ways to read give other rows: {rows}")
    files = [str(file) for file in _files(store)]
    parts: dict[str, Callable[[], object]] = {
        "discover": lambda: ds.dataset(folder, partitioning="hive"),
        "footers": lambda: [pq.read_metadata(file) for file in files],
        "opened": lambda: [pq.ParquetFile(file).read(columns=columns) for file in files],
    }
    found = {name: 1000 * median_seconds(call, times) for name, call in (ways | parts).items()}
    return {
        "ms": found,
        "rows": rows["single"],
        "files": len(files),
        "months": len(list(monthly.rglob("*.parquet"))),
        "compact": compact,
    }


def _compact(folder: str, monthly: Path) -> None:
    # The recipe of docs/performance.md.
    frame = ds.dataset(folder, partitioning="hive")
    for month in sorted({ds.get_partition_keys(file.partition_expression)["date"][:7] for file in frame.get_fragments()}):
        rows = frame.to_table(filter=(ds.field("date") >= f"{month}-01") & (ds.field("date") <= f"{month}-31"))
        ds.write_dataset(rows, monthly / f"month={month}", format="parquet")


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    task.__name__: task
    for task in (
        make_replay, make_store, naive, bare, store_year, day_and_row, command, layer, event_log,
        single_file, reading,
    )
}  # fmt: skip

if __name__ == "__main__":
    answer = TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
    print(json.dumps(answer))
