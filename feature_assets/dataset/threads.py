"""Work on partitions in threads: reading, hashing, encoding and writing let go of the interpreter's lock."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

_THREADS = min(4, os.cpu_count() or 1)
# Calls that are begun before the first one's result is taken, so that memory follows them and not the range.
_AHEAD = 2 * _THREADS


def in_order(calls: Iterable[Callable[[], _T]]) -> Iterator[_T]:
    """What each call gives, in their order; the calls are taken one by one by the caller's thread, a few ahead.

    What a call raises is raised where its result would come; the calls that have begun are waited for.
    """
    waiting: deque[Future[_T]] = deque()
    with ThreadPoolExecutor(_THREADS) as pool:
        for call in calls:
            waiting.append(pool.submit(call))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
