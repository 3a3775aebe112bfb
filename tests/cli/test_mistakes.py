"""A mistake on the command line: answered with what it is, before torch is imported."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable

import pytest
import typer.main
from conftest import TINY, words

from charlm.__main__ import run
from charlm.cells import CELLS
from charlm.cli.app import MAY_BE_EMPTY, app, refuse_empty
from charlm.common.errors import ConfigError, UsageError
from charlm.common.wording import byte_size, different_sizes, suggestion
from charlm.config import loading, presets
from charlm.config.schema import SECTIONS

SMALL = [part for change in TINY for part in ("--set", change)]

# What is typed, and what the answer has in it.
MISTAKES = {
    "nocommand": "No such command 'nocommand'",
    # train
    "train nopreset": "no preset is called 'nopreset'",
    "train no.toml": "cannot read no.toml",
    "train no.txt": "there is no file no.txt",
    "train bad.toml": "bad.toml:2: there is no key 'train.stepz'; did you mean 'steps'?",
    "train late.toml": "model.hidden_size = 'wide' should be a whole number",
    "train --data nofile": "there is no file or folder",
    "train words.txt --data words.txt": "two texts are named",
    "train run": "run is a run, not a text",
    "train words.txt --nope": "No such option: --nope",
    "train words.txt other.txt": "charlm train --data TEXT --data other.txt",
    "train names other.txt": "names is a preset; name the text with --data: charlm train names",
    "train --data": "give it a value: --data VALUE",
    "train words.txt --set train.stepz=3": "there is no key 'train.stepz'",
    "train words.txt --set train.steps=many": "train.steps = 'many' should be a whole number",
    "train words.txt --set model.cell=ltsm": "did you mean 'lstm'?",
    "train words.txt --set model.reset_gate=before": "is for gru, not lstm",
    "train words.txt --set steps": "'steps' is no setting",
    "train words.txt --set x.y=3": "there is no section 'x'",
    "train words.txt --set train.device=gpu": "should be auto, cpu, cuda, cuda:N or mps",
    "train words.txt --set data.sha256=abc": "should be 64 digits of 0-9 and a-f",
    "train words.txt --device gpu": "there is no device 'gpu'",
    "train words.txt --threads 0": "'--threads'",
    "train words.txt --run run": "run exists and is not empty",
    "train words.txt --run words.txt": "words.txt is a file",
    "train words.txt --run words.txt/x": "words.txt is a file",
    "train words.txt --init nope": "there is no run nope",
    "train words.txt --teacher nope": "there is no run nope",
    "train words.txt --teacher run --set model.cell=x": "model.cell = 'x'",
    "train words.txt --processes 2 --dry-run": "--processes and --dry-run go one at a time",
    "train words.txt --dry-run --set x.y=3": "there is no section 'x'",
    "train --data - --processes 2": "several processes cannot read one stdin",
    "train --set data.path=- --processes 2": "several processes cannot read one stdin",
    "train stdin.toml --processes 2": "several processes cannot read one stdin",
    "train --set data.path=https://x.y/z": "has no data.sha256",
    "train --set data.path=builtin:nope": "no text called 'nope' comes with charlm",
    "train --resume --run nope": "there is no run nope",
    "train --resume --run words.txt": "words.txt is a file",
    "train --resume --run run --set model.hidden_size=9": "model.hidden_size cannot change",
    "train --resume --run run --set train.stepz=9": "there is no key 'train.stepz'",
    "train --resume --run run --data nofile": "there is no file or folder",
    "train nopreset --resume": "no preset is called 'nopreset'",
    # sample
    "sample nope": "there is no run nope",
    "sample words.txt": "is not a run of charlm",
    "sample run hello": "charlm sample RUN --prompt hello",
    "sample run --clamp x": "--clamp x is not layer.unit=value",
    "sample run --clamp 0.1=-1e39": "--clamp 0.1=-1e39: no state can be -1e39",
    "sample run --clamp 9.9=1": "there is no unit 9 in layer 9",
    "sample run --clamp 0.1=1 --with run": "--clamp and --with go one at a time",
    "sample run --top-p 2": "top_p = 2.0 should be less than or equal to 1",
    "sample run --temperature 1000": "temperature = 1000.0",
    "sample run --length 0": "'--length'",
    "sample run --precision int3": "'--precision'",
    "sample run --device gpu": "there is no device 'gpu'",
    "sample run --checkpoint nope": "--checkpoint nope is no checkpoint",
    "sample run --checkpoint 5": "has no checkpoint step-00000005",
    "sample run --with nope": "there is no run nope",
    "sample run --with run": "run is named twice",
    "sample run --with ngram --with ngram": "ngram is named twice",
    "sample run --novel": "--novel is for a model of records",
    # score
    "score run nofile": "cannot read nofile",
    "score run run": "run is a folder, not a file",
    "score nope words.txt": "there is no run nope",
    "score run": "give a FILE or a --split",
    "score run words.txt --split val": "give a FILE or a --split",
    "score words.txt run": "the run comes first",
    "score run --split nope": "'--split'",
    "score run words.txt --per-character --json": "--per-character and --json go one at a time",
    "score run --split train --adapt": "cannot be judged there",
    "score run words.txt --adapt --window 8": "--adapt and --window go one at a time",
    "score run words.txt --with nope": "there is no run nope",
    "score run words.txt --html words.txt": "words.txt is the text that is scored",
    "score run words.txt --html nofolder/x.html": "there is no folder nofolder",
    "score run words.txt --html run": "run is a folder",
    "score run words.txt --encoding nope": "'nope' is no encoding of texts",
    "score run --split val --encoding cp1251": "--encoding is for a FILE",
    "train words.txt --set data.encoding=nope": "'nope' is no encoding of texts",
    "score run words.txt --checkpoint 5": "has no checkpoint step-00000005",
    # compare
    "compare": "no cell is given to compare",
    "compare ltsm": "did you mean 'lstm'?",
    "compare lstm lstm": "lstm is given twice",
    "compare lstm lstm:forget_bias=1.0": "are the same",
    "compare lstm:foo=1": "there is no key 'model.foo'",
    "compare lstm:reset_gate=before": "is for gru, not lstm",
    "compare lstm:hidden_size=3": "has a width of its own",
    "compare lstm:train.steps=3": "train.steps is the same for every cell",
    "compare lstm --config nope": "no preset is called 'nope'",
    "compare lstm --data nofile": "there is no file or folder",
    "compare lstm --set train.stepz=1": "there is no key 'train.stepz'",
    "compare lstm --set train.seed=4294967295": "no 5 seeds from 4294967295 on",
    "compare lstm --out words.txt": "words.txt is a file",
    "compare lstm --match nope": "'--match'",
    "compare lstm --task dick": "no task is called 'dick'; did you mean 'dyck'?",
    "compare lstm --task parity --data words.txt": "so --data cannot be given",
    "compare lstm --task parity --set data.path=words.txt": "data.path is set by it",
    "compare lstm --task parity --set data.records=none": "data.records is set by it",
    "compare --task parity --paper karpathy2015": "has cells and terms of its own",
    "train --data task:dick": "no task is called 'dick'; did you mean 'dyck'?",
    "compare lstm --search 1": "'--search'",
    "compare lstm --search 101": "'--search'",
    "compare lstm --search 8 --tune": "--tune and --search both search",
    "compare --paper collins2017 --search 8": "leave --search out",
    "compare --paper nope": "no study is called 'nope'",
    "compare lstm --paper karpathy2015": "has cells and terms of its own",
    "compare --paper karpathy2015 --set train.stepz=1": "there is no key 'train.stepz'",
    # inspect
    "inspect nope": "there is no run nope",
    "inspect run --out words.txt": "words.txt is a file",
    "inspect run --probe nofile": "cannot read nofile",
    "inspect run --probe words.txt": "has no tab",
    "inspect run --gates=": "the text is empty",
    "inspect run --checkpoint nope": "--checkpoint nope is no checkpoint",
    # the others
    "lecture --data nofile": "there is no file or folder",
    "lecture --out words.txt": "words.txt is a file",
    "lecture --language de": "'--language'",
    "runs nofolder": "there is no folder nofolder",
    "runs --plot nofolder/x.png": "there is no folder nofolder",
    "bench ltsm": "did you mean 'lstm'?",
    "bench lstm:foo=1": "there is no key 'model.foo'",
    "bench lstm --shape 3": "3 is no shape",
    "init nope": "no preset is called 'nope'",
    "init hello --out words.txt": "words.txt exists",
    "init hello --out nofolder/x": "there is no folder nofolder",
    "init hello --out run": "run is a folder, not a file",
    "runs words.txt": "words.txt is a file, not a folder",
    "runs words.txt --prune": "words.txt is a file, not a folder",
    "inspect run --probe run": "run is a folder, not a file",
    "compare lstm:": "lstm:: nothing follows the colon",
    "compare lstm:bias=true,": "nothing follows a comma",
    "compare lstm:bias": "'bias' is not key=value",
    "compare lstm:bias=": "bias has no value",
    "bench lstm:": "lstm:: nothing follows the colon",
    "train words.txt --set =3": "'=3' is no setting",
    "train words.txt --set train.=3": "'train.=3' is no setting",
    "train words.txt --set size.a=3": "rules by the length of the text stand in a file",
    "train words.txt --set data.split=[0.9]": "data.split = [0.9] should have 3 items, not 1",
}

# Every option and argument that names something, with nothing in it.
EMPTY = (
    *("train ''", "train --data ''", "train --set ''", "train --run ''", "train --init ''"),
    *("train --teacher ''", "train --device ''", "train --data=", "sample ''", "sample --with ''"),
    *(
        "sample --clamp ''",
        "sample --checkpoint ''",
        "score ''",
        "score run ''",
        "score '' words.txt",
    ),
    *("score run words.txt --html ''", "score run words.txt --encoding ''", "compare ''"),
    *("compare --paper ''", "compare lstm --out ''", "compare lstm --config ''", "inspect ''"),
    *("inspect run --probe ''", "inspect run --out ''", "lecture --data ''", "lecture --out ''"),
    *("runs ''", "runs --plot ''", "runs --plot=", "bench ''", "bench --shape ''", "init ''"),
    "init --out ''",
)
MISTAKES |= dict.fromkeys(EMPTY, "is empty")

# All of them in one process, in which nothing can import torch or numpy.
SCRIPT = """
import contextlib, io, json, shlex, sys
sys.modules["torch"] = sys.modules["numpy"] = None
from charlm.__main__ import run
answers = {}
for line in json.loads(sys.argv[1]):
    talk = io.StringIO()
    with contextlib.redirect_stderr(talk):
        code = run(shlex.split(line))
    answers[line] = code, talk.getvalue()
print(json.dumps(answers))
"""

Answers = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """The exit code and the answer to every mistake, in a folder with a text and a run."""
    folder = tmp_path_factory.mktemp("mistakes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("CHARLM_CACHE", str(folder / "cache"))
        (folder / "words.txt").write_text(words(1500), encoding="utf-8")
        (folder / "bad.toml").write_text("[train]\nstepz = 3\n", encoding="utf-8")
        (folder / "stdin.toml").write_text("[data]\npath = '-'\n", encoding="utf-8")
        late = "[[size]]\nmax_characters = 9\n[[size]]\nmodel = { hidden_size = 'wide' }\n"
        (folder / "late.toml").write_text(late, encoding="utf-8")
        assert run(["train", "words.txt", "--run", "run", "-q", *SMALL]) == 0
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, json.dumps(list(MISTAKES))],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    found: Answers = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_without_torch_in_one_message(line: str, answers: Answers) -> None:
    code, said = answers[line]
    assert code == 2, said
    assert MISTAKES[line] in said
    assert said.startswith("error: ")
    assert said.count("\nhelp: ") == 1
    assert "Traceback" not in said


def test_every_value_that_names_something_is_refused_when_empty() -> None:
    """Not only those above: whatever option of whatever command takes a value."""
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            option = parameter.opts[0]
            if not option.startswith("--") or parameter.is_flag:
                continue
            if option in MAY_BE_EMPTY:
                refuse_empty([name, option, ""])
                continue
            for typed in ([name, option, ""], [name, f"{option}="]):
                with pytest.raises(UsageError) as refused:
                    refuse_empty(typed)
                assert refused.value.what == f"the value of {option} is empty"


BAD_VALUES = ([], [[]], {}, "\n", "x" * 1000, -1, 10**30, 1.5, float("nan"), None, True)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_value_that_cannot_be_is_refused_in_words_for_people(section: str) -> None:
    """Show no pattern and no word of pydantic's, for any key."""
    refused = 0
    for key in SECTIONS[section].model_fields:
        for value in BAD_VALUES:
            layers = loading.load("default", [], {f"{section}.{key}": value})
            try:
                layers.resolve()
            except ConfigError as error:
                refused += 1
                for said in error.details or (error.what,):
                    assert not re.search(r"Input|valid |pattern|\\d|instance|validation,", said)
                    assert re.search(r"should (be|have) |\[\w+\] ", said)
    assert refused > len(SECTIONS[section].model_fields)


@pytest.mark.parametrize(
    ("word", "known", "wanted"),
    [
        ("gruu", CELLS, "gru"),
        ("grv", CELLS, "gru"),
        ("LSTM", CELLS, "lstm"),
        ("transformer", CELLS, ""),
        ("cnn2", CELLS, ""),
        ("nope", presets.names(), ""),
        ("foo", presets.names(), ""),
        ("shakspeare", presets.names(), "shakespeare"),
        ("shake", presets.names(), "shakespeare"),
        ("stepz", SECTIONS["train"].model_fields, "steps"),
        ("x", SECTIONS["train"].model_fields, ""),
        ("hidden", SECTIONS["model"].model_fields, "hidden_size"),
    ],
)
def test_a_name_is_suggested_only_where_it_is_near(
    word: str, known: Iterable[str], wanted: str
) -> None:
    assert suggestion(word, known) == (f"; did you mean {wanted!r}?" if wanted else "")


@pytest.mark.parametrize(
    ("needed", "free", "shown"),
    [
        (50_000, 0, ("50 KB", "0 B")),
        (3e9, 1e6, ("3 GB", "1 MB")),
        (1_234_500_000, 1_234_400_000, ("1.2345 GB", "1.2344 GB")),
        (1001, 1000, ("1.001 KB", "1.000 KB")),
        (999, 998, ("999 B", "998 B")),
        (5.0e15, 4.9e15, ("5,000 TB", "4,900 TB")),
    ],
)
def test_sizes_that_differ_are_shown_apart(
    needed: float, free: float, shown: tuple[str, str]
) -> None:
    assert different_sizes(needed, free) == shown


def test_no_size_is_rounded_to_nothing() -> None:
    for exponent in range(16):
        for digit in range(1, 10):
            assert not byte_size(digit * 10**exponent).startswith("0")
    assert byte_size(0) == "0 B"
