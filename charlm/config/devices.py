"""The names of devices for `--device` and `train.device`."""

import re

from charlm.common.errors import UsageError

DEVICES = "auto, cpu, cuda, cuda:N or mps"
NAMES = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")


def is_device(name: str) -> bool:
    """Return True if a name is valid for a device, on this or another machine."""
    return NAMES.fullmatch(name) is not None


def refuse_unknown_device(name: str) -> None:
    """Check the name of a device. Raises: UsageError."""
    if not is_device(name):
        raise UsageError(f"there is no device {name!r}", f"name {DEVICES}")
