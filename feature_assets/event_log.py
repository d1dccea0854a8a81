"""Dagster's SQLite event log over connections that are kept: the same files and rows, an event at a third of the cost.

The stock class opens a connection and compiles its statements anew for each group of them, which is most of what an
event costs, makes each run's file by fifty statements, and writes what a run plans an event at a time. Only that is changed
here; what is written, and how durably, is the stock class's. dagster.yaml names this class.
feature_assets_tests/test_event_log.py pins what it leans on in Dagster 1.13.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, NullPool, Pool, QueuePool, create_engine

_KEPT = 8
"""Shards, the index among them, whose connection is kept. Each holds three files open."""
_BATCH = 100
"""Events that are written at once where Dagster gives batches: other processes wait for a third of a second at most."""


_File = tuple[int, int] | None
_Engines = OrderedDict[str, tuple[Engine, _File]]


class PooledSqliteEventLogStorage(SqliteEventLogStorage):
    """One connection a shard (a run, or the index) for the last used shards, closed by dispose().

    Threads take turns, as with the stock class. Processes wait for each other as long as there. A fork opens its own.
    """

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._shards = _Shards()
        self._tables: set[str] = set()
        self._columns: set[str] = set()
        self._empty: bytes | None = None
        # Dagster's only way to be asked for batches; it gives none by itself.
        os.environ.setdefault("DAGSTER_EVENT_BATCH_SIZE", str(_BATCH))
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> PooledSqliteEventLogStorage:
        return cls(inst_data=inst_data, **config_value)

    @contextlib.contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        shards = self._own()
        with shards.lock:
            if shard in shards.in_use:
                # Within the same thread's transaction: another connection would wait for this one's end for ever.
                yield shards.in_use[shard]
                return
            with self._engine(shards.engines, shard).connect() as connection, connection.begin():
                try:
                    shards.in_use[shard] = connection
                    yield connection
                finally:
                    shards.in_use.pop(shard, None)

    def _own(self) -> _Shards:
        """The shards of this process: in a fork others than the parent's."""
        if self._shards.process != os.getpid():
            self._shards = _Shards(inherited=self._shards)
        return self._shards

    def _engine(self, engines: _Engines, shard: str) -> Engine:
        """The shard's engine: the kept one while its file is still the one that it opened, else a new one."""
        path = self.path_for_shard(shard)
        engine, file = engines.pop(shard, (None, None))
        if engine and file != _identity(path):
            engine.dispose()
            engine = None
            self._initialized_dbs.discard(shard)
        if engine is None:
            if shard not in self._initialized_dbs:
                if shard == INDEX_SHARD_NAME or not self._copy_empty_shard(path):
                    self._initdb(self._new_engine(shard, NullPool))
                self._initialized_dbs.add(shard)
            engine, file = self._new_engine(shard, QueuePool, pool_size=1, max_overflow=-1), _identity(path)
        engines[shard] = engine, file
        while len(engines) > _KEPT:
            engines.popitem(last=False)[1][0].dispose()
        return engine

    def _copy_empty_shard(self, path: str) -> bool:
        """Make a run's shard that is not there yet, whole. False where it is, or where the file system has no links."""
        if Path(path).exists():
            return False
        copy = Path(path).with_name(f".{uuid.uuid4().hex}.new")
        try:
            # The mode that SQLite gives its files.
            with os.fdopen(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                file.write(self._empty_shard())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(OSError):
                # Unlike a rename it takes no shard away that another process has made meanwhile.
                os.link(copy, path)
                return True
            return False
        finally:
            copy.unlink(missing_ok=True)

    def _empty_shard(self) -> bytes:
        """A shard without a row, as the stock class makes one, in a file of its own."""
        if self._empty is None:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, "empty.db")
                self._initdb(create_engine(f"sqlite:///{file}", poolclass=NullPool))
                self._empty = file.read_bytes()
        return self._empty

    def _new_engine(self, shard: str, pool: type[Pool], **options: int) -> Engine:
        # Any thread may use the connection, in its turn.
        connect = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        return create_engine(self.conn_string_for_shard(shard), poolclass=pool, connect_args=connect, **options)

    def has_table(self, table_name: str) -> bool:
        """As the stock one, which every materialization and check asks; a table that was there is not looked for again."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        """As the stock one, which every materialization asks; a column that was there is not looked for again."""
        if column_name not in self._columns and super()._has_asset_key_col_on_connection(conn, column_name):
            self._columns.add(column_name)
        return column_name in self._columns

    def store_event(self, event: EventLogEntry) -> None:
        """As the stock one, with what it puts into the index in one transaction."""
        with self.index_connection():
            super().store_event(event)
        self._tell_watchers(event.run_id)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """As the stock one, in one transaction of each shard: what a run plans, which Dagster gives as it creates the run."""
        runs = sorted({event.run_id for event in events})
        with self.index_connection(), contextlib.ExitStack() as stack:
            for run_id in runs:
                stack.enter_context(self.run_connection(run_id))
            for event in events:
                super().store_event(event)
        for run_id in runs:
            self._tell_watchers(run_id)

    def _tell_watchers(self, run_id: str) -> None:
        """Whoever watches a run waits for its shard to change, and a kept connection writes beside it."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path_for_shard(run_id))

    def delete_events(self, run_id: str) -> None:
        super().delete_events(run_id)
        self._own().close(run_id)

    def wipe(self) -> None:
        self._own().close()
        super().wipe()

    def dispose(self) -> None:
        super().dispose()
        self._own().close()


class _Shards:
    """The engines of one process by shard, the last used last, with the file that each has open.

    After a fork the parent's are `inherited`: not to be used here, and kept only so that nothing closes them.
    """

    def __init__(self, inherited: _Shards | None = None) -> None:
        self.process = os.getpid()
        self.lock = threading.RLock()
        self.engines: _Engines = OrderedDict()
        self.in_use: dict[str, Connection] = {}
        self._inherited = inherited

    def close(self, shard: str | None = None) -> None:
        """Close the connection of a shard, or all of them."""
        with self.lock:
            for name in [shard] if shard else list(self.engines):
                if name in self.engines:
                    self.engines.pop(name)[0].dispose()


def _identity(path: str) -> _File:
    """What tells a file from another one under the same name; None where there is none."""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
