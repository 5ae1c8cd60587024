"""What a notebook keeps of an object: everything that tells it from another, in little room."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jupyter_mlp.core.cards import Card, Shown
from jupyter_mlp.frontends.display import MIME, bundle
from jupyter_mlp.notebook.compare import DIFFERENT, EQUAL, IDENTICAL, outputs


class Thing(Shown):
    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "answers", "predictions": self.values, "rows": len(self.values)}

    def card(self) -> Card:
        return Card("some answers")


def kept(values: list[Any]) -> dict[str, Any]:
    return {"output_type": "display_data", "data": json.loads(json.dumps(bundle(Thing(values))))}


NUMBERS = [0.5 * n * (-1) ** n for n in range(50_000)]


def test_a_long_list_takes_little_room() -> None:
    assert len(json.dumps(kept(NUMBERS))) < 40_000
    assert kept(NUMBERS[:100])["data"][MIME]["predictions"] == NUMBERS[:100]


@pytest.mark.parametrize(
    ("other", "verdict"),
    [
        (NUMBERS, IDENTICAL),
        ([x * (1 + 1e-9) for x in NUMBERS], EQUAL),
        ([*NUMBERS[:-1], NUMBERS[-1] * 1.5], DIFFERENT),
        ([*NUMBERS[:-3], NUMBERS[-1], NUMBERS[-2], NUMBERS[-3]], DIFFERENT),
        ([-x for x in NUMBERS], DIFFERENT),
        (NUMBERS[:-1], DIFFERENT),
    ],
)
def test_and_still_tells_a_difference(other: list[Any], verdict: str) -> None:
    assert outputs([kept(NUMBERS)], [kept(other)]).verdict == verdict


def test_labels_are_told_apart_too() -> None:
    labels = [f"class {n % 7}" for n in range(5_000)]
    assert outputs([kept(labels)], [kept(labels)]).verdict == IDENTICAL
    assert outputs([kept(labels)], [kept([*labels[:-1], "none"])]).verdict == DIFFERENT
