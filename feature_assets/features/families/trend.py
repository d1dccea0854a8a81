"""Direction: how one-sided the last moves were, and where the price stands in its channel."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.families.returns import ret_1m_bps
from feature_assets.features.families.volatility import highest, lowest
from feature_assets.features.windows import rolling_sum
from feature_assets.market.bars import Bars


@feature(unit="ratio", lookback=15, columns=("close",), bounds=(-1.0, 1.0))
def trend_consistency_15m(bars: Bars) -> np.ndarray:
    """Mean sign of the last 15 one-row returns: 1 if all rose, -1 if all fell."""
    return rolling_sum(np.sign(ret_1m_bps(bars)), 15) / 15.0


@feature(unit="pct", lookback=59, columns=("high", "low", "close"), bounds=(0.0, 1.0))
def channel_position_60m_pct(bars: Bars) -> np.ndarray:
    """Where the close stands between the 60-row low (0) and high (1); the width is taken as at least 1e-12."""
    width = np.maximum(highest(bars, 60) - lowest(bars, 60), 1e-12)
    return np.clip((bars["close"] - lowest(bars, 60)) / width, 0.0, 1.0)
