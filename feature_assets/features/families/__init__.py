"""One module a family of features; feature_assets.features.catalogue puts them in order."""

from feature_assets.features.families import (
    basis,
    breakouts,
    calendar,
    compression,
    liquidations,
    open_interest,
    raw,
    returns,
    spread,
    taker_flow,
    trend,
    volatility,
    volume,
)

__all__ = [
    "basis",
    "breakouts",
    "calendar",
    "compression",
    "liquidations",
    "open_interest",
    "raw",
    "returns",
    "spread",
    "taker_flow",
    "trend",
    "volatility",
    "volume",
]
