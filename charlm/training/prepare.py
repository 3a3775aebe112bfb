"""Preparation of runs: the layers of a configuration, resolved against their text.

A run is prepared once; other configurations for the same text are resolved without reading it
again.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from charlm.config.layers import ConfigLayers, ConfigSource
from charlm.config.schema import Config
from charlm.runs import named
from charlm.text import corpus
from charlm.text.corpus import Corpus
from charlm.text.splits import TextStats
from charlm.training import fitting
from charlm.training.request import run_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRun:
    """A configuration resolved against its text.

    name: of the text, else of the preset. text: its files, unless it came from the cache. added:
    the layers that preparation has added: the start run's shape, values fitted to the text.
    """

    name: str
    config: Config
    origins: dict[str, str]
    corpus: Corpus
    text: TextStats | None = None
    added: tuple[ConfigSource, ...] = ()

    def config_for(self, layers: ConfigLayers) -> Config:
        """Resolve another configuration of the same text, start run, lanes and windows.

        Raises: ConfigError.
        """
        assert self.text is not None
        resolved = layers.with_layers(self.added).resolve(self.text.characters)
        return named.absolute(resolved).config


def prepare_run(layers: ConfigLayers, *, keep: bool = True, processes: int = 1) -> PreparedRun:
    """Find and encode the text, and resolve the rules that depend on its length; log if a preset is
    fitted to a short text.

    keep: False writes nothing, not even to the cache. processes: number of them that train
        together.

    Raises: ConfigError, DataError.
    """
    requested = layers.resolve()
    name = run_name(requested.config.data, layers.name)
    shape = []
    if start := requested.config.train.start_from:
        shape = [named.start_shape(str(Path(start).absolute()))]
        layers = layers.with_layers(shape)
        requested = layers.resolve()
    requested = named.absolute(requested)
    text = corpus.survey(requested.config.data, keep=keep)
    fitted = fitting.fit(layers, text, keep=keep, processes=processes)
    if fitted.note:
        log.info(fitted.note)
    resolved = fitted.resolved
    if keep:
        named.remember(resolved)
    added = (*shape, *fitted.added)
    return PreparedRun(name, resolved.config, resolved.origins, fitted.corpus, text, added)
