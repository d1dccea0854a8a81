"""Feature frame partitions: a date's symbols in one table, with their splits."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_assets import splits
from feature_assets.dataset import lock
from feature_assets.dataset.keys import Key
from feature_assets.dataset.outcomes import Blocked, Check, Left, Outcome, Published, Refused
from feature_assets.dataset.store import FEATURE_FRAME, REPLAY, SPLIT_MANIFEST, SYMBOL_FEATURES, Refusal, Store, sha256
from feature_assets.dataset.symbol_features import features_code_version
from feature_assets.dataset.tables import Footer, content_hash
from feature_assets.dataset.threads import in_order
from feature_assets.dataset.version import code_version
from feature_assets.errors import FeatureAssetsError, StaleInputError
from feature_assets.features.catalogue import FEATURE_VERSION, SYMBOL_FEATURES_SCHEMA
from feature_assets.leakage.labels import by_symbol, future_returns
from feature_assets.leakage.splits import split_leaks
from feature_assets.settings import Settings
from feature_assets.splits.manifest import SplitManifest

NO_SPLIT_LEAK, COMPLETE = "no_split_leak", "complete"

_FEATURES = [(field.name, field.type) for field in SYMBOL_FEATURES_SCHEMA if field.type == pa.float32()]
FRAME_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("symbol", pa.string()),
        ("event_time", pa.timestamp("ms", tz="UTC")),
        ("open_time_ms", pa.int64()),
        ("split_id", pa.string()),
        ("walk_forward_fold", pa.string()),
        ("feature_version", pa.string()),
        ("data_quality_flag", pa.string()),
        *_FEATURES,
    ]
)


def frame_code_version() -> str:
    """Of this module, the splits and the version of the features."""
    return code_version(splits, sys.modules[__name__], FEATURE_VERSION)


def build_feature_frame(store: Store, settings: Settings, keys: Sequence[Key]) -> Iterator[Outcome]:
    """Publish the frames of `keys` in date order; the splits are those of the stored split manifest."""
    data = store.read_splits()
    split_manifest = sha256(data), SplitManifest.from_json(data)
    yield from in_order(partial(_build_date, store, settings, split_manifest, key) for key in sorted(keys))


def _build_date(store: Store, settings: Settings, split_manifest: tuple[str, SplitManifest], key: Key) -> Outcome:
    started = time.perf_counter()
    splits_hash, manifest = split_manifest
    members = [Key(key.date, symbol) for symbol in settings.members(key.date)]
    if not members:
        return Left(key, f"feature_frame {key} is left unbuilt: no symbol is a member on that date.")
    waiting = [member for member in members if not _asked_for(store, member)]
    if waiting:
        return Left(key, f"feature_frame {key} is left unbuilt: no replay yet of {', '.join(map(str, waiting))}.")
    try:
        read = _read(store, members)
    except FeatureAssetsError as error:
        return Blocked(key, f"feature_frame {key}: {error}")
    table = _frame(members, [features for features, _ in read.values()], manifest)
    stats = {member: footer.stats for member, (_, footer) in read.items()}
    hashes = {f"{SYMBOL_FEATURES}/{member}": footer.content_hash for member, (_, footer) in read.items()}
    inputs = {SPLIT_MANIFEST: splits_hash, **hashes}
    locked = lock.locked_hash(table)
    footer = Footer(content_hash(table), frame_code_version(), inputs, frame_stats(table, stats, manifest), locked)
    leaks = split_leaks(table, FRAME_SCHEMA, manifest) or [*_other_rows(table, read), *future_returns(table)]
    # From the comparison to the note in one turn, so that of two builds of a new date the second sees the first.
    with lock.held(store, manifest):
        leaks += lock.broken_lock(store, key, locked, manifest)
        checks = (_no_split_leak(key, table, leaks), _complete(key, stats))
        if leaks:
            made_of = inputs | lock.lock_input(store, key)
            store.refuse(FEATURE_FRAME, key, Refusal(NO_SPLIT_LEAK, checks[0].message, frame_code_version(), made_of), table)
            return Refused(key, checks, checks[0].message)
        size = store.publish(FEATURE_FRAME, key, table, footer)
        lock.note(store, key, locked, manifest)
    details = {
        "rows": table.num_rows,
        **_by_flag(table),
        "path": store.path(store.partition_file(FEATURE_FRAME, key)),
        "bytes": size,
        "seconds": time.perf_counter() - started,
    }
    return Published(key, footer, checks, details)


def present_frame(store: Store, settings: Settings, key: Key) -> pa.Table | None:
    """The frame of a date as a build would publish it now: of the stored features and the settings' splits.

    None where no symbol is a member, so that nothing would be published. Raises what Store.read_input raises, and
    StaleInputError where other feature code or options made the features than there are now.
    """
    members = [Key(key.date, symbol) for symbol in settings.members(key.date)]
    read = _read(store, members)
    version = features_code_version(settings.options)
    if other := [f"{SYMBOL_FEATURES}/{member}" for member, (_, footer) in read.items() if footer.code_version != version]:
        raise StaleInputError(f"{', '.join(other)}: made by other feature code or options than {version}. Build it again.")
    return _frame(members, [features for features, _ in read.values()], settings.splits) if members else None


def _read(store: Store, members: Sequence[Key]) -> dict[Key, tuple[pa.Table, Footer]]:
    return {member: store.read_input(SYMBOL_FEATURES, member) for member in members}


def _asked_for(store: Store, member: Key) -> bool:
    """Whether there is a replay (or a refused one) that the member's features can be built from."""
    return store.exists(store.partition_file(REPLAY, member)) or store.refusal(REPLAY, member) is not None


def _frame(members: Sequence[Key], tables: Sequence[pa.Table], manifest: SplitManifest) -> pa.Table:
    """The symbols' rows, one symbol after the other, of FRAME_SCHEMA."""
    rows = pa.concat_tables(tables)
    symbols = pa.chunked_array([pa.repeat(m.symbol, len(table)) for m, table in zip(members, tables, strict=True)])
    split_ids, folds = manifest.assign(rows["open_time_ms"].to_numpy())
    columns = dict(zip(rows.column_names, rows.columns, strict=True)) | {
        "sample_id": pc.binary_join_element_wise(symbols, pc.cast(rows["open_time_ms"], pa.string()), ":"),
        "symbol": symbols,
        "split_id": split_ids,
        "walk_forward_fold": folds,
        "feature_version": pa.repeat(FEATURE_VERSION, rows.num_rows),
    }
    return pa.table([columns[name] for name in FRAME_SCHEMA.names], schema=FRAME_SCHEMA)


def _other_rows(table: pa.Table, read: Mapping[Key, tuple[pa.Table, Footer]]) -> Iterator[str]:
    """The symbols whose rows are not, bit for bit, those that were proven: of another symbol, left out, or exchanged since."""
    found_rows = by_symbol(table)
    for member, (_, footer) in read.items():
        rows = found_rows.get(str(member.symbol), table.slice(0, 0)).select(SYMBOL_FEATURES_SCHEMA.names)
        if (found := content_hash(rows)) != footer.content_hash:
            yield (
                f"{len(rows)} rows of {member.symbol} have the content hash {found}, those proven in {SYMBOL_FEATURES}/{member} "
                f"{footer.content_hash}; build {SYMBOL_FEATURES} again."
            )


def _no_split_leak(key: Key, table: pa.Table, leaks: list[str]) -> Check:
    sound = f"{table.num_rows} rows lie in their split and fold, no locked row changes, no column is a future return."
    message = " ".join(leaks) or sound
    return Check(NO_SPLIT_LEAK, not leaks, f"{key}: {message}", details={"offending": leaks} if leaks else {})


def _complete(key: Key, stats: dict[Key, dict[str, int]]) -> Check:
    """Warns about symbols without rows, rows of dropped days, and rows whose windows run across missing minutes."""
    found = []
    if empty := [str(member.symbol) for member, stat in stats.items() if not stat["rows"]]:
        found.append(f"no rows of {', '.join(empty)}")
    if dropped := {str(m.symbol): s["rows_dropped"] for m, s in stats.items() if s["rows_dropped"]}:
        found.append(f"rows dropped with incomplete days: {dropped}")
    if bridging := {str(m.symbol): s["rows_bridging_gaps"] for m, s in stats.items() if s["rows_bridging_gaps"]}:
        found.append(f"rows whose window runs across missing minutes: {bridging}")
    message = "; ".join(found) or f"all {len(stats)} symbols have all their rows, no window runs across missing minutes"
    return Check(COMPLETE, not found, f"{key}: {message}.", warning=True, details={"findings": found})


def frame_stats(table: pa.Table, symbols: dict[Key, dict[str, int]], manifest: SplitManifest) -> dict[str, int]:
    """Row counts for whoever sums up many dates, so that the tables need not be read again.

    rows/SYMBOL/SPLIT/FLAG; first|last/SPLIT: event times in milliseconds; seen/rows|available: rows before
    VALIDATION_LOCKED and those of them with liquidations;
    dropped|bridging|proven/SYMBOL: rows of dropped incomplete days, rows whose window runs across missing minutes, rows
    that the look-ahead proof recomputed.
    """
    stats: dict[str, int] = {}
    times, columns = table["open_time_ms"].to_numpy(), ("symbol", "split_id", "data_quality_flag")
    coded = [table[name].combine_chunks().dictionary_encode() for name in columns]
    codes, names = [column.indices.to_numpy() for column in coded], [column.dictionary.to_pylist() for column in coded]
    group = (codes[0] * len(names[1]) + codes[1]) * len(names[2]) + codes[2]
    for names_of_group, rows in zip(product(*names), np.bincount(group).tolist(), strict=False):
        if rows:
            stats[f"rows/{'/'.join(names_of_group)}"] = rows
    for code, split in enumerate(names[1]):
        own = times[codes[1] == code]
        stats |= {f"first/{split}": int(own.min()), f"last/{split}": int(own.max())}
    available = table["liquidation_available"].to_numpy()
    if manifest.locked:
        available = available[times < manifest.locked.start.timestamp() * 1000]
    stats |= {"seen/rows": len(available), "seen/available": int(np.count_nonzero(np.nan_to_num(available)))}
    for member, stat in symbols.items():
        stats[f"dropped/{member.symbol}"] = stat["rows_dropped"]
        stats[f"bridging/{member.symbol}"] = stat["rows_bridging_gaps"]
        stats[f"proven/{member.symbol}"] = stat["rows_proven"]
    return stats


def _by_flag(table: pa.Table) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(table["data_quality_flag"]).to_pylist()}
