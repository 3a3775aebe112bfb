"""The machine that charlm runs on: device, precision, threads, memory."""

import contextlib
import ctypes
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from charlm.common.errors import UsageError
from charlm.config.devices import refuse_unknown_device
from charlm.config.schema import TrainConfig

# glibc's mallopt parameters (malloc.h)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def resolve_device(name: str) -> torch.device:
    """Resolve the device of `--device`; "auto" prefers CUDA, then MPS, then the CPU.

    Raises: UsageError if it is not available.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    first = next(kind for kind in ("cuda", "mps", "cpu") if there[kind])
    refuse_unknown_device(name)
    chosen = torch.device(first if name == "auto" else name)
    if not there.get(chosen.type) or (chosen.index or 0) >= max(1, torch.cuda.device_count()):
        listed = ", ".join(kind for kind in there if there[kind])
        raise UsageError(f"device {name} is not available here", f"there is: {listed}")
    return chosen


def resolve_precision(config: TrainConfig, on: torch.device) -> torch.dtype:
    """Resolve the type of matrix products; weights, states and sums are always float32.

    "auto" is bfloat16 if the processor or GPU supports it, else float32.
    """
    if config.precision != "auto":
        return torch.bfloat16 if config.precision == "bfloat16" else torch.float32
    if on.type == "cuda":
        with torch.cuda.device(on):
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif on.type == "cpu":
        features = torch.cpu.get_capabilities()
        fast = any(features.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:
        fast = False
    return torch.bfloat16 if fast else torch.float32


def autocast(dtype: torch.dtype, on: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Make a context in which matrix products run in `dtype`."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(on.type, dtype)


def to_device(tensor: torch.Tensor, to: torch.device) -> torch.Tensor:
    """Copy a tensor to a device, asynchronously on CUDA."""
    if to.type != "cuda":
        return tensor.to(to)
    return tensor.pin_memory().to(to, non_blocking=True)


def exact_float32(on: torch.device) -> None:
    """Make cuDNN compute in full float32: by default it rounds products in recurrent layers to 10
    bits (TF32). This setting is global, so only commands and the public API call this."""
    if on.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False


def prepare_process(on: torch.device, threads: int) -> None:
    """Set this process up for training: torch's threads (0: unchanged), memory, exact float32."""
    if threads:
        torch.set_num_threads(threads)
    if on.type == "cpu":
        keep_freed_memory()
    exact_float32(on)


def keep_freed_memory() -> None:
    """Make glibc retain freed memory for the next step.

    By default it returns large blocks to the system and faults them in again, page by page, at
    every step: up to half of the time of a training step.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)  # the mmap threshold cannot be raised above 32 MB
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def memory_in_use(on: torch.device) -> int:
    """Return the bytes now in use, on the GPU or by the process; 0 if unknown."""
    if on.type == "cuda":
        return torch.cuda.memory_allocated(on)
    return _from_status("VmRSS")


def reset_peak_memory(on: torch.device) -> bool:
    """Return freed memory, then reset `peak_memory`; return False if that is impossible."""
    if on.type == "cuda":
        torch.cuda.reset_peak_memory_stats(on)
        return True
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # see proc(5)
    except OSError:  # a container may forbid it
        return False
    return True


def peak_memory(on: torch.device) -> int:
    """Return the peak memory in bytes, of the GPU if one is used, else of the process."""
    if on.type == "cuda":
        return torch.cuda.max_memory_allocated(on)
    if sys.platform == "win32":
        return 0  # unknown: Windows has no getrusage
    if highest := _from_status("VmHWM"):  # getrusage includes the process before exec
        return highest
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if platform.system() == "Darwin" else largest * 1024


def _from_status(name: str) -> int:
    """Read a number of bytes from this process's status on Linux; 0 elsewhere."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """List the values that have changed, for a message."""
    return [f"{key} {then.get(key)} -> {now[key]}" for key in now if then.get(key) != now[key]]


def versions() -> dict[str, str]:
    """Return the versions and hardware that results depend on, apart from the configuration."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
    }


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Set torch's thread count for a `with` block; 0 leaves it unchanged."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
