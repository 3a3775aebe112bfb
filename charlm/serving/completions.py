"""The completions of one request: its texts, from the queue to the answer."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from charlm.serving import answer
from charlm.serving.batch import Batch, FullError
from charlm.serving.fields import RefusalError
from charlm.serving.request import Limits, Wish
from charlm.serving.text import Text
from charlm.text.vocabulary import Vocabulary

WAIT = "1"
"""Seconds after which a client may try again when the queue is full."""


class GoneError(Exception):
    """The client has closed the connection."""


class Completions:
    """The texts of a request that are being written. name: of the model; identity: of the answer.

    Raises: RefusalError if the queue is full.
    """

    def __init__(self, wish: Wish, batch: Batch, vocabulary: Vocabulary, limits: Limits) -> None:
        self._wish, self._batch, self._vocabulary = wish, batch, vocabulary
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        self._gone = False
        self._end = self._loop.time() + limits.seconds
        self._limit = limits.seconds
        self.texts = [Text(one, vocabulary, self._signal) for one in wish.orders]
        try:
            batch.add(self.texts)
        except FullError:
            raise RefusalError("too many texts are waiting; try again later", None, 429) from None

    @property
    def written(self) -> int:
        """Number of symbols written so far."""
        return sum(text.written for text in self.texts)

    def leave(self) -> None:
        """Stop waiting: the client has closed the connection."""
        self._gone = True
        self._news.set()

    def release(self) -> None:
        """Free the lanes of texts that have not ended."""
        self._batch.cancel([text for text in self.texts if not text.ended])

    async def whole(self) -> list[dict[str, Any]]:
        """Return the choices once all texts have ended. Raises: RefusalError, GoneError."""
        while not all(text.ended for text in self.texts):
            await self._wait()
        self._refuse_faults()
        return [
            answer.choice(number, list(text.pieces), text.ended, self._reported)
            for number, text in enumerate(self.texts)
        ]

    async def parts(self) -> AsyncIterator[dict[str, Any]]:
        """Yield choices with parts of the texts as they are written. Raises: as `whole`."""
        left = dict(enumerate(self.texts))
        while left:
            self._refuse_faults()
            for number, text in list(left.items()):
                reason = text.ended or None  # before its pieces: those after it come next time
                pieces = [text.pieces.popleft() for _ in range(len(text.pieces))]
                if pieces or reason:
                    yield answer.choice(number, pieces, reason, self._reported)
                if reason:
                    del left[number]
            if left:
                await self._wait()

    @property
    def _reported(self) -> Vocabulary | None:
        """The vocabulary if ln p is reported."""
        return None if self._wish.orders[0].likely is None else self._vocabulary

    def _refuse_faults(self) -> None:
        """Check that no text has failed. Raises: RefusalError."""
        for text in self.texts:
            if text.ended == "fault":
                raise RefusalError(text.fault, None, 503)

    async def _wait(self) -> None:
        """Wait for news. Raises: RefusalError after the time limit, GoneError."""
        try:
            async with asyncio.timeout_at(self._end):
                await self._news.wait()
        except TimeoutError:
            late = f"the answer took longer than {self._limit:g} seconds"
            raise RefusalError(late, None, 504) from None
        self._news.clear()
        if self._gone:
            raise GoneError

    def _signal(self) -> None:
        """Report news, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._news.set)


def envelope(identity: str, name: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the object that holds choices. identity: of the request. name: of the model."""
    kind = "text_completion"
    made = int(time.time())
    return {"id": identity, "object": kind, "created": made, "model": name, "choices": choices}
