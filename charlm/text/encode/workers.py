"""Parallel work on a text's chunks, in worker processes if the text is large."""

import contextlib
import ctypes
import os
import queue
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from charlm.common.errors import DataError

ENOUGH = 64 << 20
"""Bytes of text above which worker processes save more time than their start takes."""

MMAP_THRESHOLD, TRIM_THRESHOLD, KEPT = -3, -1, 1 << 25
"""Options of glibc: freed memory up to KEPT bytes is retained for the next chunk."""

Task = TypeVar("Task")
Result = TypeVar("Result")


class Worker:
    """A worker process that carries out one task at a time.

    It communicates through pipes. A `ProcessPoolExecutor` has named semaphores: they survive a
    kill -9, and Python then prints warnings about them.
    """

    def __init__(self) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _refuse_lost():
            self.process.start()
        theirs.close()

    def carry_out(self, work: Callable[[Task], Result], task: Task) -> Result:
        """Return the result of a task. Raises: as `work`; DataError if the process has ended."""
        with _refuse_lost():
            self._connection.send((work, task))
            result, error = self._connection.recv()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


@contextmanager
def _refuse_lost() -> Iterator[None]:
    """Convert the errors of a broken pipe. Raises: DataError if a process does not answer."""
    try:
        yield
    except (EOFError, ConnectionError):
        raise DataError(
            "a process that reads the text has ended before its time",
            "check that enough memory is free; a script of your own needs `if __name__ == "
            '"__main__":` around its commands',
        ) from None


class Workers:
    """A pool that carries out tasks in order, in this process or in worker processes."""

    def __init__(self, processes: Sequence[Worker], threads: ThreadPoolExecutor | None) -> None:
        self._count, self._threads = len(processes), threads
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for process in processes:
            self._idle.put(process)

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the result of each task, in order, holding few at a time.

        Raises: as `work` for the first task that fails; DataError if a process has ended.
        """
        if self._threads is None:
            yield from map(work, tasks)
            return
        under_way: deque[Future[Result]] = deque()
        for task in tasks:
            under_way.append(self._threads.submit(self._carry_out, work, task))
            if len(under_way) > 2 * self._count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def _carry_out(self, work: Callable[[Task], Result], task: Task) -> Result:
        """Carry a task out in a free process; there is one thread per process."""
        worker = self._idle.get()
        try:
            return worker.carry_out(work, task)
        finally:
            self._idle.put(worker)


@contextmanager
def workers(size: int) -> Iterator[Workers]:
    """Start one process per core for a text of `size` bytes; none if it is small."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if size < ENOUGH or not count or count < 2:
        yield Workers([], None)
        return
    processes: list[Worker] = []
    threads = ThreadPoolExecutor(count)
    try:
        with _signals_held():
            processes += (Worker() for _ in range(count))
        yield Workers(processes, threads)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for worker in processes:  # they have nothing to finish: unsent results are dropped
            worker.process.kill()
        threads.shutdown()
        for worker in processes:
            worker.process.join()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Block SIGINT and SIGHUP, from their first moment, in processes started in the `with` block:
    this process ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else the first start would run it, and let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(tasks: Connection) -> None:
    """Carry out tasks until there are no more, or until the parent process ends or is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):  # other systems lack these options
        libc = ctypes.CDLL(None)
        for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            libc.mallopt(option, KEPT)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # no more tasks, or the parent has ended
        while True:
            tasks.send(_answer(*tasks.recv()))


def _answer(work: Callable[[Task], Result], task: Task) -> tuple[Result | None, Exception | None]:
    try:
        return work(task), None
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        return None, error


def _end_with_parent() -> None:
    parent: Any = parent_process()
    parent.join()
    os._exit(1)
