"""Locked means unseen: whatever a build shows of VALIDATION_LOCKED and of later rows, it is no value of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from feature_assets.dataset.keys import Key
from feature_assets.dataset.outcomes import Refused
from feature_assets.dataset.replay import build_replay
from feature_assets.dataset.status import range_status
from feature_assets.errors import SourceError
from feature_assets.features import build, catalogue
from feature_assets.market.bars import REPLAY_SCHEMA
from feature_assets.market.sources import load_source, unreadable
from feature_assets_tests.support.graph import Graph, failure_text, parquet_graph
from feature_assets_tests.support.replays import START, days

# No other number of a build has these digits.
CANARY = -424242.5
DIGITS = "424242"
DAYS = [str(START + dt.timedelta(days=number)) for number in range(6)]
# Day 0 and 1 are seen, 2 is locked, 3 is later.
SPLITS = f"FIT:{DAYS[0]}..{DAYS[1]},TUNE:{DAYS[1]}..{DAYS[2]},VALIDATION_LOCKED:{DAYS[2]}..{DAYS[3]}"
UNSEEN = [2, 3]


def key(number: int) -> str:
    return f"{DAYS[number]}|BTCUSDT"


def shown(graph: Graph, capfd: pytest.CaptureFixture[str]) -> str:
    """Everything that the runs so far have shown: event log, terminal, every file but the tables, status."""
    logs = [dg.serialize_value(entry) for run in graph.instance.get_runs() for entry in graph.instance.all_logs(run.run_id)]
    terminal = capfd.readouterr()
    files = [data.decode() for name, data in graph.files().items() if not name.endswith(".parquet")]
    settings = graph.settings
    source = load_source(settings.source).source
    states = range_status(graph.store, source, settings, settings.start, settings.end_date())
    return "\n".join([*logs, terminal.out, terminal.err, *files, *(state.reason for state in states)])


@pytest.fixture
def bars() -> pd.DataFrame:
    return days("BTCUSDT", 4)


def replaced(monkeypatch, name: str, column: str, function) -> None:
    """Let another function of one column make a feature."""
    other = {"function": function, "columns": (column,)}
    features = tuple(dataclasses.replace(f, **other) if f.name == name else f for f in catalogue.FEATURES)
    monkeypatch.setattr(build, "FEATURES", features)


@pytest.mark.parametrize("number", [1, *UNSEEN])
def test_a_bar_that_breaks_a_rule_shows_symbol_minute_and_rule_and_its_value_only_before_the_locked_split(
    tmp_path, bars, number, capfd
):
    bars.loc[number * 1440 + 600, "volume"] = CANARY
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    graph.build()
    everything = shown(graph, capfd)
    assert (DIGITS in everything) == (number not in UNSEEN)
    reason = graph.store.refusal("replay", Key.parse(key(number))).reason
    assert reason.startswith(f"{key(number)}: not a sound replay. volume >= 0: 1 row(s), e.g. row 600 at {DAYS[number]} 10:00:00")
    assert reason in failure_text(graph.materialize("replay", key(number)))


@pytest.mark.parametrize("number", [0, *UNSEEN])
def test_a_value_out_of_bounds_shows_symbol_minute_rule_and_feature(tmp_path, bars, number, capfd, monkeypatch):
    start = pd.Timestamp(f"{DAYS[number]} 10:00", tz="UTC").value // 1_000_000
    replaced(monkeypatch, "taker_imbalance_5m", "volume", lambda bars: np.where(bars["event_time"] == start, CANARY, 0.0))
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    graph.materialize("replay", "2025-02-24|BTCUSDT", key(3))
    assert not graph.materialize("symbol_features", key(number)).success
    everything = shown(graph, capfd)
    assert (DIGITS in everything) == (number not in UNSEEN)
    reason = graph.store.refusal("symbol_features", Key.parse(key(number))).reason
    assert reason.startswith(
        f"{key(number)}: taker_imbalance_5m lies outside [-1.0, 1.0] in 1 row(s), first {DAYS[number]} 10:00:00"
    )


@pytest.mark.parametrize("number", [0, *UNSEEN])
def test_a_feature_that_looks_ahead_shows_minute_and_feature(tmp_path, bars, number, capfd, monkeypatch):
    bars["index_price"] = -CANARY + np.arange(len(bars)) / 4
    replaced(monkeypatch, "funding_bps", "index_price", lambda bars: np.append(bars["index_price"][1:], bars["index_price"][-1:]))
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    graph.materialize("replay", "2025-02-24|BTCUSDT", key(3))
    assert not graph.materialize("symbol_features", key(number)).success
    everything = shown(graph, capfd)
    values = bars["index_price"][number * 1440 : (number + 1) * 1440].astype(np.float32)
    assert any(str(value) in everything for value in values) == (number not in UNSEEN)
    assert f"{key(number)}: funding_bps looks ahead 1 row(s): cut after row" in everything


def test_a_seen_day_that_is_computed_with_a_locked_one_shows_no_value_either(tmp_path, bars, capfd, monkeypatch):
    """The last row of the day before reads the first locked bar: what it shows would be that bar's."""
    bars.loc[2 * 1440 :, "volume"] = -CANARY

    def peeking(bars):
        ahead = np.append(bars["volume"][1:], 0.0)
        return np.where(ahead > -CANARY / 2, ahead, 0.0)

    replaced(monkeypatch, "taker_imbalance_5m", "volume", peeking)
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    graph.materialize("replay", "2025-02-24|BTCUSDT", key(3))
    assert not graph.materialize("symbol_features", key(0), key(3)).success
    text = shown(graph, capfd)
    assert f"{key(1)}: taker_imbalance_5m lies outside [-1.0, 1.0] in 1 row(s), first {DAYS[1]} 23:59:00" in text
    assert DIGITS not in text


@pytest.mark.parametrize(
    "splits", [f"FIT:{DAYS[0]}..{DAYS[4]}", f"VALIDATION_LOCKED:{DAYS[3]}..{DAYS[4]}"], ids=["gone", "moved"]
)
def test_what_the_lock_holds_stays_unseen_though_splits_have_been_moved(tmp_path, bars, splits, capfd):
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    assert not graph.build().errors
    bars.loc[2 * 1440 + 600, "volume"] = CANARY
    graph = parquet_graph(tmp_path, bars, SPLITS=splits)
    graph.build()
    assert DIGITS not in shown(graph, capfd)
    assert "volume >= 0" in graph.store.refusal("replay", Key.parse(key(2))).reason


class Faulty:
    """A user's source whose days fail in a way of their own."""

    def __init__(self, answer) -> None:
        self._answer = answer

    def iter_days(self, symbol, start, end):
        day = start
        while day < end:
            yield day, self._answer()
            day += dt.timedelta(days=1)

    def fingerprint(self, symbol, date):
        return "one"


def of_several_types():
    frame = days("BTCUSDT", 1)
    frame["close"] = frame["close"].astype(object)
    frame.loc[5, "close"] = str(CANARY)
    return frame


def too_large():
    frame = days("BTCUSDT", 1)
    frame["close"] = 424242_000_000_000_001
    return frame


def raises(error: Exception):
    def answer():
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (raises(SourceError(f"close is {CANARY}")), "the source's own text is not shown"),
        (raises(SourceError(f"close is {CANARY}", unseen="close in row 5")), "close in row 5"),
        (raises(ValueError(f"close is {CANARY}")), "the source raised ValueError"),
        (of_several_types, "column close holds values of several types"),
        (too_large, "column close (int64) does not fit double"),
    ],
    ids=["its own error", "its own error with an unseen text", "any error", "several types", "too large"],
)
def test_what_a_source_says_of_a_locked_day_it_cannot_give_is_shown_without_values(tmp_path, bars, answer, left):
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    keys = [Key.parse(key(number)) for number in (1, *UNSEEN)]
    reasons = []
    for partition in keys:
        (refused,) = build_replay(graph.store, Faulty(answer), graph.settings, [partition])
        assert isinstance(refused, Refused)
        assert graph.store.refusal("replay", partition).reason == refused.reason == refused.checks[0].message
        reasons.append(refused.reason)
    assert DIGITS in reasons[0]
    for reason in reasons[1:]:
        assert DIGITS not in reason
        assert left in reason


def test_a_text_that_holds_no_value_is_shown_of_locked_days_too(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    faulty = Faulty(raises(unreadable("btc-2025-03.csv: row 5 is torn")))
    (refused,) = build_replay(graph.store, faulty, graph.settings, [Key.parse(key(2))])
    assert refused.reason == f"{key(2)}: cannot be read: btc-2025-03.csv: row 5 is torn"


def test_rows_whose_time_is_not_certain_stay_unseen_in_a_day_that_is_locked_in_part(tmp_path, bars):
    from feature_assets.market.bars import to_table, violations

    hidden = int(pd.Timestamp(f"{DAYS[2]} 12:00", tz="UTC").timestamp()) * 1000
    frame = bars[2 * 1440 : 3 * 1440].reset_index(drop=True).drop(columns="symbol")
    for row in (600, 719, 720, 900):
        frame.loc[row, "volume"] = CANARY - row
    frame.loc[719, "open_time_ms"] += 3_600_000
    (volume,) = [v for v in violations(to_table(frame, "bars"), START + dt.timedelta(days=2), hidden) if v.rule == "volume >= 0"]
    assert [("volume=" in example) for example in volume.examples] == [True, False, False, False]
    assert volume.examples[2] == f"row 720 at {DAYS[2]} 12:00:00+00:00"
    nulls = frame.assign(event_time=frame["event_time"].where(frame.index != 600))
    table = to_table(nulls, "bars").cast(REPLAY_SCHEMA)
    texts = [str(violation) for violation in violations(table, START + dt.timedelta(days=2), hidden)]
    assert not any(str(CANARY - 600) in text for text in texts)


def test_the_metadata_of_a_locked_day_count_no_values(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    graph.materialize("replay", key(0), key(3))
    records = graph.instance.fetch_materializations(dg.AssetKey("replay"), limit=10).records
    found = {record.partition_key: set(record.asset_materialization.metadata) for record in records}
    assert {number: "open_interest_not_positive" in found[key(number)] for number in range(4)} == {
        0: True,
        1: True,
        2: False,
        3: False,
    }


def later_changed(bars: pd.DataFrame) -> pd.DataFrame:
    """Other bars from the locked day's noon on, in many columns, with outages, and an incomplete day after it."""
    other = bars.copy()
    late = other["event_time"] >= pd.Timestamp(f"{DAYS[2]} 12:00", tz="UTC")
    other.loc[late, ["volume", "taker_buy_volume", "taker_sell_volume", "spread_bps", "open_interest"]] *= 3.0
    for minutes in (slice(5, 50), slice(200, 260)):
        other.loc[other.index[late][minutes], "liquidation_available"] = 0.0
    return other.drop(index=range(3 * 1440 + 700, 3 * 1440 + 705))


def test_manifest_and_report_are_the_same_whatever_later_rows_hold_but_for_counts_and_hashes(tmp_path, bars):
    """Locked is an hour at noon: rows of the same day before it are seen, all rows after it are not."""
    splits = f"FIT:{DAYS[0]}..{DAYS[2]},VALIDATION_LOCKED:{DAYS[2]}T12:00..{DAYS[2]}T13:00"
    manifests, reports = [], []
    for name, replay in (("one", bars), ("two", later_changed(bars))):
        (tmp_path / name).mkdir()
        graph = parquet_graph(tmp_path / name, replay, SPLITS=splits, SHOW_LOCKED_MEDIANS="false")
        assert not graph.build().errors
        files = graph.files()
        manifests.append(json.loads(files["dataset/feature_frame.manifest.json"]))
        reports.append(files["report/feature_quality_report.md"].decode())
    one, two = manifests
    assert {name for name in one if one[name] != two[name]} == {
        *(
            "data_hash_sha256",
            "sample_sha256",
            "partitions",
            "split_coverage",
            "row_count",
            "ok_row_count",
            "partial_optional_row_count",
        ),
    }
    lines = [[line for line in text.splitlines() if line.startswith("|")] for text in reports]
    differing = {a.split(" | ")[0] for a, b in zip(*lines, strict=True) if a != b}
    assert differing <= {"| UNASSIGNED", "| VALIDATION_LOCKED"}


def test_the_report_shows_medians_of_the_locked_split_and_a_setting_takes_them_away(tmp_path, bars):
    graph = parquet_graph(tmp_path, bars, SPLITS=SPLITS)
    assert not graph.build().errors
    path = tmp_path / "store/report/feature_quality_report.md"
    header = "| feature | train_p50 | tune_p50 | validation_p50 | p50_diff | train_p99 | tune_p99 |"
    assert header in path.read_text()
    assert not any(word in path.read_text() for word in ("validation_p99", "p99_diff"))
    (check,) = graph.materialize("quality_report").get_asset_check_evaluations()
    assert "ret_1m_bps" in check.metadata
    graph.variables["SHOW_LOCKED_MEDIANS"] = "false"
    (check,) = graph.materialize("quality_report").get_asset_check_evaluations()
    assert check.metadata == {}
    assert "SHOW_LOCKED_MEDIANS is false" in check.description
    assert "| feature | train_p50 | tune_p50 | train_p99 | tune_p99 |" in path.read_text()
    assert "validation_p50" not in path.read_text()
