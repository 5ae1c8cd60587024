"""A model folder answers the same in rows and in columns, and refuses what was changed."""

from __future__ import annotations

import math
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import ODD, make_model, rows_of

from jupyter_mlp.core.errors import InvalidInputError, StorageError
from jupyter_mlp.core.online import OnlineRecipe
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.serving.predictor import Predictor, json_ready
from jupyter_mlp.store.workspace import Workspace

ROW = {"dep_delay": 4.0, "carrier": "UA"}


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_rows_and_columns_give_the_same_answers(workspace: Workspace, task: str) -> None:
    predictor = Predictor.load(workspace.models / make_model(workspace, task=task))
    table = rows_of(300, seed=9, task=task).drop_columns(["target"])
    by_columns = predictor.predict_columns({name: table.column(name) for name in table.column_names})
    by_rows = predictor.answer(table.to_pylist())
    alone = [predictor.predict_rows([row])[0] for row in table.to_pylist()[:20]]
    assert np.allclose(by_columns.scores, by_rows.scores, atol=1e-5)
    assert by_columns.values[:20] == pytest.approx(alone, abs=1e-4) if task == "regression" else by_columns.values[:20] == alone


def test_classifiers_answer_labels_with_probabilities(workspace: Workspace) -> None:
    predictor = Predictor.load(workspace.models / make_model(workspace, task="multiclass"))
    found = predictor.answer([{"dep_delay": -40.0, "carrier": "AA"}, {"dep_delay": 80.0, "carrier": "AA"}])
    assert found.values == ["early", "late"]
    assert found.probabilities is not None and np.allclose(found.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"carrier": "UA"}, "dep_delay"),
        ({**ROW, "dep_delay": "late"}, "dep_delay"),
        ({**ROW, "dep_delay": float("nan")}, "dep_delay"),
        ({**ROW, "carrier": 3}, "carrier"),
        ({**ROW, "gate": "B2"}, "gate"),
    ],
)
def test_a_wrong_field_is_named(workspace: Workspace, row: dict[str, object], field: str) -> None:
    predictor = Predictor.load(workspace.models / make_model(workspace))
    with pytest.raises(InvalidInputError, match=field):
        predictor.answer([ROW, row])


def test_the_target_is_not_asked_for(workspace: Workspace) -> None:
    predictor = Predictor.load(workspace.models / make_model(workspace))
    with pytest.raises(InvalidInputError, match=r"instances\[0\].target is unknown") as caught:
        predictor.answer([{**ROW, "target": 3.0}])
    assert caught.value.hint == "It is what the model predicts: leave it out."


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("code/captured.py", "was changed since"),
        ("code/blocks/deep.py", "was changed since"),
        ("weights.safetensors", "was changed since"),
        ("code/torch.py", "was not there when"),
    ],
)
def test_files_of_a_model_with_code_that_were_edited_are_not_run(workspace: Workspace, file: str, said: str) -> None:
    folder = workspace.models / make_model(workspace, code=ODD, modules={"blocks/deep.py": "SIZE = 3\n"})
    Predictor.load(folder).close()
    with (folder / file).open("ab") as handle:
        handle.write(b"\nraise SystemExit('edited code runs')\n")
    with pytest.raises(StorageError, match=f"{file} {said} the model was registered") as refused:
        Predictor.load(folder)
    assert "train again" in refused.value.hint


def test_code_that_is_gone_is_named(workspace: Workspace) -> None:
    folder = workspace.models / make_model(workspace, code=ODD, modules={"blocks.py": ""})
    (folder / "code" / "blocks.py").unlink()
    with pytest.raises(StorageError, match=r"code/blocks\.py is gone since"):
        Predictor.load(folder)


_COLUMNS = {
    "number": pa.array([1.5, -2.0, None, 1e6]),
    "whole": pa.array([1, 2, 3, None]),
    "flag": pa.array([True, None, False, True]),
    "word": pa.array(["a", "b", None, "a"]),
    "moment": pa.array([datetime(2013, 1, 1, 5), datetime(1969, 7, 20, 20, 17, 40, 5), None, datetime(2013, 12, 31, 23, 59)]),
}
_VALUES = {
    "number": st.none() | st.floats(-1e12, 1e12),
    "whole": st.none() | st.integers(-(2**63), 2**63),
    "flag": st.none() | st.booleans(),
    "word": st.none() | st.sampled_from(["a", "b", "c", "", "é"]),
    "moment": st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.isoformat()),
}


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries(_VALUES), min_size=1, max_size=5))
def test_the_fast_path_for_a_few_rows_gives_the_recipes_numbers(rows: list[dict[str, object]]) -> None:
    table = pa.table(_COLUMNS)
    recipe = Recipe.infer(table.schema).fit(table.to_batches())
    fast = OnlineRecipe(recipe).rows(rows)
    assert fast is not None
    assert np.allclose(fast, recipe.rows(rows), rtol=1e-6, atol=1e-6)


_WIDE = {**{f"n{i}": pa.array([i * 1.5, -2.0, None, 1e6 * i]) for i in range(6)}, **{f"w{i}": _COLUMNS["whole"] for i in range(3)}}
_NUMBER = st.none() | st.floats(-3e38, 3e38) | st.integers(-(2**63), 2**63)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({**dict.fromkeys(_WIDE, _NUMBER), "word": _VALUES["word"]}), min_size=1, max_size=6))
def test_many_numbers_of_some_rows_taken_at_once_are_the_recipes(rows: list[dict[str, object]]) -> None:
    table = pa.table({**_WIDE, "word": _COLUMNS["word"]})
    recipe = Recipe.infer(table.schema).fit(table.to_batches())
    fast = OnlineRecipe(recipe).rows(rows)
    assert fast is not None
    assert np.allclose(fast, recipe.rows(rows), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("wrong", [1e39, -1e39, math.nan, math.inf, 10**400, True, "1.5", [1.5]])
def test_what_is_no_plain_number_among_many_is_left_to_the_recipe(wrong: object) -> None:
    table = pa.table({**_WIDE, "word": _COLUMNS["word"]})
    recipe = Recipe.infer(table.schema).fit(table.to_batches())
    good = {**dict.fromkeys(_WIDE, 1), "n0": None, "word": "a"}
    assert OnlineRecipe(recipe).rows([good] * 4) is not None
    assert OnlineRecipe(recipe).rows([good, good, {**good, "n1": wrong}, good]) is None


@given(
    st.dictionaries(st.sampled_from([*_VALUES, "other"]), st.none() | st.integers() | st.text() | st.booleans() | st.floats(), max_size=6)
)
def test_whatever_is_sent_the_answer_is_features_or_a_named_field(row: dict[str, object]) -> None:
    table = pa.table(_COLUMNS)
    recipe = Recipe.infer(table.schema).fit(table.to_batches())
    try:
        slow = recipe.rows([row])
    except (InvalidInputError, OverflowError, ValueError):
        slow = None
    fast = OnlineRecipe(recipe).rows([row])
    assert fast is None or (slow is not None and np.allclose(fast, slow, rtol=1e-6, atol=1e-6, equal_nan=True))


def test_missing_values_and_unseen_categories_are_answered(workspace: Workspace) -> None:
    predictor = Predictor.load(workspace.models / make_model(workspace))
    assert np.isfinite(predictor.predict_rows([{"dep_delay": None, "carrier": None}, {"dep_delay": 1, "carrier": "ZZ"}])).all()


def test_a_changed_graph_is_refused_before_it_is_read(workspace: Workspace) -> None:
    folder = workspace.models / make_model(workspace)
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(StorageError, match="was changed"):
        Predictor.load(folder)


def test_a_model_that_answers_nan_fails_its_check(workspace: Workspace) -> None:
    with pytest.raises(InvalidInputError, match="no finite number"):
        Predictor.load(workspace.models / make_model(workspace, constant=float("nan"))).check()


def test_values_become_what_a_request_carries() -> None:
    import pandas as pd

    assert json_ready(np.float32(1.5)) == 1.5
    assert json_ready(float("nan")) is None
    assert json_ready(pd.NaT) is None
    assert json_ready(pd.Timestamp("2013-01-01 05:00")) == "2013-01-01T05:00:00"
