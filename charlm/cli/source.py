"""The model that a command loads."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charlm.api.loaded import Loaded
    from charlm.api.plain import PlainLoaded


@dataclass(frozen=True)
class Source:
    """A checkpoint to load. data: paths of the run's text, if it was moved. threads: of torch, in
    this process; 0 leaves them. run, which: the run and its checkpoint, as the user named them."""

    checkpoint: Path
    data: list[str]
    device: str | None = None
    threads: int = 0
    run: Path | None = None
    which: str = "best"

    def load(self) -> "Loaded":
        """Load the model, with progress on the terminal. Raises: as `api.load`."""
        import torch  # only now: it takes two seconds

        from charlm import api
        from charlm.terminal.progress import TaskProgress

        if self.threads:
            torch.set_num_threads(self.threads)
        with TaskProgress():
            return api.load(self.checkpoint, device=self.device or "cpu", data=self.data or None)

    def load_plain(self) -> "PlainLoaded | None":
        """Load the model without torch; None if that is impossible. Raises: as `api.load`."""
        from charlm.api.plain import load_plain
        from charlm.terminal.progress import TaskProgress

        with TaskProgress():
            return load_plain(self.checkpoint, self.device or "cpu", self.data)

    def words(self, loaded: "Loaded | PlainLoaded") -> list[str]:
        """Return the arguments that load the same again: the run, then options."""
        words = [loaded.checkpoint.name if self.run is None else str(self.run)]
        words += ["--checkpoint", self.which] if self.which != "best" else []
        return words + [part for path in self.data for part in ("--data", path)]
