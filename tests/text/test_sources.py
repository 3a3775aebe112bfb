"""Sources of texts: compressed files, objects, pieces of large files, several processes, starts
that are killed, and texts that have grown."""

import gzip
import importlib.util
import itertools
import json
import lzma
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from charlm.common import progress
from charlm.common.errors import DataError
from charlm.common.files import cache_folder
from charlm.config.schema import DataConfig, ModelConfig
from charlm.evaluation.scoring import Listeners, network, pieces_of, score_pieces, size_of
from charlm.models.recurrent import CharModel
from charlm.text import corpus, shards, splits
from charlm.text.corpus import Corpus
from charlm.text.encode import building, chunks, workers
from charlm.text.encode.counting import SymbolCounter
from charlm.text.encode.encoding import Counting
from charlm.text.files import compressed, measuring, objects, sources
from charlm.text.files.measuring import Measured, Piece
from charlm.text.splits import TextStats
from charlm.text.symbols import UNFINISHED

ALL = [1.0, 0.0, 0.0]
PACKED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}


def prepared(path: Path | list[Path], **options: object) -> Corpus:
    named = [str(p) for p in path] if isinstance(path, list) else str(path)
    data = DataConfig.model_validate({"path": named, **options})
    return corpus.prepare(data, corpus.survey(data))


def decoded(encoded: Corpus) -> str:
    return encoded.vocabulary.decode(encoded.symbols.tolist())


def write(folder: Path, content: str | bytes, name: str = "text.txt") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def words(count: int, seed: int = 0, letters: str = "abcdefgh \n") -> str:
    rng = random.Random(seed)
    return "".join(rng.choices(letters, k=count))


def told_by(encoded: Corpus) -> Any:
    return encoded.vocabulary, encoded.symbols.tolist(), encoded.splits, encoded.fingerprint


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces, so that a short text has many of them."""
    monkeypatch.setattr(compressed, "BLOCK", 500)
    monkeypatch.setattr(measuring, "PIECE", 2000)


# ---- compressed ---------------------------------------------------------------------------------


def zstd_compress(content: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor().compress(content)
    return packed


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.usefixtures("fine")
def test_compressed_texts_are_the_texts_in_them(tmp_path: Path, suffix: str) -> None:
    """In several members or frames, too, as `cat a.gz b.gz` makes them."""
    pack = {**PACKED, ".zst": zstd_compress}[suffix]
    text = words(20_000) + "é한"
    packed = pack(text[:7001].encode()) + pack(text[7001:].encode())
    first = told_by(prepared(write(tmp_path, packed, f"text.txt{suffix}"), normalize="nfc"))
    shutil.rmtree(cache_folder())
    assert told_by(prepared(write(tmp_path, text), normalize="nfc")) == first


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("left", [0.5, 0.999])
def test_a_compressed_file_that_is_cut_short_is_refused_by_name(
    tmp_path: Path, suffix: str, left: float
) -> None:
    packed = {**PACKED, ".zst": zstd_compress}[suffix](words(20_000).encode())
    path = write(tmp_path, packed[: int(left * len(packed))], f"text{suffix}")
    with pytest.raises(DataError, match="cannot be decompressed: it is cut short") as caught:
        prepared(path)
    assert str(path) in caught.value.what


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_what_is_not_compressed_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    if suffix == ".zst":
        pytest.importorskip("zstandard")
    with pytest.raises(DataError, match=f"text{suffix} cannot be decompressed"):
        prepared(write(tmp_path, "no compressed text at all", f"text{suffix}"))


@pytest.mark.skipif(importlib.util.find_spec("zstandard") is not None, reason="it is installed")
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python has it itself")
def test_zstd_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(write(tmp_path, b"(\xb5/\xfd", "text.zst"))
    assert "pip install charlm[zstd]" in caught.value.advice


def test_python_without_source_files_of_its_library_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test").mkdir()
    write(tmp_path / "test", "no part of the library", "test_re.py")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(DataError) as caught:
        sources.standard_library()
    assert str(tmp_path) in caught.value.what
    assert "no source files of its standard library" in caught.value.what
    assert "--data PATH" in caught.value.advice


def test_folders_count_what_is_inside_of_compressed_files(tmp_path: Path) -> None:
    write(tmp_path, gzip.compress(b"one "), "1.txt.gz")
    write(tmp_path, gzip.compress(b"\0binary"), "2.bin.gz")
    write(tmp_path, lzma.compress(b"three "), "3.xz")
    write(tmp_path, "four", "4.txt")
    assert decoded(prepared(tmp_path, split=ALL)) == "one three four"


@pytest.mark.usefixtures("fine")
def test_many_compressed_files_are_read_in_order(tmp_path: Path) -> None:
    texts = [words(random.Random(n).randint(0, 6000), seed=n) for n in range(9)]
    paths = []
    for number, text in enumerate(texts):
        packed = gzip.compress(text.encode()) if number % 3 else text.encode()
        paths.append(write(tmp_path, packed, f"{number}{'.gz' if number % 3 else '.txt'}"))
    assert decoded(prepared(paths, split=ALL)) == "".join(texts)


def test_compressed_texts_are_scored_in_a_stream(tmp_path: Path) -> None:
    text = words(3_000_000)
    vocabulary = prepared(write(tmp_path, text)).vocabulary
    path = write(tmp_path, gzip.compress(text.encode(), 1), "text.txt.gz")
    pieces = list(pieces_of(str(path), vocabulary))
    assert len(pieces) == 3
    assert "".join(map(str, pieces)) == text
    assert size_of(str(path)) is None
    with pytest.raises(DataError, match="it is cut short"):
        list(pieces_of(str(write(tmp_path, path.read_bytes()[:-9], "cut.gz")), vocabulary))


# ---- objects ------------------------------------------------------------------------------------


def json_lines(texts: list[str]) -> str:
    return "".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(texts))


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.usefixtures("fine")
def test_json_lines_are_lines_or_records(tmp_path: Path, suffix: str) -> None:
    texts = [f"{words(30, seed=n)}é" for n in range(300)]
    content = json_lines(texts).encode()
    path = write(tmp_path, gzip.compress(content) if suffix else content, f"x.jsonl{suffix}")
    running = prepared(path, field="text", split=[0.8, 0.1, 0.1])
    assert decoded(running) == "\n".join(texts) + "\n"
    assert running.train.characters == int(0.8 * sum(len(text) + 1 for text in texts))
    encoded = prepared(path, field="text", records="lines", split=ALL)
    end, symbols = encoded.vocabulary.end, np.asarray(encoded.symbols)
    found = np.split(symbols, np.flatnonzero(symbols == end))[1:-1]
    assert sorted(encoded.vocabulary.decode(one[1:]) for one in found) == sorted(texts)
    as_bytes = prepared(path, field="text", records="lines", split=ALL, unit="byte")
    assert len(as_bytes.symbols) == 1 + sum(len(text.encode()) + 1 for text in texts)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ('{"other": "x"}', "has no field 'text'"),
        ("[1]", "has no field 'text'"),
        ('{"text": 3}', "has no text in its field 'text'"),
    ],
)
@pytest.mark.usefixtures("fine")
def test_a_wrong_line_is_named(tmp_path: Path, line: str, expected: str) -> None:
    content = json_lines([words(30)] * 200) + "\n" + line + "\n" + json_lines(["x"] * 9)
    path = write(tmp_path, content, "x.jsonl")
    with pytest.raises(DataError) as caught:
        prepared(path, field="text")
    assert caught.value.what == f"line 202 of {path} {expected}"


def test_wrong_line_of_a_file_that_became_shorter_is_placed_at_its_end(tmp_path: Path) -> None:
    path = write(tmp_path, json_lines(["one", "two"]), "x.jsonl")
    data = DataConfig(path=str(path), field="text")
    with pytest.raises(DataError) as caught:
        objects.from_json_lines(path, b"no JSON", data, start=1000)
    assert caught.value.what == f"line 3 of {path} is no JSON"


def test_halves_of_surrogate_pairs_in_json_are_replaced(tmp_path: Path) -> None:
    path = write(tmp_path, '{"text": "a\\ud800b"}\n{"text": "\\ud83d\\ude00"}\n', "x.jsonl")
    assert decoded(prepared(path, field="text", split=ALL)) == "a\ufffdb\n\U0001f600\n"


def test_a_field_is_for_files_with_objects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is neither \.jsonl nor \.parquet"):
        prepared(write(tmp_path, "abcd"), field="text")
    write(tmp_path, json_lines(["one", "two"]), "a.jsonl")
    assert decoded(prepared(tmp_path, field="text", split=ALL)) == "one\ntwo\n"


@pytest.mark.parametrize("unit", ["char", "byte"])
@pytest.mark.parametrize("records", ["none", "lines"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_objects_are_scored_as_what_they_were_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, records: str, unit: str
) -> None:
    monkeypatch.setattr(compressed, "BLOCK", 100)
    texts = [f"{words(30, seed=n)}\né" for n in range(40)]
    content = json_lines(texts).rstrip("\n").encode()
    path = write(tmp_path, gzip.compress(content) if suffix else content, f"x.jsonl{suffix}")
    options = {"field": "text", "records": records, "unit": unit, "split": ALL}
    vocabulary = prepared(path, **options).vocabulary
    data = DataConfig.model_validate({"path": str(path), **options})
    config = ModelConfig(hidden_size=6, embedding_size=4)
    model = CharModel(config, len(vocabulary), vocabulary.end)
    model.reset_parameters(3)
    model.requires_grad_(False)
    read: list[Any] = []
    pieces = pieces_of(str(path), vocabulary, data)
    listeners = Listeners(lambda symbols, _: read.append(symbols))
    score = score_pieces(network(model), vocabulary, pieces, data=data, listeners=listeners)
    running = "".join(f"{text}\n" for text in texts)
    expected = vocabulary.encode(running)
    if records == "lines":
        expected = vocabulary.encode_records([*texts])
    assert np.array_equal(np.concatenate(read), expected)
    assert (score.characters, score.bytes) == (len(running), len(running.encode()))


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="it is installed")
def test_parquet_without_its_package_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        prepared(write(tmp_path, b"PAR1", "x.parquet"), field="text")
    assert caught.value.advice == "pip install charlm[parquet]"


def test_rows_of_parquet_are_records(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    texts = [f"{words(30, seed=n)}é" for n in range(300)]
    path = tmp_path / "x.parquet"
    parquet.write_table(pyarrow.table({"text": texts, "n": range(300)}), path, row_group_size=70)
    assert decoded(prepared(path, field="text", split=ALL)) == "\n".join(texts) + "\n"
    encoded = prepared(path, field="text", records="lines", split=ALL)
    assert (np.asarray(encoded.symbols) == encoded.vocabulary.end).sum() == 301
    data = DataConfig(path=str(path), field="text", records="lines")
    assert list(itertools.chain(*pieces_of(str(path), encoded.vocabulary, data))) == texts
    with pytest.raises(DataError, match="has no field 'other', but text, n"):
        prepared(path, field="other")
    with pytest.raises(DataError, match=r"row 1 of row group 1 of .* has no text"):
        prepared(path, field="n")
    with pytest.raises(DataError, match="is not Parquet, or damaged"):
        prepared(write(tmp_path, path.read_bytes()[:-9], "cut.parquet"), field="text")


def test_row_groups_are_put_together_by_the_size_of_their_texts() -> None:
    size, file = measuring.PIECE // 3, Path("x.parquet")
    pieces = tuple(Piece(n, n + 1, size // 2, "", n == 9, size) for n in range(10))
    text = TextStats((file,), {file: Measured("", pieces)}, 10 * (size // 2), "")
    planned = chunks.plan(text, DataConfig(field="text"))
    assert [len(chunk.pieces) for chunk in planned] == [3, 3, 3, 1]
    assert [chunk.size for chunk in planned] == [3 * size] * 3 + [size]
    assert text.size == 10 * size


# ---- pieces and processes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"unit": "byte", "split": [0.5, 0.25, 0.25]},
        {"unit": "jamo", "minimum_count": 3},
        {"normalize": "nfc", "unknown": False},
        {"records": "lines"},
        {"records": "separator", "separator": "aa", "unit": "byte"},
    ],
)
def test_several_processes_encode_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    monkeypatch.setattr(compressed, "BLOCK", 5000)
    monkeypatch.setattr(measuring, "PIECE", 20_000)
    path = write(tmp_path, words(60_000) + words(60_000, 1, "abc한국어e\u0301\n\U0001f600"))
    alone = told_by(prepared(path, **options))
    shutil.rmtree(cache_folder())
    monkeypatch.setattr(workers, "ENOUGH", 0)
    assert told_by(prepared(path, **options)) == alone


def test_an_error_in_a_process_is_the_error_of_the_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ENOUGH", 0)
    path = write(tmp_path, words(50_000).encode() + b"\xff" + words(500).encode())
    with pytest.raises(DataError, match="is not UTF-8 at byte 50000"):
        prepared(path)
    assert not list((cache_folder() / "corpora").iterdir())


def test_a_process_that_is_lost_is_an_error_and_ends_the_others() -> None:
    with workers.workers(workers.ENOUGH) as pool:
        assert list(pool.map(int, "123")) == [1, 2, 3]
        with pytest.raises(ValueError, match="invalid literal") as caught:
            list(pool.map(int, "1x"))
        assert "_answer" in caught.value.__notes__[0]  # where it was raised, for --debug
        with pytest.raises(DataError, match="has ended before its time"):
            list(pool.map(os._exit, [1]))
    assert multiprocessing.active_children() == []


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal can be blocked")
def test_processes_start_with_blocked_signals_where_signals_can_be_blocked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = signal.pthread_sigmask

    def blocked() -> set[int]:
        with workers._signals_held():
            return {*mask(signal.SIG_BLOCK, [])} & {signal.SIGINT, signal.SIGHUP}

    assert blocked() == {signal.SIGINT, signal.SIGHUP}
    monkeypatch.delattr(signal, "pthread_sigmask")
    assert blocked() == set()


def test_processes_import_no_torch() -> None:
    code = "import sys, charlm.text.encode.building; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_progress_is_told_in_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, words(5000))
    told: list[tuple[str, float | None]] = []
    with progress.shown_by(lambda task, share: told.append((task, share))):
        prepared(path)
    shares = [share for task, share in told if task == "reading 0 MB"]
    assert shares == [1.0, 0.5, 1.0]  # measured, counted, encoded


def test_progress_of_measuring_is_told_in_bytes_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of compressed ones, too, and of those whose measure is remembered."""
    monkeypatch.setattr(measuring, "RACY", 0)  # a file of this very moment is not remembered
    text = words(3_000_000)
    plain = write(tmp_path, text, "1.txt")
    packed = write(tmp_path, gzip.compress(text.encode(), 1), "2.txt.gz")
    corpus.survey(DataConfig(path=str(plain)))
    total = plain.stat().st_size + packed.stat().st_size
    told: list[tuple[int, int]] = []
    data = DataConfig(path=[str(plain), str(packed)])
    corpus.survey(data, advanced=lambda done, of: told.append((done, of)))
    assert told[0] == (3_000_000, total)
    assert told[-1] == (total, total)
    assert len(told) > 3
    assert {of for _, of in told} == {total}


# ---- symbols in several shards ------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"records": "lines"}])
@pytest.mark.usefixtures("fine")
def test_symbols_of_several_shards_are_one_row(tmp_path: Path, options: dict[str, Any]) -> None:
    encoded = prepared(write(tmp_path, words(30_000)), **options)
    whole = np.asarray(encoded.symbols)
    assert len(whole) == len(encoded.symbols) > 25_000
    rng = np.random.default_rng(0)
    for shape in ((), (1,), (7,), (5, 3), (40, 6), (0,)):
        at = rng.integers(0, len(whole), shape)
        assert np.array_equal(encoded.symbols[at], whole[at])
        assert encoded.symbols[at].shape == shape
    for start, stop in ((0, 0), (0, 1), (1999, 2001), (17, 29_000), (5, 2), (29_000, 99_999)):
        assert np.array_equal(np.asarray(encoded.symbols[start:stop]), whole[start:stop])
        part = encoded.symbols[start:stop]
        if len(part):
            assert part[len(part) - 1] == whole[start:stop][-1]
        with pytest.raises(IndexError):
            part[len(part)]


@pytest.mark.parametrize("name", ["symbols-00003.bin", "symbols-00003.sha256"])
@pytest.mark.parametrize("how", ["missing", "changed", "cut"])
@pytest.mark.usefixtures("fine")
def test_a_damaged_shard_is_found_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    path = write(tmp_path, words(30_000))
    expected = told_by(prepared(path))
    (entry,) = (cache_folder() / "corpora").iterdir()
    content = (entry / name).read_bytes()
    (entry / name).unlink()
    if how != "missing":
        changed = bytes([content[0] ^ 1]) + content[1:]
        (entry / name).write_bytes(changed if how == "changed" else content[:-1])
    if how == "changed":
        with pytest.raises(DataError, match=f"was damaged: {name}"):
            told_by(prepared(path))
    assert told_by(prepared(path)) == expected
    assert ("is damaged, and is made again" in caplog.text) == (how != "changed")


# ---- killed, at once, grown ---------------------------------------------------------------------


def interrupted(path: Path) -> Path:
    """Begin to encode a text of 15 chunks, anew; return the folder that is left once its train
    split is counted and six chunks are encoded."""
    for name in ("corpora", "latest"):
        shutil.rmtree(cache_folder() / name, ignore_errors=True)
    done: list[int] = []

    def killed(*_: object) -> None:
        done.append(1)
        if len(done) == 20:
            raise KeyboardInterrupt

    data = DataConfig(path=str(path))
    with pytest.raises(KeyboardInterrupt):
        corpus.prepare(data, corpus.survey(data), advanced=killed)
    (unfinished,) = (cache_folder() / "corpora").iterdir()
    return unfinished


def pieces_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the pieces of files that are read from now on."""
    read: list[int] = []
    real = chunks.read_piece

    def counting(file: Path, piece: Piece) -> bytes:
        read.append(piece.start)
        return real(file, piece)

    monkeypatch.setattr(chunks, "read_piece", counting)
    return read


@pytest.mark.usefixtures("fine")
def test_a_start_that_was_killed_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, words(29_900))
    expected = told_by(prepared(path))
    unfinished = interrupted(path)
    shard = sorted(unfinished.glob("*.bin"))[1]
    shard.write_bytes(b"\0" + shard.read_bytes()[1:])  # torn by a crash
    read = pieces_read(monkeypatch)
    assert told_by(prepared(path)) == expected
    assert len(read) == 15 - 6 + 1  # all were counted, six were encoded, one of these is damaged
    assert [entry.name[0] for entry in (cache_folder() / "corpora").iterdir()] != ["."]


@pytest.mark.usefixtures("fine")
def test_a_start_goes_on_after_days_and_sweeps_what_others_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, words(29_900))
    unfinished = interrupted(path)
    others = [unfinished.with_name(f"{UNFINISHED}{name}") for name in ("old", "under way")]
    for other in others:
        (other / "kept").mkdir(parents=True)
    for folder in (unfinished, *others):
        for each in (*folder.rglob("*"), folder):
            os.utime(each, (1, 1))
    shards.save_result(others[1] / "kept" / "counted-00000", [])
    read = pieces_read(monkeypatch)
    prepared(path)
    assert len(read) == 15 - 6
    assert [other.exists() for other in others] == [False, True]


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_processes_end_with_the_one_that_started_them_and_the_next_goes_on(tmp_path: Path) -> None:
    path = write(tmp_path, words(2_000_000) * 40)
    code = (
        "import sys\nfrom charlm.text import corpus\nfrom charlm.config.schema import DataConfig\n"
        "data = DataConfig(path=sys.argv[1])\n"
        "if __name__ == '__main__':\n"
        "    corpus.prepare(data, corpus.survey(data), advanced=lambda *_: print(flush=True))\n"
    )
    script = write(tmp_path, code, "script.py")
    streams: dict[str, int] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    begun = subprocess.Popen([sys.executable, script, path], **streams)
    assert begun.stdout
    assert begun.stderr
    begun.stdout.readline()  # a chunk is counted: the processes are there
    children = Path(f"/proc/{begun.pid}/task/{begun.pid}/children")
    processes = children.read_text().split() if children.exists() else []
    begun.send_signal(signal.SIGKILL)
    begun.wait()
    assert begun.stderr.read() == b""  # of Python, of semaphores that were left
    begun.stdout.close()
    begun.stderr.close()
    for _ in range(300):
        if not any(Path(f"/proc/{process}").exists() for process in processes):
            break
        time.sleep(0.1)
    else:
        pytest.fail("a process goes on without the one that started it")
    subprocess.run([sys.executable, script, path], check=True, stdout=subprocess.DEVNULL)
    encoded = prepared(path)
    assert encoded.train.characters == 72_000_000
    assert decoded_head(encoded, 100) == path.read_text()[:100]


def decoded_head(encoded: Corpus, size: int) -> str:
    return encoded.vocabulary.decode(encoded.symbols[:size].tolist())


def test_of_several_processes_one_encodes_and_the_others_wait(tmp_path: Path) -> None:
    path = write(tmp_path, words(3_000_000))
    code = (
        "import sys, logging\nfrom charlm.text import corpus\n"
        "from charlm.config.schema import DataConfig\n"
        "data = DataConfig(path=sys.argv[1])\n"
        "encode = corpus._encode\n"
        "def told(*given): print('encoded'); encode(*given)\n"
        "corpus._encode = told\n"
        "print(len(corpus.prepare(data, corpus.survey(data)).symbols))\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    told = [process.communicate()[0].split() for process in started]
    assert [one[-1] for one in told] == ["3000000"] * 4
    assert sum(len(one) - 1 for one in told) == 1


@pytest.mark.usefixtures("fine")
def test_a_text_that_grew_is_encoded_where_it_grew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = words(30_000)
    path = write(tmp_path, text)
    prepared(path, split=ALL, unknown=False)
    grown = text + "xyz" * 1000
    write(tmp_path, grown)
    encoded: list[int] = []
    real = shards.write_shard

    def counting(folder: Path, number: int, parts: Any) -> tuple[str, int]:
        encoded.append(number)
        return real(folder, number, parts)

    monkeypatch.setattr(shards, "write_shard", counting)
    counted: list[int] = []
    count = Counting._count

    def also_counting(self: Counting, chunk: chunks.Chunk) -> SymbolCounter:
        counted.append(chunk.number)
        return count(self, chunk)

    monkeypatch.setattr(Counting, "_count", also_counting)
    found = prepared(path, split=ALL, unknown=False)
    assert decoded(found) == grown
    assert encoded == [14, 15, 16]  # of the last piece on
    assert counted == encoded
    monkeypatch.setattr(shards, "write_shard", real)
    monkeypatch.setattr(Counting, "_count", count)
    shutil.rmtree(cache_folder())
    assert told_by(prepared(path, split=ALL, unknown=False)) == told_by(found)


@pytest.mark.usefixtures("fine")
def test_shards_whose_unknown_symbol_moved_are_not_taken_over(tmp_path: Path) -> None:
    text = words(20_000)
    path = write(tmp_path, text + "q" + words(9_000, seed=1))  # unknown: behind the train split
    options = {"split": [0.6, 0.2, 0.2]}
    prepared(path, **options)
    write(tmp_path, text + "q" + words(9_000, seed=1) + words(40_000, seed=2))
    found = told_by(prepared(path, **options))
    shutil.rmtree(cache_folder())
    assert told_by(prepared(path, **options)) == found
    assert "q" in map(chr, found[0].code_points)


@pytest.mark.parametrize(
    ("options", "places"),
    [
        ({"split": ALL, "minimum_count": 2}, [50_000]),
        ({}, [90_200, 96_500]),  # in the validation split once, then in train; in the test split
    ],
)
@pytest.mark.usefixtures("fine")
def test_shards_with_symbols_that_are_no_longer_unknown_are_not_taken_over(
    tmp_path: Path, options: dict[str, object], places: list[int]
) -> None:
    """Their index in them is that of the unknown symbol then, and of the new one now."""
    text = words(100_000)
    for place in places:
        text = f"{text[:place]}q{text[place + 1 :]}"
    path = write(tmp_path, text)
    assert "q" not in map(chr, prepared(path, **options).vocabulary.code_points)
    write(tmp_path, text + words(500, seed=1) + "q" * 3)
    found = told_by(prepared(path, **options))
    shutil.rmtree(cache_folder())
    assert told_by(prepared(path, **options)) == found
    assert not any(split.unknown for split in found[2].values())


@pytest.mark.usefixtures("fine")
def test_a_start_reads_no_more_of_many_chunks_than_it_needs(tmp_path: Path) -> None:
    path = write(tmp_path, words(28_000, letters="가나다\n"))
    expected = told_by(prepared(path))
    (entry,) = (cache_folder() / "corpora").iterdir()
    described = (entry / "corpus.json").read_text(encoding="utf-8")
    assert described.count("가") == 1  # in the vocabulary
    assert (entry / "chunks.json").read_text(encoding="utf-8").count("가") > 40
    (entry / "chunks.json").unlink()
    assert told_by(prepared(path)) == expected
    with path.open("a", encoding="utf-8") as file:
        file.write("가나" * 5000)
    assert decoded(prepared(path)) == path.read_text(encoding="utf-8")


def test_a_text_that_does_not_fit_on_the_disk_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    data = DataConfig(path=str(write(tmp_path, words(5000))))
    for keep, variable in ((True, "CHARLM_CACHE"), (False, "TMPDIR")):
        with pytest.raises(DataError, match=r"needs \d\.?\d* KB of disk, 1 KB are free") as caught:
            corpus.prepare(data, corpus.survey(data), keep=keep)
        assert f"set {variable} to a folder with room" in caught.value.advice


# ---- huge ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fine")
def test_huge_texts_are_counted_on_a_sample_and_hold_little_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "HUGE", 20_000)
    monkeypatch.setattr(splits, "HELD_OUT", 700)
    monkeypatch.setattr(building, "SAMPLED", 4)
    text = words(30_000)
    rare = text[:3000] + "z" + text[3001:]  # in the second chunk, which is none of the sample
    encoded = prepared(write(tmp_path, rare))
    assert [split.characters for split in encoded.splits.values()] == [28_600, 700, 700]
    assert encoded.train.unknown == {"z": 1}
    limited = prepared(write(tmp_path, rare), held_out_limit=800)
    assert limited.splits["test"].characters == 800


def test_a_huge_text_is_another_than_the_same_text_that_is_cut_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, words(5000))
    before = prepared(path).fingerprint
    monkeypatch.setattr(splits, "HUGE", 4000)
    assert prepared(path).fingerprint != before
