"""The store: where each partition's file lies, how it appears there whole or not at all, and what is refused.

A file's bytes are complete before anything shows under its final name: temporary file, fsync, rename on a disk, one
put on an object store. What the tables hold is not this module's business.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from feature_assets.dataset.keys import Key
from feature_assets.dataset.tables import Footer, content_hash, to_parquet
from feature_assets.errors import MissingInputError, PartitionKeyError, RefusedInputError, StaleInputError, StoreError

REPLAY, SYMBOL_FEATURES, FEATURE_FRAME = "replay", "symbol_features", "feature_frame"
SPLIT_MANIFEST, FEATURE_MANIFEST, QUALITY_REPORT = "split_manifest", "feature_manifest", "quality_report"
SPLIT_MANIFEST_FILE = "split/split_manifest.json"
STORE_FILE = "store.json"
_PART = "part-0.parquet"
_WHOLE = "all"
"""The quarantine's name for an asset that has no partitions."""
_FOOTERS = 4096
"""Footers that are kept: of a few weeks of many symbols."""
_CLOCK_NS = 2_000_000_000
"""The coarsest times that a file system has."""
Stamp = tuple[int, int, int]
"""What tells a file from the one that stood there before: its time of change in nanoseconds, size and inode."""


@dataclass(frozen=True)
class Refusal:
    """Why a partition was refused, and what it would have been made of: with others it is worth another try."""

    check: str
    reason: str
    code_version: str = ""
    inputs: dict[str, str] = field(default_factory=dict)


class Store:
    """The files under a root: a folder, or a URL that pyarrow knows (s3://bucket/prefix?endpoint_override=...)."""

    def __init__(self, root: str) -> None:
        self.root = _without_secrets(root)
        # With its secrets: for another process to open the same store, never to be shown.
        self.given_root = root
        if "://" in root:
            try:
                self._files, base = pafs.FileSystem.from_uri(root)
            except (pa.ArrowException, OSError, ValueError):
                # Arrow's message shows the whole URL.
                raise StoreError(f"ROOT: {self.root} cannot be opened; expected e.g. s3://bucket/prefix.") from None
        else:
            self._files, base = pafs.LocalFileSystem(), root
        self._base = base.rstrip("/")
        self._on_disk = isinstance(self._files, pafs.LocalFileSystem)
        # A footer is asked for by every partition that stands on its file: it is read once, and again when the file is another.
        self._known_footer = functools.lru_cache(_FOOTERS)(lambda asset, key, _stamp: self._read_footer(asset, key))

    # Paths

    @staticmethod
    def partition_file(asset: str, key: Key) -> str:
        """The partition's file, relative to the root."""
        if (key.symbol is None) != (asset == FEATURE_FRAME):
            raise PartitionKeyError(f"{asset} has no partition {key}.")
        folder = f"date={key.date}" if key.symbol is None else f"symbol={key.symbol}/date={key.date}"
        return f"{asset}/{folder}/{_PART}"

    @staticmethod
    def _quarantine(asset: str, key: Key | None) -> str:
        return f"quarantine/{asset}/{key or _WHOLE}"

    def path(self, relative: str) -> str:
        """The full path or URL of a file, for people."""
        return f"{self.root.rstrip('/')}/{relative}"

    # Bytes

    def read_bytes(self, relative: str) -> bytes | None:
        """A file's bytes; None where there is no such file."""
        try:
            with self._files.open_input_stream(f"{self._base}/{relative}") as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write_bytes(self, relative: str, data: bytes) -> None:
        """Put `data` under its final name, whole or not at all; raises StoreError, naming the file, where that fails."""
        path = f"{self._base}/{relative}"
        try:
            if self._on_disk:
                _replace(Path(path), data)
                return
            # An object store shows an object once its upload is complete.
            with self._files.open_output_stream(path) as stream:
                stream.write(data)
        except OSError as error:
            raise StoreError(f"{self.path(relative)}: cannot be written: {error}. What was there before still is.") from error

    @contextlib.contextmanager
    def exclusive(self, relative: str) -> Iterator[None]:
        """Have a file for oneself while reading and writing it: other processes that ask for the same wait meanwhile.

        That holds on a disk, also after a kill; an object store has no such thing, and one writer at a time is the
        user's care there. Not to be nested. Raises StoreError, naming the file, where it cannot be held.
        """
        if not self._on_disk:
            yield
            return
        path = Path(f"{self._base}/{relative}")
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                # Beside the file, which is replaced; readers of folders leave out names that begin with a dot.
                guard = stack.enter_context(path.with_name(f".{path.name}.guard").open("a"))
                fcntl.flock(guard, fcntl.LOCK_EX)
            except OSError as error:
                raise StoreError(f"{self.path(relative)}: cannot be held for writing: {error}.") from error
            yield

    def exists(self, relative: str) -> bool:
        return self._files.get_file_info(f"{self._base}/{relative}").type == pafs.FileType.File

    def _delete(self, relative: str) -> None:
        # Another run may be taking it away at the same moment.
        with contextlib.suppress(FileNotFoundError):
            self._files.delete_file(f"{self._base}/{relative}")

    # Tables

    def publish(self, asset: str, key: Key, table: pa.Table, footer: Footer) -> int:
        """Put a partition's file in place and take its refusal away; gives the file's size in bytes."""
        data = to_parquet(table, footer)
        self.write_bytes(self.partition_file(asset, key), data)
        self.accept(asset, key)
        return len(data)

    def read(self, asset: str, key: Key, columns: Sequence[str] | None = None) -> tuple[pa.Table, Footer]:
        """A partition's table and its footer, of one file: it is opened once, whoever replaces it meanwhile.

        Raises MissingInputError where there is none and StoreError, naming the file, where it cannot be read.
        """
        relative = self.partition_file(asset, key)
        try:
            # Its bytes at once: a small file, and on an object store a single request.
            with self._files.open_input_stream(f"{self._base}/{relative}") as stream:
                file = pq.ParquetFile(pa.BufferReader(stream.read_buffer()))
            # Callers read several at once: more threads only cost memory.
            table = file.read(columns=list(columns) if columns is not None else None, use_threads=False)
            footer = Footer.from_metadata(file.metadata.metadata or {})
        except FileNotFoundError:
            raise MissingInputError(f"{asset} {key} is missing; build it first.") from None
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise StoreError(f"{self.path(relative)}: not readable: {error}. Build {asset} {key} again.") from error
        return table.replace_schema_metadata(None), footer

    def read_table(self, asset: str, key: Key, columns: Sequence[str] | None = None) -> pa.Table:
        """A partition's table; raises what `read` raises."""
        return self.read(asset, key, columns)[0]

    def footer(self, asset: str, key: Key) -> Footer | None:
        """A partition's footer; None where there is no file. Raises StoreError where it cannot be read."""
        with contextlib.suppress(OSError):
            if self._on_disk:
                return self._known_footer(asset, key, _stamp(f"{self._base}/{self.partition_file(asset, key)}"))
        return self._read_footer(asset, key)

    def _read_footer(self, asset: str, key: Key) -> Footer | None:
        found = self.parquet_footer(asset, key)
        return None if found is None else found[1]

    def parquet_footer(self, asset: str, key: Key) -> tuple[pq.FileMetaData, Footer] | None:
        """What Parquet itself keeps at a partition's end, and our footer in it; None where there is no file."""
        relative = self.partition_file(asset, key)
        try:
            metadata = pq.read_metadata(f"{self._base}/{relative}", filesystem=self._files)
            return metadata, Footer.from_metadata(metadata.metadata or {})
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise StoreError(f"{self.path(relative)}: no sound footer: {error}. Build {asset} {key} again.") from error

    def open_parquet(self, relative: str) -> pq.ParquetFile:
        """A Parquet file that is no partition; raises StoreError, naming it, where it cannot be read."""
        try:
            return pq.ParquetFile(f"{self._base}/{relative}", filesystem=self._files)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise StoreError(f"{self.path(relative)}: not readable: {error}.") from error

    def stamps(self, asset: str) -> dict[Key, Stamp]:
        """The partitions of an asset that have a file, by date, then symbol, with its stamp."""
        found = [(_key_of(path), stamp) for path, stamp in self._listing(asset, _PART)]
        return dict(sorted(found, key=lambda item: (item[0].date, item[0].symbol or "")))

    def keys(self, asset: str) -> list[Key]:
        """The partitions of an asset that have a file, by date, then symbol."""
        return list(self.stamps(asset))

    def newest(self, asset: str, symbol: str | None) -> Key | None:
        """The last partition of an asset, or of a symbol of it, that has a file; None where none has."""
        folder = f"{self._base}/{asset}" if symbol is None else f"{self._base}/{asset}/symbol={symbol}"
        selector = pafs.FileSelector(folder, allow_not_found=True)
        dates = (info.base_name.partition("=") for info in self._files.get_file_info(selector))
        for text in sorted((date for column, _, date in dates if column == "date"), reverse=True):
            with contextlib.suppress(PartitionKeyError):
                key = Key.parse(text if symbol is None else f"{text}|{symbol}")
                if self.exists(self.partition_file(asset, key)):
                    return key
        return None

    def strays(self, asset: str) -> list[str]:
        """Files in an asset's folder that are no partition's, relative to the root; readers of the folder take their rows."""
        return sorted(path[len(self._base) + 1 :] for path in self._visible_files(asset) if not self._is_partition(asset, path))

    def _visible_files(self, folder: str) -> Iterator[str]:
        """The files below a folder that readers take: their names do not begin with a dot or an underscore."""
        if self._on_disk:
            yield from _visible_below(f"{self._base}/{folder}")
            return
        selector = pafs.FileSelector(f"{self._base}/{folder}", allow_not_found=True, recursive=True)
        for info in self._files.get_file_info(selector):
            if info.type == pafs.FileType.File and info.base_name[0] not in "._":
                yield info.path

    def _is_partition(self, asset: str, path: str) -> bool:
        try:
            return path == f"{self._base}/{self.partition_file(asset, _key_of(path))}"
        except (ValueError, PartitionKeyError):
            return False

    def _listing(self, folder: str, name: str) -> Iterator[tuple[str, Stamp]]:
        """Path and stamp of the files of a name in the folders below a folder."""
        if self._on_disk:
            yield from _files_below(f"{self._base}/{folder}", name)
            return
        selector = pafs.FileSelector(f"{self._base}/{folder}", allow_not_found=True, recursive=True)
        for info in self._files.get_file_info(selector):
            if info.base_name == name:
                yield info.path, (info.mtime_ns, info.size, 0)

    # What has changed since when, by the file system's own clock

    def clock(self, folder: str) -> int | None:
        """The time now in nanoseconds, as new files in a folder have it; None on an object store, whose times tell too little."""
        if not self._on_disk:
            return None
        file = Path(f"{self._base}/{folder}/.{uuid.uuid4().hex}.tmp")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        try:
            return file.stat().st_mtime_ns
        finally:
            file.unlink()

    def changed(self, asset: str, since: int, stamps: Mapping[Key, Stamp] | None = None) -> list[Key]:
        """The partitions whose file or refusal has changed at or after `since`, less the coarseness of file times.

        stamps: of the asset's files, where they are known already.
        """
        bound = since - _CLOCK_NS
        if stamps is None:
            keys = [_key_of(path) for path, (time, _, _) in self._listing(asset, _PART) if time >= bound]
        else:
            keys = [key for key, (time, _, _) in stamps.items() if time >= bound]
        markers = self._listing(f"quarantine/{asset}", "REFUSED.json")
        return keys + [Key.parse(path.split("/")[-2]) for path, (time, _, _) in markers if time >= bound]

    # Refusals

    def refuse(self, asset: str, key: Key | None, refusal: Refusal, rejected: pa.Table | None) -> str:
        """Keep the rejected table and a marker that stops what is downstream; the last good file stays. Gives its path."""
        folder = self._quarantine(asset, key)
        if rejected is not None:
            footer = Footer(content_hash(rejected), "", {})
            self.write_bytes(f"{folder}/rejected.parquet", to_parquet(rejected, footer))
        else:
            self._delete(f"{folder}/rejected.parquet")
        marker = {"asset": asset, "partition": str(key) if key else None, **asdict(refusal)}
        self.write_bytes(f"{folder}/REFUSED.json", (json.dumps(marker, indent=2, sort_keys=True) + "\n").encode())
        return self.path(folder)

    def accept(self, asset: str, key: Key | None) -> None:
        """Take a refusal's marker and table away, the marker last: it is the one that stops others."""
        folder = self._quarantine(asset, key)
        if self.exists(f"{folder}/REFUSED.json"):
            self._delete(f"{folder}/rejected.parquet")
            self._delete(f"{folder}/REFUSED.json")

    def refusal(self, asset: str, key: Key | None) -> Refusal | None:
        """The marker of a partition whose last build was refused, else None."""
        data = self.read_bytes(f"{self._quarantine(asset, key)}/REFUSED.json")
        if data is None:
            return None
        marker = json.loads(data)
        return Refusal(**{name: marker[name] for name in Refusal.__dataclass_fields__})

    # Inputs

    def input_hash(self, name: str) -> str:
        """The content hash of an input, `asset/key` or `split_manifest`, after making sure that it may be built upon.

        Raises MissingInputError where it is not there, RefusedInputError where it or an input of its own was refused,
        and StaleInputError, naming both hashes, where one of its own inputs has another hash than it was built from.
        """
        asset, _, text = name.partition("/")
        if asset == SPLIT_MANIFEST:
            return sha256(self.read_splits())
        key = Key.parse(text)
        self._refuse_refused(asset, key)
        footer = self.footer(asset, key)
        if footer is None:
            raise MissingInputError(f"{name} is missing; build it first.")
        self._refuse_stale(asset, key, footer)
        return footer.content_hash

    def read_input(self, asset: str, key: Key) -> tuple[pa.Table, Footer]:
        """A partition to build upon, with its footer; raises what input_hash and read raise."""
        self._refuse_refused(asset, key)
        table, footer = self.read(asset, key)
        self._refuse_stale(asset, key, footer)
        return table, footer

    def read_splits(self) -> bytes:
        """The split manifest's file; raises MissingInputError where there is none, RefusedInputError where it was refused."""
        self._refuse_refused(SPLIT_MANIFEST, None)
        data = self.read_bytes(SPLIT_MANIFEST_FILE)
        if data is None:
            raise MissingInputError(f"{SPLIT_MANIFEST} is missing; materialize it first.")
        return data

    def _refuse_refused(self, asset: str, key: Key | None) -> None:
        if refusal := self.refusal(asset, key):
            name = f"{asset}/{key}" if key else asset
            raise RefusedInputError(f"{name} was refused ({refusal.check}: {refusal.reason}). Mend and build it first.")

    def _refuse_stale(self, asset: str, key: Key, footer: Footer) -> None:
        for upstream, built_from in footer.inputs.items() if asset != REPLAY else ():
            now = self.input_hash(upstream)
            if now != built_from:
                raise StaleInputError(
                    f"{asset}/{key} is stale: built from {upstream} {built_from}, which is {now} now. Build it again."
                )

    def symbols(self, asset: str) -> list[str]:
        """The symbols that an asset has a folder of."""
        selector = pafs.FileSelector(f"{self._base}/{asset}", allow_not_found=True)
        names = (info.base_name.partition("=") for info in self._files.get_file_info(selector))
        return sorted(name for column, _, name in names if column == "symbol")

    def refuse_lost_symbols(self, known: Sequence[str]) -> None:
        """Raise StoreError where the store has published rows of symbols that are not `known`."""
        if lost := sorted(set(self.symbols(SYMBOL_FEATURES)) - set(known)):
            raise StoreError(
                f"SYMBOLS: {', '.join(lost)} is not there, but the store has published rows of it. Put it back; if it is "
                f"retired, with the end of its lifetime: {lost[0]}:..2026-02-28."
            )

    def claim(self, identity: dict[str, Any]) -> None:
        """Say in store.json what the store is built with now; raise StoreError, naming both, where it is another source's."""
        data, wanted = self.read_bytes(STORE_FILE), (json.dumps(identity, indent=2, sort_keys=True) + "\n").encode()
        if data is None:
            self.write_bytes(STORE_FILE, wanted)
            return
        try:
            found = json.loads(data)
        except ValueError as error:
            raise StoreError(
                f"{self.path(STORE_FILE)}: not readable: {error}. Delete it, and the next build writes it."
            ) from error
        if found.get("source") != identity["source"]:
            raise StoreError(
                f"ROOT: the store {self.root} was built from source {found.get('source')}, SOURCE now is {identity['source']}. "
                "Take another ROOT, or the old SOURCE."
            )
        if data != wanted:
            self.write_bytes(STORE_FILE, wanted)


def _files_below(folder: str, name: str) -> Iterator[tuple[str, Stamp]]:
    """As Store._listing, on a disk: to ask each folder for the file takes half the time of listing what it holds."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for path in [entry.path for entry in entries if entry.is_dir()]:
            file = f"{path}/{name}"
            try:
                yield file, _stamp(file)
            except FileNotFoundError:
                yield from _files_below(path, name)


def _visible_below(folder: str) -> Iterator[str]:
    """As Store._visible_files, on a disk: nearly every folder holds a partition's file and nothing else."""
    with contextlib.suppress(FileNotFoundError):
        if os.listdir(folder) == [_PART]:  # noqa: PTH208 - names alone
            yield f"{folder}/{_PART}"
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    yield from _visible_below(entry.path)
                elif entry.name[0] not in "._":
                    yield entry.path


def _stamp(path: str) -> Stamp:
    found = os.stat(path)  # noqa: PTH116 - a Path for each of thousands of files costs as much
    return found.st_mtime_ns, found.st_size, found.st_ino


def _key_of(path: str) -> Key:
    """The key of a partition's file .../symbol=S/date=D/part-0.parquet or .../date=D/part-0.parquet."""
    _, above, folder, _ = path.rsplit("/", 3)
    date, symbol = folder.removeprefix("date="), above.removeprefix("symbol=")
    return Key.parse(date if symbol == above else f"{date}|{symbol}")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Readers of folders leave out names that begin with a dot.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _without_secrets(root: str) -> str:
    """A root as it may be shown: a URL without user, password and query."""
    if "://" not in root:
        return root
    scheme, _, rest = root.partition("?")[0].partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
