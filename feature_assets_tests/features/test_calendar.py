"""Where the minute stands: tables that no sound mathematics library changes."""

from __future__ import annotations

import datetime as dt
import decimal
import math

import numpy as np
import pytest

from feature_assets.features.families.calendar import (
    COSINE,
    SINE,
    minute_of_day_cos,
    minute_of_day_sin,
    minutes_to_next_funding,
)
from feature_assets.market.bars import MINUTE_MS, Bars, day_start_ms

TABLES = {"sine": SINE, "cosine": COSINE}
DAY = day_start_ms(dt.date(2026, 2, 1))


def _bars(event_time: np.ndarray, next_funding_time: np.ndarray | None = None) -> Bars:
    columns = {"event_time": event_time.astype(np.float64)}
    if next_funding_time is not None:
        columns["next_funding_time"] = next_funding_time.astype(np.float64)
    return Bars(columns)


def _series(x: decimal.Decimal, first_power: int) -> decimal.Decimal:
    """The Taylor series of sine (from the first power on) or cosine (from the zeroth)."""
    term = x if first_power else decimal.Decimal(1)
    total, power = term, first_power
    while abs(term) > decimal.Decimal("1e-40"):
        term *= -x * x / ((power + 1) * (power + 2))
        total, power = total + term, power + 2
    return total


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("direction", [-np.inf, np.inf])
def test_an_entry_moved_by_eight_units_in_the_last_place_is_the_same_float32(table, direction):
    moved = table
    for _ in range(8):
        moved = np.nextafter(moved, direction)
        assert np.flatnonzero(moved.astype(np.float32) != table.astype(np.float32)).tolist() == []


@pytest.mark.parametrize(("table", "first_power"), [(SINE, 1), (COSINE, 0)], ids=TABLES)
def test_the_table_is_the_true_value_as_float32(table, first_power):
    with decimal.localcontext(prec=50):
        true = [float(_series(decimal.Decimal(2.0 * math.pi * minute / 1440), first_power)) for minute in range(1440)]
    assert table.astype(np.float32).tolist() == np.array(true).astype(np.float32).tolist()


def test_the_tables_have_an_entry_a_minute_and_stay_in_their_bounds():
    assert len(SINE) == len(COSINE) == 1440
    assert SINE[[0, 360, 1080]].tolist() == [0.0, 1.0, -1.0]
    assert COSINE[[0, 720]].tolist() == [1.0, -1.0]
    assert max(np.abs(SINE).max(), np.abs(COSINE).max()) == 1.0


def test_a_row_reads_the_entry_of_its_minute_on_any_day():
    minutes = np.arange(2 * 1440)
    bars = _bars(DAY + minutes * MINUTE_MS)
    assert minute_of_day_sin(bars).tolist() == [*SINE.tolist(), *SINE.tolist()]
    assert minute_of_day_cos(bars).tolist() == [*COSINE.tolist(), *COSINE.tolist()]


def test_the_minutes_to_the_next_funding_are_at_most_480_and_null_where_nobody_knows():
    times = np.full(5, float(DAY))
    funding = DAY + np.array([1.0, 479.0, 480.0, 1000.0, np.nan]) * MINUTE_MS
    found = minutes_to_next_funding(_bars(times, funding))
    assert found[:4].tolist() == [1.0, 479.0, 480.0, 480.0]
    assert np.isnan(found[4])
