"""The clock on the wall of a time zone, summer time included: one table of changes per zone, for columns and single moments."""

from __future__ import annotations

import datetime
from bisect import bisect_right
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

from jupyter_mlp.core.errors import InvalidInputError, nearest

if TYPE_CHECKING:
    import numpy as np

_DAY = 86_400
_FIRST, _LAST = -25_567 * _DAY, 47_482 * _DAY  # 1900 to 2100; before and after, the offset stays


def check(zone: str) -> str:
    """Return the zone.

    Raises:
        InvalidInputError: there is no such zone; the hint names the nearest.
    """
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise InvalidInputError(f"there is no time zone {zone}", nearest(zone, available_timezones())) from None
    return zone


def on_the_wall(seconds: np.ndarray, zone: str | None) -> np.ndarray:
    """Return moments (seconds since 1970, UTC) as what the zone's clocks showed; without a zone as they are."""
    if zone is None:
        return seconds
    import numpy as np

    changes, offsets = _table(zone)
    return seconds + np.array(offsets)[np.searchsorted(np.array(changes), seconds, side="right")]


def shown_at(seconds: float, zone: str | None) -> float:
    """Return one moment as `on_the_wall` does."""
    if zone is None:
        return seconds
    changes, offsets = _table(zone)
    return seconds + offsets[bisect_right(changes, seconds)]


@cache
def _table(zone: str) -> tuple[list[float], list[float]]:
    """The moments at which the offset changes, and the offset before, between and after them."""
    info = ZoneInfo(zone)
    changes: list[float] = []
    offsets = [_offset(info, _FIRST)]
    for day in range(_FIRST, _LAST, _DAY):
        if _offset(info, day + _DAY) != offsets[-1]:
            changes.append(float(_change(info, day, day + _DAY)))
            offsets.append(_offset(info, day + _DAY))
    return changes, offsets


def _change(info: ZoneInfo, before: int, after: int) -> int:
    old = _offset(info, before)
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _offset(info, middle) == old else (before, middle)
    return after


def _offset(info: ZoneInfo, seconds: int) -> float:
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(seconds=seconds)
    offset = moment.astimezone(info).utcoffset()
    return offset.total_seconds() if offset is not None else 0.0
