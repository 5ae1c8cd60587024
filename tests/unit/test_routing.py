"""Routing: weights, stickiness, and what a deploy does to the variants."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.serving.routing import Router, Variant, champion, checked, position, read, with_model, without_model

A, B, C = (Variant(name) for name in ("a", "b", "c"))


def test_first_deploy_takes_all_and_a_second_replaces_it() -> None:
    assert with_model((), "a") == (A,)
    assert with_model((A,), "b") == (B,)
    assert with_model((A,), "a") == (A,)


def test_traffic_leaves_the_rest_to_the_champion() -> None:
    canary = with_model((A,), "b", traffic=10)
    assert canary == (Variant("a", 90), Variant("b", 10))
    assert with_model(canary, "b", traffic=60) == (Variant("a", 40), Variant("b", 60))
    assert with_model(canary, "c", traffic=5) == (Variant("a", 95), Variant("c", 5))
    assert with_model(canary, "b") == (B,)
    assert with_model(canary, "b", traffic=100) == (B,)


def test_shadow_answers_nobody_and_survives_a_canary() -> None:
    shadowed = with_model((A,), "b", shadow=True)
    assert shadowed == (A, Variant("b", 0, shadow=True))
    assert with_model(shadowed, "c", traffic=10) == (Variant("a", 90), Variant("c", 10), Variant("b", 0, shadow=True))
    demoted = with_model((Variant("a", 90), Variant("b", 10)), "b", shadow=True)
    assert demoted == (A, Variant("b", 0, shadow=True))
    assert {Router(shadowed).choose() for _ in range(100)} == {"a"}
    assert Router(shadowed).shadows == ("b",)


@pytest.mark.parametrize(
    ("traffic", "shadow", "said"), [(0, False, "traffic is 0"), (101, False, "traffic is 101"), (10, True, "shadow takes no traffic")]
)
def test_out_of_range_says_what_to_write(traffic: int, shadow: bool, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as refused:
        with_model((A,), "b", traffic=traffic, shadow=shadow)
    assert "shadow=True" in refused.value.hint


def test_a_share_needs_somebody_to_share_with() -> None:
    with pytest.raises(InvalidInputError, match="no other model"):
        with_model((), "a", traffic=10)
    with pytest.raises(InvalidInputError, match="no other model"):
        with_model((A,), "a", shadow=True)


def test_a_model_is_taken_out_and_the_champion_takes_its_share() -> None:
    served = (Variant("a", 70), Variant("b", 30), Variant("c", 0, shadow=True))
    assert without_model(served, "c") == (Variant("a", 70), Variant("b", 30))
    assert without_model(served, "b") == (A, Variant("c", 0, shadow=True))
    assert without_model(served, "a") == (B, Variant("c", 0, shadow=True))
    with pytest.raises(InvalidInputError, match="No other model answers"):
        without_model((A, Variant("c", 0, shadow=True)), "a")
    with pytest.raises(NotFoundError, match="not behind this endpoint"):
        without_model(served, "d")


@pytest.mark.parametrize("weights", [[50, 40], [0, 100], [101, -1]])
def test_weights_that_do_not_make_100_are_refused(weights: list[int]) -> None:
    with pytest.raises(InvalidInputError):
        checked([Variant(str(i), weight) for i, weight in enumerate(weights)])


def test_a_model_named_twice_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="twice"):
        checked([Variant("a", 50), Variant("a", 50)])


@given(st.integers(1, 99))
def test_shares_are_kept_and_keys_stick(traffic: int) -> None:
    router = Router(with_model((A,), "b", traffic=traffic))
    chosen = [router.choose(f"user{i}") for i in range(2000)]
    assert chosen == [router.choose(f"user{i}") for i in range(2000)]
    assert abs(Counter(chosen)["b"] / 2000 - traffic / 100) < 0.05


def test_without_key_the_choice_is_random_in_proportion() -> None:
    router = Router(with_model((A,), "b", traffic=20))
    share = Counter(router.choose() for _ in range(20_000))["b"] / 20_000
    assert 0.18 < share < 0.22


@given(st.text() | st.integers())
def test_a_position_is_a_share(key: str | int) -> None:
    assert 0 <= position(key) < 1


def test_variants_travel_as_json() -> None:
    variants = with_model(with_model((A,), "b", traffic=10), "c", shadow=True)
    assert read([variant.to_dict() for variant in variants]) == variants
    assert champion(variants) == Variant("a", 90)
