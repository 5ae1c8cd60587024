"""A model is tried on requests that were recorded at its endpoint before it may answer any."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.online import MOST_ROWS
from jupyter_mlp.serving import requests_log
from jupyter_mlp.serving.predictor import Predictor

MOST = 200  # recorded rows
_LOOKED_AT = 2**18  # bytes at the end of the log; whoever asks meanwhile waits for each of them to be read
SLOW_S = 0.25  # a model that takes longer for a row in the middle would hold up whoever asks
_TIMED = 9  # rows asked one by one
_TIMED_S = 3.0


def check(predictor: Predictor, requests: Path) -> None:
    """Answer recorded rows with a model that is about to take traffic.

    Raises:
        InvalidInputError: it refuses what callers send, answers something that is no finite number, or is too slow.
    """
    recorded = [entry for entry in requests_log.newest(requests, _LOOKED_AT) if entry.status == 200 and not entry.shadow]
    rows = [row for entry in reversed(recorded) for row in entry.instances][:MOST]
    name = predictor.model[:8]
    other = "Deploy another model, or this one to another name."
    if rows:
        try:
            values, finite = _answered(predictor, rows)
        except InvalidInputError as error:
            raise InvalidInputError(f"Model {name} refuses what callers send here: {error.message}", other) from None
        if len(values) != len(rows):
            raise InvalidInputError(f"Model {name} gives {len(values)} answers to {len(rows)} recorded rows.", other)
        if not finite:
            raise InvalidInputError(f"Model {name} answers recorded requests with something that is no finite number.", other)
    example = predictor.card.get("example")
    timed = rows[:_TIMED] or ([example] * _TIMED if example else [])
    took: list[float] = []
    for row in timed:
        if sum(took) > _TIMED_S:
            break
        begun = time.perf_counter()
        predictor.answer([row])
        took.append(time.perf_counter() - begun)
    if took and statistics.median(took) > SLOW_S:
        raise InvalidInputError(
            f"Model {name} takes {statistics.median(took):.2f} s for one row; {SLOW_S:g} s are allowed at an endpoint.",
            "Predict whole datasets with it: %mlp_predict MODEL --data DATASET",
        )


def _answered(predictor: Predictor, rows: list[Any]) -> tuple[list[Any], bool]:
    """Return the answers, and whether all are finite numbers; in parts that are answered as most requests are."""
    parts = [predictor.answer(rows[at : at + MOST_ROWS]) for at in range(0, len(rows), MOST_ROWS)]
    return [value for part in parts for value in part.values], all(part.finite for part in parts)
