"""The fast paths, to be switched off one by one: `CHARLM_TESTS_WITHOUT=caches pytest` must give the
same figures.

    kernels  torch computes everything; tests of the kernels themselves are skipped or fail
    steps    kernels compute, but each step's parts are called one by one
    table    torch's engine multiplies every symbol's vector instead of looking up the product
    caches   encoded texts, measurements of files and of comparisons are made anew each time
    plain    commands import torch
    overlap  texts are encoded by one process; gradients are sent once all are computed

Tests of the path itself (`OWN`) are skipped.
"""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

VARIABLE = "CHARLM_TESTS_WITHOUT"


OWN = {"steps": ["test_steps.py"], "kernels": ["tests/native"]}
"""Parts of the paths of files that test a fast path itself."""


@cache
def switch_off() -> None:
    """Switch the path off that `VARIABLE` names, if any, in this process."""
    if name := os.environ.get(VARIABLE):
        PATHS[name]()


def tests_own(path: Path) -> bool:
    """Return True if a file tests the path that is switched off."""
    parts = OWN.get(os.environ.get(VARIABLE, ""), [])
    return any(part in str(path) for part in parts)


def _kernels() -> None:
    from charlm.native import build

    def library(*_: object, **__: object) -> Any:
        raise build.UnavailableError("they are switched off")

    build.library = library


def _steps() -> None:
    from charlm.backends.choice import Backend

    Backend.steps = lambda *_: None  # type: ignore[method-assign]


def _table() -> None:
    import torch

    from charlm.sampling.engine import TorchEngine

    begin = TorchEngine.__init__

    def begin_without(self: Any, model: Any, num: int = 1) -> None:
        begin(self, model, num)
        self.table, self._projected = model.vectors(torch.arange(model.vocabulary_size)), []

    TorchEngine.__init__ = begin_without  # type: ignore[method-assign]


def _caches() -> None:
    from charlm.comparison import measurements
    from charlm.text import corpus
    from charlm.text.files import measuring

    def measured(folder: Any, name: str, key: Any, measure: Any, read: Any) -> Any:
        return read(measure())

    def forgotten(content: bytes) -> Any:
        raise ValueError(content)

    find = corpus._cached

    def own_copy(fingerprint: str) -> Any:  # of a run's text, which may not be opened
        is_one = corpus.FINGERPRINT.fullmatch(fingerprint)
        return find(corpus._folder(fingerprint), fingerprint) if is_one else None

    measurements.cached, measuring._recalled = measured, forgotten
    corpus._cached, corpus.cached = lambda *_: None, own_copy


def _plain() -> None:
    from charlm.api import plain

    plain.kernels_for = lambda model: None


def _overlap() -> None:
    from charlm.distributed.gradients import MeanGradients
    from charlm.text.encode import workers

    finish = MeanGradients.finish

    def add(self: Any, parameter: Any, gradient: Any) -> None:
        bucket, view = self._places[id(parameter)]
        view.add_(gradient) if self._group else view.copy_(gradient)
        bucket.missing -= 1

    def send_and_finish(self: Any) -> None:
        for bucket in self._buckets if self._ranks.size > 1 else ():
            with self._ranks.answered():
                bucket.send()
        finish(self)

    MeanGradients.add, MeanGradients.finish = add, send_and_finish  # type: ignore[method-assign]
    workers.ENOUGH = 10**18


PATHS: dict[str, Callable[[], None]] = {
    "kernels": _kernels,
    "steps": _steps,
    "table": _table,
    "caches": _caches,
    "plain": _plain,
    "overlap": _overlap,
}
