"""Replay columns that are features as they are."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.market.bars import Bars


@feature(unit="bps", lookback=0, group="funding", columns=("funding_bps",))
def funding_bps(bars: Bars) -> np.ndarray:
    """The funding rate as the source gives it: the last settled one, or the running one for the coming settlement."""
    return bars["funding_bps"]


@feature(unit="bps", lookback=0, group="quotes", columns=("spread_bps",))
def spread_bps(bars: Bars) -> np.ndarray:
    """The quoted spread over the mid."""
    return bars["spread_bps"]


@feature(unit="", lookback=0, group="quotes", columns=("level1_ofi_1m",))
def level1_ofi_1m(bars: Bars) -> np.ndarray:
    """Order-flow imbalance at the best bid and ask, summed over the minute, in base coin (Cont, Kukanov, Stoikov 2014)."""
    return bars["level1_ofi_1m"]


@feature(unit="flag", lookback=0, group="liquidations", columns=("liquidation_available",))
def liquidation_available(bars: Bars) -> np.ndarray:
    """1 where liquidations were recorded in this minute, 0 where they were not or nobody knows."""
    return bars["liquidation_available"]
