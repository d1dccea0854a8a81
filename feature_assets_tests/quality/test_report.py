"""The report: the reference's own figures over all rows, and ours without VALIDATION_LOCKED."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from feature_assets.dataset import frame_sample
from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.quality import sample
from feature_assets.quality.report import distribution, extreme_values, markdown_table
from feature_assets.quality.sample import FeatureCounts
from feature_assets.quality.statistics import (
    column_statistics,
    drift_rows,
    feature_quantiles,
    reference_statistics,
    sample_positions,
)
from feature_assets_tests.support.graph import Graph, parquet_graph
from feature_assets_tests.support.replays import days

REFERENCE = Path(os.environ.get("FEATURE_ASSETS_REFERENCE", "/nowhere"))
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason="FEATURE_ASSETS_REFERENCE names no folder")


def section(report: str, title: str) -> str:
    return re.search(rf"## {title}\n\n(.*?)\n*(?=\n## |\Z)", report, re.DOTALL)[1]


@needs_reference
@pytest.mark.parametrize("case", ["three_by_five", "missing_and_incomplete_dropped", "incomplete_allowed"])
def test_the_references_own_figures_come_out_of_its_own_frame(case):
    golden = REFERENCE.parent / "golden" / case
    report = (golden / "feature_quality_report.md").read_text()
    figures = reference_statistics(pd.read_parquet(golden / "feature_frame.parquet"))
    assert extreme_values(figures.columns) == section(report, "Extreme Value Check")
    pairs = markdown_table(figures.correlations, ("feature_a", "feature_b", "corr_abs"))
    assert pairs == section(report, "High Correlation Check")
    assert markdown_table(figures.drift, list(figures.drift[0])) == section(report, "Drift Check").replace(
        "train_p50 | tune_p50 | validation_p50 | p50_diff", "train_p50 | tune_p50 | validation_p50 | p50_diff"
    )
    assert "\n".join(distribution(figures.columns)) == section(report, "Distribution")


@needs_reference
def test_the_split_coverage_of_a_built_store_is_the_references(tmp_path):
    golden = REFERENCE.parent / "golden/three_by_five"
    graph = parquet_graph(tmp_path, pd.read_parquet(golden / "replay.parquet"), SPLITS=f"file:{golden / 'split_manifest.json'}")
    graph.build()
    found = (tmp_path / "store/report/feature_quality_report.md").read_text()
    expected = (golden / "feature_quality_report.md").read_text()
    assert section(found, "Split Coverage") == section(expected, "Split Coverage")
    hashes = [line for line in expected.splitlines() if "_hash: " in line]
    assert len(hashes) == 2
    assert all(line in found for line in hashes)


def test_locked_rows_show_in_split_coverage_and_drift_alone(tmp_path):
    """Two stores that differ in locked rows alone have reports that differ in those two sections and the hashes alone."""
    bars = days("BTCUSDT", 5)
    other = bars.copy()
    other.loc[4 * 1440 :, ["volume", "spread_bps"]] *= 3.0
    other.loc[4 * 1440 + 9, "liquidation_available"] = 0.0
    other = other.drop(index=range(4 * 1440 + 700, 4 * 1440 + 705))
    splits = "FIT:2025-03-03..2025-03-06,TUNE:2025-03-06..2025-03-07,VALIDATION_LOCKED:2025-03-07..2025-03-08"
    reports = []
    for name, replay in (("one", bars), ("two", other)):
        (tmp_path / name).mkdir()
        parquet_graph(tmp_path / name, replay, SPLITS=splits, ALLOW_INCOMPLETE_DAYS="true").build()
        reports.append((tmp_path / name / "store/report/feature_quality_report.md").read_text())
    one, two = ({title: section(text, title) for title in re.findall("## (.*)", text)} for text in reports)
    assert {title for title in one if one[title] != two[title]} == {"Split Coverage", "Drift Check"}
    heads = [text.split("## ")[0].splitlines() for text in reports]
    assert [a.split(":")[0] for a, b in zip(*heads, strict=True) if a != b] == ["- data_hash_sha256"]


def test_two_builds_of_the_same_data_give_the_same_manifest_and_report(tmp_path):
    files = []
    for name in ("one", "two"):
        graph = Graph(tmp_path / name, SYMBOLS="BTCUSDT", START_DATE="2026-02-01", END_DATE="2026-02-03")
        graph.build()
        files.append(graph.files())
    assert files[0] == files[1]
    assert {path for path in files[0] if "=" not in path} == {
        "dataset/frame_sample.parquet",
        *("store.json", "split/split_manifest.json", "report/feature_quality_report.md"),
        *(f"dataset/{name}.json" for name in ("feature_order", "feature_schema", "feature_frame.manifest")),
    }


def test_a_report_over_more_rows_than_a_sample_holds_says_so_and_keeps_exact_counts_and_extremes(tmp_path, monkeypatch):
    whole = Graph(tmp_path / "whole", SYMBOLS="BTCUSDT", START_DATE="2026-02-01", END_DATE="2026-02-04")
    drawn = Graph(tmp_path / "drawn", SYMBOLS="BTCUSDT", START_DATE="2026-02-01", END_DATE="2026-02-04")
    whole.build()
    monkeypatch.setattr(sample, "MOST_ROWS", 1000)
    drawn.build()
    one, two = ((g.folder / "store/report/feature_quality_report.md").read_text() for g in (whole, drawn))
    assert "drawn_by_hash" not in one
    assert "- drawn_by_hash: 1000 of 4320 rows" in two
    assert section(one, "Extreme Value Check") == section(two, "Extreme Value Check")
    cells = [[line.split("|") for line in section(text, "Distribution").splitlines()[2:]] for text in (one, two)]
    extremes = [[(row[1], row[2], row[3], row[7]) for row in rows] for rows in cells]
    assert extremes[0] == extremes[1]
    assert cells[0] != cells[1]


def test_a_drift_table_of_some_of_the_locked_rows_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_sample, "_MOST_LOCKED_ROWS", 1000)
    splits = "FIT:2025-03-03..2025-03-04,VALIDATION_LOCKED:2025-03-04..2025-03-05"
    parquet_graph(tmp_path, days("BTCUSDT", 2), SPLITS=splits).build()
    report = (tmp_path / "store/report/feature_quality_report.md").read_text()
    assert section(report, "Drift Check").endswith("\n\n- validation_drawn_by_hash: 1000 of 1440 rows")
    assert "drawn_by_hash" not in section(report, "Source Coverage")
    (tmp_path / "hidden").mkdir()
    hidden = parquet_graph(tmp_path / "hidden", days("BTCUSDT", 2), SPLITS=splits, SHOW_LOCKED_MEDIANS="false")
    hidden.build()
    assert "drawn_by_hash" not in (tmp_path / "hidden/store/report/feature_quality_report.md").read_text()


def test_a_report_without_a_manifest_names_what_is_missing(tmp_path):
    result = Graph(tmp_path).materialize("quality_report")
    assert not result.success


def test_statistics_leave_nan_out_and_count_it():
    values = np.tile(np.array([1.0, np.nan, 3.0, 2.0], dtype=np.float32), (len(FEATURE_ORDER), 1))
    counts = FeatureCounts()
    counts.add(values)
    for name, found in zip(FEATURE_ORDER, column_statistics(values, counts), strict=True):
        assert (found.feature, found.nan_count, found.inf_count, found.finite_count) == (name, 1, 0, 3)
        assert (found.minimum, found.p50, found.maximum) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("seed", range(20))
def test_quantiles_are_bit_for_bit_those_of_pandas_with_and_without_missing_values(seed):
    rng = np.random.default_rng(seed)
    values = (rng.normal(size=(6, int(rng.integers(1, 400)))) * 10.0 ** rng.integers(-6, 7)).astype(np.float32)
    values[1, rng.random(values.shape[1]) < 0.3] = np.nan
    values[2] = np.nan
    values[3, 0] = np.inf
    values[4] = 7.0
    shares = (0.01, 0.5, 0.99)
    with np.errstate(invalid="ignore"):  # between two infinite values
        expected = [pd.Series(row).quantile(list(shares)).to_numpy(dtype=np.float64) for row in values]
        found = feature_quantiles(values, shares)
    assert found.tobytes() == np.array(expected).tobytes()


def test_no_rows_have_no_quantiles():
    assert np.isnan(feature_quantiles(np.empty((2, 0), dtype=np.float32), (0.5,))).tolist() == [[True], [True]]


def test_drift_is_zero_for_a_split_without_rows():
    splits = {name: np.array([name == "FIT"] * 3) for name in ("FIT", "TUNE", "VALIDATION_LOCKED")}
    rows = drift_rows(np.tile(np.array([1.0, 2.0, 4.0], dtype=np.float32), (len(FEATURE_ORDER), 1)), splits)
    assert [row["feature"] for row in rows] == list(FEATURE_ORDER)
    assert {(row["train_p50"], row["tune_p50"], row["validation_p50"], row["p50_diff"]) for row in rows} == {
        (2.0, 0.0, 0.0, -2.0)
    }


def test_the_correlation_sample_is_the_one_that_pandas_draws():
    frame = pd.DataFrame({"x": np.arange(20_000)})
    assert frame.sample(5000, random_state=7).index.tolist() == sample_positions(20_000).tolist()
    assert sample_positions(5).tolist() == [0, 1, 2, 3, 4]
