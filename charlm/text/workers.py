"""Work on a text's chunks: in processes beside this one where there is much of it."""

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

from charlm.errors import DataError

ENOUGH = 64 << 20
"""Bytes of text for which processes are worth their start."""

MMAP_THRESHOLD, TRIM_THRESHOLD, KEPT = -3, -1, 1 << 25
"""Options of glibc: freed memory up to so many bytes is kept, as the next chunk asks for it."""

Task = TypeVar("Task")
Result = TypeVar("Result")


class Worker:
    """A process beside this one that carries out one task at a time.

    It is reached through pipes alone: the named semaphores of a `ProcessPoolExecutor` outlive a
    kill -9, and Python would then complain of them on the terminal.
    """

    def __init__(self) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _refuse_lost():
            self.process.start()
        theirs.close()

    def carry_out(self, work: Callable[[Task], Result], task: Task) -> Result:
        """Return the result of a task. Raises: what `work` raises; DataError: it has ended."""
        with _refuse_lost():
            self._connection.send((work, task))
            result, error = self._connection.recv()
        if error is not None:
            raise error
        return result  # type: ignore[no-any-return]


@contextmanager
def _refuse_lost() -> Iterator[None]:
    """Raises: DataError where a process does not answer."""
    try:
        yield
    except (EOFError, ConnectionError):
        raise DataError(
            "a process that reads the text has ended before its time",
            "see that there is memory left; a script of your own needs `if __name__ == "
            '"__main__":` before what it does',
        ) from None


class Workers:
    """Carries out tasks in order, in this process or in several beside it."""

    def __init__(self, processes: Sequence[Worker], threads: ThreadPoolExecutor | None) -> None:
        self._count, self._threads = len(processes), threads
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for process in processes:
            self._idle.put(process)

    def map(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield the result of each task, in order; few are held at a time.

        Raises: what `work` raises for the first task that fails; DataError: a process has ended.
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
        """Wait in a thread for one of the processes; there are as many of these as of those."""
        worker = self._idle.get()
        try:
            return worker.carry_out(work, task)
        finally:
            self._idle.put(worker)


@contextmanager
def workers(size: int) -> Iterator[Workers]:
    """Start as many processes as there are cores for a text of so many bytes, or none."""
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
        for worker in processes:  # they have nothing to finish: what they have not sent is lost
            worker.process.kill()
        threads.shutdown()
        for worker in processes:
            worker.process.join()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep Ctrl-C and the end of a terminal from processes that start inside, from the first moment
    on: this process is the one to end them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # or the first start would run it, and let Ctrl-C through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGHUP))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(tasks: Connection) -> None:
    """Carry out tasks until there are no more. It ends with the process that started this one, even
    where that is killed."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError, AttributeError):  # other systems have no such option
        libc = ctypes.CDLL(None)
        for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            libc.mallopt(option, KEPT)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(EOFError, OSError):  # no more, or the process that started this one
        while True:  # has gone
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
