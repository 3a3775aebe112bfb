"""The pages of the documentation: all in the navigation, complete, and true to the program."""

import importlib.util
import itertools
import json
import re
import shlex
import types
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import TINY, Command

from charlm.cli.app import app
from charlm.comparison.over_texts import result_over_texts
from charlm.config.schema import SECTIONS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def loaded(name: str) -> types.ModuleType:
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = loaded("generate")
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def options(command: str) -> set[str]:
    given = {name for one in COMMANDS[command].params for name in one.opts if name[0] == "-"}
    return given | {"--help"}


def page(name: str) -> str:
    """A page as the site shows it."""
    text: str = generate.rendered(name, (DOCS / name).read_text(encoding="utf-8"))
    return text


def test_every_page_is_in_the_navigation_once() -> None:
    _, _, nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")
    listed = re.findall(r": ([\w-]+\.md)$", nav, re.MULTILINE)
    assert sorted(listed) == [path.name for path in PAGES]


@pytest.mark.parametrize("name", ["configuration.md", "commands.md", "house.md", "student.md"])
def test_a_stub_names_its_source_and_the_site_leaves_that_out(name: str) -> None:
    assert generate.STUB.search((DOCS / name).read_text(encoding="utf-8"))
    assert "In a checkout" not in page(name)
    assert page(name).startswith("# ")


def test_every_readme_has_a_page() -> None:
    readmes = {str(path.relative_to(ROOT)) for path in (ROOT / "charlm").rglob("README.md")}
    readmes |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("README.md")}
    assert readmes <= generate.pages_of_files().keys()


def test_links_lead_to_pages_of_the_site() -> None:
    shown = {f"source/{path}.md" for path in generate.linked_files()}
    for path in PAGES:
        text = generate.FENCED.sub("", page(path.name))
        for _, target, _ in generate.LINK.findall(text):
            assert target in shown or (DOCS / target).is_file(), (path.name, target)


def test_the_configuration_page_describes_every_key() -> None:
    text = page("configuration.md")
    for section, kind in SECTIONS.items():
        for key in kind.model_fields:
            block = re.search(rf"^### `{section}\.{key}` .*?(?=^##)", text + "\n##", re.M | re.S)
            assert block is not None, key
            facts, *about = block[0].split("\n\n")[1:]
            assert "default `" in facts, key
            assert about[0].strip(), f"{section}.{key} has no docstring"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("train.steps", "whole number from 1 to 1,000,000,000 · default `2000` · may change"),
        ("train.learning_rate", "number above 0 to 10 · default `0.005` · may change on resume"),
        ("train.adam_betas", "list of 2 numbers from 0 to below 1 · default `[0.9, 0.99]`"),
        ("data.split", "list of 3 numbers from 0 to 1 · default `[0.9, 0.05, 0.05]`\n"),
        ("data.unit", 'one of `"char"`, `"byte"`, `"jamo"` · default `"char"`\n'),
    ],
)
def test_the_configuration_page_tells_bounds(key: str, said: str) -> None:
    _, _, block = page("configuration.md").partition(f"{{#{key}}}\n\n")
    assert block.startswith(said)


def test_the_configuration_page_tells_what_presets_change() -> None:
    _, _, block = page("configuration.md").partition("{#model.hidden_size}")
    listed = block.partition("###")[0]
    assert "default `136`, `224`, `304`, `448` by the text's length" in listed
    assert "hello `3`" in listed


def test_the_page_of_commands_holds_every_option() -> None:
    text = page("commands.md")
    for name in COMMANDS:
        _, _, block = text.partition(f"## charlm {name}\n")
        told = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", block.partition("\n## ")[0]))
        assert options(name) <= told, name


def typed(name: str) -> list[str]:
    """Every charlm command in the blocks of sh of a page."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("charlm ")]


def test_pages_show_commands() -> None:
    assert sum(len(typed(path.name)) for path in PAGES) > 50


@pytest.mark.parametrize("name", [path.name for path in PAGES])
def test_commands_on_the_pages_parse(name: str) -> None:
    for line in typed(name):
        _, command, *words = shlex.split(line, comments=True)
        COMMANDS[command].make_context(command, [*words])  # raises where it cannot be parsed
        assert {word for word in words if word.startswith("--")} <= options(command), line
        for before, setting in itertools.pairwise(words):
            if before == "--set":
                section, _, key = setting.partition("=")[0].partition(".")
                assert key in SECTIONS[section].model_fields, line


def test_the_eight_files_are_as_long_as_the_page_says() -> None:
    text = (DOCS / "eight-files.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| \[(.*?)\]", text, re.MULTILINE)
    lines = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for _, path in rows}
    assert len(lines) == 8
    for said, path in rows:
        assert abs(lines[path] - int(said)) <= 0.1 * int(said), f"{path} has {lines[path]} lines"
    (total,) = re.findall(r"Some ([\d,]+) lines", text)
    assert sum(int(said) for said, _ in rows) == pytest.approx(int(total.replace(",", "")), abs=5)


# ---- JSON ----------------------------------------------------------------------------------------


def refuse_undescribed(command: str, result: Any) -> None:
    """Every key that a command has printed is described, and stands on the page."""
    known = generate.meanings()[command]
    text = (DOCS / "json.md").read_text(encoding="utf-8")
    for path, _ in generate.flat(result):
        pattern = generate.pattern_of(path, known)
        assert pattern is not None, f"{command}: docs/json.toml does not describe {path}"
        assert f"| `{pattern}` |" in text, "run: python docs/generate.py json FOLDER"


def test_the_page_of_json_is_that_of_the_meanings() -> None:
    text = (DOCS / "json.md").read_text(encoding="utf-8")
    for known in generate.meanings().values():
        rows = text.partition(f"\n## {known['about']}\n")[2].partition("\n## ")[0]
        told = {path for path in known if path != "about"}
        assert set(re.findall(r"^\| `(.*?)` \|", rows, re.MULTILINE)) == told
        for path in told:
            assert known[path].partition(") ")[2] in rows or known[path] in rows


def test_what_commands_print_is_described(
    text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = [word for setting in TINY for word in ("--set", setting)]
    asked = {
        "dry-run": ["train", "words.txt", "--dry-run", *sets],
        "train": ["train", "words.txt", "--run", "r", *sets],
        "sample": ["sample", "r", "--length", "9", "--check-copies", "--clamp", "0.1=1"],
        "score": ["score", "r", "--split", "test", "--with", "ngram"],
        "inspect": ["inspect", "r"],
        "inspect-gates": ["inspect", "r", "--gates", "the fox"],
        "runs": ["runs", "."],
        "cache": ["cache", "--clear"],
        "removed": ["runs", "--rm", "r"],
    }
    for name, words in asked.items():
        done = command(*words, "--json")
        assert done.returncode == 0, done.stderr
        refuse_undescribed(name, json.loads(done.stdout))


def test_what_a_comparison_prints_is_described(
    finished: tuple[Path, Path, Any], searched: tuple[Path, Path, Any]
) -> None:
    refuse_undescribed("compare", finished[2])
    refuse_undescribed("compare", searched[2])


def test_what_a_comparison_on_several_texts_prints_is_described(
    finished: tuple[Path, Path, Any],
) -> None:
    plan = {**finished[2]["plan"], "smallest_difference": None}
    found = result_over_texts({"a": finished[2], "b": finished[2]}, plan, "charlm compare")
    refuse_undescribed("compare-texts", {**found, "report": "report.html"})
