"""Changes of open interest."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.windows import relative_change
from feature_assets.market.bars import Bars

BPS = 10_000.0


@feature(unit="bps", lookback=15, group="open_interest", columns=("open_interest",), bounds=(-BPS, np.inf))
def oi_delta_15m_bps(bars: Bars) -> np.ndarray:
    """Relative change of open interest over 15 rows; an open interest of 0 or less counts as null."""
    return relative_change(bars["open_interest"], 15) * BPS


@feature(unit="bps", lookback=60, group="open_interest", columns=("open_interest",), bounds=(-BPS, np.inf))
def oi_delta_60m_bps(bars: Bars) -> np.ndarray:
    """Relative change of open interest over 60 rows; an open interest of 0 or less counts as null."""
    return relative_change(bars["open_interest"], 60) * BPS
