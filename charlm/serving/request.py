"""A request for completions, read from its JSON."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

from charlm.common.wording import suggestion
from charlm.serving import fields
from charlm.serving.choosing import Filters
from charlm.serving.fields import RefusalError
from charlm.serving.text import Order
from charlm.text.vocabulary import Vocabulary, is_decomposed

KNOWN = (
    *("model", "prompt", "max_tokens", "temperature", "top_p", "top_k", "min_p", "n", "seed"),
    *("stop", "stream", "stream_options", "echo", "logprobs", "user", "best_of", "suffix"),
    *("frequency_penalty", "presence_penalty", "logit_bias"),
)
NEUTRAL = {
    "suffix": ("",),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
}
"""Fields of the format that have only these values here."""
MOST_STOPS, LONGEST_STOP = 16, 256
MOST_LIKELY, MOST_REPORTED = 100, 2_000_000
"""Most likely symbols that are reported in one place, and in all places of a request."""


@dataclass(frozen=True)
class Limits:
    """Limits of a request. longest: symbols of a text that are read and written. most: texts of a
    request. body: bytes. seconds: until it is answered. grace: seconds that a text in progress has
    when the server stops. stall: seconds after which a client that does not read, or does not
    finish its request, is cut off."""

    longest: int = 65_536
    most: int = 128
    body: int = 2_000_000
    seconds: float = 600
    grace: float = 5
    stall: float = 30


@dataclass(frozen=True)
class Wish:
    """A request for completions: the orders, those of a prompt together.

    size: symbols of the prompts. counts: True if a stream ends with the numbers of symbols.
    """

    orders: list[Order]
    size: int
    streamed: bool
    counts: bool


def read_wish(body: Mapping[str, Any], name: str, vocabulary: Vocabulary, limits: Limits) -> Wish:
    """Read a request. name: of the model. Raises: RefusalError."""
    fields.refuse_unknown(body, KNOWN)
    refuse_other_model(body, name)
    fields.refuse_unless(body, NEUTRAL)
    n = fields.whole(body, "n", 1, 1, limits.most)
    fields.refuse_unless(body, {"best_of": (n,)})
    prompts = _prompts(body.get("prompt"), vocabulary)
    if len(prompts) * n > limits.most:
        each = f"{len(prompts)} prompts with n = {n}"
        raise RefusalError(f"{each} are more than {limits.most} texts", "n")
    count = fields.whole(body, "max_tokens", 16, 0, limits.longest)
    longest = max(map(len, prompts))
    if longest + count > limits.longest:
        sizes = f"a prompt of {longest} and max_tokens = {count}"
        raise RefusalError(f"{sizes} are more than {limits.longest} symbols", "max_tokens")
    likely, echo = _likely(body, len(vocabulary)), fields.flag(body, "echo")
    if likely is not None:
        places = n * sum(count + echo * len(symbols) for symbols in prompts)
        _refuse_many(places * (likely + 1))
    seed = fields.whole(body, "seed", secrets.randbelow(2**32), 0, 2**63 - 1)
    streamed = fields.flag(body, "stream")
    stops = fields.texts(body, "stop", MOST_STOPS, LONGEST_STOP)
    common = {
        "count": count,
        "filters": _filters(body),
        "seed": seed,
        "columns": n,
        "stops": tuple(vocabulary.normalized(stop) for stop in stops),
        "likely": likely,
        "echo": echo,
        "streamed": streamed,
    }
    orders = [
        _order(symbols, vocabulary, common | {"column": column})
        for symbols in prompts
        for column in range(n)
    ]
    return Wish(orders, sum(map(len, prompts)), streamed, _counts(body))


def refuse_other_model(body: Mapping[str, Any], name: str) -> None:
    """Check that the model of a request is this one, if it names one. Raises: RefusalError."""
    asked = body.get("model")
    if asked is not None and asked != name:
        near = suggestion(asked, [name]) if isinstance(asked, str) else ""
        there = f"there is no model {fields.shown(asked)} here, but {fields.shown(name)}"
        raise RefusalError(there + near, "model", 404)


def encoded(text: str, field: str, vocabulary: Vocabulary) -> list[int]:
    """Return the symbols of a text. Raises: RefusalError for a character that is not known, unless
    there is a symbol for those."""
    fields.refuse_halves(text, field)
    missing = vocabulary.unknown_in(text) if vocabulary.unknown is None else {}
    if missing:
        decomposed = is_decomposed(vocabulary.unit, vocabulary.normalize)
        parts = [normalize("NFD", one) for one in text] if decomposed else text
        places = (n for n, one in enumerate(parts) if not missing.keys().isdisjoint(one))
        place = next(places, None)  # None: only the composed text has it
        character = next(iter(missing)) if place is None else text[place]
        named = f"{character!r} (U+{ord(character):04X})"
        named += "" if place is None else f" at place {place}"
        raise RefusalError(f"{field} has {named}, which the model does not know", field)
    return [int(index) for index in vocabulary.encode(text)]


def _prompts(value: Any, vocabulary: Vocabulary) -> list[list[int]]:
    """Return the symbols of every prompt. Raises: RefusalError."""
    if value is None:
        value = ""
    if isinstance(value, str):
        return [encoded(value, "prompt", vocabulary)]
    if not isinstance(value, list) or not value:
        seen = f"prompt = {fields.shown(value)}"
        raise RefusalError(f"{seen} should be a text, token ids, or a list of either", "prompt")
    if not isinstance(value[0], str | list):
        return [fields.symbols(value, "prompt", len(vocabulary))]
    found = []
    for number, one in enumerate(value):
        place = f"prompt[{number}]"
        if isinstance(one, str) and isinstance(value[0], str):
            found.append(encoded(one, place, vocabulary))
        elif isinstance(one, list) and isinstance(value[0], list):
            found.append(fields.symbols(one, place, len(vocabulary)))
        else:
            kind = "a text" if isinstance(value[0], str) else "a list of token ids"
            raise RefusalError(f"{place} = {fields.shown(one)} should be {kind}", "prompt")
    return found


def _order(symbols: list[int], vocabulary: Vocabulary, options: dict[str, Any]) -> Order:
    """Return the order of a text that continues a prompt: a record begins after the end of another
    one, and a text without a prompt as in `sampling.generate`."""
    if vocabulary.end is not None and symbols[:1] != [vocabulary.end]:
        return Order([vocabulary.end, *symbols], 1, **options)
    if symbols:
        return Order(symbols, 0, **options)
    first = vocabulary.first
    begins = not vocabulary.symbol(first).isspace() and options["count"] > 0
    return Order([first], 1, begins=begins, **options)


def _filters(body: Mapping[str, Any]) -> Filters:
    top_p = fields.number(body, "top_p", 1, 0, 1)
    if not top_p:
        raise RefusalError("top_p = 0 should be above 0; temperature = 0 is greedy", "top_p")
    top_k = body.get("top_k")
    return Filters(
        temperature=fields.number(body, "temperature", 1, 0, 100),
        top_k=0 if top_k == -1 else fields.whole(body, "top_k", 0, 0, 10**9),
        top_p=top_p,
        min_p=fields.number(body, "min_p", 0, 0, 1),
    )


def _likely(body: Mapping[str, Any], size: int) -> int | None:
    """Return the number of likely symbols to report; None without logprobs."""
    if body.get("logprobs") is None:
        return None
    return min(size, fields.whole(body, "logprobs", 0, 0, MOST_LIKELY))


def _refuse_many(reported: int) -> None:
    """Check the number of symbols that logprobs reports. Raises: RefusalError."""
    if reported > MOST_REPORTED:
        found = f"logprobs of {reported:,} symbols in all places"
        raise RefusalError(f"{found}, {MOST_REPORTED:,} are allowed", "logprobs")


def _counts(body: Mapping[str, Any]) -> bool:
    """Return True if a stream should end with the numbers of symbols."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise RefusalError(f"stream_options = {fields.shown(options)} should be an object")
    fields.refuse_unknown(options, ["include_usage"])
    return fields.flag(options, "include_usage")
