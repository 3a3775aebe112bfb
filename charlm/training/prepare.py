"""Preparation of a run: its text is encoded, and its configuration resolved for that text.

Further configurations for the same text are resolved without reading it again.
"""

import logging
from dataclasses import dataclass

from charlm.config.layers import ConfigLayers, ConfigSource
from charlm.config.schema import Config
from charlm.text import corpus
from charlm.text.corpus import Corpus
from charlm.text.splits import TextStats
from charlm.training import fitting
from charlm.training.request import RunRequest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedRun:
    """A configuration resolved for its text, and the encoded text.

    name: of the request. text: measurements of its files; None if they were not read. added: layers
    with the values that were fitted to a short text.
    """

    name: str
    config: Config
    origins: dict[str, str]
    corpus: Corpus
    text: TextStats | None = None
    added: tuple[ConfigSource, ...] = ()

    def config_for(self, layers: ConfigLayers) -> Config:
        """Resolve another configuration, for the same text.

        layers: with the request's names, see `RunRequest.complete`, and the same lanes and windows,
            because the layers `added` are used again.

        Raises: ConfigError.
        """
        assert self.text is not None
        return layers.with_layers(self.added).resolve(self.text.characters).config


def prepare_run(requested: RunRequest, *, keep: bool = True, processes: int = 1) -> PreparedRun:
    """Encode a text, and resolve a configuration for its length; log the values of a preset that
    are lowered because the text is short.

    keep: False writes nothing, not even to the cache. processes: number of them that train
        together.

    Raises: ConfigError, DataError.
    """
    asked = requested.layers.resolve()
    text = corpus.survey(asked.config.data, keep=keep)
    fitted = fitting.fit(requested.layers, text, keep=keep, processes=processes)
    if fitted.note:
        log.info(fitted.note)
    resolved, encoded = fitted.resolved, fitted.corpus
    return PreparedRun(
        requested.name, resolved.config, resolved.origins, encoded, text, fitted.added
    )
