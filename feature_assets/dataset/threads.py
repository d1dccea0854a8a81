"""Work on partitions in threads: reading, hashing, encoding and writing let go of the interpreter's lock."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")

_THREADS = min(4, os.cpu_count() or 1)
# Calls that are begun before the first one's result is taken, so that memory follows them and not the range.
_AHEAD = 2 * _THREADS
# Calls that are made in a row beside other work, and results that are then given in a row: each kind of work finds its
# code and data in the processor's caches, so that a range of replay ends a tenth earlier than when they take turns.
_BATCH = 8
# Seconds after which a thread is asked for the interpreter's lock. One that lets go of it for a moment, as numpy does in
# each operation, waits so long for its return; with Python's own 0.005 the threads mostly wait for each other.
_SWITCH = 0.0005


def in_order(calls: Iterable[Callable[[], _T]], *, beside_work: bool = False) -> Iterator[_T]:
    """What each call gives, in their order; the calls are taken one by one by the caller's thread, a few ahead.

    beside_work: making the calls is most of the work, so that a processor is left to the caller, and calls are made and results
    given a batch at a time. What a call raises, or who makes the calls, is raised where the result would come; the calls
    that have begun are waited for. A call should be few and long steps outside of the interpreter's lock; what is many short
    ones is faster where the calls are made.
    """
    most, fewest = (2 * _BATCH - 1, _BATCH) if beside_work else (_AHEAD, _AHEAD)
    waiting: deque[Future[_T]] = deque()
    remaining = iter(calls)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        with ThreadPoolExecutor(max(_THREADS - beside_work, 1)) as pool:
            while (call := _next(remaining)) is not None:
                waiting.append(pool.submit(call))
                if len(waiting) > most:
                    while len(waiting) > fewest:
                        yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        sys.setswitchinterval(usual)


def _next(calls: Iterator[Callable[[], _T]]) -> Callable[[], _T] | None:
    """The next call, one that raises where its making does, None where there is no other."""
    try:
        return next(calls, None)
    except Exception as error:  # noqa: BLE001 - raised later, after the results of the calls before
        raised = error

    def fail() -> _T:
        raise raised

    return fail
