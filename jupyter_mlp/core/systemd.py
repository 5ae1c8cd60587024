"""How systemd writes what we say: the words of a command, and a cron line as OnCalendar=Mon,Fri *-*-01 03:00:00 Europe/Zurich."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

from jupyter_mlp.core.errors import InvalidInputError

_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def quoted(words: Iterable[str], *, variables: bool = True) -> str:
    """Return words for a line of a unit, so that none of it is taken for a specifier, a variable or another line.

    Args:
        variables: whether the line is one where `$` names a variable: a command does, Environment= does not.

    Raises:
        InvalidInputError: a word has a line break, which no line can hold.
    """
    return " ".join(f'"{_escaped(word, "$$" if variables else "$")}"' for word in words)


def _escaped(word: str, dollar: str) -> str:
    if re.search(r"[\r\n\0]", word):
        raise InvalidInputError(f"A line of systemd cannot hold {word!r:.60}.", "Give a value without line breaks, or another --template.")
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", dollar)


def calendars(line: str, zone: str) -> list[str]:
    """Return the times of a cron line that has been checked; two where day of month and day of week each count.

    Raises:
        InvalidInputError: systemd has no word for it.
    """
    from cronsim import CronSim

    cron = CronSim(line, datetime.now(UTC))
    weekdays = {one for one in cron.weekdays if isinstance(one, int)}
    if len(weekdays) < len(cron.weekdays) or min(cron.days) < 0:  # the last day, the second Friday
        raise InvalidInputError(f"systemd has no word for the cron line {line!r}.", "Name days by their numbers: --cron '0 3 1 * *'.")
    months, days = _list(cron.months, 12), _list(cron.days, 31)
    time = f"{_list(cron.hours, 24)}:{_list(cron.minutes, 60)}:00 {zone}"
    every_weekday = len({one % 7 for one in weekdays}) == 7
    week = "" if every_weekday else ",".join(dict.fromkeys(_DAYS[one] for one in sorted(weekdays))) + " "
    if cron.day_and or every_weekday or days == "*":
        return [f"{week}*-{months}-{days} {time}"]
    return [f"{week}*-{months}-* {time}", f"*-{months}-{days} {time}"]


def _list(values: Collection[int], count: int) -> str:
    return "*" if len(values) == count else ",".join(f"{one:02}" for one in sorted(values))
