"""Breakouts of the previous hour's range, failed ones, and sweeps of the last quarter hour's extremes."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature, shared
from feature_assets.features.families.volatility import highest, lowest
from feature_assets.features.windows import lag, zero_in_warmup
from feature_assets.market.bars import Bars

BPS = 10_000.0


@shared
def previous_high(bars: Bars) -> np.ndarray:
    """The highest high of the 60 rows before this one."""
    return lag(highest(bars, 60), 1)


@shared
def previous_low(bars: Bars) -> np.ndarray:
    """The lowest low of the 60 rows before this one."""
    return lag(lowest(bars, 60), 1)


@feature(unit="bps", lookback=60, columns=("high", "close"), bounds=(0.0, np.inf))
def upper_breakout_60m_bps(bars: Bars) -> np.ndarray:
    """How far the close is above the highest high of the 60 rows before, 0 where it is not."""
    return np.maximum(bars["close"] / previous_high(bars) - 1.0, 0.0) * BPS


@feature(unit="bps", lookback=60, columns=("low", "close"), bounds=(0.0, np.inf))
def lower_breakout_60m_bps(bars: Bars) -> np.ndarray:
    """How far the close is below the lowest low of the 60 rows before, 0 where it is not."""
    return np.maximum(previous_low(bars) / bars["close"] - 1.0, 0.0) * BPS


@feature(unit="bps", lookback=60, columns=("high", "close"), bounds=(0.0, np.inf))
def upper_failed_break_reclaim_15m_bps(bars: Bars) -> np.ndarray:
    """How far the close fell back below the previous 60-row high in a minute whose own high passed it; 0 otherwise.

    The name says 15m, as the reference looks at the 15-row high; but 14 of those rows lie among the 60, so that the
    value depends on this minute alone. 0 in the first 60 rows.
    """
    broke = highest(bars, 15) > previous_high(bars)
    fell_back = np.maximum(previous_high(bars) - bars["close"], 0.0) / bars["close"]
    return zero_in_warmup(np.where(broke, fell_back * BPS, 0.0), 60, bars["high"], bars["close"])


@feature(unit="bps", lookback=60, columns=("low", "close"), bounds=(0.0, np.inf))
def lower_failed_break_reclaim_15m_bps(bars: Bars) -> np.ndarray:
    """How far the close rose back above the previous 60-row low in a minute whose own low passed it; 0 otherwise.

    As with the upper one, the value depends on this minute alone, whatever the name says. 0 in the first 60 rows.
    """
    broke = lowest(bars, 15) < previous_low(bars)
    rose_back = np.maximum(bars["close"] - previous_low(bars), 0.0) / bars["close"]
    return zero_in_warmup(np.where(broke, rose_back * BPS, 0.0), 60, bars["low"], bars["close"])


@feature(unit="bps", lookback=14, columns=("high", "close"), bounds=(0.0, np.inf))
def sweep_up_15m_bps(bars: Bars) -> np.ndarray:
    """How far the 15-row high stands above the close."""
    return np.maximum(highest(bars, 15) / bars["close"] - 1.0, 0.0) * BPS


@feature(unit="bps", lookback=14, columns=("low", "close"), bounds=(0.0, np.inf))
def sweep_down_15m_bps(bars: Bars) -> np.ndarray:
    """How far the close stands above the 15-row low."""
    return np.maximum(bars["close"] / lowest(bars, 15) - 1.0, 0.0) * BPS
