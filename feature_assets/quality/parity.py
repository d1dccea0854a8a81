"""How far our values may be from the reference's, in one place: the contract's tolerances. Who compares lives elsewhere."""

from __future__ import annotations

import math

import numpy as np

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

# A bar beside which the 59 others of its window vanish has the greatest z-score that 60 values can have, to float32.
_EXTREME = 59 / math.sqrt(60) - 1e-6


def is_extreme_bar(volume_zscore: np.ndarray) -> np.ndarray:
    """Whether a row's bar is an extreme one, from volume_zscore_60m; AFTER_AN_EXTREME_BAR holds from such a row on."""
    return volume_zscore >= _EXTREME


def within_tolerance(found: np.ndarray, expected: np.ndarray, tolerance: float | np.ndarray) -> np.ndarray:
    """Whether float32 values are within `tolerance` or two float32 steps of `expected`, whichever is larger.

    NaN is within NaN alone, an infinity within itself alone.
    """
    with np.errstate(invalid="ignore"):
        difference = np.abs(found.astype(float) - expected.astype(float))
        allowed = np.maximum(tolerance, 2 * np.spacing(np.abs(expected)))
    return (difference <= allowed) | (found == expected) | (np.isnan(found) & np.isnan(expected))
