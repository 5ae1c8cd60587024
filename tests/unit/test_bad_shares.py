"""What is said of shares stays true at every look: bounds hold what they must, and tallies say what lists would."""

from __future__ import annotations

import json
import math
import statistics

import numpy as np
import pytest

from jupyter_mlp.core import bad_shares
from jupyter_mlp.core.tallies import Tally


@pytest.mark.parametrize(("share", "kept"), [(0.01, 0.01), (0.01, 0.003), (0.2, 0.2), (0.9, 0.9)])
def test_evidence_does_not_grow_on_average_while_the_share_is_kept(share: float, kept: float) -> None:
    """What makes it true of all looks together: each request leaves the expected evidence as it is, or less."""
    for bad, asked in ((0, 0), (3, 10), (40, 200)):
        one_more, none_more = (math.exp(bad_shares.evidence(bad + more, asked + 1, share)) for more in (1, 0))
        assert kept * one_more + (1 - kept) * none_more <= math.exp(bad_shares.evidence(bad, asked, share)) * (1 + 1e-12)


def test_bounds_are_where_the_evidence_is_enough() -> None:
    for bad, asked in ((1, 10), (30, 100), (990, 1000), (7, 100_000)):
        low, high = bad_shares.lowest(bad, asked), bad_shares.highest(bad, asked)
        assert 0 <= low < bad / asked < high <= 1
        assert bad_shares.evidence(bad, asked, low) == pytest.approx(math.log(20), abs=1e-3)
    assert bad_shares.lowest(0, 10) == 0 and bad_shares.highest(10, 10) == 1 and bad_shares.highest(0, 0) == 1
    for asked in (1, 10, 500):
        least = bad_shares.fewest(asked, 0.5)
        assert least == asked + 1 or (bad_shares.is_more(least, asked, 0.5) and not bad_shares.is_more(least - 1, asked, 0.5))


def test_bounds_hold_the_truth_at_all_looks_of_nearly_all_streams() -> None:
    random = np.random.default_rng(4)
    missed = 0
    for _ in range(100):
        bad = (random.random(1000) < 0.1).cumsum()
        missed += any(
            not bad_shares.lowest(int(bad[at]), at + 1) <= 0.1 <= bad_shares.highest(int(bad[at]), at + 1) for at in range(19, 1000, 20)
        )
    assert missed <= 10, "5 % each"


def test_a_tally_says_what_a_list_would_and_travels_as_json() -> None:
    random = np.random.default_rng(5)
    times = random.lognormal(2, 1, 2001).tolist()
    tally = Tally.of(7, times[:900], [50.0]) + Tally.of(0, times[900:], [50.0])
    assert (tally.answers, tally.failures, tally.asked) == (2001, 7, 2008)
    assert tally.slower == {50.0: sum(ms > 50 for ms in times)}
    assert tally.median_ms == pytest.approx(statistics.median(times), rel=0.011)
    low, high = tally.median_between()
    assert low < statistics.median(times) < high and high / low < 1.5
    assert Tally.from_dict(json.loads(json.dumps(tally.to_dict()))) == tally
    assert Tally().median_ms == 0 and Tally.of(0, [1.0] * 3).median_between() == (0.0, math.inf)
