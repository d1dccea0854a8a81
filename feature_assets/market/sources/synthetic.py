"""A synthetic market that needs no data: the demo's source.

Any day of any symbol is a pure function of (seed, symbol, date). Prices and open interest run between anchors at
midnight, so that neighbouring days join. Only IEEE basic operations and the bits of PCG64 are used (see
feature_assets.elementary): the same bytes on every machine.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import math
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from feature_assets.elementary import exp, log
from feature_assets.market.bars import MINUTE_MS, MINUTES_PER_DAY, REPLAY_COLUMNS, REPLAY_SCHEMA, day_start_ms
from feature_assets.market.sources.base import NOT_YET, DayAnswer, each_day

_N = MINUTES_PER_DAY
_FUNDING_MINUTES = 480
_BASE_PRICES = {"BTCUSDT": 60_000.0, "ETHUSDT": 3_000.0, "SOLUSDT": 150.0}
# Scale in days and amplitude of the slow moves of the log price.
_PRICE_WAVES = ((256, 0.5), (64, 0.3), (16, 0.15), (4, 0.06), (1, 0.03))
_SEASON = np.array([1.0 + 0.3 * math.sin(2.0 * math.pi * minute / _N) for minute in range(_N)])


class SyntheticSource:
    """Realistic one-minute bars: volatility clusters, halts, tied spreads, funding, bursts of liquidations, outages."""

    def __init__(self, seed: int = 7) -> None:
        self.seed = seed
        self.identity = f"seed {seed}"

    def fingerprint(self, symbol: str, date: dt.date) -> str:  # noqa: ARG002 - every day has the same
        return f"synthetic 1, seed {self.seed}"

    def iter_days(self, symbol: str, start: dt.date, end: dt.date) -> Iterator[tuple[dt.date, DayAnswer]]:
        today = dt.datetime.now(dt.UTC).date()
        return each_day(start, end, lambda day: self.day(symbol, day) if day < today else NOT_YET)

    def day(self, symbol: str, day: dt.date) -> pa.Table:
        """The 1,440 bars of a symbol's day, of REPLAY_SCHEMA."""
        rng = np.random.Generator(np.random.PCG64(_bits(self.seed, symbol, day)))
        number = (day - dt.date(1970, 1, 1)).days
        log_volatility = _clusters(rng)
        volatility = 6e-4 * exp(log_volatility + _wave(self.seed, symbol, "volatility", number, ((8, 0.8), (2, 0.4)))) * _SEASON
        quiet = _stretches(rng, 2, 3, 90) | (rng.random(_N) < 0.003)
        columns = self._prices(rng, symbol, number, volatility, quiet)
        close = columns["close"]

        agitation = exp(log_volatility)
        volume = np.round(40.0 * agitation * -log(1.0 - rng.random(_N)) * 2.0, 3) + 0.001
        volume[quiet] = 0.0
        taker_buy = np.round(volume * np.clip(0.5 + 0.16 * _normal(rng), 0.0, 1.0), 3)
        index = close * (1.0 + 2e-5 * _normal(rng))
        funding = [_hash(self.seed, symbol, "funding", number * 3 + slot) * 3.0 - 0.5 for slot in range(3)]
        minute = np.arange(_N)
        liquidations = self._liquidations(rng)
        start = day_start_ms(day)
        columns |= {
            "event_time": start + minute * MINUTE_MS,
            "open_time_ms": start + minute * MINUTE_MS,
            "volume": volume,
            "taker_buy_volume": taker_buy,
            "taker_sell_volume": np.round(volume - taker_buy, 3),
            "funding_bps": np.repeat(np.round(funding, 4), _FUNDING_MINUTES),
            "mark_price": index * (1.0 + 2e-4 * np.clip(_clusters(rng), -2.0, 2.0)),
            "index_price": index,
            "next_funding_time": start + (minute // _FUNDING_MINUTES + 1) * _FUNDING_MINUTES * MINUTE_MS,
            "open_interest": np.round(self._bridge(symbol, "open interest", number, 3e-4 * _normal(rng)) * 1e5, 3),
            # Tenths of a basis point: ties all day long, as a tick-bound spread has them.
            "spread_bps": np.maximum(np.round(0.5 - log(1.0 - rng.random(_N)) * 0.6 * agitation, 1), 0.1),
            "level1_ofi_1m": np.round(_normal(rng) * np.sqrt(volume + 1.0), 4),
            **liquidations,
        }
        arrays = [pa.array(columns[name]).cast(REPLAY_SCHEMA.field(name).type) for name in REPLAY_COLUMNS]
        return pa.table(arrays, schema=REPLAY_SCHEMA)

    def _prices(
        self, rng: np.random.Generator, symbol: str, number: int, volatility: np.ndarray, quiet: np.ndarray
    ) -> dict[str, np.ndarray]:
        base = _BASE_PRICES.get(symbol) or 10.0 ** int(_hash(self.seed, symbol, "magnitude", 0) * 5 - 1) * (
            1.0 + 9.0 * _hash(self.seed, symbol, "base", 0)
        )
        ticks = 10.0 ** (5 - math.floor(math.log10(base)))
        # Now and then a fat-tailed move.
        moves = volatility * _normal(rng) * (1.0 + 4.0 * (rng.random(_N) < 0.01))
        moves[quiet] = 0.0
        path = self._bridge(symbol, "price", number, moves, ~quiet)
        close = np.maximum(np.rint(path * base * ticks), 1.0)
        midnight = np.maximum(np.rint(_anchor(self.seed, symbol, "price", number) * base * ticks), 1.0)
        open_ = np.concatenate([midnight, close[:-1]])
        # A minute without a trade keeps the last price: open, high, low and close are one.
        close = np.where(quiet, open_, close)
        open_[1:] = close[:-1]
        upper, lower = (np.rint(np.abs(_normal(rng)) * 0.5 * volatility * close) * ~quiet for _ in range(2))
        high = np.maximum(open_, close) + upper
        low = np.maximum(np.minimum(open_, close) - lower, 1.0)
        return {"open": open_ / ticks, "high": high / ticks, "low": low / ticks, "close": close / ticks}

    def _bridge(self, symbol: str, name: str, number: int, moves: np.ndarray, active: np.ndarray | None = None) -> np.ndarray:
        """A path of the day's moves, tilted over its active minutes so that it ends at the next day's anchor."""
        begin, end = (_anchor(self.seed, symbol, name, number + step)[0] for step in (0, 1))
        walk = np.cumsum(moves)
        steps = np.cumsum(np.ones(_N) if active is None else active.astype(np.float64))
        tilt = log(np.array([end / begin]))[0] - walk[-1]
        return begin * exp(walk + tilt * steps / steps[-1])

    @staticmethod
    def _liquidations(rng: np.random.Generator) -> dict[str, np.ndarray]:
        burst = _stretches(rng, 2, 5, 240)
        available = np.ones(_N)
        if rng.random() < 0.25:
            available[_stretches(rng, 1, 60, _N)] = 0.0
        columns = {"liquidation_available": available}
        for side in ("buy", "sell"):
            notional = np.round(exp(9.0 + 1.6 * _normal(rng)), 2)
            columns[f"liquidation_{side}_notional_1m"] = notional * (burst & (rng.random(_N) < 0.35)) * available
        return columns


@functools.lru_cache(256)  # as a day ends where the next one begins
def _anchor(seed: int, symbol: str, name: str, number: int) -> np.ndarray:
    """The level at the midnight that begins a day, around 1, as an array of one."""
    return exp(np.array([_wave(seed, symbol, name, number, _PRICE_WAVES)]))


def _wave(seed: int, symbol: str, name: str, number: int, waves: tuple[tuple[int, float], ...]) -> float:
    """Value noise: at each scale, uniform numbers on a lattice of days, joined by straight lines."""
    level = 0.0
    for days, amplitude in waves:
        cell, offset = divmod(number, days)
        begin, end = (_hash(seed, symbol, f"{name} {days}", cell + step) for step in (0, 1))
        level += amplitude * (2.0 * (begin + (end - begin) * (offset / days)) - 1.0)
    return level


def _hash(seed: int, symbol: str, name: str, number: int) -> float:
    """A number in [0, 1) that the four alone decide."""
    return (_bits(seed, symbol, name, number) >> 75) * 2.0**-53


def _bits(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:16], "little")


def _normal(rng: np.random.Generator) -> np.ndarray:
    """Nearly normal numbers: four uniforms added (numpy's own normals may change between releases)."""
    u = rng.random((4, _N))
    return (u[0] + u[1] + u[2] + u[3] - 2.0) * math.sqrt(3.0)


def _clusters(rng: np.random.Generator) -> np.ndarray:
    """An AR(1) path with a half-life of three quarters of an hour: x[t] = sum of decay**(t - s) e[s]."""
    decay = np.cumprod(np.full(_N, 0.985))
    return decay * np.cumsum(0.06 * _normal(rng) / decay)


def _stretches(rng: np.random.Generator, count: int, shortest: int, longest: int) -> np.ndarray:
    """A mask of `count` stretches of minutes; they may overlap or be cut off by midnight."""
    mask = np.zeros(_N, dtype=bool)
    for where, length in rng.random((count, 2)):
        begin = int(where * _N)
        mask[begin : begin + shortest + int(length * (longest - shortest))] = True
    return mask
