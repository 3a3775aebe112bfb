"""The application and its batch: the page, clients that leave, hosts, and the end of texts."""

import asyncio
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from charlm.config.schema import ModelConfig
from charlm.models.recurrent import CharModel
from charlm.serving.app import Page, Served, make_app
from charlm.serving.batch import STOPPING, Batch
from charlm.serving.lanes import TorchLanes
from charlm.serving.request import Limits
from charlm.serving.server import Address, Running, listening, serve
from charlm.serving.text import Order, Piece, Text, Token
from charlm.text.vocabulary import Vocabulary

LETTERS = Vocabulary("char", "none", tuple(range(97, 105)), has_unknown=False)
LONG = {"prompt": "a", "max_tokens": 60_000}


@pytest.fixture
def batch() -> Iterator[Batch]:
    """Yield a batch that writes one text at a time, by a model that has learned nothing."""
    config = ModelConfig(cell="gru", hidden_size=4, embedding_size=3)
    model = CharModel(config, len(LETTERS), None)
    model.reset_parameters(1)
    found = Batch([TorchLanes(model.requires_grad_(False), 1)], 1, 9, None)
    yield found
    found.stop()


def served(batch: Batch, page: Callable[[], Page] | None = None) -> Served:
    return Served("mine", LETTERS, batch, page or (lambda: Page(b"", "", None)), Limits())


class Asked:
    """A request to an application. later: messages of the server after the body of the request."""

    def __init__(self, path: str, body: Any = None) -> None:
        self._messages = [self.part(json.dumps(body).encode() if body else b"")]
        self.later: list[Callable[[], dict[str, Any]]] = []
        self.scope = {
            **{"type": "http", "http_version": "1.1", "method": "POST" if body else "GET"},
            **{"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": ""},
            **{"scheme": "http", "client": None, "server": None},
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        }
        self.sent: list[dict[str, Any]] = []

    @staticmethod
    def part(body: bytes) -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def receive(self) -> dict[str, Any]:
        if self._messages:
            return self._messages.pop(0)
        if not self.later:
            await asyncio.Event().wait()
        return await asyncio.to_thread(self.later.pop(0))

    async def send(self, message: Any) -> None:
        self.sent.append(dict(message))

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def test_the_page_is_made_once(batch: Batch) -> None:
    made: list[int] = []

    def page() -> Page:
        made.append(len(made))
        return Page(b"<h1>page %d</h1>" % made[-1], "default-src 'none'", bytearray(b"12345678"))

    app = make_app(served(batch, page))

    async def ask_all() -> list[Asked]:
        asked = [Asked("/"), Asked("/weights"), Asked("/")]
        await asyncio.gather(*(app(one.scope, one.receive, one.send) for one in asked[:2]))
        await app(asked[2].scope, asked[2].receive, asked[2].send)
        return asked

    found = [(one.status, one.content) for one in asyncio.run(ask_all())]
    assert found == [
        (200, b"<h1>page 0</h1>"),
        (200, b"12345678"),
        (200, b"<h1>page 0</h1>"),
    ]
    assert made == [0]


def test_a_client_leaves_with_a_disconnection_and_with_nothing_else(batch: Batch) -> None:
    asked, busy = Asked("/v1/completions", LONG), []

    def go_on() -> dict[str, Any]:
        return Asked.part(b"")

    def disconnect() -> dict[str, Any]:
        busy.append(batch.busy)
        return {"type": "http.disconnect"}

    asked.later = [go_on, go_on, disconnect]
    asyncio.run(make_app(served(batch))(asked.scope, asked.receive, asked.send))
    assert busy == [1]  # it was still being written
    assert asked.status == 499
    end = time.monotonic() + 20
    while batch.busy and time.monotonic() < end:
        time.sleep(0.01)
    assert batch.busy == 0


@pytest.mark.parametrize(("name", "status"), [("model.example", 200), ("localhost", 421)])
def test_only_a_local_address_is_called_by_local_names_alone(
    batch: Batch, name: str, status: int
) -> None:
    """The socket is that of this machine: the name alone decides."""
    opened = listening(Address("127.0.0.1", 0))
    port, started = opened.getsockname()[1], queue.Queue[Running]()
    arguments = (served(batch), Address(name, port), opened, started.put)
    thread = threading.Thread(target=serve, args=arguments)
    thread.start()
    running = started.get(timeout=60)
    try:
        assert running.url == f"http://{name}:{port}"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        with closing(connection):
            connection.request("GET", "/health", headers={"Host": "other.example"})
            assert connection.getresponse().status == status
    finally:
        running.stop()
        thread.join(30)
    assert not thread.is_alive()


# ---- the end of texts ---------------------------------------------------------------------------


def text_of(count: int, done: threading.Semaphore | None = None) -> Text:
    release = (lambda: None) if done is None else done.release
    return Text(Order([0], 0, count), LETTERS, release)


def test_texts_that_are_written_or_wait_end_with_the_server(batch: Batch) -> None:
    done = threading.Semaphore(0)
    texts = [text_of(10**6, done) for _ in range(3)]  # there is a lane for one of them
    batch.add(texts)
    batch.stop()
    for _ in texts:
        assert done.acquire(timeout=20)
    assert [(one.ended, one.fault) for one in texts] == [("fault", STOPPING)] * 3
    assert texts[1].written == texts[2].written == 0


def test_a_text_for_a_server_that_has_stopped_ends_at_once(batch: Batch) -> None:
    batch.stop()
    done = threading.Semaphore(0)
    texts = [text_of(5, done), text_of(9, done)]
    batch.add(texts)
    assert [done.acquire(timeout=20) for _ in texts] == [True, True]
    assert [(one.ended, one.fault) for one in texts] == [("fault", STOPPING)] * 2
    assert batch.busy == 0


# ---- texts that begin with a symbol of their own ------------------------------------------------


@pytest.mark.parametrize("likely", [None, 1])
def test_a_text_without_a_prompt_reports_the_symbol_that_begins_it(likely: int | None) -> None:
    text = Text(Order([2], 1, 1, begins=True, likely=likely), LETTERS, lambda: None)
    tokens = [] if likely is None else [Token(2, 0)]  # nothing before it predicts it
    assert list(text.pieces) == [Piece("c", tokens)]
    assert (text.ended, text.written) == ("length", 1)
