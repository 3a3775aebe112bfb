"""Pages: templates filled in with everything escaped, and written atomically."""

import base64
import hashlib
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from charlm.common.files import write_whole
from charlm.common.wording import spread_text
from charlm.text.display import visible


def render(template: str, **values: Any) -> str:
    """Fill in a template. All text except `Markup` is escaped."""
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


def script(*names: str) -> tuple[Markup, str]:
    """Return charlm's own scripts for a page as one, and the digest with which the page allows only
    this script. names: of files among the templates."""
    folder = files("charlm.reports").joinpath("templates")
    source = "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return Markup(source), f"sha256-{digest}"  # noqa: S704 (our own)


def write_page(path: Path, page: str) -> None:
    """Write a page. Raises: CharlmError if it cannot be written."""
    write_whole(path, page.encode("utf-8", "replace"))
