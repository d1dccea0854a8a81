"""The quality report over the stored frame: columns are read in groups, so that memory follows a group, not the frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.dataset import lock
from feature_assets.dataset.feature_manifest import manifest_keys, read_manifest
from feature_assets.dataset.keys import Key
from feature_assets.dataset.outcomes import Check
from feature_assets.dataset.store import FEATURE_FRAME, QUALITY_REPORT, Store
from feature_assets.errors import StaleInputError
from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.quality import statistics
from feature_assets.quality.report import render
from feature_assets.quality.statistics import FrameStatistics
from feature_assets.settings import Settings
from feature_assets.splits.manifest import FIT, SPLIT_IDS, TUNE

DRIFT = "drift"
REPORT_FILE = "report/feature_quality_report.md"

_DRIFT_COLUMNS = ("feature", "train_p50", "tune_p50", "validation_p50", "p50_diff", "train_p99", "tune_p99")
_LOCKED_MEDIANS = {"validation_p50", "p50_diff"}
# Bytes of float32 values that a group of columns may hold.
_GROUP_BYTES = 8 << 20


def build_quality_report(store: Store, settings: Settings) -> tuple[str, Check]:
    """Write the report of the dates that the manifest names; gives its text and the check `drift`, which never fails.

    Of VALIDATION_LOCKED and later rows it shows counts by flag, and VALIDATION_LOCKED's medians in the drift table where
    the settings show them.
    Raises MissingInputError where there is no manifest, and StaleInputError where it is not of the frames there are.
    """
    manifest = read_manifest(store)
    _refuse_stale(store, manifest)
    hidden_from = lock.hidden_from(store, settings.splits)
    figures = frame_statistics(store, manifest_keys(manifest), hidden_from, show_locked_medians=settings.show_locked_medians)
    text = render(manifest, figures, _leakage(manifest), _missing(manifest))
    store.write_bytes(REPORT_FILE, text.encode())
    store.accept(QUALITY_REPORT, None)
    differences = {str(row["feature"]): row["p50_diff"] for row in figures.drift if "p50_diff" in row}
    message = "differences of medians, VALIDATION_LOCKED minus FIT, by feature."
    if not settings.show_locked_medians:
        message = "medians of VALIDATION_LOCKED are not shown: SHOW_LOCKED_MEDIANS is false."
    return text, Check(DRIFT, passed=True, message=message, warning=True, details=differences)


def frame_statistics(
    store: Store, keys: Sequence[Key], hidden_from: int | None = None, *, show_locked_medians: bool = True
) -> FrameStatistics:
    """Statistics of the stored dates without the rows from `hidden_from` on, in milliseconds since the epoch.

    Only the drift table sees VALIDATION_LOCKED, and of it the medians alone, if they are to be shown.
    """
    meta = _read(store, keys, ["split_id", "open_time_ms"])
    times = meta["open_time_ms"].to_numpy()
    seen = np.ones(len(times), dtype=bool) if hidden_from is None else times < hidden_from
    splits = {split: pc.equal(meta["split_id"], split).to_numpy() for split in SPLIT_IDS}
    splits |= {split: splits[split] & seen for split in (FIT, TUNE)}
    del meta, times
    drift_columns = [name for name in _DRIFT_COLUMNS if show_locked_medians or name not in _LOCKED_MEDIANS]
    groups = _Groups(store, keys, len(seen))
    complete = seen.copy()
    for values in groups:
        for column in values.values():
            complete &= ~np.isnan(column)
    positions = np.flatnonzero(complete)
    sampled = positions[statistics.sample_positions(len(positions))]
    columns, drift, sample = [], [], {}
    for values in groups:
        for name, column in values.items():
            columns.append(statistics.column_statistics(name, column[seen]))
            row = statistics.drift_row(name, column, splits)
            drift.append({key: row[key] for key in drift_columns})
            sample[name] = column[sampled]
    return FrameStatistics(columns, statistics.high_correlations(sample), drift)


class _Groups:
    """The features in groups of columns, read again for each iteration unless a single group holds them all."""

    def __init__(self, store: Store, keys: Sequence[Key], rows: int) -> None:
        self._store, self._keys = store, keys
        width = max(1, _GROUP_BYTES // (4 * max(rows, 1)))
        self._names = [FEATURE_ORDER[first : first + width] for first in range(0, len(FEATURE_ORDER), width)]
        self._held: dict[str, np.ndarray] | None = None

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        if self._held is not None:
            yield self._held
            return
        for names in self._names:
            table = _read(self._store, self._keys, names)
            values = {name: table[name].to_numpy() for name in names}
            del table
            if len(self._names) == 1:
                self._held = values
            yield values


def _read(store: Store, keys: Sequence[Key], columns: Sequence[str]) -> pa.Table:
    return pa.concat_tables([store.read_table(FEATURE_FRAME, key, columns) for key in keys])


def _refuse_stale(store: Store, manifest: Mapping[str, Any]) -> None:
    named = {entry["date"]: entry["content_hash"] for entry in manifest["partitions"]}
    for date in sorted({*named, *map(str, store.keys(FEATURE_FRAME))}):
        name = f"{FEATURE_FRAME}/{date}"
        built_from, now = named.get(date, "no such date"), store.input_hash(name)
        if built_from != now:
            raise StaleInputError(f"feature_manifest is stale: it names {name} {built_from}, which is {now} now. Build it again.")


def _leakage(manifest: Mapping[str, Any]) -> list[str]:
    """What was tested in the files that the manifest names, and found: a partition that fails is never published."""
    return [
        f"- no_lookahead: {manifest['lookahead_partitions']} symbol-days, one cut each: {manifest['lookahead_rows_compared']} "
        "rows recomputed without any row after the cut, 0 differed in flag or in any bit of a feature.",
        f"- no_split_leak: {len(manifest['partitions'])} dates: every row's split_id and fold is the manifest's, 0 rows were "
        "there twice, 0 columns were not the frame's own.",
        *(f"- {line}." for line in lock.ledger_lines(manifest)),
        "- not tested: whether the replay itself holds values that were not known at their minute's end.",
    ]


def _missing(manifest: Mapping[str, Any]) -> list[str]:
    missing = manifest["missing_dates"]
    return [f"- dates_missing: {len(missing)}" + (f" ({', '.join(missing)})" if missing else "")]
