"""Connections that are cut off once their client stalls."""

from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol


class GuardedConnection(H11Protocol):
    """A connection that ends if its client, for a while, neither finishes the head of a request nor
    reads an answer. uvicorn itself waits for both without limit."""

    stall = 30.0
    """Seconds between two looks at a connection."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._seen: object = None
        self._unsent = 0
        self._look = self.loop.call_later(self.stall, self._inspect)

    def connection_lost(self, exc: Exception | None) -> None:
        self._look.cancel()
        super().connection_lost(exc)

    def _inspect(self) -> None:
        """End the connection if nothing has happened since the last look."""
        cycle, unsent = self.cycle, self.transport.get_write_buffer_size()
        waits = cycle is None or cycle.response_complete
        here = ("waits", cycle) if waits else None
        if (here and here == self._seen) or (unsent and unsent == self._unsent):
            self.transport.abort()
            return
        self._seen, self._unsent = here, unsent
        self._look = self.loop.call_later(self.stall, self._inspect)


def guarded(stall: float) -> type[GuardedConnection]:
    """Return the class of connections that are looked at every `stall` seconds."""
    return type("Connection", (GuardedConnection,), {"stall": stall})
