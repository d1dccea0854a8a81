"""Where the minute stands in the day and before the next funding."""

from __future__ import annotations

import math

import numpy as np

from feature_assets.features.declaration import feature, shared
from feature_assets.market.bars import MINUTE_MS, MINUTES_PER_DAY, Bars

# Tables, as numpy's sin follows the processor. No entry lies within 8 units in the last place of a float32 rounding
# boundary, so any sound libm gives the same float32 (feature_assets_tests/features/test_calendar.py).
_ANGLES = [2.0 * math.pi * minute / MINUTES_PER_DAY for minute in range(MINUTES_PER_DAY)]
SINE = np.array([math.sin(angle) for angle in _ANGLES])
COSINE = np.array([math.cos(angle) for angle in _ANGLES])
_LONGEST_FUNDING_MINUTES = 480.0


@shared
def _minute_of_day(bars: Bars) -> np.ndarray:
    # Of integers: a float's remainder takes ten times as long.
    return bars["event_time"].astype(np.int64) // MINUTE_MS % MINUTES_PER_DAY


@feature(unit="", lookback=0, columns=("event_time",), bounds=(-1.0, 1.0))
def minute_of_day_sin(bars: Bars) -> np.ndarray:
    """Sine of the UTC minute of the day as an angle."""
    return SINE[_minute_of_day(bars)]


@feature(unit="", lookback=0, columns=("event_time",), bounds=(-1.0, 1.0))
def minute_of_day_cos(bars: Bars) -> np.ndarray:
    """Cosine of the UTC minute of the day as an angle."""
    return COSINE[_minute_of_day(bars)]


@feature(
    unit="min",
    lookback=0,
    group="funding",
    columns=("event_time", "next_funding_time"),
    bounds=(0.0, _LONGEST_FUNDING_MINUTES),
)
def minutes_to_next_funding(bars: Bars) -> np.ndarray:
    """Minutes from event_time to next_funding_time, at most 480."""
    minutes = (bars["next_funding_time"] - bars["event_time"]) / 1000.0 / 60.0
    return np.clip(minutes, 0.0, _LONGEST_FUNDING_MINUTES)
