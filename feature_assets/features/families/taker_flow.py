"""Aggressor volume: takers who bought against takers who sold."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.windows import divide_or_zero, rolling_sum, zero_in_warmup
from feature_assets.market.bars import Bars

_COLUMNS = ("taker_buy_volume", "taker_sell_volume")


def _imbalance(bars: Bars, rows: int) -> np.ndarray:
    buy, sell = (bars[name] for name in _COLUMNS)
    difference = rolling_sum(buy, rows) - rolling_sum(sell, rows)
    # Rounding may leave |difference| a bit above the total; an imbalance lies in [-1, 1].
    ratio = np.clip(divide_or_zero(difference, rolling_sum(buy + sell, rows)), -1.0, 1.0)
    return zero_in_warmup(ratio, rows - 1, buy, sell)


@feature(unit="ratio", lookback=0, group="taker_flow", columns=_COLUMNS, bounds=(-1.0, 1.0))
def taker_imbalance_1m(bars: Bars) -> np.ndarray:
    """Taker buy minus taker sell volume over their sum, of this row; 0 where nothing traded."""
    return _imbalance(bars, 1)


@feature(unit="ratio", lookback=4, group="taker_flow", columns=_COLUMNS, bounds=(-1.0, 1.0))
def taker_imbalance_5m(bars: Bars) -> np.ndarray:
    """Taker buy minus taker sell volume over their sum, of the last 5 rows; 0 where nothing traded and in the first 4 rows."""
    return _imbalance(bars, 5)


@feature(unit="ratio", lookback=14, group="taker_flow", columns=_COLUMNS, bounds=(-1.0, 1.0))
def taker_imbalance_15m(bars: Bars) -> np.ndarray:
    """Taker buy minus taker sell volume over their sum, of the last 15 rows; 0 where nothing traded and in the first 14 rows."""
    return _imbalance(bars, 15)
