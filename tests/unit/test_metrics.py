"""Metrics against scikit-learn, and intervals against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as peer

from jupyter_mlp.core import metrics

RANDOM = np.random.default_rng(3)


def _ones(n: int) -> np.ndarray:
    return np.ones(n)


def test_regression_agrees_with_scikit_learn() -> None:
    observed = RANDOM.normal(5, 3, 501)
    predicted = observed + RANDOM.normal(0, 1, 501)
    found = metrics.regression(observed, predicted, _ones(501))
    assert found["mae"] == pytest.approx(peer.mean_absolute_error(observed, predicted))
    assert found["rmse"] == pytest.approx(peer.mean_squared_error(observed, predicted) ** 0.5)
    assert found["r2"] == pytest.approx(peer.r2_score(observed, predicted))
    assert found["median_ae"] == pytest.approx(peer.median_absolute_error(observed, predicted))


def test_binary_agrees_with_scikit_learn_ties_included() -> None:
    chance = np.round(RANDOM.random(700), 1)
    observed = (RANDOM.random(700) < chance).astype(float)
    found = metrics.binary(observed, chance, _ones(700))
    assert found["auc"] == pytest.approx(peer.roc_auc_score(observed, chance))
    assert found["accuracy"] == pytest.approx(peer.accuracy_score(observed, chance >= 0.5))
    assert found["f1"] == pytest.approx(peer.f1_score(observed, chance >= 0.5))
    inside = np.clip(chance, 1e-15, 1 - 1e-15)
    assert found["log_loss"] == pytest.approx(peer.log_loss(observed, inside), rel=1e-6)
    assert found["calibration_error"] < 0.1


def test_weights_count_rows() -> None:
    chance, observed = RANDOM.random(300), (RANDOM.random(300) < 0.4).astype(float)
    weights = RANDOM.integers(0, 4, 300)
    repeated = np.repeat(np.arange(300), weights)
    weighed = metrics.binary(observed, chance, weights.astype(float))
    copied = metrics.binary(observed[repeated], chance[repeated], _ones(len(repeated)))
    assert weighed == pytest.approx(copied)


def test_multiclass_agrees_with_scikit_learn() -> None:
    observed = RANDOM.integers(0, 4, 400)
    chances = RANDOM.dirichlet(np.ones(4), 400)
    found = metrics.multiclass(observed, chances, _ones(400))
    said = chances.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(peer.accuracy_score(observed, said))
    assert found["macro_f1"] == pytest.approx(peer.f1_score(observed, said, average="macro"))
    assert found["log_loss"] == pytest.approx(peer.log_loss(observed, chances, labels=range(4)))
    assert (metrics.confusion(observed, said, 4) == peer.confusion_matrix(observed, said, labels=range(4))).all()


def test_metrics_of_each_class_are_those_of_scikit_learn() -> None:
    observed, said = RANDOM.integers(0, 4, 400), RANDOM.integers(0, 3, 400)  # nobody says the last class
    found = metrics.estimates(metrics.per_class(5), observed, said)  # nobody is of a fifth
    precision, recall, f1, _ = peer.precision_recall_fscore_support(observed, said, labels=range(5), zero_division=np.nan)
    for number in range(5):
        for name, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
            one = found[f"{name} {number}"]
            assert one.value == pytest.approx(expected[number], nan_ok=True), (name, number)
            assert np.isnan(one.value) or one.low <= one.value <= one.high


def test_roc_ends_at_one_and_has_the_same_area() -> None:
    chance, observed = RANDOM.random(5000), (RANDOM.random(5000) < 0.5).astype(float)
    false, true = metrics.roc(observed, chance)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(metrics.auc(observed, chance, _ones(5000)), abs=0.01)


def test_intervals_hold_the_truth_about_95_times_of_100() -> None:
    held = 0
    for trial in range(100):
        random = np.random.default_rng(trial)
        error = random.normal(0, 1, 200)
        interval = metrics.estimates(metrics.regression, np.zeros(200), error, seed=trial)["rmse"]
        held += interval.low <= 1.0 <= interval.high
    assert 88 <= held <= 100


def test_intervals_are_the_same_every_time() -> None:
    observed, predicted = RANDOM.normal(size=300), RANDOM.normal(size=300)
    assert metrics.estimates(metrics.regression, observed, predicted) == metrics.estimates(metrics.regression, observed, predicted)


def test_one_class_only_has_no_auc_and_no_error() -> None:
    found = metrics.estimates(metrics.binary, np.ones(20), np.full(20, 0.7))
    assert np.isnan(found["auc"].value)
    assert found["accuracy"].value == 1.0


def test_psi_is_zero_for_the_same_and_large_for_another() -> None:
    assert metrics.psi([100, 200, 300], [100, 200, 300]) == 0
    assert metrics.psi([100, 200, 300], [110, 190, 300]) < 0.01
    assert metrics.psi([300, 200, 100, 0], [0, 100, 200, 300]) > 1
