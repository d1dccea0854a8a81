"""What only the tests can catch: a documented way to read that gives locked rows, and a figure of locked rows that is shown."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.dataset import feature_frame, lock, quality_report, replay, symbol_features
from feature_assets.dataset.frame_sample import FrameSample
from feature_assets.splits.manifest import SplitManifest
from feature_assets_tests.leakage.injection import BTC, D1, ETH, Case
from feature_assets_tests.support.graph import Graph, parquet_graph

README = Path(__file__).parents[2] / "README.md"
_LOCKED_FROM = pd.Timestamp(f"{D1} 16:00", tz="UTC")

# Readers


def snippets(text: str) -> list[str]:
    """The Python blocks of the README that read a store."""
    return [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if '"data' in block]


def open_doors(case: Case) -> str:
    """Run every documented way to read on a built store; locked rows that no look stands for are findings."""
    case.settings["ROOT"] = str(case.folder / "data")
    assert not case.graph.build().errors
    looks = 0
    with contextlib.chdir(case.folder):
        for block in snippets(getattr(case, "readme", README.read_text(encoding="utf-8"))):
            names: dict[str, Any] = {}
            exec(block, names)
            looks += "read_locked" in block
            for name in ("fit", "locked"):
                if name in names:
                    case.findings += _unrecorded(case, name, names[name], looks)
    return ""


def _unrecorded(case: Case, name: str, rows: pd.DataFrame | pa.Table, looks: int) -> Iterator[str]:
    times = rows["event_time"].to_pandas() if isinstance(rows, pa.Table) else rows["event_time"]
    number = int((pd.to_datetime(times, utc=True) >= _LOCKED_FROM).sum())
    if name == "fit" and number:
        yield f"{name} has {number} row(s) of VALIDATION_LOCKED"
    recorded = len(lock.read_lock(case.graph.store).looks)
    if name == "locked" and recorded != looks:
        yield f"{looks} look(s) at {number} locked row(s), {recorded} of them in the ledger"


def _readme(old: str, new: str, place: int) -> Callable[[Case], None]:
    """A README whose snippets (all, or the one at a place) have another filter."""

    def inject(case: Case) -> None:
        text = README.read_text(encoding="utf-8")
        changed = snippets(text)[place].replace(old, new)
        assert changed != snippets(text)[place]
        case.readme = text.replace(snippets(text)[place], changed)

    return inject


def _no_note(case: Case) -> None:
    write = lock.write_lock
    case.patch.setattr(lock, "write_lock", lambda store, held: write(store, held) if not held.looks else None)


def _late_note(case: Case) -> None:
    """A look that is noted only where a whole day was read."""
    write = lock.write_lock

    def noting(store, held):
        if not held.looks or held.looks[-1]["dates"]["number"] > 1:
            write(store, held)

    case.patch.setattr(lock, "write_lock", noting)


READERS: list[tuple[str, str, Callable[[Case], None]]] = [
    ("pyarrow's filter leaves the split out", "everywhere", _readme('(ds.field("split_id") == "FIT") & ', "", 0)),
    ("pyarrow's filter takes all but TUNE", "everywhere", _readme('== "FIT"', '!= "TUNE"', 0)),
    ("pandas' filter leaves the split out", "everywhere", _readme('("split_id", "==", "FIT"), ', "", 1)),
    ("pandas' filter by a date", "one day", _readme('("split_id", "==", "FIT")', f'("date", "==", "{D1}")', 1)),
    ("read_locked notes no look", "everywhere", _no_note),
    ("read_locked notes no look at a single date", "one day", _late_note),
]

# Reports

_HASHES = {
    "content_hash",
    "locked_hash",
    "stats_sha256",
    "sample_sha256",
    "file_sha256",
    "size_bytes",
    "data_hash_sha256",
    "bytes",
    "seconds",
    "path",
    "hash",
    "source_fingerprint",
    "inputs",
}
_COUNTS = {"split_coverage", "OK", "PARTIAL_OPTIONAL", "WARMUP"}


def two_stores(case: Case) -> str:
    """Build two stores that differ in locked rows alone; what else they show than hashes, counts and medians are findings."""
    shown = []
    for name, bars in (("one", case.bars), ("two", _other_locked(case.bars))):
        folder = case.folder / name
        folder.mkdir(parents=True)
        graph = parquet_graph(folder, bars, **case.settings)
        graph.build()
        shown.append(_shown(graph, medians=case.settings.get("SHOW_LOCKED_MEDIANS", "true") == "true"))
        graph.instance.dispose()
    one, two = shown
    case.findings += sorted(name for name in {*one, *two} if one.get(name) != two.get(name))[:5]
    return ""


def two_refusals(case: Case) -> str:
    """The same with a locked row that breaks a rule by another value."""
    minute = (case.bars["event_time"] == pd.Timestamp(f"{D1} 20:00", tz="UTC")) & (case.bars["symbol"] == BTC)
    case.bars.loc[minute, "volume"] = -1.0
    return two_stores(case)


def _other_locked(bars: pd.DataFrame) -> pd.DataFrame:
    bars = bars.copy()
    locked = bars["event_time"] >= _LOCKED_FROM
    bars.loc[locked, ["volume", "spread_bps", "level1_ofi_1m"]] *= 1000.0
    bars.loc[locked & (bars["event_time"].dt.minute == 7), "liquidation_available"] = 0.0
    bars.loc[locked & (bars["event_time"].dt.minute == 8), "open_interest"] = 0.0
    return bars


def _shown(graph: Graph, *, medians: bool) -> dict[str, str]:
    """All that a build shows, by name: manifest, report, and every event's metadata and description, but hashes and counts."""
    shown: dict[str, str] = {}
    files = {
        name: data.decode() for name, data in graph.files().items() if name.endswith((".json", ".md")) and "rejected" not in name
    }
    for name, text in files.items():
        if name.endswith(".md"):
            shown |= {f"{name} {part.splitlines()[0]}": part for part in text.split("## ")[1:]}
        else:
            shown |= dict(_flat(name, json.loads(text)))
    for run in graph.instance.get_runs():
        for record in graph.instance.all_logs(run.run_id):
            shown |= dict(_event(record.dagster_event, record.user_message))
    hidden = {"Split Coverage", *([] if not medians else ["Drift Check", "drift"])}
    return {
        name: value
        for name, value in shown.items()
        if not any(name.endswith(part) for part in hidden)
        and not {*name.split("/")} & (_HASHES | _COUNTS)
        and not name.startswith(("split/validation_lock.json/dates", "store.json"))
    }


def _event(event: dg.DagsterEvent | None, message: str) -> Iterator[tuple[str, str]]:
    if event is None:
        yield f"log {message.split(':', maxsplit=1)[0]}", message
        return
    if event.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION:
        found = event.step_materialization_data.materialization
        for name, value in found.metadata.items():
            if name != "report" and not name.startswith("dagster/"):
                yield f"{found.asset_key.to_user_string()}/{found.partition}/{name}", str(value.value)
    if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        check = event.asset_check_evaluation_data
        where = f"{check.asset_key.to_user_string()}/{check.partition}/{check.check_name}"
        yield f"{where} says", check.description or ""
        if check.check_name != "drift":
            for name, value in check.metadata.items():
                yield f"{where}/{name}", str(value.value)
    if event.is_step_failure:
        data = event.step_failure_data
        yield f"failure of {event.step_key}", str(data.user_failure_data and data.user_failure_data.description)


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}/{key}", inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _flat(f"{name}/{place}", inner)
    else:
        yield name, str(value)


def _add(hidden: Callable[[int, pa.Table], int | None]) -> Callable[[Case], None]:
    """The sample takes the rows from another time on for hidden ones."""

    def inject(case: Case) -> None:
        add = FrameSample.add

        def adding(sample, frame, hidden_from=None):
            add(sample, frame, None if hidden_from is None else hidden(hidden_from, frame))

        case.patch.setattr(FrameSample, "add", adding)

    return inject


def _one_symbol(case: Case) -> None:
    """ETHUSDT's locked rows go into the sample with the others."""
    add = FrameSample.add

    def adding(sample, frame, hidden_from=None):
        add(sample, frame.filter(pc.not_equal(frame["symbol"], ETH)), hidden_from)
        add(sample, frame.filter(pc.equal(frame["symbol"], ETH)), None)

    case.patch.setattr(FrameSample, "add", adding)


def _all_seen(case: Case) -> None:
    case.patch.setattr(FrameSample, "seen_rows", property(lambda sample: sample.rows().num_rows))


def _share_of_all(case: Case) -> None:
    stats = feature_frame.frame_stats
    case.patch.setattr(feature_frame, "frame_stats", lambda table, symbols, manifest: stats(table, symbols, SplitManifest([])))


def _medians(case: Case) -> None:
    case.settings["SHOW_LOCKED_MEDIANS"] = "false"
    case.patch.setattr(quality_report, "_LOCKED_MEDIANS", {"p50_diff"})


def _replay_values(case: Case) -> None:
    case.patch.setattr(replay, "hidden_from", lambda store, splits: None)


def _lookahead_values(case: Case) -> None:
    """A feature that looks ahead is told of with its values, which locked rows have made."""
    from numpy import append

    from feature_assets_tests.leakage.injection import ONE_DAY

    case.change_feature(lambda values, bars: append(values[1000:], values[-1000:]), ONE_DAY)
    proof = symbol_features.look_ahead
    case.patch.setattr(
        symbol_features,
        "look_ahead",
        lambda *arguments, show_values: proof(*arguments, show_values=True),
    )


REPORTS: list[tuple[str, str, Callable[[Case], None], Callable[[Case], str]]] = [
    ("statistics of all sampled rows", "everywhere", _all_seen, two_stores),
    ("counts and extremes of all rows", "one day", _add(lambda hidden, frame: None), two_stores),
    ("statistics of a symbol's locked rows", "one symbol", _one_symbol, two_stores),
    ("first locked row among the seen", "one row", _add(lambda hidden, frame: hidden + 60_000), two_stores),
    ("share of liquidations of all rows", "one feature", _share_of_all, two_stores),
    ("medians though they are not to be shown", "everywhere", _medians, two_stores),
    ("count of a locked day's open interest", "one day", _replay_values, two_stores),
    ("value of a refused locked row", "one row", _replay_values, two_refusals),
    ("values of a look-ahead into locked rows", "one feature", _lookahead_values, two_stores),
]
