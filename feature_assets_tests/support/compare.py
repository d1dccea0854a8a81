"""Comparison with the reference within the contract's tolerances, as assertions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.quality.parity import within_tolerance


def assert_equal_values(found: pd.DataFrame, expected: pd.DataFrame, tolerances: dict[str, float]) -> None:
    """Every feature within its tolerance or two float32 steps, whichever is larger, with NaN in the same rows."""
    assert len(found) == len(expected)
    for name in FEATURE_ORDER:
        left, right = found[name].to_numpy(), expected[name].to_numpy()
        assert left.dtype == np.float32, name
        np.testing.assert_array_equal(np.isnan(left), np.isnan(right), err_msg=f"{name}: NaN")
        wrong = np.flatnonzero(~within_tolerance(left, right, tolerances.get(name, 0.0)))
        assert not len(wrong), f"{name}: {len(wrong)} rows, e.g. row {wrong[0]}: {left[wrong[0]]} and {right[wrong[0]]}"


def assert_equal_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The same rows in the same order, with the same flags."""
    for name in ("symbol", "open_time_ms", "data_quality_flag"):
        assert found[name].tolist() == expected[name].tolist(), name
    assert (found["event_time"].array == expected["event_time"].array).all()
