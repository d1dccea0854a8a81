"""The look-ahead proof: rows up to a cut must be bit-identical when everything after the cut is gone."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from feature_assets.features.build import FeatureOptions, feature_table
from feature_assets.features.catalogue import FEATURE_ORDER
from feature_assets.market.bars import Bars


def cut_of(key: str, rows: int) -> int:
    """A row of the day, 0..rows-1, that the partition key alone decides, so that over time every region is cut."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % rows


def look_ahead(
    bars: Bars, first: int, table: pa.Table, cut: int, options: FeatureOptions, *, show_values: bool = True
) -> str | None:
    """Recompute bars[first : first + cut + 1] without the bars after it, and say where `table` differs; None if nowhere.

    bars: the day's window, look-back included; first: the index of the day's first row; table: the day's rows as they
    were computed with all bars; cut: the last row of the day that is kept. Every row up to the cut must be there with
    the same flag and the same bits in every feature. The drop of incomplete days is taken as given. Without show_values
    the sentence names feature and minute alone.
    """
    again = feature_table(bars.rows(0, first + cut + 1), first, options)
    before = table.slice(0, cut + 1)
    if before.num_rows != again.num_rows:
        return (
            f"cut after row {cut}: {again.num_rows} rows instead of {before.num_rows}: a row's existence depends on later rows."
        )
    for name in ("event_time", "open_time_ms", "data_quality_flag", *FEATURE_ORDER):
        different = np.flatnonzero(_bits(before[name]) != _bits(again[name]))
        if len(different):
            row = int(different[0])
            values = f"{again[name][row]} without the later rows and {before[name][row]} with them"
            return (
                f"{name} looks ahead: cut after row {cut}, row {row} ({before['event_time'][row]}) is "
                f"{values if show_values else 'another without the later rows'}; {len(different)} row(s) differ."
            )
    return None


def _bits(column: pa.ChunkedArray) -> np.ndarray:
    """A column as comparable integers or strings; a null as NaN's bits."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    values = column.to_numpy()
    return values.view(np.int32) if values.dtype == np.float32 else values
