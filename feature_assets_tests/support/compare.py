"""Comparison with the reference within the contract's tolerances."""

from __future__ import annotations

import numpy as np
import pandas as pd

from feature_assets.features.catalogue import FEATURE_ORDER

# Absolute, from the measurements that the contract names: the reference's own running sums are the limit.
TOLERANCES = {
    "realized_vol_15m_bps": 1e-5,
    "realized_vol_60m_bps": 1e-5,
    "vol_ratio_15m_60m": 1e-5,
    "taker_imbalance_1m": 1e-9,
    "taker_imbalance_5m": 1e-9,
    "taker_imbalance_15m": 1e-9,
    "liquidation_notional_zscore_15m": 5e-4,
    "volume_zscore_60m": 1e-6,
}
AFTER_AN_EXTREME_BAR = TOLERANCES | {"volume_zscore_60m": 5e-3}


def assert_equal_values(found: pd.DataFrame, expected: pd.DataFrame, tolerances: dict[str, float]) -> None:
    """Every feature within its tolerance or two float32 steps, whichever is larger, with NaN in the same rows."""
    assert len(found) == len(expected)
    for name in FEATURE_ORDER:
        left, right = found[name].to_numpy(), expected[name].to_numpy()
        assert left.dtype == np.float32, name
        np.testing.assert_array_equal(np.isnan(left), np.isnan(right), err_msg=f"{name}: NaN")
        difference = np.abs(left.astype(float) - right.astype(float))
        allowed = np.maximum(tolerances.get(name, 0.0), 2 * np.spacing(np.abs(right)))
        wrong = np.flatnonzero(difference > allowed)
        assert not len(wrong), f"{name}: {len(wrong)} rows, e.g. row {wrong[0]}: {left[wrong[0]]} and {right[wrong[0]]}"


def assert_equal_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """The same rows in the same order, with the same flags."""
    for name in ("symbol", "open_time_ms", "data_quality_flag"):
        assert found[name].tolist() == expected[name].tolist(), name
    assert (found["event_time"].array == expected["event_time"].array).all()
