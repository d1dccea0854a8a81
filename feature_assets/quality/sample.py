"""What the report keeps of a frame of any length: exact counts and extremes, and at most so many rows, drawn by hash.

A row is drawn where its hash is among the smallest, so the sample follows from the rows alone, in whatever order they
come, and another day is added to it without reading the days before.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from feature_assets.features.catalogue import FEATURE_ORDER, feature_values
from feature_assets.market.bars import MINUTE_MS

MOST_ROWS = 25_000
"""Rows of a sample; a frame of no more is there as a whole. A 99th percentile of so many is within a 98.8th and a 99.2nd."""

_SCHEMA = pa.schema([("row_hash", pa.uint64()), ("split_id", pa.string()), *((name, pa.float32()) for name in FEATURE_ORDER)])


class _Rows(NamedTuple):
    """Some rows: hashes of shape (rows,), their split ids, and feature_values."""

    hashes: np.ndarray
    splits: pa.ChunkedArray
    values: np.ndarray

    def up_to(self, limit: int) -> _Rows:
        """Those with a hash of at most `limit`."""
        kept = self.hashes <= limit
        if kept.all():
            return self
        return _Rows(self.hashes[kept], self.splits.filter(pa.array(kept)), np.compress(kept, self.values, axis=1))


class RowSample:
    """The rows with the smallest hashes of all that were added; at most so many, or MOST_ROWS."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most or MOST_ROWS
        self._limit = np.iinfo(np.uint64).max
        self._parts: list[_Rows] = []

    def add(self, frame: pa.Table, values: np.ndarray) -> None:
        """Add rows of a frame with symbol, open_time_ms and split_id; values: their feature_values."""
        self._draw(_Rows(_row_hash(frame), frame["split_id"], values))

    def add_drawn(self, rows: pa.Table) -> None:
        """Add rows that another sample gave."""
        self._draw(_Rows(rows["row_hash"].to_numpy(), rows["split_id"], feature_values(rows)))

    def table(self) -> pa.Table:
        """The rows, by their hash: row_hash, split_id, and the features as float32."""
        if not self._parts:
            return _SCHEMA.empty_table()
        rows = self._prune()
        order = np.argsort(rows.hashes)[: self._most]
        features = [pa.array(column[order], from_pandas=True) for column in rows.values]
        return pa.table([pa.array(rows.hashes[order]), rows.splits.take(pa.array(order)), *features], schema=_SCHEMA)

    def _draw(self, rows: _Rows) -> None:
        self._parts.append(rows.up_to(self._limit))
        if sum(len(part.hashes) for part in self._parts) > 1.5 * self._most:
            self._prune()

    def _prune(self) -> _Rows:
        """Bring the parts together, and leave out what is beyond the smallest hashes."""
        hashes = np.concatenate([part.hashes for part in self._parts])
        splits = pa.chunked_array([chunk for part in self._parts for chunk in part.splits.chunks], type=pa.string())
        rows = _Rows(hashes, splits, np.concatenate([part.values for part in self._parts], axis=1))
        if len(hashes) > self._most:
            self._limit = np.partition(hashes, self._most - 1)[self._most - 1]
        self._parts = [rows.up_to(self._limit)]
        return self._parts[0]


def _row_hash(frame: pa.Table) -> np.ndarray:
    """A 64-bit number a row, from its symbol and minute: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    symbols = frame["symbol"].combine_chunks().dictionary_encode()
    seeds = np.array([zlib.crc32(name.encode()) for name in symbols.dictionary.to_pylist()], dtype=np.uint64)
    minutes = (frame["open_time_ms"].to_numpy() // MINUTE_MS).astype(np.uint64)
    bits = (seeds[symbols.indices.to_numpy()] << np.uint64(32)) + minutes if len(seeds) else minutes
    bits = bits * np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@dataclass
class FeatureCounts:
    """Exact figures over all rows that were added, an array of shape (features,) each; the extremes leave NaN out."""

    rows: int = 0
    nan: np.ndarray = field(default_factory=lambda: np.zeros(len(FEATURE_ORDER), dtype=np.int64))
    inf: np.ndarray = field(default_factory=lambda: np.zeros(len(FEATURE_ORDER), dtype=np.int64))
    minimum: np.ndarray = field(default_factory=lambda: np.full(len(FEATURE_ORDER), np.nan, dtype=np.float32))
    maximum: np.ndarray = field(default_factory=lambda: np.full(len(FEATURE_ORDER), np.nan, dtype=np.float32))

    def add(self, values: np.ndarray) -> None:
        """Add rows by their feature_values."""
        rows = values.shape[1]
        self.rows += rows
        if not rows:
            return
        self.minimum = np.fmin(self.minimum, np.fmin.reduce(values, axis=1))
        self.maximum = np.fmax(self.maximum, np.fmax.reduce(values, axis=1))
        self.nan += np.isnan(values).sum(axis=1)
        self.inf += np.isinf(values).sum(axis=1)

    def of(self, place: int) -> dict[str, Any]:
        """The figures of the feature at a place of FEATURE_ORDER; the extremes are None where there is no value."""
        low, high = float(self.minimum[place]), float(self.maximum[place])
        extremes = {"minimum": None if np.isnan(low) else low, "maximum": None if np.isnan(high) else high}
        return {"nan_count": int(self.nan[place]), "inf_count": int(self.inf[place]), **extremes}

    def to_stats(self) -> dict[str, int]:
        """As whole numbers, the extremes as the bits of a float32."""
        stats = {"rows": self.rows}
        for name, column in (("nan", self.nan), ("inf", self.inf), ("minimum", self.minimum), ("maximum", self.maximum)):
            bits = column.view(np.int32) if column.dtype == np.float32 else column
            stats |= {f"{name}/{feature}": int(value) for feature, value in zip(FEATURE_ORDER, bits, strict=True)}
        return stats

    @classmethod
    def from_stats(cls, stats: Mapping[str, int]) -> FeatureCounts:
        """What to_stats gave; raises KeyError where it is of other features."""

        def column(name: str, kind: type) -> np.ndarray:
            return np.array([stats[f"{name}/{feature}"] for feature in FEATURE_ORDER], dtype=kind)

        extremes = (column(name, np.int32).view(np.float32) for name in ("minimum", "maximum"))
        return cls(stats["rows"], column("nan", np.int64), column("inf", np.int64), *extremes)
