"""The ranks of a training and their collectives.

torch's launcher starts the processes and gives each a number, its rank. Each trains a share of the
lanes. Rank 0, the leader, writes and prints. All ranks agree on everything that decides the next
step. They exchange JSON and tensors, never code.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store

from charlm.distributed.rank_errors import LostError, ReportedError

T = TypeVar("T")


@dataclass
class Ranks:
    """This process among the processes of a training; by default it is the only one.

    rank: its number among all `size` processes, from 0. here: its number among the `neighbours`
    processes of its machine, from 0. restarts: how often the launcher has restarted them. store:
    errors, for the other ranks. launch: the state of the launch, see `launch_state`.
    long_timeout_group: for waits of hours. wait_seconds: time spent waiting for other ranks.
    """

    rank: int = 0
    size: int = 1
    here: int = 0
    neighbours: int = 1
    restarts: int = 0
    store: Store | None = None
    launch: Store | None = None
    long_timeout_group: dist.ProcessGroup | None = None
    wait_seconds: float = 0.0

    @property
    def leads(self) -> bool:
        """True for the rank that writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return this rank's contiguous share of `count` items."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    # ---- collectives -----------------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait until every rank has reached this point."""
        self.gather(torch.zeros(1))

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do work on rank 0, then on the first rank of each other machine, then on all others.

        So each machine's first rank fills its cache, and the later ones read from it.
        """
        if self.size == 1:
            return work()
        own = 0 if self.leads else 1 if self.here == 0 else 2
        result: list[T] = []
        for turn in range(3):
            if turn == own:
                result.append(work())
            with self.answered():  # a long timeout: encoding a text may take hours
                dist.barrier(self.long_timeout_group)
        return result[0]

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks, on the same device. Shapes: [...] -> [size, ...]."""
        if self.size == 1:
            return tensor.unsqueeze(0)
        gathered = [torch.empty_like(tensor) for _ in range(self.size)]
        with self.answered():
            dist.all_gather(gathered, tensor.contiguous())
        return torch.stack(gathered)

    def gather_lanes(self, groups: Sequence[Tensor]) -> Tensor:
        """Return a tensor of all ranks' lanes, in the order of the text.

        groups: tensors of this rank's share of each group of lanes, [lanes, ...] each.
        """
        if self.size == 1:
            return groups[0] if len(groups) == 1 else torch.cat(list(groups))
        return self.gather(torch.stack(list(groups))).transpose(0, 1).flatten(0, 2)

    def mean(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over the ranks."""
        if self.size == 1:
            return tensor
        with self.answered():
            dist.all_reduce(tensor)
        return tensor / self.size

    def sum(self, value: float) -> float:
        """Return the sum of a number over the ranks, in float64; identical on all of them."""
        return self.gather(torch.tensor(value, dtype=torch.float64)).sum().item()

    def agree(self, asked: bool, seconds: float) -> tuple[bool, float]:
        """Return True if `asked` is True on any rank, and the leader's `seconds`."""
        if self.size == 1:
            return asked, seconds
        rows = self.gather(torch.tensor([float(asked), seconds], dtype=torch.float64))
        return bool(rows[:, 0].any()), rows[0, 1].item()

    def greatest(self, number: int) -> int:
        """Return the maximum of a number over the ranks."""
        return int(self.gather(torch.tensor(number)).max())

    def from_first(self, value: Any = None) -> Any:
        """Return the leader's value, which must be JSON, on every rank."""
        return value if self.size == 1 else self.exchange(value if self.leads else None)[0]

    def exchange(self, value: Any) -> list[Any]:
        """Return the values of all ranks, which must be JSON."""
        content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        longest = self.greatest(len(content))
        padded = torch.full((longest,), ord(" "), dtype=torch.uint8)
        padded[: len(content)] = content
        return [json.loads(bytes(row.tolist())) for row in self.gather(padded)]

    # ---- waiting ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def answered(self) -> Iterator[None]:
        """Count the `with` block as waiting for other ranks.

        Raises: ReportedError for an error of another rank, LostError if one does not answer.
        """
        began = time.perf_counter()
        try:
            yield
        except RuntimeError as error:  # of torch.distributed, all of them
            error_of_other = None
            with contextlib.suppress(RuntimeError):  # the store may be gone, too
                if self.store is not None and self.store.check(["error"]):
                    error_of_other = json.loads(self.store.get("error"))
            if error_of_other is not None:
                raise ReportedError(error_of_other) from None
            said = re.sub(r"^\[[^]]*\] *", "", str(error).partition("\n")[0]).partition(". ")[0]
            raise LostError(
                f"another process of this training has ended, or does not answer: {said}",
                "the launcher starts all of them again from the last checkpoint where it may "
                "(--processes does, torchrun with --max-restarts); else: the same with --resume",
            ) from None
        finally:
            self.wait_seconds += time.perf_counter() - began

    def leave(self) -> None:
        """Wait until the leader has printed everything, before this rank ends."""
        if self.size > 1:
            self.barrier()

    def close(self) -> None:
        """Close all connections, so that no other rank waits for this one.

        (Without this they would wait as long as this process lives.)
        """
        self.long_timeout_group = None  # else its connections would stay open
        if self.size > 1 and dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


ALONE = Ranks()
