"""The page of `charlm export --to html`: its model is the run's, and every part of it works."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Tab, Tags, needs_browser
from conftest import TINY, Command, charlm, train_each, words
from torch.nn import functional as F

import charlm as package
from charlm.api import load
from charlm.cells import CELLS, CellEntry
from charlm.config.schema import ModelConfig
from charlm.exports import page
from charlm.exports.trained import refuse_foreign_cell
from charlm.exports.weights import rounded
from charlm.models.plain import PlainModel
from charlm.models.recurrent import CharModel
from charlm.reports.page import script
from charlm.reports.words import LANGUAGES, Words

HOSTILE = "</script><script>alert(1)</script>\"'&\u202e\x1b[31m\n"
KOREAN = "안녕하세요 반갑습니다\n"

CHANGES = {
    "lstm": ["model.num_layers=2"],
    "gru": ["model.cell=gru", "model.embedding_size=0"],
    "before": ["model.cell=gru", "model.reset_gate=before", "model.num_layers=2"],
    "rnn": ["model.cell=rnn", "model.bias=false"],
    "relu": ["model.cell=rnn", "model.nonlinearity=relu"],
    "bytes": ["data.unit=byte"],
    "jamo": ["data.unit=jamo"],
    "records": ["data.records=lines"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small run of every kind that a page can hold."""
    text = HOSTILE * 3 + KOREAN * 20 + words(1500)
    return train_each(tmp_path_factory.mktemp("exported"), text, CHANGES)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with Tab(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def exported(runs: Path, *names: str, **options: Any) -> Path:
    """The page of runs, written anew."""
    out = runs / f"{'-'.join(names)}.html"
    done = package.export(
        *(runs / name for name in names), to="html", out=out, force=True, **options
    )
    assert done.path == out
    assert done.bytes == out.stat().st_size
    return out


def open_page(tab: Tab, path: Path, width: int = 1200) -> None:
    tab.messages.clear()
    tab.open(path, width)
    tab.run(
        "var part = (name, n = 0) => document.querySelectorAll(`[data-part='${name}']`)[n];"
        "var press = (id) => document.getElementById(id).click();"
        "var put = (element, value) => { element.value = value;"
        " for (const kind of ['input', 'change']) element.dispatchEvent(new Event(kind)); };"
    )


def told(tab: Tab, text: str) -> None:
    """Let the page's model read a text."""
    tab.run(f"put(field('own'), {json.dumps(text)}); press('read')")
    tab.until("!page.busy")


# ---- the model ----------------------------------------------------------------------------------


@needs_browser
@pytest.mark.parametrize("is_one_hot", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lstm", {}),
        ("gru", {"reset_gate": "after"}),
        ("gru", {"reset_gate": "before"}),
        ("rnn", {"nonlinearity": "tanh"}),
        ("rnn", {"nonlinearity": "relu"}),
    ],
)
def test_cells_in_javascript_are_the_cells(
    tab: Tab, name: str, options: dict[str, Any], bias: bool, is_one_hot: bool
) -> None:
    """States and gradients over four steps, in float64."""
    T, H, inputs = 4, 7, 5
    generator = torch.Generator().manual_seed(7)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    cell = CELLS[name].load()(inputs, H, bias=bias, **options).double()
    for parameter in cell.parameters():
        parameter.data = 0.5 * drawn(*parameter.shape).detach()
    symbols = torch.tensor([1, 0, 4, 2])
    x = F.one_hot(symbols, inputs).double() if is_one_hot else drawn(T, inputs)
    first = [drawn(1, H) for _ in cell.state_parts]
    weights = drawn(T, H).detach()
    state, outputs = tuple(first), []
    for t in range(T):
        state = cell.step(x[t : t + 1], state)
        outputs.append(state)
    (torch.stack([one[0][0] for one in outputs]) * weights).sum().backward()  # type: ignore[no-untyped-call]
    named = {n.replace("weight_", "").replace("bias_", "b"): p for n, p in cell.named_parameters()}
    given = {
        "kind": cell.variant,
        "size": H,
        "weights": {n: p.detach().flatten().tolist() for n, p in named.items()},
        "x": symbols.tolist() if is_one_hot else x.tolist(),
        "first": [part[0].tolist() for part in first],
        "d": weights.tolist(),
    }
    source, _ = script("live/cells.js")
    tab.open("about:blank")
    found = tab.run(
        f"(() => {{ {source}; const given = {json.dumps(given)};"
        """
        const parts = CELLS[given.kind].parts, array = (values) => Float64Array.from(values);
        const own = (make) => Object.fromEntries(["ih", "hh", "bih", "bhh"].map((name) =>
            [name, given.weights[name] ? make(given.weights[name]) : null]));
        const layer = { kind: given.kind, size: given.size, ...own(array) };
        const gradients = own((values) => new Float64Array(values.length));
        let state = Object.fromEntries(parts.map((name, k) => [name, array(given.first[k])]));
        const steps = given.x.map((x) => {
            const seen = forward(layer, typeof x === "number" ? x : array(x), state);
            state = seen.after;
            return seen;
        });
        let d = initialState(layer);
        const dx = [];
        for (let t = steps.length - 1; t >= 0; t--) {
            given.d[t].forEach((value, u) => { d.h[u] += value; });
            const earlier = backward(layer, steps[t], d, gradients);
            dx.unshift(earlier.x && Array.from(earlier.x));
            d = earlier.before;
        }
        const plain = (values) => values && Array.from(values);
        return {
            states: steps.map((seen) => parts.map((name) => plain(seen.after[name]))),
            gradients: Object.fromEntries(Object.entries(gradients).map(([k, v]) => [k, plain(v)])),
            dx, first: parts.map((name) => plain(d[name])),
        };
        })()"""
    )
    wanted = [[part[0].tolist() for part in one] for one in outputs]
    assert np.abs(np.array(found["states"]) - wanted).max() < 1e-12
    for key, parameter in named.items():
        assert parameter.grad is not None
        assert np.abs(parameter.grad.flatten().numpy() - found["gradients"][key]).max() < 1e-12
    for part, values in zip(first, found["first"], strict=True):
        assert part.grad is not None
        assert np.abs(part.grad[0].numpy() - values).max() < 1e-12
    if not is_one_hot:
        assert x.grad is not None
        assert np.abs(x.grad.numpy() - found["dx"]).max() < 1e-12


@needs_browser
@pytest.mark.parametrize("name", CHANGES)
def test_page_computes_the_run(runs: Path, tab: Tab, name: str) -> None:
    """The same symbols, logits to 1e-4, costs, and text for a seed, as by charlm."""
    loaded = load(runs / name)
    open_page(tab, exported(runs, name, precision="float32"))
    text = ("the quick " + KOREAN + "brown \u00df fox") * 2
    if name == "records":
        text = text.replace("\n", " ")
    told(tab, text)
    symbols = loaded.vocabulary.encode(text)
    read = tab.run("page.columns[0].reader.read.map(({ index }) => index)")
    assert read == symbols.tolist()
    end = loaded.vocabulary.end
    given = torch.tensor([*([] if end is None else [end]), *symbols.tolist()])
    logits, _ = loaded.model(given[:, None], loaded.model.initial_states(1))
    found = tab.run(
        "[...page.columns[0].reader.steps(0, page.length)].map(({ logits }) =>"
        " logits && Array.from(logits)).concat([Array.from(page.columns[0].reader.now.logits)])"
    )
    found = np.array([row for row in found if row is not None])
    assert np.abs(found - logits[:, 0].numpy()).max() < 1e-4
    decoded = tab.run(f"page.columns[0].model.symbols.decode({symbols.tolist()})")
    assert decoded == loaded.vocabulary.decode(symbols.tolist())
    generation = loaded.generation("the ", length=60, seed=5, temperature=0.9, top_p=0.95)
    wanted = generation.joined().indices
    tab.run(
        "put(field('prompt'), 'the '); put(field('seed'), 5); put(field('temperature'), 0.9);"
        "put(field('top-p'), 0.95); page.restart(); page.write(60, Infinity)"
    )
    written = tab.run(
        "page.columns[0].reader.read.slice(page.length - 60).map(({ index }) => index)"
    )
    assert written[: len(wanted)] == wanted
    assert tab.messages == []


@needs_browser
def test_rounded_weights_cost_little(runs: Path, tab: Tab) -> None:
    text = words(300, seed=5)
    open_page(tab, exported(runs, "lstm", precision="int8"))
    told(tab, text)
    wanted = load(runs / "lstm").score(text).bits_per_character
    assert tab.run("page.columns[0].reader.mean()") == pytest.approx(wanted, rel=0.005)


def test_rounding_is_within_half_a_step() -> None:
    matrix = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    small, scales = rounded(matrix)
    assert (np.abs(small * scales[:, None] - matrix) <= 0.5001 * scales[:, None]).all()
    assert (rounded(np.zeros((2, 3), np.float32))[0] == 0).all()


# ---- its parts ----------------------------------------------------------------------------------


@needs_browser
def test_page_writes_and_goes_on_from_a_likely_symbol(runs: Path, tab: Tab) -> None:
    open_page(tab, exported(runs, "lstm"))
    assert tab.run("part('text').children.length") == tab.run("page.length") == 300
    tab.run("put(field('speed'), 4); press('write')")
    tab.until("page.length > 400")
    tab.run("press('write')")
    tab.run("part('text').children[50].click()")
    assert tab.run("document.querySelectorAll('.likely tr').length") == 5
    best = tab.run("largest(page.columns[0].reader.at(50).logits, 5)")
    tab.run("put(field('speed'), 0); document.querySelectorAll('.likely button')[2].click()")
    assert tab.run("page.columns[0].reader.read[50].index") == best[2]
    tab.until("page.length > 51")
    tab.run("press('write')")
    kept = tab.run("page.columns[0].reader.bits")
    indices = tab.run("page.columns[0].reader.read.map(({ index }) => index)")
    again = tab.run(
        f"(() => {{ const reader = new Reader(page.columns[0].model);"
        f"reader.open(reader.model.symbols.opening());"
        f"for (const k of {indices}) reader.append(k); return reader.bits; }})()"
    )
    assert kept == pytest.approx(again)
    tab.run("put(field('stop'), 'e'); put(field('speed'), 4); press('write')")
    tab.until("!page.isWriting")
    assert tab.run("part('text').textContent.replace('\\u21b5', '')").endswith("e")
    assert tab.messages == []


@needs_browser
def test_unit_can_be_chosen_followed_and_held(runs: Path, tab: Tab) -> None:
    open_page(tab, exported(runs, "lstm"))
    tab.run("put(part('layer'), 1); put(part('unit'), 4); part('by-unit').click()")
    place = tab.run("page.here")
    shown = tab.run("part('equations').rows[4].cells[2].textContent")
    value = tab.run(f"page.columns[0].reader.at({place}).seen[1].after.c[4]")
    assert float(shown.strip("= ").replace("\u2212", "-")) == pytest.approx(value, abs=0.005)
    tab.until("page.columns[0].values.known.length === page.length")
    assert tab.run("page.columns[0].values.known.at(-1)") == pytest.approx(value)
    tab.run("part('hold').click(); put(part('value'), 2.5); page.write(5, Infinity); page.finish()")
    assert tab.run("page.columns[0].reader.at(page.length - 1).seen[1].after.c[4]") == 2.5
    assert tab.run("part('equations').rows[4].cells[1].textContent") == "= held"
    assert tab.run(f"page.columns[0].reader.at({place}).seen[1].after.c[4]") == value
    tab.run("part('gates').querySelector('canvas').dispatchEvent(new PointerEvent('pointerdown',"
            " { clientX: 1, clientY: 1 }))")  # fmt: skip
    assert tab.run("page.columns[0].unit.layer") == 0


@needs_browser
def test_pattern_of_units_is_found_elsewhere(runs: Path, tab: Tab) -> None:
    """In a text that repeats itself, the same place of other repetitions."""
    open_page(tab, exported(runs, "gru"))
    tab.run("part('find').click()")
    assert "Select" in tab.run("part('found-says').textContent")
    told(tab, "the quick brown fox " * 8)
    tab.run(
        "page.select(44, 'key'); for (let k = 0; k < 4; k++) part('text').dispatchEvent("
        "new KeyboardEvent('keydown', { key: 'ArrowRight', shiftKey: true }));"
        "put(part('least'), 0.001); part('find').click()"
    )
    assert tab.run("getSelection().toString()") == "quick"
    tab.until("part('found').children.length")
    found = tab.run("[...part('found').querySelectorAll('b')].map((one) => one.textContent)")
    assert found.count("quick") >= 4


@needs_browser
def test_page_learns_from_a_text_and_takes_it_back(runs: Path, tab: Tab) -> None:
    open_page(tab, exported(runs, "lstm"))
    text = "zebra! " * 150
    told(tab, text)
    before = tab.run("page.columns[0].reader.mean()")
    weights = tab.run("Array.from(page.columns[0].model.head.weight)")
    tab.run("press('learn')")
    tab.until("!page.busy")
    assert tab.run("page.columns[0].reader.mean()") < before - 0.1
    assert f"{before:.3f}" in tab.run("field('own-says').textContent")
    tab.run("press('unlearn')")
    tab.until("!page.busy")
    assert tab.run("page.columns[0].reader.mean()") == pytest.approx(before)
    tab.run("press('learn')")
    tab.until("page.columns[0].model.updates > 2")
    tab.run("press('stop-reading')")
    assert not tab.run("field('unlearn').disabled")
    tab.run("press('unlearn')")
    tab.until("!page.busy")
    assert tab.run("Array.from(page.columns[0].model.head.weight)") == weights
    assert tab.messages == []


@needs_browser
def test_learning_follows_the_gradient(runs: Path, tab: Tab) -> None:
    """The page's gradients of a window, of the head and the last layer, are torch's."""
    loaded = load(runs / "before")
    open_page(tab, exported(runs, "before", precision="float32"))
    given = loaded.vocabulary.encode("the quick brown f").tolist()
    found = tab.run(
        f"(() => {{ const model = page.columns[0].model, reader = new Reader(model), steps = [];"
        f"for (const target of {given}) {{ const {{ now }} = reader; reader.append(target);"
        "if (now.seen) steps.push({ ...now, target }); }"
        "let kept; model.update = (_, all) => { kept = all.map((one) => Array.from(one)); };"
        "model.learn(steps); return kept; })()"
    )
    model = loaded.model.requires_grad_(True)
    symbols = torch.tensor(given)
    logits, _ = model(symbols[:-1, None], model.initial_states(1))
    F.cross_entropy(logits[:, 0], symbols[1:]).backward()  # type: ignore[no-untyped-call]
    last = model.projected_layers()[-1]
    for parameter, values in zip(
        [model.head.weight, model.head.bias, *last.weights()], found, strict=True
    ):
        assert parameter.grad is not None
        assert np.abs(parameter.grad.flatten().numpy() - values).max() < 1e-5


@needs_browser
def test_two_models_read_the_same_text(runs: Path, tab: Tab) -> None:
    open_page(tab, exported(runs, "lstm", "gru", language="ko"))
    text = "the quick brown fox\n"
    told(tab, text)
    for number, name in enumerate(("lstm", "gru")):
        wanted = load(runs / name).score(text).bits_per_character
        assert tab.run(f"page.columns[{number}].reader.mean()") == pytest.approx(wanted, abs=1e-3)
    tab.run("put(field('writer'), 1); page.restart(); page.write(30, Infinity); page.finish()")
    texts = tab.run("page.columns.map((one) => one.text.element.textContent)")
    assert texts[0] == texts[1] != ""
    assert tab.messages == []


@needs_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_page_is_well_behaved(runs: Path, tab: Tab, width: int) -> None:
    path = exported(runs, "lstm", "gru")
    for scheme in ("light", "dark"):
        tab.emulate(prefers_color_scheme=scheme)
        open_page(tab, path, width)
        assert tab.run("document.documentElement.scrollWidth") <= width
        assert tab.run("[...document.querySelectorAll('[id]')].length === new Set("
                       "[...document.querySelectorAll('[id]')].map((e) => e.id)).size")  # fmt: skip
        unlabelled = tab.run(
            "[...document.querySelectorAll('input, select, textarea')].filter((one) =>"
            " !one.labels.length && !one.ariaLabel).length"
        )
        assert unlabelled == 0
        assert tab.messages == []
    tab.emulate("print")
    assert tab.run("getComputedStyle(document.querySelector('.buttons')).display") == "none"
    tab.emulate()


@needs_browser
def test_unusual_input_is_met_with_a_sentence(runs: Path, tab: Tab) -> None:
    open_page(tab, exported(runs, "lstm"))
    tab.run("press('read')")
    assert tab.run("field('own-says').textContent") == "Paste a text first."
    told(tab, "\u00df\u00e9 the")  # unknown to the model
    assert "2 characters are unknown" in tab.run("field('status').textContent")
    tab.run("put(field('own'), 'the fox '.repeat(1250000)); press('read')")  # 10 MB
    tab.until("page.length > 100")
    tab.run("press('stop-reading')")
    assert tab.run("field('own-says').textContent") == "Stopped."
    tab.run("put(field('top-k'), -1); put(field('seed'), -3); put(field('prompt'), '');"
            " page.restart(); page.write(10, Infinity); page.finish()")  # fmt: skip
    assert tab.run("page.length") == 10
    assert tab.messages == []


# ---- the file -----------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_page_takes_nothing_from_outside(runs: Path, language: str) -> None:
    content = exported(runs, "lstm", language=language).read_text(encoding="utf-8")
    assert f'<html lang="{language}">' in content
    assert "<script>alert" not in content
    assert "\u202e" not in content
    assert "default-src 'none'" in content
    tags = Tags(re.sub(r"<script.*?</script>", "", content, flags=re.DOTALL))
    assert not tags.mistakes
    for _, attributes in tags.tags:
        for name in ("src", "href", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:"))


def test_both_languages_have_the_same_texts() -> None:
    english, korean = (Words(language, "charlm.exports").sections for language in LANGUAGES)
    names = re.compile(r"\{(\w+)")
    for section, texts in english.items():
        assert texts.keys() == korean[section].keys()
        for name, text in texts.items():
            assert set(names.findall(text)) == set(names.findall(korean[section][name])), name


def test_export_is_refused_where_it_cannot_be(
    runs: Path, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    run = str(runs / "lstm")
    assert command("export", run, "--to", "html").returncode == 0
    (page_path,) = tmp_path.iterdir()
    assert page_path.name == "lstm.html"
    page_path.write_text("mine")
    done = command("export", run, "--to", "html")
    assert (done.returncode, page_path.read_text()) == (2, "mine")
    assert "--force" in done.stderr
    done = command("export", run, "--to", "html", "--force", "--json")
    assert json.loads(done.stdout) == {
        "path": "lstm.html",
        "format": "html",
        "bytes": page_path.stat().st_size,
    }
    for arguments, code, says in (
        ([run, str(runs / "bytes"), "--out", "a.html"], 2, "unit is char in one"),
        ([run, run, run, "--out", "a.html"], 2, "3 runs"),
        ([str(runs / "none"), "--out", "a.html"], 2, "no run"),
        ([run, "--out", "none/a.html"], 2, "none"),
    ):
        done = command("export", *arguments, "--to", "html")
        assert done.returncode == code
        assert says in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["lstm.html"]


def test_damaged_run_is_refused(runs: Path, command: Command, tmp_path: Path) -> None:
    shutil.copytree(runs / "lstm", tmp_path / "run")
    (weights,) = (tmp_path / "run" / "checkpoints").glob("step-*12/model.safetensors")
    for path in (tmp_path / "run" / "checkpoints").glob("step-*/model.safetensors"):
        path.write_bytes(weights.read_bytes()[:-1] + b"\0\0")
    done = command(
        "export", str(tmp_path / "run"), "--to", "html", "--out", str(tmp_path / "a.html")
    )
    assert done.returncode == 3
    assert not (tmp_path / "a.html").exists()


def test_large_or_foreign_models_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"head.weight": np.zeros((4100, 4000), np.float32)}
    large = PlainModel(ModelConfig(), 4100, None, weights)
    with pytest.raises(package.CharlmError, match=r"16.4 MB, too much for a page") as caught:
        page.choose_precision([large], "auto")
    assert "smaller" in caught.value.advice
    monkeypatch.setitem(CELLS, "lstm", CellEntry("matrix_memory:MatrixMemory"))
    with pytest.raises(package.CharlmError, match="not this lstm"):
        refuse_foreign_cell(large, "html")


@pytest.mark.parametrize(
    "cell", [name for name, entry in CELLS.items() if entry.gates and entry.weight_hh != 2]
)
def test_cells_without_a_recurrent_product_are_refused(cell: str) -> None:
    config = ModelConfig.model_validate({"cell": cell, "hidden_size": 32})
    model = PlainModel.of(CharModel(config, 9).requires_grad_(False))
    assert model.fits()
    with pytest.raises(package.CharlmError, match=f"outside a block, not this {cell}"):
        refuse_foreign_cell(model, "torch")


def test_two_runs_of_the_same_name_are_numbered(runs: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(runs / "lstm", tmp_path / "lstm")
    out = tmp_path / "a.html"
    package.export(runs / "lstm", copy, to="html", out=out)
    content = out.read_text(encoding="utf-8")
    assert "<title>lstm (1) and lstm (2)" in content
    assert content.index('"name": "lstm (1)"') < content.index('"name": "lstm (2)"')


def test_page_is_written_without_the_runs_text(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it has no units by name, and says why; unless the text is named."""
    (tmp_path / "words.txt").write_text(words(1500), encoding="utf-8")
    sets = [part for change in TINY for part in ("--set", change)]
    done = charlm("train", "words.txt", "--run", "run", *sets, "-q", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "words.txt").rename(tmp_path / "moved.txt")
    exported_page = package.export(tmp_path / "run", to="html", out=tmp_path / "a.html")
    assert exported_page.left_out[0].startswith("no units by name: ")
    monkeypatch.chdir(tmp_path)
    named = command("export", "run", "--to", "html", "--out", "b.html", "--data", "moved.txt")
    assert named.returncode == 0, named.stderr
    assert "no units by name" not in named.stderr
    assert len(Path("b.html").read_bytes()) > len(Path("a.html").read_bytes())
    Path("other.txt").write_text(words(1500, seed=1), encoding="utf-8")
    other = command("export", "run", "--to", "html", "--out", "c.html", "--data", "other.txt")
    assert other.returncode == 2
    assert "other.txt is not the text that this run was trained on" in other.stderr
    assert not Path("c.html").exists()
