"""Orders within groups, against torchmetrics and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR, RetrievalNormalizedDCG

from jupyter_mlp.core import ranking
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.ranking import Groups

RANDOM = np.random.default_rng(5)


@pytest.mark.parametrize("k", [1, 5, 100])
def test_relevant_or_not_is_torchmetrics(k: int) -> None:
    group, score = RANDOM.integers(0, 60, 900), RANDOM.random(900)
    relevance = (RANDOM.random(900) < 0.15).astype(float)  # some groups have nothing relevant
    groups = Groups.of(relevance, group.tolist(), k)
    found = ranking.estimates(groups, groups.measured(score))
    peers = {f"ndcg@{k}": RetrievalNormalizedDCG("skip", top_k=k), "map": RetrievalMAP("skip"), "mrr": RetrievalMRR("skip")}
    assert list(found) == list(peers)
    for name, peer in peers.items():
        expected = peer(torch.from_numpy(score), torch.from_numpy(relevance).long(), indexes=torch.from_numpy(group))
        assert found[name].value == pytest.approx(float(expected), abs=1e-6), name
        assert found[name].low < found[name].value < found[name].high
    assert any("nothing" in note or "without a relevant row" in note for note in groups.notes) == (groups.skipped > 0)


def test_grades_are_scikit_learns_ndcg_alone() -> None:
    grades, scores = RANDOM.integers(0, 5, (40, 12)).astype(float), RANDOM.random((40, 12))
    groups = Groups.of(grades.ravel(), np.repeat([f"user {n}" for n in range(40)], 12).tolist(), 10)
    found = ranking.estimates(groups, groups.measured(scores.ravel()))
    assert list(found) == ["ndcg@10"] and found["ndcg@10"].value == pytest.approx(ndcg_score(grades, scores, k=10))
    assert "MAP and MRR are left out" in groups.notes[-1]


def test_a_model_that_says_always_the_same_gets_what_chance_gets() -> None:
    relevance = np.tile([1.0, 0.0, 0.0, 0.0], 2000)  # the data's own order would be perfect
    groups = Groups.of(relevance, np.repeat(np.arange(2000), 4).tolist(), 10)
    same = dict(zip(groups.names, groups.measured(np.zeros(8000)).mean(axis=0), strict=True))
    assert same == pytest.approx(groups.baseline, abs=0.02)
    assert groups.baseline["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4, abs=0.01)


def test_what_cannot_be_ordered_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="down to -1") as refused:
        Groups.of(np.array([1.0, -1.0]), ["a", "a"], 10)
    assert "--task ranking" in refused.value.hint
    with pytest.raises(InvalidInputError, match="No group has a relevant row"):
        Groups.of(np.zeros(2), ["a", "a"], 10)


def test_groups_of_one_row_are_told() -> None:
    assert "1 groups have one row" in Groups.of(np.array([1.0, 1.0, 0.0]), ["a", "b", "b"], 10).notes[0]
