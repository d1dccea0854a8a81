"""The validation lock: what VALIDATION_LOCKED has published, who changed it and who looked at it.

Each locked date's rows have a hash in split/validation_lock.json once they are published; a build that would publish
others is refused until an amendment accepts them (relock.py). A look is a read of locked rows. The file holds no clock,
host or path. On a disk runs that share a store take turns at it; on an object store only one may write at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from feature_assets.dataset.examination import last_examination
from feature_assets.dataset.keys import Key
from feature_assets.dataset.store import FEATURE_FRAME, SPLIT_MANIFEST, SPLIT_MANIFEST_FILE, Refusal, Store
from feature_assets.dataset.tables import content_hash
from feature_assets.errors import LockError, MissingInputError, SettingError, StoreError
from feature_assets.splits.manifest import VALIDATION_LOCKED, SplitManifest, parse_time

LOCK_FILE = "split/validation_lock.json"
VALIDATION_LOCK = "validation_lock"
_RELOCK = "`feature-assets relock --reason TEXT` accepts the present state"


@dataclass(frozen=True)
class Lock:
    """validation_lock.json.

    boundaries: start and end of VALIDATION_LOCKED, None where there was none. dates: the hash of each date's locked rows;
    it is empty where an amendment has accepted that there are none and the date has not been built since. amendments and
    looks: the two ledgers, each entry with its number and reason.
    """

    boundaries: dict[str, str] | None = None
    dates: dict[str, str] = field(default_factory=dict)
    amendments: list[dict[str, Any]] = field(default_factory=list)
    looks: list[dict[str, Any]] = field(default_factory=list)


def read_lock(store: Store) -> Lock:
    """The store's lock, an empty one where there is none; raises LockError where its file cannot be read."""
    data = store.read_bytes(LOCK_FILE)
    if data is None:
        return Lock()
    try:
        return Lock(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise LockError(
            f"{store.path(LOCK_FILE)}: not readable: {error}. Restore it; without it nothing says which locked rows changed."
        ) from error


def write_lock(store: Store, lock: Lock) -> None:
    """Replace the file; for whoever has read it within `held`."""
    store.write_bytes(LOCK_FILE, (json.dumps(asdict(lock), indent=2, sort_keys=True) + "\n").encode())


@contextlib.contextmanager
def held(store: Store, splits: SplitManifest | None = None) -> Iterator[None]:
    """Take a turn at the lock. Where `splits` lock nothing and there is no lock, there is nothing to wait for."""
    if splits and not splits.locked and not store.exists(LOCK_FILE):
        yield
        return
    with store.exclusive(LOCK_FILE):
        yield


def boundaries(splits: SplitManifest) -> dict[str, str] | None:
    """Start and end of VALIDATION_LOCKED as the lock holds them."""
    locked = splits.locked
    return {"start": locked.start.isoformat(), "end": locked.end.isoformat()} if locked else None


def hidden_from(store: Store, splits: SplitManifest) -> int | None:
    """The milliseconds since the epoch from which on no row's values may be shown: the start of VALIDATION_LOCKED.

    The earlier of these splits' and of the lock's, as SPLITS may have been moved; None where nothing is locked.
    """
    lock = read_lock(store)
    starts = [splits.locked.start] if splits.locked else []
    if lock.dates and lock.boundaries:
        starts.append(parse_time(lock.boundaries["start"]))
    return min(int(start.timestamp()) * 1000 for start in starts) if starts else None


def locked_hash(table: pa.Table) -> str:
    """The content hash of a frame's locked rows, all columns; empty where there are none."""
    # Asked first, as nearly every date has none, and to filter a table for nothing takes as long as to write a symbol's day.
    if not pc.any(pc.equal(table["split_id"], VALIDATION_LOCKED)).as_py():
        return ""
    return content_hash(locked_rows(table))


def locked_rows(table: pa.Table) -> pa.Table:
    """The rows of a frame in VALIDATION_LOCKED."""
    return table.filter(pc.equal(table["split_id"], VALIDATION_LOCKED))


# What a build asks and notes


def expected_hash(store: Store, key: Key) -> str | None:
    """The hash that a date's locked rows must have, empty for no rows; None where the date may be added.

    A date that is published and not in the lock, as a build was stopped in between, counts by its file.
    """
    dates = read_lock(store).dates
    if str(key) in dates:
        return dates[str(key)]
    return _published_hash(store, key) or None


def lock_input(store: Store, key: Key) -> dict[str, str]:
    """What of the lock a date's refusal hangs on: once it has changed, the date is worth another try."""
    expected = expected_hash(store, key)
    return {} if expected is None else {VALIDATION_LOCK: expected}


def broken_lock(store: Store, key: Key, found: str, splits: SplitManifest) -> list[str]:
    """Why a frame with these locked rows, of these splits, may not be published, a sentence each; nothing where it may."""
    broken = []
    lock, expected = read_lock(store), expected_hash(store, key)
    if lock.dates and lock.boundaries != boundaries(splits):
        broken.append(
            f"the split manifest has {_text(boundaries(splits))}, {LOCK_FILE} has {_text(lock.boundaries)}; materialize "
            f"{SPLIT_MANIFEST} first."
        )
    if expected is not None and expected != found:
        broken.append(
            f"locked rows would change: the hash of the date's {VALIDATION_LOCKED} rows would be {found or 'that of no rows'}, "
            f"locked is {expected or 'that of no rows'}. {_RELOCK}."
        )
    return broken


def note(store: Store, key: Key, found: str, splits: SplitManifest) -> None:
    """Put a date that was published with these locked rows into the lock; within `held`."""
    lock = read_lock(store)
    dates = {date: known for date, known in {**lock.dates, str(key): found}.items() if known or date != str(key)}
    if dates != lock.dates:
        write_lock(store, replace(lock, dates=dates, boundaries=lock.boundaries if lock.dates else boundaries(splits)))


def note_published(store: Store, hashes: Mapping[Key, str]) -> None:
    """Put published locked dates into the lock that a build was stopped before noting; hashes: of all frames' locked rows."""
    published = {str(key): found for key, found in hashes.items() if found}
    if not set(published) - set(read_lock(store).dates):
        return
    with held(store):
        known = read_lock(store).dates
        splits = SplitManifest.from_json(store.read_splits())
        for date in sorted(set(published) - set(known)):
            note(store, Key.parse(date), published[date], splits)


def locked_dates(store: Store) -> dict[str, str]:
    """The hash of every locked date, in the lock or published without having been noted."""
    return dict(sorted({**_published_hashes(store), **read_lock(store).dates}.items()))


def _published_hash(store: Store, key: Key) -> str:
    # A file that is no longer readable says nothing; the next build replaces it.
    with contextlib.suppress(StoreError):
        footer = store.footer(FEATURE_FRAME, key)
        return footer.locked_hash if footer else ""
    return ""


def _published_hashes(store: Store) -> dict[str, str]:
    contents = last_examination(store).contents(store)
    return {str(key): content.locked_hash for key, content in contents.items() if content and content.locked_hash}


# The boundaries


def publish_splits(store: Store, splits: SplitManifest) -> bytes:
    """Publish the split manifest and give its bytes.

    Raises LockError, leaving the last one and a marker that stops the frames, where VALIDATION_LOCKED has moved.
    """
    with held(store, splits):
        if why := moved(store, splits):
            store.refuse(SPLIT_MANIFEST, None, Refusal(VALIDATION_LOCK, why), None)
            raise LockError(f"{SPLIT_MANIFEST}: {why}")
        data = splits.to_json()
        store.write_bytes(SPLIT_MANIFEST_FILE, data)
        store.accept(SPLIT_MANIFEST, None)
        return data


def moved(store: Store, splits: SplitManifest) -> str:
    """Why these splits may not be published: their VALIDATION_LOCKED is not that of the locked dates; else empty."""
    before, now = known_boundaries(store), boundaries(splits)
    if before == now or not (dates := locked_dates(store)):
        return ""
    return (
        f"SPLITS has {_text(now)}, but {len(dates)} date(s) from {min(dates)} to {max(dates)} are locked with {_text(before)}. "
        f"Put SPLITS back; or {_RELOCK}."
    )


def known_boundaries(store: Store) -> dict[str, str] | None:
    """Of the lock or, where it has no dates yet, of the split manifest that the published frames were built with."""
    lock = read_lock(store)
    return lock.boundaries if lock.dates else _stored_boundaries(store)


def splits_are_due(store: Store, splits: SplitManifest) -> bool:
    """Whether the split manifest is missing, or was refused or overtaken by an amendment and these splits may be published."""
    refused = store.refusal(SPLIT_MANIFEST, None) is not None
    if not refused and not store.exists(SPLIT_MANIFEST_FILE):
        return True
    overtaken = known_boundaries(store) != _stored_boundaries(store)
    return (refused or overtaken) and not moved(store, splits)


def _stored_boundaries(store: Store) -> dict[str, str] | None:
    data = store.read_bytes(SPLIT_MANIFEST_FILE)
    with contextlib.suppress(SettingError):
        return boundaries(SplitManifest.from_json(data)) if data is not None else None
    return None


def _text(bounds: Mapping[str, str] | None) -> str:
    return f"{VALIDATION_LOCKED} {bounds['start']}..{bounds['end']}" if bounds else f"no {VALIDATION_LOCKED}"


# The ledgers


def read_locked(root: str, reason: str) -> pa.Table:
    """All published rows of VALIDATION_LOCKED under a root, by date, symbol and minute, once the look is in the ledger.

    Two looks at the same rows are two entries. Raises SettingError for an empty reason, MissingInputError where nothing
    is locked, and StoreError where a frame is not as its file says.
    """
    store, text = Store(root), reason_text("reason", reason)
    with held(store, None) if store.keys(FEATURE_FRAME) else contextlib.nullcontext():
        hashes = _published_hashes(store)
        if not hashes:
            raise MissingInputError(f"{store.root}: no rows of {VALIDATION_LOCKED} are published there.")
        lock = read_lock(store)
        look = {
            "number": len(lock.looks) + 1,
            "reason": text,
            "dates": {"first": min(hashes), "last": max(hashes), "number": len(hashes)},
            "hash": hashlib.sha256("".join(f"{date} {known}\n" for date, known in hashes.items()).encode()).hexdigest(),
        }
        write_lock(store, replace(lock, looks=[*lock.looks, look]))
        tables = []
        for date, known in hashes.items():
            rows = locked_rows(store.read_table(FEATURE_FRAME, Key.parse(date)))
            if content_hash(rows) != known:
                raise StoreError(f"{store.path(store.partition_file(FEATURE_FRAME, Key.parse(date)))}: not as its footer says.")
            tables.append(rows)
    return pa.concat_tables(tables)


def reason_text(name: str, reason: str) -> str:
    """A reason as the ledgers hold it, one line; raises SettingError where nothing is left of it."""
    text = " ".join(reason.split())
    if not text:
        raise SettingError(f"{name}: it is empty; say in a few words why, for whoever reads the ledger.")
    return text


def ledger_lines(ledgers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """A line a ledger: how many entries, and the last one's reason."""
    lines = []
    for name, what in (("amendments", "accepted changes of locked rows"), ("looks", "reads of locked rows")):
        entries = ledgers[name]
        last = f", the last: {entries[-1]['reason']}" if entries else ""
        lines.append(f"{name} ({what}): {len(entries)}{last}")
    return lines
