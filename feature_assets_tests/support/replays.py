"""Replays for tests: synthetic days with the accidents of real ones put in."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa

from feature_assets.market.sources.synthetic import SyntheticSource

START = dt.date(2025, 3, 3)


def days(symbol: str, count: int, *, start: dt.date = START, seed: int = 7) -> pd.DataFrame:
    """`count` whole days of a symbol, with the symbol's column, as the reference wants a replay."""
    source = SyntheticSource(seed)
    frame = pa.concat_tables([source.day(symbol, start + dt.timedelta(days=n)) for n in range(count)]).to_pandas()
    frame.insert(0, "symbol", symbol)
    return frame


def random_replay(seed: int, symbol: str = "BTCUSDT", *, incomplete_days: bool = False) -> pd.DataFrame:
    """Four to six days with ties, flat stretches, zero volume, extreme bars, quiet liquidations and missing days.

    With incomplete_days, minutes are missing too. The first days stay whole, so that no window is cut off at seven days.
    """
    rng = np.random.default_rng(seed)
    frame = days(symbol, int(rng.integers(4, 7)), seed=seed)
    rows = len(frame)
    # An extreme bar: ten million times the usual volume, and a spike of the high.
    if rng.random() < 0.5:
        bar = int(rng.integers(rows))
        for column in ("volume", "taker_buy_volume", "taker_sell_volume"):
            frame.loc[bar, column] *= 1e7
        frame.loc[bar, "high"] *= 1.5
    flat = slice(begin := int(rng.integers(rows - 400)), begin + int(rng.integers(20, 400)))
    price = frame["close"].iloc[flat.start]
    frame.loc[frame.index[flat], ["open", "high", "low", "close"]] = price
    frame.loc[frame.index[flat], ["volume", "taker_buy_volume", "taker_sell_volume"]] = 0.0
    frame.loc[frame.index[flat], "spread_bps"] = 1.0
    # The bars around keep to the rules: the next one opens wherever it likes.
    quiet = slice(begin := int(rng.integers(rows - 100)), begin + int(rng.integers(100, 2000)))
    for side in ("buy", "sell"):
        frame.loc[frame.index[quiet], f"liquidation_{side}_notional_1m"] = 0.0
    keep = np.ones(rows, dtype=bool)
    if rng.random() < 0.5:
        missing = int(rng.integers(1, rows // 1440 - 1))
        keep[missing * 1440 : (missing + 1) * 1440] = False
    if incomplete_days:
        begin = int(rng.integers(1440, rows - 300))
        keep[begin : begin + int(rng.integers(1, 300))] = False
    return frame[keep].reset_index(drop=True)
