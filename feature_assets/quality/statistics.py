"""Statistics of a frame's columns, as the reference defines them.

They work on one column at a time, so that a frame of any length takes the memory of a few columns. Which rows take
part is the caller's choice: the report leaves VALIDATION_LOCKED out, reference_sections takes every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.splits.manifest import FIT, SPLIT_IDS, TUNE, VALIDATION_LOCKED

CORRELATION_ROWS = 5000
_SAMPLE_SEED = 7
_HIGH_CORRELATION = 0.95
_MOST_PAIRS = 30


def as_float(column: pa.ChunkedArray) -> np.ndarray:
    """A float column as numpy, NaN where null, in its own precision."""
    return column.to_numpy()


@dataclass(frozen=True)
class ColumnStatistics:
    """What the report says of one feature over a choice of rows."""

    feature: str
    nan_count: int
    inf_count: int
    finite_count: int
    minimum: float
    p01: float
    p50: float
    p99: float
    maximum: float


def column_statistics(
    feature: str, values: np.ndarray, exact: Mapping[str, Any] | None = None, rows: int = 0
) -> ColumnStatistics:
    """Counts, extremes and quantiles (linear interpolation) of float32 values of shape (rows,); NaN is left out of them.

    Where the values are a sample, `exact` has the nan_count, inf_count, minimum and maximum of all `rows` rows.
    """
    series = pd.Series(values)
    p01, p50, p99 = (float(value) for value in series.quantile([0.01, 0.5, 0.99]))
    if exact is None:
        counts = {"nan_count": int(np.isnan(values).sum()), "inf_count": int(np.isinf(values).sum())}
        exact, rows = {**counts, "minimum": float(series.min()), "maximum": float(series.max())}, len(values)
    low, high = (np.nan if exact[name] is None else float(exact[name]) for name in ("minimum", "maximum"))
    nan, inf = exact["nan_count"], exact["inf_count"]
    return ColumnStatistics(feature, nan, inf, rows - nan - inf, low, p01, p50, p99, high)


def drift_row(feature: str, values: np.ndarray, splits: Mapping[str, np.ndarray]) -> dict[str, object]:
    """Medians and 99th percentiles of FIT (train), TUNE and VALIDATION_LOCKED, and the differences of the last and the first.

    0.0 stands for a split without rows, as in the reference. splits: by split_id, which rows lie in it.
    """
    row: dict[str, object] = {"feature": feature}
    quantiles = {}
    for name, split in (("train", FIT), ("tune", TUNE), ("validation", VALIDATION_LOCKED)):
        inside = pd.Series(values[splits[split]])
        found = [0.0, 0.0] if inside.empty else inside.quantile([0.5, 0.99])
        quantiles[name, "p50"], quantiles[name, "p99"] = map(float, found)
    for label in ("p50", "p99"):
        for name in ("train", "tune", "validation"):
            row[f"{name}_{label}"] = round(quantiles[name, label], 6)
        row[f"{label}_diff"] = round(quantiles["validation", label] - quantiles["train", label], 6)
    return row


def sample_positions(rows: int) -> np.ndarray:
    """Positions of the rows that the correlations are taken over: all, or 5,000 drawn with a fixed seed."""
    if rows <= CORRELATION_ROWS:
        return np.arange(rows)
    return np.random.RandomState(_SAMPLE_SEED).choice(rows, CORRELATION_ROWS, replace=False)


def high_correlations(sample: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """The first 30 pairs of features, in feature order, whose absolute Pearson correlation is at least 0.95.

    sample: the sampled values, NaN-free, an array a feature. A pair of the name NONE stands for no pair.
    """
    correlations = pd.DataFrame(dict(sample)).corr().abs().to_numpy() if len(next(iter(sample.values()))) else None
    rows: list[dict[str, object]] = []
    if correlations is not None:
        for left, right in zip(*np.triu_indices(len(FEATURE_ORDER), k=1), strict=True):
            value = correlations[left, right]
            if value >= _HIGH_CORRELATION:
                pair = {"feature_a": FEATURE_ORDER[left], "feature_b": FEATURE_ORDER[right]}
                rows.append({**pair, "corr_abs": round(float(value), 6)})
    return rows[:_MOST_PAIRS] or [{"feature_a": "NONE", "feature_b": "NONE", "corr_abs": 0.0}]


@dataclass(frozen=True)
class FrameStatistics:
    """The three tables that need the features' values."""

    columns: Sequence[ColumnStatistics]
    correlations: Sequence[dict[str, object]]
    drift: Sequence[dict[str, object]]


def reference_statistics(frame: pd.DataFrame) -> FrameStatistics:
    """The reference's own figures, over every row of a frame, VALIDATION_LOCKED and WARMUP included."""
    splits = {split: frame["split_id"].eq(split).to_numpy() for split in SPLIT_IDS}
    values = {name: frame[name].to_numpy() for name in FEATURE_ORDER}
    complete = np.flatnonzero(~frame[list(FEATURE_ORDER)].isna().any(axis=1).to_numpy())
    sampled = complete[sample_positions(len(complete))]
    return FrameStatistics(
        [column_statistics(name, values[name]) for name in FEATURE_ORDER],
        high_correlations({name: values[name][sampled] for name in FEATURE_ORDER}),
        [drift_row(name, values[name], splits) for name in FEATURE_ORDER],
    )
