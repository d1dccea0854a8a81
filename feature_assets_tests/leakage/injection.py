"""Injecting a leak into the real pipeline: what a leak is, the graph it is put into, and who caught it first."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from feature_assets.dataset import audit
from feature_assets.dataset.keys import Key
from feature_assets.dataset.store import Store
from feature_assets.errors import SettingError
from feature_assets.features import build
from feature_assets.market.bars import Bars, day_start_ms
from feature_assets_tests.support.graph import Graph, failure_text, parquet_graph
from feature_assets_tests.support.replays import START, days

BTC, ETH = "BTCUSDT", "ETHUSDT"
D0, D1, D2 = (str(START + pd.Timedelta(days=number)) for number in range(3))
SPLITS = f"FIT:{D0}..{D1},TUNE:{D1}..{D1}T16:00,VALIDATION_LOCKED:{D1}T16:00..{D2}"
ROW = 700
"""The row of a day that a leak of one row stands in: next to no cut of a build."""
_REACH = 70
"""Rows after ROW at which the audit is asked to cut: as far as a leak of the corpus looks ahead."""
LAYERS = ("replay", "symbol_features", "feature_frame")

BUILD, AUDIT, TESTS, NOBODY = "the build", "the audit", "the tests", "nobody"


@dataclass(frozen=True)
class Scope:
    """Where a leak is: a mask over a symbol's bars, and the symbol-days that it touches."""

    name: str
    rows: Callable[[Bars], np.ndarray]
    keys: tuple[str, ...]

    def of(self, asset: str) -> tuple[str, ...]:
        """The partitions of an asset that hold the leak."""
        keys = self.keys if asset != "feature_frame" else sorted({key.partition("|")[0] for key in self.keys})
        return tuple(f"{asset}/{key}" for key in keys)

    def in_table(self, symbols: np.ndarray, times: np.ndarray) -> np.ndarray:
        """The mask over rows of a frame: their symbols, and their times in milliseconds since the epoch."""
        mask = np.zeros(len(times), dtype=bool)
        for key in map(Key.parse, self.keys):
            begin = day_start_ms(key.date)
            first, last = (ROW, ROW + 1) if self.name == "one row" else (0, 1440)
            mask |= (symbols == key.symbol) & (times >= begin + first * 60_000) & (times < begin + last * 60_000)
        return mask


def _since(day: str, row: int = 0) -> float:
    return day_start_ms(Key.parse(day).date) + row * 60_000


def _is_btc(bars: Bars) -> bool:
    """Bars do not say whose they are; their prices do."""
    return bool(len(bars)) and bars["close"][0] > 10_000.0


_ALL = (f"{D0}|{BTC}", f"{D0}|{ETH}", f"{D1}|{BTC}", f"{D1}|{ETH}")
EVERYWHERE = Scope("everywhere", lambda bars: np.ones(len(bars), dtype=bool), _ALL)
ONE_FEATURE = dataclasses.replace(EVERYWHERE, name="one feature")
ONE_SYMBOL = Scope("one symbol", lambda bars: np.full(len(bars), _is_btc(bars)), (f"{D0}|{BTC}", f"{D1}|{BTC}"))
ONE_DAY = Scope("one day", lambda bars: bars["event_time"] >= _since(D1), (f"{D1}|{BTC}", f"{D1}|{ETH}"))
ONE_ROW = Scope("one row", lambda bars: (bars["event_time"] == _since(D1, ROW)) & _is_btc(bars), (f"{D1}|{BTC}",))


class Case:
    """A leak's graph: two symbols, two days, three splits. What injects the leak may change anything of it."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, patch
        self.bars = two_symbols().copy()
        self.settings = {"SPLITS": SPLITS}
        self.findings: list[str] = []
        self.before: dict[str, bytes] = {}
        self._graph: Graph | None = None

    @property
    def graph(self) -> Graph:
        if self._graph is None:
            self.folder.mkdir(exist_ok=True)
            self._graph = parquet_graph(self.folder, self.bars, **self.settings)
        return self._graph

    def sound(self) -> Graph:
        """The graph with a sound store, built before the leak is put in."""
        assert not self.graph.build().errors
        self.before = self.graph.files()
        return self.graph

    def change_bars(self, bars: pd.DataFrame) -> None:
        """Put another replay in the place of the source's."""
        bars.to_parquet(self.folder / "replay.parquet", index=False, row_group_size=20_000)

    def change_feature(
        self, change: Callable[[np.ndarray, Bars], np.ndarray], scope: Scope, names: tuple[str, ...] = ("level1_ofi_1m",)
    ) -> None:
        """Let features pass their rows of a scope through `change`."""

        def leaking(feature):
            def function(bars: Bars) -> np.ndarray:
                values = feature.function(bars)
                return np.where(scope.rows(bars), change(values, bars), values)

            return dataclasses.replace(feature, function=function) if feature.name in names else feature

        self.patch.setattr(build, "FEATURES", tuple(map(leaking, build.FEATURES)))


@functools.cache
def two_symbols() -> pd.DataFrame:
    return pd.concat([days(symbol, 2) for symbol in (BTC, ETH)], ignore_index=True)


def run_build(case: Case) -> str:
    """`feature-assets build`; gives its errors."""
    return "\n".join(case.graph.build().errors)


def materialize(assets: str, key: str | None = None) -> Callable[[Case], str]:
    """A run of these assets alone."""

    def run(case: Case) -> str:
        result = case.graph.materialize(assets, key)
        return "" if result.success else failure_text(result)

    return run


@dataclass(frozen=True)
class Leak:
    """A small mutation of the pipeline, and who has to catch it.

    inject: puts it into a Case. where: the partitions that it spoils, as `asset/key`. by and check: who must catch it, and
    with what: a check, a refusal or, by the tests, a sentence. act: what runs then, and gives the errors. says: part of them.
    """

    mechanism: str
    name: str
    scope: str
    inject: Callable[[Case], None]
    where: tuple[str, ...]
    check: str
    by: str = BUILD
    act: Callable[[Case], str] = run_build
    says: str = ""

    @property
    def title(self) -> str:
        return f"{self.mechanism}: {self.name}, {self.scope}"


@dataclass(frozen=True)
class Found:
    """Who caught a leak first, with what, what was said, and the files that the run left or changed."""

    by: str
    check: str
    text: str
    published: frozenset[str] = frozenset()


def run_leak(leak: Leak, folder: Path, patch: pytest.MonkeyPatch) -> Found:
    """Inject a leak, run the graph, and see who catches it: the build, else the audit at every minute, else the tests."""
    case = Case(folder, patch)
    leak.inject(case)
    try:
        text = leak.act(case)
    except SettingError as error:
        return Found(BUILD, "settings", str(error), _changed(case))
    if case.findings:
        return Found(TESTS, leak.check, "; ".join(case.findings), _changed(case))
    published = _changed(case)
    if text and leak.where and not any(_final_file(name) in published for name in leak.where):
        checks = {_caught_by(case.graph, name, text) for name in leak.where}
        return Found(BUILD, " and ".join(sorted(checks)), text, published)
    if not text and (found := _audit(case, patch, [name for name in leak.where if name.startswith("symbol_features/")])):
        return Found(AUDIT, "audit", "; ".join(found), published)
    return Found(NOBODY, "", text, published)


def _changed(case: Case) -> frozenset[str]:
    """The store's files that are not those of the sound store before, the quarantine's left out."""
    root = case.folder / "store"
    after = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("[!.]*") if path.is_file()}
    return frozenset(name for name, data in after.items() if case.before.get(name) != data and not name.startswith("quarantine"))


def _final_file(name: str) -> str:
    asset, _, key = name.partition("/")
    if asset in LAYERS:
        return _partition_file(asset, key)
    return {"feature_manifest": "dataset/feature_frame.manifest.json", "quality_report": "report/feature_quality_report.md"}.get(
        asset, "split/split_manifest.json"
    )


def _partition_file(asset: str, key: str) -> str:
    return Store.partition_file(asset, Key.parse(key))


def below(name: str) -> list[str]:
    """The final names of a partition and of what stands on it, of the same day."""
    asset, _, key = name.partition("/")
    if asset not in LAYERS:
        return [_final_file(name)]
    date = key.partition("|")[0]
    layers = LAYERS[LAYERS.index(asset) :]
    return [_partition_file(layer, date if layer == "feature_frame" else key) for layer in layers]


def _caught_by(graph: Graph, name: str, text: str) -> str:
    """The check that refused a partition, as its marker and its evaluation say; `staleness` where an input did."""
    asset, _, key = name.partition("/")
    refusal = graph.store.refusal(asset, Key.parse(key) if asset in LAYERS else None)
    if refusal is None:
        return "staleness" if "stale" in text else "refused input"
    if refusal.check != "validation_lock":
        assert (asset, refusal.check, key if asset in LAYERS else None) in failed_checks(graph)
    return refusal.check


def failed_checks(graph: Graph) -> set[tuple[str, str, str | None]]:
    """Asset, check and partition of every evaluation that failed, as Dagster has recorded them."""
    failed = set()
    for run in graph.instance.get_runs():
        for record in graph.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION):
            evaluation = record.dagster_event.asset_check_evaluation_data
            if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
                failed.add((evaluation.asset_key.to_user_string(), evaluation.check_name, evaluation.partition))
    return failed


def _audit(case: Case, patch: pytest.MonkeyPatch, where: list[str]) -> list[str]:
    """What `feature-assets audit --cuts 1440` finds in partitions; cuts far from ROW are left out for time's sake."""
    cuts = audit.cuts

    def near(symbol, date, rows, count):
        return [cut for cut in cuts(symbol, date, rows, 1440) if ROW - 1 <= cut.row <= ROW + _REACH]

    store, keys = case.graph.store, [Key.parse(name.partition("/")[2]) for name in where]
    with patch.context() as patched:
        patched.setattr(audit, "cuts", near)
        found = audit.audit(store, case.graph.settings.options, keys or store.keys("symbol_features"), 1440)
        return [text for audited in found for text in audited.broken]
