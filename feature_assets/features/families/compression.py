"""How narrow the 15-row range is against its last 240 values."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.families.volatility import range_15m_bps
from feature_assets.features.windows import rolling_median, rolling_rank
from feature_assets.market.bars import Bars


@feature(unit="pct", lookback=253, columns=("high", "low"), bounds=(0.0, 1.0))
def compression_score_4h_pct(bars: Bars) -> np.ndarray:
    """1 minus the rank of range_15m_bps among its last 240 values; ties count fully, so a flat market reads 0."""
    return 1.0 - rolling_rank(range_15m_bps(bars), 240)


@feature(unit="bps", lookback=253, columns=("high", "low"), bounds=(0.0, np.inf))
def compression_release_15m_bps(bars: Bars) -> np.ndarray:
    """How far range_15m_bps stands above the median of its last 240 values, 0 where it does not."""
    return np.maximum(range_15m_bps(bars) - rolling_median(range_15m_bps(bars), 240), 0.0)
