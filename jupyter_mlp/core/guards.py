"""What an endpoint's answers must keep to, in the user's words: `error_rate<=1%`, `p99<=50ms`.

All of them are shares: at most one percent of the answers may fail, at most one percent may take longer than 50 ms. A guard is broken
when more of them did than chance explains over all looks together (core/bad_shares.py), so that neither the first slow answer of ten nor
the thousandth look breaks what is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jupyter_mlp.core import bad_shares
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.tallies import Tally

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


def limits_ms(guards: Sequence[Guard]) -> list[float]:
    """Return the times that a tally must count the answers beyond, for these guards."""
    return [guard.limit_ms for guard in guards if guard.limit_ms is not None]


def broken(guards: Sequence[Guard], tally: Tally, alpha: float = bad_shares.ALPHA) -> str | None:
    """Return which guard is broken and by what, or None.

    Args:
        tally: of requests in which nothing was left out; it counts the answers beyond the limits of all guards.
        alpha: the chance that one of them looks broken at any look, where all are kept.
    """
    for guard in guards:
        if guard.limit_ms is None:
            bad, asked, did = tally.failures, tally.asked, "failed"
        else:
            bad, asked, did = tally.slower[guard.limit_ms], tally.answers, f"took more than {guard.limit_ms:g} ms"
        if bad_shares.is_more(bad, asked, guard.share, alpha / len(guards)):
            return f"{bad:,} of {asked:,} requests {did} ({guard.said})"
    return None
