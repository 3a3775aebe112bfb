"""Work on a text's chunks: in processes beside this one where there is much of it."""

import contextlib
import ctypes
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

from charlm.errors import DataError

ENOUGH = 64 << 20
"""Bytes of text for which processes are worth their start."""

MMAP_THRESHOLD, TRIM_THRESHOLD, KEPT = -3, -1, 1 << 25
"""Options of glibc: freed memory up to so many bytes is kept, as the next chunk asks for it."""

Task = TypeVar("Task")
Result = TypeVar("Result")


class Workers:
    """Carries out tasks in order, in this process or in several beside it."""

    def __init__(self, pool: ProcessPoolExecutor | None, count: int) -> None:
        self._pool, self._count = pool, count

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the result of each task, in order; few are held at a time.

        Raises: what `work` raises for the first task that fails; DataError: a process has ended.
        """
        if self._pool is None:
            yield from map(work, tasks)
            return
        under_way: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                under_way.append(self._pool.submit(work, task))
                if len(under_way) > 2 * self._count:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        except BrokenProcessPool:
            raise DataError(
                "a process that reads the text has ended before its time",
                "see that there is memory left; a script of your own needs `if __name__ == "
                '"__main__":` before what it does',
            ) from None


@contextmanager
def workers(size: int) -> Iterator[Workers]:
    """Start as many processes as there are cores for a text of so many bytes, or none."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if size < ENOUGH or not count or count < 2:
        yield Workers(None, 1)
        return
    pool = ProcessPoolExecutor(count, get_context("spawn"), initializer=_begin)
    try:
        yield Workers(pool, count)
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Leave Ctrl-C to the process that started this one, and end with it, even where it is killed:
    a worker that waits for tasks would wait for ever."""
    for number in (signal.SIGINT, *([signal.SIGHUP] if os.name == "posix" else [])):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):  # other systems have no such option
        libc = ctypes.CDLL(None)
        for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            libc.mallopt(option, KEPT)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent: Any = parent_process()
    parent.join()
    os._exit(1)
