"""Lanes of a batch: a text does not depend on the texts beside it."""

import random
import threading

import numpy as np
import pytest
import torch
from clients import running
from conftest import TINY, charlm, words

from charlm.api.loaded import Loaded, load
from charlm.api.plain import load_plain
from charlm.config.schema import ModelConfig, SampleConfig
from charlm.models.plain import PlainModel, kernels_for, make_sampler
from charlm.models.recurrent import CharModel
from charlm.native.interface import UNBOUNDED
from charlm.sampling.filters import choose as by_torch
from charlm.serving.batch import Batch, FullError
from charlm.serving.choosing import Filters, choose
from charlm.serving.lanes import Lanes, NativeLanes, TorchLanes
from charlm.serving.text import Order, Text

SIZE = 11
KINDS = {
    "lstm": {"cell": "lstm", "num_layers": 2},
    "gru": {"cell": "gru", "num_layers": 2},
    "before": {"cell": "gru", "reset_gate": "before"},
    "rnn": {"cell": "rnn"},
    "mingru": {"cell": "mingru", "num_layers": 2},
    "minlstm": {"cell": "minlstm", "num_layers": 2},
    "indrnn": {"cell": "indrnn", "num_layers": 2},
}


def made(kind: str, end: int | None = None) -> CharModel:
    config = ModelConfig(hidden_size=40, embedding_size=5, **KINDS[kind])  # type: ignore[arg-type]
    model = CharModel(config, SIZE, end)
    model.reset_parameters(1)
    return model.requires_grad_(False)


def followed(model: CharModel, symbols: list[int]) -> np.ndarray:
    """The logits after a text that is read alone."""
    with torch.inference_mode():
        logits, _ = model(torch.tensor(symbols)[:, None], model.initial_states(1))
    return logits[-1, 0].numpy()


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "torch"])
@pytest.mark.parametrize("kind", KINDS)
def test_lanes_open_and_close_anywhere(kind: str, precision: str, kernel_types: list[str]) -> None:
    """Texts begin and end at random: each has the logits that it has alone."""
    model = made(kind, end=3)
    plain = PlainModel.of(model)
    lanes: Lanes
    if precision == "torch":
        lanes = TorchLanes(model, 1)
        alone = {}
    else:
        kernels = kernels_for(plain)
        if precision not in kernel_types or kernels is None:
            pytest.skip("no kernels for it")
        if precision == "int8" and plain.variant in UNBOUNDED:
            pytest.skip("its states have no bound")
        lanes = NativeLanes(make_sampler(kernels, plain, 5, precision))
    drawn, texts = random.Random(3), []
    for _ in range(60):
        if texts and drawn.random() < 0.3:
            lane = drawn.randrange(len(texts))
            lanes.close(lane)
            texts[lane] = texts[-1]
            texts.pop()
        while len(texts) < 5 and (not texts or drawn.random() < 0.4):
            lanes.open()
            texts.append([])
        for text in texts:
            text.append(drawn.randrange(SIZE))
        logits = lanes.read(np.array([text[-1] for text in texts]))
        for row, text in zip(logits, texts, strict=True):
            if precision == "torch":
                np.testing.assert_allclose(row, followed(model, text), atol=1e-5)
                continue
            single = make_sampler(kernels, plain, 1, precision)
            for symbol in text:
                alone = single.read(np.array([symbol]))
            np.testing.assert_array_equal(row, alone[0])


def test_choices_are_those_of_the_filters() -> None:
    """Options of its own for each text, against the filters of `charlm sample`."""
    drawn = np.random.default_rng(2)
    filters = [
        Filters(temperature, top_k, top_p, min_p)
        for temperature in (0.0, 0.3, 1.0, 2.5)
        for top_k in (0, 1, 4, 999)
        for top_p in (0.2, 0.9, 1.0)
        for min_p in (0.0, 0.1, 1.0)
    ]
    for _ in range(20):
        logits = drawn.normal(0, 2, (len(filters), SIZE)).astype(np.float32)
        logits[:, 3] = logits[:, 4]  # ties
        uniforms = drawn.random(len(filters))
        found = choose(logits, filters, uniforms, unknown=2)
        logits[:, 2] = -np.inf
        for row, one in enumerate(filters):
            config = SampleConfig(
                temperature=one.temperature, top_k=one.top_k, top_p=one.top_p, min_p=one.min_p
            )
            given = torch.from_numpy(logits[row : row + 1]), config, torch.tensor(uniforms[[row]])
            assert found[row] == by_torch(*given)[0]


def test_a_number_just_below_one_chooses_a_symbol_that_may_be_chosen() -> None:
    logits = np.array([[5, 4, -800, -900]], np.float32)
    assert choose(logits, [Filters()], np.array([1 - 2**-53]), None) == [1]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("batch")
    (folder / "words.txt").write_text(words(1500), encoding="utf-8")
    sets = [part for change in [*TINY, "model.hidden_size=40"] for part in ("--set", change)]
    done = charlm("train", "words.txt", "--run", "run", *sets, "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return load(folder / "run")


def test_a_model_without_torch_writes_and_shows_the_same(
    loaded: Loaded, kernel_types: list[str]
) -> None:
    if not kernel_types:
        pytest.skip("there are no kernels here")
    plain = load_plain(loaded.checkpoint.folder, "cpu")
    assert plain is not None
    order = {"prompt": "the ", "max_tokens": 30, "seed": 5, "temperature": 0.5}
    answers, pages = [], []
    for model in (loaded, plain):
        with running(model, threads=2, lanes=2) as client:
            answers.append(client.texts(**order))
            pages.append(client.ask("/")[2])
    assert answers[0] == answers[1] == [loaded.sample("the ", length=30, seed=5, temperature=0.5)]
    assert pages[0] == pages[1]
    assert b"<html" in pages[0]


def text_of(loaded: Loaded, done: threading.Semaphore, seed: int, count: int = 50) -> Text:
    symbols = [int(index) for index in loaded.vocabulary.encode("the ")]
    order = Order(symbols, 0, count, filters=Filters(0.8), seed=seed)
    return Text(order, loaded.vocabulary, done.release)


def written(text: Text) -> str:
    assert text.ended == "length", text.fault
    return "".join(piece.text for piece in text.pieces)


def test_a_seed_writes_the_text_of_sample_alone_and_beside_others(loaded: Loaded) -> None:
    lanes: list[Lanes] = [TorchLanes(loaded.model, 1)]
    batch, done = Batch(lanes, 8, 100, loaded.vocabulary.unknown), threading.Semaphore(0)
    alone = text_of(loaded, done, 5)
    batch.add([alone])
    done.acquire()
    texts = [text_of(loaded, done, seed, 20 + seed) for seed in range(20)]
    texts[5] = text_of(loaded, done, 5)
    batch.add(texts)
    for _ in texts:
        done.acquire()
    batch.stop()
    options = {"length": 50, "seed": 5, "temperature": 0.8, "precision": "float32"}
    expected = loaded.sample("the ", **options)  # type: ignore[arg-type]
    assert written(alone) == written(texts[5]) == expected
    assert len({written(text) for text in texts}) == 20


class Broken:
    """Lanes whose every other step fails."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes, self._steps = lanes, 0
        self.open, self.close = lanes.open, lanes.close

    def read(self, symbols: np.ndarray) -> np.ndarray:
        self._steps += 1
        if self._steps == 10:
            raise RuntimeError("broken")
        logits = self._lanes.read(symbols)
        return np.full_like(logits, np.nan) if self._steps == 20 else logits


def test_a_fault_ends_its_texts_and_the_thread_goes_on(loaded: Loaded) -> None:
    done = threading.Semaphore(0)
    batch = Batch([Broken(TorchLanes(loaded.model, 1))], 2, 9, None)
    reasons = []
    for seed in range(3):
        text = text_of(loaded, done, seed, 50)
        batch.add([text])
        done.acquire()
        reasons.append(text.fault or text.ended)
    batch.stop()
    assert reasons[0] == "RuntimeError: broken"
    assert "predicts nothing" in reasons[1]
    assert reasons[2] == "length"


def test_a_full_queue_takes_no_part_of_an_order(loaded: Loaded) -> None:
    done = threading.Semaphore(0)
    batch = Batch([TorchLanes(loaded.model, 1)], 2, 3, None)
    long = [text_of(loaded, done, seed, 100_000) for seed in range(4)]
    batch.add(long)
    with pytest.raises(FullError):
        batch.add([text_of(loaded, done, 9), text_of(loaded, done, 10)])
    assert batch.busy == 4
    batch.cancel(long)
    short = [text_of(loaded, done, seed) for seed in range(5)]
    while batch.busy:
        pass
    batch.add(short)
    for _ in short:
        done.acquire()
    batch.stop()
    assert [written(text) != "" for text in short] == [True] * 5
