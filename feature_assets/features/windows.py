"""Rolling windows whose every value is a pure function of the rows inside its own window.

A running sum, which adds the new row and takes away the old one, carries noise from rows long gone, so a day's bytes
would depend on how much history was loaded. Here windows are built by doubling: blocks of 1, 2, 4, ... rows are merged
pairwise, then the blocks of the window's binary digits, in an order fixed by the window's length alone. Only IEEE
basic operations are used. Every function takes float64 arrays of shape (rows,) and gives the same shape; row t reads
rows t-w+1..t; a null (NaN) inside the window, and a window that is not full, give NaN unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

# Ranks are counted by comparing all of a window where so many or fewer rows, or windows, are at hand: the count of a few
# fits in a byte. It takes a third of what pandas' ordered lists do for 240 rows, and as much as they do for 1,440.
_COUNTED = 255
# Comparisons whose results, a byte each, stay in the processor's cache until they are counted.
_CACHED = 32_768
# So few windows are sorted for their median in less time than pandas takes to begin.
_SORTED = 64


def lag(values: np.ndarray, rows: int) -> np.ndarray:
    """values[t - rows]; NaN in the first `rows` rows."""
    out = np.full(len(values), np.nan)
    if rows < len(values):
        out[rows:] = values[: len(values) - rows]
    return out


def relative_change(values: np.ndarray, rows: int) -> np.ndarray:
    """values[t] / values[t - rows] - 1."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return values / lag(values, rows) - 1.0


def rolling_max(values: np.ndarray, rows: int) -> np.ndarray:
    return _extremum(values, rows, np.maximum)


def rolling_min(values: np.ndarray, rows: int) -> np.ndarray:
    return _extremum(values, rows, np.minimum)


def _extremum(values: np.ndarray, rows: int, pick: Callable[..., np.ndarray]) -> np.ndarray:
    out = np.full(len(values), np.nan)
    if len(values) < rows:
        return out
    block, size = values, 1
    while size * 2 <= rows:
        block = pick(block[:-size], block[size:])
        size *= 2
    # Two blocks that overlap cover the window; an extremum does not mind seeing a row twice.
    count = len(values) - rows + 1
    out[rows - 1 :] = pick(block[:count], block[rows - size : rows - size + count])
    return out


def rolling_sum(values: np.ndarray, rows: int) -> np.ndarray:
    return _from_start(_doubling_sum(values, rows), len(values))


def expanding_then_rolling_sum(values: np.ndarray, rows: int) -> np.ndarray:
    """The sum of the last `rows` rows, or of all there are where they are fewer."""
    return _doubling_sum(np.concatenate([np.zeros(rows - 1), values]), rows)


def _doubling_sum(values: np.ndarray, rows: int) -> np.ndarray:
    """Sums of values[i..i+rows-1] for each i, shape (len - rows + 1,)."""
    total: np.ndarray | None = None
    covered = 0
    block, size = values, 1
    count = len(values) - rows + 1
    if count <= 0:
        return np.empty(0)
    while size <= rows:
        if rows & size:
            part = block[covered : covered + count]
            total = part if total is None else total + part
            covered += size
        if size * 2 <= rows:
            block = block[:-size] + block[size:]
        size *= 2
    assert total is not None
    return total


def rolling_mean_std(values: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation (ddof = 1); a constant window's deviation is exactly 0."""
    if len(values) < rows:
        nothing = np.full(len(values), np.nan)
        return nothing, nothing
    mean, squares = _doubling_moments(values, None, rows)
    with np.errstate(invalid="ignore"):
        return _from_start(mean, len(values)), _from_start(np.sqrt(squares / (rows - 1)), len(values))


def expanding_then_rolling_mean_std(values: np.ndarray, rows: int, least: int) -> tuple[np.ndarray, np.ndarray]:
    """As rolling_mean_std, over all rows there are where they are fewer than `rows`, from `least` rows on."""
    padding = np.zeros(rows - 1)
    present = np.concatenate([padding, np.ones(len(values))])
    mean, squares = _doubling_moments(np.concatenate([padding, values]), present, rows)
    count = np.minimum(np.arange(1, len(values) + 1), rows)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviation = np.sqrt(squares / (count - 1))
    short = count < least
    return np.where(short, np.nan, mean), np.where(short, np.nan, deviation)


class _Moments(NamedTuple):
    """Of blocks of rows: how many are present in each (one number where it is the same), mean and sum of squared deviations."""

    present: np.ndarray | float
    mean: np.ndarray
    squares: np.ndarray

    def part(self, rows: slice) -> _Moments:
        present = self.present if isinstance(self.present, float) else self.present[rows]
        return _Moments(present, self.mean[rows], self.squares[rows])


def _doubling_moments(values: np.ndarray, present: np.ndarray | None, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sum of squared deviations of values[i..i+rows-1], leaving out rows that are not present (1.0 or 0.0 a row)."""
    count = len(values) - rows + 1
    block = _Moments(1.0 if present is None else present, values, np.zeros(len(values)))
    total: _Moments | None = None
    covered, size = 0, 1
    with np.errstate(over="ignore", invalid="ignore"):
        while size <= rows:
            if rows & size:
                part = block.part(slice(covered, covered + count))
                total = part if total is None else _merge(total, part)
                covered += size
            if size * 2 <= rows:
                block = _merge(block.part(slice(None, -size)), block.part(slice(size, None)))
            size *= 2
    assert total is not None
    return total.mean, total.squares


def _merge(a: _Moments, b: _Moments) -> _Moments:
    """The moments of two neighbouring blocks together, after Chan, Golub and LeVeque (1979)."""
    present = a.present + b.present
    share = b.present / (present if isinstance(present, float) else np.maximum(present, 1.0))
    delta = b.mean - a.mean
    mean = delta * share
    mean += a.mean
    delta *= delta
    delta *= a.present * share
    squares = a.squares + b.squares
    squares += delta
    return _Moments(present, mean, squares)


def rolling_rank(values: np.ndarray, rows: int) -> np.ndarray:
    """The share of the window that is <= its last value, in (0, 1]; an infinite value counts as null."""
    windows = len(values) - rows + 1
    if min(rows, windows) > _COUNTED:
        # pandas keeps no running sum here, so it is exact.
        return pd.Series(values).rolling(rows).rank(method="max", pct=True).to_numpy()
    if windows < 1:
        return np.full(len(values), np.nan)
    # places[k] is what stands at place k of each window.
    places, last = sliding_window_view(values, windows), values[rows - 1 :]
    counts, some = np.zeros(windows, dtype=np.int64), min(max(_CACHED // windows, 16), _COUNTED)
    for k in range(0, rows, some):
        counts += (places[k : k + some] <= last).sum(axis=0, dtype=np.uint8)
    missing = np.concatenate([[0], np.cumsum(~np.isfinite(values))])
    return _from_start(np.where(missing[rows:] == missing[:windows], counts / rows, np.nan), len(values))


def rolling_median(values: np.ndarray, rows: int) -> np.ndarray:
    """The median, the mean of the middle two where `rows` is even; an infinite value counts as null."""
    windows = len(values) - rows + 1
    if not 0 < windows <= _SORTED:
        # Exact in pandas, as the rank is.
        return pd.Series(values).rolling(rows).median().to_numpy()
    ordered = np.sort(sliding_window_view(values, rows), axis=1)
    whole = np.isfinite(ordered[:, 0]) & np.isfinite(ordered[:, -1])
    with np.errstate(invalid="ignore"):
        middle = (ordered[:, (rows - 1) // 2] + ordered[:, rows // 2]) / 2.0
    return _from_start(np.where(whole, middle, np.nan), len(values))


def zero_in_warmup(values: np.ndarray, rows: int, *inputs: np.ndarray) -> np.ndarray:
    """`values` with 0.0 in the first `rows` rows, but NaN from the first null of `inputs` on: a hole is not a warm-up."""
    out = values.copy()
    head = slice(0, rows)
    hole = np.zeros(len(values[head]), dtype=bool)
    for column in inputs:
        hole |= np.isnan(column[head])
    out[head] = np.where(np.maximum.accumulate(hole), np.nan, 0.0) if len(hole) else 0.0
    return out


def divide_or_zero(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Numerator / denominator, 0.0 where the denominator is 0; NaN stays NaN."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(denominator == 0, 0.0, numerator / denominator)


def _from_start(values: np.ndarray, rows: int) -> np.ndarray:
    """Values of full windows, with NaN before them so that there are `rows`."""
    out = np.full(rows, np.nan)
    if len(values):
        out[rows - len(values) :] = values
    return out
