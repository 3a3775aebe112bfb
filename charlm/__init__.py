"""charlm: recurrent character-level language models, from one text file.

`charlm.train(config)` trains, `charlm.load(run)` gives a model that can `.sample()` and `.score()`.
Both are imported on first use, so that `import charlm` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charlm.api import load, train

__version__ = "0.1.0"
__all__ = ["__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in ("load", "train"):
        from charlm import api

        return getattr(api, name)
    raise AttributeError(f"module 'charlm' has no attribute {name!r}")
