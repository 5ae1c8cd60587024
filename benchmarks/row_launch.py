"""From the submission to the end of the first optimiser step, beside the same training as `python script.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import training

WHAT = "submit -> first step | python script.py, plain torch"
LIMIT, TARGET, LIMIT_S, ROUNDS = 1.3, 0.6, None, 5


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """The script imports torch, reads the same file and trains the same network with a loop of its own."""
    with training.opened() as found:
        yield {"ours": lambda: training.first_s(found["ours"]()), "peer": lambda: training.first_s(found["torch"]())}
