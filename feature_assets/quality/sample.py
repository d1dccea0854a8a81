"""What the report keeps of a frame of any length: exact counts and extremes, and at most so many rows, drawn by hash.

A row is drawn where its hash is among the smallest, so the sample follows from the rows alone, in whatever order they
come, and another day is added to it without reading the days before.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.market.bars import MINUTE_MS
from feature_assets.quality.statistics import as_float

MOST_ROWS = 50_000
"""Rows of a sample; a frame of no more is there as a whole."""

_SCHEMA = pa.schema([("row_hash", pa.uint64()), ("split_id", pa.string()), *((name, pa.float32()) for name in FEATURE_ORDER)])


class RowSample:
    """The rows with the smallest hashes of all that were added."""

    def __init__(self) -> None:
        self._most = MOST_ROWS
        self._table = _SCHEMA.empty_table()
        self._limit = np.iinfo(np.uint64).max

    def add(self, frame: pa.Table) -> None:
        """Add rows of a frame: symbol, open_time_ms, split_id and the features."""
        self.add_drawn(pa.table([pa.array(_row_hash(frame)), *map(frame.column, _SCHEMA.names[1:])], schema=_SCHEMA))

    def add_drawn(self, rows: pa.Table) -> None:
        """Add rows that another sample gave."""
        self._table = pa.concat_tables([self._table, rows.filter(pa.array(rows["row_hash"].to_numpy() <= self._limit))])
        if self._table.num_rows > 1.5 * self._most:
            self._prune()

    def table(self) -> pa.Table:
        """The rows, by their hash: row_hash, split_id, and the features as float32."""
        self._prune()
        return self._table

    def _prune(self) -> None:
        table = self._table.combine_chunks()
        order = np.argsort(table["row_hash"].to_numpy(), kind="stable")[: self._most]
        self._table = table.take(pa.array(order))
        if len(order) == self._most:
            self._limit = self._table["row_hash"][-1].as_py()


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

    def add(self, frame: pa.Table) -> None:
        """Add the rows of a frame."""
        self.rows += frame.num_rows
        for place, name in enumerate(FEATURE_ORDER if frame.num_rows else ()):
            values = as_float(frame[name])
            self.nan[place] += np.isnan(values).sum()
            self.inf[place] += np.isinf(values).sum()
            self.minimum[place] = np.fmin(self.minimum[place], np.fmin.reduce(values))
            self.maximum[place] = np.fmax(self.maximum[place], np.fmax.reduce(values))

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
