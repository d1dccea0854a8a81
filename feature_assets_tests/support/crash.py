"""Builds in processes of their own that are killed, or whose disk fails, at a chosen step or moment.

Children come from a fork server that has imported the package, so that hundreds of them start within seconds.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import pathlib
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import BinaryIO, Self

from feature_assets.dataset.feature_frame import build_feature_frame
from feature_assets.dataset.keys import ONE_DAY, Key, dates
from feature_assets.dataset.lock import publish_splits
from feature_assets.dataset.plan import symbol_dates
from feature_assets.dataset.replay import build_replay
from feature_assets.dataset.store import Store
from feature_assets.dataset.symbol_features import build_symbol_features
from feature_assets.features.catalogue import LOOKBACK_DAYS
from feature_assets.market.sources import load_source
from feature_assets.settings import load_settings

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["feature_assets_tests.support.crash"])


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """Run target(*arguments) in a child process."""
    process = _CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def build_all(variables: dict[str, str], folder: str) -> None:
    """Every layer of the settings' range, without Dagster."""
    settings = load_settings(variables, pathlib.Path(folder))
    store, source = Store(settings.root), load_source(settings.source).source
    look_back = symbol_dates(settings, settings.start - LOOKBACK_DAYS * ONE_DAY, settings.start)
    pairs = symbol_dates(settings, settings.start, settings.end_date())
    list(build_replay(store, source, settings, look_back + pairs))
    publish_splits(store, settings.splits)
    list(build_symbol_features(store, settings.options, pairs))
    list(build_feature_frame(store, settings, [Key(day) for day in dates(settings.start, settings.end_date())]))


def build_replay_day(variables: dict[str, str], folder: str, key: str, number: int, how: str) -> None:
    """Publish one replay partition, failing at the number-th call that touches the disk: how is kill, ENOSPC or EIO."""
    fail_at(number, how)
    settings = load_settings(variables, pathlib.Path(folder))
    list(build_replay(Store(settings.root), load_source(settings.source).source, settings, [Key.parse(key)]))


class _Disk:
    """Counts the calls with which publishing touches the disk, in their order, and fails at one of them."""

    def __init__(self, fail_at: int, how: str) -> None:
        self._left, self._how = fail_at, how

    def failing(self, call: Callable[..., object]) -> Callable[..., object]:
        def wrapper(*arguments: object, **options: object) -> object:
            self._left -= 1
            if self._left == 0:
                if self._how == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                number = getattr(errno, self._how)
                raise OSError(number, os.strerror(number))
            return call(*arguments, **options)

        return wrapper


class _FailingFile:
    """A new file whose write and flush count, too; a failing write leaves half of the bytes."""

    def __init__(self, file: BinaryIO, disk: _Disk) -> None:
        self._file, self._disk = file, disk

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        self._disk.failing(self._file.write)(data[len(data) // 2 :])

    def flush(self) -> None:
        self._disk.failing(self._file.flush)()

    def fileno(self) -> int:
        return self._file.fileno()


def fail_at(number: int, how: str) -> None:
    """Make this process fail at the number-th call of mkdir, open, write, flush, fsync or rename."""
    disk, real_open = _Disk(number, how), pathlib.Path.open

    def opening(path: pathlib.Path, mode: str = "r", **options: object) -> object:
        if "x" not in mode:
            return real_open(path, mode, **options)
        return _FailingFile(disk.failing(real_open)(path, mode, **options), disk)

    pathlib.Path.open = opening
    pathlib.Path.mkdir = disk.failing(pathlib.Path.mkdir)
    pathlib.Path.replace = disk.failing(pathlib.Path.replace)
    os.fsync = disk.failing(os.fsync)
