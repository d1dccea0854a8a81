"""Simple returns of the close over a fixed number of rows."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.windows import relative_change
from feature_assets.market.bars import Bars

BPS = 10_000.0


@feature(unit="bps", lookback=1, columns=("close",), bounds=(-BPS, np.inf))
def ret_1m_bps(bars: Bars) -> np.ndarray:
    """Simple return of the close over 1 row: close[t] / close[t-1] - 1."""
    return relative_change(bars["close"], 1) * BPS


@feature(unit="bps", lookback=5, columns=("close",), bounds=(-BPS, np.inf))
def ret_5m_bps(bars: Bars) -> np.ndarray:
    """Simple return of the close over 5 rows."""
    return relative_change(bars["close"], 5) * BPS


@feature(unit="bps", lookback=15, columns=("close",), bounds=(-BPS, np.inf))
def ret_15m_bps(bars: Bars) -> np.ndarray:
    """Simple return of the close over 15 rows."""
    return relative_change(bars["close"], 15) * BPS


@feature(unit="bps", lookback=60, columns=("close",), bounds=(-BPS, np.inf))
def ret_60m_bps(bars: Bars) -> np.ndarray:
    """Simple return of the close over 60 rows."""
    return relative_change(bars["close"], 60) * BPS


@feature(unit="bps", lookback=240, columns=("close",), bounds=(-BPS, np.inf))
def ret_240m_bps(bars: Bars) -> np.ndarray:
    """Simple return of the close over 240 rows."""
    return relative_change(bars["close"], 240) * BPS
