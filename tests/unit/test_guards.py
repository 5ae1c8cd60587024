"""Guards: read as they are written, broken by more than chance, kept where the promise is kept."""

from __future__ import annotations

import random

import pytest
from scipy import stats

from jupyter_mlp.core import guards, ramps
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.ramps import Health


def test_guards_are_read_and_what_is_none_is_refused() -> None:
    assert guards.read("error_rate<=1%") == guards.Guard("error_rate<=1%", 0.01)
    slow = guards.read(" p99 <= 0.05s ")
    assert slow.limit_ms == 50 and slow.share == pytest.approx(0.01)
    assert guards.read("p99.9<50ms").share == pytest.approx(0.001)
    for text in ("p99<=50", "error_rate<=1", "error_rate>=1%", "p00<=5ms", "mae<=1%", "", "error_rate<=100%"):
        with pytest.raises(InvalidInputError, match="is no guard"):
            guards.read(text)


def test_the_chance_is_that_of_the_binomial() -> None:
    for bad, asked, share in ((5, 20, 0.01), (30, 1000, 0.02), (2, 2, 0.05), (1000, 1000, 0.5), (150, 100_000, 0.001)):
        assert guards._chance(bad, asked, share) == pytest.approx(stats.binom.sf(bad - 1, asked, share), rel=1e-6)


def test_more_than_chance_breaks_a_guard_and_chance_does_not() -> None:
    both = [guards.read("error_rate<=1%"), guards.read("p99<=50ms")]
    assert guards.broken(both, 0, [10.0] * 99 + [60.0]) is None
    assert guards.broken(both, 6, [10.0] * 94) == "6 of 100 requests failed (error_rate<=1%)"
    assert guards.broken(both, 0, [10.0] * 94 + [60.0] * 6) == "6 of 100 requests took more than 50 ms (p99<=50ms)"
    assert guards.broken(both, 0, []) is None
    assert guards.broken([guards.read("error_rate<=0%")], 1, [1.0] * 1000) is not None
    chooser = random.Random(3)
    streams = [[chooser.choices([10.0, 60.0], [0.99, 0.01])[0] for _ in range(300)] for _ in range(1000)]
    wrong = sum(guards.broken(both, 0, times) is not None for times in streams)
    assert wrong <= 4, "a p99 that is kept exactly"


def test_a_slow_challenger_gives_back_and_a_quick_or_little_asked_one_does_not() -> None:
    champion = Health(200, 0, 5.0)
    assert ramps.trouble(champion, Health(200, 0, 54.0)) is None, "ten times as long, but no 50 ms longer"
    assert ramps.trouble(champion, Health(200, 0, 56.0)) == "it takes 56 ms in the middle, the champion 5.0 ms"
    assert ramps.trouble(Health(200, 0, 100.0), Health(200, 0, 390.0)) is None, "50 ms longer, but not four times as long"
    assert ramps.trouble(Health(200, 0, 100.0), Health(200, 0, 410.0)) is not None
    assert ramps.trouble(champion, Health(49, 0, 500.0)) is None and ramps.trouble(Health(49, 0, 5.0), Health(200, 0, 500.0)) is None
