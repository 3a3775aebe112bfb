"""The addresses that the server answers."""

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from charlm.serving import answer, fields
from charlm.serving.batch import Batch
from charlm.serving.completions import WAIT, Completions, GoneError, envelope
from charlm.serving.fields import RefusalError
from charlm.serving.request import Limits, Wish, encoded, read_wish, refuse_other_model
from charlm.text.vocabulary import Vocabulary

LOG = logging.getLogger(__name__)
LOCAL = ("localhost", "127.0.0.1", "[::1]")
PART = 2**20
"""Bytes of weights that are sent at a time."""


@dataclass(frozen=True)
class Page:
    """The page of a model. policy: its content security policy. weights: those that it fetches;
    None if it holds them."""

    content: bytes
    policy: str
    weights: bytearray | None


@dataclass(frozen=True)
class Served:
    """A model that is served. page: makes its page; raises RefusalError. hosts: names by which
    clients may call the server; empty: any."""

    name: str
    vocabulary: Vocabulary
    batch: Batch
    page: Callable[[], Page]
    limits: Limits
    key: str = ""
    hosts: tuple[str, ...] = ()


Answer = Callable[[Request], Awaitable[Response]]


def make_app(served: Served) -> Starlette:
    """Make the application."""
    answers = _Answers(served)
    routes: list[tuple[str, Answer, str]] = [
        ("/", answers.page, "GET"),
        ("/weights", answers.weights, "GET"),
        ("/health", answers.health, "GET"),
        ("/v1/models", answers.models, "GET"),
        ("/v1/models/{name}", answers.model, "GET"),
        ("/v1/completions", answers.completions, "POST"),
        ("/tokenize", answers.tokenize, "POST"),
        ("/detokenize", answers.detokenize, "POST"),
        ("/tokenizer_info", answers.tokenizer_info, "GET"),
    ]
    return Starlette(
        routes=[
            Route(path, partial(_guarded, served, path, made), methods=[method])
            for path, made, method in routes
        ],
        exception_handlers={HTTPException: _no_such_address},
    )


async def _guarded(served: Served, path: str, make: Answer, request: Request) -> Response:
    """Answer a request, or refuse it; log it without its texts."""
    begin = time.monotonic()
    try:
        _refuse_host(request, served)
        if path != "/health":
            _refuse_key(request, served.key)
        response = await make(request)
    except RefusalError as refusal:
        response = refused(refusal)
    except (ClientDisconnect, GoneError):
        response = Response(status_code=499)  # no client reads it
    except Exception as error:  # a fault of the server; its message may quote a text
        place = traceback.extract_tb(error.__traceback__)[-1]
        LOG.error("%s in %s, line %s", type(error).__name__, place.filename, place.lineno)
        response = refused(RefusalError("the server has failed; its log says where", None, 500))
    seconds = time.monotonic() - begin
    if not isinstance(response, _Stream):
        LOG.info("%s %s %d, %.3f s", request.method, path, response.status_code, seconds)
    return response


class _Answers:
    """The answers of a server."""

    def __init__(self, served: Served) -> None:
        self._served, self._vocabulary = served, served.vocabulary
        self._page: Page | None = None
        self._making = asyncio.Lock()
        self._made = int(time.time())

    async def health(self, request: Request) -> Response:
        """Report that requests are taken."""
        return JSONResponse({"status": "ok", "texts": self._served.batch.busy})

    async def page(self, request: Request) -> Response:
        """Return the page that computes the model."""
        page = await self._made_page()
        headers = {
            "Content-Security-Policy": f"{page.policy}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
        }
        return Response(page.content, headers=headers, media_type="text/html")

    async def weights(self, request: Request) -> Response:
        """Return the weights that the page fetches."""
        weights = (await self._made_page()).weights
        if weights is None:
            raise RefusalError("the page holds its weights", None, 404)
        size, view = len(weights), memoryview(weights)
        parts = (bytes(view[at : at + PART]) for at in range(0, size, PART))
        headers = {"Content-Length": str(size), "Cross-Origin-Resource-Policy": "same-origin"}
        return StreamingResponse(parts, headers=headers, media_type="application/octet-stream")

    async def _made_page(self) -> Page:
        async with self._making:  # once, however many ask
            if self._page is None:
                self._page = await asyncio.to_thread(self._served.page)
        return self._page

    async def models(self, request: Request) -> Response:
        """List the one model."""
        return JSONResponse({"object": "list", "data": [self._about()]})

    async def model(self, request: Request) -> Response:
        """Describe the model."""
        refuse_other_model({"model": request.path_params["name"]}, self._served.name)
        return JSONResponse(self._about())

    async def completions(self, request: Request) -> Response:
        """Write texts."""
        served = self._served
        body = await _body(request, served.limits)
        wish = read_wish(body, served.name, served.vocabulary, served.limits)
        made = Completions(wish, served.batch, served.vocabulary, served.limits)
        identity = f"cmpl-{secrets.token_hex(12)}"
        if wish.streamed:
            return _Stream(made, wish, partial(envelope, identity, served.name))
        watch = asyncio.ensure_future(_leave_with(request.receive, made))
        try:
            choices = await made.whole()
        finally:
            watch.cancel()
            made.release()
        found = envelope(identity, served.name, choices)
        return JSONResponse(found | {"usage": answer.usage(wish.size, made.written)})

    async def tokenize(self, request: Request) -> Response:
        """Return the symbols of a text, as vLLM does."""
        body = await _body(request, self._served.limits)
        known = ["model", "prompt", "add_special_tokens", "return_token_strs"]
        fields.refuse_unknown(body, known)
        refuse_other_model(body, self._served.name)
        text, vocabulary = body.get("prompt"), self._vocabulary
        if not isinstance(text, str):
            raise RefusalError(f"prompt = {fields.shown(text)} should be a text", "prompt")
        is_end = vocabulary.end is not None and text == answer.END
        tokens = [vocabulary.end] if is_end else encoded(text, "prompt", vocabulary)
        named = None
        if fields.flag(body, "return_token_strs"):
            named = [answer.token_text(vocabulary, one) for one in tokens if one is not None]
        found = {"count": len(tokens), "max_model_len": self._served.limits.longest}
        return JSONResponse(found | {"tokens": tokens, "token_strs": named})

    async def detokenize(self, request: Request) -> Response:
        """Return the text of symbols, as vLLM does."""
        body = await _body(request, self._served.limits)
        fields.refuse_unknown(body, ["model", "tokens"])
        refuse_other_model(body, self._served.name)
        tokens = body.get("tokens")
        if not isinstance(tokens, list):
            raise RefusalError(f"tokens = {fields.shown(tokens)} should be a list", "tokens")
        text = self._vocabulary.decode(fields.symbols(tokens, "tokens", len(self._vocabulary)))
        return JSONResponse({"prompt": text.encode("utf-8", "replace").decode()})

    async def tokenizer_info(self, request: Request) -> Response:
        """Describe the symbols, as vLLM does. "bos_token" is read before a text without a prompt;
        only records have an "eos_token"."""
        vocabulary = self._vocabulary
        end = None if vocabulary.end is None else answer.END
        found = {
            "tokenizer_class": "charlm",
            "bos_token": end or answer.token_text(vocabulary, vocabulary.first),
            "eos_token": end,
            "pad_token": None,
            "chat_template": None,
            "unit": vocabulary.unit,
            "normalize": vocabulary.normalize,
            "vocab_size": len(vocabulary),
            "model_max_length": self._served.limits.longest,
        }
        return JSONResponse(found)

    def _about(self) -> dict[str, Any]:
        size = self._served.limits.longest
        about = {"id": self._served.name, "object": "model", "created": self._made}
        return about | {"owned_by": "charlm", "max_model_len": size}


class _Stream(Response):
    """Completions as server-sent events, until the client has them all or is gone."""

    def __init__(
        self,
        made: Completions,
        wish: Wish,
        wrap: Callable[[list[dict[str, Any]]], dict[str, Any]],
    ) -> None:
        self._made, self._wish, self._wrap = made, wish, wrap
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers, media_type="text/event-stream")
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begin = time.monotonic()
        watch = asyncio.ensure_future(_leave_with(receive, self._made))

        async def tell(value: object) -> None:
            content = answer.event(value)
            await send({"type": "http.response.body", "body": content, "more_body": True})

        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        try:
            await send(start)
            with contextlib.suppress(GoneError):
                await self._events(tell)
                await send({"type": "http.response.body", "body": b""})
        finally:
            watch.cancel()
            self._made.release()
            seconds = time.monotonic() - begin
            LOG.info("POST /v1/completions 200, a stream, %.3f s", seconds)

    async def _events(self, tell: Callable[[object], Awaitable[None]]) -> None:
        """Send the events."""
        try:
            async for part in self._made.parts():
                await tell(self._wrap([part]))
        except RefusalError as refusal:
            await tell(answer.error(refusal.what, refusal.field, refusal.status))
        else:
            if self._wish.counts:
                counted = answer.usage(self._wish.size, self._made.written)
                await tell(self._wrap([]) | {"usage": counted})
        await tell("[DONE]")


async def _leave_with(receive: Receive, made: Completions) -> None:
    """Wait until the client is gone, then leave its completions."""
    while (await receive())["type"] != "http.disconnect":
        pass
    made.leave()


async def _body(request: Request, limits: Limits) -> dict[str, Any]:
    """Read the JSON of a request. Raises: RefusalError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusalError(
            f"the Content-Type should be application/json, not {fields.shown(kind)}", None, 415
        )
    content = bytearray()
    try:
        async with asyncio.timeout(limits.stall):
            async for part in request.stream():
                content += part
                if len(content) > limits.body:
                    most = f"{limits.body:,} bytes are allowed"
                    raise RefusalError(f"the body is too large: {most}", None, 413)
    except TimeoutError:
        raise RefusalError(f"the body took longer than {limits.stall:g} s", None, 408) from None
    return fields.parsed(bytes(content))


def _refuse_host(request: Request, served: Served) -> None:
    """Check the name by which the server was called: a page on the web may have given its own name
    the server's address. Raises: RefusalError."""
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if served.hosts and name.lower() not in served.hosts:
        known = ", ".join(served.hosts)
        raise RefusalError(f"the Host {fields.shown(host)} is not one of {known}", None, 421)


def _refuse_key(request: Request, key: str) -> None:
    """Check the key of a request, as a bearer token or, for browsers, as a password. Raises:
    RefusalError."""
    if not key:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        with contextlib.suppress(binascii.Error, ValueError):
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
    if scheme.lower() not in ("bearer", "basic") or not hmac.compare_digest(
        given.strip().encode("utf-8", "replace"), key.encode()
    ):
        raise RefusalError("this server takes requests with its key only", None, 401)


def refused(refusal: RefusalError) -> Response:
    """Return the response to a request that is refused."""
    headers = {}
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Basic"
    if refusal.status == 429:
        headers["Retry-After"] = WAIT
    if refusal.status in (408, 413):
        headers["Connection"] = "close"  # the rest of the body is not read
    body = answer.error(refusal.what, refusal.field, refusal.status)
    return JSONResponse(body, refusal.status, headers)


async def _no_such_address(request: Request, error: Exception) -> Response:
    """Return the response to an unknown address or method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    what = "there is nothing at this address" if status == 404 else "this method is not allowed"
    LOG.info("another address, %d", status)
    return refused(RefusalError(what, None, status))
