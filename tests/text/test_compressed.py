"""Compressed texts: the whole of what is in them, or a refusal, wherever they are damaged."""

import gzip
import importlib.util
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from charlm.common.errors import DataError
from charlm.text.files.compressed import BLOCK, blocks, refuse_unreadable

PARTS = (b"one one one one\n", b"", b"two two \xed\x95\x9c two\n", b"three three three\n")
WHOLE = b"".join(PARTS)
PADDING = {".gz": b"\0" * 3, ".xz": b"\0" * 8, ".zst": b""}
"""Bytes that each format allows between streams and after the last."""


def zstd(content: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard")
    packed: bytes = zstandard.ZstdCompressor(write_checksum=True).compress(content)
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
every_format = pytest.mark.parametrize("suffix", PACK)


def read(folder: Path, suffix: str, content: bytes) -> bytes | None:
    """Read a compressed file with this content; None where it is refused by its name."""
    path = folder / f"text{suffix}"
    path.write_bytes(content)
    try:
        return b"".join(blocks(path))
    except DataError as error:
        return None if str(path) in error.what else b"an error without the file's name"


def streams(suffix: str, *, padding: bytes = b"") -> list[bytes]:
    """The streams of a file with several, each followed by padding."""
    return [PACK[suffix](part) + padding for part in PARTS]


@every_format
def test_a_flipped_byte_is_noticed_in_every_stream(tmp_path: Path, suffix: str) -> None:
    packed = b"".join(streams(suffix, padding=PADDING[suffix]))
    assert read(tmp_path, suffix, packed) == WHOLE
    refused = 0
    for place in range(len(packed)):
        for flipped in (packed[place] ^ 0xFF, packed[place] ^ 1, 0):
            if flipped == packed[place]:
                continue
            damaged = packed[:place] + bytes([flipped]) + packed[place + 1 :]
            content = read(tmp_path, suffix, damaged)
            assert content in (None, WHOLE), place  # WHOLE: as in the time of a member of gzip
            refused += content is None
    assert refused > len(packed)


@every_format
def test_a_file_that_is_cut_anywhere_but_behind_a_stream_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    """A file that ends behind a stream is whole, for all that its format says."""
    packed, ends = b"", {}
    for count, stream in enumerate(streams(suffix), start=1):
        packed += stream
        ends[len(packed)] = b"".join(PARTS[:count])
    for length in range(len(packed)):
        assert read(tmp_path, suffix, packed[:length]) == ends.get(length), length


@every_format
@pytest.mark.parametrize("after", [b"x", b"no stream at all", b"\0x", b"\0\0\0\0no stream", b"\n"])
def test_bytes_after_the_last_stream_are_refused(tmp_path: Path, suffix: str, after: bytes) -> None:
    assert read(tmp_path, suffix, PACK[suffix](WHOLE) + after) is None


@every_format
def test_padding_is_what_the_format_allows(tmp_path: Path, suffix: str) -> None:
    """gzip: any zero bytes; xz: multiples of four; zstd: none. None of them begins with such."""
    allowed = {".gz": {*range(10)}, ".xz": {0, 4, 8}, ".zst": {0}}[suffix]
    for size in range(10):
        zeros = b"\0" * size
        expected = WHOLE if size in allowed else None
        assert read(tmp_path, suffix, b"".join(streams(suffix, padding=zeros))) == expected, size
        assert read(tmp_path, suffix, PACK[suffix](WHOLE) + zeros) == expected, size
        if size:
            assert read(tmp_path, suffix, zeros + PACK[suffix](WHOLE)) is None
            assert read(tmp_path, suffix, zeros) is None


@every_format
def test_streams_that_end_with_a_block_of_the_reader_lose_nothing(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest that a decompressor holds, once its limit is reached, is read, too."""
    packed = b"".join(streams(suffix))
    for size in range(1, 20):
        monkeypatch.setattr("charlm.text.files.compressed.BLOCK", size)
        path = tmp_path / f"text{suffix}"
        path.write_bytes(packed)
        found = list(blocks(path))
        assert b"".join(found) == WHOLE
        assert {len(block) for block in found[:-1]} <= {size}


@every_format
def test_all_bytes_of_a_file_count_as_read(tmp_path: Path, suffix: str) -> None:
    """Count them also if there is no content."""
    whole = b"".join(streams(suffix, padding=PADDING[suffix]))
    for content, expected in ((PACK[suffix](b""), b""), (whole, WHOLE)):
        path = tmp_path / f"text{suffix}"
        path.write_bytes(content)
        read: list[int] = []
        assert b"".join(blocks(path, read.append)) == expected
        assert sum(read) == len(content)
        assert 0 not in read


def test_device_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "text.txt").symlink_to(os.devnull)
    with pytest.raises(DataError, match="it is a device, and may never end"):
        next(blocks(tmp_path / "text.txt"))


def test_file_that_may_not_be_read_is_refused_unopened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("secret")
    monkeypatch.setattr(os, "access", lambda file, mode: (file, mode) != (path, os.R_OK))
    with pytest.raises(DataError) as caught:
        refuse_unreadable(path)
    assert caught.value.what == f"cannot read {path}: Permission denied"


@every_format
@pytest.mark.parametrize("level", ["one stream", "many streams"])
def test_a_bomb_takes_no_more_memory_than_a_text(tmp_path: Path, suffix: str, level: str) -> None:
    """A few kilobytes that stand for gigabytes: blocks come one by one."""
    size = 200 << 20
    if level == "one stream":
        packed = PACK[suffix](bytes(size))
    else:
        packed = PACK[suffix](bytes(BLOCK + 7)) * (size // BLOCK)
        size = size // BLOCK * (BLOCK + 7)
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(packed)
    assert len(packed) < size // 100
    tracemalloc.start()
    try:
        assert sum(map(len, blocks(path))) == size
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.skipif(importlib.util.find_spec("zstandard") is None, reason="packs the test's text")
def test_skippable_frames_of_zstd_hold_no_text(tmp_path: Path) -> None:
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"abcde"
    assert read(tmp_path, ".zst", skipped + zstd(WHOLE) + skipped + zstd(WHOLE)) == 2 * WHOLE
    assert read(tmp_path, ".zst", zstd(WHOLE) + skipped[:-1]) is None
