"""`charlm train --dry-run`."""

from charlm.backends.device import prepare_process, resolve_device
from charlm.cli.arguments import TrainArguments
from charlm.cli.worker import suggestion
from charlm.terminal import console
from charlm.terminal import run as terminal
from charlm.terminal.progress import TaskProgress
from charlm.training.estimate import estimate
from charlm.training.prepare import prepare_run
from charlm.training.request import request_run


def show(given: TrainArguments) -> None:
    """Show the configuration and cost of a run, and write nothing."""
    console.show_log(quiet=given.as_json)
    with TaskProgress(quiet=given.as_json):
        resolved = prepare_run(request_run(given.layers, keep=False), keep=False)
    train = resolved.config.train
    prepare_process(resolve_device(train.device), train.threads)
    estimated = estimate(resolved.config, resolved.corpus)
    kind, command = suggestion(given, resolved)
    if given.as_json:
        report = {
            "suggestion": command,
            "config": resolved.config.model_dump(),
            "origins": resolved.origins,
            "characters": {name: s.characters for name, s in resolved.corpus.splits.items()},
            "files": terminal.files_as_json(resolved.text) if resolved.text else {},
        }
        console.print_json({**report, **estimated})
        return
    terminal.settings_table(resolved.config, resolved.origins)
    terminal.describe(resolved.corpus, resolved.text)
    if kind:
        terminal.suggest(kind, command)
    terminal.estimated(estimated, train.patience)
