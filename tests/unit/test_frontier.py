"""The choice among measured ways to serve a model."""

from __future__ import annotations

import pytest

from jupyter_mlp.core import frontier
from jupyter_mlp.core.frontier import Limits, Point


def point(name: str, p99: float, high: float) -> Point:
    return Point(name, {}, p99 / 2, p99, 1000 / p99, 10.0, high / 2, high)


PLAIN, THREADS, INT8, TINY = point("plain", 8.0, 0.0), point("threads", 7.8, 0.0), point("int8", 3.0, 0.004), point("tiny", 2.9, 0.03)
ALL = [PLAIN, THREADS, INT8, TINY]


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        (Limits(5.0, 0.005), INT8),
        (Limits(None, 0.005), INT8),
        (Limits(10.0, 0.0), PLAIN),  # threads are faster by less than times vary
        (Limits(10.0, None), PLAIN),  # nothing is said of loss, so none is taken
        (Limits(5.0, None), INT8),
        (Limits(None, 0.05), INT8),  # tiny is as fast, and not plainer
        (Limits(2.0, 0.005), None),
        (Limits(5.0, 0.001), None),
    ],
)
def test_the_plainest_of_the_fastest_within_the_limits(limits: Limits, chosen: Point | None) -> None:
    assert frontier.choose(ALL, limits) is chosen


def test_the_nearest_needs_the_least_more() -> None:
    assert frontier.nearest(ALL, Limits(2.5, 0.005)) is INT8
    assert frontier.nearest(ALL, Limits(5.0, 0.001)) is THREADS  # 1.6 times the time, where int8 loses 4 times as much
    assert frontier.nearest(ALL, Limits(1.0, 0.0)) is THREADS


def test_the_frontier_holds_what_no_other_beats() -> None:
    assert frontier.frontier(ALL) == [TINY, INT8, THREADS]


def test_limits_are_read_as_they_are_typed() -> None:
    assert frontier.limits("5ms", "0.5%") == Limits(5.0, 0.005) == frontier.limits(5, 0.005)
    assert frontier.limits("0.2s", None) == Limits(200.0, None) and frontier.limits(None, None) is None
    assert str(Limits(5.0, 0.005)) == "p99 of at most 5 ms and a loss of at most 0.5 %"
