"""Two models on the same rows, against SciPy, and against what intervals and tests promise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from jupyter_mlp.core import metrics, paired


@pytest.mark.parametrize("count", [2, 3, 10, 57, 1000, 30_000, 900_000])
@pytest.mark.parametrize("shift", [0.0, 0.02, 0.4])
def test_the_paired_t_test_is_scipys(count: int, shift: float) -> None:
    random = np.random.default_rng(count)
    first, second = random.normal(size=count), random.normal(shift, 1, size=count)
    assert paired.paired_t(second - first) == pytest.approx(stats.ttest_rel(second, first).pvalue, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 1), (5, 0), (3, 9), (10, 10), (120, 180), (9_000, 9_400), (100, 40_000)])
def test_mcnemar_is_the_exact_binomial_test(a: int, b: int) -> None:
    expected = stats.binomtest(min(a, b), a + b, 0.5).pvalue if a + b else 1.0
    assert paired.mcnemar(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_paired_intervals_are_far_tighter_than_those_of_two_models_alone() -> None:
    random = np.random.default_rng(1)
    observed = random.normal(size=3000)
    noise = random.normal(size=3000)  # what both models share
    first, second = observed + noise, observed + 0.95 * noise
    found = paired.differences(metrics.regression, observed, first, second)["mae"]
    alone = metrics.estimates(metrics.regression, observed, first)["mae"]
    assert found.low < found.value < found.high < 0
    assert found.high - found.low < (alone.high - alone.low) / 5
    assert found.share == pytest.approx(0.05) and found.share_low == pytest.approx(0.05, abs=1e-6)
    assert (found.first, found.second) == pytest.approx((np.abs(first - observed).mean(), np.abs(second - observed).mean()))


def test_intervals_hold_no_difference_about_95_times_of_100_and_the_test_agrees() -> None:
    held = told = 0
    for trial in range(100):
        random = np.random.default_rng(trial)
        observed, first, second = random.normal(size=(3, 300))
        found = paired.differences(metrics.regression, observed, first, second, seed=trial)["mae"]
        held += found.low <= 0 <= found.high
        told += paired.shown(paired.test("regression", observed, first, second), found)
    assert 88 <= held <= 100 and told <= 12


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_classifiers_are_compared_by_the_rows_that_only_one_gets_right(task: str) -> None:
    observed = np.array([1, 1, 1, 0, 0, 1] * 50)
    first = np.where(np.arange(300) % 3 == 0, 1 - observed, observed).astype(float)
    chances = [first, observed.astype(float)]
    if task == "multiclass":
        chances = [np.stack([1 - one, one], axis=1) for one in chances]
    found = paired.test(task, observed, *chances)
    assert (found.counts, found.metric) == ((0, 100), "accuracy") and found.p < 1e-20
    accuracy = paired.differences(metrics.OF_TASK[task], observed, *chances)["accuracy"]
    assert accuracy.value == pytest.approx(1 / 3) and paired.shown(found, accuracy) and paired.better("accuracy", accuracy)


def test_a_model_is_no_better_than_itself() -> None:
    random = np.random.default_rng(4)
    observed, said = random.normal(size=(2, 200))
    found = paired.differences(metrics.regression, observed, said, said)
    assert all((one.value, one.low, one.high) == (0, 0, 0) for one in found.values())
    assert paired.test("regression", observed, said, said).p == 1.0
