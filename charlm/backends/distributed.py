"""The processes that train one model together, each a share of the lanes: torch's collectives.

torch's launcher starts them and gives each a number, its rank; rank 0 leads: it writes and prints.
Whatever decides the next step is agreed on by all of them. What they tell each other is JSON and
tensors, never code. An error of one is everybody's: it stands in the launcher's store, where the
others find it once the one that has left does not answer.
"""

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store

from charlm.backends.device import resolve_device
from charlm.backends.lost import LostError, ToldError
from charlm.errors import CharlmError, UsageError

T = TypeVar("T")

TIME_TO_PRINT = timedelta(seconds=10)
NOT_COMPARED = {"data.path", "train.device", "train.threads"}
"""Keys of the configuration that may differ from machine to machine."""


@dataclass
class Ranks:
    """The processes of one training as one of them sees them; alone by default.

    rank: its number of `size`. here: its number on its own machine, which has `neighbours` of
    them. restarts: how often the launcher has started all of them anew. store: what these processes
    tell each other of errors. launch: what a start tells the next one of the same launch. patient:
    the group in which they wait for work that may take hours. waited: for the others, in seconds.
    """

    rank: int = 0
    size: int = 1
    here: int = 0
    neighbours: int = 1
    restarts: int = 0
    store: Store | None = None
    launch: Store | None = None
    patient: dist.ProcessGroup | None = None
    waited: float = 0.0

    @property
    def leads(self) -> bool:
        """Tell whether this is the rank that writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` things in a row are this rank's."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def device(self, name: str) -> torch.device:
        """Resolve the device of `--device`; every rank of a machine takes a GPU of its own.

        Raises: UsageError for one that is not there, or a single GPU for several ranks.
        """
        device = resolve_device(name)
        if self.size == 1 or device.type == "cpu":
            return device
        if device.type != "cuda" or not dist.is_nccl_available():
            if name == "auto":
                return torch.device("cpu")
            raise UsageError(
                f"several processes cannot train on {device.type} here", "use --device cpu"
            )
        count = torch.cuda.device_count()
        if ":" in name:
            raise UsageError(
                f"{self.size} processes cannot share the GPU {name}",
                "give --device cuda: each process takes one of its own",
            )
        if self.here >= count:
            raise UsageError(
                f"there are more processes than GPUs, of which this machine has {count}",
                f"use {count} processes here, or --device cpu",
            )
        torch.cuda.set_device(self.here)
        return torch.device("cuda", self.here)

    # ---- what all of them know -------------------------------------------------------------------

    def barrier(self) -> None:
        """Wait until every rank has come this far."""
        self.gather(torch.zeros(1))

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do work on rank 0 first, then on the first rank of every machine, then on the rest, so
        that they find in the cache what those have made."""
        if self.size == 1:
            return work()
        own = 0 if self.leads else 1 if self.here == 0 else 2
        result: list[T] = []
        for turn in range(3):
            if turn == own:
                result.append(work())
            with self.answered():  # however long the work takes: encoding a text may take hours
                dist.barrier(self.patient)
        return result[0]

    def gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks. Shapes: [...] -> [size, ...], on the same device."""
        if self.size == 1:
            return tensor.unsqueeze(0)
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        with self.answered():
            dist.all_gather(found, tensor.contiguous())
        return torch.stack(found)

    def gather_lanes(self, groups: Sequence[Tensor]) -> Tensor:
        """Return what belongs to the lanes of all ranks, in the order of the text.

        groups: of this rank's lanes, [lanes, ...] each; of every group a rank has its share.
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
        """Return the sum of a number over the ranks, in float64; alike on all of them."""
        return self.gather(torch.tensor(value, dtype=torch.float64)).sum().item()

    def agree(self, asked: bool, seconds: float) -> tuple[bool, float]:
        """Return whether any rank has asked for something, and what the leader's clock says."""
        if self.size == 1:
            return asked, seconds
        rows = self.gather(torch.tensor([float(asked), seconds], dtype=torch.float64))
        return bool(rows[:, 0].any()), rows[0, 1].item()

    def greatest(self, number: int) -> int:
        """Return the greatest of a number over the ranks."""
        return int(self.gather(torch.tensor(number)).max())

    def from_first(self, value: Any = None) -> Any:
        """Return what the leader gives, on every rank: something that JSON can hold."""
        return value if self.size == 1 else self.exchange(value if self.leads else None)[0]

    def exchange(self, value: Any) -> list[Any]:
        """Return what every rank gives: something that JSON can hold."""
        content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        longest = self.greatest(len(content))
        padded = torch.full((longest,), ord(" "), dtype=torch.uint8)
        padded[: len(content)] = content
        return [json.loads(bytes(row.tolist())) for row in self.gather(padded)]

    def refuse_differences(self, facts: Mapping[str, Any]) -> None:
        """Check that all ranks have the same data, configuration and versions.

        Raises: UsageError on all of them, naming what differs.
        """
        if self.size == 1:
            return
        every = self.exchange({key: facts[key] for key in sorted({*facts} - NOT_COMPARED)})
        details = []
        for key in sorted(set().union(*every)):
            values = [found.get(key) for found in every]
            if other := next((n for n, value in enumerate(values) if value != values[0]), 0):
                details.append(f"{key}: {values[0]!r} on rank 0, {values[other]!r} on rank {other}")
        if details:
            raise UsageError(
                "the processes of this training differ", "start all of them alike", details
            )

    # ---- the run of this launch ------------------------------------------------------------------

    def remember_run(self, path: str) -> None:
        """Tell those that the launcher starts in the place of these which run they go on with."""
        if self.leads and self.launch is not None:
            self.launch.set("run", path)

    def remembered_run(self) -> str:
        """Return the run that an earlier start of this launch has begun, on all ranks; "" before
        there is one."""
        found = ""
        if self.leads and self.launch is not None and self.launch.check(["run"]):
            found = self.launch.get("run").decode()
        return str(self.from_first(found))

    def remember_end(self, code: int) -> None:
        """Tell those that the launcher might start in the place of these that the run is to end
        here, with an exit code: a signal is no failure to be mended."""
        if self.leads and self.launch is not None:
            self.launch.set("ended", str(code))

    def remembered_end(self) -> int:
        """Return the exit code that this launch has come to before; 0 for none."""
        code = 0
        if self.leads and self.launch is not None:
            code = int(self.launch.get("ended")) if self.launch.check(["ended"]) else 0
        return int(self.from_first(code))

    # ---- errors ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def answered(self) -> Iterator[None]:
        """Wait for the others inside. Raises: ToldError, LostError where one does not answer."""
        began = time.perf_counter()
        try:
            yield
        except RuntimeError as error:  # of torch.distributed, all of them
            told = None
            with contextlib.suppress(RuntimeError):  # the store has gone, too
                if self.store is not None and self.store.check(["error"]):
                    told = json.loads(self.store.get("error"))
            if told is not None:
                raise ToldError(told) from None
            said = re.sub(r"^\[[^]]*\] *", "", str(error).partition("\n")[0]).partition(". ")[0]
            raise LostError(
                f"another process of this training has ended, or does not answer: {said}",
                "the launcher starts all of them again from the last checkpoint where it may "
                "(--processes does, torchrun with --max-restarts); else: the same with --resume",
            ) from None
        finally:
            self.waited += time.perf_counter() - began

    def tell(self, error: CharlmError) -> bool:
        """Tell the others of an error that ends this rank; return whether this one is to print it:
        the first that has it."""
        if self.store is None or isinstance(error, ToldError):
            return self.store is None
        mine = {"rank": self.rank, "what": error.what, "advice": error.advice}
        mine["exit_code"] = error.exit_code
        try:
            first = self.store.compare_set("error", "", json.dumps(mine))
        except RuntimeError:
            return True
        return bool(json.loads(first)["rank"] == self.rank)

    def wait_until_printed(self, *, printed: bool) -> None:
        """Wait until the rank that prints an error has done so: a launcher ends all others once one
        has ended with a failure. printed: this rank has."""
        with contextlib.suppress(RuntimeError):
            if self.store is not None and printed:
                self.store.set("printed", "")
            elif self.store is not None:
                self.store.wait(["printed"], TIME_TO_PRINT)

    def leave(self) -> None:
        """End together: no rank before the leader has printed its last."""
        if self.size > 1:
            self.barrier()

    def close(self) -> None:
        """Close all connections, so that nobody waits for this rank any more: its process may stay
        for as long as the others do."""
        self.patient = None  # or its connections would live on
        if self.size > 1 and dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()


ALONE = Ranks()
