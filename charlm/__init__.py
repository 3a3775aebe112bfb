"""charlm: recurrent character-level language models, from one text file.

`charlm.train("hello")` or `charlm.train(data="my.txt")` trains and returns a summary;
`charlm.load(run)` returns a model that can `.sample()` and `.score()`; `sample`, `score`,
`compare`, `inspect` and `export` are called by the commands of these names. Errors are
`CharlmError`s. All are imported on first use, so that `import charlm` is fast.
"""

from typing import TYPE_CHECKING, Any

from charlm.common.version import __version__

if TYPE_CHECKING:
    from charlm.api import Loaded, compare, export, inspect, load, sample, score, train
    from charlm.common.errors import CharlmError

__all__ = [
    "CharlmError",
    "Loaded",
    "__version__",
    "compare",
    "export",
    "inspect",
    "load",
    "sample",
    "score",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "CharlmError":
        from charlm.common.errors import CharlmError

        return CharlmError
    if name in __all__:
        from charlm import api

        return getattr(api, name)
    raise AttributeError(f"module 'charlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
