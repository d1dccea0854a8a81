"""The feature manifest: what the stored frame consists of, summed up from its files' footers."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from feature_assets import quality
from feature_assets.dataset import frame_sample, lock
from feature_assets.dataset.examination import EXAMINED_FILE, MANIFEST_FILE, Content, Examination, last_examination
from feature_assets.dataset.feature_frame import frame_code_version
from feature_assets.dataset.frame_sample import FrameSample, add_stats
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.outcomes import Check
from feature_assets.dataset.store import (
    FEATURE_FRAME,
    FEATURE_MANIFEST,
    SPLIT_MANIFEST_FILE,
    SYMBOL_FEATURES,
    Refusal,
    Store,
    sha256,
)
from feature_assets.dataset.symbol_features import features_code_version
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets.dataset.threads import in_order
from feature_assets.dataset.version import code_version
from feature_assets.errors import FeatureAssetsError, MissingInputError
from feature_assets.features.catalogue import (
    FEATURE_VERSION,
    FEATURES,
    FLAGS,
    LOOKBACK_DAYS,
    LOOKBACK_ROWS,
    feature_order_hash,
    feature_order_json,
    feature_schema_hash,
    feature_schema_json,
)
from feature_assets.market.bars import INPUT_GROUPS, day_start_ms
from feature_assets.quality.report import utc_text
from feature_assets.settings import Settings
from feature_assets.splits.manifest import VALIDATION_LOCKED

MATCHES_STORE = "matches_store"
ORDER_FILE, SCHEMA_FILE = "dataset/feature_order.json", "dataset/feature_schema.json"
SAMPLE_FILE = "dataset/frame_sample.parquet"


def build_feature_manifest(store: Store, settings: Settings) -> tuple[dict[str, Any], Check]:
    """Work the manifest out of the stored frames, check it against them, and publish it with order, schema and sample.

    Dates that the last manifest names, and of which no file has changed since, are not read again. Gives the manifest
    and the check matches_store; where that fails nothing is published and a marker is left. Raises MissingInputError
    where no frame exists.
    """
    began = store.clock("dataset")
    before = last_examination(store)
    contents = before.contents(store)
    lock.note_published(store, {key: content.locked_hash for key, content in contents.items() if content})
    found = _examine(store, settings, contents, before)
    if not found.check.passed:
        store.refuse(FEATURE_MANIFEST, None, Refusal(MATCHES_STORE, found.check.message), None)
        return found.manifest, found.check
    store.write_bytes(ORDER_FILE, feature_order_json())
    store.write_bytes(SCHEMA_FILE, feature_schema_json())
    store.write_bytes(SAMPLE_FILE, found.sample)
    data = _to_json(found.manifest)
    store.write_bytes(MANIFEST_FILE, data)
    store.accept(FEATURE_MANIFEST, None)
    if began is not None:
        store.write_bytes(EXAMINED_FILE, before.mark(began, data))
    return found.manifest, found.check


def examine_store(store: Store, settings: Settings) -> Check:
    """The check matches_store on every stored frame; writes nothing. Raises MissingInputError where no frame exists."""
    return _examine(store, settings, last_examination(store).contents(store), None).check


@dataclass
class _Examined:
    """What an examination came to; sample: the bytes of SAMPLE_FILE."""

    manifest: dict[str, Any]
    sample: bytes
    check: Check


@dataclass(frozen=True)
class _Last:
    """The examination before: its manifest's entries by date, its sample, and the frames that may have changed since."""

    entries: dict[str, dict[str, Any]]
    sample: FrameSample
    changed: set[Key]


def _last(
    store: Store, before: Examination, contents: Mapping[Key, Content | None], examined_with: Mapping[str, str]
) -> _Last | None:
    """What the published manifest vouches for; None where a date of it holds something else now: counts cannot be taken back.

    None, too, where it was examined with other code or settings, or where its mark or its sample is not there.
    """
    if not before.marked or before.manifest.get("examined_with") != examined_with:
        return None
    if any(contents.get(key) != content for key, content in before.named.items()):
        return None
    data = store.read_bytes(SAMPLE_FILE) or b""
    if sha256(data) != before.manifest.get("sample_sha256"):
        return None
    entries = {entry["date"]: entry for entry in before.manifest["partitions"]}
    return _Last(entries, FrameSample.from_parquet(data), before.changed)


def _examined_with(store: Store, settings: Settings) -> dict[str, str]:
    """The versions and settings that every date of the frame has to be of, and from when on its rows are hidden."""
    return {
        "feature_frame": frame_code_version(),
        "symbol_features": features_code_version(settings.options),
        "split_manifest": sha256(store.read_bytes(SPLIT_MANIFEST_FILE) or b""),
        "this": code_version(sys.modules[__name__], frame_sample, quality),
        "hidden_from": str(lock.hidden_from(store, settings.splits)),
        "symbols": ",".join(sorted(f"{symbol.name}:{symbol.begin or ''}..{symbol.end or ''}" for symbol in settings.symbols)),
    }


def _examine(store: Store, settings: Settings, contents: Mapping[Key, Content | None], before: Examination | None) -> _Examined:
    keys = list(contents)
    if not keys:
        raise MissingInputError("feature_manifest: there is no feature_frame partition at all; build one first.")
    examined_with = _examined_with(store, settings)
    last = _last(store, before, contents, examined_with) if before else None
    known, sample = (last.entries, last.sample) if last else ({}, FrameSample())
    hidden_from = lock.hidden_from(store, settings.splits)
    to_read = [key for key in keys if last is None or str(key) not in known or key in last.changed]
    entries, footers, broken = dict(known), {}, []
    for key, found in zip(to_read, in_order(partial(_read, store, key) for key in to_read), strict=True):
        broken += found.broken
        if found.table is not None and found.footer is not None:
            entries[str(key)], footers[key] = found.entry, found.footer
            if Content.of(found.footer) != contents[key]:
                broken.append(f"feature_frame {key} was built again meanwhile; build {FEATURE_MANIFEST} again.")
            if str(key) not in known:
                sample.add(found.table, hidden_from)
                hidden = hidden_from is not None and day_start_ms(key.date + ONE_DAY) > hidden_from
                add_stats(sample.sums, found.footer.stats, hidden=hidden)
    # What the last manifest vouches for is of the versions and members there are now: they are among what it was examined with.
    broken += _of_other_code(store, settings, list(footers.values()))
    if len({footer.inputs.get("split_manifest") for footer in footers.values()}) > 1:
        broken.append("the dates were built with different split manifests; build the range again.")
    if {footer.code_version for footer in footers.values()} - {frame_code_version()}:
        broken.append("the dates were built by different code or feature versions; build the range again.")
    held = lock.read_lock(store)
    broken += _not_as_locked(contents, held)
    broken += _not_members(footers, settings)
    broken += [f"{name} is no file of a build, but readers take its rows; take it away." for name in store.strays(FEATURE_FRAME)]
    data = sample.to_parquet()
    manifest = _manifest([entries[date] for date in sorted(entries)], sample, settings) | {
        "sample_sha256": sha256(data),
        "amendments": held.amendments,
        "amendment_count": len(held.amendments),
        "looks": held.looks,
        "look_count": len(held.looks),
        "examined_with": examined_with,
    }
    # What stops all dates alike is said once.
    broken = list(dict.fromkeys(broken))
    rest = f"; {len(keys) - len(to_read)} of them have not changed since the last manifest" if last else ""
    message = " ".join(broken) or f"{len(keys)} dates match their files' hashes, and so do the inputs they name{rest}."
    return _Examined(manifest, data, Check(MATCHES_STORE, not broken, message, details={"offending": broken} if broken else {}))


class _Found(NamedTuple):
    """A date's entry, footer and table, where its file can be read, and what is wrong with it."""

    entry: dict[str, Any]
    footer: Footer | None
    table: pa.Table | None
    broken: list[str]


def _read(store: Store, key: Key) -> _Found:
    """Read a date's bytes, once, and hold them against what its footer and its inputs say."""
    broken = []
    data = store.read_bytes(store.partition_file(FEATURE_FRAME, key)) or b""
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        footer = Footer.from_metadata(table.schema.metadata or {})
    except (pa.ArrowException, KeyError, ValueError) as error:
        return _Found({}, None, None, [f"feature_frame {key} is not readable: {error}. Build it again."])
    found = content_hash(table)
    if found != footer.content_hash:
        broken.append(f"feature_frame {key}: the file's content hash is {found}, its footer says {footer.content_hash}.")
    try:
        store.input_hash(f"{FEATURE_FRAME}/{key}")
    except FeatureAssetsError as error:
        broken.append(str(error))
    entry = {"date": str(key), "file_sha256": sha256(data), "size_bytes": len(data), **Content.of(footer)._asdict()}
    return _Found(entry, footer, table, broken)


def _of_other_code(store: Store, settings: Settings, footers: Sequence[Footer]) -> list[str]:
    """The symbol features behind the frames that another feature code, or other options, made than there are now."""
    version = features_code_version(settings.options)
    names = [name for footer in footers for name in footer.inputs if name.startswith(f"{SYMBOL_FEATURES}/")]
    found = {name: store.footer(SYMBOL_FEATURES, Key.parse(name.partition("/")[2])) for name in names}
    other = [name for name, footer in found.items() if footer and footer.code_version != version]
    named = f"{', '.join(other[:5])}{' and others' if len(other) > 5 else ''}"
    return [f"{named}: made by other feature code or options than {version}; build the range again."] if other else []


def _not_as_locked(contents: Mapping[Key, Content | None], held: lock.Lock) -> list[str]:
    """The published dates whose locked rows are not those of the lock, as an amendment that is not built yet leaves them."""
    return [
        f"feature_frame {key}: its locked rows have the hash {content.locked_hash or 'of no rows'}, {lock.LOCK_FILE} has "
        f"{held.dates.get(str(key)) or 'that of no rows'}; build it again."
        for key, content in contents.items()
        if content and content.locked_hash != held.dates.get(str(key), "")
    ]


def _not_members(footers: Mapping[Key, Footer], settings: Settings) -> list[str]:
    """The published dates with rows of symbols that are no members then, as their lifetime in SYMBOLS has changed since."""
    broken = []
    for key, footer in sorted(footers.items()):
        symbols = {Key.parse(name.partition("/")[2]).symbol for name in footer.inputs if name.startswith(f"{SYMBOL_FEATURES}/")}
        if others := sorted(str(symbol) for symbol in symbols - {*settings.members(key.date)}):
            broken.append(f"feature_frame {key} has rows of {', '.join(others)}, no member on that date; build it again.")
    return broken


def _manifest(entries: Sequence[dict[str, Any]], sample: FrameSample, settings: Settings) -> dict[str, Any]:
    sums = sample.sums
    counts = row_counts(sums)
    by_flag: Counter[str] = Counter()
    for (_, split, flag), rows in counts.items():
        if split != VALIDATION_LOCKED:
            by_flag[flag] += rows
    total = sum(by_flag.values())
    seen = _of_kind(sums, "seen")
    present = {entry["date"] for entry in entries}
    digest = hashlib.sha256("".join(f"{e['date']} {e['content_hash']}\n" for e in entries).encode())
    return {
        "row_count": total,
        "ok_row_count": by_flag["OK"],
        "partial_optional_row_count": by_flag["PARTIAL_OPTIONAL"],
        "warmup_row_count": by_flag["WARMUP"],
        "feature_count": len(FEATURES),
        "feature_version": FEATURE_VERSION,
        "feature_order_hash": feature_order_hash(),
        "feature_schema_hash": feature_schema_hash(),
        "data_hash_sha256": digest.hexdigest(),
        "liquidation_available_share": seen["available"] / seen["rows"] if seen["rows"] else 0.0,
        "rows_dropped_with_incomplete_days": sum(_of_kind(sums, "dropped").values()),
        "rows_bridging_gaps": sum(_of_kind(sums, "bridging").values()),
        "lookahead_partitions": sum(_of_kind(sums, "proven_days").values()),
        "lookahead_rows_compared": sum(_of_kind(sums, "proven").values()),
        "split_coverage": split_coverage(counts, sums),
        "missing_dates": [str(d) for d in dates(settings.start, settings.end_date()) if str(d) not in present],
        "partitions": list(entries),
        "lookback_rows": LOOKBACK_ROWS,
        "lookback_days": LOOKBACK_DAYS,
        "optional_groups": list(settings.options.optional_groups),
        "allow_incomplete_days": settings.options.allow_incomplete_days,
        "gaps": settings.options.gaps,
        "input_groups": {group: list(columns) for group, columns in INPUT_GROUPS.items()},
        "features": [
            {
                "name": feature.name,
                "group": feature.group,
                "columns": list(feature.columns),
                "bounds": [_bound(bound) for bound in feature.bounds],
                "description": feature.description,
                "fitted_on": str(feature.fitted_on) if feature.fitted_on else None,
                **sample.counts.of(place),
            }
            for place, feature in enumerate(FEATURES)
        ],
    }


def row_counts(sums: Mapping[str, int]) -> Counter[tuple[str, str, str]]:
    """Rows by (symbol, split, flag), of what add_stats has summed up."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for name, rows in _of_kind(sums, "rows").items():
        symbol, split, flag = name.split("/")
        counts[symbol, split, flag] = rows
    return counts


def split_coverage(counts: Mapping[tuple[str, str, str], int], sums: Mapping[str, int]) -> list[dict[str, Any]]:
    """The reference's Split Coverage: rows by flag and the first and last event_time of each split, by name."""
    coverage = []
    for split in sorted({split for _, split, _ in counts}):
        flags: Counter[str] = Counter()
        for (_, row_split, flag), rows in counts.items():
            if row_split == split:
                flags[flag] += rows
        coverage.append(
            {
                "split_id": split,
                "rows": sum(flags.values()),
                "start": utc_text(sums[f"first/{split}"]),
                "end": utc_text(sums[f"last/{split}"]),
                **{flag.lower(): flags[flag] for flag in FLAGS},
            }
        )
    return coverage


def _of_kind(sums: Mapping[str, int], kind: str) -> Counter[str]:
    """The sums of the stats KIND/NAME by NAME, 0 for one that no date has."""
    return Counter({name.partition("/")[2]: value for name, value in sums.items() if name.startswith(f"{kind}/")})


def _bound(value: float) -> float | None:
    return value if abs(value) != float("inf") else None


def _to_json(manifest: Mapping[str, Any]) -> bytes:
    """Indented, but for a line a date: there are thousands, and Python indents slowly."""
    lines = json.dumps(manifest["partitions"], sort_keys=True).replace("}, {", "},\n    {")
    text = json.dumps({**manifest, "partitions": []}, indent=2, sort_keys=True)
    # No string within JSON has these quotes unescaped.
    return (text.replace('"partitions": []', f'"partitions": {lines}') + "\n").encode()
