"""The split manifest: which split and fold a minute belongs to, and its JSON."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from feature_assets.errors import SettingError
from feature_assets.splits.manifest import Split, SplitManifest, parse_splits

MINUTE = 60_000
ORIGIN = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
ORIGIN_MS = int(ORIGIN.timestamp()) * 1000


def _split(split_id: str, start: int, end: int) -> Split:
    """A split from minute `start` to minute `end` after ORIGIN."""
    return Split(split_id, ORIGIN + dt.timedelta(minutes=start), ORIGIN + dt.timedelta(minutes=end))


def _assigned(manifest: SplitManifest, *minutes: int) -> list[tuple[str, str]]:
    split_ids, folds = manifest.assign(ORIGIN_MS + np.array(minutes, dtype=np.int64) * MINUTE)
    return list(zip(split_ids.tolist(), folds.tolist(), strict=True))


def _naive(splits: list[tuple[str, int, int]], embargo: int, folds: int, minute: int) -> tuple[str, str]:
    """One minute's split and fold, straight from the contract's sentences."""
    for index, (split_id, start, end) in enumerate(splits):
        if not start <= minute < end:
            continue
        is_last = index == len(splits) - 1
        inner_end = end if is_last else end - embargo
        if minute >= inner_end:
            return "EMBARGO", "NO_FOLD"
        if split_id != "FIT":
            return split_id, "NO_FOLD"
        for i in range(folds):
            begin = start + i * (inner_end - start) // folds
            stop = start + (i + 1) * (inner_end - start) // folds
            if begin <= minute < stop:
                is_kept = i == folds - 1 or minute < stop - embargo
                return "FIT", f"fold_{i + 1:02d}" if is_kept else "NO_FOLD"
    return "UNASSIGNED", "NO_FOLD"


def test_a_split_is_half_open_and_what_is_in_none_is_unassigned():
    manifest = SplitManifest([_split("FIT", 0, 10), _split("TUNE", 10, 20), _split("VALIDATION_LOCKED", 25, 30)])
    assert _assigned(manifest, -1, 0, 9, 10, 19, 20, 24, 25, 29, 30) == [
        ("UNASSIGNED", "NO_FOLD"),
        ("FIT", "fold_01"),
        ("FIT", "fold_01"),
        ("TUNE", "NO_FOLD"),
        ("TUNE", "NO_FOLD"),
        ("UNASSIGNED", "NO_FOLD"),
        ("UNASSIGNED", "NO_FOLD"),
        ("VALIDATION_LOCKED", "NO_FOLD"),
        ("VALIDATION_LOCKED", "NO_FOLD"),
        ("UNASSIGNED", "NO_FOLD"),
    ]


def test_without_splits_every_row_is_unassigned():
    assert _assigned(SplitManifest([], 60, 3), 0, 1) == [("UNASSIGNED", "NO_FOLD")] * 2


def test_no_rows_have_no_splits():
    assert _assigned(SplitManifest([_split("FIT", 0, 10)])) == []


def test_only_splits_that_another_follows_end_in_an_embargo():
    manifest = SplitManifest([_split("FIT", 0, 10), _split("TUNE", 20, 30)], embargo_minutes=3)
    assert [split_id for split_id, _ in _assigned(manifest, 6, 7, 9, 10, 26, 27, 29)] == [
        "FIT",
        "EMBARGO",
        "EMBARGO",
        "UNASSIGNED",
        "TUNE",
        "TUNE",
        "TUNE",
    ]


def test_a_lone_fit_has_no_embargo():
    manifest = SplitManifest([_split("FIT", 0, 10)], embargo_minutes=3)
    assert _assigned(manifest, 9) == [("FIT", "fold_01")]


def test_folds_begin_at_the_floor_of_equal_parts_of_fit_before_its_embargo():
    manifest = SplitManifest([_split("FIT", 0, 21), _split("TUNE", 21, 30)], embargo_minutes=1, walk_forward_folds=3)
    # 20 minutes in three: 0, 6, 13, 20; each but the last gives its last minute away.
    folds = [fold for _, fold in _assigned(manifest, *range(21))]
    assert folds == ["fold_01"] * 5 + ["NO_FOLD"] + ["fold_02"] * 6 + ["NO_FOLD"] + ["fold_03"] * 7 + ["NO_FOLD"]


def test_a_folds_embargo_stays_fit_without_a_fold():
    manifest = SplitManifest([_split("FIT", 0, 20)], embargo_minutes=4, walk_forward_folds=2)
    assert _assigned(manifest, 5, 6, 9, 10, 19) == [
        ("FIT", "fold_01"),
        ("FIT", "NO_FOLD"),
        ("FIT", "NO_FOLD"),
        ("FIT", "fold_02"),
        ("FIT", "fold_02"),
    ]


def test_folds_beyond_ninety_nine_keep_their_own_names():
    manifest = SplitManifest([_split("FIT", 0, 101)], walk_forward_folds=101)
    assert [fold for _, fold in _assigned(manifest, 0, 98, 99, 100)] == ["fold_01", "fold_99", "fold_100", "fold_101"]


def test_a_time_within_a_minute_belongs_to_the_minutes_split():
    manifest = SplitManifest([_split("FIT", 0, 10), _split("TUNE", 10, 20)])
    split_ids, _ = manifest.assign(np.array([ORIGIN_MS + 10 * MINUTE - 1, ORIGIN_MS + 10 * MINUTE]))
    assert split_ids.tolist() == ["FIT", "TUNE"]


@settings(max_examples=200, deadline=None)
@given(
    ids=st.lists(st.sampled_from(["FIT", "TUNE", "VALIDATION_LOCKED"]), unique=True),
    bounds=st.lists(st.integers(0, 90), min_size=6, max_size=6, unique=True).map(sorted),
    touching=st.booleans(),
    embargo=st.integers(0, 20),
    folds=st.integers(1, 6),
)
def test_every_minute_is_where_the_contract_puts_it(ids, bounds, touching, embargo, folds):
    ordered = [name for name in ("FIT", "TUNE", "VALIDATION_LOCKED") if name in ids]
    step = 1 if touching else 2
    ranges = [(name, bounds[step * i], bounds[step * i + 1]) for i, name in enumerate(ordered)]
    try:
        manifest = SplitManifest([_split(*item) for item in ranges], embargo, folds)
    except SettingError:
        assume(False)
    minutes = range(-2, 93)
    assert _assigned(manifest, *minutes) == [_naive(ranges, embargo, folds, minute) for minute in minutes]


@settings(max_examples=100, deadline=None)
@given(
    bounds=st.lists(st.integers(0, 60), min_size=3, max_size=3, unique=True).map(sorted),
    embargo=st.integers(0, 30),
    folds=st.integers(1, 8),
)
def test_a_manifest_is_refused_only_where_an_embargo_or_a_fold_leaves_nothing(bounds, embargo, folds):
    start, middle, end = bounds
    minutes = middle - start - embargo
    spans = [(i + 1) * minutes // folds - i * minutes // folds for i in range(folds)]
    has_room = minutes > 0 and all(span > embargo for span in spans[:-1]) and spans[-1] > 0
    splits = [_split("FIT", start, middle), _split("TUNE", middle, end)]
    if has_room:
        assert SplitManifest(splits, embargo, folds).segments[0].fold == "fold_01"
    else:
        with pytest.raises(SettingError, match=f"EMBARGO_MINUTES={embargo}"):
            SplitManifest(splits, embargo, folds)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ([_split("OTHER", 0, 1)], "unknown split 'OTHER'"),
        ([_split("FIT", 1, 1)], "is empty"),
        ([_split("FIT", 2, 1)], "is empty"),
        ([_split("FIT", 0, 1), _split("FIT", 1, 2)], "FIT is there twice"),
        ([_split("TUNE", 0, 1), _split("FIT", 1, 2)], "FIT .* comes after TUNE .*; the order is"),
        ([_split("FIT", 0, 1), _split("TUNE", 1, 2), _split("FIT", 2, 3)], "FIT .* comes after TUNE"),
        ([_split("FIT", 0, 2), _split("TUNE", 1, 3)], r"FIT 2026-02-01T00:00:00\+00:00.* overlaps TUNE 2026-02-01T00:01"),
        ([_split("FIT", 0, 9), _split("TUNE", 9, 10), _split("VALIDATION_LOCKED", 5, 12)], "TUNE .* overlaps VALIDATION_LOCKED"),
        ([Split("FIT", ORIGIN, ORIGIN + dt.timedelta(seconds=90))], "does not begin and end on a minute"),
        ([Split("FIT", ORIGIN, ORIGIN + dt.timedelta(minutes=1, microseconds=1))], "does not begin and end on a minute"),
    ],
)
def test_a_broken_manifest_is_refused_and_names_the_ranges(splits, message):
    with pytest.raises(SettingError, match=f"^SPLITS: .*{message}"):
        SplitManifest(splits)


def test_a_split_of_just_its_embargo_is_refused_unless_it_is_the_last():
    splits = [_split("TUNE", 0, 60), _split("VALIDATION_LOCKED", 60, 61)]
    with pytest.raises(
        SettingError, match=r"SPLITS: TUNE .* has 60 minutes, not more than EMBARGO_MINUTES=60; lengthen the split"
    ):
        SplitManifest(splits, embargo_minutes=60)
    assert _assigned(SplitManifest(splits, embargo_minutes=59), 0, 1, 60) == [
        ("TUNE", "NO_FOLD"),
        ("EMBARGO", "NO_FOLD"),
        ("VALIDATION_LOCKED", "NO_FOLD"),
    ]


def test_the_json_comes_back_as_the_same_manifest():
    manifest = SplitManifest([_split("FIT", 0, 100), _split("TUNE", 100, 160)], embargo_minutes=5, walk_forward_folds=3)
    again = SplitManifest.from_json(manifest.to_json())
    assert again.splits == manifest.splits
    assert again.segments == manifest.segments
    assert again.to_json() == manifest.to_json()


def test_the_json_holds_the_references_splits_with_embargo_and_folds_beside_them():
    manifest = SplitManifest([_split("FIT", 0, 1440)], embargo_minutes=60, walk_forward_folds=2)
    assert json.loads(manifest.to_json()) == {
        "embargo_minutes": 60,
        "splits": [{"split_id": "FIT", "start": "2026-02-01T00:00:00+00:00", "end": "2026-02-02T00:00:00+00:00"}],
        "walk_forward_folds": 2,
    }


def test_the_same_splits_written_in_two_ways_are_the_same_bytes():
    one = SplitManifest(parse_splits("FIT:2026-02-01..2026-02-02,TUNE:2026-02-02..2026-02-03"), 10, 2)
    two = SplitManifest(parse_splits(" FIT:2026-02-01T00:00..2026-02-02T01:00+01:00 ,TUNE:2026-02-02T00:00Z..2026-02-03"), 10, 2)
    assert one.to_json() == two.to_json()


@pytest.mark.parametrize("change", [{"embargo_minutes": 11}, {"walk_forward_folds": 3}])
def test_another_embargo_or_number_of_folds_is_other_bytes(change):
    arguments = {"embargo_minutes": 10, "walk_forward_folds": 2}
    splits = [_split("FIT", 0, 1440)]
    assert SplitManifest(splits, **arguments).to_json() != SplitManifest(splits, **(arguments | change)).to_json()
