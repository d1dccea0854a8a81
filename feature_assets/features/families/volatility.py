"""Realized volatility and high-low range."""

from __future__ import annotations

import numpy as np

from feature_assets import elementary
from feature_assets.features.declaration import feature, shared
from feature_assets.features.windows import lag, rolling_max, rolling_mean_std, rolling_min, zero_in_warmup
from feature_assets.market.bars import Bars

BPS = 10_000.0


@shared
def log_return(bars: Bars) -> np.ndarray:
    """ln(close[t] / close[t-1])."""
    with np.errstate(over="ignore"):
        return elementary.log(bars["close"] / lag(bars["close"], 1))


@shared
def highest(bars: Bars, rows: int) -> np.ndarray:
    return rolling_max(bars["high"], rows)


@shared
def lowest(bars: Bars, rows: int) -> np.ndarray:
    return rolling_min(bars["low"], rows)


@feature(unit="bps", lookback=15, columns=("close",), bounds=(0.0, np.inf))
def realized_vol_15m_bps(bars: Bars) -> np.ndarray:
    """Sample standard deviation of the last 15 one-row log returns, not annualized."""
    return rolling_mean_std(log_return(bars), 15)[1] * BPS


@feature(unit="bps", lookback=60, columns=("close",), bounds=(0.0, np.inf))
def realized_vol_60m_bps(bars: Bars) -> np.ndarray:
    """Sample standard deviation of the last 60 one-row log returns, not annualized."""
    return rolling_mean_std(log_return(bars), 60)[1] * BPS


@feature(unit="ratio", lookback=60, columns=("close",), bounds=(0.0, np.inf))
def vol_ratio_15m_60m(bars: Bars) -> np.ndarray:
    """realized_vol_15m_bps over realized_vol_60m_bps, the latter taken as at least 1 bps; 0 in the first 60 rows."""
    ratio = realized_vol_15m_bps(bars) / np.maximum(realized_vol_60m_bps(bars), 1.0)
    return zero_in_warmup(ratio, 60, bars["close"])


@feature(unit="bps", lookback=14, columns=("high", "low"), bounds=(0.0, np.inf))
def range_15m_bps(bars: Bars) -> np.ndarray:
    """Highest high over lowest low of the last 15 rows, minus 1."""
    with np.errstate(over="ignore"):
        return (highest(bars, 15) / lowest(bars, 15) - 1.0) * BPS


@feature(unit="bps", lookback=59, columns=("high", "low"), bounds=(0.0, np.inf))
def range_60m_bps(bars: Bars) -> np.ndarray:
    """Highest high over lowest low of the last 60 rows, minus 1."""
    with np.errstate(over="ignore"):
        return (highest(bars, 60) / lowest(bars, 60) - 1.0) * BPS
