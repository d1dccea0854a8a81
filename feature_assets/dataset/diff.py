"""What differs between two stores, or between a store and a folder that the reference wrote.

Here it is decided which partitions are compared and what of them counts; table_diff.py compares two tables, diff_text.py
says it. Two stores differ where their content does: footers are read first, tables where their content hashes differ.
What a partition was made of and by is told, and counts for nothing. A frame and the reference's differ beyond the
contract's tolerances; of its clause on rows with a look-back beyond seven days nothing is known here.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from feature_assets.dataset.feature_manifest import ORDER_FILE, SCHEMA_FILE
from feature_assets.dataset.keys import Key
from feature_assets.dataset.reference import FRAME_FILE, ReferenceFolder
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SPLIT_MANIFEST_FILE, STORE_FILE, SYMBOL_FEATURES, Store
from feature_assets.dataset.table_diff import Allowance, ColumnDiff, TableDiff, compare_tables
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets.errors import FeatureAssetsError, MissingInputError, SettingError, StoreError
from feature_assets.quality.parity import AFTER_AN_EXTREME_BAR, TOLERANCES, within_tolerance
from feature_assets.splits.manifest import VALIDATION_LOCKED, SplitManifest

LAYERS = (REPLAY, SYMBOL_FEATURES, FEATURE_FRAME)
SIDES = ("A", "B")

_NAMED = 3
"""Inputs of a partition that are named."""

_PROGRESS = logging.getLogger("feature_assets.progress")


@dataclass(frozen=True)
class PartitionDiff:
    """A partition that differs: how its tables do or, in `problem`, why they could not be compared."""

    key: Key
    problem: str = ""
    table: TableDiff = field(default_factory=TableDiff)


@dataclass
class LayerDiff:
    """What was found of one layer.

    same: partitions of the same content; other_bytes: those of them whose files differ all the same. only: those that
    A, and that B has alone. problems: what keeps a whole side from being compared, or differs in all its rows. columns:
    those with a difference, allowed ones too. other_inputs, other_code: how many partitions have other ones on the two
    sides, with the first of them and what it is.
    """

    asset: str
    same: int = 0
    other_bytes: int = 0
    changed: list[PartitionDiff] = field(default_factory=list)
    only: tuple[list[Key], list[Key]] = field(default_factory=lambda: ([], []))
    problems: list[str] = field(default_factory=list)
    columns: dict[str, ColumnDiff] = field(default_factory=dict)
    other_inputs: int = 0
    first_inputs: str = ""
    other_code: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def differs(self) -> bool:
        return bool(self.changed or any(self.only) or self.problems)

    @property
    def partitions(self) -> int:
        return self.same + len(self.changed) + sum(map(len, self.only))

    def add(self, key: Key, table: TableDiff, *, same: bool) -> None:
        for name, column in table.columns.items():
            self.columns[name] = self.columns[name] + column if name in self.columns else column
        if same:
            self.same += 1
        else:
            self.changed.append(PartitionDiff(key, table=table))


@dataclass
class Diff:
    """What was found. libraries: the programs that each side's files name as their writers. reference: which side is a
    reference's folder. notes: what is worth saying and is no difference.
    """

    roots: tuple[str, str]
    layers: list[LayerDiff] = field(default_factory=list)
    libraries: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))
    reference: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not any(layer.differs for layer in self.layers)


def compare_roots(roots: tuple[str, str], start: dt.date | None = None, end: dt.date | None = None) -> Diff:
    """Compare the dates of [start, end), or all.

    Raises SettingError where a root is neither a store nor a reference's folder, where both are such folders, and where
    there is nothing to compare.
    """
    (left, left_is_store), (right, right_is_store) = (
        _open(f"ROOT_{side}", root) for side, root in zip(SIDES, roots, strict=True)
    )
    if not (left_is_store or right_is_store):
        raise SettingError(f"ROOT_A, ROOT_B: {left.root} and {right.root} are both folders of the reference; give a store.")
    comparison = _Comparison((left, right), start, end)
    if left_is_store and right_is_store:
        comparison.compare_stores()
    else:
        comparison.compare_with_reference(0 if right_is_store else 1)
    found = comparison.found
    if not found.layers or not any(layer.partitions or layer.problems for layer in found.layers):
        raise SettingError(
            f"ROOT_A, ROOT_B: neither {left.root} nor {right.root} has a partition"
            f"{f' from {start}' if start else ''}{f' up to the day before {end}' if end else ''}; there is nothing to compare."
        )
    return found


def _open(name: str, root: str) -> tuple[Store, bool]:
    """The folder, and whether it is a store."""
    try:
        folder = Store(root)
        if folder.exists(STORE_FILE) or any(folder.keys(asset) for asset in LAYERS):
            return folder, True
        if folder.exists(FRAME_FILE):
            return folder, False
    except (StoreError, OSError) as error:
        raise SettingError(f"{name}: {str(error).removeprefix('ROOT: ')}") from error
    raise SettingError(
        f"{name}: {folder.root} is neither a store ({STORE_FILE}, or partitions of {', '.join(LAYERS)}) nor a folder that the "
        f"reference wrote ({FRAME_FILE}); give one of them."
    )


class _Comparison:
    def __init__(self, folders: tuple[Store, Store], start: dt.date | None, end: dt.date | None) -> None:
        self._folders, self._start, self._end = folders, start, end
        self.found = Diff((folders[0].root, folders[1].root))

    def _inside(self, date: dt.date) -> bool:
        return (self._start is None or self._start <= date) and (self._end is None or date < self._end)

    def _keys(self, folder: Store, asset: str) -> set[Key]:
        try:
            return {key for key in folder.keys(asset) if self._inside(key.date)}
        except OSError as error:
            raise StoreError(f"{folder.path(asset)}: cannot be listed: {error}.") from error

    # Two stores

    def compare_stores(self) -> None:
        locks = _Locks(self._folders)
        for asset in LAYERS:
            layer = LayerDiff(asset)
            self.found.layers.append(layer)
            keys = [self._keys(folder, asset) for folder in self._folders]
            every = sorted(keys[0] | keys[1], key=str)
            for done, key in enumerate(every, start=1):
                if key in keys[0] and key in keys[1]:
                    self._compare_partition(layer, key, locks)
                else:
                    layer.only[0 if key in keys[0] else 1].append(key)
                _PROGRESS.info("%s %d/%d", asset, done, len(every))
            hidden = any(partition.table.changed for partition in layer.changed) and asset != FEATURE_FRAME
            if hidden and locks.unknown:
                self.found.notes.append(
                    f"{', '.join(locks.unknown)}: no readable split manifest, so any value of {asset} may be locked"
                )

    def _compare_partition(self, layer: LayerDiff, key: Key, locks: _Locks) -> None:
        footers, problems = [], []
        for side, folder, libraries in zip(SIDES, self._folders, self.found.libraries, strict=True):
            try:
                metadata, footer = _footer(folder, layer.asset, key)
            except FeatureAssetsError as error:
                problems.append(f"{side}: {error}")
                continue
            libraries.add(metadata.created_by)
            footers.append((metadata, footer))
        if problems:
            layer.changed.append(PartitionDiff(key, " ".join(problems)))
            return
        (left_metadata, left), (right_metadata, right) = footers
        _compare_making(layer, key, left, right)
        if left.content_hash == right.content_hash:
            layer.same += 1
            layer.other_bytes += not left_metadata.equals(right_metadata)
            return
        tables = []
        for side, folder in zip(SIDES, self._folders, strict=True):
            try:
                tables.append(_sound_table(folder, layer.asset, key))
            except FeatureAssetsError as error:
                problems.append(f"{side}: {error}")
        if problems:
            layer.changed.append(PartitionDiff(key, " ".join(problems)))
            return
        (left_table, left_hash), (right_table, right_hash) = tables
        lock = partial(locks.locked, layer.asset, key.date)
        table = compare_tables(left_table, right_table, key.symbol, lock, None)
        layer.add(key, table, same=left_hash == right_hash)  # a build may have replaced a file since its footer was read

    # A store and a reference

    def compare_with_reference(self, position: int) -> None:
        """`position` is the reference's: 0 for A, 1 for B."""
        self.found.reference = SIDES[position]
        store, folder = self._folders[1 - position], self._folders[position]
        layer = LayerDiff(FEATURE_FRAME)
        self.found.layers.append(layer)
        try:
            reference = ReferenceFolder(folder)
            layer.problems += reference.notes
            self._compare_frames(layer, store, reference, position)
        except StoreError as error:
            layer.problems.append(f"{SIDES[position]}: {error} What was not read is not compared.")
        for name, file in (("feature_order.json", ORDER_FILE), ("feature_schema.json", SCHEMA_FILE)):
            files = [store.read_bytes(file), folder.read_bytes(name)]
            if None not in files and files[0] != files[1]:
                layer.problems.append(f"{store.path(file)} is not byte-equal to {folder.path(name)}")

    def _compare_frames(self, layer: LayerDiff, store: Store, reference: ReferenceFolder, position: int) -> None:
        self.found.libraries[position].add(reference.created_by)
        stored = {key.date: key for key in self._keys(store, FEATURE_FRAME)}
        wanted = {date for date in reference.dates if self._inside(date)}
        layer.only[position].extend(Key(date) for date in sorted(wanted - stored.keys()))
        readable = {date for date in sorted(stored) if self._look_at(layer, store, stored[date], wanted, position)}
        locks, allowance = _Locks([store]), _allowance(reference, position)
        common = sorted(readable & wanted)
        for done, (date, expected) in enumerate(reference.tables(common), start=1):
            key = stored[date]
            try:
                found = _sound_table(store, FEATURE_FRAME, key)[0].select(reference.columns)
            except (FeatureAssetsError, KeyError) as error:
                layer.changed.append(PartitionDiff(key, f"{SIDES[1 - position]}: {error}"))
                continue
            tables = [_nan_for_null(found), _nan_for_null(expected)]
            left, right = tables if position == 1 else reversed(tables)
            lock = partial(locks.locked, FEATURE_FRAME, date)
            table = compare_tables(left, right, None, lock, allowance)
            layer.add(key, table, same=table.same)
            _PROGRESS.info("%s %d/%d", FEATURE_FRAME, done, len(common))

    def _look_at(self, layer: LayerDiff, store: Store, key: Key, wanted: set[dt.date], position: int) -> bool:
        """Whether a stored frame's footer is readable. One without rows is as good as none: the reference has no empty dates."""
        try:
            metadata, _ = _footer(store, FEATURE_FRAME, key)
        except FeatureAssetsError as error:
            layer.changed.append(PartitionDiff(key, f"{SIDES[1 - position]}: {error}"))
            return False
        self.found.libraries[1 - position].add(metadata.created_by)
        if key.date not in wanted:
            if metadata.num_rows:
                layer.only[1 - position].append(key)
            else:
                layer.same += 1
        return True


def _footer(folder: Store, asset: str, key: Key) -> tuple[pq.FileMetaData, Footer]:
    found = folder.parquet_footer(asset, key)
    if found is None:
        raise MissingInputError(f"{folder.path(folder.partition_file(asset, key))}: it was there and is gone.")
    return found


def _sound_table(folder: Store, asset: str, key: Key) -> tuple[pa.Table, str]:
    """A partition's table and its content hash; raises StoreError where it is not readable or not what its footer says."""
    table, footer = folder.read(asset, key)
    found = content_hash(table)
    if found != footer.content_hash:
        raise StoreError(
            f"{folder.path(folder.partition_file(asset, key))}: the content hash is {found}, the footer says "
            f"{footer.content_hash}. Build {asset} {key} again."
        )
    return table, found


def _compare_making(layer: LayerDiff, key: Key, left: Footer, right: Footer) -> None:
    """Take down other inputs and another code version; that of the same content counts for nothing."""
    if left.inputs != right.inputs:
        layer.other_inputs += 1
        other = sorted(name for name in {*left.inputs, *right.inputs} if left.inputs.get(name) != right.inputs.get(name))
        named = f"{', '.join(other[:_NAMED])}{' and others' if len(other) > _NAMED else ''}"
        layer.first_inputs = layer.first_inputs or f"{key}: {named}"
    if left.code_version != right.code_version:
        layer.other_code[left.code_version, right.code_version] += 1


def _nan_for_null(table: pa.Table) -> pa.Table:
    """As pandas writes NaN as null."""
    columns = [
        column.fill_null(np.nan) if pa.types.is_floating(column.type) and column.null_count else column
        for column in table.columns
    ]
    return pa.table(columns, schema=table.schema)


def _allowance(reference: ReferenceFolder, position: int) -> Allowance:
    """The contract's tolerances; after a symbol's first extreme bar the wider ones."""

    def allowance(name: str, rows: pd.DataFrame, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        found, expected = (left, right) if position == 1 else (right, left)
        first = rows["symbol"].map(reference.extreme).to_numpy(dtype=float, na_value=np.inf)
        wide, narrow = AFTER_AN_EXTREME_BAR.get(name, 0.0), TOLERANCES.get(name, 0.0)
        return within_tolerance(found, expected, np.where(rows["minute"].to_numpy() >= first, wide, narrow))

    return allowance


class _Locks:
    """Which minutes are of the locked split, on any side: by its split manifest, or by its frame of the date."""

    def __init__(self, stores: Sequence[Store]) -> None:
        self._stores = stores
        self._manifests: list[SplitManifest] = []
        self.unknown: list[str] = []
        for store in stores:
            try:
                self._manifests.append(SplitManifest.from_json(store.read_bytes(SPLIT_MANIFEST_FILE) or b""))
            except (FeatureAssetsError, OSError):
                self.unknown.append(store.path(SPLIT_MANIFEST_FILE))

    def locked(self, asset: str, date: dt.date, minutes: np.ndarray) -> np.ndarray:
        """Where a side's split manifest is not known, every minute may be locked; a frame's rows say it themselves."""
        if self.unknown and asset != FEATURE_FRAME:
            return np.ones(len(minutes), dtype=bool)
        spans = [
            (segment.start_ms, segment.end_ms)
            for manifest in self._manifests
            for segment in manifest.segments
            if segment.split_id == VALIDATION_LOCKED
        ]
        spans += [span for store in self._stores if (span := _locked_in_frame(store, date))]
        locked = np.zeros(len(minutes), dtype=bool)
        for start, end in spans:
            locked |= (minutes >= start) & (minutes < end)
        return locked


def _locked_in_frame(store: Store, date: dt.date) -> tuple[int, int] | None:
    """From the first locked minute of a date's frame to after the last, from its footer."""
    try:
        footer = store.footer(FEATURE_FRAME, Key(date))
    except StoreError:
        return None
    if footer is None or f"first/{VALIDATION_LOCKED}" not in footer.stats:
        return None
    return footer.stats[f"first/{VALIDATION_LOCKED}"], footer.stats[f"last/{VALIDATION_LOCKED}"] + 1
