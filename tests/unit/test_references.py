"""References as text."""

from pathlib import Path

import pyarrow as pa
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.data import TableVersion


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


@pytest.mark.parametrize(
    "what", ["trips", Path("trips"), Ref("dataset", "trips", "1f"), TableVersion(Ref("table", "lake.t", "1"), 0, (), "")]
)
def test_whatever_names_a_thing_is_text(what: object) -> None:
    assert named(what) == getattr(what, "ref", str(what))


@pytest.mark.usefixtures("workspace")
def test_what_a_verb_returned_names_itself() -> None:
    table = mlp.write_table("lake.numbers", pa.table({"n": [1]}))
    assert mlp.graph(table).to_dict() == mlp.graph(table.ref).to_dict()
    assert mlp.impact(table).to_dict() == mlp.impact(table.ref).to_dict()
    assert mlp.pin(table).to_dict()["pinned"] == table.ref
    for verb in (mlp.dataset, mlp.forget, mlp.verify, mlp.monitor, mlp.impact):
        with pytest.raises(InvalidInputError, match="3 names nothing here"):
            verb(3)
