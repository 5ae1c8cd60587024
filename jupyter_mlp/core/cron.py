"""Times at which something is due, by a cron line on the clocks of a time zone.

As Debian's cron does it: what falls into the hour that summer time skips is due when that hour ends, what falls into the hour
that comes twice is due once, and lines that repeat through the day (`*/30 * * * *`) go on in real time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from jupyter_mlp.core import clock
from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError

LATEST, ALL, SKIP = "latest", "all", "skip"
CATCH_UP = (LATEST, ALL, SKIP)
LATE_S = 60.0  # what is found due later than this was missed
_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NICKNAMES = {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}


def check(line: str, zone: str) -> str:
    """Return the cron line as five fields.

    Raises:
        InvalidInputError: it is none, is never due, or there is no such time zone.
    """
    fields = _NICKNAMES.get(line.strip(), line.strip())
    try:
        clock.check(zone)
    except InvalidInputError as error:
        raise InvalidInputError(f"{error.message[0].upper()}{error.message[1:]}.", error.hint) from None
    if len(fields.split()) != 5:
        hint = "Give minute, hour, day of month, month, day of week: --cron '0 3 * * *'."
        count = len(fields.split())
        raise InvalidInputError(f"The cron line {line!r} has {count} field{'s' if count != 1 else ''}, not 5.", hint)
    if next(moments(fields, zone, datetime.now(UTC).timestamp()), None) is None:
        raise InvalidInputError(f"The cron line {line!r} is never due.", "Correct the day of the month, or the month.")
    return fields


def moments(line: str, zone: str, after: float) -> Iterator[float]:
    """Yield the moments after `after` at which a cron line is due, in seconds since 1970."""
    try:
        from cronsim import CronSim, CronSimError
    except ImportError:
        raise MissingPackageError("cronsim is not installed.", "pip install 'jupyter_mlp[notebook]'") from None
    try:
        found = CronSim(line, datetime.fromtimestamp(after, ZoneInfo(zone)))
    except CronSimError as error:
        hint = "Give minute, hour, day of month, month, day of week: --cron '0 3 * * *'."
        raise InvalidInputError(f"The cron line {line!r} cannot be read: {str(error).lower()}.", hint) from None
    for moment in found:
        yield moment.timestamp()


def due(line: str, zone: str, after: float, now: float, most: int = 10_000) -> list[float]:
    """Return what fell due after `after` and not after `now`, oldest first; at most so many."""
    found: list[float] = []
    for moment in moments(line, zone, after):
        if moment > now or len(found) == most:
            break
        found.append(moment)
    return found


def kept(ticks: list[float], now: float, policy: str) -> set[float]:
    """Return which of the ticks that fell due are run; the others are recorded as skipped."""
    if policy == ALL:
        return set(ticks)
    if policy == LATEST:
        return set(ticks[-1:])
    return {tick for tick in ticks[-1:] if now - tick <= LATE_S}


def shown(moment: float, zone: str, to: str = "minutes") -> str:
    """Return a moment as the clocks of a zone show it, `to` minutes or seconds, with the offset, so that it is one moment."""
    return datetime.fromtimestamp(moment, ZoneInfo(zone)).isoformat(timespec=to)


def seconds(text: str | float, what: str) -> float:
    """Read a time: 30, 30s, 5min, 2h, 1d.

    Raises:
        InvalidInputError: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d)?\s*", str(text))
    if found is None:
        raise InvalidInputError(f"{what} is {text!r}, which is no time.", f"Give seconds or a time, like {what}=30s, 5min, 2h.")
    return float(found[1]) * _UNITS[found[2] or "s"]


def local_zone() -> str:
    """Return the name of this machine's time zone; UTC where it has none."""
    named = os.environ.get("TZ", "").lstrip(":")
    target = os.path.realpath("/etc/localtime")
    candidates = [named, target.partition("zoneinfo/")[2], _text("/etc/timezone")]
    for name in filter(None, candidates):
        try:
            return clock.check(name)
        except InvalidInputError:
            continue
    return "UTC"


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
