"""Fuzz the readers of untrusted files and requests, guided by coverage.

`python guided.py TARGET RUNS` lets atheris, libFuzzer for Python, change inputs until RUNS were
tried. It keeps those that reached a new branch in inputs/TARGET.jsonl, which test_guided.py tries
again. An exception that a reader may not raise ends it.

Needs `pip install 'charlm[fuzz]'`.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INPUTS = Path(__file__).with_name("inputs")
MEMORY = Path("/dev/shm")
"""A folder in memory, where the system has one."""
LONGEST = 4096
"""Bytes of an input, if the target's seeds are shorter."""
KEPT = 40
"""Inputs of a target that are kept: the shortest."""
NAMES = (
    *("request", "state", "manifest", "weights", "ngram", "metrics", "toml", "setting"),
    *("corpus", "lines", "gz", "xz", "zst", "pointer", "plan"),
)
"""The targets."""


@dataclass(frozen=True)
class Target:
    """A reader. read: may raise `allowed` only; anything else is a failure. seeds: inputs that it
    accepts."""

    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def tried(target: Target, content: bytes) -> None:
    """Read an input. Raises: whatever the reader may not raise."""
    with contextlib.suppress(*target.allowed):
        target.read(content)


@contextlib.contextmanager
def targets(top: Path) -> Iterator[Mapping[str, Target]]:
    """Make the readers. top: a folder for the files that they read, and for a short run."""
    before = os.environ.get("CHARLM_CACHE")
    os.environ["CHARLM_CACHE"] = f"{top}/cache"
    try:
        yield _targets(top)
    finally:
        del os.environ["CHARLM_CACHE"]
        if before is not None:
            os.environ["CHARLM_CACHE"] = before


def _targets(top: Path) -> dict[str, Target]:
    import charlm
    from charlm.common.errors import CharlmError, CheckpointError
    from charlm.comparison import plan_file
    from charlm.config import layers, loading
    from charlm.config.schema import DataConfig
    from charlm.runs import checkpoint, ngram_file, state
    from charlm.runs.directory import RunDirectory
    from charlm.runs.manifest import MANIFEST, MODEL, STATE, read_manifest, verified
    from charlm.runs.metrics import read_metrics
    from charlm.serving import fields, request
    from charlm.serving.fields import RefusalError
    from charlm.text.encode import description
    from charlm.text.files import compressed, objects
    from charlm.text.vocabulary import Vocabulary

    text = top / "abc.txt"
    text.write_text("abcab\n" * 200, encoding="utf-8")
    small = ("model.hidden_size=2", "model.embedding_size=2", "train.backend=torch")
    short = ("train.steps=2", "train.sample_every=0", "train.batch_size=2")
    run = top / "run"
    charlm.train(data=text, set=[*small, *short], run=run)
    folder = run / "checkpoints" / "step-00000002"
    charlm.score(run, text, with_=["ngram"])
    (corpus,) = (top / "cache" / "corpora").iterdir()
    vocabulary = Vocabulary.from_json(json.loads((folder / STATE).read_bytes())["vocabulary"])

    def whole(content: bytes, name: str, where: Path = folder) -> None:
        """Put a file into a checkpoint with its size and digest, as a stranger would."""
        (where / name).write_bytes(content)
        manifest = json.loads(manifests[where])
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"size": len(content), "sha256": digest}
        (where / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    def asked(content: bytes) -> None:
        request.read_wish(fields.parsed(content), "m", vocabulary, request.Limits())

    def from_state(content: bytes) -> None:
        whole(content, STATE)
        state.read_state(folder)

    def from_manifest(content: bytes) -> None:
        (folder / STATE).write_bytes(states)
        (folder / MANIFEST).write_bytes(content)
        verified(folder, read_manifest(folder), STATE)

    def weights(content: bytes) -> None:
        (folder / STATE).write_bytes(states)
        whole(content, MODEL)
        checkpoint.read(folder)

    def counts(content: bytes) -> None:
        whole(content, ngram_file.COUNTS, grams)
        ngram_file.read(run, json.loads(manifests[grams])["corpus"], len(vocabulary))

    def metrics(content: bytes) -> None:
        (run / "metrics.jsonl").write_bytes(content)
        read_metrics(run)

    def toml(content: bytes) -> None:
        loading.from_toml(content.decode("utf-8", "replace"), "it")

    def setting(content: bytes) -> None:
        layer = layers.settings_layer("--set", [content.decode("utf-8", "replace")])
        layers.ConfigLayers("it", (layer,)).resolve()

    def described(content: bytes) -> None:
        (corpus / description.DESCRIBED).write_bytes(content)
        description.read(corpus)

    def pointer(content: bytes) -> None:
        (run / "checkpoints" / "best").write_bytes(content)
        assert RunDirectory(run).find("best").parent == run / "checkpoints"

    def plan(content: bytes) -> None:
        for name in (plan_file.FILE, plan_file.COPY):
            (top / name).write_bytes(content)
        plan_file.agreed({**planned, "seeds": [0, 1]}, top, lambda: None, has_begun=True)

    def lines(content: bytes) -> None:
        objects.from_json_lines(text, content, DataConfig(records="lines", field="text"), 0)

    def stream(suffix: str) -> Callable[[bytes], None]:
        file = top / f"stream{suffix}"

        def read(content: bytes) -> None:
            file.write_bytes(content)
            for number, _ in enumerate(compressed.blocks(file)):
                if number > 3:
                    break

        return read

    grams = run / ngram_file.FOLDER
    manifests = {one: (one / MANIFEST).read_bytes() for one in (folder, grams)}
    states = (folder / STATE).read_bytes()
    ours, damaged = (CharlmError,), (CheckpointError,)
    config = state.read_state(folder)[0].config.encode()
    planned = {
        **{"charlm": "1", "written": plan_file.BEFORE, "amends": [], "match": "hidden"},
        **{"seeds": [0], "cells": {"rnn": {"hidden_size": 4}}, "text": {"fingerprint": "0"}},
        **{"statistics": [], "smallest_difference": None},
    }
    wishes = (
        b'{"prompt": "abc", "max_tokens": 3, "temperature": 0.5, "stop": ["x"], "logprobs": 2}',
        b'{"prompt": ["a", "b"], "n": 2, "seed": 1, "stream": true, "echo": true, "top_k": 3}',
        b'{"prompt": [[1, 2]], "stream_options": {"include_usage": true}, "top_p": 0.9}',
    )
    return {
        "request": Target(asked, (RefusalError,), wishes),
        "state": Target(from_state, damaged, (states,)),
        "manifest": Target(from_manifest, damaged, (manifests[folder],)),
        "weights": Target(weights, damaged, ((folder / MODEL).read_bytes(),)),
        "ngram": Target(counts, damaged, ((grams / ngram_file.COUNTS).read_bytes(),)),
        "metrics": Target(metrics, (), ((run / "metrics.jsonl").read_bytes(),)),
        "toml": Target(toml, ours, (config, b"[model]\ncell = 'gru'\n[[size]]\nmodel = {}\n")),
        "setting": Target(setting, ours, (b"train.steps=3", b"data.split=[0.8,0.1,0.1]")),
        "corpus": Target(
            described, (OSError, ValueError), ((corpus / description.DESCRIBED).read_bytes(),)
        ),
        "lines": Target(lines, ours, (b'{"text": "one"}\n{"text": "two", "n": 1}\n',)),
        "gz": Target(stream(".gz"), ours, (_packed("gzip"),)),
        "xz": Target(stream(".xz"), ours, (_packed("lzma"),)),
        "zst": Target(stream(".zst"), ours, (_packed("zstandard"),)),
        "pointer": Target(pointer, ours, (folder.name.encode(),)),
        "plan": Target(plan, ours, (json.dumps(planned).encode(),)),
    }


def _packed(module: str) -> bytes:
    content: bytes = __import__(module).compress(b"the quick brown fox")
    return content


def kept(name: str) -> list[bytes]:
    """Return the inputs that were kept of a target."""
    path = INPUTS / f"{name}.jsonl"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [base64.b64decode(json.loads(line)) for line in lines]


def _words(seeds: Sequence[bytes]) -> list[str]:
    """List words and numbers of the seeds as libFuzzer's dictionary, which inserts them whole."""
    found = {
        word for seed in seeds for word in re.findall(rb'"[ -!#-[\]-~]{1,40}"|[\w.-]{2,40}', seed)
    }
    escaped = (word.replace(b'"', b'\\"').decode("ascii") for word in sorted(found))
    return [f'"{word}"' for word in escaped]


def fuzz(name: str, runs: int, folder: Path) -> None:
    """Let atheris try inputs. It ends the process, without any clean-up of Python's."""
    atheris: Any = __import__("atheris")
    with atheris.instrument_imports(include=["charlm"]), targets(folder.parent) as found:
        target = found[name]
        for number, content in enumerate((*target.seeds, *kept(name))):
            (folder / f"seed-{number}").write_bytes(content)
        words = folder.parent / "words"
        words.write_text("\n".join(_words(target.seeds)), encoding="ascii")
        longest = max(LONGEST, 2 * max(map(len, target.seeds)))
        given = [f"-runs={runs}", f"-max_len={longest}", f"-dict={words}", "-len_control=0"]
        given.append(f"-artifact_prefix={folder}/")
        atheris.Setup([sys.argv[0], *given, str(folder)], lambda content: tried(target, content))
        atheris.Fuzz()


def keep(name: str, runs: int) -> None:
    """Fuzz a target, and keep the inputs that reached a new branch. Raises: CalledProcessError if
    one failed: it is kept, too."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as top:
        folder = Path(top, "found")
        folder.mkdir()
        command = [sys.executable, __file__, "fuzz", name, str(runs), str(folder)]
        ended = subprocess.run(command, check=False)
        found = sorted({path.read_bytes() for path in folder.iterdir()}, key=len)
    INPUTS.mkdir(exist_ok=True)
    lines = [json.dumps(base64.b64encode(one).decode("ascii")) for one in found[:KEPT]]
    (INPUTS / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="ascii")
    ended.check_returncode()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["fuzz", name, runs, folder]:
            fuzz(name, int(runs), Path(folder))
        case [name, runs]:
            keep(name, int(runs))
        case _:
            sys.exit(__doc__)
