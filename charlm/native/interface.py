"""The kernels as Python calls them: the C structures of kernels/cells.h and write.h."""

import ctypes
from typing import Any

import torch
from torch import Tensor

KINDS = {"rnn_tanh": 0, "rnn_relu": 1, "lstm": 2, "gru_after": 3, "gru_before": 4}
KEPT = {"rnn_tanh": 0, "rnn_relu": 0, "lstm": 4, "gru_after": 4, "gru_before": 3}
"""Blocks of H values that a step keeps for its way back, beside h and c."""
TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


def _structure(name: str, **fields: Any) -> Any:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


_ARRAY, _SIZE, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double

Window: Any = _structure(
    "Window",
    **dict.fromkeys(("kind", "T", "B", "H", "threads"), _SIZE),
    **dict.fromkeys(("table", "symbols"), _ARRAY),
    **dict.fromkeys(("below", "below_weights", "below_bias"), _ARRAY),
    below_size=_SIZE,
    **dict.fromkeys(("bias", "forward", "backward", "h", "state", "c"), _ARRAY),
    **dict.fromkeys(("c_before", "gates", "q"), _ARRAY),
    **dict.fromkeys(("scratch", "d_output", "d_state", "d_c", "d_projected"), _ARRAY),
)

Writer: Any = _structure(
    "Writer",
    **dict.fromkeys(("layers", "texts", "hidden", "vocabulary"), _SIZE),
    **dict.fromkeys(("windows", "head", "head_bias", "logits"), _ARRAY),
    **dict.fromkeys(("temperature", "top_p"), _REAL),
    **dict.fromkeys(("top_k", "unknown"), _SIZE),
)


class Kernels:
    """Typed calls into a library, and the large buffers between them, used again and again.

    (From malloc, such blocks were faulted in anew at step after step until its heap had grown to
    several times their size.) The `name` of a type is "float32", "bfloat16" or, to write, "int8".
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self.width = int(library.charlm_width())
        """Hidden sizes are multiples of it."""
        self.block = int(library.charlm_block())
        """Rows that a weight gradient packs at a time."""
        self.types = ["float32"]
        self.types += ["bfloat16"] if library.charlm_has_bfloat16() else []
        self.types += ["int8"] if library.charlm_has_int8() else []

        self._free: dict[tuple[tuple[int, ...], torch.dtype], list[Tensor]] = {}

    def borrow(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A buffer with anything in it; for `give_back`, or to be forgotten."""
        if free := self._free.get((shape, dtype)):
            return free.pop()
        with torch.inference_mode(False):  # or training could not use what evaluation has left
            return torch.empty(shape, dtype=dtype)

    def give_back(self, *buffers: Tensor | None) -> None:
        """As they were borrowed; nothing may read or write them any more."""
        for buffer in buffers:
            if buffer is not None:
                self._free.setdefault((buffer.shape, buffer.dtype), []).append(buffer)

    def call(self, function: str, name: str, *arguments: Any) -> Any:
        """charlm_<function>_<name>, with contiguous tensors as pointers, integers as int64."""
        return getattr(self._library, f"charlm_{function}_{name}")(*map(_passed, arguments))


def address(tensor: Tensor | None) -> int | None:
    """Of a contiguous tensor's first element."""
    if tensor is None:
        return None
    assert tensor.is_contiguous()
    return tensor.data_ptr()


def rows_at(tensor: Tensor) -> ctypes.c_void_p:
    """The first row of a matrix whose rows may stand further apart than they are long."""
    assert tensor.stride(1) == 1
    return _ARRAY(tensor.data_ptr())


def _passed(argument: Any) -> Any:
    if isinstance(argument, int):
        return _SIZE(argument)
    if isinstance(argument, Tensor):
        return _ARRAY(address(argument))
    return ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else argument
