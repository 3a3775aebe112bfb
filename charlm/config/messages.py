"""Messages for errors of a configuration: the only module that reads pydantic's errors."""

from collections.abc import Callable
from typing import Any

from pydantic import ValidationError

from charlm.common.wording import suggestion
from charlm.config.schema import SECTIONS

SYNONYMS = {
    **dict.fromkeys(("input_size", "embedding_dim", "n_embd"), "model.embedding_size"),
    **dict.fromkeys(("rnn_size", "hidden_dim", "width", "units"), "model.hidden_size"),
    **dict.fromkeys(("layers", "n_layer", "n_layers"), "model.num_layers"),
    **dict.fromkeys(("init", "initializer"), "model.initialization"),
    **dict.fromkeys(("lr", "rate"), "train.learning_rate"),
    **dict.fromkeys(("seq_length", "seq_len", "block_size"), "train.sequence_length"),
    **dict.fromkeys(
        ("epochs", "max_epochs", "num_epochs", "max_iters", "iterations"), "train.steps"
    ),
    **dict.fromkeys(("batch", "lanes"), "train.batch_size"),
    **dict.fromkeys(("engine",), "train.backend"),
    **dict.fromkeys(("grad_clip", "clip"), "train.clip_norm"),
}
"""Names of keys in other programs, with charlm's key."""


LONGEST_VALUE = 100
KINDS = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
"""Descriptions of valid values, by the first letters of the type of pydantic's error."""


def sentences(
    error: ValidationError, place: Callable[[str, str], str] = lambda *_: ""
) -> list[str]:
    """Return a sentence for each error: key, the value seen and the valid values.

    place: returns the prefix of the sentence about a section and key, such as "file:3: ".
    """
    lines = []
    for item in error.errors():
        section, key = [*map(str, item["loc"]), "", ""][:2]
        lines.append(place(section, key) + _sentence(section, key, item))
    return list(dict.fromkeys(lines))


def sentence(error: ValidationError) -> str:
    """Return the first error of a single section, with the bare key."""
    item = error.errors()[0]
    key = str([*item["loc"], "it"][0])
    if item["type"] == "extra_forbidden":
        return f"there is no option {key!r}"
    return _sentence("", key, item)


def _sentence(section: str, key: str, item: Any) -> str:
    dotted = ".".join(filter(None, (section, key)))
    if section in SECTIONS and not key and item["type"] != "value_error":
        return f"{section} must be a table: [{section}] and its keys below"
    if dotted == "model.bidirectional":
        return f"{dotted} is refused: a second direction would read the character to be predicted"
    if item["type"] == "extra_forbidden":
        return _unknown(section, key)
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "value_error":
        return f"[{section}] {message}"
    return f"{dotted} = {_shown(item['input'])} {_promise(item)}"


def _promise(item: Any) -> str:
    """Describe the valid values, in words that assume no knowledge of pydantic or Python."""
    for start, words in KINDS.items():
        if item["type"].startswith(start):
            return f"should be {words}"
    context = item.get("ctx", {})
    if item["type"] in ("too_short", "too_long"):
        wanted = context.get("min_length", context.get("max_length"))
        return f"should have {wanted} items, not {context['actual_length']}"
    _, should, rest = item["msg"].partition("should ")
    return f"{should}{rest}"


def _shown(value: Any) -> str:
    """Format an invalid value of any type."""
    try:
        shown = repr(value)
    except (ValueError, RecursionError):  # Python prints no integer of over 4,300 digits
        return f"a {type(value).__name__} too long to print"
    return shown if len(shown) <= LONGEST_VALUE else f"{shown[:LONGEST_VALUE]}..."


def _unknown(section: str, key: str) -> str:
    if section not in SECTIONS:
        return f"there is no section {section!r}{suggestion(section, SECTIONS)}"
    meant = key_called(key)
    near = (
        f"; did you mean {meant!r}?" if meant else suggestion(key, SECTIONS[section].model_fields)
    )
    return f"there is no key '{section}.{key}'{near}"


def key_called(name: str) -> str:
    """Return the dotted key for a bare name, charlm's or another program's; "" if unknown."""
    dotted = [f"{section}.{key}" for section, kind in SECTIONS.items() for key in kind.model_fields]
    return next((k for k in dotted if k.endswith(f".{name}")), SYNONYMS.get(name, ""))
