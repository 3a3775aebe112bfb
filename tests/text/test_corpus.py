import errno
import hashlib
import json
import logging
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charlm.backends.step import TorchComputation
from charlm.common.errors import DataError
from charlm.common.files import cache_folder, with_digest, without_digest
from charlm.config.schema import DataConfig, ModelConfig
from charlm.evaluation.surprisal import surprisals
from charlm.models.recurrent import CharModel
from charlm.text import corpus, symbols
from charlm.text.batches import BatchStream
from charlm.text.corpus import Corpus
from charlm.text.encode import chunks
from charlm.text.files import compressed, measuring, sources
from charlm.text.files.measuring import SAFE
from charlm.text.reading import SAFE_TO_CUT_BEFORE
from charlm.text.shards import PART
from charlm.text.splits import SPLITS
from charlm.text.stretch import Stretch
from charlm.text.symbols import UNFINISHED

SYMBOLS, DIGESTS = "symbols-00000.bin", "symbols-00000.sha256"
HALVES = [0.5, 0.25, 0.25]


def prepared(path: Path | str | list[str], **options: object) -> Corpus:
    named = [str(p) for p in path] if isinstance(path, list) else str(path)
    data = DataConfig.model_validate({"path": named, "split": HALVES, **options})
    return corpus.prepare(data, corpus.survey(data))


def cut_finely(patch: pytest.MonkeyPatch, block: int) -> None:
    """Have files read in blocks of so many bytes, and cut into pieces of as many."""
    patch.setattr(compressed, "BLOCK", block)
    patch.setattr(measuring, "PIECE", block)


def decoded(encoded: Corpus, name: str) -> str:
    split = encoded.splits[name]
    return encoded.vocabulary.decode(encoded.symbols[split.start : split.stop].tolist())


def write(tmp_path: Path, content: str | bytes, name: str = "text.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path | str | list[str], **options: object) -> str:
    with pytest.raises(DataError) as caught:
        prepared(path, **options)
    assert caught.value.advice
    return caught.value.what


# ---- what comes out -----------------------------------------------------------------------------


def test_vocabulary_is_built_from_the_train_split_only(tmp_path: Path) -> None:
    encoded = prepared(write(tmp_path, "abcdabcd" + "abxy" + "zabc"))
    assert [chr(c) for c in encoded.vocabulary.code_points] == list("abcd")
    assert encoded.splits["validation"].unknown == {"x": 1, "y": 1}
    assert encoded.splits["test"].unknown == {"z": 1}
    assert decoded(encoded, "validation") == "ab\ufffd\ufffd"


def test_minimum_count_sends_rare_characters_to_the_unknown(tmp_path: Path) -> None:
    encoded = prepared(write(tmp_path, "aabbcaab" + "abab" + "baba"), minimum_count=2)
    assert [chr(c) for c in encoded.vocabulary.code_points] == list("ab")
    assert encoded.train.unknown == {"c": 1}


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), min_size=8),
    st.sampled_from(["char", "jamo", "byte"]),
    st.sampled_from(["none", "nfc", "nfd"]),
    st.integers(1, 9),
)
@example("0000000\uf9fe", "char", "nfc", 1)
@settings(max_examples=60, deadline=None)
def test_every_split_holds_its_stretch_of_the_text_whatever_the_block_size(
    tmp_path_factory: pytest.TempPathFactory, text: str, unit: str, normalize: str, block: int
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARLM_CACHE", str(folder / "cache"))
        cut_finely(patch, block)  # so that blocks end inside of characters
        normalize = "none" if unit == "byte" else normalize
        encoded = prepared(write(folder, text), unit=unit, normalize=normalize)
    cuts = (0, len(text) // 2, int(len(text) * 0.75 + 1e-6), len(text))
    for name, begin, end in zip(SPLITS, cuts, cuts[1:], strict=False):
        stretch = text[begin:end]
        split = encoded.splits[name]
        forms = (stretch, encoded.vocabulary.normalized(stretch))
        assert split.characters == min(map(len, forms))
        assert split.bytes == min(len(form.encode()) for form in forms)
        unknown = encoded.vocabulary.unknown_in(stretch)
        assert split.unknown == unknown
        if not unknown:
            assert decoded(encoded, name) == encoded.vocabulary.normalized(stretch)


def test_normalization_is_the_same_in_blocks_and_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "한국어 e\u0301 café ñ q\u0323\u0307 글자\n" * 50
    cut_finely(monkeypatch, 7)
    for unit, form in (("char", "nfd"), ("char", "nfc"), ("jamo", "none")):
        encoded = prepared(write(tmp_path, text), unit=unit, normalize=form, split=[1.0, 0.0, 0.0])
        expected = unicodedata.normalize("NFD" if form == "nfd" else "NFC", text)
        assert decoded(encoded, "train") == expected


def test_texts_and_their_bytes_are_cut_before_the_same_characters() -> None:
    for character in map(chr, (*range(0xD800), *range(0xE000, 0x110000))):
        is_safe = SAFE_TO_CUT_BEFORE.fullmatch(character) is not None
        assert (SAFE.fullmatch(character.encode()) is not None) == is_safe, ascii(character)


def test_held_out_limit_gives_what_is_left_over_to_train(tmp_path: Path) -> None:
    encoded = prepared(write(tmp_path, "ab" * 500), held_out_limit=30)
    assert [split.characters for split in encoded.splits.values()] == [940, 30, 30]


def test_published_split_of_tinyshakespeare_is_met(tmp_path: Path) -> None:
    encoded = prepared(write(tmp_path, "abcd" * 278848 + "xy"), split=[0.9, 0.1, 0.0])
    assert encoded.train.characters == 1_003_854
    assert encoded.splits["validation"].characters == 111_540


# ---- files --------------------------------------------------------------------------------------


def test_byte_order_marks_are_no_text_except_in_byte_mode(tmp_path: Path) -> None:
    first = write(tmp_path, b"\xef\xbb\xbfabcd", "1.txt")
    second = write(tmp_path, b"\xef\xbb\xbfefgh", "2.txt")
    encoded = prepared([str(first), str(second)], split=[1.0, 0.0, 0.0])
    assert decoded(encoded, "train") == "abcdefgh"
    raw = prepared(first, unit="byte", split=[1.0, 0.0, 0.0])
    assert raw.symbols[:3].tolist() == [0xEF, 0xBB, 0xBF]


def test_folders_are_read_in_order_without_hidden_and_binary_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    for name, content in {
        "b/2.txt": b"two ",
        "a.txt": b"one ",
        "c.md": b"three",
        ".git/x": b"no",
        "z.png": b"\0\1",
    }.items():
        (tmp_path / name).write_bytes(content)
    encoded = prepared(tmp_path, split=[1.0, 0.0, 0.0])
    assert decoded(encoded, "train") == "one three" + "two "


def test_standard_library_is_there_in_a_fixed_mixed_order() -> None:
    files = sources.standard_library()
    assert files == sources.standard_library()
    assert sum(file.stat().st_size for file in files) > 2_000_000
    assert [f.name for f in files] != sorted(f.name for f in files)
    assert not any("test" in file.parts for file in files)


def test_second_start_takes_the_cache_and_a_changed_text_does_not(tmp_path: Path) -> None:
    path = write(tmp_path, "abcdefgh" * 10)
    first = prepared(path)
    (entry,) = (cache_folder() / "corpora").iterdir()
    stamp = (entry / SYMBOLS).stat().st_mtime_ns
    assert prepared(path).fingerprint == first.fingerprint
    assert (entry / SYMBOLS).stat().st_mtime_ns == stamp
    assert prepared(path, minimum_count=2).fingerprint != first.fingerprint
    path.write_text("hgfedcba" * 10)
    assert prepared(path).fingerprint != first.fingerprint


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "RACY", 0)  # a file of this very moment may still be changing
    path = write(tmp_path, "abcdefgh" * 200_000)
    data = DataConfig(path=str(path), split=HALVES)
    first = corpus.survey(data)
    monkeypatch.setattr(measuring, "blocks", lambda file: pytest.fail("read again"))
    assert corpus.survey(data) == first


def entry_of(path: Path, **options: object) -> Path:
    """Encode a text; return its folder in the cache."""
    prepared(path, **options)
    (entry,) = (cache_folder() / "corpora").iterdir()
    return entry


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_damaged_symbols_are_found_when_used_and_made_again(tmp_path: Path, split: str) -> None:
    """A start reads no symbols; size and times of a damaged file may be as they were."""
    path = write(tmp_path, "abcdefgh" * 1000)
    entry = entry_of(path)
    before = (entry / SYMBOLS).stat()
    content = bytearray((entry / SYMBOLS).read_bytes())
    content[prepared(path).splits[split].start + 7] ^= 1
    (entry / SYMBOLS).write_bytes(content)
    os.utime(entry / SYMBOLS, ns=(before.st_atime_ns, before.st_mtime_ns))
    opened = prepared(path)
    with pytest.raises(DataError, match="SHA-256"):
        decoded(opened, split)
    assert not entry.exists()
    assert decoded(prepared(path), "train") == "abcdefgh" * 500


def test_only_shards_that_are_used_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path, "abcdefgh" * (PART // 4))  # two shards
    entry = entry_of(path)
    content = bytearray((entry / SYMBOLS).read_bytes())
    content[-1] ^= 1
    (entry / SYMBOLS).write_bytes(content)
    symbols = prepared(path).symbols
    assert symbols[:8].tolist() == list(range(8))
    assert symbols[np.array([3, 9])].tolist() == [3, 1]
    with pytest.raises(DataError, match="part 1"):
        symbols[len(symbols) - 1]


CHANGES = {
    "same length, at the end": ("abcdefgh" * 300_000, "abcdefgh" * 299_999 + "hgfedcba"),
    "same length, at the start": ("abcdefgh" * 300_000, "hgfedcba" + "abcdefgh" * 299_999),
    "longer": ("abcdefgh" * 300_000, "abcdefgh" * 300_001),
    "shorter": ("abcdefgh" * 300_000, "abcdefgh" * 299_000),
    "new letters": ("abcdefgh" * 300_000, "ijklmnop" * 300_000),
}


@pytest.mark.parametrize("passes", [0, 1], ids=["before the vocabulary", "before encoding"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_text_that_changes_between_the_passes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, passes: int
) -> None:
    first, then = CHANGES[change]
    path = write(tmp_path, first)
    os.utime(path, (1, 1))
    data = DataConfig(path=str(path), split=[0.9, 0.05, 0.05])
    text = corpus.survey(data)
    before, begun = path.stat().st_mtime_ns, []
    real = chunks.read_piece

    def changing(file: Path, piece: measuring.Piece) -> bytes:
        if len(begun) == passes:  # with the times that it had
            path.write_text(then)
            os.utime(path, ns=(before, before))
        begun.append(file)
        return real(file, piece)

    monkeypatch.setattr(chunks, "read_piece", changing)
    with pytest.raises(DataError, match="has changed while"):
        corpus.prepare(data, text)
    monkeypatch.setattr(chunks, "read_piece", real)
    assert decoded(prepared(path), "train") == then[: len(then) // 2]


def test_a_text_that_changes_back_is_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "abcdefgh" * 300_000)
    data = DataConfig(path=str(path), split=[0.9, 0.05, 0.05])
    text, begun, real = corpus.survey(data), [], chunks.read_piece

    def changing(file: Path, piece: measuring.Piece) -> bytes:
        path.write_text("abcdefgh" * 300_000 if begun else "hgfedcba" * 300_000)
        begun.append(file)
        return real(file, piece)

    monkeypatch.setattr(chunks, "read_piece", changing)
    with pytest.raises(DataError, match="has changed while"):
        corpus.prepare(data, text)
    assert len(begun) == 1


@pytest.mark.parametrize("content", [b"", b"12", b"x y", b"1 00", b"\xff" * 300])
def test_a_torn_measure_is_measured_again(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "RACY", 0)
    path = write(tmp_path, "abcdefgh" * 200_000)
    data = DataConfig(path=str(path), split=HALVES)
    first = corpus.survey(data)
    (memory,) = (cache_folder() / "files").iterdir()
    memory.write_bytes(content)
    assert corpus.survey(data) == first


def test_symbols_out_of_bounds_never_become_indices() -> None:
    """Not even where a file was changed behind its digest's back."""
    symbols = np.zeros(400, np.uint8)
    symbols[300] = 7
    batches = BatchStream(symbols, 5, batch_size=3, sequence_length=5)
    with pytest.raises(DataError, match="holds symbol 7, the vocabulary has 5"):
        [batches.window(number) for number in range(batches.windows)]
    config = ModelConfig(hidden_size=4, embedding_size=2)
    with pytest.raises(DataError, match="holds symbol 7, the vocabulary has 5"):
        surprisals(TorchComputation(CharModel(config, 5)), Stretch(symbols, 200, 400))


DAMAGED = {
    "symbols of another size": (SYMBOLS, b"abc"),
    "digests of another size": (DIGESTS, b"abc"),
    "an empty description": ("corpus.json", b""),
    "another description": ("corpus.json", b"{}\n{}"),
    "no description": ("corpus.json", None),
    "no digests": (DIGESTS, None),
    "no symbols": (SYMBOLS, None),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_cache_is_made_again_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    path = write(tmp_path, "abcdefgh" * 10)
    entry = entry_of(path)
    name, content = DAMAGED[damage]
    (entry / name).unlink()
    if content is not None:
        (entry / name).write_bytes(content)
    assert decoded(prepared(path), "train") == "abcdefgh" * 5
    assert "is damaged, and is made again" in caplog.text
    caplog.clear()
    assert decoded(prepared(path), "train") == "abcdefgh" * 5
    assert not caplog.text


def test_a_description_with_true_digest_but_other_types_is_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path, "abcdefgh" * 10)
    entry = entry_of(path)
    content = json.loads((entry / "corpus.json").read_bytes().partition(b"\n")[2])
    for key in content:
        forged = json.dumps({**content, key: 3}).encode()
        digest = hashlib.sha256(forged).hexdigest().encode()
        (entry / "corpus.json").write_bytes(digest + b"\n" + forged)
        assert decoded(prepared(path), "train") == "abcdefgh" * 5


def test_text_that_another_process_has_encoded_meanwhile_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "abcdefgh" * 10)
    entry = entry_of(path)
    away, before = tmp_path / "away", entry.stat().st_ino
    entry.rename(away)
    lock = FileLock(cache_folder() / "locks" / f"{entry.name}.lock")

    class Other(logging.Handler):
        """The other process: done as soon as this one says that it waits."""

        def emit(self, record: logging.LogRecord) -> None:
            away.rename(entry)
            lock.release()

    caplog.set_level(logging.INFO, "charlm")
    log, other = logging.getLogger(corpus.__name__), Other()
    log.addHandler(other)
    try:
        with lock:
            assert decoded(prepared(path), "train") == "abcdefgh" * 5
    finally:
        log.removeHandler(other)
    assert caplog.messages == ["another process is encoding this text: waiting for it"]
    assert entry.stat().st_ino == before


def test_small_text_whose_encoding_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    data = DataConfig(path=str(write(tmp_path, "abcdefgh" * 10)), split=HALVES)
    with pytest.raises(KeyboardInterrupt):
        corpus.prepare(data, corpus.survey(data), advanced=interrupted)
    assert list((cache_folder() / "corpora").iterdir()) == []


def test_text_encoded_by_another_version_is_not_grown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_finely(monkeypatch, 20)
    entry = entry_of(write(tmp_path, "abcdefgh" * 10))
    (latest,) = (cache_folder() / "latest").iterdir()
    earlier = corpus._earlier(latest)
    assert earlier is not None
    assert earlier.folder == entry
    assert len(earlier.built.shards) > 1
    other = shutil.copytree(entry, entry.with_name(f"{entry.name.partition('-')[0]}-0"))
    latest.write_text(other.name)
    assert corpus._earlier(latest) is None


def test_encoded_text_that_cannot_be_moved_to_its_place_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refuse the move, as some systems do while a program holds a file open."""
    tried: list[Path] = []
    rename = Path.rename

    def busy(self: Path, target: Path) -> Path:
        if not self.name.startswith(UNFINISHED):
            return rename(self, target)
        tried.append(target)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    data = DataConfig(path=str(write(tmp_path, "abcdefgh" * 10)), split=HALVES)
    text = corpus.survey(data)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", busy)
        with pytest.raises(DataError, match=f"cannot write.*{os.strerror(errno.EBUSY)}"):
            corpus.prepare(data, text)
    assert len(tried) == corpus.TRIES
    assert not tried[0].exists()
    assert decoded(corpus.prepare(data, text), "train") == "abcdefgh" * 5


def test_encoded_text_of_another_text_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fingerprint = prepared(write(tmp_path, "abcdefgh" * 10)).fingerprint
    assert corpus.cached(fingerprint) is not None
    other = fingerprint[:24] + fingerprint[24:].translate(str.maketrans("0123", "4567"))
    assert other != fingerprint
    assert corpus.cached(other) is None
    assert "corpus.json is of another text" in caplog.text


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("splits", "corpus.json lists 81 symbols, and there are 80"),
        ("shards", "shard 0 has another number of symbols"),
    ],
)
def test_encoded_text_of_another_size_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str, said: str
) -> None:
    path = write(tmp_path, "abcdefgh" * 10)
    described = entry_of(path) / "corpus.json"
    content = json.loads(without_digest(described.read_bytes()))
    if key == "splits":
        content["splits"]["test"]["stop"] += 1
    else:
        content["shards"][0]["counts"][2] += 1
    described.write_bytes(with_digest(json.dumps(content).encode()))
    assert decoded(prepared(path), "train") == "abcdefgh" * 5
    assert said in caplog.text
    assert json.loads(without_digest(described.read_bytes())) != content


def test_encoded_text_without_symbols_is_marked_by_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = symbols._Mark(entry_of(write(tmp_path, "abcdefgh" * 10)))
    without = symbols._Mark(tmp_path)
    closed: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", closed.append)
        without.__del__()
        assert closed == []
        mark.__del__()
    assert closed == [mark._handle]


def test_dry_run_leaves_the_cache_alone(tmp_path: Path) -> None:
    data = DataConfig(path=str(write(tmp_path, "abcdefgh" * 10)), split=HALVES)
    encoded = corpus.prepare(data, corpus.survey(data, keep=False), keep=False)
    assert decoded(encoded, "train") == "abcdefgh" * 5
    assert {path.name for path in cache_folder().iterdir()} == {"kernels", "named"}


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"x", "a single character"),
        (b"abc", "leaves 1 to train on"),
        (b"abcdefg\xff" + b"h" * 20, "not UTF-8 at byte 7"),
        (b"abcdefghijklmnop\xe2\x98", "not UTF-8 at byte 16"),
        ("text".encode("utf-16")[:-1], "not utf-16-le at byte 8: it ends within a character"),
    ],
)
def test_unusable_texts_are_refused_with_the_reason(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    assert expected in refusal(write(tmp_path, content))


def test_split_that_leaves_validation_empty_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, b"abcdefg")
    assert "leaves the validation split empty" in refusal(path, split=[0.9, 0.01, 0.09])
    assert len(prepared(path, split=[1.0, 0.0, 0.0]).train) == 7


def test_invalid_utf8_is_placed_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_finely(monkeypatch, 3)
    assert "at byte 8" in refusal(write(tmp_path, "aé\u2603bc".encode() + b"\xe2\x28" + b"z" * 9))


def test_missing_paths_and_folders_without_text_are_refused(tmp_path: Path) -> None:
    assert "there is no file or folder" in refusal(tmp_path / "none")
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder", b"\0\0", "x.bin")
    assert "holds no text" in refusal(tmp_path / "folder")
    assert "data.path is empty" in refusal("")
    assert "no text called 'x'" in refusal("builtin:x")
    assert "no data.sha256" in refusal("https://example.org/x")


def test_download_without_a_network_says_what_to_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib.error
    import urllib.request

    def offline(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(DataError) as caught:
        prepared("https://example.org/x.txt", sha256="0" * 64)
    assert "no route to host" in caught.value.what
    assert "--data PATH" in caught.value.advice
    assert not list((cache_folder() / "downloads").iterdir())


def test_download_of_another_text_is_refused_and_the_right_one_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib
    import urllib.request

    path = write(tmp_path, "abcdefgh" * 9)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: path.open("rb"))
    assert "SHA-256" in refusal("https://example.org/x.txt", sha256="0" * 64)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first = prepared("https://example.org/x.txt", sha256=digest)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("fetched again"))
    again = prepared("https://example.org/x.txt", sha256=digest)
    assert again.fingerprint == first.fingerprint


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_read_only_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    monkeypatch.setenv("CHARLM_CACHE", str(tmp_path / "locked" / "cache"))
    assert "cannot write" in refusal(write(tmp_path, "abcdefgh" * 9))


def test_cache_that_is_a_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHARLM_CACHE", str(write(tmp_path, "x", "file")))
    assert "cannot write" in refusal(write(tmp_path, "abcdefgh" * 9))


# ---- lanes --------------------------------------------------------------------------------------


def test_lanes_cover_the_text_in_order_and_targets_are_the_next_symbols() -> None:
    symbols = np.arange(3 * 17 + 1, dtype=np.uint8)
    lanes = BatchStream(symbols, len(symbols), batch_size=3, sequence_length=5)
    assert lanes.windows == 3
    inputs, targets = zip(*(lanes.window(w) for w in range(lanes.windows)), strict=True)
    for lane in range(3):
        read = [int(x) for window in inputs for x in window[:, lane]]
        assert read == list(range(lane * 17, lane * 17 + 15))
    for x, y in zip(inputs, targets, strict=True):
        assert x.shape == (5, 3)
        assert (y == x + 1).all()


def test_text_shorter_than_one_window_is_refused_and_one_window_is_enough() -> None:
    with pytest.raises(DataError, match="15 symbols"):
        BatchStream(np.zeros(15, np.uint8), 1, batch_size=3, sequence_length=5)
    assert BatchStream(np.zeros(16, np.uint8), 1, batch_size=3, sequence_length=5).windows == 1
