"""Staged shifts: how traffic moves to a new model step by step, and when it must move back."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jupyter_mlp.core import bad_shares
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.tallies import Tally

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


def trouble(champion: Tally, challenger: Tally, alpha: float = bad_shares.ALPHA) -> str | None:
    """Return why the challenger must give its traffic back, or None.

    It must where it does much worse, and where that it does worse at all is more than chance explains over all looks together.

    Args:
        alpha: the chance that one must at any look that fails no more than the champion, and takes no longer in the middle.
    """
    sure = alpha / 4  # two questions, and of each two bounds that may be wrong
    if challenger.failures >= _FAILURES:
        share, other = challenger.failures / challenger.asked, champion.failures / max(1, champion.asked)
        usual = bad_shares.highest(champion.failures, champion.asked, sure)
        if share > 3 * other and bad_shares.lowest(challenger.failures, challenger.asked, sure) > max(_FAILING, usual):
            return f"it failed on {challenger.failures:,} of {challenger.asked:,} requests, where the champion fails on {other:.1%}"
    if is_slower(champion, challenger, alpha / 2):
        return f"it takes {challenger.median_ms:.0f} ms in the middle, the champion {champion.median_ms:.1f} ms"
    return None


def is_slower(usual: Tally, now: Tally, alpha: float = bad_shares.ALPHA) -> bool:
    """Whether answers take much longer in the middle than others: four times as long and 50 ms, and surely longer at all."""
    if min(usual.answers, now.answers) < _TIMED:
        return False
    limit = max(_SLOWER * usual.median_ms, usual.median_ms + _SLOWER_MS)
    return now.median_ms > limit and now.median_between(alpha / 2)[0] > usual.median_between(alpha / 2)[1]


def following(ramp: Sequence[int], weight: int) -> int | None:
    """Return the step after `weight`, or None at the end."""
    return next((step for step in ramp if step > weight), None)
