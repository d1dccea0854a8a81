"""Forced orders: their side and their size against the last day.

Where liquidation_available is 0 or null, Bars holds both notionals as 0.0, so that an outage reads as quiet here and
is told apart by the feature liquidation_available and by the row's flag.
"""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.windows import (
    divide_or_zero,
    expanding_then_rolling_mean_std,
    expanding_then_rolling_sum,
    zero_in_warmup,
)
from feature_assets.market.bars import Bars

_COLUMNS = ("liquidation_buy_notional_1m", "liquidation_sell_notional_1m", "liquidation_available")
# The mean and deviation of the day are taken from this many rows on, as in the reference.
_LEAST_ROWS = 60


@feature(unit="ratio", lookback=14, group="liquidations", columns=_COLUMNS, bounds=(-1.0, 1.0))
def liquidation_imbalance_15m(bars: Bars) -> np.ndarray:
    """Liquidation buy minus sell notional over their sum, of the last 15 rows (or the rows there are); 0 without any."""
    buy, sell = (bars[name] for name in _COLUMNS[:2])
    difference = expanding_then_rolling_sum(buy, 15) - expanding_then_rolling_sum(sell, 15)
    return np.clip(divide_or_zero(difference, expanding_then_rolling_sum(buy + sell, 15)), -1.0, 1.0)


@feature(unit="z", lookback=1453, group="liquidations", columns=_COLUMNS)
def liquidation_notional_zscore_15m(bars: Bars) -> np.ndarray:
    """The 15-row liquidation notional minus its 1,440-row mean, over that window's sample deviation.

    0 where the deviation is 0 and in the first 59 rows; over the rows there are up to row 1,439.
    """
    buy, sell = (bars[name] for name in _COLUMNS[:2])
    total = expanding_then_rolling_sum(buy + sell, 15)
    mean, deviation = expanding_then_rolling_mean_std(total, 1440, _LEAST_ROWS)
    return zero_in_warmup(divide_or_zero(total - mean, deviation), _LEAST_ROWS - 1, buy, sell)
