"""Looking into a trained model: what is measured, against the equations and against brute force."""

import json
import math
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import browse, looked_at, needs_browser
from conftest import CELLS, TINY, Command, charlm, words

import charlm as package
from charlm.cells import CELLS as KNOWN
from charlm.cells.base import GatedCell
from charlm.common.errors import CharlmError, UsageError
from charlm.comparison import truncation as training_length
from charlm.config.clamps import parse_clamps
from charlm.config.schema import ModelConfig
from charlm.inspection import (
    brackets,
    context,
    copies,
    excerpt,
    features,
    gates,
    gradients,
    inputs,
    losses,
    toy,
    trace,
    truncation,
    units,
)
from charlm.inspection import jacobian as jacobians
from charlm.inspection import probe as probes
from charlm.inspection.influence import influence
from charlm.models.modules import to_torch
from charlm.models.recurrent import CharModel
from charlm.reports import influence as influence_page
from charlm.reports import view as pages
from charlm.reports.inspection.memorization import memorization_view
from charlm.reports.inspection.probe import probe_view
from charlm.reports.inspection.units import units_view
from charlm.sampling.clamped import ClampedEngine
from charlm.text.stretch import Stretch
from charlm.text.vocabulary import Vocabulary

FORMS = ["rnn", "lstm", "gru", "gru_before"]
SIZE = 9


def model_of(form: str, layers: int = 2, **options: Any) -> CharModel:
    cell, _, reset = form.partition("_")
    form_options = {"reset_gate": reset} if reset else {}
    config = ModelConfig(
        cell=cell, hidden_size=6, embedding_size=4, num_layers=layers, **form_options, **options
    )
    model = CharModel(config, SIZE).double()
    model.reset_parameters(3)
    return model.requires_grad_(False)


def some_symbols(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SIZE, count).astype(np.uint8)


# ---- gates and states ---------------------------------------------------------------------------


def sigma(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def lecture_gates(cell: GatedCell, form: str, x: np.ndarray, state: list[np.ndarray]) -> dict:
    """The lecture's equations once more, in numpy."""
    w, u, b, d = (p.numpy() for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh))
    h = state[0]
    if form == "rnn":
        return {"h": np.tanh(w @ x + b + u @ h + d)}
    if form == "lstm":
        i, f, g, o = np.split(w @ x + b + u @ h + d, 4)
        i, f, g, o = sigma(i), sigma(f), np.tanh(g), sigma(o)
        c = f * state[1] + i * g
        return {"i": i, "f": f, "g": g, "o": o, "h": o * np.tanh(c), "c": c}
    x_r, x_z, x_n = np.split(w @ x + b, 3)
    h_r, h_z, h_n = np.split(u @ h + d, 3)
    r, z = sigma(x_r + h_r), sigma(x_z + h_z)
    if form == "gru":
        n = np.tanh(x_n + r * h_n)
        return {"r": r, "z": z, "n": n, "h": z * h + (1 - z) * n}
    rows = slice(2 * len(h), None)
    n = np.tanh(x_n + u[rows] @ (r * h) + d[rows])
    return {"r": r, "z": z, "n": n, "h": (1 - z) * h + z * n}


@pytest.mark.parametrize("form", FORMS)
def test_trace_holds_the_lectures_gates_and_states(form: str) -> None:
    model, symbols = model_of(form), some_symbols(12)
    found = trace.trace(model, symbols, [str(s) for s in symbols])
    states = [[np.zeros(6), np.zeros(6)] for _ in range(2)]
    for at, symbol in enumerate(symbols.tolist()):
        x = model.embedding.weight[symbol].numpy()
        for layer, cell in enumerate(model.layers()):
            wanted = lecture_gates(cell, form, x, states[layer])
            assert list(found.layers[layer]) == list(wanted)
            for letter, value in wanted.items():
                # a trace is kept in float32: relative error of 6e-8, values up to about 3
                assert np.abs(found.layers[layer][letter][at] - value).max() < 1e-6
            states[layer] = [wanted["h"], wanted.get("c", np.zeros(6))]
            x = wanted["h"]


def test_every_cell_names_its_gates() -> None:
    for cell in (entry.load() for entry in KNOWN.values()):
        if issubclass(cell, GatedCell):
            assert len(cell.letters) == len(cell.gates)


def test_saturation_counts_what_is_shut_and_open() -> None:
    model = model_of("lstm", layers=1)
    cell = model.layers()[0]
    with torch.no_grad():
        cell.bias_ih[6:9] = 50.0  # three forget gates that never shut
        cell.bias_ih[9:12] = -50.0  # three that never open
    vocabulary = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)
    own = excerpt.Excerpt(some_symbols(3000), 0, 3000, vocabulary)
    forget = next(one for one in gates.saturation(model, own) if one.gate == "f")
    assert forget.open.tolist() == [1.0] * 3 + [0.0] * 3
    assert forget.shut.tolist() == [0.0] * 3 + [1.0] * 3


def test_units_that_move_alike_stand_together() -> None:
    time = np.linspace(0, 9, 200)
    waves = [np.sin(time), np.cos(time)]
    values = np.stack([waves[unit % 2] * (1 + unit) for unit in range(8)], axis=1)
    kinds = [unit % 2 for unit in gates.ordered(values.astype(np.float32)).tolist()]
    assert sum(a != b for a, b in pairwise(kinds)) == 1


# ---- gradients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_jacobian_is_autograds(form: str) -> None:
    model = model_of(form, layers=1)
    cell = model.layers()[0]
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(1, 4, generator=generator, dtype=torch.float64)
    state = tuple(
        torch.randn(1, 6, generator=generator, dtype=torch.float64) for _ in cell.state_parts
    )

    def step(flat: torch.Tensor) -> torch.Tensor:
        return torch.cat(cell.step(x, tuple(flat.view(1, -1).split(6, dim=1))), dim=1).flatten()

    wanted = torch.autograd.functional.jacobian(step, torch.cat(state, dim=1).flatten())
    assert torch.allclose(jacobians.jacobian(cell, x, state), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_influence_is_gradient_times_input(form: str) -> None:
    model, symbols = model_of(form), some_symbols(9)
    found = influence(model, symbols)
    given = torch.from_numpy(symbols.astype(np.int64)).unsqueeze(1)
    for t in (1, 4, 8):
        x = model.vectors(given[:t]).detach().requires_grad_()
        state, out = model.initial_states(1), x
        for cell, own in zip(model.layers(), state, strict=True):
            out, _ = cell.unroll(out, own)
        gain = model.head(out[-1]).log_softmax(-1)[0, int(symbols[t])]
        (gradient,) = torch.autograd.grad(gain, x)
        wanted = (gradient * x).sum(-1).squeeze(1).detach().numpy()
        assert np.allclose(found[t, :t], wanted, rtol=1e-9, atol=1e-13)
        assert not found[t, t:].any()


def test_quartiles_enclose_the_median() -> None:
    model = model_of("gru")
    stretch = Stretch(some_symbols(200), 100, 200)
    found = gradients.gradient_by_lag(model, stretch, lags=20, lanes=16)
    summary = found["h"].summary()
    low, high = summary["quartiles"]
    assert len(summary["median"]) == 21
    assert all(a <= b <= c for a, b, c in zip(low, summary["median"], high, strict=True))


def test_toy_without_noise_is_a_power(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "SPREAD", 0.0)
    found = toy.toy([0.5, 1.0, 1.5], 12)
    assert np.allclose(found["gradient"], found["powers"])  # tanh(0) has slope 1
    assert found["powers"][2][12] == pytest.approx(1.5**12)


def test_truncated_gradient_over_the_whole_stretch_is_the_full_one() -> None:
    model = model_of("lstm").float()
    vocabulary = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)
    size = truncation.STRETCH + 400
    own = excerpt.Excerpt(some_symbols(size), 0, size, vocabulary)
    errors = truncation.truncation_errors(model, own)
    assert [one.steps for one in errors] == [2**n for n in range(7)]
    assert errors[-1].cosine == pytest.approx(1, abs=1e-9)
    assert errors[-1].norm == pytest.approx(1, abs=1e-9)
    assert errors[0].cosine < errors[3].cosine


# ---- context, brackets, causes ------------------------------------------------------------------


def test_context_use_is_what_reading_so_many_symbols_gives() -> None:
    model = model_of("lstm").float()
    vocabulary = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)
    text = some_symbols(600)
    own = excerpt.Excerpt(text, 300, 600, vocabulary)
    use = context.context_use(model, own, text[:300])
    places = np.unique(np.linspace(300, 599, context.PLACES).astype(np.int64))
    for k in (0, 1, 4, 32):
        row = use.near[use.lengths.index(k)]
        for number in (0, len(places) // 2):
            at = int(places[number])
            states = model.initial_states(1)
            logits = model.head(states[-1][0])
            if k:
                given = torch.from_numpy(text[at - k : at].astype(np.int64)).unsqueeze(1)
                logits = model(given, states)[0][-1]
            wanted = -float(logits.log_softmax(-1)[0, int(text[at])])
            assert row[number] == pytest.approx(wanted, abs=1e-5)
    assert np.allclose(use.shuffled[-1], use.near[use.lengths.index(use.far_lengths[-1])])


def test_brackets_are_paired_with_their_opening() -> None:
    text = list('f(a[1], "x)") }\n\n(lost\n\n)')
    found = brackets.closings(text)
    pairs = {(text[at], int(d)) for at, d in zip(found.places, found.distances, strict=True)}
    assert pairs == {("]", 2), (")", 9), ('"', 3)}


def test_predictions_of_brackets_are_counted_by_distance() -> None:
    inside = [2, 2, 1, 1, 2, 20, 20, 20, 20]  # symbols within each pair: four are too few to show
    text = "x" + "".join(f"({'a' * count})" for count in inside)
    vocabulary = Vocabulary("char", "none", tuple(sorted(map(ord, {*text}))), has_unknown=False)
    own = excerpt.Excerpt(vocabulary.encode("aaaaaaa" + text), 7, 7 + len(text), vocabulary)
    found = brackets.closings(own.characters())
    closing = vocabulary.encode(")")[0]
    model = np.full(len(inside), closing)
    model[[1, 3]] = vocabulary.encode("(")[0]
    (row,) = brackets.by_distance(found, own, model, np.full(len(inside), closing + 1))
    assert (row.least, row.most, row.count) == (1, 3, 5)
    assert (row.model, row.ngram) == (0.6, 0)


def test_features_say_what_is_at_each_place() -> None:
    text = list('Ab "c d" (e)\n  f1 # GO\nx')
    found = features.features(text)
    quoted = "".join(c for c, on in zip(text, found["inside quotes"], strict=True) if on)
    assert quoted == '"c d'
    inside = "".join(c for c, on in zip(text, found["inside brackets"], strict=True) if on)
    assert inside == "(e"
    comment = "".join(c for c, on in zip(text, found["inside a comment"], strict=True) if on)
    assert comment == "# GO"
    assert found["position in line"][:3].tolist() == [1, 2, 3]
    assert found["indentation"][text.index("f")] == 2
    assert found["word in capitals"].sum() == 1
    assert set(found) == set(features.ALL)


def test_causes_share_the_whole_loss() -> None:
    text = list("The cat sat. Then Bob sat on the cat.\nThe cat sat. Zyx.")
    nats = np.random.default_rng(0).random(len(text)) + 0.1
    ngram = np.full(len(text), 5.0)
    known = Counter({"The": 9, "cat": 9, "sat": 9, "Then": 9, "Bob": 9, "on": 9, "the": 9})
    causes = losses.decompose(text, nats, ngram, known)
    by_name = {cause.name: cause for cause in causes}
    assert sum(cause.share for cause in causes) == pytest.approx(1)
    assert sum(cause.characters for cause in causes) == pytest.approx(1)
    assert by_name["names"].characters * len(text) == pytest.approx(3)  # Bob
    assert by_name["rare words"].characters * len(text) == pytest.approx(3)  # Zyx
    assert by_name["the first character of a line"].characters * len(text) == pytest.approx(2)
    assert "remembered by the n-gram model" not in by_name
    remembered = losses.decompose(text, nats, np.full(len(text), 0.01), known)
    assert [cause.name for cause in remembered] == ["remembered by the n-gram model"]


# ---- units --------------------------------------------------------------------------------------


def test_unit_that_follows_a_feature_is_found() -> None:
    generator = np.random.default_rng(0)
    labels = [(0, "h", unit) for unit in range(5)]
    halves, wanted = [], []
    for _ in range(2):
        feature = (generator.random(500) < 0.3).astype(np.float32)
        values = generator.standard_normal((500, 5)).astype(np.float32)
        values[:, 3] = 0.5 - 2 * feature + 0.1 * values[:, 3]
        halves.append(units.Read(["a"] * 500, values, labels, 500))
        wanted.append(feature)
    (found,) = units.best_units(halves, {"mark": np.concatenate(wanted)})
    assert (found.unit, found.feature) == (3, "mark")
    assert found.held_out < -0.98


def test_halves_share_no_place() -> None:
    vocabulary = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)
    text = np.arange(300) % SIZE
    text[:150], text[150:] = text[:150] % 4, text[150:] % 4 + 5  # so that each half is told apart
    own = excerpt.Excerpt(text.astype(np.uint8), 0, 300, vocabulary)
    halves, asked = units.read_units(model_of("gru").float(), own)
    first, second = (set(half.characters) for half in halves)
    assert not first & second
    size = sum(len(half.characters) for half in halves)
    assert all(len(values) == size for values in asked.values())


def test_excerpts_of_separate_places_are_apart_on_the_page_and_a_unit_is_named_in_words() -> None:
    text = np.array([ord(c) - 97 for c in "abcdefgh" * 160], np.uint8)
    vocabulary = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)
    own = excerpt.Excerpt(text, 0, len(text), vocabulary)
    model = model_of("gru").float()
    halves, _ = units.read_units(model, own)
    held_out = halves[1]
    places = len(held_out.characters) // held_out.place_length
    unit = units.Unit(0, "h", 5, "letter a", 0.9, 0.8, -0.5, 0.5)
    view = units_view("mine", [unit], held_out, {})
    table, section = view.sections
    assert table.blocks[0].heading[2:] == ("where chosen", "held out", "its h, 5 to 95 %")
    assert table.blocks[0].rows[0][1] == "layer 0, unit 5 (h)"
    texts = [block for block in section.blocks if isinstance(block, pages.Coloured)]
    assert places > 1
    assert len(texts) == places
    assert [f"place {n} of {places}" in one.about for n, one in enumerate(texts, 1)] == [
        True
    ] * places
    for one in texts:  # each is a stretch of the text as it stands there
        assert "".join(one.characters) in "abcdefgh" * 160
    assert sum(len(one.values) for one in texts) == len(held_out.characters)


def test_correlations_are_pearsons() -> None:
    generator = np.random.default_rng(1)
    a = generator.standard_normal((50, 3)).astype(np.float32)
    b = generator.standard_normal((50, 2)).astype(np.float32)
    a[:, 2] = 1.0  # never moves
    found = units.correlations(a, b)
    assert found[0, 1] == pytest.approx(np.corrcoef(a[:, 0], b[:, 1])[0, 1])
    assert found[2].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("form", FORMS)
def test_clamped_unit_stays_where_it_is_held(form: str) -> None:
    model = model_of(form)
    held = parse_clamps(["1.2=0.75"], model.config)
    engine, free = ClampedEngine(model, held, 1), ClampedEngine(model, [], 1)
    states = model.initial_states(1)
    for symbol in some_symbols(5).tolist():
        logits = engine.read(torch.tensor([symbol]))
        free_logits = free.read(torch.tensor([symbol]))
        memory = engine._states[1][-1]  # c of an LSTM, else h
        assert float(memory[0, 2]) == 0.75
        wanted, states = model(torch.tensor([[symbol]]), states)
        assert torch.allclose(free_logits, wanted[0])  # without clamps: the model itself
        assert not torch.allclose(logits, free_logits)
    if form == "lstm":
        h, _ = engine._states[1]
        assert abs(float(h[0, 2])) <= math.tanh(0.75)


@pytest.mark.parametrize("given", ["3", "0.1", "0.1=x", "0.1=nan", "2.0=1", "0.6=1", "-1.0=1"])
def test_clamp_of_what_is_not_there_is_refused(given: str) -> None:
    with pytest.raises(UsageError):
        parse_clamps([given], model_of("lstm").config)


# ---- probe --------------------------------------------------------------------------------------


def test_probe_reads_a_label_that_the_state_holds() -> None:
    model = model_of("gru", layers=1).float()
    vocabulary = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)
    generator = np.random.default_rng(0)
    labelled = []
    for _ in range(200):
        letters = "".join(chr(97 + s) for s in generator.integers(0, 4, generator.integers(1, 9)))
        good = generator.random() < 0.5
        labelled.append(("good" if good else "bad", letters + ("e" if good else "f")))
    found = probes.probe(model, vocabulary, labelled)
    assert found.labels == ("bad", "good")
    assert found.accuracy > 0.95  # the last letter is the label
    assert found.unit_accuracy > found.majority
    lied = [(label, text) for (label, _), (_, text) in pairwise(labelled)]
    assert probes.probe(model, vocabulary, lied).accuracy < 0.65


def test_final_states_are_those_of_reading_each_text_alone() -> None:
    model = model_of("lstm").float()
    vocabulary = Vocabulary("char", "none", tuple(range(97, 97 + SIZE)), has_unknown=False)
    texts = ["abc", "d", "aabbccdd", "hg"]
    found, names = probes.final_states(model, vocabulary, texts)
    assert len(names) == found.shape[1] == 2 * 2 * 6
    for row, text in zip(found, texts, strict=True):
        seen = trace.trace(model, vocabulary.encode(text), list(text))
        wanted = np.concatenate(
            [seen.layers[layer][part][-1] for layer in range(2) for part in ("h", "c")]
        )
        assert np.allclose(row, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("no tab here\n", "has no tab"),
        ("a\tx\n" * 50, "with 1 labels"),
        ("a\tx\nb\ty\n", "2 lines"),
    ],
)
def test_labels_that_cannot_be_probed_are_refused(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "lines.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(CharlmError, match=says):
        inputs.read_labelled(tmp_path / "lines.tsv")


@pytest.mark.usefixtures("there")
def test_probe_is_printed_and_written(run: Path, tmp_path: Path, command: Command) -> None:
    lines = words(1500).splitlines()[:120]
    labels = [
        ("fox", f"{line} fox") if at % 2 else ("dog", f"{line} dog")
        for at, line in enumerate(lines)
    ]
    path = tmp_path / "lines.tsv"
    path.write_text("".join(f"{label}\t{line}\n" for label, line in labels), encoding="utf-8")
    done = command("inspect", "run", "--probe", str(path), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["probe"]
    loaded = package.load(run)
    expected = probes.probe(loaded.model, loaded.vocabulary, inputs.read_labelled(path))
    assert found["lines"] == expected.lines == 120
    assert found["accuracy"] == expected.accuracy > 0.9  # x or g is the last letter
    printed = command("inspect", "run", "--probe", str(path)).stdout
    assert f"distinguishes 'dog' from 'fox' in {100 * expected.accuracy:.0f} of 100" in printed
    page = (run / "inspect" / "probe.html").read_text(encoding="utf-8")
    assert f"layer {expected.layer}, unit {expected.unit}" in page


def test_probe_that_is_right_by_chance_distinguishes_nothing() -> None:
    chance = probes.Probe(("a", "b"), 100, 0.5, 0.6, 0, "h", 3, 0.55)
    assert probe_view("mine", chance).title == "mine: its states do not distinguish 'a' from 'b'"


# ---- copies -------------------------------------------------------------------------------------


def test_shared_spans_are_those_of_brute_force() -> None:
    generator = np.random.default_rng(2)
    for _ in range(10):
        train = generator.integers(0, 2, 200).astype(np.uint8)
        pieces = [generator.integers(0, 2, 20), train[30:70], generator.integers(0, 2, 30)]
        text = np.concatenate(pieces).astype(np.uint8)
        wanted, end = set(), 0
        for start in range(len(text)):
            length = max(
                next((k for k in range(len(text) - start)
                      if place + k >= len(train) or text[start + k] != train[place + k]),
                     len(text) - start)
                for place in range(len(train))
            )  # fmt: skip
            if length >= copies.SEED and start + length > end:
                wanted.add((start, length))
                end = start + length
        found = copies.shared_spans(text, train)
        assert {(span.start, span.length) for span in found} == wanted
        for span in found:
            own = text[span.start : span.start + span.length]
            assert (own == train[span.place : span.place + span.length]).all()


@pytest.mark.parametrize(
    ("length", "title"),
    [
        (60, "mine has copied: its longest span from train has 60 characters"),
        (20, "mine writes its own text: the longest span it shares with train has 20"),
        (11, "mine writes its own text: it shares no 12 characters with train"),
    ],
)
def test_page_of_copies_names_the_longest(length: int, title: str) -> None:
    train = np.random.default_rng(2).integers(0, 26, 400).astype(np.uint8)
    text = np.concatenate([np.full(30, 30, np.uint8), train[100 : 100 + length]])
    letters = [chr(97 + number) for number in text.tolist()]
    written = copies.Copied("sample", letters, copies.shared_spans(text, train))
    view = memorization_view("mine", written, copies.Copied("validation", letters, []), "character")
    assert view.title == title
    assert view.data["validation_share"] == 0
    share = length / len(text) if length >= copies.SEED else 0
    assert view.sentences[0].startswith(f"{100 * share:.1f} % of the sample")
    table = view.sections[0].blocks[0]
    if share:
        assert isinstance(table, pages.Table)
        assert table.rows == [(str(length), "30", "100", "".join(letters[30:]))]
    else:
        assert table == "There are none."


def test_text_of_its_own_shares_nothing() -> None:
    assert copies.shared_spans(np.arange(100) % 7 + 10, np.arange(100) % 7) == []
    assert copies.shared_spans(np.zeros(3, np.uint8), np.zeros(100, np.uint8)) == []


# ---- PyTorch's modules --------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("form", ["rnn", "lstm", "gru"])
def test_module_computes_the_same(form: str, bias: bool) -> None:
    model = model_of(form, bias=bias)
    module = to_torch(model)
    given = torch.from_numpy(some_symbols(15).astype(np.int64)).view(5, 3)
    wanted, states = model.outputs(given, model.initial_states(3))
    with torch.inference_mode():
        output, last = module(model.vectors(given))
    assert torch.allclose(output, wanted, rtol=1e-12, atol=1e-14)
    h_n = last[0] if form == "lstm" else last
    for layer, state in enumerate(states):
        assert torch.allclose(h_n[layer], state[0], rtol=1e-12, atol=1e-14)


def test_form_that_pytorch_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="reset_gate before"):
        to_torch(model_of("gru_before"))


# ---- the command and the library ----------------------------------------------------------------


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspected")
    (folder / "words.txt").write_text(words(6000), encoding="utf-8")
    changes = [*TINY, "model.cell=lstm", "model.hidden_size=12", "data.split=[0.5,0.5,0.0]"]
    given = [part for change in changes for part in ("--set", change)]
    done = charlm("train", "words.txt", "--run", "run", *given, "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


@pytest.fixture
def there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Return the run's folder."""
    monkeypatch.chdir(run.parent)


@pytest.fixture(autouse=True)
def _less_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_length, "CHARACTERS", 20_000)
    monkeypatch.setattr(truncation, "STRETCH", 64)


VIEWS = ["units", "gradients", "context", "errors", "memorization", "bptt"]


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize("view", VIEWS)
def test_view_is_printed_and_written(run: Path, view: str, command: Command) -> None:
    done = command("inspect", "run", f"--{view}", "--json")
    assert done.returncode == 0, done.stderr
    assert list(json.loads(done.stdout)) == [view]
    page = (run / "inspect" / f"{view}.html").read_text(encoding="utf-8")
    assert f"charlm inspect run --{view}" in page


@pytest.mark.usefixtures("there")
def test_inspect_without_options_tells_what_the_run_is(run: Path, command: Command) -> None:
    done = command("inspect", "run")
    assert done.returncode == 0, done.stderr
    assert "cells.0.weight_hh" in done.stdout
    told = json.loads(command("inspect", "run", "--json").stdout)["overview"]
    assert told["parameters"] == sum(one["size"] for one in told["tensors"])
    assert {one["gate"] for one in told["saturation"]} == {"i", "f", "o"}


def test_strangers_metrics_are_left_out(run: Path, tmp_path: Path) -> None:
    hostile = [
        '{"kind": "eval"}',
        '{"kind": "sample", "step": "x", "text": "a"}',
        '{"kind": "train", "step": 1, "characters": NaN, "loss": 1e999, "bits_per_character": {}}',
        '{"kind": "eval", "step": true, "characters": 1, "loss": 1, "bits_per_character": []}',
        '{"kind": "sample", "step": 1, "characters": 1, "loss": 1, "bits_per_character": 1}',
        "[]", "\0",
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(hostile), encoding="utf-8")
    view = package.load(run).inspect().overview(tmp_path)
    assert view.data["curve"] == []
    assert not view.pictures


def test_text_on_stdin_that_is_no_utf8_is_refused(run: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "charlm", "inspect", "run", "--gates", "-"],
        cwd=run.parent, input=b"ab\xff", capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert b"the text is not UTF-8 at byte 2" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.usefixtures("there")
def test_gates_json_has_the_contracts_shape(run: Path, command: Command) -> None:
    done = command("inspect", "run", "--gates", "a lazy fox", "--json")
    told = json.loads(done.stdout)["gates"]
    assert told["characters"] == list("a lazy fox")
    (layer,) = told["layers"]
    assert set(layer) == {"i", "f", "g", "o", "h", "c"}
    assert np.array(layer["f"]).shape == (10, 12)


@pytest.mark.usefixtures("there")
def test_gradients_json_has_the_contracts_shape(run: Path, command: Command) -> None:
    done = command("inspect", "run", "--gradients", "--json")
    told = json.loads(done.stdout)["gradients"]
    assert told["lags"] == list(range(201))
    for part in (told["h"], told["c"], told["fresh"]["h"]):
        assert len(part["median"]) == 201
        assert len(part["quartiles"]) == 2
    assert set(told["initialization"]) == {"orthogonal", "xavier", "kaiming", "uniform"}
    assert (run / "inspect" / "influence.html").exists()


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--gates", ""], "the text is empty"),
        (["--gates", "x" * 2001], "at most 2,000 can be drawn"),
        (["--out", "words.txt"], "words.txt is a file, not a folder"),
    ],
)
def test_bad_input_is_refused_before_anything_is_read(
    run: Path, options: list[str], says: str, command: Command
) -> None:
    done = command("inspect", "run", *options)
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.usefixtures("there")
def test_sample_tells_its_copies(run: Path, command: Command) -> None:
    given = ("sample", "run", "--length", "40", "--seed", "1", "--check-copies")
    done = command(*given, "--json")
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["samples"]
    assert one["copied"]["characters"] == len(one["text"])
    assert "train" in command(*given).stderr


@pytest.mark.usefixtures("there")
def test_sample_with_a_clamped_unit_is_another_text(run: Path, command: Command) -> None:
    given = ("sample", "run", "--length", "60", "--seed", "1")
    free = command(*given).stdout
    held = command(*given, "--clamp", "0.3=9")
    assert held.returncode == 0, held.stderr
    assert held.stdout != free
    refused = command(*given, "--clamp", "0.3=9", "--with", "ngram")
    assert refused.returncode == 2
    assert "--clamp and --with go one at a time" in refused.stderr


def test_library_returns_labelled_arrays(run: Path) -> None:
    loaded = package.load(run)
    text = "a lazy dog"
    states, opened = loaded.states(text), loaded.gates(text)
    assert states.characters == list(text)
    assert set(states.layers[0]) == {"h", "c"}
    assert set(opened.layers[0]) == {"i", "f", "g", "o"}
    logits = loaded.logits(text)
    assert logits.rows == list(text)
    assert logits.values.shape == (len(text), len(logits.columns))
    h = torch.from_numpy(states.layers[0]["h"])
    wanted = loaded.model.head(h).numpy()
    assert np.allclose(logits.values, wanted, atol=1e-5)
    assert loaded.gradients(text).values.shape == (len(text), len(text))
    assert loaded.to_torch().hidden_size == 12
    view = loaded.inspect().gates(text)
    assert view.pictures[0].figure().axes
    shown = loaded.surprisals("<b>&")._repr_html_()
    assert "<b>" not in shown
    assert "bits per character" in shown
    with pytest.raises(CharlmError):
        loaded.states("")


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_can_be_looked_into(cell: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(words(2500), encoding="utf-8")
    changes = [*TINY, f"model.cell={cell}", "data.split=[0.5,0.5,0.0]"]
    summary = package.train(data=tmp_path / "words.txt", set=changes, run=tmp_path / "run")
    look = package.load(summary["run"]).inspect()
    assert look.gates("fox").title
    assert look.units().data
    if cell == "rnn":
        with pytest.raises(UsageError, match="the cell rnn has no gates"):
            package.load(summary["run"]).gates("fox")


HOSTILE = "<script>alert(1)</script> \"'& \u202e fox\n"


@pytest.fixture(scope="module")
def written(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Pages of the gates and of the influence, and the names of the figures of the first."""
    folder = tmp_path_factory.mktemp("pages")
    look = package.load(run).inspect()
    view = look.gates(HOSTILE)
    page = pages.write(view, folder, "charlm inspect " + HOSTILE)
    drawn = influence_page.write(look.name, *look.influence(), folder)
    return page, drawn, [picture.name for picture in view.pictures]


@needs_browser
def test_pages_are_well_behaved_in_a_browser(
    written: tuple[Path, Path, list[str]], tmp_path: Path
) -> None:
    page, drawn, _ = written
    assert "<script>alert" not in page.read_text(encoding="utf-8")
    for path in (page, drawn):
        dom, log = browse(path.as_uri(), tmp_path, "--dump-dom")
        assert "CONSOLE" not in log, log
        assert "<h1>" in dom
        assert path.stat().st_size < 3_000_000
    target = tmp_path / "page.pdf"
    browse(page.as_uri(), tmp_path, f"--print-to-pdf={target}")
    assert target.read_bytes()[:5] == b"%PDF-"


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_of_a_page_overflows_on_a_screen(
    written: tuple[Path, Path, list[str]], tmp_path: Path, width: int
) -> None:
    page, _, figures = written
    found = looked_at(page, tmp_path, width)
    assert found["overflow"] <= 0
    assert found["twice"] == []
    assert [figure["name"] for figure in found["figures"]] == figures
    dark = looked_at(page, tmp_path, width, "--blink-settings=preferredColorScheme=0")
    assert dark["colour"] == "rgb(20, 20, 22)"
