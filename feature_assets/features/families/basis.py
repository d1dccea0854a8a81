"""The mark price against the index."""

from __future__ import annotations

import numpy as np

from feature_assets.features.declaration import feature
from feature_assets.market.bars import Bars

BPS = 10_000.0


@feature(unit="bps", lookback=0, group="mark_index", columns=("mark_price", "index_price"), bounds=(-BPS, np.inf))
def mark_index_basis_bps(bars: Bars) -> np.ndarray:
    """mark_price / index_price - 1."""
    with np.errstate(over="ignore"):
        return (bars["mark_price"] / bars["index_price"] - 1.0) * BPS
