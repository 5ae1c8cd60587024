"""Gradients of processes that stand on one machine and compute on its processor: added up in memory that they share.

DDP would send them through TCP from one process to the other: a quarter of a small model's step. Here

    each lays its own where all can read it  ->  adds up one slice of everybody's  ->  takes the whole sum

and between two of these steps all wait for one another. Whatever else needs gloo (buffers, metrics of all ranks) goes through gloo.
"""

# No `from __future__ import annotations` here: DDP looks at the hook's annotations, and wants the types themselves.
import mmap
import os
import shutil
import socket
import tempfile

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from jupyter_mlp.store import runtime

_ALIGNED = 64  # bytes: what vector instructions like best
_PATIENCE_S = 1800.0  # as long as torch waits for a rank
_BUCKET_MB = 25  # as DDP's own, but for the first one, too: each bucket is a wait


def suits(strategy: str, world: int) -> bool:
    """Whether ranks of this kind can share their memory: all on this machine, none with a GPU, a copy of the model in each."""
    alone = int(os.environ.get("LOCAL_WORLD_SIZE", "0")) == world > 1
    return strategy == "ddp" and alone and hasattr(os, "memfd_create") and not torch.accelerator.is_available()


class SharedMemoryDDP(DDPStrategy):
    """DDP whose ranks add their gradients up in shared memory."""

    def __init__(self) -> None:
        super().__init__(bucket_cap_mb=_BUCKET_MB)

    def configure_ddp(self) -> None:
        """Wrap the model, and say how its gradients are exchanged."""
        super().configure_ddp()
        assert isinstance(self.model, DistributedDataParallel)
        self.model.register_comm_hook(Exchange(Circle()), averaged)


class Circle:
    """Ranks of one machine that wait for one another, rank 0 for all and all for rank 0."""

    def __init__(self) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        folder = tempfile.mkdtemp(dir=runtime.folder("ranks")) if self.rank == 0 else ""
        told = [folder]
        dist.broadcast_object_list(told)
        path = os.path.join(told[0], "meet")
        self._others: list[socket.socket] = []
        if self.rank == 0:
            with socket.socket(socket.AF_UNIX) as door:
                door.bind(path)
                door.listen(self.world)
                door.settimeout(_PATIENCE_S)
                dist.barrier()
                self._others = [door.accept()[0] for _ in range(1, self.world)]
            shutil.rmtree(folder)
        else:
            dist.barrier()
            other = socket.socket(socket.AF_UNIX)
            other.connect(path)
            self._others = [other]
        for other in self._others:
            other.settimeout(_PATIENCE_S)

    def wait(self) -> None:
        """Return when all ranks have come here.

        Raises:
            torch.distributed.DistNetworkError: one of them is gone.
        """
        try:
            if self.rank != 0:
                self._others[0].sendall(b".")
            for other in self._others:
                if not other.recv(1):
                    raise ConnectionResetError
            if self.rank == 0:
                for other in self._others:
                    other.sendall(b".")
        except OSError as error:
            raise dist.DistNetworkError("Connection closed by peer: another rank is gone.") from error

    def memory(self, size: int) -> mmap.mmap:
        """Return memory of so many bytes, the same for all ranks; all ask for it at once. It is gone with the last of them."""
        if self.rank == 0:
            descriptor = os.memfd_create("mlp-gradients", os.MFD_CLOEXEC)
            os.posix_fallocate(descriptor, 0, size)  # or a rank that writes is ended, where there is not that much
            for other in self._others:
                socket.send_fds(other, [b"."], [descriptor])
        else:
            _, (descriptor, *_), _, _ = socket.recv_fds(self._others[0], 1, 1)
        try:
            return mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)


class Exchange:
    """The memory in which the ranks of a circle add up: a slot for each, and one for the sum."""

    def __init__(self, circle: Circle) -> None:
        self._circle = circle
        self._slot = 0
        self._memory: mmap.mmap | None = None

    def average(self, own: torch.Tensor) -> None:
        """Replace `own`, shape (n,), by the mean over all ranks; it is the same to the bit on each.

        Raises:
            torch.distributed.DistNetworkError: another rank is gone.
        """
        rank, world = self._circle.rank, self._circle.world
        slots = self._slots(own)
        count = len(own)
        slots[rank, :count] = own
        self._circle.wait()
        share = -(-count // world)
        mine = slice(rank * share, min(count, (rank + 1) * share))
        if mine.start < mine.stop:
            torch.sum(slots[:world, mine], 0, out=slots[world, mine]).div_(world)
        self._circle.wait()
        own.copy_(slots[world, :count])

    def _slots(self, own: torch.Tensor) -> torch.Tensor:
        """Return the slots as rows of numbers like `own`'s, each with room for it."""
        needed = len(own) * own.element_size()
        if needed > self._slot:
            self._slot = -(-needed // _ALIGNED) * _ALIGNED
            self._memory = self._circle.memory(self._slot * (self._circle.world + 1))
        assert self._memory is not None
        return torch.frombuffer(self._memory, dtype=own.dtype).view(self._circle.world + 1, -1)


def averaged(exchange: Exchange, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    """What DDP calls with some gradients of a step: they are averaged when it returns."""
    gradients = bucket.buffer()
    if gradients.is_sparse:
        return allreduce_hook(None, bucket)  # None is the group of all, as its own docstring says
    exchange.average(gradients)
    done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
    done.set_result(gradients)
    return done
