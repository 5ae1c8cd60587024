"""Staged shifts: how traffic moves to a new model step by step, and when it must move back."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jupyter_mlp.core.errors import InvalidInputError

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_FAILURES = 5  # of the challenger before its share of failures counts
_FAILING = 0.02  # share of failures that is too much, where the champion has not as many
_TIMED = 50  # answers of each before their times are compared
_SLOWER, _SLOWER_MS = 4.0, 50.0


def steps(text: str) -> tuple[int, ...]:
    """Read `10,50,100` into percentages that grow.

    Raises:
        InvalidInputError: they are none, or do not grow.
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not found[0] >= 1 or found[-1] > 100 or list(found) != sorted(set(found)):
        raise InvalidInputError(f"The ramp {text!r} is no list of growing percentages.", "Write --ramp 10,50,100 --every 10m.")
    return found


def seconds(text: str) -> float:
    """Read 30s, 10m or 2h.

    Raises:
        InvalidInputError: it is no time.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|m|h|d)", text.strip())
    if not found or not float(found[1]):
        raise InvalidInputError(f"{text!r} is no time between the steps of a ramp.", "Write --every 10m, or 30s, or 2h.")
    return float(found[1]) * _UNITS[found[2]]


@dataclass(frozen=True)
class Health:
    """What one variant did in this step: answers, failures, and the time of the answer in the middle (ms)."""

    answers: int
    failures: int
    median_ms: float


def trouble(champion: Health, challenger: Health) -> str | None:
    """Return why the challenger must give its traffic back, or None."""
    asked = challenger.answers + challenger.failures
    if challenger.failures >= _FAILURES:
        share = challenger.failures / asked
        other = champion.failures / max(1, champion.answers + champion.failures)
        if share > max(_FAILING, 3 * other):
            return f"it failed on {challenger.failures:,} of {asked:,} requests, where the champion fails on {other:.1%}"
    if min(champion.answers, challenger.answers) >= _TIMED:
        limit = max(_SLOWER * champion.median_ms, champion.median_ms + _SLOWER_MS)
        if challenger.median_ms > limit:
            return f"it takes {challenger.median_ms:.0f} ms in the middle, the champion {champion.median_ms:.1f} ms"
    return None


def following(ramp: Sequence[int], weight: int) -> int | None:
    """Return the step after `weight`, or None at the end."""
    return next((step for step in ramp if step > weight), None)
