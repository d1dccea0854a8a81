"""Which frames are still as the published manifest found them: told by the stamps of files, without opening any.

The manifest leaves a mark: what has not changed since its time was examined for it. Where there is none, as on an object store,
or one of another manifest, every frame counts as changed. What is wrong with a frame is feature_manifest.py's to say.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from feature_assets.dataset.keys import ONE_DAY, Key
from feature_assets.dataset.store import FEATURE_FRAME, FEATURE_MANIFEST, REPLAY, SYMBOL_FEATURES, Stamp, Store, sha256
from feature_assets.dataset.tables import Footer
from feature_assets.errors import PartitionKeyError, StoreError
from feature_assets.features.catalogue import LOOKBACK_DAYS

MANIFEST_FILE = "dataset/feature_frame.manifest.json"
EXAMINED_FILE = "dataset/.examined"


class Content(NamedTuple):
    """What a frame holds: the hashes of its content, of its locked rows (empty for none) and of its stats."""

    content_hash: str
    locked_hash: str
    stats_sha256: str

    @classmethod
    def of(cls, footer: Footer) -> Content:
        stats = json.dumps(footer.stats, sort_keys=True).encode()
        return cls(footer.content_hash, footer.locked_hash, sha256(stats))


@dataclass(frozen=True)
class Examination:
    """The manifest that was published last, and the frames that there are now.

    manifest: empty where none is published. named: what it names, the frames' contents when it was made. marked: whether there
    is a mark of it. there: the frames' stamps, by date. changed: those of which the file, or a file or refusal that they stand
    on, may have changed since; all where there is no mark.
    """

    manifest: Mapping[str, Any]
    named: Mapping[Key, Content]
    marked: bool
    there: Mapping[Key, Stamp]
    changed: set[Key]

    def contents(self, store: Store) -> dict[Key, Content | None]:
        """What each frame there is holds, None where it cannot be read; the footers of changed ones are opened for it."""
        return {key: _stored(store, key) if key in self.changed else self.named.get(key) for key in self.there}

    def mark(self, since: int, manifest: bytes) -> bytes:
        """What EXAMINED_FILE holds once this manifest is published that was made of these frames, from this time on."""
        frames = {str(key): stamp for key, stamp in self.there.items()}
        return json.dumps({"manifest": sha256(manifest), "since": since, "frames": frames}).encode()


def last_examination(store: Store) -> Examination:
    """How the published manifest and the stored frames stand to each other."""
    there = store.stamps(FEATURE_FRAME)
    data = store.read_bytes(MANIFEST_FILE) if store.refusal(FEATURE_MANIFEST, None) is None else None
    manifest, named = _object(data), {}
    try:
        for entry in manifest.get("partitions", []):
            named[Key.parse(str(entry["date"]))] = Content(*(entry[name] for name in Content._fields))
    except (KeyError, TypeError, PartitionKeyError):
        # Of an older version, or no manifest at all.
        manifest, named = {}, {}
    mark = _object(store.read_bytes(EXAMINED_FILE))
    since, stamps = mark.get("since"), mark.get("frames")
    if not manifest or not since or not stamps or mark["manifest"] != sha256(data or b""):
        return Examination(manifest, named, marked=False, there=there, changed=set(there))
    changed = {key for key, stamp in there.items() if stamps.get(str(key)) != list(stamp)}
    changed |= {*store.changed(FEATURE_FRAME, since, there)}
    changed |= {Key(key.date) for key in store.changed(SYMBOL_FEATURES, since)}
    changed |= {Key(key.date + days * ONE_DAY) for key in store.changed(REPLAY, since) for days in range(LOOKBACK_DAYS + 1)}
    return Examination(manifest, named, marked=True, there=there, changed=changed)


def _object(data: bytes | None) -> dict[str, Any]:
    """A file of one JSON object, an empty one where there is no such thing in it."""
    with contextlib.suppress(ValueError):
        found = json.loads(data or b"{}")
        return found if isinstance(found, dict) else {}
    return {}


def _stored(store: Store, key: Key) -> Content | None:
    with contextlib.suppress(StoreError):
        if footer := store.footer(FEATURE_FRAME, key):
            return Content.of(footer)
    return None
