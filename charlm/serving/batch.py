"""Texts of several clients, written side by side: a text joins as soon as a lane is free."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

import numpy as np

from charlm.models.plain import no_prediction
from charlm.serving.choosing import Doubles, choose, log_softmax
from charlm.serving.lanes import Floats, Lanes
from charlm.serving.text import Text

LOG = logging.getLogger(__name__)
STOPPING = "the server is stopping"


class FullError(Exception):
    """An order that finds no place in the queue."""


class Batch:
    """Threads that write texts, each with lanes of its own, and the queue of texts that wait.

    lanes: of each thread. most: texts in the lanes of a thread. queue: texts that may wait.
    unknown: a symbol that is never written.
    """

    def __init__(self, lanes: Sequence[Lanes], most: int, queue: int, unknown: int | None) -> None:
        self._most, self._queue, self._unknown = most, queue, unknown
        self._waiting: deque[Text] = deque()
        self._changed = threading.Condition()
        self._rows: list[list[Text]] = [[] for _ in lanes]
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._work, args=pair, daemon=True)
            for pair in zip(lanes, self._rows, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def room(self) -> int:
        """Number of texts that can be added now."""
        free = self._most * len(self._rows) - sum(map(len, self._rows))
        return free + self._queue - len(self._waiting)

    @property
    def busy(self) -> int:
        """Number of texts that are being written or wait."""
        return sum(map(len, self._rows)) + len(self._waiting)

    def add(self, texts: Sequence[Text]) -> None:
        """Add texts, all or none. Raises: FullError."""
        with self._changed:
            if len(texts) > self.room:
                raise FullError
            if self._stopped:
                for text in texts:
                    text.end("fault", STOPPING)
            self._waiting.extend(one for one in texts if not one.ended)
            self._changed.notify_all()

    def cancel(self, texts: Sequence[Text]) -> None:
        """Free the lanes of texts that no client waits for."""
        with self._changed:
            for text in texts:
                text.cancelled = True
            self._waiting = deque(one for one in self._waiting if not one.cancelled)

    def stop(self) -> None:
        """End all texts, and the threads."""
        with self._changed:
            self._stopped = True
            waiting, self._waiting = self._waiting, deque()
            self._changed.notify_all()
        for text in waiting:
            text.end("fault", STOPPING)
        for thread in self._threads:
            thread.join()

    def _work(self, lanes: Lanes, rows: list[Text]) -> None:
        """Write the texts of one thread until the server stops."""
        while self._admit(lanes, rows):
            try:
                self._step(lanes, rows)
                fault = STOPPING if self._stopped else ""
            except Exception as error:  # the other clients are served on
                LOG.exception("a step failed")
                fault = f"{type(error).__name__}: {error}"
            for row in range(len(rows) - 1, -1, -1):
                if fault and not rows[row].ended:
                    rows[row].end("fault", fault)
                if rows[row].ended or rows[row].cancelled:
                    lanes.close(row)
                    rows[row] = rows[-1]
                    rows.pop()

    def _admit(self, lanes: Lanes, rows: list[Text]) -> bool:
        """Take waiting texts, wait for one if there is none to write; return False at the end.

        A thread takes no text while another one has fewer.
        """
        with self._changed:
            while not self._stopped:
                fewest = min(map(len, self._rows))
                while self._waiting and len(rows) < self._most and len(rows) <= fewest:
                    rows.append(self._waiting.popleft())
                    lanes.open()
                    fewest = min(map(len, self._rows))
                if self._waiting:
                    self._changed.notify_all()
                if rows:
                    return True
                self._changed.wait()
        return bool(rows)

    def _step(self, lanes: Lanes, rows: list[Text]) -> None:
        """Read one symbol in every lane, and choose the next one where the order has none."""
        logits = lanes.read(np.array([one.next for one in rows], np.int64))
        finite = [bool(row.all()) for row in np.isfinite(logits)]
        for row in (n for n, fine in enumerate(finite) if not fine):
            rows[row].end("fault", no_prediction().what)
        logs = self._logs(logits, rows)
        free = [n for n, one in enumerate(rows) if not one.reads and finite[n]]
        symbols: list[int] = []
        if free:
            filters = [rows[n].order.filters for n in free]
            drawn = np.array([rows[n].draw() for n in free])
            symbols = choose(logits[free], filters, drawn, self._unknown).tolist()
        for n, one in enumerate(rows):
            if one.reads and finite[n]:
                one.follow(logs.get(n))
        now = time.monotonic()
        for n, symbol in zip(free, symbols, strict=True):
            rows[n].take(symbol, logs.get(n), now)

    def _logs(self, logits: Floats, rows: Sequence[Text]) -> dict[int, Doubles]:
        """Return ln p of every symbol for the texts that report it, by their lanes."""
        scored = [n for n, one in enumerate(rows) if one.is_scored]
        return dict(zip(scored, log_softmax(logits[scored]), strict=True)) if scored else {}
