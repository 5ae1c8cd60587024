"""Guards: read as they are written, broken by more than chance, kept where the promise is kept."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from jupyter_mlp.core import guards, ramps
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.guards import Guard
from jupyter_mlp.core.tallies import Tally

sys.path.insert(0, str(Path(__file__).parent.parent))
import proof_guards


def test_guards_are_read_and_what_is_none_is_refused() -> None:
    assert guards.read("error_rate<=1%") == guards.Guard("error_rate<=1%", 0.01)
    slow = guards.read(" p99 <= 0.05s ")
    assert slow.limit_ms == 50 and slow.share == pytest.approx(0.01)
    assert guards.read("p99.9<50ms").share == pytest.approx(0.001)
    for text in ("p99<=50", "error_rate<=1", "error_rate>=1%", "p00<=5ms", "mae<=1%", "", "error_rate<=100%"):
        with pytest.raises(InvalidInputError, match="is no guard"):
            guards.read(text)


def broken(limits: list[Guard], failures: int, times_ms: Iterable[float]) -> str | None:
    return guards.broken(limits, Tally.of(failures, times_ms, guards.limits_ms(limits)))


def test_more_than_chance_breaks_a_guard_and_chance_does_not() -> None:
    both = [guards.read("error_rate<=1%"), guards.read("p99<=50ms")]
    assert broken(both, 0, [10.0] * 99 + [60.0]) is None
    assert broken(both, 6, [10.0] * 94) == "6 of 100 requests failed (error_rate<=1%)"
    assert broken(both, 0, [10.0] * 94 + [60.0] * 6) == "6 of 100 requests took more than 50 ms (p99<=50ms)"
    assert broken(both, 0, []) is None
    assert broken([guards.read("error_rate<=0%")], 1, [1.0] * 1000) is not None
    chooser = random.Random(3)
    streams = [[chooser.choices([10.0, 60.0], [0.99, 0.01])[0] for _ in range(300)] for _ in range(1000)]
    wrong = sum(broken(both, 0, times) is not None for times in streams)
    assert wrong <= 4, "a p99 that is kept exactly"


def test_what_is_kept_stays_unbroken_however_often_one_looks_and_what_is_not_is_found_soon() -> None:
    """The short form of `make proof ARGS=guards`."""
    found = proof_guards.run(100, 3)
    assert [str(one) for one in found if one.share > one.bound + 0.04 and one.at_most] == []
    assert [str(one) for one in found if one.share < one.bound - 0.05 and not one.at_most] == []


def of(answers: int, failures: int, ms: float) -> Tally:
    return Tally.of(failures, [ms] * answers)


def test_a_slow_challenger_gives_back_and_a_quick_or_little_asked_one_does_not() -> None:
    champion = of(200, 0, 5.0)
    assert ramps.trouble(champion, of(200, 0, 54.0)) is None, "ten times as long, but no 50 ms longer"
    assert ramps.trouble(champion, of(200, 0, 56.0)) == "it takes 56 ms in the middle, the champion 5.0 ms"
    assert ramps.trouble(of(200, 0, 100.0), of(200, 0, 390.0)) is None, "50 ms longer, but not four times as long"
    assert ramps.trouble(of(200, 0, 100.0), of(200, 0, 410.0)) is not None
    assert ramps.trouble(champion, of(49, 0, 500.0)) is None and ramps.trouble(of(49, 0, 5.0), of(200, 0, 500.0)) is None


def test_a_challenger_that_fails_more_gives_back_and_one_that_fails_as_the_champion_does_not() -> None:
    assert ramps.trouble(of(990, 10, 5.0), of(80, 20, 5.0)) == "it failed on 20 of 100 requests, where the champion fails on 1.0%"
    assert ramps.trouble(of(30, 0, 5.0), of(0, 30, 5.0)) is not None
    assert ramps.trouble(of(990, 10, 5.0), of(96, 4, 5.0)) is None, "four of a hundred may be chance"
    assert ramps.trouble(of(80, 20, 5.0), of(80, 20, 5.0)) is None, "the champion does, too"
    assert ramps.trouble(of(0, 0, 5.0), of(96, 4, 5.0)) is None, "of the champion nothing is known"
