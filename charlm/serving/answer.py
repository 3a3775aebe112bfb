"""Answers in the format of the field: completions, their parts in a stream, and errors."""

import json
from collections.abc import Sequence
from typing import Any

from charlm.serving.text import Piece, Token
from charlm.text.vocabulary import Vocabulary

END = "<end>"
"""The end of a record in lists of symbols, where it would look like the end of a line."""


def token_text(vocabulary: Vocabulary, index: int) -> str:
    """Return a symbol as text: a byte outside ASCII as "bytes:\\xe4", as the field does."""
    if index == vocabulary.end:
        return END
    if vocabulary.unit == "byte" and index > 127:
        return f"bytes:\\x{index:02x}"
    return vocabulary.symbol(index)


def choice(
    number: int, pieces: Sequence[Piece], reason: str | None, likely: Vocabulary | None
) -> dict[str, Any]:
    """Return one of the "choices". likely: the vocabulary, if ln p is reported."""
    tokens = [token for piece in pieces for token in piece.tokens]
    return {
        "index": number,
        "text": "".join(piece.text for piece in pieces).encode("utf-8", "replace").decode(),
        "logprobs": None if likely is None else _logprobs(tokens, likely),
        "finish_reason": reason,
    }


def _logprobs(tokens: Sequence[Token], vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "tokens": [token_text(vocabulary, one.index) for one in tokens],
        "token_logprobs": [one.log for one in tokens],
        "top_logprobs": [
            None
            if one.log is None
            else {token_text(vocabulary, index): log for index, log in one.likely}
            for one in tokens
        ],
        "text_offset": [one.offset for one in tokens],
    }


def usage(read: int, written: int) -> dict[str, int]:
    """Return the numbers of symbols."""
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def error(what: str, field: str | None, status: int) -> dict[str, Any]:
    """Return the body of an error."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": what, "type": kind, "param": field, "code": None}}


def event(value: object) -> bytes:
    """Return a server-sent event."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()
