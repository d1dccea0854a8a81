"""The quality report, from the manifest and the sample of rows that it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from feature_assets.dataset import lock
from feature_assets.dataset.examination import Examination, last_examination
from feature_assets.dataset.feature_manifest import SAMPLE_FILE
from feature_assets.dataset.frame_sample import FrameSample
from feature_assets.dataset.outcomes import Check
from feature_assets.dataset.store import FEATURE_FRAME, FEATURE_MANIFEST, QUALITY_REPORT, Store, sha256
from feature_assets.errors import MissingInputError, StaleInputError
from feature_assets.features.catalogue import feature_values
from feature_assets.leakage.corpus import corpus_line
from feature_assets.quality import statistics
from feature_assets.quality.report import render
from feature_assets.quality.statistics import FrameStatistics
from feature_assets.settings import Settings
from feature_assets.splits.manifest import SPLIT_IDS, VALIDATION_LOCKED

DRIFT = "drift"
REPORT_FILE = "report/feature_quality_report.md"

_DRIFT_COLUMNS = ("feature", "train_p50", "tune_p50", "validation_p50", "p50_diff", "train_p99", "tune_p99")
_LOCKED_MEDIANS = {"validation_p50", "p50_diff"}


def build_quality_report(store: Store, settings: Settings) -> tuple[str, Check]:
    """Write the report of the dates that the manifest names; gives its text and the check `drift`, which never fails.

    It reads the manifest and its sample, not the frame. Of VALIDATION_LOCKED and later rows it shows counts by flag, and
    VALIDATION_LOCKED's medians in the drift table where the settings show them. Raises MissingInputError where there is no
    manifest, and StaleInputError where it is not of the frames there are.
    """
    last = last_examination(store)
    manifest = last.manifest
    if not manifest:
        raise MissingInputError("feature_manifest is missing, refused or of an older version; build it first.")
    _refuse_stale(store, last)
    sample = read_sample(store, manifest)
    figures = frame_statistics(sample, show_locked_medians=settings.show_locked_medians)
    text = render(manifest, figures, _leakage(manifest), [*_missing(manifest), *_drawn(sample)])
    store.write_bytes(REPORT_FILE, text.encode())
    store.accept(QUALITY_REPORT, None)
    differences = {str(row["feature"]): row["p50_diff"] for row in figures.drift if "p50_diff" in row}
    message = "differences of medians, VALIDATION_LOCKED minus FIT, by feature."
    if not settings.show_locked_medians:
        message = "medians of VALIDATION_LOCKED are not shown: SHOW_LOCKED_MEDIANS is false."
    return text, Check(DRIFT, passed=True, message=message, warning=True, details=differences)


def frame_statistics(sample: FrameSample, *, show_locked_medians: bool = True) -> FrameStatistics:
    """Statistics of the sampled rows before the lock; of VALIDATION_LOCKED the drift table alone has the medians, if any.

    Counts and extremes are of every row. The correlations are of the first rows, by their hash, that have every value.
    """
    rows = sample.rows()
    values = feature_values(rows)
    seen = values[:, : sample.seen_rows]
    splits = {split: pc.equal(rows["split_id"], split).to_numpy() for split in SPLIT_IDS}
    shown = [name for name in _DRIFT_COLUMNS if show_locked_medians or name not in _LOCKED_MEDIANS]
    drift = [{column: row[column] for column in shown} for row in statistics.drift_rows(values, splits)]
    complete = np.flatnonzero(~np.isnan(seen).any(axis=0))[: statistics.CORRELATION_ROWS]
    return FrameStatistics(
        statistics.column_statistics(seen, sample.counts),
        statistics.high_correlations(seen[:, complete]),
        drift,
        locked_rows=int(splits[VALIDATION_LOCKED].sum()),
    )


def read_sample(store: Store, manifest: Mapping[str, Any]) -> FrameSample:
    """The manifest's sample; raises StaleInputError where the file is another."""
    data = store.read_bytes(SAMPLE_FILE) or b""
    if sha256(data) != manifest.get("sample_sha256"):
        raise StaleInputError(f"{store.path(SAMPLE_FILE)} is not the manifest's. Build {FEATURE_MANIFEST} again.")
    return FrameSample.from_parquet(data)


def _refuse_stale(store: Store, last: Examination) -> None:
    """Raise where the manifest names other frames than there are, or a frame that it names may no longer be built upon."""
    named = {key: content.content_hash for key, content in last.named.items()}
    now = {key: store.input_hash(f"{FEATURE_FRAME}/{key}") if key in last.changed else named.get(key) for key in last.there}
    for key in sorted({*named, *now}) if now != named else ():
        built_from, found = named.get(key, "no such date"), now.get(key) or "not there"
        if built_from != found:
            raise StaleInputError(
                f"{FEATURE_MANIFEST} is stale: it names {FEATURE_FRAME}/{key} {built_from}, which is {found} now. Build it again."
            )


def _leakage(manifest: Mapping[str, Any]) -> list[str]:
    """What was tested in the files that the manifest names, and found: a partition that fails is never published."""
    return [
        f"- no_lookahead: {manifest['lookahead_partitions']} symbol-days, one cut each: {manifest['lookahead_rows_compared']} "
        "rows recomputed with the rows after the cut removed or poisoned, 0 differed in flag or in any bit of a feature.",
        f"- no_split_leak: {len(manifest['partitions'])} dates: every row's split_id and fold is the manifest's, 0 rows were "
        "there twice, 0 columns were not the frame's own or a future return, 0 rows were others than those proven.",
        *(f"- {line}." for line in lock.ledger_lines(manifest)),
        f"- {corpus_line()}.",
        "- sound_replay: from a source with as_of, each day was asked for again as of one minute; of other sources it is not "
        "tested whether the replay holds values that were not known at their minute's end.",
    ]


def _missing(manifest: Mapping[str, Any]) -> list[str]:
    missing = manifest["missing_dates"]
    return [f"- dates_missing: {len(missing)}" + (f" ({', '.join(missing)})" if missing else "")]


def _drawn(sample: FrameSample) -> list[str]:
    drawn = sample.seen_rows
    if drawn == sample.counts.rows:
        return []
    return [f"- drawn_by_hash: {drawn} of {sample.counts.rows} rows, for quantiles, correlations and drift; all else is of all"]
