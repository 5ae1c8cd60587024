"""A steady step of training, beside plain Lightning with the data in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import training

WHAT = "a steady training step | plain Lightning, data in memory"
LIMIT, TARGET, LIMIT_S, ROUNDS = 1.02, None, None, 11  # the median of five swings by more than what is to be shown


@contextmanager
def sides() -> Iterator[Mapping[str, Callable[[], float]]]:
    """Medians over the steps of one epoch; the floor is a loop of plain torch."""
    with training.opened() as found:
        yield {
            "ours": lambda: training.step_s(found["ours"]()),
            "peer": lambda: training.step_s(found["lightning"]()),
            "floor": lambda: training.step_s(found["torch"]()),
        }
