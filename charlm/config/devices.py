"""The names of devices, as `--device` and `train.device` take them."""

import re

from charlm.errors import UsageError

DEVICES = "auto, cpu, cuda, cuda:N or mps"
NAMES = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def is_device(name: str) -> bool:
    """Return whether a name is that of a device, here or on another machine."""
    return NAMES.fullmatch(name) is not None


def refuse_unknown_device(name: str) -> None:
    """Check that a device may be called so. Raises: UsageError."""
    if not is_device(name):
        raise UsageError(f"there is no device {name!r}", f"name {DEVICES}")
