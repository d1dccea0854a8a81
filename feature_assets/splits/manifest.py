"""The split manifest: its rules, its JSON, and which split and fold a minute belongs to."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from feature_assets.errors import SettingError
from feature_assets.market.bars import MINUTE_MS

FIT, TUNE, VALIDATION_LOCKED = "FIT", "TUNE", "VALIDATION_LOCKED"
SPLIT_IDS = (FIT, TUNE, VALIDATION_LOCKED)
EMBARGO, UNASSIGNED, NO_FOLD = "EMBARGO", "UNASSIGNED", "NO_FOLD"


@dataclass(frozen=True)
class Split:
    """A named half-open range [start, end) of UTC minutes."""

    split_id: str
    start: dt.datetime
    end: dt.datetime

    def __str__(self) -> str:
        return f"{self.split_id} {self.start.isoformat()}..{self.end.isoformat()}"


@dataclass(frozen=True)
class Segment:
    """A run of minutes [start_ms, end_ms) that share a split_id and a walk_forward_fold."""

    start_ms: int
    end_ms: int
    split_id: str
    fold: str


class SplitManifest:
    """Validated splits with their embargo and walk-forward folds.

    The last `embargo_minutes` of each split that another follows are EMBARGO. FIT, before its embargo, is cut into
    `walk_forward_folds` spans at floor(i * minutes / folds); the last `embargo_minutes` of each span but the last stay
    FIT without a fold. Raises SettingError for an unknown or repeated id, a wrong order, an overlap, an empty range,
    or a range that its embargo eats up.

    >>> day = lambda n: dt.datetime(2026, 2, n, tzinfo=dt.UTC)
    >>> manifest = SplitManifest([Split("FIT", day(1), day(2)), Split("TUNE", day(2), day(3))], 60, 2)
    >>> for s in manifest.segments:
    ...     print(s.split_id, s.fold, (s.end_ms - s.start_ms) // 60_000)
    FIT fold_01 630
    FIT NO_FOLD 60
    FIT fold_02 690
    EMBARGO NO_FOLD 60
    TUNE NO_FOLD 1440
    """

    def __init__(self, splits: Sequence[Split], embargo_minutes: int = 0, walk_forward_folds: int = 1) -> None:
        self.splits = tuple(splits)
        self.embargo_minutes = embargo_minutes
        self.walk_forward_folds = walk_forward_folds
        self._validate_each()
        self._validate_order()
        self.segments: tuple[Segment, ...] = tuple(self._segments())
        self._bounds = np.array([bound for segment in self.segments for bound in (segment.start_ms, segment.end_ms)])

    def _validate_each(self) -> None:
        for split in self.splits:
            if split.split_id not in SPLIT_IDS:
                raise SettingError(f"SPLITS: unknown split {split.split_id!r}; expected {', '.join(SPLIT_IDS)}.")
            if split.start >= split.end:
                raise SettingError(f"SPLITS: {split} is empty; its end must be after its start.")
            if split.start.second or split.start.microsecond or split.end.second or split.end.microsecond:
                raise SettingError(f"SPLITS: {split} does not begin and end on a minute.")

    def _validate_order(self) -> None:
        for first, second in pairwise(self.splits):
            if first.split_id == second.split_id:
                raise SettingError(f"SPLITS: {first.split_id} is there twice: {first} and {second}; give it once.")
            if SPLIT_IDS.index(first.split_id) > SPLIT_IDS.index(second.split_id):
                raise SettingError(f"SPLITS: {second} comes after {first}; the order is {', '.join(SPLIT_IDS)}.")
            if first.end > second.start:
                raise SettingError(f"SPLITS: {first} overlaps {second}; a minute belongs to one split.")
        for split in self.splits[:-1]:
            if _minutes(split) <= self.embargo_minutes:
                raise SettingError(
                    f"SPLITS: {split} has {_minutes(split)} minutes, not more than EMBARGO_MINUTES={self.embargo_minutes}; "
                    "lengthen the split or shorten the embargo."
                )

    def _segments(self) -> list[Segment]:
        segments = []
        for index, split in enumerate(self.splits):
            start, end = _ms(split.start), _ms(split.end)
            followed = index + 1 < len(self.splits)
            inner_end = end - self.embargo_minutes * MINUTE_MS if followed else end
            if split.split_id == FIT:
                segments += self._folds(start, inner_end)
            else:
                segments.append(Segment(start, inner_end, split.split_id, NO_FOLD))
            segments.append(Segment(inner_end, end, EMBARGO, NO_FOLD))
        return [segment for segment in segments if segment.start_ms < segment.end_ms]

    def _folds(self, start: int, end: int) -> list[Segment]:
        minutes, folds = (end - start) // MINUTE_MS, self.walk_forward_folds
        if folds > minutes:
            raise SettingError(
                f"WALK_FORWARD_FOLDS={folds}: FIT has {minutes} minutes before its EMBARGO_MINUTES={self.embargo_minutes}; "
                "take fewer folds."
            )
        bounds = [start + (i * minutes // folds) * MINUTE_MS for i in range(folds + 1)]
        segments = []
        for number, (begin, stop) in enumerate(pairwise(bounds), start=1):
            inner = stop if number == folds else stop - self.embargo_minutes * MINUTE_MS
            if inner <= begin:
                raise SettingError(
                    f"WALK_FORWARD_FOLDS={folds}: fold {number} of FIT has {(stop - begin) // MINUTE_MS} minutes, not more "
                    f"than EMBARGO_MINUTES={self.embargo_minutes}; take fewer folds or a shorter embargo."
                )
            segments += [Segment(begin, inner, FIT, f"fold_{number:02d}"), Segment(inner, stop, FIT, NO_FOLD)]
        return segments

    @property
    def locked(self) -> Split | None:
        """VALIDATION_LOCKED; None where there is none."""
        return next((split for split in self.splits if split.split_id == VALIDATION_LOCKED), None)

    def assign(self, open_time_ms: np.ndarray) -> tuple[pa.StringArray, pa.StringArray]:
        """split_id and walk_forward_fold of each minute, in the input's order."""
        # An odd number of bounds lies at or before a minute within a segment.
        before = np.searchsorted(self._bounds, open_time_ms, side="right")
        segment = np.where(before % 2, (before + 1) // 2, 0).astype(np.int32)
        split_ids = [UNASSIGNED, *(found.split_id for found in self.segments)]
        folds = [NO_FOLD, *(found.fold for found in self.segments)]
        # Codes into names, as arrays of strings are slow to fill.
        coded = (pa.DictionaryArray.from_arrays(segment, names) for names in (split_ids, folds))
        split_id, fold = (array.cast(pa.string()) for array in coded)
        return split_id, fold

    def to_json(self) -> bytes:
        """split_manifest.json: the reference's `splits` with the embargo and the folds beside them."""
        value = {
            "embargo_minutes": self.embargo_minutes,
            "splits": [{"split_id": s.split_id, "start": s.start.isoformat(), "end": s.end.isoformat()} for s in self.splits],
            "walk_forward_folds": self.walk_forward_folds,
        }
        return (json.dumps(value, indent=2) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes) -> SplitManifest:
        """The manifest that to_json wrote; raises SettingError where it is another."""
        try:
            value = json.loads(data)
            embargo, folds = value["embargo_minutes"], value["walk_forward_folds"]
        except (ValueError, KeyError, TypeError) as error:
            raise SettingError(f"the stored split manifest is not readable ({error!r}); materialize split_manifest.") from error
        return cls(splits_from_json(value), embargo, folds)


def splits_from_json(value: Any) -> list[Split]:
    """The `splits` of a split manifest, the reference's or ours; raises SettingError where it is none."""
    try:
        entries = [(entry["split_id"], entry["start"], entry["end"]) for entry in value["splits"]]
    except (KeyError, TypeError) as error:
        raise SettingError(
            f'SPLITS: the file is no split manifest ({error!r}); expected {{"splits": [{{"split_id", "start", "end"}}]}}.'
        ) from error
    return [Split(str(name), parse_time(str(start)), parse_time(str(end))) for name, start, end in entries]


def parse_splits(text: str) -> list[Split]:
    """Splits written as `FIT:2025-01-01..2025-01-04,TUNE:2025-01-04..2025-01-05`."""
    splits = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        split_id, colon, bounds = part.partition(":")
        start, dots, end = bounds.partition("..")
        if not colon or not dots:
            raise SettingError(f"SPLITS: {part!r} is not of the form ID:START..END, e.g. FIT:2025-01-01..2025-01-04.")
        splits.append(Split(split_id, parse_time(start), parse_time(end)))
    return splits


def parse_time(text: str) -> dt.datetime:
    """An ISO date or time, in UTC where it names no zone."""
    try:
        time = dt.datetime.fromisoformat(text)
        return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise SettingError(f"SPLITS: {text!r} is no ISO date or time, e.g. 2025-01-01 or 2025-01-01T12:00.") from error


def _ms(time: dt.datetime) -> int:
    return int(time.timestamp()) * 1000


def _minutes(split: Split) -> int:
    return (_ms(split.end) - _ms(split.start)) // MINUTE_MS
