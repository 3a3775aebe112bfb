"""Sampling and scoring without torch: the same numbers, weights and texts as with it."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY, Command, words
from forks import Forks
from torch.nn import functional as F

import charlm
from charlm.api.plain import is_cpu, load_plain
from charlm.api.scoring import score
from charlm.backends.choice import computation_of
from charlm.cells import CELLS
from charlm.cells.base import ProjectedCell
from charlm.config.cell_spec import variants
from charlm.config.schema import ModelConfig, SampleConfig
from charlm.evaluation import plain, reading, surprisal
from charlm.models.plain import PlainModel, resolve_precision
from charlm.models.recurrent import CharModel
from charlm.native.interface import Kernels
from charlm.native.writing import NativeSampler, SampledCell, SampledParts
from charlm.runs import checkpoint
from charlm.runs.finding import find_checkpoint
from charlm.sampling.generate import Draw, Generation
from charlm.sampling.uniforms import uniforms
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Vocabulary

LETTERS = "abcdefghij\n"
GATED = [(name, options) for name, options in variants() if CELLS[name].gates]
every_cell = pytest.mark.parametrize(("name", "options"), GATED, ids=str)


def made(name: str, end: int | None = None, **changes: object) -> CharModel:
    """A model that is far from uniform."""
    config = ModelConfig.model_validate({"cell": name, "hidden_size": 37, **changes})
    model = CharModel(config, len(LETTERS) + 1 + (end is not None), end)
    model.reset_parameters(3)
    for parameter in model.parameters():  # no zeros: every bias must matter
        parameter.data += torch.linspace(-0.1, 0.1, parameter.numel()).view_as(parameter)
    model.head.weight.data *= 6
    return model.requires_grad_(False)


# ---- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32 + 5, 2**63 - 1])
@pytest.mark.parametrize("num", [1, 3])
def test_uniforms_are_those_of_torch(seed: int, num: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    expected = torch.rand(700, num, generator=generator, dtype=torch.float64)
    found = np.stack(list(islice(uniforms(seed, num), 700)))
    assert (found == expected.numpy()).all()


@every_cell
def test_entry_describes_the_class(name: str, options: dict[str, str]) -> None:
    cell = CELLS[name].load()(3, 4, **options)
    assert isinstance(cell, ProjectedCell)
    config = ModelConfig.model_validate({"cell": name, **options})
    assert CELLS[name].variant(config) == cell.variant
    assert CELLS[name].gates == len(cell.gates)
    recurrent = dict(cell.named_parameters()).get("weight_hh")
    assert CELLS[name].weight_hh == (0 if recurrent is None else recurrent.dim())


@pytest.mark.parametrize("name", CELLS)
def test_entry_has_gate_blocks_if_the_class_has(name: str) -> None:
    assert issubclass(CELLS[name].load(), ProjectedCell) == (CELLS[name].gates > 0)


@every_cell
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [0, 5, 200, 450])
def test_table_and_biases_are_those_of_the_cell(
    kernels: Kernels, name: str, options: dict[str, str], bias: bool, size: int
) -> None:
    model = made(name, bias=bias, embedding_size=size, **options)
    (cell,) = model.projected_layers()
    plain = PlainModel.of(model)
    assert plain.fits()
    own = SampledCell.of(plain.variant, plain.cell(0))
    table = F.linear(model.vectors(torch.arange(model.vocabulary_size)), cell.weight_ih)
    if bias:
        merged, bias_n = cell.merged_biases()
        table += merged
        for found, expected in ((own.bias, merged), (own.bias_n, bias_n)):
            assert (found is None) == (expected is None)
            assert found is None or expected is None or (found == expected.numpy()).all()
    vectors = plain.weights.get("embedding.weight")
    head = plain.weights["head.weight"], plain.weights["head.bias"]
    sampler = NativeSampler(kernels, "float32", SampledParts([own], vectors, *head), 1)
    rows = sampler._table(own, vectors).reshape(len(table), len(cell.gates), -1)[..., :37]
    torch.testing.assert_close(torch.from_numpy(rows).flatten(1), table, rtol=1e-5, atol=1e-5)


def test_models_of_other_shapes_or_types_do_not_fit() -> None:
    plain = PlainModel.of(made("lstm"))
    weights = dict(plain.weights)
    wrong = [
        {**weights, "head.bias": weights["head.bias"][:-1]},
        {**weights, "head.bias": weights["head.bias"].astype(np.float64)},
        {**weights, "more": weights["head.bias"]},
        {name: weight for name, weight in weights.items() if name != "embedding.weight"},
    ]
    for other in wrong:
        assert not PlainModel(plain.config, plain.vocabulary_size, None, other).fits()


def test_cpu_is_certain_only_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert is_cpu("auto", tmp_path)
    (tmp_path / "nvidia0").touch()
    assert not is_cpu("auto", tmp_path)
    assert is_cpu("cpu", tmp_path)
    assert not any(is_cpu(name, tmp_path) for name in ("cuda", "mps", "nonsense"))
    (tmp_path / "nvidia0").unlink()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not is_cpu("auto", tmp_path)
    assert is_cpu("cpu", tmp_path)


# ---- texts ---------------------------------------------------------------------------------------


SETTINGS: list[dict[str, float]] = [
    {"temperature": 1.0},
    {"temperature": 0.0},
    {"temperature": 0.8, "top_k": 4},
    {"temperature": 1.2, "top_p": 0.7},
    {"min_p": 0.1, "repetition_penalty": 1.4},
]


@every_cell
@pytest.mark.parametrize("has_end", [False, True], ids=["running", "records"])
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_texts_are_those_with_torch(
    kernels: Kernels, name: str, options: dict[str, str], has_end: bool, setting: dict[str, float]
) -> None:
    vocabulary = Vocabulary("char", "none", tuple(map(ord, LETTERS)), True, has_end)
    model = made(name, vocabulary.end, num_layers=2, embedding_size=5, **options)
    config = SampleConfig.model_validate({"length": 150, **setting})
    for draw in (Draw(seed=4, num=3), Draw(seed=2**40, precision="float32", stop="ab")):
        by_torch = Generation(model, vocabulary, config, "abc", draw)
        plain = Generation(PlainModel.of(model), vocabulary, config, "abc", draw)
        assert list(plain) == list(by_torch)
        assert plain.samples == by_torch.samples


@every_cell
@pytest.mark.parametrize("has_end", [False, True], ids=["running", "records"])
def test_surprisals_are_those_with_torch(
    kernels: Kernels, name: str, options: dict[str, str], has_end: bool
) -> None:
    end = len(LETTERS) + 1 if has_end else None
    model = made(name, end, num_layers=2, embedding_size=5, **options)
    network = plain.PlainNetwork(PlainModel.of(model))
    text = np.random.default_rng(0).integers(0, model.vocabulary_size, 700).astype(np.uint8)
    for start, stop in ((0, 700), (1, 2), (100, 690), (400, 690)):  # warmed up not, partly, wholly
        stretch = Stretch(text, start, stop)
        for window in (0, 7):
            found = reading.surprisals(network, stretch, window=window)
            expected = surprisal.surprisals(computation_of(model), stretch, window=window)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-4)
            logs = reading.log_distributions(network, stretch, window=window)
            every = surprisal.log_distributions(model, stretch, window=window)
            np.testing.assert_allclose(logs, every.numpy(), rtol=1e-4, atol=1e-4)


# ---- the command ---------------------------------------------------------------------------------

NARROW = [part for change in [*TINY, "model.hidden_size=33"] for part in ("--set", change)]
NUMBER = re.compile(r"\d+\.\d+")
TELLING = """
import sys
from charlm.__main__ import run
code = run(sys.argv[1:])
print(*sorted(name for name in ("torch", "charlm.api.loaded") if name in sys.modules),
      file=sys.stderr)
sys.exit(code)
"""
WITHOUT: list[list[str]] = [
    [],
    ["--device", "cpu", "--num", "2", "--top-k", "3", "--best-of", "2"],
    ["--json", "--top-p", "0.9", "--min-p", "0.01", "--repetition-penalty", "1.2", "--stop", "e"],
    ["--temperature", "0", "--precision", "float32", "--check-copies"],
]


@pytest.fixture(params=["none", "lines"])
def run(
    request: pytest.FixtureRequest,
    kernels: Kernels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(words(1500), encoding="utf-8")
    changes = ["--set", f"data.records={request.param}", "--run", "run", "-q"]
    assert command("train", "text.txt", *NARROW, *changes).returncode == 0
    return Path("run")


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with Forks(without_torch=True) as started:
        yield started


Reported = Callable[..., SimpleNamespace]


@pytest.fixture
def reported(forks: Forks) -> Reported:
    """A command in a process of its own; the last line of stderr says which modules it has
    imported."""

    def report(*arguments: str, given: str = "") -> SimpleNamespace:
        forks.folder = Path.cwd()
        process = forks.open(*arguments, stdin=given, code=TELLING)
        out, said = process.communicate()
        assert process.returncode == 0, said
        *lines, imported = said.splitlines()
        return SimpleNamespace(stdout=out, lines=lines, imported=imported.split())

    return report


def test_command_writes_without_torch_what_it_writes_with_it(run: Path, reported: Reported) -> None:
    loaded = charlm.load(run)
    for more in WITHOUT:
        done = reported("sample", "run", "--seed", "7", "--length", "90", "--prompt", "the ", *more)
        assert done.imported == [], done.lines
        if not more:
            assert done.stdout.rstrip("\n") == (
                "the " + loaded.sample("the ", seed=7, length=90).rstrip("\n")
            )
        if "--json" in more:
            options = {"top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.2, "stop": "e"}
            writing = charlm.sample(loaded, "the ", seed=7, length=90, **options)
            assert json.loads(done.stdout) == writing.report()
    clamped = reported("sample", "run", "--seed", "7", "--length", "9", "--clamp", "0.1=1")
    assert "torch" in clamped.imported


SCORED = "the quick brown fox\nna\u00efve \u4e16\u754c, the \U0001f600 lazy dog\n" * 20
KINDS = {
    "characters": [],
    "bytes": ["data.unit=byte"],
    "jamo": ["data.unit=jamo"],
    "records": ["data.records=lines", "data.split=[0.8,0.2,0]", "model.cell=gru"],
    "without a symbol for the unknown": ["data.unknown=false", "data.minimum_count=1"],
}
WAYS = (
    ["text.txt", "--json"],
    ["other.txt"],
    ["-", "--window", "7"],
    ["other.txt", "--per-character"],
    ["other.txt", "--html", "page.html"],
    ["--split", "val", "--json"],
    ["other.txt", "text.txt", "--json"],
)


@pytest.mark.parametrize("kind", KINDS)
def test_command_scores_without_torch_as_with_it(
    kind: str,
    kernels: Kernels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: Command,
    reported: Reported,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(words(1500), encoding="utf-8")
    Path("other.txt").write_text(SCORED, encoding="utf-8")
    settings = [part for change in KINDS[kind] for part in ("--set", change)]
    done = command("train", "text.txt", *NARROW, *settings, "--run", "run", "-q")
    assert done.returncode == 0, done.stderr
    for way in WAYS:
        done = reported("score", "run", *way, given=SCORED)
        assert done.imported == [], done.lines
        page = Path("page.html").read_text(encoding="utf-8") if "--html" in way else ""
        same = ["other.txt" if word == "-" else word for word in way]
        by_torch = command("score", "run", *same, "--threads", str(torch.get_num_threads()))
        if same == way:
            assert done.lines == by_torch.stderr.splitlines()
        if page:
            other = Path("page.html").read_text(encoding="utf-8")
            assert len(page) == len(other)
        texts = done.stdout, by_torch.stdout
        assert NUMBER.sub("", texts[0]) == NUMBER.sub("", texts[1])
        found, expected = ([float(one) for one in NUMBER.findall(text)] for text in texts)
        assert found == pytest.approx(expected, rel=1e-5, abs=2e-4)
    mixed = reported("score", "run", "other.txt", "--with", "ngram")
    assert "torch" in mixed.imported


def test_long_texts_are_scored_by_torch(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("other.txt").write_text(SCORED, encoding="utf-8")
    loaded = load_plain(find_checkpoint(run), "cpu")
    assert loaded is not None
    expected = charlm.load(run).score(SCORED)
    for most in (plain.MOST_PRODUCTS, 0):
        monkeypatch.setattr(plain, "MOST_PRODUCTS", most)
        for options in ({}, {"html": "page.html"}):
            found = score(loaded, "other.txt", **options).score
            assert found.nats == pytest.approx(expected.nats, rel=1e-6)
            assert most or options or found.nats == expected.nats


def test_text_that_was_moved_is_read_without_torch_too(run: Path) -> None:
    folder = find_checkpoint(run)
    Path("text.txt").rename("moved.txt")
    loaded = load_plain(folder, "cpu", ["moved.txt"])
    assert loaded is not None
    expected = score(charlm.load(run, data="moved.txt"), split="val").score
    assert score(loaded, split="val").score.nats == pytest.approx(expected.nats, rel=1e-5)
    assert load_plain(folder, "cuda", ["moved.txt"]) is None  # it takes torch
    Path("text.txt").write_text(words(1500, seed=1), encoding="utf-8")
    with pytest.raises(charlm.CharlmError, match=r"text\.txt is not the text"):
        load_plain(folder, "cpu", ["text.txt"])


def test_damage_is_reported_as_by_load(run: Path, command: Command) -> None:
    folder = find_checkpoint(run)
    saved = checkpoint.read(folder)
    training = saved.training()
    for change in (
        {"head.bias": saved.weights["head.bias"][:-1].clone()},
        {"head.bias": saved.weights["head.bias"].double()},
        {"head.bias": saved.weights["head.bias"] * float("nan")},
    ):
        checkpoint.write(folder, {**saved.weights, **change}, training, saved.state)
        assert load_plain(folder, "cpu") is None
        with pytest.raises(charlm.CharlmError) as refused:
            charlm.load(run)
        done = command("sample", "run")
        assert done.returncode == 3
        assert str(refused.value.what)[:200] in done.stderr
    (folder / "model.safetensors").write_bytes(b"nothing")
    done = command("sample", "run")
    assert done.returncode == 3
    assert "has 7 bytes instead of" in done.stderr


# ---- precision -----------------------------------------------------------------------------------


def test_precision_without_kernels_is_float32() -> None:
    assert [resolve_precision(None, name, {"lstm"}) for name in ("auto", "float32")] == [
        "float32"
    ] * 2
    for name in ("bfloat16", "int8"):
        with pytest.raises(charlm.CharlmError, match=f"weights in {name} need the native kernels"):
            resolve_precision(None, name, {"lstm"})
    with pytest.raises(charlm.CharlmError, match="precision int4 is not known") as refused:
        resolve_precision(None, "int4", {"lstm"})
    assert refused.value.advice == "use auto, float32, bfloat16, int8"


def test_int8_is_for_bounded_states(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "types", ["float32", "bfloat16", "int8"])  # of a newer processor
    assert resolve_precision(kernels, "int8", {"lstm", "gru"}) == "int8"
    assert resolve_precision(kernels, "float32", {"minlstm"}) == "float32"
    with pytest.raises(charlm.CharlmError) as refused:
        resolve_precision(kernels, "int8", {"rnn_relu", "lstm", "indrnn"})
    assert refused.value.what.endswith("those of indrnn, rnn_relu have no bound")
    assert refused.value.advice == "use bfloat16"
