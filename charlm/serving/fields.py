"""Checks of the fields of a request; a refusal names the field and the value."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from charlm.common.wording import suggestion

LONGEST_SHOWN = 60
"""Characters of a value that are shown."""
HALF = re.compile("[\ud800-\udfff]")
"""A surrogate, which JSON can hold alone."""


class RefusalError(Exception):
    """A request that is refused. status: of HTTP. field: the one at fault."""

    def __init__(self, what: str, field: str | None = None, status: int = 400) -> None:
        super().__init__(what)
        self.what, self.field, self.status = what, field, status


def parsed(content: bytes) -> dict[str, Any]:
    """Read the JSON object of a request. Raises: RefusalError."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON")

    try:
        found = json.loads(content.decode(), parse_constant=refuse)
    except RecursionError:
        raise RefusalError("the body is nested too deeply") from None
    except ValueError as error:
        raise RefusalError(f"the body is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise RefusalError(f"the body should be an object, not {shown(found)}")
    return found


def refuse_unknown(body: Mapping[str, Any], known: Collection[str]) -> None:
    """Check the names of the fields. Raises: RefusalError."""
    for name in body:
        if name not in known:
            near = suggestion(name, known)
            raise RefusalError(f"there is no field {shown(name)} here{near}", name[:LONGEST_SHOWN])


def refuse_unless(body: Mapping[str, Any], neutral: Mapping[str, Collection[object]]) -> None:
    """Check fields that only some values of which change nothing. Raises: RefusalError."""
    for name, values in neutral.items():
        value = body.get(name)
        if value is not None and value not in values:
            raise RefusalError(f"{name} = {shown(value)} is not supported", name)


def whole(body: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    """Return the value of a field, a whole number within bounds. Raises: RefusalError."""
    value = body.get(name)
    if value is None:
        return default
    if type(value) is not int or not least <= value <= most:
        raise _unfit(name, value, f"a whole number from {least} to {most}")
    return value


def number(body: Mapping[str, Any], name: str, default: float, least: float, most: float) -> float:
    """Return the value of a field, a number within bounds. Raises: RefusalError."""
    value = body.get(name)
    if value is None:
        return default
    if type(value) not in (int, float) or not least <= value <= most:
        raise _unfit(name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def flag(body: Mapping[str, Any], name: str) -> bool:
    """Return the value of a field, true or false. Raises: RefusalError."""
    value = body.get(name)
    if value is not None and type(value) is not bool:
        raise _unfit(name, value, "true or false")
    return bool(value)


def texts(body: Mapping[str, Any], name: str, most: int, longest: int) -> tuple[str, ...]:
    """Return the value of a field, a text or a list of texts. Raises: RefusalError."""
    value = body.get(name)
    if value is None:
        return ()
    found = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in found):
        raise _unfit(name, value, "a text or a list of texts")
    if len(found) > most:
        raise RefusalError(f"{name} has {len(found)} texts, {most} are allowed", name)
    for one in found:
        if len(one) > longest:
            length = f"{len(one):,} characters, {longest:,} are allowed"
            raise RefusalError(f"{name} has a text of {length}", name)
        refuse_halves(one, name)
    return tuple(found)


def symbols(value: list[Any], name: str, size: int) -> list[int]:
    """Check a list of token ids. size: of the vocabulary. Raises: RefusalError."""
    for place, one in enumerate(value):
        if type(one) is not int or not 0 <= one < size:
            expected = f"token ids are whole numbers from 0 to {size - 1}"
            raise RefusalError(f"{name}[{place}] = {shown(one)}: {expected}", name)
    return value


def refuse_halves(text: str, name: str) -> None:
    """Check that a text has no half of a character. Raises: RefusalError."""
    if found := HALF.search(text):
        half = f"U+{ord(found[0]):04X} at place {found.start()}"
        raise RefusalError(f"{name} has {half}, which is half of a character", name)


def shown(value: object) -> str:
    """Format a value for a message, cut to a limited length."""
    if isinstance(value, dict | list):  # it may be large
        return (
            f"an object of {len(value)}" if isinstance(value, dict) else f"a list of {len(value)}"
        )
    text = json.dumps(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def _unfit(name: str, value: object, expected: str) -> RefusalError:
    return RefusalError(f"{name} = {shown(value)} should be {expected}", name)
