"""A trained model loaded without torch, whose import takes `charlm sample` and `score` most of
their time."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Unpack

from charlm.api.options import WritingOptions
from charlm.config import loading
from charlm.models.plain import PlainModel, kernels_for
from charlm.runs.checkpoint import Checkpoint, read_arrays
from charlm.runs.own_text import with_text
from charlm.sampling.generate import Draw, Generation
from charlm.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from charlm.models.recurrent import CharModel
    from charlm.sampling.engine import Engine

DRAW = frozenset(one.name for one in fields(Draw))
GPUS = ("nvidia*", "kfd", "dxg")
"""Devices of a system with a GPU that `resolve_device` may choose, in /dev."""


class Trained(Protocol):
    """A trained model with its vocabulary: `Loaded` or `PlainLoaded`."""

    @property
    def checkpoint(self) -> Checkpoint: ...

    @property
    def model(self) -> "CharModel | PlainModel": ...

    @property
    def vocabulary(self) -> Vocabulary: ...


@dataclass(frozen=True)
class PlainLoaded:
    """A trained model with its vocabulary, that the kernels read and write with.

    checkpoint: without weights; they are in the model.
    """

    checkpoint: Checkpoint
    model: PlainModel
    vocabulary: Vocabulary

    def generation(
        self,
        prompt: str = "",
        make: "Callable[[int], Engine] | None" = None,
        *,
        num: int = 1,
        **options: Unpack[WritingOptions],
    ) -> Generation:
        """Prepare `num` texts. make: None. See `Loaded.generation`."""
        return generation(self, prompt, make, num, options)


def generation(
    loaded: Trained,
    prompt: str,
    make: "Callable[[int], Engine] | None",
    num: int,
    options: WritingOptions,
) -> Generation:
    """Prepare `num` texts by a model. See `Loaded.generation`."""
    given = dict(options)
    own = {name: given.pop(name) for name in DRAW if name in given}
    return Generation(
        loaded.model,
        loaded.vocabulary,
        loading.with_options(loaded.checkpoint.config.sample, given),
        prompt,
        Draw(num=num, **own),  # type: ignore[arg-type]
        make,
    )


def load_plain(folder: Path, device: str, data: Sequence[str] = ()) -> PlainLoaded | None:
    """Load the model of a checkpoint without torch; None if it takes torch to use it, or to
    say why the checkpoint is refused.

    device, data: as for `api.load`.

    Raises: CheckpointError, UsageError, DataError as `api.load`.
    """
    if not is_cpu(device):
        return None
    try:
        saved, weights = read_arrays(folder)
    except ValueError:
        return None
    model = PlainModel(saved.config.model, len(saved.vocabulary), saved.vocabulary.end, weights)
    if kernels_for(model) is None:
        return None
    if data:
        saved = with_text(saved, data)
    return PlainLoaded(saved, model, saved.vocabulary)


def is_cpu(device: str, devices: Path = Path("/dev")) -> bool:
    """Return True if a device certainly is the CPU here. devices: the system's folder of them."""
    if device != "auto":
        return device == "cpu"
    there = any(any(devices.glob(pattern)) for pattern in GPUS)
    return sys.platform == "linux" and not there
