"""Drift: p values as scipy has them, false alarms at the rate that is promised, planted drift found, large samples without news."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from jupyter_mlp.core import drift
from jupyter_mlp.core.recipe import Recipe

WORDS = ["UA", "AA", "DL", "WN"]


def test_the_chances_are_those_of_scipy() -> None:
    for value, freedom in ((0.3, 1), (3.84, 1), (12.0, 4), (40.0, 25), (300.0, 64), (2000.0, 10)):
        assert drift.chi_square_tail(value, freedom) == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-9, abs=1e-300)
    for distance, then, now in ((0.02, 2000, 500), (0.07, 2000, 500), (0.2, 300, 200)):
        expected = stats.kstwobign.sf(distance * np.sqrt(then * now / (then + now)))
        assert drift.kolmogorov(distance, then, now) == pytest.approx(expected, abs=1e-9)
    table = [[300, 200, 100], [90, 80, 60]]
    assert drift.chi_square(*table) == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue)


def test_benjamini_hochberg_takes_the_largest_rank_that_fits() -> None:
    chances = [0.04, 0.001, 0.03, 0.9, 0.012]
    expected = (stats.false_discovery_control(chances) <= 0.05).tolist()
    assert drift.benjamini_hochberg(chances, 0.05) == expected and sum(expected) == 4
    assert drift.benjamini_hochberg([], 0.05) == []


def rows(random: np.random.Generator, count: int, features: int = 8, **moved: float) -> pa.Table:
    """Numbers of several shapes, with gaps and ties, and categories."""
    found: dict[str, Any] = {}
    for at in range(features // 2):
        numbers = [random.normal(0, 1, count), random.exponential(1, count), random.integers(0, 6, count), random.uniform(0, 1, count)][at]
        numbers = numbers + moved.get(f"n{at}", 0.0)
        found[f"n{at}"] = pa.array(numbers.astype(float), mask=random.random(count) < 0.03 + moved.get(f"gap{at}", 0.0))
        shares = np.array([0.5 - moved.get(f"c{at}", 0.0), 0.3, 0.19, 0.01 + moved.get(f"c{at}", 0.0)])
        found[f"c{at}"] = pa.array(random.choice(WORDS, count, p=shares))
    return pa.table(found)


def known(table: pa.Table) -> dict[str, Any]:
    table = table.append_column("target", pa.array(np.arange(len(table)) % 2 == 0))
    return dict(Recipe.infer(table.schema, "target", "binary").fit(table.to_batches()).statistics)


def judged(learned: dict[str, Any], table: pa.Table) -> dict[str, tuple[drift.Compared, str]]:
    found = [drift.compare(name, learned[name], table.column(name).to_pylist()) for name in table.schema.names]
    compared = [one for one in found if one is not None]
    return {one.name: (one, verdict) for one, verdict in zip(compared, drift.verdicts(compared), strict=True)}


def test_without_drift_there_are_no_more_false_alarms_than_promised() -> None:
    random = np.random.default_rng(5)
    alarms = significant = 0
    runs = 300
    for run in range(runs):
        learned = known(rows(random, 2000))
        found = judged(learned, rows(random, [200, 500, 3000][run % 3]))
        significant += any(drift.benjamini_hochberg([one.p for one, _ in found.values()], drift.FALSE_ALARMS))
        alarms += any(verdict == "drifted" for _, verdict in found.values())
    allowed = drift.FALSE_ALARMS * runs + 2 * (runs * drift.FALSE_ALARMS * (1 - drift.FALSE_ALARMS)) ** 0.5
    assert significant <= allowed, f"{significant} of {runs} by the tests alone"
    assert alarms <= 1, f"{alarms} of {runs} with the size of the change, too"


@pytest.mark.parametrize("moved", [{"n0": 0.7}, {"n3": 0.4}, {"gap1": 0.5}, {"c2": 0.3}])
def test_planted_drift_is_found_where_it_is_and_nowhere_else(moved: dict[str, float]) -> None:
    random = np.random.default_rng(6)
    hits = 0
    for _ in range(20):
        found = judged(known(rows(random, 2000)), rows(random, 400, **moved))
        wanted = {name.replace("gap", "n") for name in moved}
        hits += {name for name, (_, verdict) in found.items() if verdict == "drifted"} == wanted
    assert hits == 20


def test_a_large_sample_makes_no_news_of_nothing() -> None:
    random = np.random.default_rng(7)
    found = judged(known(rows(random, 50_000)), rows(random, 50_000, n0=0.06))
    one, verdict = found["n0"]
    assert one.p < 1e-6 and one.psi < 0.02 and verdict == "as trained"


def test_missing_and_what_training_never_saw_are_told_as_shares() -> None:
    random = np.random.default_rng(8)
    learned = known(rows(random, 2000))
    now = rows(random, 1000, n3=0.25).to_pylist()
    for row in now[:300]:
        row["c0"] = "ZZ"
        row["n0"] = None
    n3 = drift.compare("n3", learned["n3"], [row["n3"] for row in now])
    c0 = drift.compare("c0", learned["c0"], [row["c0"] for row in now])
    n0 = drift.compare("n0", learned["n0"], [row["n0"] for row in now])
    assert n3 is not None and c0 is not None and n0 is not None
    assert n3.outside == pytest.approx(0.25, abs=0.05) and c0.outside == 0.3
    assert n0.missing == pytest.approx(0.32, abs=0.03) and n0.was_missing == pytest.approx(0.03, abs=0.015)


def test_more_values_than_are_written_down_are_no_drift() -> None:
    random = np.random.default_rng(9)
    table = pa.table({"word": pa.array(random.integers(0, 1000, 5000).astype(str)), "target": pa.array([True, False] * 2500)})
    learned = Recipe.infer(table.schema, "target", "binary").fit(table.to_batches()).statistics["word"]
    same = random.integers(0, 1000, 3000).astype(str).tolist()
    for given in (learned, {name: value for name, value in learned.items() if name != "other"}):  # an older model's, too
        one = drift.compare("word", given, same)
        assert one is not None and drift.verdicts([one]) == ["as trained"] and one.outside is None
    other = drift.compare("word", learned, ["0"] * 3000)
    assert other is not None and drift.verdicts([other]) == ["drifted"]


def test_what_was_answered_is_described_like_a_column() -> None:
    random = np.random.default_rng(10)
    then, now = random.normal(0, 1, 3000).tolist(), random.normal(0, 1, 500).tolist()
    same = drift.compare("prediction", drift.described(then, False), now)
    moved = drift.compare("prediction", drift.described(then, False), [value + 1 for value in now])
    assert same is not None and moved is not None and drift.verdicts([same, moved]) == ["as trained", "drifted"]
    classes = drift.described([True, False, True] * 500, True)
    odd = drift.compare("prediction", classes, [True] * 300, True)
    assert odd is not None and odd.test == "chi-square" and drift.verdicts([odd]) == ["drifted"]
    assert drift.compare("prediction", drift.described([], False), []) is None


def test_times_are_compared_as_numbers() -> None:
    day = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    stamps = [day.timestamp() + 60 * i for i in range(1000)]
    told = [(day + datetime.timedelta(minutes=i)).isoformat() for i in range(0, 1000, 2)]
    one = drift.compare("time", drift.described(stamps, False), told)
    assert one is not None and one.missing == 0 and drift.verdicts([one]) == ["as trained"]
