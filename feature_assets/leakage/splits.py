"""The split proof: every row of a frame is in the split and fold that its time says, and nothing else is in it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.market.bars import MINUTE_MS
from feature_assets.splits.manifest import EMBARGO, FIT, NO_FOLD, UNASSIGNED, SplitManifest


def split_leaks(table: pa.Table, schema: pa.Schema, manifest: SplitManifest) -> list[str]:
    """What is wrong with a frame's columns, ids, splits and folds, a sentence each; nothing for a sound one.

    The expected split is worked out from the manifest's ranges row by row, not from the segments that assigned it.
    """
    return list(_leaks(table, schema, manifest))


def _leaks(table: pa.Table, schema: pa.Schema, manifest: SplitManifest) -> Iterator[str]:
    if table.schema.names != schema.names:
        extra = sorted(set(table.schema.names) - set(schema.names))
        missing = sorted(set(schema.names) - set(table.schema.names))
        yield f"columns are not the frame's own: extra {extra}, missing {missing}, or another order."
        return
    times = table["event_time"].cast(pa.int64()).to_numpy()
    yield from _mismatch(
        table, "sample_id", pc.binary_join_element_wise(table["symbol"], pc.cast(table["open_time_ms"], pa.string()), ":")
    )
    if pc.count_distinct(table["sample_id"]).as_py() != table.num_rows:
        yield "sample_id: a row is there twice."
    yield from _mismatch(table, "open_time_ms", pa.array(times))
    # Codes into names, as arrays of strings are slow to fill.
    names = [UNASSIGNED, EMBARGO, *(split.split_id for split in manifest.splits)]
    folds = [NO_FOLD, *(f"fold_{number + 1:02d}" for number in range(manifest.walk_forward_folds))]
    expected, expected_folds = np.zeros(len(times), dtype=np.int32), np.zeros(len(times), dtype=np.int32)
    for index, split in enumerate(manifest.splits):
        start, end = (int(bound.timestamp() * 1000) for bound in (split.start, split.end))
        followed = index + 1 < len(manifest.splits)
        embargo_from = end - manifest.embargo_minutes * MINUTE_MS if followed else end
        inside = (start <= times) & (times < embargo_from)
        expected[inside] = names.index(split.split_id)
        expected[(embargo_from <= times) & (times < end)] = names.index(EMBARGO)
        if split.split_id == FIT:
            minutes, count = (embargo_from - start) // MINUTE_MS, manifest.walk_forward_folds
            ends = np.array([(number + 1) * minutes // count for number in range(count)])
            minute = (times - start) // MINUTE_MS
            fold = np.minimum(np.searchsorted(ends, minute, side="right"), count - 1)
            kept = inside & ((fold == count - 1) | (minute < ends[fold] - manifest.embargo_minutes))
            expected_folds[kept] = fold[kept] + 1
    yield from _mismatch(table, "split_id", _named(expected, names))
    yield from _mismatch(table, "walk_forward_fold", _named(expected_folds, folds))


def _named(codes: np.ndarray, names: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(codes, names).cast(pa.string())


def _mismatch(table: pa.Table, name: str, expected: pa.Array | pa.ChunkedArray) -> Iterator[str]:
    different = pc.fill_null(pc.not_equal(table[name], expected), fill_value=True)
    if wrong := pc.sum(different).as_py():
        row = pc.index(different, value=True).as_py()
        yield (
            f"{name}: {wrong} row(s) differ, e.g. {table['symbol'][row]} {table['event_time'][row]} has "
            f"{table[name][row]}, expected {expected[row]}."
        )
