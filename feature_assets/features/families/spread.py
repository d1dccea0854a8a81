"""The quoted spread against its last day."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.features.windows import rolling_rank
from feature_assets.market.bars import Bars


@feature(unit="pct", lookback=1439, group="quotes", columns=("spread_bps",), bounds=(0.0, 1.0))
def spread_rank_24h_pct(bars: Bars) -> np.ndarray:
    """The share of the last 1,440 spreads that are at most this one; ties count fully."""
    return rolling_rank(bars["spread_bps"], 1440)
