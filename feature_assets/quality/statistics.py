"""Statistics of a frame's features, as the reference defines them.

They work on arrays of shape (features, rows), in FEATURE_ORDER, as feature_values gives them. Which rows take part is the
caller's choice: the report leaves VALIDATION_LOCKED out, reference_statistics takes every row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.quality.sample import FeatureCounts
from feature_assets.splits.manifest import FIT, SPLIT_IDS, TUNE, VALIDATION_LOCKED

CORRELATION_ROWS = 5000
_SAMPLE_SEED = 7
_HIGH_CORRELATION = 0.95
_MOST_PAIRS = 30


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


def column_statistics(values: np.ndarray, counts: FeatureCounts) -> list[ColumnStatistics]:
    """Quantiles of float32 values, with the counts and extremes of all rows, of which the values may be a sample."""
    found = []
    for place, quantiles in enumerate(feature_quantiles(values, (0.01, 0.5, 0.99))):
        exact = counts.of(place)
        nan, inf = exact["nan_count"], exact["inf_count"]
        low, high = (np.nan if exact[name] is None else float(exact[name]) for name in ("minimum", "maximum"))
        p01, p50, p99 = map(float, quantiles)
        found.append(ColumnStatistics(FEATURE_ORDER[place], nan, inf, counts.rows - nan - inf, low, p01, p50, p99, high))
    return found


def feature_quantiles(values: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Each feature's quantiles (linear interpolation) without its NaN, of shape (features, shares); NaN where there is no value.

    Bit for bit those of pandas' Series.quantile, which are of the values' own precision only where some are missing.
    """
    found = np.full((len(values), len(shares)), np.nan)
    missing = np.isnan(values)
    whole = ~missing.any(axis=1)
    if values.shape[1]:
        found[whole] = np.quantile(values[whole], shares, axis=1).T
    for place in np.flatnonzero(~whole):
        present = values[place][~missing[place]]
        if len(present):
            found[place] = np.quantile(present, shares).astype(values.dtype)
    return found


def drift_rows(values: np.ndarray, splits: Mapping[str, np.ndarray]) -> list[dict[str, object]]:
    """A row a feature: medians and 99th percentiles of FIT (train), TUNE and VALIDATION_LOCKED, and the last's difference
    from the first's.

    0.0 stands for a split without rows, as in the reference. splits: by split_id, which rows lie in it.
    """
    quantiles = {}
    for name, split in (("train", FIT), ("tune", TUNE), ("validation", VALIDATION_LOCKED)):
        inside = values[:, splits[split]]
        found = feature_quantiles(inside, (0.5, 0.99)) if inside.shape[1] else np.zeros((len(values), 2))
        quantiles[name, "p50"], quantiles[name, "p99"] = found.T
    rows = []
    for place, feature in enumerate(FEATURE_ORDER):
        row: dict[str, object] = {"feature": feature}
        for label in ("p50", "p99"):
            for name in ("train", "tune", "validation"):
                row[f"{name}_{label}"] = round(float(quantiles[name, label][place]), 6)
            difference = float(quantiles["validation", label][place]) - float(quantiles["train", label][place])
            row[f"{label}_diff"] = round(difference, 6)
        rows.append(row)
    return rows


def sample_positions(rows: int) -> np.ndarray:
    """Positions of the rows that the correlations are taken over: all, or 5,000 drawn with a fixed seed."""
    if rows <= CORRELATION_ROWS:
        return np.arange(rows)
    return np.random.RandomState(_SAMPLE_SEED).choice(rows, CORRELATION_ROWS, replace=False)


def high_correlations(values: np.ndarray) -> list[dict[str, object]]:
    """The first 30 pairs of features, in feature order, whose absolute Pearson correlation is at least 0.95.

    values: those of the rows to take, without NaN. A pair of the name NONE stands for no pair.
    """
    correlations = pd.DataFrame(values.T).corr().abs().to_numpy()
    rows: list[dict[str, object]] = []
    for left, right in zip(*np.triu_indices(len(FEATURE_ORDER), k=1), strict=True):
        value = correlations[left, right]
        if value >= _HIGH_CORRELATION:
            pair = {"feature_a": FEATURE_ORDER[left], "feature_b": FEATURE_ORDER[right]}
            rows.append({**pair, "corr_abs": round(float(value), 6)})
    return rows[:_MOST_PAIRS] or [{"feature_a": "NONE", "feature_b": "NONE", "corr_abs": 0.0}]


@dataclass(frozen=True)
class FrameStatistics:
    """The three tables that need the features' values; locked_rows: how many of VALIDATION_LOCKED's the drift is of."""

    columns: Sequence[ColumnStatistics]
    correlations: Sequence[dict[str, object]]
    drift: Sequence[dict[str, object]]
    locked_rows: int


def reference_statistics(frame: pd.DataFrame) -> FrameStatistics:
    """The reference's own figures, over every row of a frame, VALIDATION_LOCKED and WARMUP included."""
    values = np.stack([frame[name].to_numpy() for name in FEATURE_ORDER])
    splits = {split: frame["split_id"].eq(split).to_numpy() for split in SPLIT_IDS}
    counts = FeatureCounts()
    counts.add(values)
    complete = np.flatnonzero(~np.isnan(values).any(axis=0))
    return FrameStatistics(
        column_statistics(values, counts),
        high_correlations(values[:, complete[sample_positions(len(complete))]]),
        drift_rows(values, splits),
        int(splits[VALIDATION_LOCKED].sum()),
    )
