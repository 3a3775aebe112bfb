"""The Python interface: `train`, `load`, `sample`, `score`, `compare`, `inspect`, `export`.

The commands call the same functions.

>>> summary = charlm.train("hello")                      # doctest: +SKIP
>>> charlm.load(summary["run"]).sample("h", length=4)    # doctest: +SKIP
'ello'

Expected errors are raised as a `charlm.CharlmError`, with `what` (the cause) and `advice` as
sentences. All are imported on first use, because most import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlm.api.comparing import compare
    from charlm.api.exporting import export
    from charlm.api.loaded import Loaded, inspect, load
    from charlm.api.sampling import sample
    from charlm.api.scoring import score
    from charlm.api.training import train

__all__ = ["Loaded", "compare", "export", "inspect", "load", "sample", "score", "train"]

_HOMES = {
    "Loaded": "loaded",
    "compare": "comparing",
    "export": "exporting",
    "inspect": "loaded",
    "load": "loaded",
    "sample": "sampling",
    "score": "scoring",
    "train": "training",
}
"""The module of each name."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"charlm.api.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'charlm.api' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
