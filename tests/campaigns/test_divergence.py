"""A training that diverges ends with exit 4, keeps what was good, and can be taken up again with a
lower learning rate; weights that are no numbers are never sampled or scored."""

import hashlib
import json
import math
import random
from pathlib import Path

import pytest
import safetensors.torch
import torch
from conftest import TINY, words

from charlm.__main__ import run
from charlm.runs import checkpoint
from charlm.runs.manifest import MANIFEST, MODEL, TRAINING

# Relu units over windows so long that weights of the size of the rate overflow in each.
MODEL_OF = ["model.cell=rnn", "model.nonlinearity=relu", "model.hidden_size=32"]
MODEL_OF += ["train.backend=torch"]  # so that no kernels need be compiled
LONG = "train.sequence_length=30"
WILD = ["train.learning_rate=10", "train.clip_norm=0", "train.warmup_steps=0"]
TAME = ["train.learning_rate=0.001", "train.clip_norm=1"]

sizes = pytest.mark.parametrize("count", [4, pytest.param(60, marks=pytest.mark.nightly)])


class Shell:
    """Runs commands in this process and holds them to the contract of errors."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, expected: int, *arguments: str) -> str:
        """Run a command that must exit with `expected`; return what it printed."""
        self.capsys.readouterr()
        code = run(list(arguments))
        out, err = self.capsys.readouterr()
        assert code == expected, err
        assert "Traceback" not in err
        lines = err.splitlines()
        assert sum(line.startswith("error: ") for line in lines) == (code != 0), err
        assert sum(line.startswith("help: ") for line in lines) == (code != 0), err
        return out if code == 0 else err


@pytest.fixture
def shell(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shell:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    return Shell(capsys)


def settings(*changes: str) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def begin(folder: Path, *changes: str) -> list[str]:
    options = ["--data", "words.txt", "--run", str(folder), "--quiet"]
    return ["train", *options, *settings(*TINY, *changes)]


def spoil(folder: Path, name: str, value: float, tensors: int, rng: random.Random) -> None:
    """Put `value` into some weights of a checkpoint, and its right digest into the manifest."""
    found = safetensors.torch.load_file(folder / name)
    floating = [key for key, tensor in found.items() if tensor.is_floating_point()]
    for key in rng.sample(floating, min(tensors, len(floating))):
        flat = found[key].reshape(-1)
        flat[rng.randrange(flat.numel())] = value
        found[key] = flat.reshape(found[key].shape)
    content = safetensors.torch.save({key: tensor.contiguous() for key, tensor in found.items()})
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    digest = hashlib.sha256(content).hexdigest()
    manifest["files"][name] = {"size": len(content), "sha256": digest}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def pointed(folder: Path, pointer: str) -> Path:
    return folder / "checkpoints" / (folder / "checkpoints" / pointer).read_text().strip()


def is_good(folder: Path) -> bool:
    saved = checkpoint.read(folder)
    tensors: list[torch.Tensor] = [*saved.weights.values(), *saved.training().values()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors if tensor.is_floating_point())


@sizes
@pytest.mark.parametrize("which", ["latest", "best"])
def test_diverged_training_keeps_a_good_checkpoint_that_goes_on(
    shell: Shell, tmp_path: Path, which: str, count: int
) -> None:
    """A good run is resumed at a rate that ruins it, and again at one that does not."""
    for number in range(count):
        folder = tmp_path / f"run-{number}"
        rhythm = f"train.checkpoint_every={(6, 3, 7, 1)[number % 4]}"
        shell(0, *begin(folder, *MODEL_OF, LONG, *TAME, f"train.seed={number}", rhythm))
        resume = ["train", "--resume", "--quiet", "--json", "--run"]
        message = shell(4, *resume, str(folder), *settings(*WILD, "train.steps=500"))
        assert "training diverged at step" in message
        assert "train.learning_rate" in message
        kept = pointed(folder, which)
        assert is_good(kept)
        step = checkpoint.read(kept).step
        named = str(folder) if which == "latest" else str(kept)
        summary = json.loads(shell(0, *resume, named, *settings(*TAME, f"train.steps={step + 5}")))
        assert summary["steps"] == step + 5
        assert math.isfinite(summary["best"]["loss"])
        assert is_good(pointed(folder, "latest"))
        shell(0, "sample", str(folder), "--length", "5")
        shell(0, "score", str(folder), "words.txt")


@sizes
def test_training_that_diverges_before_a_checkpoint_is_begun_again_in_its_folder(
    shell: Shell, tmp_path: Path, count: int
) -> None:
    """The same command with a lower rate and --resume, as the message says."""
    for number in range(count):
        folder = tmp_path / f"run-{number}"
        # Nothing is saved before the loss is no number.
        rare = [f"train.{name}_every=5000" for name in ("eval", "checkpoint")]
        wild = [*MODEL_OF, LONG, *WILD, f"train.seed={number}", "train.steps=500", *rare]
        arguments = begin(folder, *wild, "train.log_every=1")
        assert "diverged" in shell(4, *arguments)
        assert not list((folder / "checkpoints").glob("step-*"))
        assert "diverged" in shell(4, *arguments)  # nothing is lost by beginning anew
        tame = settings(*TAME, "train.steps=40", "train.eval_every=20")
        summary = json.loads(shell(0, *arguments, "--resume", *tame, "--json"))
        assert summary["steps"] == 40
        assert is_good(pointed(folder, "latest"))


@sizes
def test_weights_that_are_no_numbers_are_neither_sampled_nor_scored(
    shell: Shell, tmp_path: Path, count: int
) -> None:
    rng = random.Random(2)
    wrong = []
    for number in range(count):
        folder = tmp_path / f"run-{number}"
        cell = ("lstm", "gru", "rnn")[number % 3]
        shell(0, *begin(folder, f"model.cell={cell}", "train.weight_average=0.5"))
        value = rng.choice([math.nan, math.inf, -math.inf])
        for kept in (folder / "checkpoints").glob("step-*"):
            spoil(kept, MODEL, value, rng.choice([1, 3, 100]), rng)
        run_folder = str(folder)
        for command in (
            ["sample", run_folder, "--length", "5"],
            ["sample", run_folder, "--length", "5", "--temperature", "0"],
            ["sample", run_folder, "--length", "5", "--json", "--num", "2"],
            ["sample", run_folder, "--length", "5", "--precision", "float32", "--top-k", "3"],
            ["score", run_folder, "words.txt"],
            ["score", run_folder, "--split", "val"],
            ["score", run_folder, "words.txt", "--per-character"],
            ["score", run_folder, "words.txt", "--window", "10"],
        ):
            try:
                shell(3, *command)
            except AssertionError as error:
                wrong.append(f"{value} in {cell}: {' '.join(command[:1] + command[2:])}: {error}")
    assert not wrong, "\n".join(wrong)


@sizes
def test_training_on_from_what_is_no_number_is_refused_and_saves_nothing(
    shell: Shell, tmp_path: Path, count: int
) -> None:
    """The checkpoint before it is good, and the run goes on from that one when it is named."""
    rng = random.Random(3)
    for number in range(count):
        folder = tmp_path / f"run-{number}"
        shell(0, *begin(folder, f"model.cell={('lstm', 'gru', 'rnn')[number % 3]}"))
        latest = pointed(folder, "latest")
        assert latest.name == "step-00000012"
        spoil(latest, MODEL, math.nan, 100, rng)
        spoil(latest, TRAINING, math.nan, 100, rng)
        resume = ["train", "--resume", "--quiet", "--json", *settings("train.steps=30")]
        message = shell(3, *resume, "--run", str(folder))
        assert "no finite numbers" in message
        assert sorted(path.name for path in (folder / "checkpoints").glob("step-*")) == [
            "step-00000006",
            "step-00000012",
        ]
        good = str(folder / "checkpoints" / "step-00000006")
        lower = settings("train.learning_rate=0.001")
        summary = json.loads(shell(0, *resume, "--run", good, *lower))
        assert summary["steps"] == 30
        assert is_good(pointed(folder, "latest"))
