"""Python interface of the kernels: the C structures of kernels/cells.h, write.h and adapt.h.

Importing this does not import torch: sampling passes arrays of numpy.
"""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from charlm.native.build import UnavailableError

if TYPE_CHECKING:
    from torch import Tensor

    from charlm.cells.base import Cell

ALIGNMENT = 64
"""Alignment of torch's buffers, and of `aligned`, in bytes: a line of the cache."""


class _Names(dict[Any, str]):
    """Names of torch's types of weights, "float32" and "bfloat16", by the types themselves."""

    def __missing__(self, dtype: Any) -> str:
        name = str(dtype).removeprefix("torch.")
        if name not in ("float32", "bfloat16"):
            raise KeyError(dtype)
        self[dtype] = name
        return name


TYPES = _Names()
UNBOUNDED = frozenset({"rnn_relu", "mingru", "minlstm", "indrnn"})
"""Variants of cells whose states are not between -1 and 1, as weights in int8 need them."""


def _structure(name: str, **fields: Any) -> Any:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


_ARRAY, _SIZE, _REAL = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double

LayerArgs: Any = _structure(
    "LayerArgs",
    **dict.fromkeys(("kind", "T", "B", "H", "threads"), _SIZE),
    **dict.fromkeys(("table", "symbols"), _ARRAY),
    **dict.fromkeys(("below", "below_weights", "below_bias"), _ARRAY),
    below_size=_SIZE,
    **dict.fromkeys(("bias", "own_weights", "forward_weights", "backward_weights"), _ARRAY),
    **dict.fromkeys(("h", "state", "c"), _ARRAY),
    **dict.fromkeys(("c_before", "gates", "reset_h"), _ARRAY),
    **dict.fromkeys(("scratch", "resets", "outputs"), _ARRAY),
    **dict.fromkeys(("d_output", "d_state", "d_c", "d_projected"), _ARRAY),
)

Writer: Any = _structure(
    "Writer",
    **dict.fromkeys(("layers", "texts", "hidden", "vocabulary"), _SIZE),
    **dict.fromkeys(("layer_args", "head", "head_bias", "logits"), _ARRAY),
    **dict.fromkeys(("temperature", "top_p", "min_p", "repetition_penalty"), _REAL),
    **dict.fromkeys(("top_k", "unknown", "end"), _SIZE),
    written=_ARRAY,
    **dict.fromkeys(("past", "window", "stretch"), _SIZE),
)

Learned: Any = _structure(
    "Learned",
    **dict.fromkeys(("weights", "trained", "steps", "pulls"), _ARRAY),
    **dict.fromkeys(("rows", "columns"), _SIZE),
)

AdaptingLayer: Any = _structure(
    "AdaptingLayer",
    window=LayerArgs,
    **dict.fromkeys(("weight_ih", "weight_hh", "bias", "bias_n"), Learned),
    packed_below=_ARRAY,
)

Adapter: Any = _structure(
    "Adapter",
    **dict.fromkeys(("layers", "end", "threads"), _SIZE),
    layer=_ARRAY,
    **dict.fromkeys(("embedding", "head", "head_bias"), Learned),
    **dict.fromkeys(("head_forward", "head_backward", "vectors", "d_vectors"), _ARRAY),
    **dict.fromkeys(("d_embedding", "logits", "resets"), _ARRAY),
    longest=_REAL,
)

ModelSizes: Any = _structure(
    "ModelSizes",
    **dict.fromkeys(("kind", "layers", "V", "E", "H", "bias", "end", "T", "B"), _SIZE),
)

SoftArgs: Any = _structure("SoftTargets", chances=_ARRAY, symbols=_SIZE, weight=_REAL)

WindowArgs: Any = _structure(
    "WindowArgs",
    **dict.fromkeys(("T", "B"), _SIZE),
    **dict.fromkeys(("symbols", "targets", "anew", "before", "after"), _ARRAY),
    seed=ctypes.c_uint64,
    **dict.fromkeys(("threshold", "weight_threshold", "first_lane"), _SIZE),
    soft=SoftArgs,
    **dict.fromkeys(("losses", "logs", "gradients"), _ARRAY),
    **dict.fromkeys(("learns", "threads"), _SIZE),
)

Update: Any = _structure(
    "Update",
    **dict.fromkeys(("rate", "beta1", "beta2", "decay", "clip", "towards"), _REAL),
    count=_SIZE,
)

STRUCTURES = {
    "model_sizes": ModelSizes,
    "window_args": WindowArgs,
    "update": Update,
    "layer_args": LayerArgs,
    "writer_args": Writer,
    "adapter_args": Adapter,
    "adapting_layer_args": AdaptingLayer,
}
_LAYER, _WRITER, _ADAPTER = (ctypes.POINTER(s) for s in (LayerArgs, Writer, Adapter))
_SIZES, _WINDOW, _UPDATE = (ctypes.POINTER(s) for s in (ModelSizes, WindowArgs, Update))
TRAINING: dict[str, tuple[Any, ...]] = {
    "product": (_ARRAY, *[_SIZE] * 3, _ARRAY, _SIZE, _ARRAY, _SIZE),
    "new_model": (_SIZES, *[_ARRAY] * 4),
    "delete_model": (_ARRAY,),
    "read_window": (_ARRAY, _WINDOW),
    "learn_layer": (_ARRAY, _WINDOW, _SIZE),
    "take_step": (_ARRAY, _WINDOW, _UPDATE, *[_ARRAY] * 2),
}
NO_MEMORY = 2
RESULTS: dict[str, Any] = {
    "new_model": _ARRAY,
    **dict.fromkeys(("read_window", "learn_layer", "take_step"), ctypes.c_int),
}
"""The results of those functions that have one; an integer is 0, or `NO_MEMORY`, or an error of the
function's own."""
ADAPTING: dict[str, tuple[Any, ...]] = {
    "pack_adapter": (_ADAPTER,),
    "adapt": (_ADAPTER, *[_ARRAY] * 2, _SIZE, *[_ARRAY] * 2),
}
WRITING: dict[str, tuple[Any, ...]] = {
    "pack_writer": (*[_SIZE] * 3, *[_ARRAY] * 2),
    "pack_writer_head": (*[_SIZE] * 2, *[_ARRAY] * 2),
    "store": (_ARRAY, _SIZE, _ARRAY),
    "read": (_WRITER, _ARRAY, _SIZE),
    "write": (_WRITER, _ARRAY, _SIZE, *[_ARRAY] * 2),
}
"""The arguments of the functions charlm_<name>_<type>, as declared in train.cpp, adapt.cpp (float32
only) and write.cpp."""


@dataclass(frozen=True)
class Kind:
    """A cell that the kernels compute. saved_blocks: blocks of H values for the backward pass of a
    step, in addition to h and c."""

    number: int
    saved_blocks: int


class Kernels:
    """Typed calls into a library.

    The `name` of a type is "float32", "bfloat16" or, for sampling, "int8".

    Raises: UnavailableError for a library whose structures are not those above.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for theirs, ours in STRUCTURES.items():
            if ctypes.sizeof(ours) != getattr(library, f"charlm_{theirs}_size")():
                raise UnavailableError(f"{ours.__name__} has another size in the kernels")
        self.width = int(library.charlm_width())
        """Elements of a vector: hidden sizes are padded to multiples of it."""
        self.types = ["float32"]
        self.types += ["bfloat16"] if library.charlm_has_bfloat16() else []
        self.types += ["int8"] if library.charlm_has_int8() else []
        self._declare()
        library.charlm_kind_name.restype = ctypes.c_char_p
        self.kinds = {
            library.charlm_kind_name(_SIZE(number)).decode(): Kind(
                number, int(library.charlm_saved_blocks(_SIZE(number)))
            )
            for number in range(library.charlm_kinds())
        }
        """The cells that the kernels compute, by `Cell.variant`."""

    def _declare(self) -> None:
        """Declare the arguments of all functions, so that those of a wrong type are refused."""
        for name in self.types:
            declarations = WRITING if name == "int8" else TRAINING | WRITING
            if name == "float32":
                declarations = declarations | ADAPTING
            for function, arguments in declarations.items():
                declared = getattr(self._library, f"charlm_{function}_{name}")
                declared.argtypes, declared.restype = arguments, RESULTS.get(function)
        self._library.charlm_read_bytes_float32.argtypes = (_ARRAY, _SIZE, _SIZE)

    def supports(self, cells: "Sequence[Cell]") -> bool:
        """Return True if the kernels compute all of these cells."""
        from charlm.cells.base import ProjectedCell  # here: it imports torch

        return all(isinstance(cell, ProjectedCell) and cell.variant in self.kinds for cell in cells)

    def call(self, function: str, name: str, *arguments: Any) -> Any:
        """Call charlm_<function>_<name>: contiguous tensors and arrays as pointers,
        integers as int64. Raises: MemoryError."""
        result = getattr(self._library, f"charlm_{function}_{name}")(*map(_passed, arguments))
        if result == NO_MEMORY and function in RESULTS:
            raise MemoryError(f"the kernels have no memory for {function}")
        return result


def aligned(shape: int | tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array of zeros whose first element is aligned to `ALIGNMENT`."""
    sizes = (shape,) if isinstance(shape, int) else shape
    kind = np.dtype(dtype)
    size = math.prod(sizes) * kind.itemsize
    room = np.zeros(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    found: NDArray[Any] = room[start : start + size].view(kind)
    return found.reshape(sizes)


def address(buffer: "Tensor | NDArray[Any] | None") -> int | None:
    """Return the address of the first element of a contiguous tensor or array."""
    if buffer is None:
        return None
    if isinstance(buffer, np.ndarray):
        assert buffer.flags.c_contiguous
        return buffer.ctypes.data
    assert buffer.is_contiguous()
    return buffer.data_ptr()


def _passed(argument: Any) -> Any:
    if isinstance(argument, int):
        return _SIZE(argument)
    if isinstance(argument, np.ndarray) or hasattr(argument, "data_ptr"):
        return _ARRAY(address(argument))
    return ctypes.byref(argument) if isinstance(argument, ctypes.Structure) else argument
