"""A server in a thread of the tests, and a client for it."""

import http.client
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from charlm.api.serving import ServeOptions, serve
from charlm.serving.server import Running


class Client:
    """A client of a server."""

    def __init__(self, port: int) -> None:
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(
        self, path: str, body: Any = None, method: str = "", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and content of the answer. body: bytes, or an object for JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {} if content is None else {"Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self.connected()
        try:
            connection.request(method or ("GET" if body is None else "POST"), path, content, given)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, named, answer.read()
        finally:
            connection.close()

    def found(self, path: str, body: Any = None) -> Any:
        """The JSON of an answer that must be fine."""
        status, _, content = self.ask(path, body)
        assert status == 200, content
        return json.loads(content)

    def refused(self, body: Any, path: str = "/v1/completions") -> tuple[int, str, str | None]:
        """The status, message and field of an error."""
        status, _, content = self.ask(path, body)
        error = json.loads(content)["error"]
        return status, error["message"], error["param"]

    def texts(self, **body: Any) -> list[str]:
        """The texts of completions."""
        return [one["text"] for one in self.found("/v1/completions", body)["choices"]]

    def events(self, **body: Any) -> list[str]:
        """The data of a stream's events."""
        status, headers, content = self.ask("/v1/completions", body | {"stream": True})
        assert status == 200, content
        assert headers["content-type"].startswith("text/event-stream")
        *events, after = content.decode().split("\n\n")
        assert after == ""
        return [event.removeprefix("data: ") for event in events]

    @property
    def busy(self) -> int:
        """Texts that are being written or wait."""
        return int(self.found("/health")["texts"])


@contextmanager
def running(loaded: Any, **options: Any) -> Iterator[Client]:
    """A server of a model while a `with` block runs."""
    given = ServeOptions(port=0, **options)
    started: queue.Queue[Running] = queue.Queue()
    thread = threading.Thread(target=serve, args=(loaded, given, started.put))
    thread.start()
    server = started.get(timeout=60)
    try:
        yield Client(int(server.url.rpartition(":")[2]))
    finally:
        server.stop()
        thread.join(30)
        assert not thread.is_alive()
