"""Writer of safetensors files that computes the digest on the way, without a copy in memory.

`safetensors.torch.save` copies all tensors twice, which takes longer than writing and syncing
them. Files are read by the library.

Source: the format, https://github.com/huggingface/safetensors#format.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
ALIGNMENT = 8
"""Alignment of the tensors' start, in bytes."""
CHUNK = 1 << 22


def write(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, str]:
    """Write a new file and flush it to disk; return its size and SHA-256.

    Shapes: any, on the CPU and contiguous. Raises: OSError.
    """
    size, digest = 0, hashlib.sha256()
    with path.open("xb") as file, ThreadPoolExecutor(1) as digesting:
        waiting = []
        for chunk in _chunks(tensors):
            waiting.append(digesting.submit(digest.update, chunk))  # while the disk is busy
            size += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        for one in waiting:
            one.result()
    return size, digest.hexdigest()


def _chunks(tensors: Mapping[str, Tensor]) -> Iterator[memoryview]:
    """Yield the header, then the tensors, those with the largest elements first, so that all are
    aligned."""
    ordered = sorted(tensors.items(), key=lambda pair: (-pair[1].element_size(), pair[0]))
    header, end = {}, 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % ALIGNMENT)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for _, tensor in ordered:
        assert tensor.is_contiguous()
        content = tensor.detach().reshape(-1).view(torch.uint8).numpy().data
        for begin in range(0, len(content), CHUNK):
            yield content[begin : begin + CHUNK]
