"""The serving of a model to other programs, by the format of OpenAI's completions."""

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

from charlm.api.plain import PlainLoaded
from charlm.common.errors import CharlmError, UsageError
from charlm.exports import page
from charlm.exports.trained import Trained, refuse_foreign_cell
from charlm.models.plain import PlainModel, kernels_for, make_sampler
from charlm.runs.finding import home_of
from charlm.serving.batch import Batch
from charlm.serving.fields import RefusalError
from charlm.serving.lanes import Lanes, NativeLanes, TorchLanes
from charlm.serving.request import Limits

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.serving.app import Page
    from charlm.serving.server import Running

POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')


@dataclass(frozen=True)
class ServeOptions:
    """Options of `serve`.

    lanes: texts written at once. queue: texts that may wait. key: that requests must have; "" for
    none. threads: of the server's that write. precision: of the weights, see `resolve_precision`.
    """

    host: str = "127.0.0.1"
    port: int = 8321
    key: str = ""
    lanes: int = 32
    queue: int = 256
    threads: int = 1
    precision: str = "float32"
    limits: Limits = field(default_factory=Limits)


def serve(
    loaded: "Loaded | PlainLoaded",
    options: ServeOptions,
    ready: "Callable[[Running], object]",
    signals: Sequence[int] = (),
) -> int:
    """Serve a model until a signal or `Running.stop`; return the signal's number, or 0.

    ready: called once requests are taken, with the address and a way to stop. signals: those that
        end the server; only the main thread can handle some.

    Raises: UsageError if the address or the precision is not available, or if the packages of
        `charlm[serve]` are not there.
    """
    refuse_missing()
    from charlm.serving.app import Served  # here: they import starlette and uvicorn
    from charlm.serving.server import Address, listening
    from charlm.serving.server import serve as run

    address = Address(options.host, options.port)
    opened = listening(address)
    vocabulary = loaded.vocabulary
    lanes = _lanes(loaded, options)
    batch = Batch(lanes, options.lanes // len(lanes), options.queue, vocabulary.unknown)
    name = home_of(loaded.checkpoint.folder.absolute()).name
    served = Served(name, vocabulary, batch, lambda: _page(loaded), options.limits, options.key)
    return run(served, address, opened, ready, signals)


def refuse_missing() -> None:
    """Check that the packages of `charlm[serve]` are there. Raises: UsageError."""
    try:
        for package in ("starlette", "uvicorn"):
            import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the package {error.name} is not installed", "install it: pip install 'charlm[serve]'"
        ) from None


def _lanes(loaded: "Loaded | PlainLoaded", options: ServeOptions) -> list[Lanes]:
    """Make the lanes of every thread. Raises: UsageError for an unavailable precision."""
    if isinstance(loaded, PlainLoaded):
        kernels, model = kernels_for(loaded.model), loaded.model
    else:
        from charlm.sampling.engine import choose_precision  # here: it imports torch

        kernels, _ = choose_precision(loaded.model, options.precision)
        if kernels is None:
            return [TorchLanes(loaded.model, options.threads)]
        model = _plain(loaded)
    assert kernels is not None
    threads = min(options.threads, options.lanes)
    each = options.lanes // threads
    return [
        NativeLanes(make_sampler(kernels, model, each, options.precision)) for _ in range(threads)
    ]


def _page(loaded: "Loaded | PlainLoaded") -> "Page":
    """Make the page of the model, which holds the weights or, of a large model, fetches them.

    Raises: RefusalError for a model that no page computes.
    """
    from charlm.serving.app import Page

    try:
        plain = _plain(loaded)
        refuse_foreign_cell(plain, "html")
        precision, size = page.choose_precision([plain], "auto", page.LARGEST_APART)
        weights = bytearray() if size > page.LARGEST else None
        written = page.live_page([Trained(loaded.checkpoint, plain)], "en", precision, weights)
    except CharlmError as error:
        raise RefusalError(f"no page computes this model: {error.what}", None, 404) from None
    found = POLICY.search(written)
    assert found is not None
    return Page(written.encode("utf-8", "replace"), html.unescape(found[1]), weights)


def _plain(loaded: "Loaded | PlainLoaded") -> PlainModel:
    """Return the weights of a model on any device."""
    if isinstance(loaded, PlainLoaded):
        return loaded.model
    model = loaded.model
    weights = {name: weight.cpu().numpy() for name, weight in model.state_dict().items()}
    return PlainModel(model.config, model.vocabulary_size, model.end, weights)
