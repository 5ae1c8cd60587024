"""Forecasts beside the naive one, and intervals of errors that are alike from one time to the next."""

from __future__ import annotations

import numpy as np
import pytest

from jupyter_mlp.core import forecasts, metrics
from jupyter_mlp.core.errors import InvalidInputError


def test_smape_and_mase_are_their_definitions() -> None:
    training = [("a", t, v) for t, v in enumerate([1.0, 3.0, 2.0, 6.0])] + [("b", t, 10.0 * t) for t in range(4)]
    rows = [("b", 4, 40.0), ("a", 4, 8.0), ("a", 5, 7.0)]
    known = forecasts.history(rows, training, 1)
    assert known.naive.tolist() == [30.0, 6.0, 8.0]
    assert known.scale.tolist() == pytest.approx([10.0, 7 / 3, 7 / 3])
    said = np.array([35.0, 10.0, 7.0])
    found = forecasts.regression(np.stack([[40.0, 8.0, 7.0], known.scale], axis=1), said, np.ones(3))
    assert found["mase"] == pytest.approx(np.mean([5 / 10, 2 / (7 / 3), 0.0]))
    assert found["smape"] == pytest.approx(100 * np.mean([2 * 5 / 75, 2 * 2 / 18, 0.0]))
    assert found["mae"] == pytest.approx(7 / 3)


def test_a_season_looks_as_far_back() -> None:
    training = [("a", t, float(t % 7)) for t in range(28)]
    known = forecasts.history([("a", 28, 0.0), ("a", 29, 1.0)], training, 7)
    assert known.naive.tolist() == [0.0, 1.0] and np.isnan(known.scale).all(), "a perfect season has no unit"
    with pytest.raises(InvalidInputError, match="No row has a value 7 steps before"):
        forecasts.history([("a", 0, 1.0)], [], 7)


def test_errors_that_are_alike_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    held = [0, 0]
    for trial in range(60):
        noise = random.normal(size=400)
        error = np.zeros(400)
        for at in range(1, 400):
            error[at] = 0.8 * error[at - 1] + noise[at]
        truth = float(np.sqrt(1 / (1 - 0.64)))  # the standard deviation that the process has
        blocks = np.arange(400) // 20
        for which, together in enumerate((None, blocks)):
            one = metrics.estimates(metrics.regression, np.zeros(400), error, seed=trial, blocks=together)["rmse"]
            held[which] += one.low <= truth <= one.high
    assert held[1] > held[0] and held[1] >= 48, held
