"""Generate the pages that have another source: a hook of mkdocs, and a script.

A page whose text holds `<!-- generate: configuration -->` gets the configuration there, made from
the schema and the presets; `<!-- include: PATH -->` stands for a file of the repository, whose
headings move down below the page's title. A link to a file of the repository leads to the page
that includes it, else to a page that shows the file.

`<!-- notebook: PATH -->` stands for a notebook with the outputs stored in it. `python
docs/generate.py notebooks` executes all notebooks in temporary folders and stores their outputs.
`python docs/generate.py page NAME` prints a completed page.

`json.md` is written by `python docs/generate.py json FOLDER`, which runs every command that has
`--json` on a tiny text in FOLDER (a result that is there is not made again).
"""

import ast
import base64
import io
import itertools
import json
import os
import posixpath
import re
import subprocess
import sys
import tempfile
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SCHEMA = ROOT / "charlm" / "config" / "schema.py"
GENERATED = re.compile(r"<!-- generate: (\w+) -->")
INCLUDED = re.compile(r"<!-- include: (\S+) -->")
NOTEBOOK = re.compile(r"<!-- notebook: (\S+) -->")
STUB = re.compile(r"^> In a checkout .*\n(> .*\n)*\n", re.MULTILINE)
"""A note for readers of the stub, which the site leaves out."""
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)#\s:]+)(#[^)]*)?\)")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LANGUAGES = {".py": "python", ".toml": "toml", ".h": "cpp", ".cpp": "cpp", ".yml": "yaml"}

# What a key is that has no docstring in the schema.
SHORT = {
    "data.sha256": "The SHA-256 of the text at an address, which needs one.",
    "data.unit": "What a symbol is: a character, a byte, or a jamo of a Korean syllable.",
    "data.normalize": "The Unicode normal form of the text: as it is, NFC or NFD.",
    "data.split": "The shares of train, validation and test; they add up to 1.",
    "data.minimum_count": "A character that the train split has less often is not in the "
    "vocabulary.",
    "model.hidden_size": "Units of each layer.",
    "model.num_layers": "Layers, one above the other.",
    "model.dropout": "The share of each layer's outputs that is dropped in training.",
    "model.bias": "Whether the gates have biases.",
    "model.nonlinearity": "Of the RNN.",
    "model.reset_gate": "Of the GRU: the reset gate acts after the matrix product, as in torch, or "
    "before it, as in the lecture.",
    "model.initialization": "How the recurrent weights are drawn before training.",
    "model.forget_bias": "What the LSTM's forget gate begins with.",
    "train.sequence_length": "Symbols of a window: how far back the gradient goes.",
    "train.steps": "Updates in all.",
    "train.learning_rate": "AdamW's learning rate after the warm-up, before the cosine brings it "
    "down.",
    "train.warmup_steps": "Updates in which the learning rate rises from zero.",
    "train.adam_betas": "Decays of AdamW's two moments.",
    "train.weight_decay": "AdamW's decay of the matrices.",
    "train.seed": "Of the weights, the dropout and the resets of the state.",
    "train.eval_every": "Updates between two evaluations.",
    "train.checkpoint_every": "Updates between two checkpoints.",
    "train.log_every": "Updates between two lines of metrics.",
    "train.sample_length": "Symbols of such a sample.",
    "train.precision": 'Of the computation; "auto": bfloat16 where the processor has it.',
    "train.device": "`auto`, `cpu`, `cuda`, `cuda:N` or `mps`.",
    "sample.length": "Symbols to write.",
}

# ---- the configuration ---------------------------------------------------------------------------


def configuration() -> str:
    """Describe every key of the schema, and the presets' values, as Markdown."""
    from charlm.config.schema import RESUMABLE, SECTIONS, marked

    documented, preset_values = _docstrings(), _preset_values()
    resumable, lines = marked(RESUMABLE), []
    for section, kind in SECTIONS.items():
        about = (kind.__doc__ or "").partition(": ")[2]
        lines += [f"## [{section}]", "", about[:1].upper() + about[1:], ""]
        for key, field in kind.model_fields.items():
            dotted = f"{section}.{key}"
            default = _toml(field.get_default(call_default_factory=True))
            facts = [_type_of(field.annotation, field.metadata), f"default `{default}`"]
            if dotted in resumable:
                facts.append("may change on resume")
            lines += [f"### `{dotted}` {{#{dotted}}}", "", " · ".join(facts), ""]
            if about := documented.get(dotted) or SHORT.get(dotted, ""):
                lines += [about, ""]
            if values := preset_values.get(dotted):
                lines += ["Presets: " + "; ".join(values) + ".", ""]
    return "\n".join(lines)


def _docstrings() -> dict[str, str]:
    """Return the docstrings of the schema's keys, as Markdown."""
    texts = {}
    for node in ast.parse(SCHEMA.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef) or not node.name.endswith("Config"):
            continue
        section, key = node.name.removesuffix("Config").lower(), ""
        for item in node.body:
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                key = item.target.id
            elif key and isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant):
                texts[f"{section}.{key}"] = " ".join(str(item.value.value).split())
                key = ""
            else:
                key = ""
    return texts


def _type_of(annotation: Any, metadata: typing.Iterable[Any] = ()) -> str:
    """Describe a key's type and its bounds."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_of(arguments[0], [*_constraints(arguments[1:])])
    if origin is typing.Literal:
        return "one of " + ", ".join(f'`"{value}"`' for value in arguments)
    if origin is types.UnionType:
        return " or ".join(_type_of(one) for one in arguments)
    bounds = {
        name: getattr(one, name)
        for one in _constraints(metadata)
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length")
        if getattr(one, name, None) is not None
    }
    if origin is list:
        count = f"{bounds['min_length']} " if "min_length" in bounds else ""
        noun, _, bound = _type_of(arguments[0]).partition(" ")
        return f"list of {count}{noun}s {bound}".rstrip()
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    words = [names[annotation]]
    if "max_length" in bounds:
        words.append(f"of at most {bounds['max_length']} characters")
    low = f"from {_number(bounds['ge'])}" if "ge" in bounds else ""
    low = f"above {_number(bounds['gt'])}" if "gt" in bounds else low
    high = f"to {_number(bounds['le'])}" if "le" in bounds else ""
    high = f"to below {_number(bounds['lt'])}" if "lt" in bounds else high
    return " ".join([*words, *filter(None, (low, high))])


def _constraints(metadata: typing.Iterable[Any]) -> Iterator[Any]:
    """Yield constraints, those of a field taken out of it."""
    for one in metadata:
        inner = getattr(one, "metadata", None)
        yield from [one] if inner is None else inner


def _number(value: float) -> str:
    return f"{value:,}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def _preset_values() -> dict[str, list[str]]:
    """Return, by key, what the presets set that differs from the default."""
    from charlm.config import presets
    from charlm.config.schema import SECTIONS

    by_key: dict[str, list[str]] = {}
    for name in presets.names():
        content = tomllib.loads(presets.text(name))
        rows = content.pop("size", [])
        values = {f"{s}.{k}": [v] for s, table in content.items() for k, v in table.items()}
        sized = {f"{s}.{k}" for row in rows for s, t in row.items() if s in SECTIONS for k in t}
        for dotted in sized:
            section, key = dotted.split(".")
            base = values.get(dotted, [None])[0]
            values[dotted] = [row.get(section, {}).get(key, base) for row in rows]
        for dotted, listed in values.items():
            section, key = dotted.split(".")
            default = SECTIONS[section].model_fields[key].get_default(call_default_factory=True)
            shown = [default if value is None else value for value in listed]
            if any(value != default for value in shown):
                listed_values = ", ".join(f"`{_toml(value)}`" for value in shown)
                by_size = " by the text's length" if len(shown) > 1 else ""
                by_key.setdefault(dotted, []).append(f"{name} {listed_values}{by_size}")
    return by_key


# ---- JSON ----------------------------------------------------------------------------------------

TINY = ["train.steps=20", "train.eval_every=10", "model.hidden_size=16", "train.threads=1"]
_SET = [word for setting in TINY for word in ("--set", setting)]
RUNS = {
    "train": ["train", "t.txt", "--run", "r", *_SET, "--quiet", "--json"],
    "dry-run": ["train", "t.txt", "--dry-run", *_SET, "--json"],
    "sample": ["sample", "r", "--length", "20", "--seed", "1", "--with", "ngram", "--check-copies"],
    "score": ["score", "r", "p.txt", "--with", "ngram"],
    "score-documents": ["score", "r", "texts", "--with", "ngram"],
    "second-run": ["train", "t.txt", "--run", "s", *_SET, "--quiet", "--json"],
    "score-against": ["score", "r", "texts", "--against", "s"],
    "inspect": ["inspect", "r"],
    "inspect-gates": ["inspect", "r", "--gates", "abc"],
    "inspect-probe": ["inspect", "r", "--probe", "labels.txt"],
    "inspect-units": ["inspect", "r", "--units"],
    "inspect-gradients": ["inspect", "r", "--gradients"],
    "inspect-context": ["inspect", "r", "--context"],
    "inspect-errors": ["inspect", "r", "--errors"],
    "inspect-memorization": ["inspect", "r", "--memorization"],
    "inspect-bptt": ["inspect", "r", "--bptt"],
    "compare": ["compare", "rnn", "lstm", "--data", "t.txt", "--match", "hidden", *_SET, "--quiet"],
    "compare-texts": [
        *(
            "compare",
            "rnn",
            "lstm",
            "--data",
            "t.txt",
            "--data",
            "backwards.txt",
            "--match",
            "hidden",
        ),
        *(*_SET, "--quiet"),
    ],
    "export": ["export", "r", "--to", "html"],
    "runs": ["runs", "."],
    "cache": ["cache"],
    "bench": ["bench", "lstm", "--shape", "16x1", "--rounds", "1"],
}
"""The commands that are run for the page, in order."""


def flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the paths of a JSON value with the type of each: a list adds `[]`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from flat(inner, f"{path}[]")
    elif isinstance(value, list):
        yield f"{path}[]", ""
    elif not isinstance(value, dict):
        kinds = {bool: "true or false", int: "number", float: "number", str: "text"}
        yield path, kinds.get(type(value), "null")


def meanings() -> dict[str, dict[str, str]]:
    """Return the meaning of each key, by command and path; `*` stands for any name."""
    return tomllib.loads((DOCS / "json.toml").read_text(encoding="utf-8"))


def pattern_of(path: str, known: Mapping[str, str]) -> str | None:
    """Find the path or the pattern under which a key is described."""
    if path in known:
        return path
    for pattern in known:
        if "*" in pattern:
            expression = re.escape(pattern).replace(r"\*\*", ".+").replace(r"\*", r"[^\[\]]+")
            if re.fullmatch(expression, path):
                return pattern
    return None


def json_page(results: Mapping[str, Any]) -> str:
    """Return the page of every command's JSON. results: what the commands printed.

    Raises: KeyError for a key that `json.toml` does not describe, or that nothing has printed.
    """
    page = HEAD
    for command, described in meanings().items():
        known = {path: text for path, text in described.items() if path != "about"}
        kinds: dict[str, set[str]] = {path: set() for path in known}
        for path, kind in flat(results.get(command, {})):
            pattern = pattern_of(path, known)
            if pattern is None:
                raise KeyError(f"{command}: json.toml does not describe {path}")
            kinds[pattern].add(kind)
        page += f"\n## {described['about']}\n\n| key | type | meaning |\n|---|---|---|\n"
        for path, text in known.items():
            kind = " or ".join(sorted(kinds[path] - {""}))
            explicit = re.match(r"\(([^)]*)\) ", text)
            if explicit:
                kind, text = explicit[1], text[explicit.end() :]
            if not kind:
                raise KeyError(f"{command}: nothing has printed {path}; name its type in json.toml")
            page += f"| `{path}` | {kind} | {text} |\n"
    return page


HEAD = """# JSON

Written by `python docs/generate.py json FOLDER`, which runs the commands on a tiny text; the
meanings stand in `docs/json.toml`. `[]` stands for each element of a list, `*` for a name that the
run or the command decides, `**` for all keys from there on. Every `--json` prints one
JSON value on standard output; messages and progress go to standard error.
"""


def run_commands(folder: Path) -> dict[str, Any]:
    """Run the commands in a folder on a text of Python's own; return what each printed."""
    import pydoc_data.topics

    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(pydoc_data.topics.topics.values())[1141:31_141]
    folder.joinpath("t.txt").write_text(text, encoding="utf-8")
    folder.joinpath("p.txt").write_text(text[:400], encoding="utf-8")
    folder.joinpath("backwards.txt").write_text(text[::-1], encoding="utf-8")
    folder.joinpath("texts").mkdir(exist_ok=True)
    for number in range(3):
        folder.joinpath(f"texts/{number}.txt").write_text(text[number * 400 :][:400], "utf-8")
    folder.joinpath("texts/empty.txt").touch()
    folder.joinpath("labels.txt").write_text("a\tthe the the\nb\tcat cat cat\n" * 20)
    results = {}
    for name, command in RUNS.items():
        output = folder / f"{name}.json"
        if not output.exists():
            words = [sys.executable, "-m", "charlm", *command]
            words += [] if "--json" in words else ["--json"]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            done = subprocess.run(  # noqa: S603 (the table above)
                words, cwd=folder, env=environment, stdout=subprocess.PIPE, check=True
            )
            output.write_bytes(done.stdout)
            print(name, flush=True)
        results[name] = json.loads(output.read_text(encoding="utf-8"))
    return results


# ---- notebooks -----------------------------------------------------------------------------------

NOTEBOOKS = DOCS / "notebooks"
COLOURS = 32
"""Colours of a stored figure: a third of the bytes, and no difference to see."""


def notebook(path: str) -> str:
    """Return a notebook's Markdown for a page of its own, its title left out."""
    cells = json.loads((ROOT / path).read_text(encoding="utf-8"))["cells"]
    blocks = []
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            blocks.append(with_links(source, path))
            continue
        blocks.append(f"```python\n{source}\n```")
        blocks += [_output(one, cell["metadata"]) for one in _joined(cell["outputs"])]
    return re.sub(r"\A# .*\n+", "", "\n\n".join(blocks))


def _joined(outputs: typing.Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield a cell's outputs, with all that it prints in a row as one."""
    for kind, group in itertools.groupby(outputs, key=lambda one: one["output_type"]):
        if kind == "stream":
            yield {"text": [line for one in group for line in one["text"]]}
        else:
            yield from group


def _output(output: Mapping[str, Any], metadata: Mapping[str, Any]) -> str:
    """Return an output of a cell as Markdown: a picture, HTML or text."""
    data = output.get("data", {})
    if "image/png" in data:
        png, alternative = "".join(data["image/png"].split()), metadata["alternative"]
        return f'<img alt="{alternative}" src="data:image/png;base64,{png}">'
    if "text/html" in data:
        return "".join(data["text/html"])
    text = "".join(output.get("text") or data["text/plain"]).rstrip()
    return f"```text\n{text}\n```"


def execute(path: Path, folder: Path) -> Any:
    """Execute a notebook in a folder; return it with its outputs.

    Raises: CellExecutionError for a cell that fails.
    """
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(content, timeout=600, kernel_name="python3", resources=place).execute()
    return content


def store_outputs(path: Path) -> None:
    """Execute a notebook, and write it with its outputs: text, HTML and pictures, as small as they
    can be."""
    import nbformat
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        content = execute(path, Path(folder))
    for cell in content.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                target = io.BytesIO()
                picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
                picture.convert("RGB").quantize(COLOURS).save(target, "png", optimize=True)
                data["image/png"] = base64.b64encode(target.getvalue()).decode("ascii")
    content.metadata["language_info"] = {"name": "python"}
    nbformat.write(content, path)  # type: ignore[no-untyped-call]


# ---- files of the repository ---------------------------------------------------------------------


def pages_of_files() -> dict[str, str]:
    """Map each file of the repository that a page includes to that page."""
    pages = {}
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        for path in [*INCLUDED.findall(text), *NOTEBOOK.findall(text)]:
            pages[path] = page.name
    return pages


def included(path: str) -> str:
    """Return a file's Markdown for a page of its own, its title left out."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.sub(r"\A# .*\n+", "", text)


def linked_files() -> set[str]:
    """List the files of the repository that pages link to and none includes."""
    paths = set()
    for page in DOCS.glob("*.md"):
        text = page.read_text(encoding="utf-8")
        texts = [(f"docs/{page.name}", text)]
        texts += [(path, included(path)) for path in INCLUDED.findall(text)]
        for origin, content in texts:
            for _, target, _ in LINK.findall(FENCED.sub("", content)):
                path = _in_repository(origin, target)
                if path and not path.startswith("docs/") and path not in pages_of_files():
                    paths.add(path)
    return paths


def _in_repository(origin: str, target: str) -> str:
    """Return the file that a link in a file leads to, from the repository's top; "" if none."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    if (ROOT / path).is_dir():
        path = posixpath.join(path, "README.md")
    return path if (ROOT / path).is_file() else ""


def with_links(text: str, origin: str) -> str:
    """Return Markdown of a file of the repository with links that lead to pages of the site."""
    pages = pages_of_files()

    def led(link: re.Match[str]) -> str:
        words, target, anchor = link[1], link[2], link[3] or ""
        path = _in_repository(origin, target)
        if not path:
            return link[0]
        if path in pages and not (path.endswith(".ipynb") and origin == f"docs/{pages[path]}"):
            target = pages[path]
        elif path.startswith("docs/"):
            target = path.removeprefix("docs/")
        else:
            target, anchor = f"source/{path}.md", ""
        return f"{words}({target}{anchor})"

    pieces, at = [], 0
    for block in FENCED.finditer(text):
        pieces += [LINK.sub(led, text[at : block.start()]), block[0]]
        at = block.end()
    return "".join([*pieces, LINK.sub(led, text[at:])])


def shown_file(path: str) -> str:
    """Return the page that shows a file of the repository."""
    content = (ROOT / path).read_text(encoding="utf-8").rstrip("\n")
    language = LANGUAGES.get(Path(path).suffix, "text")
    head = f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n\n# {path}\n\n"
    return f'{head}````{language} linenums="1"\n{content}\n````\n'


# ---- the hook ------------------------------------------------------------------------------------

GENERATORS = {"configuration": configuration}


def rendered(page: str, text: str) -> str:
    """Return a page's Markdown with what is generated and included, and its links led."""
    text = with_links(STUB.sub("", text), f"docs/{page}")
    text = GENERATED.sub(lambda found: GENERATORS[found[1]](), text)
    text = NOTEBOOK.sub(lambda found: notebook(found[1]), text)
    return INCLUDED.sub(lambda found: with_links(included(found[1]), found[1]), text)


def on_files(files: Any, *, config: Any) -> Any:
    """Add a page for every file of the repository that is linked to."""
    from mkdocs.structure.files import File

    for path in sorted(linked_files()):
        files.append(File.generated(config, f"source/{path}.md", content=shown_file(path)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Complete a page."""
    name = page.file.src_uri
    return markdown if name.startswith("source/") else rendered(name, markdown)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["json", folder]:
            page = json_page(run_commands(Path(folder)))
            DOCS.joinpath("json.md").write_text(page, encoding="utf-8")
        case ["notebooks"]:
            for path in sorted(NOTEBOOKS.glob("*.ipynb")):
                store_outputs(path)
        case ["page", name]:
            print(rendered(name, DOCS.joinpath(name).read_text(encoding="utf-8")))
        case _:
            sys.exit("usage: python docs/generate.py json FOLDER | notebooks | page NAME")
