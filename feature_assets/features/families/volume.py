"""Traded volume against its recent level."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.windows import divide_or_zero, rolling_mean_std, zero_in_warmup
from feature_assets.market.bars import Bars


@feature(unit="z", lookback=59, columns=("volume",))
def volume_zscore_60m(bars: Bars) -> np.ndarray:
    """The minute's volume minus its 60-row mean, over the 60-row sample deviation; 0 where that is 0 and in the first 59 rows."""
    mean, deviation = rolling_mean_std(bars["volume"], 60)
    return zero_in_warmup(divide_or_zero(bars["volume"] - mean, deviation), 59, bars["volume"])
