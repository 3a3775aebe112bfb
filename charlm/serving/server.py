"""The server's life: its socket, its signals, its end."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from uvicorn import Config, Server

from charlm.common.errors import UsageError
from charlm.serving.app import LOCAL, Served, make_app
from charlm.serving.connection import guarded

CONNECTIONS = 256
"""Most connections at a time; others are refused with 503."""


@dataclass(frozen=True)
class Address:
    """An address to listen at. port: 0 picks one."""

    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """True if only this machine can reach it."""
        with contextlib.suppress(ValueError):
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        return self.host.lower() == "localhost"


def listening(address: Address) -> socket.socket:
    """Open a socket at an address. Raises: UsageError."""
    host = address.host.strip("[]")
    try:
        found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"--host {address.host}: {error}", "give an address of this machine"
        ) from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(place)
    except OSError as error:
        opened.close()
        is_elsewhere = error.errno == errno.EADDRNOTAVAIL
        raise UsageError(
            f"cannot listen at {address.host}, port {address.port}: {error.strerror}",
            "give an address of this machine as --host"
            if is_elsewhere
            else "choose another --port; 0 picks a free one",
        ) from None
    return opened


def url_of(address: Address, opened: socket.socket) -> str:
    """Return the address of the server."""
    host, port = address.host.strip("[]"), opened.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@dataclass(frozen=True)
class Running:
    """A server that takes requests. url: its address. stop: ends it, from any thread."""

    url: str
    stop: Callable[[], object]


def serve(
    served: Served,
    address: Address,
    opened: socket.socket,
    ready: Callable[[Running], object],
    signals: Sequence[int] = (),
) -> int:
    """Answer requests until a signal or `Running.stop`; return the signal's number, or 0.

    opened: the socket. ready: called once requests are taken. signals: those that end the server;
    texts in progress have a few seconds then.
    """
    if address.is_local:
        served = replace(served, hosts=tuple(dict.fromkeys([*LOCAL, address.host.lower()])))
    quiet_uvicorn()
    config = Config(
        make_app(served),
        http=guarded(served.limits.stall),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=int(served.limits.grace) + 3,
    )
    server = _Server(config, served, signals, partial(_report, ready, url_of(address, opened)))
    with opened:
        asyncio.run(server.serve(sockets=[opened]))
    return server.received


def _report(ready: Callable[[Running], object], url: str, stop: Callable[[], object]) -> None:
    """Call `ready`."""
    ready(Running(url, stop))


class _Server(Server):
    """A server of uvicorn's that ends its texts before it ends its connections."""

    def __init__(
        self,
        config: Config,
        served: Served,
        signals: Sequence[int],
        ready: Callable[[Callable[[], object]], object],
    ) -> None:
        super().__init__(config)
        self.received = 0
        self._served, self._signals, self._ready = served, signals, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        self._ready(partial(loop.call_soon_threadsafe, self._stop, 0))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs."""
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in self._signals:
                loop.remove_signal_handler(number)

    def _stop(self, number: int) -> None:
        """Stop taking requests; after a second signal, wait for none."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self.received = self.received or number

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        loop, batch = asyncio.get_running_loop(), self._served.batch
        timer = loop.call_later(self._served.limits.grace, loop.run_in_executor, None, batch.stop)
        await super().shutdown(sockets)
        timer.cancel()
        await loop.run_in_executor(None, batch.stop)


def quiet_uvicorn() -> None:
    """Leave uvicorn's own messages out, which quote requests."""
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL + 1)
