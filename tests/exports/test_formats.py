"""Exports for other programs: they compute the run, and nothing of its machine is in them."""

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Command, charlm, train_each, words

import charlm as package
from charlm.api import load
from charlm.cells import CELLS
from charlm.common import files
from charlm.exports import graph, hub
from charlm.exports.trained import open_trained
from charlm.models.plain import PlainModel
from charlm.runs.checkpoint import Checkpoint
from charlm.runs.finding import find_checkpoint

GATED = ("rnn", "lstm", "gru")
CHANGES = {
    "lstm": ["model.num_layers=2"],
    "lstm-bare": ["model.bias=false", "model.embedding_size=0"],
    "gru": ["model.cell=gru", "model.num_layers=2"],
    "gru-bare": ["model.cell=gru", "model.bias=false"],
    "before": ["model.cell=gru", "model.reset_gate=before", "model.num_layers=2"],
    "before-bare": ["model.cell=gru", "model.reset_gate=before", "model.bias=false"],
    "rnn": ["model.cell=rnn", "model.num_layers=2"],
    "rnn-bare": ["model.cell=rnn", "model.bias=false"],
    "relu": ["model.cell=rnn", "model.nonlinearity=relu"],
    "bytes": ["data.unit=byte"],
    "jamo": ["data.unit=jamo"],
    "records": ["data.records=lines"],
}
SCANNED = {
    **{name: [f"model.cell={name}", "model.num_layers=2"] for name in CELLS if name not in GATED},
    "minlstm-bare": ["model.cell=minlstm", "model.bias=false", "model.embedding_size=0"],
    "block": [
        *("model.residual=true", "model.normalization=rms", "model.feed_forward=1"),
        *("model.num_layers=2", "data.records=lines"),
    ],
    "block-slstm": ["model.cell=slstm", "model.residual=true", "model.normalization=layer"],
}
"""The runs that ONNX holds as a Scan."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run of every cell, with and without biases."""
    text = "안녕하세요 반갑습니다\n" * 20 + words(1500)
    return train_each(tmp_path_factory.mktemp("exported"), text, {**CHANGES, **SCANNED})


def opened(run: Path) -> tuple[Checkpoint, PlainModel]:
    """The best checkpoint of a run, and its model."""
    found = open_trained(find_checkpoint(run))
    return found.saved, found.model


def drawn(size: int, lanes: int) -> torch.Tensor:
    """Symbols, [T, B], other than the last, which may be the end of a record."""
    return torch.randint(size - 1, (11, lanes), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", [*CHANGES, *SCANNED])
def test_onnx_computes_the_run_in_pieces(runs: Path, tmp_path: Path, name: str) -> None:
    """Logits and states to 1e-5, for several lanes, with the states carried on."""
    done = package.export(runs / name, to="onnx", out=tmp_path / "a.onnx")
    assert done.bytes == (tmp_path / "a.onnx").stat().st_size
    loaded = load(runs / name)
    model, B = loaded.model, 3
    symbols = drawn(model.vocabulary_size, B)
    wanted, after = model(symbols, model.initial_states(B))
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    made = onnx.load(tmp_path / "a.onnx")
    properties = {one.key: one.value for one in made.metadata_props}
    initial = json.loads(properties["initial_states"])
    parts = {one.name: one.shape for one in session.get_inputs()[1:]}
    assert [*parts] == [*initial]
    states = {}
    for part, shape in parts.items():
        assert shape[1] == "B"
        states[part] = np.full([shape[0], B, *shape[2:]], initial[part], np.float32)
    content = (tmp_path / "a.onnx").read_bytes()
    assert b"stack_trace" not in content
    assert str(Path(package.__file__).parent).encode() not in content
    for piece in (slice(0, 4), slice(4, 5), slice(5, 11)):
        logits, *values = session.run(None, {"symbols": symbols[piece].numpy(), **states})
        states = dict(zip(parts, values, strict=True))
        assert np.abs(logits - wanted[piece].numpy()).max() < 1e-5
    for place, part in enumerate(parts):
        own = np.stack([state[place].numpy() for state in after])
        np.testing.assert_allclose(states[part], own, rtol=1e-5, atol=1e-5)
    assert json.loads(properties["vocabulary"]) == loaded.vocabulary.to_json()
    assert properties["charlm"] == package.__version__
    assert [(one.domain, one.version) for one in made.opset_import] == [
        ("", 18 if name in SCANNED else 17)
    ]


@pytest.mark.parametrize("name", [name for name in CHANGES if "before" not in name])
def test_torch_file_computes_the_run_without_charlm(runs: Path, tmp_path: Path, name: str) -> None:
    package.export(runs / name, to="torch", out=tmp_path / "a.pt.safetensors")
    loaded = load(runs / name)
    model = runpy.run_path(str(tmp_path / "a.py"))["Model"]()
    symbols = drawn(loaded.model.vocabulary_size, 1)
    wanted, _ = loaded.model(symbols, loaded.model.initial_states(1))
    first, states = model.read(symbols[:5, 0].tolist())
    rest, _ = model.read(symbols[5:, 0].tolist(), states)
    assert (torch.cat([first, rest]) - wanted[:, 0]).abs().max() < 1e-5
    text = "the\n안녕 \u00dfox" if name != "bytes" else "the\n\u00dfox"
    assert model.encode(text) == loaded.vocabulary.encode(text).tolist()


def test_torch_script_writes_where_there_is_no_charlm(runs: Path, tmp_path: Path) -> None:
    package.export(runs / "records", to="torch", out=tmp_path / "my 'own.safetensors")
    program = (
        "import runpy, sys; sys.modules['charlm'] = None; path = sys.argv[1];"
        "sys.argv[1:] = ['the']; runpy.run_path(path, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "my 'own.py")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("the")
    assert len(done.stdout) == 304


def test_lectures_gru_has_no_module_in_torch(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(package.CharlmError, match="no module for a gru") as caught:
        package.export(runs / "before", to="torch", out=tmp_path / "a.pt.safetensors")
    assert "onnx" in caught.value.advice
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["lstm", "bytes", "records", "mlstm", "block"])
def test_hub_folder_writes_the_same_text(runs: Path, tmp_path: Path, name: str) -> None:
    done = package.export(runs / name, to="hub", out=tmp_path / "mine")
    folder = tmp_path / "mine"
    assert done.bytes == sum(path.stat().st_size for path in folder.iterdir())
    options: dict[str, Any] = {"length": 50, "seed": 4}
    assert load(folder).sample("the", **options) == load(runs / name).sample("the", **options)
    for path in folder.iterdir():
        assert str(runs).encode() not in path.read_bytes(), path.name
    configuration = json.loads((folder / "config.json").read_bytes())
    assert configuration["library_name"] == "charlm"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: charlm\n")
    assert "words.txt" in card
    best = json.loads((runs / name / "summary.json").read_bytes())["best"]
    assert f"{best['bits_per_character']:.3f} bits per character" in card
    done = charlm("sample", "mine", "--length", "5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_hub_folder_replaces_its_own_kind_only(
    runs: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    export = ("export", str(runs / "lstm"), "--to", "hub", "--out", "mine")
    assert command(*export).returncode == 0
    done = command(*export)
    assert done.returncode == 2
    assert "--force" in done.stderr
    (tmp_path / "mine" / "README.md").write_text("my own card")
    assert command(*export, "--force").returncode == 0
    assert "Licence" in (tmp_path / "mine" / "README.md").read_text()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = command(*export, "--force")
    assert done.returncode == 2
    assert "other files" in done.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_hub_folder_stays_if_it_cannot_be_replaced(
    runs: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = ("export", str(runs / "lstm"), "--to", "hub", "--out", str(tmp_path / "mine"))
    assert command(*export).returncode == 0
    (tmp_path / "mine" / "README.md").write_text("my own card")
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.startswith(".writing-"):
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    assert command(*export, "--force").returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "README.md").read_text() == "my own card"


def test_new_hub_folder_that_cannot_be_named_leaves_nothing(
    runs: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", failing)
    export = ("export", str(runs / "lstm"), "--to", "hub", "--out", str(tmp_path / "mine"))
    done = command(*export)
    assert done.returncode == 1
    assert "mine: No space left on device" in done.stderr
    assert not list(tmp_path.iterdir())


def test_hub_folder_replaces_no_file_and_no_link(runs: Path, tmp_path: Path) -> None:
    package.export(runs / "lstm", to="hub", out=tmp_path / "mine")
    (tmp_path / "link").symlink_to("mine")
    (tmp_path / "file").write_text("years of work")
    assert hub.is_export(tmp_path / "mine")
    saved, model = opened(runs / "lstm")
    for name in ("link", "file"):
        assert not hub.is_export(tmp_path / name)
        with pytest.raises(package.CharlmError, match=f"{name} holds other files"):
            hub.write(tmp_path / name, saved, model, "lstm")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "years of work"


def test_card_has_the_score_of_its_own_checkpoint_only(runs: Path) -> None:
    saved, model = opened(runs / "lstm")
    best = saved.state.progress["best"]
    measured = f"{best['bits_per_character']:.3f} bits per character on its validation split"
    unmeasured = "This checkpoint was not evaluated."
    assert measured in hub.card(saved, model, "lstm")
    assert unmeasured not in hub.card(saved, model, "lstm")
    for other in (None, {**best, "step": saved.step + 1}, {**best, "bits_per_character": "low"}):
        progress = {**saved.state.progress, "best": other}
        state = saved.state.model_copy(update={"progress": progress})
        card = hub.card(replace(saved, state=state), model, "lstm")
        assert unmeasured in card
        assert "bits per character" not in card


def test_card_names_the_cell_and_its_block(runs: Path) -> None:
    saved, model = opened(runs / "lstm")
    size = f"{model.config.num_layers} × {model.config.hidden_size}"
    assert f"LSTM, {size}" in hub.card(saved, model, "lstm")
    blocks = replace(model, config=model.config.model_copy(update={"residual": True}))
    assert f"LSTM in a block, {size}" in hub.card(saved, blocks, "lstm")


def test_states_that_begin_with_several_numbers_go_to_a_hub_only() -> None:
    assert graph._only_value("h", np.full((1, 1, 4), 0.5)) == 0.5
    with pytest.raises(package.CharlmError, match="more than one number") as caught:
        graph._only_value("n", np.array([0.5, 0.5, 1.0]))
    assert caught.value.what.startswith("n begins with")
    assert "--to hub" in caught.value.advice


@pytest.fixture
def full_for_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the disk be full where a script is written."""
    write = files.write_synced

    def failing(path: Path, content: bytes, **options: Any) -> None:
        if ".py." in path.name:
            raise OSError(28, "No space left on device")
        write(path, content, **options)

    monkeypatch.setattr(files, "write_synced", failing)


@pytest.mark.usefixtures("full_for_scripts")
def test_torchs_script_that_cannot_be_written_leaves_nothing(
    runs: Path, tmp_path: Path, command: Command
) -> None:
    out = str(tmp_path / "a.pt.safetensors")
    assert command("export", str(runs / "lstm"), "--to", "torch", "--out", out).returncode == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("full_for_scripts")
def test_weights_are_replaced_though_their_script_cannot_be(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.pt.safetensors"
    out.write_bytes(b"of before")
    (tmp_path / "a.py").write_text("of before")
    with pytest.raises(package.CharlmError, match=r"a\.py: No space left on device"):
        package.export(runs / "lstm", to="torch", out=out, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt.safetensors", "a.py"]
    assert out.stat().st_size > 100
    assert (tmp_path / "a.py").read_text() == "of before"


def test_a_folder_is_no_file_to_replace(runs: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "kept").mkdir()
    for kind in ("html", "onnx", "torch"):
        out = ("--out", str(tmp_path / "kept"), "--force")
        done = command("export", str(runs / "lstm"), "--to", kind, *out)
        assert done.returncode == 2, kind
        assert "a folder, not a file" in done.stderr


def test_damaged_hub_folder_is_refused(runs: Path, tmp_path: Path) -> None:
    package.export(runs / "lstm", to="hub", out=tmp_path / "mine")
    weights = tmp_path / "mine" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(package.CharlmError, match="SHA-256"):
        load(tmp_path / "mine")


def test_full_disk_leaves_nothing(
    runs: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: bytes, **options: Any) -> None:
        path.write_bytes(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_synced", full)
    monkeypatch.setattr(hub, "write_synced", full)
    for kind in ("html", "onnx", "torch", "hub"):
        out = str(tmp_path / "a")
        done = command("export", str(runs / "lstm"), "--to", kind, "--out", out)
        assert done.returncode == 1, kind
        assert "No space left" in done.stderr
        assert not list(tmp_path.iterdir()), kind


@pytest.mark.parametrize(("name", "missing"), [("lstm", "onnx"), ("indrnn", "onnxscript")])
def test_onnx_says_how_to_install_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(package.CharlmError, match=f"{missing} is not installed") as caught:
        package.export(runs / name, to="onnx", out=tmp_path / "a.onnx")
    assert "charlm[onnx]" in caught.value.advice


@pytest.mark.parametrize("to", ["html", "torch"])
@pytest.mark.parametrize("name", ["indrnn", "slstm", "block"])
def test_formats_that_cannot_compute_a_cell_name_those_that_can(
    runs: Path, tmp_path: Path, name: str, to: str
) -> None:
    with pytest.raises(package.CharlmError, match="outside a block, not this") as caught:
        package.export(runs / name, to=to, out=tmp_path / "a")
    assert "onnx or hub" in caught.value.advice
    assert not list(tmp_path.iterdir())


def test_one_run_alone_goes_into_other_formats(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(package.CharlmError, match="2 runs for onnx"):
        package.export(runs / "lstm", runs / "gru", to="onnx", out=tmp_path / "a.onnx")
    with pytest.raises(package.CharlmError, match="no format 'gguf'"):
        package.export(runs / "lstm", to="gguf")
