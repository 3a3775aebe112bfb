"""Fuzzed configurations, settings and command lines: a result, or an error that helps.

Configurations begin as the presets' own TOML and are mutated line by line. Command lines are drawn
from the real options of every command, with hostile values, on a finished run and a text.
"""

import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, tiny_plan, words
from error_contract import COMMANDS, breach, carried_out

from charlm.common.errors import ConfigError
from charlm.config import loading, presets
from charlm.config.schema import SECTIONS
from charlm.training import setup

LONGEST_MESSAGE = 5_000


def told(breaches: list[tuple[str, str]]) -> str:
    """List breaches of one kind once, with how many there are and the first input."""
    counts = Counter(how[:60] for how, _ in breaches)
    firsts = {how[:60]: (how, given) for how, given in reversed(breaches)}
    lines = [f"{counts[kind]} x {how}\n   from {given}" for kind, (how, given) in firsts.items()]
    return f"{len(breaches)} breaches:\n" + "\n".join(lines)


# ---- configurations in TOML ---------------------------------------------------------------------

VALUES = [
    *("0", "1", "-1", "3.5", "true", "false", '""', '"x"', "[]", "{}", "[1]", "{a = 1}", "nan"),
    *("inf", "-inf", "+nan", "1e400", "1e-400", "1" * 5000, "0x" + "f" * 5000, "0b1", "0o17", "-0"),
    *("0x" + "f" * 400, "1_000", "1__0", "01", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z"),
    *("1979-13-45", "9223372036854775808", "1" * 310, "[" * 500 + "]" * 500, "[" * 50_000, "'''"),
    *('"""\n\n"""', "'a\\b'", '"\\ud800"', '"\\U00110000"', '"\\x1b[31m"', '"\\u001b[31m"', '"\\'),
    *('"a\\nerror: forged\\nhelp: forged"', '"\\u0000"', '"' + "x" * 20_000 + '"', "[[1], 2]"),
    *(
        "[0.9, 0.05, 0.05]",
        "[nan, 1.0, 0.0]",
        '["a", 1]',
        "{a.b = 1}",
        "{a = {b = {c = 1}}}",
        "=",
        "",
    ),
    *('"cuda:999"', '"lstm"', '"LSTM"', '"[bold]x[/]"', '"é"', "é", "# x", "1 2", "'\x1b'", "'\0'"),
    *("{" + "a = {" * 400 + "}" * 401, '"' + "\\u202e" * 40 + '"', "1e5000", "1.0e+10", "0.0e"),
]
LINES = [
    *("[train]", "[train.steps]", "[[train]]", "[x]", "[]", "[", "]", "[a.b.c]", "[[size]]", "= 1"),
    *("[[size]]\nmax_characters = 0", "[[size]]\nmodel = 3", "size = 3", "size = [1]", "size = {}"),
    *("[[size]]\nmax_characters = nan", "[[size]]\nx = 1", "[[size]]\nmodel = {hidden_size = nan}"),
    *(
        "[[size]]\nmodel = {nothing = 1}",
        "[[size]]\ntrain.steps = 3",
        'preset = "hello"',
        "preset = 3",
    ),
    *(
        'preset = "nonesuch"',
        "preset = []",
        "é = 1",
        '"" = 1',
        '"a b" = 1',
        '"\\n" = 1',
        "a.b.c = 1",
    ),
    *(
        '"\\u001b[31m" = 1',
        "한글 = 1",
        "x" * 5000 + " = 1",
        "a." * 300 + "b = 1",
        "\0",
        "\x07",
        "\x1b",
    ),
    *(
        "\ufeff",
        "\r",
        "\u2028",
        "train.steps = 3",
        "[model]\n[model]",
        "steps = 1\nsteps = 2",
        "\x85",
    ),
    *('["\\u001b[2J"]', '["a\\nerror: forged"]\nb = 1', "[size]\nx = 1", "data = 1", "[data]", "'"),
    *("train.engine = 'torch'", "[train]\nengine = 3", '"train.steps" = 3', "model.cell = ['rnn']"),
]
KEYS = [f"{section}.{key}" for section, kind in SECTIONS.items() for key in kind.model_fields]


def mutated(text: str, rng: random.Random) -> bytes:
    """Change one to four places of a TOML text; mostly one, or hardly anything would be read."""
    lines = text.splitlines()
    for _ in range(rng.choice([1, 1, 1, 2, 3, 4])):
        at = rng.randrange(len(lines) + 1)
        there = at < len(lines)
        way = rng.randrange(9)
        if way == 0 and there:
            del lines[at]
        elif way == 1 and there:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif way == 2 and there:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif way == 3:
            lines.insert(at, rng.choice(LINES))
        elif way == 4 and there and lines[at]:
            cut = rng.randrange(len(lines[at]))
            lines[at] = lines[at][:cut] + rng.choice(["", "\0", "\x1b", '"', "]", "é", "="])
        else:  # the most useful: a key with another value
            keyed = [number for number, line in enumerate(lines) if "=" in line]
            if not keyed:
                continue
            at = rng.choice(keyed)
            lines[at] = f"{lines[at].partition('=')[0]}= {rng.choice(VALUES)}"
    content = rng.choice(["\n", "\n", "\n", "\r\n"]).join(lines).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        cut = rng.randrange(len(content) + 1)
        odd = [b"\xff", b"\xed\xa0\x80", b"\0", b"\xc3", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"]
        content = content[:cut] + rng.choice(odd) + content[cut:]
    return content


def refused(error: ConfigError) -> str:
    """Return the fault of a configuration's refusal; "" without one."""
    if not error.what.strip() or not error.advice.strip():
        return "refused without a word"
    return ""


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.nightly)])
def test_fuzzed_configuration_is_read_or_refused(tmp_path: Path, count: int) -> None:
    rng, breaches, path = random.Random(0), [], tmp_path / "fuzzed.toml"
    read = 0
    for _ in range(count):
        content = mutated(presets.text(rng.choice(presets.names())), rng)
        path.write_bytes(content)
        how = ""
        try:
            loading.load(str(path)).resolve(rng.choice([0, 1, 10_000, 10**7, 10**16]))
            read += 1
        except ConfigError as error:
            how = refused(error)
        except Exception as error:
            how = f"{type(error).__name__}: {str(error)[:120]}"
        if how:
            breaches.append((how, repr(content[-1500:] if len(content) > 9000 else content)[:3000]))
    assert not breaches, told(breaches)
    assert count / 20 < read < count  # mutations are neither all fatal nor all harmless


def setting(rng: random.Random) -> str:
    """Draw a `section.key=value`, mostly of real keys."""
    odd = [
        "",
        ".",
        "=",
        "a",
        "a.b",
        "train",
        "train.",
        ".steps",
        "train.steps.x",
        "é.é",
        "x" * 9000,
    ]
    odd += [
        "\x1b[31m.x",
        "train.steps\n",
        " train.steps ",
        "size.model",
        "[train].steps",
        "\udcff.\udcff",
    ]
    key = rng.choice(KEYS) if rng.random() < 0.8 else rng.choice(odd)
    value = rng.choice(
        [*VALUES, "\udcff", "a" * 10_000, "1" * 20_000, "\n", "\0", "x = 1\n[y]", "TRUE"]
    )
    return key if rng.random() < 0.03 else f"{key}{rng.choice(['=', '=', '=', ' = ', '=='])}{value}"


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.nightly)])
def test_fuzzed_setting_is_read_or_refused(count: int) -> None:
    rng, breaches = random.Random(1), []
    read = 0
    for _ in range(count):
        given, how = setting(rng), ""
        try:
            loading.load("default", [given]).resolve(1000)
            read += 1
        except ConfigError as error:
            how = refused(error)
        except Exception as error:
            how = f"{type(error).__name__}: {str(error)[:120]}"
        if how:
            breaches.append((how, repr(given)[:300]))
    assert not breaches, told(breaches)
    assert 0 < read < count


# ---- command lines ------------------------------------------------------------------------------

HOSTILE = [
    *(
        "",
        " ",
        "-",
        "--",
        ".",
        "..",
        "/",
        "0",
        "1",
        "-1",
        "2",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e30",
    ),
    *(str(10**30), str(-(10**30)), str(2**63), "0x10", "1_0", "٣", "true", "null", "x" * 10_000),
    *(
        "9" * 5000,
        "a\nb",
        "a\nerror: forged\nhelp: forged",
        "\nerror: forged",
        "\x1b[31mred\x1b[0m",
    ),
    *(
        "\x1b]0;title\x07",
        "\r",
        "\x9b31m",
        "\x7f",
        "\u202eabc",
        "\u2028",
        "\udcff\udcfe",
        "a\udc80b",
    ),
    *("[bold]markup[/]", "[/]", "[link=x]y", "{x}", "%s", "$(x)", "`x`", "a'b\"c", "~", "*", "\\"),
    *(
        "none.txt",
        "none.toml",
        "none/none",
        "/dev/null",
        "/dev/null/x",
        "n" * 300,
        "n" * 300 + ".toml",
    ),
    *(
        "run",
        "text.txt",
        "empty.txt",
        "folder",
        "bytes.bin",
        "builtin:x",
        "builtin:hello.txt",
        "hello",
    ),
    *(
        "run/checkpoints",
        "run/checkpoints/latest",
        "run/config.toml",
        "run/checkpoints/step-00000012",
    ),
    *("best", "latest", "12", "6", "cpu", "cuda", "cuda:7", "mps", "auto", "val", "test", "int8"),
    *(
        "lstm",
        "gru:reset_gate=before",
        "gru:",
        "rnn:x=1",
        "lstm:hidden_size=nan",
        "8x1",
        "0x0",
        "x",
    ),
    *(
        "https://127.0.0.1:1/x",
        "python:nonesuch",
        "é",
        "한글",
        "\U0001f600",
        "train.steps=1",
        "a/" * 3000,
    ),
]
WORK = {"compare", "bench", "lecture", "serve"}
"""Commands that measure for minutes, or serve: given only what fails before that."""
FATAL = {
    "compare": ["none", "\x1b[31m", "gru:x=\n", "lstm:hidden_size=0", "a\nerror: b", "x" * 10_000],
    "bench": ["none", "\x1b[31m", "gru:x=\n", "lstm:nonesuch=0", "a\nerror: b", "x" * 10_000],
    "lecture": ["none", "\x1b[31m", "a\nerror: b", "x" * 10_000],
    "serve": ["none", "\x1b[31m", "a\nerror: b", "x" * 10_000],
}
TRAINED = [
    part
    for change in [*TINY, "train.steps=2", "train.sample_every=0"]
    for part in ("--set", change)
]


def options_of(name: str) -> tuple[list[tuple[str, bool]], int]:
    """Return a command's options, each with whether it takes a value, and how many arguments."""
    options, arguments = [], 0
    for parameter in COMMANDS.commands[name].params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "argument":
            arguments += 1
            continue
        flag = bool(getattr(parameter, "is_flag", False))
        # --debug is there to show tracebacks
        options += [(opt, not flag) for opt in parameter.opts if opt != "--debug"]
    return options, arguments


def value_for(option: str, rng: random.Random) -> str:
    if option == "--set":
        return setting(rng).replace("\0", "\x01")
    return rng.choice(HOSTILE)


def costly(option: str, value: str) -> bool:
    """Return True if a value asks for endless work, or for harm: the user's wish, and no error."""
    number = value.strip().lstrip("+").replace("_", "")
    if option in ("--length", "--num", "--threads", "--window", "--rounds", "--seeds"):
        return number.isdecimal() and int(value[:30]) > 100
    if option == "--processes":  # which would be started, by each of thousands of cases
        return number.isdecimal() and int(value[:30]) > 1
    key, _, _ = value.partition("=")
    if option == "--set" and key.strip() in COSTLY_KEYS:
        return True
    if option == "--plot" and value.startswith("/dev"):  # a picture would take the device's place
        return True
    if option in ("--out", "--html") and value.startswith(("/", "..")):  # not in the test's folder
        return True
    return value == "/" and option in ("", "--data")


COSTLY_KEYS = {
    *("train.steps", "train.batch_size", "train.sequence_length", "model.hidden_size"),
    *("model.num_layers", "model.embedding_size", "train.sample_length", "train.sample_every"),
    *("sample.length", "train.threads", "train.backend", "data.path"),
}


def command_line(rng: random.Random) -> list[str]:
    """Draw a command with arguments and options, each a few of them hostile."""
    name = rng.choice([*COMMANDS.commands, "train", "sample", "score"])  # type: ignore[attr-defined]
    if rng.random() < 0.03:
        return [rng.choice(HOSTILE), *rng.choices(HOSTILE, k=rng.randrange(3))]
    options, arguments = options_of(name)
    given: list[str] = []
    if name in WORK:
        given += [rng.choice(FATAL[name]), *(["--data", "text.txt"] if name == "compare" else [])]
        options = [(option, takes) for option, takes in options if option not in ("--data",)]
    else:
        usual = {"train": "text.txt", "sample": "run", "score": "run", "runs": ".", "init": "hello"}
        usual |= {"inspect": "run", "export": "run"}
        for number in range(rng.randint(0, arguments + (rng.random() < 0.1))):
            good = rng.random() < 0.6
            value = usual.get(name, "run") if good and number == 0 else rng.choice(HOSTILE)
            if not costly("", value):
                given.append(value)
    for _ in range(rng.randint(0, 3)):
        option, takes = rng.choice(options)
        value = value_for(option, rng)
        if (takes and costly(option, value)) or option == "--watch":  # it goes on until Ctrl-C
            continue
        given += [f"{option}={value}"] if takes and rng.random() < 0.2 else [option]
        if takes and given[-1] == option and rng.random() < 0.97:
            given.append(value)
    if rng.random() < 0.03:
        given.append(
            rng.choice(["--nonesuch", "--x\nerror: y", "-\x1b", "--epochs", "--batch-size=3"])
        )
    if name == "train":
        given += TRAINED
    if name == "sample" and "--length" not in given:
        given += ["--length", "5"]
    return [name, *given]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a finished run, a text, and what is neither."""
    folder = tmp_path / "world"
    folder.mkdir()
    (folder / "text.txt").write_text(words(1500), encoding="utf-8")
    (folder / "empty.txt").touch()
    (folder / "bytes.bin").write_bytes(bytes(range(256)) * 4)
    (folder / "folder").mkdir()
    trainer, directory = setup.begin(tiny_plan(folder / "text.txt"), folder / "run")
    for _ in trainer.train(directory):
        pass
    directory.unlock()
    monkeypatch.chdir(folder)
    return folder


def restored(folder: Path, kept: Path) -> None:
    """Make the folder what it was, so that every command line finds the same."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(kept, folder, dirs_exist_ok=True)


@pytest.mark.parametrize("count", [100, pytest.param(5_000, marks=pytest.mark.nightly)])
def test_fuzzed_command_line_does_its_work_or_says_what_is_wrong(
    world: Path, tmp_path: Path, count: int
) -> None:
    kept = Path(shutil.copytree(world, tmp_path / "kept"))
    rng, breaches = random.Random(2), []
    codes: Counter[Any] = Counter()
    for _ in range(count):
        arguments = command_line(rng)
        before = sorted(tmp_path.iterdir())
        outcome = carried_out(arguments)
        codes[outcome.code] += 1
        if how := breach(outcome, LONGEST_MESSAGE):
            shown = [part[:80] for part in arguments if part not in TRAINED]
            breaches.append((how, f"{shown} -> {outcome.err[:200]!r}"))
        if sorted(tmp_path.iterdir()) != before:
            breaches.append(("a file outside of the working directory", repr(arguments)[:300]))
        restored(world, kept)
    assert not breaches, told(breaches)
    assert codes[0] > count / 20
    assert codes[2] > count / 5
