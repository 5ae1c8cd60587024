"""References as text."""

import pytest

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.references import Ref


@pytest.mark.parametrize("text", ["table:lake.flights@123", "dataset:trips", "model:1f3c-aa", "file:/a/b.csv@0"])
def test_text_and_back(text: str) -> None:
    assert str(Ref.parse(text)) == text


def test_the_kind_can_be_left_out_where_it_is_known() -> None:
    assert Ref.parse("trips@1f", kind="dataset") == Ref("dataset", "trips", "1f")


@pytest.mark.parametrize("text", ["", "nonsense:x", "dataset:", "dataset:a b", "dataset:a@b@c", "trips"])
def test_what_is_no_reference_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        Ref.parse(text)
    assert "dataset:" in refused.value.hint


def test_another_kind_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        Ref.parse("model:x", kind="dataset")
