"""The lecture's live parts: in a browser, their numbers are those of torch and of Python."""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Tab, Tags, browse, looked_at, needs_browser
from torch import Tensor
from torch.nn import functional as F

from charlm.config.schema import ModelConfig
from charlm.inspection import toy
from charlm.lecture import latest, live
from charlm.lecture.chapter import PACKAGE
from charlm.lecture.lab import Lab
from charlm.models.recurrent import CharModel
from charlm.reports import view as pages
from charlm.reports.words import LANGUAGES, Words
from charlm.terminal import view as terminal

PARTS = ("hello", "gates", "gates", "toy")


@pytest.fixture(scope="session")
def lab() -> Lab:
    return Lab()


def blocks(lab: Lab, language: str = "en") -> list[pages.Block]:
    words = Words(language, PACKAGE)
    hello, toy_part = live.hello(lab, words), live.toy(words)
    return [hello, live.lstm_gates(words), live.gru_gates(words), toy_part]


def written(blocks: list[pages.Block], folder: Path, language: str = "en") -> Path:
    view = pages.View("live", "t", [], [pages.Section("s", blocks)], {}, language=language)
    return pages.write(view, folder, "charlm lecture", pngs=False)


@pytest.fixture(scope="session")
def page(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(blocks(lab), tmp_path_factory.mktemp("live"))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with Tab(tmp_path_factory.mktemp("browser")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, page: Path) -> Iterator[Tab]:
    """The page, just opened, in which nothing moves by itself; at the end it has not complained."""
    browser.emulate(prefers_reduced_motion="reduce")
    browser.open(page)
    browser.run(HELP)
    yield browser
    assert browser.messages == []


HELP = """
globalThis.roots = [...document.querySelectorAll(".live")];
globalThis.part = (root, name) => roots[root].querySelector(`[data-part="${name}"]`);
globalThis.set = (root, name, value) => {
  part(root, name).value = value;
  part(root, name).dispatchEvent(new Event("input", { bubbles: true }));
};
globalThis.rows = (table) => [...table.rows].map((row) =>
  [...row.querySelectorAll("td[title]")].map((cell) => Number(cell.title)));
globalThis.texts = (table) => [...table.rows].map((row) =>
  [...row.cells].map((cell) => cell.textContent));
globalThis.held = (root) => JSON.parse(roots[root].querySelector("script").textContent).data;
"""
HELLO, LSTM, GRU, TOY = range(4)


def close(found: Any, expected: Tensor, within: float = 1e-5) -> bool:
    torch.testing.assert_close(
        torch.tensor(found, dtype=torch.float64), expected.detach(), rtol=0, atol=within
    )
    return True


def doubled(model: CharModel) -> CharModel:
    copy = CharModel(model.config, model.vocabulary_size).double()
    copy.load_state_dict(model.state_dict())
    return copy.requires_grad_(True)


def by_torch(model: CharModel, symbols: list[int]) -> tuple[Tensor, list[Any], Tensor]:
    """The mean loss, the states after each step with their gradients, and the logits."""
    state, states, logits = model.initial_states(1)[0], [], []
    for symbol in symbols[:-1]:
        x = F.one_hot(torch.tensor([symbol]), model.vocabulary_size).double()
        state = model.layers()[0].step(x, state)
        for part in state:
            part.retain_grad()
        states.append(state)
        logits.append(model.head(state[0]))
    every = torch.cat(logits)
    every.retain_grad()
    loss = F.cross_entropy(every, torch.tensor(symbols[1:]))
    loss.backward()
    return loss, states, every


@needs_browser
def test_numbers_of_hello_are_torchs(lab: Lab, tab: Tab) -> None:
    model, symbols = doubled(lab.hello[0]), [0, 1, 2, 2, 3]
    loss, states, logits = by_torch(model, symbols)
    (cell,) = model.layers()
    net = tab.run("rows(part(0, 'net'))")
    assert close(net[1:4], torch.cat([state[0] for state in states]).T)
    assert close(net[4:8], logits.softmax(1).T)
    for t in range(4):
        tab.run(f"set(0, 'step', {t})")
        sums = tab.run("rows(part(0, 'sums'))")
        x = F.one_hot(torch.tensor(symbols[t]), 4).double()
        before = states[t - 1][0][0] if t else torch.zeros(3).double()
        assert close(sums[0], x)
        assert close(sums[1], cell.weight_ih @ x + cell.bias_ih)
        assert close(sums[2], before)
        assert close(sums[3], cell.weight_hh @ before + cell.bias_hh)
        assert close(sums[4], states[t][0][0])
        assert close(sums[5], logits[t])
        assert close(sums[6], logits[t].softmax(0))
        assert close(sums[7], -logits[t].log_softmax(0)[symbols[t + 1]].reshape(1))
    for step, t in ((4, 3), (5, 2), (6, 1), (7, 0)):
        tab.run(f"set(0, 'step', {step})")
        sums = tab.run("rows(part(0, 'sums'))")
        h, dh = states[t][0][0], states[t][0].grad[0]
        later = states[t + 1][0] if t < 3 else None
        da = dh * (1 - h**2)
        assert close(sums[0], logits.grad[t])
        assert close(sums[1], model.head.weight.T @ logits.grad[t])
        if later is not None:
            carried = (later.grad[0] * (1 - later[0] ** 2)) @ cell.weight_hh
            assert close(sums[2], carried)
        assert close(sums[3], dh)
        assert close(sums[4], da)
        assert close(sums[5], da @ cell.weight_hh)
    for name, weights in {
        "ih": cell.weight_ih, "hh": cell.weight_hh, "bih": cell.bias_ih, "bhh": cell.bias_hh,
        "head": model.head.weight, "bias": model.head.bias,
    }.items():  # fmt: skip
        shown = tab.run(f"rows(roots[0].querySelector('[data-weights={name}]'))")
        assert close(shown, weights.grad.reshape(len(weights), -1)), name
    assert close(tab.run("meanLoss(helloForward(held(0).net, held(0).symbols))"), loss)


@needs_browser
def test_training_in_the_page_is_torchs_and_learns_ello(lab: Lab, tab: Tab) -> None:
    model, symbols = doubled(lab.hello[0]), [0, 1, 2, 2, 3]
    optimizer = torch.optim.SGD(model.parameters(), lr=live.RATE)
    assert "predicts h e e e" in tab.run("part(0, 'status').textContent")
    begun = tab.run("rows(part(0, 'net'))")
    tab.run("part(0, 'one').click()")
    for taken in range(400):
        optimizer.zero_grad()
        by_torch(model, symbols)
        optimizer.step()
        if taken == 0:
            shown = tab.run("rows(roots[0].querySelector('[data-weights=hh]'))")
            assert close(shown, model.layers()[0].weight_hh)
    tab.run("for (let k = 0; k < 7; k++) part(0, 'many').click()")
    tab.run("for (let k = 0; k < 49; k++) part(0, 'one').click()")
    assert close(
        tab.run("rows(roots[0].querySelector('[data-weights=hh]'))"), model.layers()[0].weight_hh
    )
    status = tab.run("part(0, 'status').textContent")
    assert "400 training steps" in status
    assert "e l l o" in status
    tab.run("part(0, 'reset').click()")
    assert tab.run("rows(part(0, 'net'))") == begun


@needs_browser
def test_training_is_drawn_on_its_way(browser: Tab, page: Path) -> None:
    browser.emulate()
    browser.open(page)
    browser.run(HELP)
    browser.run("part(0, 'many').click()")
    assert "After 0 " in browser.run("part(0, 'status').textContent")  # said once, at the end
    browser.until("part(0, 'status').textContent.includes('After 50 ')")
    assert browser.messages == []


FORCED = [
    (LSTM, 0, {}),
    (LSTM, 0, {"f": 1, "i": 0}),
    (LSTM, 0, {"f": 0.3, "o": 0.75}),
    (GRU, 0, {"z": 0}),
    (GRU, 0, {"z": 0.4, "r": 0.2}),
    (GRU, 1, {"z": 1}),
    (GRU, 1, {"r": 0}),
]
NETS = {(LSTM, 0): ("lstm", "after"), (GRU, 0): ("gru", "before"), (GRU, 1): ("gru", "after")}


@functools.cache
def trained(cell: str, form: str) -> CharModel:
    return latest.train(cell, form)


@needs_browser
@pytest.mark.parametrize(("root", "form", "by"), FORCED)
def test_gates_set_by_hand_are_torchs(root: int, form: int, by: dict[str, float], tab: Tab) -> None:
    text, start = "a..b.", 2
    symbols = [latest.ALPHABET.index(letter) for letter in text]
    model = doubled(trained(*NETS[root, form]))
    (cell,) = model.layers()
    order = "ifgo" if root == LSTM else "rzn"
    forced = doubled(model)
    (set_by_hand,) = forced.layers()
    with torch.no_grad():
        for gate, value in by.items():
            rows = slice(3 * order.index(gate), 3 * order.index(gate) + 3)
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(set_by_hand, name)[rows] = 0
            set_by_hand.bias_ih[rows] = torch.tensor(value).double().logit(1e-17)
    state = tuple(part.requires_grad_() for part in model.initial_states(1)[0])
    begun, states = state, []
    for t, symbol in enumerate(symbols):
        x = F.one_hot(torch.tensor([symbol]), 3).double()
        state = (set_by_hand if t >= start else cell).step(x, state)
        states.append(state)
    y = model.head(states[-1][0])[0]
    (y[1] - y[0]).backward()
    net = f"held({root}).nets[{form}]"
    found = tab.run(
        f"(() => {{ const net = {net};"
        f"const steps = readGates(net, {symbols}, {json.dumps(by)}, (t) => t >= {start});"
        "const back = gatesBackward(net, steps, 1)[0];"
        "const plain = (of) => Object.values(of).map((values) => [...values]);"
        "return { after: steps.map(({ seen }) => plain(seen.after)), back: plain(back) }; })()"
    )
    for own, expected in zip(found["after"], states, strict=True):
        assert close(own, torch.cat(expected), 1e-7)
    assert close(found["back"], torch.cat([part.grad for part in begun]), 1e-7)


@needs_browser
def test_gates_by_hand_keep_and_erase(tab: Tab) -> None:
    says = "texts(part(1, 'strip'))[2].slice(1).join('')"
    assert tab.run(says) == "aaaaaabbbbbb"
    assert "right at 12 of 12" in tab.run("part(1, 'status').textContent")
    tab.run("part(1, 'keep').click()")
    assert tab.run(says) == "aaaaaaaaaaaa"
    assert tab.run("part(1, 'shown-f').textContent") == "1.00"
    memory = "Object.fromEntries(texts(part(1, 'sums')).map((row) => [row[0], row.at(-1)])).c"
    kept = set()
    for at in range(3, 13):
        tab.run(f"part(1, 'where').value = 'every'; set(1, 'at', {at})")
        kept.add(tab.run(memory))
    assert kept == {"0.00"}  # shut from the beginning, so that nothing is ever written
    tab.run("part(1, 'where').value = 'on'; set(1, 'at', 2); part(1, 'erase').click()")
    assert tab.run(memory) == "0.00"
    tab.run("part(1, 'learned').click()")
    assert tab.run(says) == "aaaaaabbbbbb"
    tab.run("set(1, 'value-f', 0.25)")
    assert tab.run("part(1, 'by-f').checked")
    assert tab.run("part(1, 'shown-f').textContent") == "0.25"


@needs_browser
def test_both_forms_of_the_gru_keep_at_opposite_ends(tab: Tab) -> None:
    for form, keeps in ((0, 0), (1, 1)):
        tab.run(f"part(2, 'form').selectedIndex = {form}; set(2, 'at', 3)")
        assert tab.run("texts(part(2, 'strip'))[2].slice(1).join('')") == "aaaaaabbbbbb"
        tab.run("part(2, 'keep').click()")
        assert tab.run("texts(part(2, 'strip'))[2].slice(1).join('')") == "aaaaaaaaaaaa"
        assert tab.run("part(2, 'shown-z').textContent") == f"{keeps}.00"
        tab.run("part(2, 'learned').click()")


@needs_browser
@pytest.mark.parametrize("text", ["", "...", "xyz", "B.A", "b.............", "a"])
def test_any_text_is_read(text: str, tab: Tab) -> None:
    tab.run(f"set(1, 'text', {json.dumps(text)})")
    read = "".join(tab.run("texts(part(1, 'strip'))[0]")[1:])
    assert read == (re.sub("[^ab.]", "", text.lower()).lstrip(".") or "a")
    assert tab.run("Number(part(1, 'at').value)") <= len(read)


@needs_browser
@pytest.mark.parametrize(("b", "lags"), [(0.5, 50), (0.9, 60), (1.5, 100)])
def test_powers_and_gradients_of_the_toy_are_pythons(b: float, lags: int, tab: Tab) -> None:
    expected = toy.toy([b], lags)
    powers = tab.run(f"toyPowers({b}, {lags})")
    np.testing.assert_allclose(powers, expected["powers"][0], rtol=1e-12)
    noise = np.rint(1e4 * toy.noise(lags)) / 1e4
    np.testing.assert_allclose(noise, toy.noise(lags), atol=5.1e-5)
    gradient = tab.run(
        "toyGradient(Float64Array.from(new Int16Array(Uint8Array.from(atob(held(3).noise), "
        f"(c) => c.charCodeAt(0)).buffer), (v) => v / 1e4), {toy.SEQUENCES}, {b}, {lags})"
    )
    np.testing.assert_allclose(np.log(gradient), np.log(expected["gradient"][0]), atol=0.05)
    tab.run(f"part(3, 'lags').value = {lags}; set(3, 'b', {b})")
    assert f"b = {b:.2f}: after {lags} steps" in tab.run("part(3, 'says').textContent")


@needs_browser
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("width", [390, 1200])
def test_page_fits_and_is_labelled(
    lab: Lab, browser: Tab, tmp_path: Path, language: str, width: int
) -> None:
    browser.open(written(blocks(lab, language), tmp_path, language), width)
    assert browser.run("document.documentElement.scrollWidth") <= width
    names = browser.run(
        "[...document.querySelectorAll('.live :is(input, select, button, svg.chart)')].map((one) =>"
        "one.getAttribute('aria-label') || one.labels?.[0]?.textContent || one.textContent)"
    )
    assert len(names) > 30
    assert all(name.strip() for name in names)
    assert browser.run("[...document.querySelectorAll('.live')].every((one) => one.clientHeight)")
    assert browser.run("document.querySelectorAll('.chart polyline').length") > 10
    assert not browser.run("/undefined|NaN|[{}]/.test(document.body.innerText)")
    assert browser.run("document.querySelectorAll('polyline[points*=NaN]').length") == 0
    browser.emulate("print")
    assert browser.run("[...document.querySelectorAll('.live')].every((one) => !one.clientHeight)")
    browser.emulate()
    assert browser.messages == []


@needs_browser
def test_ids_are_unique_and_nothing_is_logged(page: Path, tmp_path: Path) -> None:
    assert looked_at(page, tmp_path, 390)["twice"] == []
    dom, log = browse(page.as_uri(), tmp_path, "--dump-dom")
    assert "CONSOLE" not in log, log
    assert dom.count("<polyline") > 10


@needs_browser
def test_without_scripts_a_line_says_so(browser: Tab, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        text = browser.run("document.body.innerText")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert text.count("scripts are switched off") == len(PARTS)
    assert "by hand" not in text


def test_page_allows_its_own_script_alone(page: Path) -> None:
    source = page.read_text(encoding="utf-8")
    assert not Tags(source).mistakes
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in source
    assert tuple(re.findall(r'data-live="(\w+)" role', source)) == PARTS


def test_a_page_without_live_parts_has_no_script(tmp_path: Path) -> None:
    source = written(["text"], tmp_path).read_text(encoding="utf-8")
    assert "<script" not in source
    assert "script-src" not in source
    assert ".live" not in source


def test_other_outputs_skip_live_parts(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    view = pages.View("live", "t", [], [pages.Section("s", [*blocks(lab), "end"])], {})
    terminal.show_all(view)
    assert capsys.readouterr().out.split() == ["t", "s", "end"]
    assert "script" not in view._repr_html_()
    assert view.pictures == []


def test_words_of_the_scripts_are_all_there() -> None:
    folder = Path(pages.__file__).parent / "templates" / "live"
    for name in ("hello", "gates", "toy"):
        sources = [folder / f"{name}.js", folder / f"{name}.html.j2"]
        for cell in ("lstm", "gru") if name == "gates" else (name,):
            words = Words("en", PACKAGE).named("live", f"live_{name}", f"live_{cell}")
            for source in sources:
                used = set(re.findall(r"words\.(\w+)", source.read_text(encoding="utf-8")))
                assert used - set(words) <= {"form"}, (source.name, cell)


def test_network_without_biases_has_none() -> None:
    config = ModelConfig(cell="lstm", hidden_size=3, embedding_size=0, bias=False)
    model = CharModel(config, 5)
    model.reset_parameters(0)
    found = live.network(model.requires_grad_(False))
    assert (found["kind"], found["size"]) == ("lstm", 3)
    assert found["bih"] is found["bhh"] is None
    for name, weight in (("ih", model.layers()[0].weight_ih), ("bias", model.head.bias)):
        assert np.array_equal(np.float32(found[name]), weight.flatten().numpy())
