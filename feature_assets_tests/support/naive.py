"""The features once more, written the slow way straight from their formulas: an oracle for the fast ones.

Each value is worked out from its own window alone, with math.fsum where sums matter. Only tests use this.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable

import numpy as np
import pandas as pd

NAN = math.nan


def naive_features(frame: pd.DataFrame) -> pd.DataFrame:  # noqa: C901 - one list of formulas, read in a row
    """The 33 computed and 4 raw features of one symbol's sorted, kept, sound rows, as float32."""
    bars = {name: frame[name].to_numpy() for name in frame.columns}
    close, high, low, volume = (bars[name].astype(float) for name in ("close", "high", "low", "volume"))
    rows = len(frame)
    out: dict[str, list[float] | np.ndarray] = {}

    def window(values: np.ndarray, t: int, size: int) -> np.ndarray | None:
        return values[t - size + 1 : t + 1] if t >= size - 1 else None

    def each(size: int, formula: Callable[[int], float], warm: float = NAN) -> list[float]:
        return [formula(t) if t >= size - 1 else warm for t in range(rows)]

    def change(values: np.ndarray, k: int) -> list[float]:
        return each(k + 1, lambda t: (values[t] / values[t - k] - 1.0) * 10000.0)

    for k in (1, 5, 15, 60, 240):
        out[f"ret_{k}m_bps"] = change(close, k)
    log_return = np.array([NAN] + [math.log(close[t] / close[t - 1]) for t in range(1, rows)])
    for k in (15, 60):
        out[f"realized_vol_{k}m_bps"] = each(k + 1, lambda t, k=k: deviation(window(log_return, t, k)) * 10000.0)
    short, long = out["realized_vol_15m_bps"], out["realized_vol_60m_bps"]
    out["vol_ratio_15m_60m"] = each(61, lambda t: short[t] / max(long[t], 1.0), warm=0.0)
    for k in (15, 60):
        out[f"range_{k}m_bps"] = each(k, lambda t, k=k: (window(high, t, k).max() / window(low, t, k).min() - 1.0) * 10000.0)
    out["volume_zscore_60m"] = each(60, lambda t: zscore(volume[t], window(volume, t, 60)), warm=0.0)
    sign = np.sign(np.array(out["ret_1m_bps"]))
    out["trend_consistency_15m"] = each(16, lambda t: math.fsum(window(sign, t, 15)) / 15)

    def channel(t: int) -> float:
        top, bottom = window(high, t, 60).max(), window(low, t, 60).min()
        return min(max((close[t] - bottom) / max(top - bottom, 1e-12), 0.0), 1.0)

    out["channel_position_60m_pct"] = each(60, channel)

    def top(t: int) -> float:
        return high[t - 60 : t].max()

    def bottom(t: int) -> float:
        return low[t - 60 : t].min()

    out["upper_breakout_60m_bps"] = each(61, lambda t: max(close[t] / top(t) - 1.0, 0.0) * 10000.0)
    out["lower_breakout_60m_bps"] = each(61, lambda t: max(bottom(t) / close[t] - 1.0, 0.0) * 10000.0)
    out["upper_failed_break_reclaim_15m_bps"] = each(
        61, lambda t: max(top(t) - close[t], 0.0) / close[t] * 10000.0 if high[t] > top(t) else 0.0, warm=0.0
    )
    out["lower_failed_break_reclaim_15m_bps"] = each(
        61, lambda t: max(close[t] - bottom(t), 0.0) / close[t] * 10000.0 if low[t] < bottom(t) else 0.0, warm=0.0
    )
    out["sweep_up_15m_bps"] = each(15, lambda t: max(window(high, t, 15).max() / close[t] - 1.0, 0.0) * 10000.0)
    out["sweep_down_15m_bps"] = each(15, lambda t: max(close[t] / window(low, t, 15).min() - 1.0, 0.0) * 10000.0)
    spans = np.array(out["range_15m_bps"])
    out["compression_score_4h_pct"] = each(254, lambda t: 1.0 - (window(spans, t, 240) <= spans[t]).sum() / 240)
    out["compression_release_15m_bps"] = each(
        254, lambda t: max(spans[t] - statistics.median(window(spans, t, 240).tolist()), 0.0)
    )
    buy, sell = bars["taker_buy_volume"].astype(float), bars["taker_sell_volume"].astype(float)
    for k in (1, 5, 15):
        out[f"taker_imbalance_{k}m"] = each(k, lambda t, k=k: imbalance(window(buy, t, k), window(sell, t, k)), warm=0.0)
    spread = bars["spread_bps"].astype(float)
    out["spread_rank_24h_pct"] = each(1440, lambda t: (window(spread, t, 1440) <= spread[t]).sum() / 1440)
    interest = bars["open_interest"].astype(float)
    for k in (15, 60):
        out[f"oi_delta_{k}m_bps"] = change(interest, k)
    out["mark_index_basis_bps"] = (bars["mark_price"] / bars["index_price"] - 1.0) * 10000.0
    forced_buy, forced_sell = (bars[f"liquidation_{side}_notional_1m"].astype(float) for side in ("buy", "sell"))
    out["liquidation_imbalance_15m"] = [
        imbalance(forced_buy[max(t - 14, 0) : t + 1], forced_sell[max(t - 14, 0) : t + 1]) for t in range(rows)
    ]
    totals = np.array([math.fsum((forced_buy + forced_sell)[max(t - 14, 0) : t + 1]) for t in range(rows)])
    out["liquidation_notional_zscore_15m"] = [
        zscore(totals[t], totals[max(t - 1439, 0) : t + 1]) if t >= 59 else 0.0 for t in range(rows)
    ]
    minute = (bars["open_time_ms"] // 60000) % 1440
    out["minute_of_day_sin"] = np.sin(2 * np.pi * minute / 1440.0)
    out["minute_of_day_cos"] = np.cos(2 * np.pi * minute / 1440.0)
    funding = (frame["next_funding_time"] - frame["event_time"]).dt.total_seconds().to_numpy() / 60.0
    out["minutes_to_next_funding"] = np.clip(funding, 0.0, 480.0)
    for name in ("funding_bps", "spread_bps", "level1_ofi_1m", "liquidation_available"):
        out[name] = bars[name]
    return pd.DataFrame({name: np.asarray(values, dtype=float).astype(np.float32) for name, values in out.items()})


def deviation(values: np.ndarray) -> float:
    """Sample standard deviation, two passes, exactly rounded sums."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def zscore(value: float, values: np.ndarray) -> float:
    if values.min() == values.max():
        return 0.0
    return (value - math.fsum(values) / len(values)) / deviation(values)


def imbalance(buy: np.ndarray, sell: np.ndarray) -> float:
    total = math.fsum(buy) + math.fsum(sell)
    return (math.fsum(buy) - math.fsum(sell)) / total if total else 0.0
