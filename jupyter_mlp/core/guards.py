"""What an endpoint's answers must keep to, in the user's words: `error_rate<=1%`, `p99<=50ms`.

All of them are shares: at most one percent of the answers may fail, at most one percent may take longer than 50 ms. A guard is broken
when more of them did than chance explains, so that the first slow answer of ten breaks nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jupyter_mlp.core.errors import InvalidInputError

SURE = 0.001  # chance that a guard that is kept looks broken, at one look; small, because looks are many
_FORM = re.compile(r"(error_rate)\s*<=?\s*(\d+(?:\.\d+)?)\s*%|(p\d{2}(?:\.\d+)?)\s*<=?\s*(\d+(?:\.\d+)?)\s*(ms|s)")


@dataclass(frozen=True)
class Guard:
    """One limit.

    Attributes:
        said: in the user's words. `share`: of the requests that may break it. `limit_ms`: of an answer; None where failures count.
    """

    said: str
    share: float
    limit_ms: float | None = None


def read(text: str) -> Guard:
    """Read one guard.

    Raises:
        InvalidInputError: it is none.
    """
    found = _FORM.fullmatch(text.strip())
    if found and found[1] and float(found[2]) < 100:
        return Guard(text.strip(), float(found[2]) / 100)
    if found and found[3] and 0 < float(found[3][1:]) < 100:
        return Guard(text.strip(), 1 - float(found[3][1:]) / 100, float(found[4]) * (1000 if found[5] == "s" else 1))
    raise InvalidInputError(f"{text!r} is no guard.", "Write --guard 'error_rate<=1%' or --guard 'p99<=50ms'.")


def broken(guards: Sequence[Guard], failures: int, times_ms: Sequence[float]) -> str | None:
    """Return which guard is broken and by what, or None.

    Args:
        times_ms: of the requests that were answered.
    """
    for guard in guards:
        if guard.limit_ms is None:
            bad, asked, did = failures, failures + len(times_ms), "failed"
        else:
            bad, asked, did = sum(1 for one in times_ms if one > guard.limit_ms), len(times_ms), f"took more than {guard.limit_ms:g} ms"
        if bad and _chance(bad, asked, guard.share) < SURE:
            return f"{bad:,} of {asked:,} requests {did} ({guard.said})"
    return None


def _chance(bad: int, asked: int, share: float) -> float:
    """The chance of so many or more among so many, where each is bad with that share."""
    if bad <= share * asked:
        return 1.0
    if not share:
        return 0.0
    odds = share / (1 - share)
    first = math.lgamma(asked + 1) - math.lgamma(bad + 1) - math.lgamma(asked - bad + 1)
    term = math.exp(first + bad * math.log(share) + (asked - bad) * math.log1p(-share))
    total = term
    for count in range(bad, asked):  # the terms fall from here on
        term *= (asked - count) / (count + 1) * odds
        total += term
        if term < total * 1e-9:
            break
    return total
