"""Pages: templates filled in with everything escaped, and written whole or not at all."""

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from charlm.compare.table import spread_text
from charlm.errors import CharlmError
from charlm.files import replace
from charlm.text.display import visible


def render(template: str, **values: Any) -> str:
    """Fill a template in. All text is escaped but for `Markup`."""
    environment = Environment(
        loader=PackageLoader("charlm.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["spread"] = spread_text
    environment.filters["as_bits"] = lambda nats: nats / math.log(2)
    return environment.get_template(template).render(**values)


def write_page(path: Path, page: str) -> None:
    """Write a page. Raises: CharlmError where it cannot be written."""
    try:
        replace(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise CharlmError(
            f"cannot write the report to {path.parent}: {error.strerror}",
            "make room and run the same command again: finished runs are reused",
        ) from None
