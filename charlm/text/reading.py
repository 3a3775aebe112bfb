"""Division of a text into pieces that can be normalised independently."""

import re
from collections.abc import Iterable, Iterator

from charlm.config.schema import DataConfig
from charlm.text.vocabulary import Vocabulary

# Characters that never combine with the one before them: a text may be cut before one, and the
# pieces normalised separately. Letters of common scripts suffice, because one is always near.
SAFE_TO_CUT_BEFORE = re.compile("[\0-\x7f\u0400-\u0482\u3041-\u3096\u4e00-\u9fff\uac00-\ud7a3]")
CHARACTERS = 1 << 20
"""Most characters normalised and encoded at a time, to limit memory."""


def in_blocks(text: str | bytes) -> Iterator[str | bytes]:
    """Cut a text into blocks of `CHARACTERS` characters."""
    return (text[start : start + CHARACTERS] for start in range(0, len(text), CHARACTERS))


def normalizable(
    pieces: Iterable[str | bytes], data: DataConfig | Vocabulary
) -> Iterator[str | bytes]:
    """Cut a text into pieces that can be normalised independently."""
    if data.unit == "byte" or (data.unit == "char" and data.normalize == "none"):
        yield from pieces
        return
    held = ""
    for piece in pieces:
        assert isinstance(piece, str)
        held += piece
        tail = len(held) - 1
        while tail > 0 and not SAFE_TO_CUT_BEFORE.match(held, tail):
            tail -= 1
        if tail > 0:
            yield held[:tail]
            held = held[tail:]
    if held:
        yield held
