"""The label proof: no feature of a frame is a future return under another name.

It sees a column that orders the rows of a symbol's day as a return over the next 1 to 240 rows does. It does not see a
label that is one part of a sum, one of another market or of a longer horizon, one that says little (a sign, a few
classes), and none on a day whose future returns already follow from the past ones or from the time of day.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.features.catalogue import FEATURE_ORDER, feature_values

LONGEST = 240
"""Rows that a label looks ahead at most."""
_LEAST_ROWS = 120
# Different values that both must have: two columns that hardly change rank alike by chance.
_LEAST_VALUES = 60
_SUSPECT, _CERTAIN, _PREDICTABLE = 0.9, 0.99, 0.9
# Suspects are found on about so many rows and on these horizons, which are close enough for returns over horizons in
# between to rank nearly alike; then every row and every horizon is looked at.
_SAMPLE = 100
_GRID = np.array(sorted({round(1.12**power) for power in range(50) if round(1.12**power) <= LONGEST} | {LONGEST}))
_PAST = (1, 5, 15, 60, 240)


def future_returns(table: pa.Table) -> list[str]:
    """Features of a frame, rows by symbol and time, that are future returns, a sentence each; nothing for a sound one.

    A return over the next h rows is worked out of ret_1m_bps. A feature is one if its rank correlation with it is above
    0.99 and both move the same way from row to row, while neither past returns nor the row's place have as much to say.
    """
    symbols = by_symbol(table)
    found: dict[str, list[str]] = {symbol: [] for symbol in symbols}
    # Symbols of as many rows are looked at together: nearly always all of them.
    for length in {len(rows) for rows in symbols.values()}:
        alike = [symbol for symbol, rows in symbols.items() if len(rows) == length >= _LEAST_ROWS]
        if alike:
            for place, text in _labels(np.stack([feature_values(symbols[symbol]) for symbol in alike]), alike):
                found[alike[place]].append(text)
    return [text for texts in found.values() for text in texts]


def by_symbol(table: pa.Table) -> dict[str, pa.Table]:
    """A frame's rows by symbol: slices where each symbol's rows stand together, as they do in a sound one."""
    runs = pc.run_end_encode(table["symbol"].combine_chunks())
    symbols, ends = runs.values.to_pylist(), runs.run_ends.to_pylist()  # noqa: PD011 - Arrow's
    if len(set(symbols)) < len(symbols):
        return {symbol: table.filter(pc.equal(table["symbol"], symbol)) for symbol in dict.fromkeys(symbols)}
    starts = [0, *ends][: len(ends)]
    return {symbol: table.slice(start, end - start) for symbol, start, end in zip(symbols, starts, ends, strict=True)}


def _labels(values: np.ndarray, symbols: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The place of a symbol and what is wrong with a feature of it; values: of shape (symbols, features, rows)."""
    rows = values.shape[2]
    horizons = _GRID[rows // 2 >= _GRID]
    returns = np.nan_to_num(values[:, FEATURE_ORDER.index("ret_1m_bps")].astype(np.float64))
    path = np.cumprod(1.0 + returns / 1e4, axis=1)
    places = np.arange(0, rows - horizons[-1], max((rows - horizons[-1]) // _SAMPLE, 1))
    labels = _standard_ranks(path[:, places + horizons[:, None]] / path[:, None, places])
    features = _standard_ranks(values[:, :, places])
    suspects = np.abs(features @ labels.transpose(0, 2, 1)) / len(places) > _SUSPECT
    for symbol, feature in np.argwhere(suspects.any(axis=2)).tolist():
        near = horizons[suspects[symbol, feature]]
        for horizon in range(int(near[0] / 1.2), min(int(near[-1] * 1.2) + 1, LONGEST, rows // 2) + 1):
            if horizon and _is_future_return(values[symbol, feature].astype(np.float64), path[symbol], horizon):
                yield (
                    symbol,
                    f"{FEATURE_ORDER[feature]} is a label: over the day its values of {symbols[symbol]} rank as the return over "
                    f"the next {horizon} row(s) does (rank correlation above {_CERTAIN}).",
                )
                break


def _is_future_return(values: np.ndarray, path: np.ndarray, horizon: int) -> bool:
    future = path[horizon:] / path[:-horizon] - 1.0
    values = values[: len(future)]
    there = np.isfinite(values) & np.isfinite(future)
    if min(len(np.unique(column[there])) for column in (values, future)) < _LEAST_VALUES:
        return False
    correlation = _rank_correlation(values[there], future[there])
    if abs(correlation) <= _CERTAIN:
        return False
    moves = np.sign(np.diff(values[there])) * np.sign(np.diff(future[there])) * np.sign(correlation)
    if (moves < 0).mean() > 1.0 - _PREDICTABLE:
        return False
    known = [_rank_correlation(np.arange(len(future)), future)]
    for rows in sorted({*_PAST, horizon}):
        if len(future) - rows < _LEAST_VALUES:
            break
        past = path[rows:] / path[:-rows] - 1.0
        known.append(_rank_correlation(past[: len(future) - rows], future[rows:]))
    return max(map(abs, known)) < _PREDICTABLE


def _rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, 0 where one of the two is constant."""
    found = pd.Series(one).rank().corr(pd.Series(other).rank()) if len(one) > 1 and np.ptp(one) and np.ptp(other) else 0.0
    return float(found)


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks along the last axis, of mean 0 and variance 1; equal values in the order in which they stand."""
    length = values.shape[-1]
    standard = np.arange(length) - (length - 1) / 2.0
    ranks = np.empty(values.shape)
    order = np.argsort(values, axis=-1, kind="stable")
    np.put_along_axis(ranks, order, np.broadcast_to(standard / max(standard.std(), 1e-12), values.shape), axis=-1)
    return ranks
