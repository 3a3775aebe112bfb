"""Preparation of a run: its text is encoded, and its configuration resolved for that text.

Further configurations for the same text are resolved without reading it again.
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

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRun:
    """A configuration resolved for its text, and the encoded text.

    name: of the text or, if it is not local, of the preset. text: measurements of its files; None
    if they were not read. added: layers of `prepare_run`: the start run's shape, and the values
    that were fitted to a short text.
    """

    name: str
    config: Config
    origins: dict[str, str]
    corpus: Corpus
    text: TextStats | None = None
    added: tuple[ConfigSource, ...] = ()

    def config_for(self, layers: ConfigLayers) -> Config:
        """Resolve another configuration, for the same text. It must have the same start run,
        lanes and windows, because the layers `added` are used again. Raises: ConfigError.
        """
        assert self.text is not None
        resolved = layers.with_layers(self.added).resolve(self.text.characters)
        return named.absolute(resolved).config


def prepare_run(layers: ConfigLayers, *, keep: bool = True, processes: int = 1) -> PreparedRun:
    """Encode a text, and resolve a configuration for its length; log the values of a preset that
    are lowered because the text is short.

    keep: False writes nothing, not even to the cache. processes: number of them that train
        together.

    Raises: ConfigError, DataError.
    """
    requested = layers.resolve()
    name = named.run_name(requested.config.data, layers.name)
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
