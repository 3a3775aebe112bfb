"""Files that travel with the package, the cache, and writes that survive a crash."""

from importlib.resources import files
from pathlib import Path


def shipped(installed: str, checkout: str) -> Path:
    """Return a folder that travels with charlm: `installed` inside the package, or, in a checkout,
    `checkout` at its top."""
    package = Path(str(files("charlm")))
    inside = package / installed
    return inside if inside.is_dir() else package.parent / checkout
