"""A steady step of two processes that exchange gradients, beside plain torchrun with DDP on the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import training

WHAT = "a step of two processes | torchrun, plain DDP"
LIMIT, TARGET, LIMIT_S, ROUNDS = 1.0, None, None, 5


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Medians over the steps of one epoch, 512 rows a process and step; the floor is one process with all 1,024."""
    with training.opened() as found:
        yield {
            "ours": lambda: training.step_s(found["two"]()),
            "peer": lambda: training.step_s(found["torchrun"]()),
            "floor": lambda: training.step_s(found["torch"]()),
        }
