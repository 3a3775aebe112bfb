"""`score --html`: the text coloured by surprisal, with what else was expected."""

import base64
import html
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Tags, browse, needs_browser
from conftest import TINY, charlm, words

from charlm.api import load
from charlm.evaluation.alternatives import Alternatives
from charlm.evaluation.mixture import Mixture
from charlm.evaluation.surprisal import log_distributions
from charlm.reports import surprisal as report
from charlm.text.display import visible
from charlm.text.stretch import Stretch

HOSTILE = "<script>alert(1)</script>\"'&\u202e\x1b[31m\n"

# Steps through the text by keys and by the pointer, and writes what the card says.
STEP = """
<!doctype html><title>host</title><pre id="answer"></pre>
<iframe id="frame" width="800" height="900" srcdoc="PAGE"></iframe>
<script>
addEventListener("load", () => {
  const page = document.getElementById("frame").contentDocument;
  const view = page.defaultView, text = page.getElementById("text");
  const card = () => page.querySelector("#card > div").textContent;
  const press = (key) => text.dispatchEvent(new view.KeyboardEvent("keydown", { key }));
  const said = [card()];
  press("ArrowRight"); said.push(card());
  press("End"); said.push(card());
  press("Home"); said.push(card());
  text.children[2].dispatchEvent(new view.MouseEvent("pointerover", { bubbles: true }));
  said.push(card());
  page.getElementById("on").click();
  said.push(page.getElementById("where").textContent, text.children[0].dataset.place);
  document.getElementById("answer").textContent = JSON.stringify(said);
});
</script>
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    (folder / "words.txt").write_text(HOSTILE * 3 + words(1500), encoding="utf-8")
    done = charlm("train", "words.txt", "--run", "run", *_set(TINY), "-q", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def _set(changes: list[str]) -> list[str]:
    return [part for change in changes for part in ("--set", change)]


def page_of(text: str, run: Path, *options: str) -> tuple[str, Any]:
    """The page of a text, and what its script draws from."""
    folder = run.parent
    (folder / "text.txt").write_text(text, encoding="utf-8")
    done = charlm("score", "run", "text.txt", "--html", "page.html", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    page = (folder / "page.html").read_text(encoding="utf-8")
    found = re.search(r'id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return page, json.loads(found[1])


def unpacked(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_page_holds_each_symbol_with_its_cost_and_five_alternatives(run: Path) -> None:
    text = words(200, seed=3)
    _, data = page_of(text, run)
    loaded = load(run)
    scored = loaded.surprisals(text)
    names = [data["names"][at] for at in unpacked(data["symbols"], "<u2")]
    assert "".join(names) == text
    bits = unpacked(data["bits"], "u1") / data["stepsOfBit"]
    wanted = scored.surprisals.numpy() / math.log(2)
    assert np.abs(bits - wanted.clip(max=255 / 16)).max() < 0.5 / 16 + 1e-3  # as fine as a step
    K = data["alternatives"]
    assert K == 5
    logs = log_distributions(loaded.model, Stretch.of(scored.symbols))
    best = logs.exp().topk(K).values.numpy()
    chances = unpacked(data["chances"], "<u2").reshape(-1, K) / data["stepsOfChance"]
    assert np.abs(chances - best).max() < 1e-4
    others = unpacked(data["others"], "<u2").reshape(-1, K)
    first = [data["names"][at] for at in others[:, 0]]
    assert first[1:] == [visible(loaded.vocabulary.symbol(int(at))) for at in logs.argmax(1)[1:]]


def test_hostile_text_is_inert(run: Path) -> None:
    page, data = page_of(HOSTILE * 2, run)
    assert "<script>alert" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "\\u202e" in data["names"]
    tags = Tags(re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL))
    assert not tags.mistakes
    for tag, attributes in tags.tags:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), tag


def test_long_text_is_a_chain_of_pages(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PER_FILE", 100)
    vocabulary = load(run).vocabulary
    symbols = vocabulary.encode(words(200))[:250]
    scored = report.ScoredText(
        vocabulary,
        ["run"],
        {
            "bits_per_character": 1.0,
            "loss": 0.7,
            "characters": 250,
            "protocol": "window",
            "adapted": True,
        },
        symbols,
        np.ones(250, np.float32),
        np.zeros((250, 5), np.uint32),
        np.full((250, 5), 0.2, np.float32),
    )
    paths = report.write(scored, tmp_path / "long.html")
    assert [path.name for path in paths] == ["long.html", "long-2.html", "long-3.html"]
    middle = paths[1].read_text(encoding="utf-8")
    assert 'href="long.html"' in middle
    assert 'href="long-3.html"' in middle
    assert "in windows, adapted" in middle


def test_alternatives_are_those_of_the_whole_text_cut_or_not(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(run)
    symbols = loaded.vocabulary.encode(words(300, seed=5))

    def read(at_once: int) -> Any:
        monkeypatch.setattr("charlm.evaluation.alternatives.LOGS_AT_ONCE", at_once)
        from functools import partial

        reader = Alternatives(partial(log_distributions, loaded.model), len(loaded.vocabulary), 150)
        nats = reader(Stretch.of(symbols))
        return nats, *reader.found()

    whole, cut = read(1 << 24), read(len(loaded.vocabulary) * 64)
    assert np.allclose(whole[0], cut[0], atol=1e-4)  # the state before a cut is warmed up anew
    assert whole[1].shape == cut[1].shape == (150, 5)
    assert np.allclose(whole[2], cut[2], atol=1e-4)


def test_distributions_of_a_mixture_are_those_it_charges(run: Path) -> None:
    loaded = load(run)
    symbols = loaded.vocabulary.encode(words(200, seed=7))
    mixed = loaded.mixed_with(["ngram"])
    charged = mixed.mixture()(Stretch.of(symbols))
    logs = mixed.mixture().distributions(Stretch.of(symbols))
    assert torch.allclose(logs.exp().sum(1), torch.ones(len(symbols)), atol=1e-5)
    targets = torch.from_numpy(symbols.astype(np.int64))
    own = -logs.gather(1, targets.unsqueeze(1)).squeeze(1)
    assert torch.allclose(own, charged, atol=1e-5)
    assert isinstance(mixed.mixture(), Mixture)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--html", "folder"], "folder is a folder, not a file"),
        (["--html", "none/page.html"], "there is no folder none"),
    ],
)
def test_page_that_cannot_be_written_is_refused_at_once(
    run: Path, options: list[str], says: str
) -> None:
    (run.parent / "folder").mkdir(exist_ok=True)
    done = charlm("score", "run", "words.txt", *options, cwd=run.parent)
    assert done.returncode == 2
    assert says in done.stderr


@needs_browser
def test_reader_steps_through_the_page(run: Path, tmp_path: Path) -> None:
    page, _ = page_of(words(900, seed=9), run)
    host = tmp_path / "host.html"
    host.write_text(STEP.replace("PAGE", html.escape(page, quote=True)), encoding="utf-8")
    dom, log = browse(host.as_uri(), tmp_path, "--dump-dom")
    assert "CONSOLE" not in log, log
    found = re.search(r'<pre id="answer">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    *cards, where, place = json.loads(html.unescape(found[1]))
    assert all("Expected were:" in card for card in cards)
    assert len(set(cards)) >= 4  # each key shows another character
    assert (where, place) == ("page 2 of 2", "4000")
