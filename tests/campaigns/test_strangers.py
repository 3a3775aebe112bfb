"""A stranger's run: whatever is in it, charlm reads it or refuses it, and does nothing else.

A finished run is changed in one place, and the manifest is made right again, so that digests do not
help. Then it is sampled, scored, resumed and listed, in a forked process whose death, by a signal
or by an alarm, is seen and not shared.
"""

import hashlib
import json
import os
import pickle
import random
import resource
import shutil
import signal
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_plan, words
from error_contract import Outcome, breach, carried_out, not_finite

from charlm.runs.manifest import MANIFEST, MODEL, STATE, TRAINING
from charlm.training import setup

LONGEST_SECONDS = 10
ROOM = 3 << 30
"""Bytes of address space that a child may take beside what it began with."""
BATCH = 50
SMALL = 400
"""Cases, with one of the commands each."""
MOVED = "elsewhere"
Entries = dict[str, dict[str, Any]]
"""A safetensors header."""


# ---- a case: a copy of the run, and ways to change it -------------------------------------------


@dataclass
class Case:
    """A copy of a finished run, alone in a folder with a file that nobody may touch."""

    base: Path
    rng: random.Random

    @property
    def run(self) -> Path:
        return self.base / "runs" / "stranger"

    @property
    def precious(self) -> Path:
        return self.base / "precious.txt"

    @property
    def canary(self) -> Path:
        return self.base / "code-was-run"

    @property
    def checkpoints(self) -> Path:
        return self.run / "checkpoints"

    @property
    def folder(self) -> Path:
        return self.checkpoints / "step-00000012"

    def state(self) -> Any:
        return json.loads((self.folder / STATE).read_bytes())

    def put(self, name: str, content: bytes) -> None:
        """Write a file of the checkpoint, and its size and digest into the manifest."""
        (self.folder / name).write_bytes(content)
        manifest = json.loads((self.folder / MANIFEST).read_bytes())
        digest = hashlib.sha256(content).hexdigest()
        manifest["files"][name] = {"size": len(content), "sha256": digest}
        (self.folder / MANIFEST).write_text(json.dumps(manifest))

    def put_state(self, state: Any) -> None:
        self.put(STATE, as_json(state).encode("utf-8", "surrogatepass"))

    def tensors(self, name: str) -> tuple[Entries, bytes]:
        """Return the header and the data of a safetensors file."""
        content = (self.folder / name).read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        return json.loads(content[8 : 8 + length]), content[8 + length :]

    def put_tensors(self, name: str, header: Any, data: bytes) -> None:
        raw = as_json(header).encode("utf-8", "surrogatepass")
        self.put(name, struct.pack("<Q", len(raw)) + raw + data)

    def put_parts(self, name: str, parts: dict[str, tuple[str, list[int], bytes]]) -> None:
        """Write tensors, each by type, shape and bytes, one after another as they should be."""
        header, data = {}, b""
        for key, (kind, shape, raw) in parts.items():
            offsets = [len(data), len(data) + len(raw)]
            header[key] = {"dtype": kind, "shape": shape, "data_offsets": offsets}
            data += raw
        self.put_tensors(name, header, data)

    def parts(self, name: str) -> dict[str, tuple[str, list[int], bytes]]:
        header, data = self.tensors(name)
        return {
            key: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for key, entry in header.items()
            if key != "__metadata__"
        }

    def outside(self) -> dict[str, str]:
        """Return the files beside the run, with their content. (Folders of the run may have been
        moved to MOVED, as to another disk: what is in them is the run's.)"""
        found = {}
        for path in sorted(self.base.rglob("*")):
            if path.is_relative_to(self.run) or path.is_relative_to(self.base / MOVED):
                continue
            content = path.read_text() if path.is_file() and not path.is_symlink() else ""
            found[str(path.relative_to(self.base))] = content
        return found


RAW = "@raw:"
"""Begins a string that stands for JSON as it is written behind it: for what `json` cannot write."""


def as_json(value: Any) -> str:
    text = json.dumps(value)
    while (at := text.find(f'"{RAW}')) >= 0:
        end = text.index('@"', at)
        literal = json.loads(text[at : end + 2])
        text = text[:at] + literal.removeprefix(RAW).removesuffix("@") + text[end + 2 :]
    return text


def raw(text: str) -> str:
    return f"{RAW}{text}@"


HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 2**31, 2**53, 2**63, -(2**63) - 1, 2**64),
    *(10**30, -(10**30), "", "x", "12", "nan", "\ud800", "\x1b[31m", "a\nerror: b", "x" * 10_000),
    *([], {}, [[]], [None], {"": None}, {"step": 12}, list(range(1000))),
    *(raw("1e400"), raw("-1e400"), raw("NaN"), raw("Infinity"), raw("-Infinity")),
    *(raw("1" * 5000), raw("-" + "9" * 400), raw("[" * 400 + "]" * 400), raw('{"a":1,"a":2}')),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """List every container and key below a JSON value."""
    keys: Any = value.keys() if isinstance(value, dict) else range(len(value))
    found = []
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found.extend(places(value[key]))
    return found


def change_place(value: Any, rng: random.Random) -> None:
    """Replace or delete something below a JSON value."""
    container, key = rng.choice(places(value))
    if rng.random() < 0.2:
        del container[key]
    else:
        container[key] = rng.choice(HOSTILE)


# ---- state.json ---------------------------------------------------------------------------------


def state_anywhere(case: Case) -> None:
    state = case.state()
    change_place(state, case.rng)
    case.put_state(state)


def state_top_key(case: Case) -> None:
    state = case.state()
    key = case.rng.choice(list(state))
    if case.rng.random() < 0.3:
        del state[key]
    else:
        state[key] = case.rng.choice(HOSTILE)
    case.put_state(state)


def state_whole(case: Case) -> None:
    value = case.rng.choice([*HOSTILE, raw("[" * 100_000), raw(""), raw("\x00"), raw("{")])
    case.put_state(value)


def state_bytes(case: Case) -> None:
    content = bytearray((case.folder / STATE).read_bytes())
    for _ in range(case.rng.randint(1, 4)):
        content[case.rng.randrange(len(content))] = case.rng.randrange(256)
    case.put(STATE, bytes(content))


def state_progress(case: Case) -> None:
    state = case.state()
    progress = state["progress"]
    key = case.rng.choice([*progress, "unheard_of"])
    if case.rng.random() < 0.2:
        progress.pop(key, None)
    else:
        progress[key] = case.rng.choice(HOSTILE)
    case.put_state(state)


def state_best(case: Case) -> None:
    state = case.state()
    best = state["progress"]["best"]
    best[case.rng.choice(list(best))] = case.rng.choice(HOSTILE)
    case.put_state(state)


def state_steps(case: Case) -> None:
    state = case.state()
    number = case.rng.choice([0, -1, 1, 6, 13, 10**8, 10**9, 2**63, -(2**63), 10**30, 12.7, "12"])
    if case.rng.random() < 0.7:
        state["step"] = number
    if case.rng.random() < 0.7:
        state["progress"]["step"] = number
    case.put_state(state)


def state_versions(case: Case) -> None:
    state = case.state()
    if case.rng.random() < 0.4:
        state["versions"] = case.rng.choice(HOSTILE)
    else:
        versions = state["versions"]
        key = case.rng.choice([*versions, "\x1b]0;x\x07"])
        versions[key] = case.rng.choice(HOSTILE)
    case.put_state(state)


SYMBOLS: list[Any] = [
    *("", "ab", "\ud800", "\udfff", "\x00", "\x1b", "\U0010ffff", "e\u0301", 7, None, [], ["a"]),
    *(1.5, True, {}),
]


def vocabulary_symbols(case: Case) -> None:
    state = case.state()
    vocabulary = state["vocabulary"]
    symbols = vocabulary["symbols"]
    at = case.rng.randrange(len(symbols))
    way = case.rng.randrange(6)
    if way == 0:
        symbols[at] = case.rng.choice(SYMBOLS)
    elif way == 1:
        symbols.append(case.rng.choice([*SYMBOLS, "Z", symbols[0]]))
    elif way == 2:
        del symbols[at]
    elif way == 3:
        symbols[:] = []
    elif way == 4:
        symbols.extend(chr(code) for code in range(0x4E00, 0x4E00 + 5000))
    else:
        vocabulary["symbols"] = case.rng.choice(["".join(symbols), None, 3, {"a": 1}])
    if case.rng.random() < 0.5 and isinstance(vocabulary["symbols"], list):
        vocabulary["unknown"] = len(vocabulary["symbols"])
    case.put_state(state)


def vocabulary_fields(case: Case) -> None:
    state = case.state()
    vocabulary = state["vocabulary"]
    values = [*HOSTILE, "byte", "jamo", "char", "nfc", "nfd", "none"]
    vocabulary[case.rng.choice(list(vocabulary))] = case.rng.choice(values)
    case.put_state(state)


SETTINGS = """
model.hidden_size=1|5|7|64|257|16384|16385|0|-6|6.0|"6"
model.num_layers=2|3|32|0
model.embedding_size=0|3|5|16384
model.cell="rnn"|"lstm"|"gru"|"transformer"|""|3
model.bias=false|1
model.nonlinearity="relu"|"tanh"|"\\u0000"
model.reset_gate="before"|"after"
model.dropout=0.5|0.95|nan
model.weight_dropout=0.5|0.95|nan
model.forget_bias=inf|-10
train.batch_size=1|2|65536|0|10000000000000000000000
train.sequence_length=1|4|65536
train.steps=1|12|1000000000
train.precision="bfloat16"|"auto"|"float16"
train.backend="native"|"torch"|"auto"|"cuda"
train.device="cuda"|"cuda:7"|"mps"|"cuda:999"|"meta"|"auto"|"xla"
train.threads=0|2|1025
train.learning_rate=10.0|1e-300|nan
train.weight_average=0.9|0.0
train.adam_betas=[0.0,0.0]|[0.5]|[1.0,1.0]|"x"
train.seed=4294967295|-1
train.eval_every=1|1000000000
train.checkpoint_every=1
train.log_every=1
train.target_bits_per_character=64.0|0.5
train.patience=1|1000000
train.clip_norm=0.0|1e-300|1000000.0
train.state_reset=1.0|0.0
sample.length=1|1000000000
sample.temperature=0.0|100.0|1e-300
sample.top_k=1|1000000000
sample.top_p=1e-300|1.0|0.0
data.path=""|"-"|"."|".."|"/dev/zero"|"/dev/null"|"builtin:hello.txt"|"builtin:../x"|[]|["a","b"]
data.path="/proc/self/mem"|"https://127.0.0.1:1/x"|"\\u0000"|"\\u001b[31m"|"precious.txt"
data.unit="byte"|"jamo"|"char"|"word"
data.normalize="nfc"|"nfd"
data.split=[1.0,0.0,0.0]|[0.5,0.25,0.25]|[2.0,-1.0,0.0]|[]
data.minimum_count=2|1000000000
data.unknown=false
data.held_out_limit=1|1000000000000
data.sha256="x"|""
""".strip().splitlines()


def state_config(case: Case) -> None:
    """Forge the configuration: other sizes, cells, devices, texts."""
    state = case.state()
    lines = state["config"].splitlines()
    for _ in range(case.rng.randint(1, 2)):
        dotted, _, values = case.rng.choice(SETTINGS).partition("=")
        key = dotted.partition(".")[2]
        value = case.rng.choice(values.split("|"))
        lines = [f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in lines]
    state["config"] = "\n".join(lines)
    case.put_state(state)


def state_config_text(case: Case) -> None:
    """Damage the configuration's TOML."""
    state = case.state()
    lines = state["config"].splitlines()
    odd = ["[model]", "[x]", "x = 1", "[[size]]", "a = " + "[" * 3000, "\x00", "\ud800 = 1", "="]
    odd += ["n = " + "1" * 5000, "preset = 'hello'", "[train.steps]", "\x1b[31m"]
    at = case.rng.randrange(len(lines))
    if case.rng.random() < 0.3:
        del lines[at]
    else:
        lines.insert(at, case.rng.choice(odd))
    state["config"] = "\n".join(lines)
    case.put_state(state)


# ---- the tensors --------------------------------------------------------------------------------

TYPES = {
    **{"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2},
    **{"BF16": 2, "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8, "F4": 1},
    **{"": 4, "float32": 4},
}


def some_file(case: Case) -> str:
    return case.rng.choice([MODEL, TRAINING])


def sized(content: bytes, count: int) -> bytes:
    return (content * (count // max(1, len(content)) + 1))[:count]


def numbers_in(shape: list[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def tensor_type(case: Case) -> None:
    """Give a tensor, or all of them, another type, with as many bytes as that needs."""
    name = some_file(case)
    parts, kind = case.parts(name), case.rng.choice(list(TYPES))
    chosen = list(parts) if case.rng.random() < 0.3 else [case.rng.choice(list(parts))]
    for key in chosen:
        _, shape, content = parts[key]
        parts[key] = kind, shape, sized(content or b"\1", numbers_in(shape) * TYPES[kind])
    case.put_parts(name, parts)


def tensor_shape(case: Case) -> None:
    """Give a tensor another shape, with as many bytes as that needs."""
    name = some_file(case)
    parts = case.parts(name)
    key = case.rng.choice(list(parts))
    kind, shape, content = parts[key]
    other = case.rng.choice(
        [
            *([], [0], [1], [0, 0], shape[::-1], [numbers_in(shape)], [1, *shape], [*shape, 1]),
            *(shape[:-1], [*shape, 0], [size + 1 for size in shape], [size - 1 for size in shape]),
            *([1] * 70, [2] * 12, [0, 2**62, 2**62]),
        ]
    )
    size = numbers_in(other) * TYPES[kind]
    parts[key] = kind, other, sized(content or b"\1", size)
    case.put_parts(name, parts)


def carried_state(case: Case) -> None:
    """Give the carried states, the optimizer's count or the loss another type and shape."""
    parts = case.parts(TRAINING)
    names = [key for key in parts if key.startswith(("state.", "loss_sum", "optimizer.count"))]
    key = case.rng.choice(names)
    kind = case.rng.choice(["I8", "F32", "F64", "BOOL", "I64", "F16", "BF16", "C64"])
    shape = case.rng.choice([[], [1], [0], parts[key][1], [*parts[key][1], 1], [1, 1], [3]])
    parts[key] = kind, shape, sized(b"\1\0", numbers_in(shape) * TYPES[kind])
    case.put_parts(TRAINING, parts)


def tensor_names(case: Case) -> None:
    name = some_file(case)
    parts = case.parts(name)
    key = case.rng.choice(list(parts))
    other = case.rng.choice(["", "x", "head.weight", "cells.99.weight_hh", "state.0.9", "../x"])
    way = case.rng.randrange(3)
    if way != 0:
        parts[other] = parts[key]
    if way != 1:
        del parts[key]
    case.put_parts(name, parts)


def tensor_none(case: Case) -> None:
    case.put_parts(some_file(case), {})


def tensor_values(case: Case) -> None:
    """Make numbers of a tensor infinite, no number, enormous, tiny or negative."""
    name = some_file(case)
    parts = case.parts(name)
    chosen = list(parts) if case.rng.random() < 0.3 else [case.rng.choice(list(parts))]
    value = case.rng.choice([float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45, -1.0])
    value = case.rng.choice([value, 0.0, 1e20])
    for key in chosen:
        kind, shape, content = parts[key]
        numbers = list(struct.unpack(f"<{len(content) // 4}f", content))
        if not numbers:
            continue
        some = (
            range(len(numbers)) if case.rng.random() < 0.5 else [case.rng.randrange(len(numbers))]
        )
        for at in some:
            numbers[at] = value
        parts[key] = kind, shape, struct.pack(f"<{len(numbers)}f", *numbers)
    case.put_parts(name, parts)


def optimizer_count(case: Case) -> None:
    parts = case.parts(TRAINING)
    value = case.rng.choice([0.0, -1.0, -2.0, 1e38, float("nan"), float("inf"), 0.5, -1e38])
    parts["optimizer.count"] = "F32", [], struct.pack("<f", value)
    case.put_parts(TRAINING, parts)


def header_anywhere(case: Case) -> None:
    """Declare something else than what is there."""
    name = some_file(case)
    header, data = case.tensors(name)
    for _ in range(case.rng.randint(1, 2)):
        change_place(header, case.rng)
    case.put_tensors(name, header, data)


def header_shape(case: Case) -> None:
    """Declare enormous shapes."""
    name = some_file(case)
    header, data = case.tensors(name)
    entry = header[case.rng.choice([key for key in header if key != "__metadata__"])]
    entry["shape"] = case.rng.choice(
        [
            *([2**40], [2**62, 4], [2**63], [2**64], [-1], [-6, -4], [0, 2**63], [1.5], ["6"]),
            *([None], [2**32, 2**32], [10**30], None, 6, "6", {}, [raw("1" * 5000)], [True]),
        ]
    )
    if case.rng.random() < 0.3:
        entry["data_offsets"] = case.rng.choice(
            [[0, 2**40], [0, 0], [-8, 0], [8, 0], [2**63, 2**64]]
        )
    case.put_tensors(name, header, data)


def header_offsets(case: Case) -> None:
    """Let tensors overlap, lie backwards, leave holes or reach beyond the file."""
    name = some_file(case)
    header, data = case.tensors(name)
    names = [key for key in header if key != "__metadata__"]
    one, other = (header[case.rng.choice(names)] for _ in range(2))
    way = case.rng.randrange(4)
    if way == 0:
        one["data_offsets"] = other["data_offsets"]
    elif way == 1:
        one["data_offsets"] = one["data_offsets"][::-1]
    elif way == 2:
        one["data_offsets"] = [
            at + case.rng.choice([-4, 1, 4, 2**33]) for at in one["data_offsets"]
        ]
    else:
        data = case.rng.choice([data[:-1], data + b"x", b"", data + b"\0" * 4096])
    case.put_tensors(name, header, data)


def header_garbage(case: Case) -> None:
    name = some_file(case)
    content = (case.folder / name).read_bytes()
    header, _ = case.tensors(name)
    double = json.dumps(header)[:-1] + "," + json.dumps(header)[1:]
    deep = "[" * 50_000
    case.put(
        name,
        case.rng.choice(
            [b"", b"\0", b"\0" * 8, struct.pack("<Q", 2**63) + b"{}", b"\xff" * 8]
            + [struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 2) + b"[]", content[:8]]
            + [struct.pack("<Q", 100_000_001) + b"{", content[1:], b"\x00" + content]
            + [struct.pack("<Q", len(text)) + text.encode() + content for text in (double, deep)]
            + [b"PK\3\4" + content, content[: len(content) // 2]]
            + [struct.pack("<Q", 30) + b'{"__metadata__":{"a":[1,2,3]}}']
        ),
    )


def header_metadata(case: Case) -> None:
    name = some_file(case)
    header, data = case.tensors(name)
    header["__metadata__"] = case.rng.choice([*HOSTILE, {"a": "b"}, {"a": 1}])
    case.put_tensors(name, header, data)


def tensor_bytes(case: Case) -> None:
    name = some_file(case)
    content = bytearray((case.folder / name).read_bytes())
    end = min(len(content), 600) if case.rng.random() < 0.7 else len(content)
    for _ in range(case.rng.randint(1, 3)):
        content[case.rng.randrange(end)] = case.rng.randrange(256)
    case.put(name, bytes(content))


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def pickled(case: Case) -> None:
    """Put a pickle that runs code in the place of a file, bare or as torch saves it."""
    payload = Payload(case.canary)
    name = case.rng.choice([MODEL, TRAINING, STATE])
    if case.rng.random() < 0.5:
        case.put(name, pickle.dumps(payload))
    else:
        torch.save(payload, case.folder / name)
        case.put(name, (case.folder / name).read_bytes())


def files_exchanged(case: Case) -> None:
    """Put one file's content in another's place, of this checkpoint or of the other one."""
    one, other = case.rng.sample([MODEL, TRAINING, STATE], 2)
    from_folder = case.rng.choice([case.folder, case.checkpoints / "step-00000006"])
    if from_folder != case.folder:
        other = one
    case.put(one, (from_folder / other).read_bytes())


# ---- manifest.json ------------------------------------------------------------------------------


def manifest_anywhere(case: Case) -> None:
    manifest = json.loads((case.folder / MANIFEST).read_bytes())
    change_place(manifest, case.rng)
    (case.folder / MANIFEST).write_text(as_json(manifest), errors="surrogatepass")


def manifest_sizes(case: Case) -> None:
    manifest = json.loads((case.folder / MANIFEST).read_bytes())
    entry = manifest["files"][case.rng.choice([MODEL, TRAINING, STATE])]
    key = case.rng.choice(["size", "sha256"])
    entry[key] = case.rng.choice([*HOSTILE, str(entry[key]), [entry[key]], float("1e3")])
    (case.folder / MANIFEST).write_text(as_json(manifest), errors="surrogatepass")


def manifest_names(case: Case) -> None:
    manifest = json.loads((case.folder / MANIFEST).read_bytes())
    files = manifest["files"]
    key = case.rng.choice(list(files))
    names = ["../../../precious.txt", "/etc/passwd", "", ".", "..", "x" * 5000, "\x00", "\ud800"]
    files[case.rng.choice(names)] = files[key] if case.rng.random() < 0.5 else files.pop(key)
    (case.folder / MANIFEST).write_text(as_json(manifest), errors="surrogatepass")


def manifest_whole(case: Case) -> None:
    contents = [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'"charlm-checkpoint-1"']
    contents += [b'{"format": "charlm-checkpoint-1"}', b'{"format": "charlm-checkpoint-2"}']
    contents += [b'{"format": ["charlm-checkpoint-1"]}', b"9" * 5000, b"\0" * 100, b"{" * 1000]
    contents += [
        b'{"format": "charlm-checkpoint-1", "files": %s}' % v for v in (b"[]", b"3", b"{}")
    ]
    (case.folder / MANIFEST).write_bytes(case.rng.choice(contents))


# ---- pointers, folders and the other files ------------------------------------------------------


def in_place_of(case: Case, path: Path) -> None:
    """Put what is no ordinary file in a file's place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    way = case.rng.randrange(8)
    if way == 0:
        path.mkdir()
    elif way == 1:
        os.mkfifo(path)
    elif way == 2:
        path.symlink_to("/dev/zero")
    elif way == 3:
        path.symlink_to("/dev/null")
    elif way == 4:
        path.symlink_to(case.precious)
    elif way == 5:
        path.symlink_to(path.name)  # a loop
    elif way == 6:
        path.symlink_to(case.base / "nowhere")


POINTERS = [
    *(b"", b"\n", b"..", b"../..", b".", b"/", b"/etc", b"step-00000012/", b"step-00000012/.."),
    *(b"step-00000012\nstep-00000006", b"\nstep-00000012\n\n", b"step-99999999", b"step-", b"12"),
    *(b"\0", b"\xff\xfe", b"step-00000012\0", b"x" * 1_000_000, b"../precious.txt", b"~", b"*"),
    *(b"\x1b[31mstep-00000012", b"x\nerror: forged\nhelp: forged", b"best", b"latest", b"a" * 300),
    *("step-\u0661\u0662".encode(), b"..\\..", b"step-00000006"),
]


def pointer_content(case: Case) -> None:
    for pointer in case.rng.choice([["latest"], ["best"], ["latest", "best"]]):
        (case.checkpoints / pointer).write_bytes(case.rng.choice(POINTERS))


def pointer_replaced(case: Case) -> None:
    in_place_of(case, case.checkpoints / case.rng.choice(["latest", "best"]))


def checkpoint_file_replaced(case: Case) -> None:
    in_place_of(case, case.folder / case.rng.choice([MODEL, TRAINING, STATE, MANIFEST]))


def folder_moved(case: Case) -> None:
    way = case.rng.randrange(8)
    if way == 0:
        case.folder.rename(case.checkpoints / MOVED)
        case.folder.symlink_to(MOVED)
    elif way == 1:
        case.folder.rename(case.base / MOVED)
        case.folder.symlink_to(case.base / MOVED)
    elif way == 2:
        case.folder.rename(case.checkpoints / case.rng.choice(["step-13", "step-x", "s\x1bp", "-"]))
    elif way == 3:
        case.checkpoints.rename(case.base / MOVED)
        case.checkpoints.symlink_to(case.base / MOVED)
    elif way == 4:
        (case.checkpoints / "step-00000014").symlink_to(case.base)
    elif way == 5:
        (case.checkpoints / "step-99999999").write_text("x")
        (case.checkpoints / ".writing-x").symlink_to(case.base)
    elif way == 6:
        in_place_of(case, case.folder)
    else:
        (case.checkpoints / "step-99999999\nerror: forged").mkdir()
        (case.folder / MODEL).write_bytes(b"")


def planted_link(case: Case) -> None:
    """Plant links at the names that are written to, so that writing would go elsewhere."""
    names = [".lock", "metrics.jsonl", "summary.json", "config.toml", ".summary.json.writing"]
    names += [".metrics.jsonl.writing", ".config.toml.writing", "checkpoints/.latest.writing"]
    names += ["checkpoints/.best.writing", "checkpoints/latest", "checkpoints/best"]
    path = case.run / case.rng.choice(names)
    path.unlink(missing_ok=True)
    path.symlink_to(case.rng.choice([case.precious, case.base / "nowhere"]))


OTHERS = ["config.toml", "metrics.jsonl", "summary.json", "vocabulary.json"]


def other_file_replaced(case: Case) -> None:
    in_place_of(case, case.run / case.rng.choice([*OTHERS, ".lock"]))


def other_file_content(case: Case) -> None:
    contents = [b"", b"\0", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b"3", b"{}", b'"x"']
    contents += [b"9" * 5000, b"x = " + b"9" * 5000, b"a\n" * 100_000, b"x = nan", b"model = 3"]
    contents += [b"[data]\npath = [1, 2]", b"[model]\ncell = 3", b'[model]\ncell = "\\u001b[31m"']
    contents += [b"[model]\ncell = []", b'[data]\npath = ["a\\nb", "\\u0000"]', b"model = [1]"]
    contents += [b"[model.cell]\nx = 1", b"[data]\npath = {a = 1}", b"x = " + b"[" * 5000]
    (case.run / case.rng.choice(OTHERS)).write_bytes(case.rng.choice(contents))


def metrics_rows(case: Case) -> None:
    path = case.run / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for _ in range(case.rng.randint(1, 3)):
        change_place(rows, case.rng)
        rows = [row for row in rows if isinstance(row, dict)] or [{"kind": "eval"}]
    path.write_text("".join(as_json(row) + "\n" for row in rows), errors="surrogatepass")


def summary_values(case: Case) -> None:
    path = case.run / "summary.json"
    summary = json.loads(path.read_bytes())
    change_place(summary, case.rng)
    path.write_text(as_json(summary), errors="surrogatepass")


def nothing_at_all(case: Case) -> None:
    """Change nothing: the run is good, and all commands must succeed."""


MUTATORS: list[Callable[[Case], None]] = [
    *(state_anywhere, state_top_key, state_whole, state_bytes, state_progress, state_best),
    *(state_steps, state_versions, vocabulary_symbols, vocabulary_fields, state_config),
    *(state_config, state_config_text, tensor_type, tensor_shape, carried_state, tensor_names),
    *(tensor_none, tensor_values, optimizer_count, header_anywhere, header_shape, header_offsets),
    *(header_garbage, header_metadata, tensor_bytes, pickled, files_exchanged, manifest_anywhere),
    *(manifest_sizes, manifest_names, manifest_whole, pointer_content, pointer_replaced),
    *(checkpoint_file_replaced, folder_moved, planted_link, other_file_replaced),
    *(other_file_content, metrics_rows, summary_values, nothing_at_all),
]

# ---- what is done with each ---------------------------------------------------------------------


def commands(case: Case) -> list[list[str]]:
    run = str(case.run)
    more = ["--set", "train.steps=14", "--set", "train.sample_length=3", "--quiet", "--json"]
    return [
        ["sample", run, "--length", "20", "--seed", "1"],
        ["score", run, "--split", "val", "--json"],
        ["runs", str(case.run.parent), *case.rng.choice([[], ["--json"]])],
        ["train", "--resume", "--run", run, *more],  # the last: it changes the run
    ]


def judged(case: Case, arguments: list[str], outcome: Outcome, good: bool) -> str:
    """Describe the acts of a command that it may not do; "" for none."""
    if found := breach(outcome):
        return found
    if good and outcome.code != 0:
        return f"a good run is refused: {outcome.err[:200]!r}"
    if arguments[0] == "score" and outcome.code == 0 and (found := not_finite(outcome.out)):
        return f"score prints {found}"
    if case.canary.exists():
        return "code was run"
    return ""


def attempt(
    template: Path, base: Path, number: int, say: Callable[[object], None], *, every: bool
) -> None:
    """Make one case and carry every command out on it, or one; `say` tells the parent how far that
    has come."""
    mutate = MUTATORS[number % len(MUTATORS)]
    case = Case(base, random.Random(f"{template.name}/{number}"))
    shutil.copytree(template, case.run, symlinks=True)
    case.precious.write_text("years of work")
    mutate(case)
    before = case.outside()
    for arguments in commands(case) if every else [case.rng.choice(commands(case))]:
        named = f"{template.name} case {number} ({mutate.__name__}), {arguments[0]}"
        say(["begins", named])
        signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
        outcome = carried_out(arguments)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if found := judged(case, arguments, outcome, mutate is nothing_at_all):
            say(["breach", f"{named}: {found}"])
        if (after := case.outside()) != before:
            changed = sorted({*before.items()} ^ {*after.items()})
            say(["breach", f"{named}: outside of the run: {changed}"])
            before = after
    shutil.rmtree(base, ignore_errors=True)


def attempt_in_child(
    template: Path, folder: Path, numbers: range, log: Path, *, every: bool
) -> None:
    """Be the forked process: attempt the cases, with little memory."""
    with log.open("a", buffering=1) as file:

        def say(what: object) -> None:
            file.write(json.dumps(what) + "\n")

        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            most = pages * resource.getpagesize() + ROOM
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            for number in numbers:
                say(["case", number])
                attempt(template, folder / str(number), number, say, every=every)
        except BaseException as error:
            say(["breach", f"the campaign itself failed: {error!r}"])
        finally:
            file.flush()
            os._exit(0)


def campaign(template: Path, folder: Path, numbers: range, *, every: bool) -> list[str]:
    """Attempt the cases, batch by batch; return every breach. every: with all commands."""
    breaches: list[str] = []
    good = Case(folder / "good", random.Random(0))
    shutil.copytree(template, good.run)
    for arguments in commands(good):  # here, so that the children find everything imported
        assert carried_out(arguments).code == 0
    begin = numbers.start
    while begin < numbers.stop:
        batch = range(begin, min(begin + BATCH, numbers.stop))
        log = folder / f"log-{begin}"
        child = os.fork()
        if child == 0:
            attempt_in_child(template, folder, batch, log, every=every)
        _, status = os.waitpid(child, 0)
        said = [json.loads(line) for line in log.read_text().splitlines()]
        breaches += [what for kind, what in said if kind == "breach"]
        begin = batch.stop
        if status:  # go on behind the case that ended it
            begun = [what for kind, what in said if kind == "begins"]
            ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status
            how = f"more than {LONGEST_SECONDS} s" if ended == "SIGALRM" else f"died of {ended}"
            breaches.append(f"{begun[-1] if begun else batch}: {how}")
            begin = 1 + max(what for kind, what in said if kind == "case")
    return breaches


def listed(breaches: list[str]) -> str:
    """Report breaches of one kind once, with their number and the first."""
    kinds: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for found in breaches:
        named, _, how = found.partition(": ")
        kind = named.partition("(")[2] + how[:60]
        kinds.setdefault(kind, found)
        counts[kind] += 1
    return "\n".join(f"{counts[kind]} x {first}" for kind, first in kinds.items())


SHAPES = {
    "rnn": ["model.cell=rnn", "train.backend=torch"],
    "lstm": ["model.cell=lstm", "train.backend=torch", "train.weight_average=0.9"],
    "gru": ["model.cell=gru", "train.backend=torch", "model.num_layers=2"],
    "native": ["model.cell=lstm", "train.backend=native", "model.hidden_size=32"],
}


@pytest.fixture(params=list(SHAPES))
def template(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A finished run with two checkpoints."""
    # Built for all of them: a forged configuration may ask for kernels, and compiling takes longer
    # than a case may.
    if not request.getfixturevalue("kernel_types") and request.param == "native":
        pytest.skip("the kernels cannot be built here")
    text = tmp_path / "words.txt"
    text.write_text(words(1500), encoding="utf-8")
    path = tmp_path / request.param
    trainer, directory = setup.begin(tiny_plan(text, *SHAPES[request.param]), path)
    for _ in trainer.train(directory):
        pass
    directory.unlock()
    (path / "checkpoints" / "best").write_text("step-00000012\n")
    return path


@pytest.mark.parametrize("count", [SMALL, pytest.param(20_000, marks=pytest.mark.nightly)])
def test_strangers_run_is_read_or_refused_and_nothing_else(
    template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)
    breaches = campaign(template, tmp_path, range(count // len(SHAPES)), every=count > SMALL)
    assert not breaches, f"{len(breaches)} breaches:\n{listed(breaches)}"
    assert not list(cwd.iterdir())
