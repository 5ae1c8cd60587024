"""When a cron line is due: summer time, month ends, what was missed."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from jupyter_mlp.core import cron
from jupyter_mlp.core.errors import InvalidInputError

ZURICH = "Europe/Zurich"


def at(text: str, zone: str = ZURICH) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def dues(line: str, after: str, until: str, zone: str = ZURICH) -> list[str]:
    return [cron.shown(moment, zone) for moment in cron.due(line, zone, at(after, zone), at(until, zone))]


def test_the_hour_that_is_skipped_and_the_hour_that_comes_twice() -> None:
    assert dues("30 2 * * *", "2026-03-28T12:00", "2026-03-30T12:00") == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
    assert dues("30 2 * * *", "2026-10-24T12:00", "2026-10-26T12:00") == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]
    twice = dues("*/30 * * * *", "2026-10-25T01:30", "2026-10-25T03:00")
    assert [moment[11:] for moment in twice] == ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00", "03:00+01:00"]


def test_month_ends_and_leap_years() -> None:
    assert dues("0 0 31 * *", "2026-01-01T00:00", "2026-06-01T00:00", "UTC") == [f"2026-{m}-31T00:00+00:00" for m in ("01", "03", "05")]
    assert dues("0 0 L * *", "2028-02-01T00:00", "2028-03-01T00:00", "UTC") == ["2028-02-29T00:00+00:00"]


@pytest.mark.parametrize("line", ["30 2 * * *", "*/30 * * * *", "15 1-3 * * 0", "0 0 L * *"])
def test_looking_often_and_looking_once_find_the_same(line: str) -> None:
    """A scheduler that looks at every quarter of an hour, restarted each time, plans what one that slept for a year finds."""
    for first, last in (("2026-03-27T00:00", "2026-03-31T00:00"), ("2026-10-23T00:00", "2026-10-27T00:00")):
        begin, end = at(first), at(last)
        seen, found, now = begin, [], begin
        while now < end:
            now += 900
            fresh = cron.due(line, ZURICH, seen, now)
            found += fresh
            seen = fresh[-1] if fresh else seen
        assert found == cron.due(line, ZURICH, begin, now)


def test_what_was_missed() -> None:
    ticks = [100.0, 200.0, 300.0]
    assert cron.kept(ticks, 301, "latest") == {300.0} and cron.kept(ticks, 301, "all") == set(ticks)
    assert cron.kept(ticks, 301, "skip") == {300.0} and cron.kept(ticks, 400, "skip") == set()


@pytest.mark.parametrize(
    ("line", "zone", "said"),
    [
        ("0 3 * *", "UTC", "has 4 fields, not 5"),
        ("61 3 * * *", "UTC", "cannot be read: bad minute"),
        ("0 0 31 2 *", "UTC", "is never due|cannot be read"),
        ("0 3 * * *", "Europe/Zurick", "no time zone Europe/Zurick"),
    ],
)
def test_what_cannot_be_due_is_refused(line: str, zone: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as refused:
        cron.check(line, zone)
    assert refused.value.hint


def test_times() -> None:
    assert [cron.seconds(text, "backoff") for text in ("30", "30s", "5min", "2h", "1d", 7)] == [30, 30, 300, 7200, 86400, 7]
    with pytest.raises(InvalidInputError, match="no time"):
        cron.seconds("soon", "timeout")
