"""feature_quality_report.md: the reference's sections, from figures that others have worked out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from feature_assets.quality.statistics import ColumnStatistics, FrameStatistics
from feature_assets.splits.manifest import VALIDATION_LOCKED

_SPLIT_COLUMNS = ("split_id", "rows", "start", "end", "ok", "partial_optional", "warmup")


def render(manifest: Mapping[str, Any], statistics: FrameStatistics, leakage: Iterable[str], missing: Iterable[str]) -> str:
    """The report as Markdown.

    manifest: feature_frame.manifest.json. leakage: sentences on what was tested for leakage and found. missing:
    sentences on dates of START..END that are not there.
    """
    drift_table = markdown_table(statistics.drift, list(statistics.drift[0]))
    lines = [
        "# Trader Feature Quality Report",
        "",
        "VALIDATION_LOCKED appears in Split Coverage and Drift Check alone; every other figure leaves its rows out, and, counts "
        "by flag apart, all later rows, too.",
        "",
        f"- row_count: {manifest['row_count']}",
        f"- OK: {manifest['ok_row_count']}",
        f"- PARTIAL_OPTIONAL: {manifest['partial_optional_row_count']}",
        f"- WARMUP: {manifest['warmup_row_count']}",
        f"- feature_count: {manifest['feature_count']}",
        f"- feature_version: {manifest['feature_version']}",
        f"- feature_schema_hash: {manifest['feature_schema_hash']}",
        f"- feature_order_hash: {manifest['feature_order_hash']}",
        f"- data_hash_sha256: {manifest['data_hash_sha256']}",
        *_section("Split Coverage", [markdown_table(manifest["split_coverage"], _SPLIT_COLUMNS)]),
        *_section("Source Coverage", [*source_coverage(manifest), *missing]),
        *_section("Leakage Check", leakage),
        *_section("Extreme Value Check", [extreme_values(statistics.columns)]),
        *_section("High Correlation Check", [markdown_table(statistics.correlations, ("feature_a", "feature_b", "corr_abs"))]),
        *_section("Drift Check", [drift_table, *_locked_drawn(manifest, statistics)]),
        *_section("Distribution", distribution(statistics.columns)),
    ]
    return "\n".join(lines) + "\n"


def source_coverage(manifest: Mapping[str, Any]) -> list[str]:
    """The lines of Source Coverage that follow from row counts."""
    return [
        "- replay_1m_required_columns: present",
        f"- liquidation_available_share: {manifest['liquidation_available_share']:.6f}",
        f"- feature_rows_with_optional_group_missing: {manifest['partial_optional_row_count']}",
        f"- rows_dropped_with_incomplete_days: {manifest['rows_dropped_with_incomplete_days']} "
        "(a selection by hindsight: whether a day is complete is known at its end)",
        f"- rows_bridging_gaps: {manifest['rows_bridging_gaps']}",
    ]


def _locked_drawn(manifest: Mapping[str, Any], statistics: FrameStatistics) -> list[str]:
    """A line below the drift table where it is of some of VALIDATION_LOCKED's rows alone."""
    if "validation_p50" not in statistics.drift[0]:
        return []
    there = sum(row["rows"] for row in manifest["split_coverage"] if row["split_id"] == VALIDATION_LOCKED)
    if there == statistics.locked_rows:
        return []
    return ["", f"- validation_drawn_by_hash: {statistics.locked_rows} of {there} rows"]


def extreme_values(columns: Iterable[ColumnStatistics]) -> str:
    """The table of the Extreme Value Check."""
    names = ("feature", "nan_count", "inf_count", "finite_count")
    return markdown_table([{name: getattr(column, name) for name in names} for column in columns], names)


def distribution(columns: Iterable[ColumnStatistics]) -> list[str]:
    """The lines of the Distribution table."""
    return [
        "| feature | null_count | min | p01 | p50 | p99 | max |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {c.feature} | {c.nan_count} | {c.minimum:.6g} | {c.p01:.6g} | {c.p50:.6g} | {c.p99:.6g} | {c.maximum:.6g} |"
            for c in columns
        ),
    ]


def markdown_table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> str:
    """Rows of named cells as a Markdown table."""
    lines = [f"| {' | '.join(columns)} |", f"| {' | '.join('---' for _ in columns)} |"]
    return "\n".join(lines + [f"| {' | '.join(str(row[column]) for column in columns)} |" for row in rows])


def utc_text(milliseconds: int) -> str:
    """Milliseconds since the epoch as the reference writes a time."""
    return str(dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC))


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]
