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
    ids = pc.binary_join_element_wise(table["symbol"], pc.cast(table["open_time_ms"], pa.string()), ":")
    yield from _mismatch(table, "sample_id", ids.to_numpy(zero_copy_only=False))
    if len(pc.unique(table["sample_id"])) != table.num_rows:
        yield "sample_id: a row is there twice."
    yield from _mismatch(table, "open_time_ms", times)
    expected = np.full(len(times), UNASSIGNED, dtype=object)
    expected_folds = np.full(len(times), NO_FOLD, dtype=object)
    for index, split in enumerate(manifest.splits):
        start, end = (int(bound.timestamp() * 1000) for bound in (split.start, split.end))
        followed = index + 1 < len(manifest.splits)
        embargo_from = end - manifest.embargo_minutes * MINUTE_MS if followed else end
        expected[(start <= times) & (times < embargo_from)] = split.split_id
        expected[(embargo_from <= times) & (times < end)] = EMBARGO
        if split.split_id == FIT:
            minutes, folds = (embargo_from - start) // MINUTE_MS, manifest.walk_forward_folds
            ends = np.array([(number + 1) * minutes // folds for number in range(folds)])
            minute = (times - start) // MINUTE_MS
            fold = np.minimum(np.searchsorted(ends, minute, side="right"), folds - 1)
            kept = (expected == FIT) & ((fold == folds - 1) | (minute < ends[fold] - manifest.embargo_minutes))
            expected_folds[kept] = [f"fold_{number + 1:02d}" for number in fold[kept]]
    yield from _mismatch(table, "split_id", expected)
    yield from _mismatch(table, "walk_forward_fold", expected_folds)


def _mismatch(table: pa.Table, name: str, expected: np.ndarray) -> Iterator[str]:
    wrong = np.flatnonzero(table[name].to_numpy() != expected)
    if len(wrong):
        row = int(wrong[0])
        yield (
            f"{name}: {len(wrong)} row(s) differ, e.g. {table['symbol'][row]} {table['event_time'][row]} has "
            f"{table[name][row]}, expected {expected[row]}."
        )
