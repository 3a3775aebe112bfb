"""Measurements kept in the comparison's folder, so that the same comparison shows the same numbers
whenever it is run again."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from charlm.files import json_bytes, replace

FOLDER = "measured"


def cached(folder: Path, name: str, key: Any, measure: Callable[[], Any]) -> Any:
    """Return what `measure` returned when it was first called for `key`.

    Both are JSON. A file that cannot be read is as good as none: it is measured again.
    """
    canonical = json.dumps(key)
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    path, wanted = folder / FOLDER / f"{name}-{digest}.json", json.loads(canonical)
    try:
        before = json.loads(path.read_bytes())
        if before["key"] == wanted:
            return before["value"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    value = measure()
    path.parent.mkdir(exist_ok=True)
    replace(path, json_bytes({"key": wanted, "value": value}))
    return value
