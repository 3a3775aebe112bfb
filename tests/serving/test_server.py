"""The server's life: clients that stall or leave, the key, the queue, the end."""

import base64
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from browser import Tab, needs_browser
from clients import Client, running
from conftest import TINY, Command, charlm, words

from charlm.api.loaded import Loaded, load
from charlm.serving.request import Limits

FOREVER = {"prompt": "the ", "max_tokens": 60_000, "seed": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("life")
    (folder / "words.txt").write_text(words(1500), encoding="utf-8")
    sets = [part for change in TINY for part in ("--set", change)]
    done = charlm("train", "words.txt", "--run", "run", *sets, "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    return load(folder / "run")


def eventually(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


def send_on(to: socket.socket) -> None:
    """Send a byte now and then, for five seconds."""
    for _ in range(100):
        to.sendall(b"x")
        time.sleep(0.05)


def begun(client: Client, **order: object) -> http.client.HTTPConnection:
    """A request whose answer is not waited for."""
    connection = client.connected()
    body = json.dumps(FOREVER | order)
    connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
    return connection


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_frees_its_lane(loaded: Loaded, streamed: bool) -> None:
    with running(loaded, lanes=1, limits=Limits(longest=10**6)) as client:
        connection = begun(client, stream=streamed, max_tokens=900_000)
        if streamed:
            assert connection.getresponse().read(6) == b"data: "
        else:
            assert eventually(lambda: client.busy == 1)
        begin = time.monotonic()
        if connection.sock is not None:  # an answer that is read keeps it open
            connection.sock.shutdown(socket.SHUT_RDWR)
        connection.close()
        assert client.texts(prompt="the ", max_tokens=3)
        assert time.monotonic() - begin < 10
        assert eventually(lambda: client.busy == 0)


def test_a_client_that_reads_nothing_is_cut_off(loaded: Loaded) -> None:
    """Its text is written at full speed all the same, and its connection ends."""
    limits = Limits(stall=0.5, seconds=60)
    with running(loaded, lanes=1, limits=limits) as client:
        slow = socket.socket()
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", client.port))
        body = json.dumps(FOREVER | {"max_tokens": 15_000, "logprobs": 20}).encode()
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert client.texts(prompt="the ", max_tokens=3)  # once the lane is free
        time.sleep(2)
        with slow, pytest.raises(OSError):
            send_on(slow)


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST /v1/compl", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "],
    ids=["nothing", "a line", "a header"],
)
def test_half_a_request_is_not_waited_for(loaded: Loaded, sent: bytes) -> None:
    with running(loaded, limits=Limits(stall=0.3)) as client:
        with socket.create_connection(("127.0.0.1", client.port), timeout=10) as half:
            half.sendall(sent)
            assert half.recv(100) == b""
        with socket.create_connection(("127.0.0.1", client.port), timeout=10) as half:
            head = (
                "POST /tokenize HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            )
            half.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
            assert b" 408 " in half.recv(1000)


def test_a_full_queue_refuses_with_429(loaded: Loaded) -> None:
    with running(loaded, lanes=1, queue=1) as client:
        both = [begun(client), begun(client)]
        assert eventually(lambda: client.busy == 2)
        status, headers, content = client.ask("/v1/completions", {"prompt": "the "})
        assert status == 429
        assert headers["retry-after"] == "1"
        assert b"too many texts are waiting" in content
        for connection in both:
            connection.close()
        assert eventually(lambda: client.busy == 0)
        assert client.texts(prompt="the ", max_tokens=3)


def test_an_answer_has_a_time_limit(loaded: Loaded) -> None:
    with running(loaded, limits=Limits(seconds=0.3)) as client:
        status, message, _ = client.refused(FOREVER)
        assert (status, message) == (504, "the answer took longer than 0.3 seconds")
        *_, fault, last = client.events(**FOREVER)
        assert last == "[DONE]"
        assert json.loads(fault)["error"]["message"] == message
        assert eventually(lambda: client.busy == 0)


def test_a_key_is_needed_for_all_but_health(loaded: Loaded) -> None:
    with running(loaded, key="sesame") as client:
        assert client.ask("/health")[0] == 200
        wrong = base64.b64encode(b"any:wrong").decode()
        for given in (
            "",
            "Bearer",
            "Bearer wrong",
            "sesame",
            f"Basic {wrong}",
            "Basic !",
            "Bearer é",
        ):
            for path in ("/", "/v1/models", "/tokenizer_info"):
                status, headers, content = client.ask(path, Authorization=given)
                assert status == 401
                assert headers["www-authenticate"] == "Basic"
                assert b"sesame" not in content
        assert client.ask("/v1/completions", {"prompt": "a"})[0] == 401
        right = base64.b64encode(b"any:sesame").decode()
        for given in ("Bearer sesame", f"Basic {right}"):
            assert client.ask("/v1/models", Authorization=given)[0] == 200


def test_a_page_of_another_site_gets_nothing(loaded: Loaded) -> None:
    """No CORS headers; no form, which needs none; no name of its own for the server's address."""
    with running(loaded) as client:
        for path in ("/health", "/v1/models", "/"):
            _, headers, _ = client.ask(path, Origin="https://example.com")
            assert not [name for name in headers if name.startswith("access-control")]
        order = json.dumps({"prompt": "a"}).encode()
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            assert client.ask("/v1/completions", order, Content_Type=kind)[0] == 415
        assert client.ask("/v1/completions", method="OPTIONS")[0] == 405
        for host in ("example.com", "example.com:8321", "127.0.0.1.example.com", ""):
            assert client.ask("/health", Host=host)[0] == 421
        for host in ("localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:8321"):
            assert client.ask("/health", Host=host)[0] == 200


def test_the_page_has_its_policy(loaded: Loaded) -> None:
    with running(loaded) as client:
        status, headers, content = client.ask("/")
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        policy = headers["content-security-policy"].removesuffix("; frame-ancestors 'none'")
        assert policy.startswith("default-src 'none'; ")
        assert f'content="{policy}"'.encode() in content.replace(b"&#39;", b"'")
        assert b"<h1>" in content


@needs_browser
def test_page_of_a_large_model_fetches_its_weights(
    loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It computes the same as the page that holds them; if the server is gone, it says so."""
    ask = "((model) => Array.from(model.read(model.initialStates(), 3).logits))"
    ask += "(page.columns[0].model)"
    with Tab(tmp_path) as tab:
        with running(loaded) as client:
            assert client.ask("/weights")[0] == 404
            tab.open(client.url)
            tab.until("page.columns.length")
            held = tab.run(ask)
            assert "connect-src" not in client.ask("/")[1]["content-security-policy"]
        monkeypatch.setattr("charlm.exports.page.LARGEST", 1000)
        with running(loaded, key="sesame") as client:
            assert client.ask("/weights")[0] == 401
            address = client.url.replace("//", "//any:sesame@")
            policy = client.ask("/", Authorization="Bearer sesame")[1]["content-security-policy"]
            assert "; connect-src 'self'; " in policy
            tab.open(address)
            tab.until("page.columns.length")
            assert tab.run(ask) == held
            size = len(client.ask("/weights", Authorization="Bearer sesame")[2])
            assert size == 4 * sum(one.numel() for one in loaded.model.parameters())
            assert tab.messages == []
        tab.run("page.begin()")
        assert tab.run("field('status').textContent").startswith("The server does not send")
        monkeypatch.setattr("charlm.exports.page.LARGEST_APART", 1000)
        with running(loaded) as client:
            status, message, _ = client.refused(None, "/")
            assert status == 404
            assert message.startswith("no page computes this model: ")


def test_a_fault_of_the_server_is_logged_without_texts(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret text")

    with running(loaded) as client, monkeypatch.context() as patch:
        patch.setattr("charlm.serving.app.read_wish", fail)
        status, message, _ = client.refused({"prompt": "a"})
    assert (status, message) == (500, "the server has failed; its log says where")
    assert "RuntimeError in " in caplog.text
    assert "secret" not in caplog.text


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def process(folder: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Client]]]:
    """Starts `charlm serve`, and waits until requests are taken."""
    begun: list[subprocess.Popen[str]] = []

    def start(*options: str) -> tuple[subprocess.Popen[str], Client]:
        words_typed = [sys.executable, "-m", "charlm", "serve", "run", "--port", "0", *options]
        made = subprocess.Popen(
            words_typed, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        begun.append(made)
        assert made.stdout is not None
        address = made.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), made.communicate()
        return made, Client(int(address.rpartition(":")[2]))

    yield start
    for one in begun:
        one.kill()
        one.communicate()


def pieces(answer: http.client.HTTPResponse, count: int) -> Iterator[str]:
    """Yield the pieces of a streamed text, until there are this many characters or it has ended."""
    while count > 0 and (line := answer.readline()):
        if line.startswith(b"data: {"):
            event = json.loads(line.removeprefix(b"data: "))
            assert "error" not in event, event
            yield event["choices"][0]["text"]
            count -= len(event["choices"][0]["text"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_server(
    process: Callable[..., tuple[subprocess.Popen[str], Client]], number: int, code: int
) -> None:
    """A text that needs little time ends; one that needs long ends with a message."""
    server, client = process("--longest", "1000000")
    with ThreadPoolExecutor(3) as clients:
        long = clients.submit(client.refused, FOREVER | {"max_tokens": 900_000})
        streamed = clients.submit(client.events, **FOREVER | {"max_tokens": 900_000})
        assert eventually(lambda: client.busy == 2)
        connection = begun(client, prompt="quick brown", max_tokens=500, stream=True)
        with contextlib.closing(connection), connection.getresponse() as short:
            written = list(pieces(short, 400))
            server.send_signal(number)
            assert len("".join([*written, *pieces(short, 500)])) == 500
        assert long.result(60)[:2] == (503, "the server is stopping")
        assert "the server is stopping" in streamed.result(60)[-2]
    _, said = server.communicate(timeout=30)
    assert server.returncode == code, said
    assert said.endswith("stopped on request\n")
    assert "Traceback" not in said
    assert "POST /v1/completions 200, " in said
    assert "quick" not in said


def test_a_run_may_be_removed_or_trained_further_while_it_is_served(
    process: Callable[..., tuple[subprocess.Popen[str], Client]], folder: Path
) -> None:
    _, client = process("-q")
    first = client.texts(prompt="the ", seed=1, max_tokens=40)
    more = ["--set", "train.steps=24", "--resume", "-q"]
    done = charlm("train", "--run", "run", *more, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert client.texts(prompt="the ", seed=1, max_tokens=40) == first
    assert client.ask("/")[0] == 200


def test_wrong_options_are_refused(command: Command, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = command("serve", str(folder / "run"), "--port", port)
        assert done.returncode == 2
        assert f"cannot listen at 127.0.0.1, port {port}" in done.stderr
        assert "--port" in done.stderr
    done = command("serve", str(folder / "run"), "--host", "203.0.113.7")  # of documentation only
    assert done.returncode == 2
    assert "address of this machine" in done.stderr
    assert "another --port" not in done.stderr
    done = command("serve", str(folder / "run"), "--host", "no.such.host.invalid")
    assert done.returncode == 2
    assert "no.such.host.invalid" in done.stderr


def test_without_its_packages_the_extra_is_named(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    done = command("serve", str(folder / "run"))
    assert done.returncode == 2
    assert "pip install 'charlm[serve]'" in done.stderr


def test_other_commands_do_not_import_the_server() -> None:
    code = "import charlm.cli.app, sys; print({'starlette', 'uvicorn', 'torch'} & set(sys.modules))"
    given = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=given)
    assert done.stdout == "set()\n", done.stderr
