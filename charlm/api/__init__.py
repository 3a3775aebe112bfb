"""The Python interface: `train`, `load`, `sample`, `score`, `compare` and `inspect`.

The commands call the same functions.

>>> summary = charlm.train("hello")                      # doctest: +SKIP
>>> charlm.load(summary["run"]).sample("h", length=4)    # doctest: +SKIP
'ello'

Expected errors are raised as a `charlm.CharlmError`, with `what` (the cause) and `advice` as
sentences.
"""

from charlm.api.comparing import compare
from charlm.api.loaded import Loaded, inspect, load
from charlm.api.sampling import sample
from charlm.api.scoring import score
from charlm.api.training import train

__all__ = ["Loaded", "compare", "inspect", "load", "sample", "score", "train"]
