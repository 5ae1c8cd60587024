"""Notebooks as data: cells, parameters, steps; nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.notebook import document, graph, record
from jupyter_mlp.notebook.document import Document

PARAMETERS = "month: int = 1\nname = 'a'\nrate: float = 0.5\nflags: list[int] = []\nwhen: str | None = None\ncomputed = 1 + 1\nfull = False"


def notebook(*cells: str, parameters: str = "") -> Document:
    made = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    texts = [nbformat.v4.new_markdown_cell(c) if c.startswith("# ") else nbformat.v4.new_code_cell(c) for c in cells]
    return document.new([*made, *texts])


def test_parameters_have_types_from_annotation_or_default() -> None:
    found = notebook(parameters=PARAMETERS).parameters
    assert {name: one.type for name, one in found.items()} == {
        "month": int, "name": str, "rate": float, "flags": list, "when": str, "computed": None, "full": bool,
    }  # fmt: skip
    assert notebook("x = 1").parameters == {}


@pytest.mark.parametrize(
    ("given_values", "expected"),
    [
        ({"month": "2"}, {"month": 2}),
        ({"rate": "3"}, {"rate": 3.0}),
        ({"name": "2"}, {"name": "2"}),
        ({"flags": "[1, 2]"}, {"flags": [1, 2]}),
        ({"when": "None"}, {"when": "None"}),
        ({"when": None}, {"when": None}),
        ({"full": "True", "computed": "x"}, {"full": True, "computed": "x"}),
    ],
)
def test_texts_become_what_the_parameter_is(given_values: dict[str, Any], expected: dict[str, Any]) -> None:
    found = notebook(parameters=PARAMETERS).checked(given_values)
    assert found == expected and {type(v) for v in found.values()} == {type(v) for v in expected.values()}


@pytest.mark.parametrize(
    ("name", "value", "said", "hint"),
    [
        ("mont", 1, "no parameter mont", "Did you mean month?"),
        ("month", "x", "'x', not an int", "month=1"),
        ("month", 2.5, "2.5, not an int", "month=1"),
        ("month", True, "True, not an int", "month=1"),
        ("full", 1, "1, not a bool", "full=False"),
        ("rate", float("nan"), "nan, not a float", "rate=0.5"),
        ("x = 1\nimport os", 1, "no parameter x = 1", "Known"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: Any, said: str, hint: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        notebook(parameters=PARAMETERS).checked({name: value})
    assert said in error.value.message and hint in error.value.hint


@given(st.text(), st.none() | st.text() | st.integers() | st.floats() | st.lists(st.integers()))
def test_no_name_or_value_is_ever_code(name: str, value: Any) -> None:
    """Whatever is given, it is a declared name with a plain value, or a sentence."""
    try:
        found = notebook(parameters=PARAMETERS).checked({name: value})
    except InvalidInputError as refused:
        found = {}
        said = str(refused).split("\n", 1)
    else:
        said = ["taken", "as it is"]
    assert len(said) == 2 and set(found) <= {"month", "name", "rate", "flags", "when", "computed", "full"}


FLOW = notebook(
    "# Data",
    "import pandas as pd\nrows = pd.DataFrame({'a': [1]})",
    "%mlp_table lake.t rows",
    "%%mlp_data trips -p month\nSELECT * FROM lake.t JOIN other USING (a) WHERE m = :month",
    "# Model",
    "import lightning as L\nclass Net(L.LightningModule):\n    size = len(rows)",
    "run = %mlp_train Net --data trips --target=y",
    "%mlp_evaluate run --data trips",
    "%mlp_deploy Net --to delays",
    "%mlp_predict endpoint:delays --data rows --into said",
    "%mlp_monitor delays",
    "said.to_pandas().plot()",
    parameters="month: int = 1",
)


def test_steps_know_what_they_read_and_make() -> None:
    steps = graph.steps_of(FLOW)
    by_name = {step.name: step for step in steps}
    assert by_name["table lake.t"].makes == ("table:lake.t",) and "rows" in by_name["table lake.t"].reads
    assert set(by_name["data trips"].reads) == {"table:lake.t", "dataset:other"}
    assert by_name["data trips"].makes == ("dataset:trips", "trips")
    assert by_name["Net"].heading == "Model" and "rows" in by_name["Net"].reads
    assert by_name["train Net"].makes == ("model:Net", "run")
    links = {(a.split(" ", 1)[-1], b.split(" ", 1)[-1]) for a, b, _ in graph.links_of(steps)}
    assert {
        ("table lake.t", "data trips"), ("dataset:other", "data trips"), ("data trips", "train Net"), ("Net", "train Net"),
        ("train Net", "evaluate run"), ("train Net", "deploy delays"), ("deploy delays", "predict endpoint:delays"),
        ("deploy delays", "monitor delays"), ("predict endpoint:delays", "said.to_pandas().plot()"),
    } <= links  # fmt: skip
    assert ("monitor delays", "said.to_pandas().plot()") not in links


def test_steps_of_odd_cells() -> None:
    steps = graph.steps_of(
        notebook("def f(:", "await g()\nx = await h()", "!ls", "%timeit 1", "%mlp_data 'open", "x = [y for y in range(3)]")
    )
    assert [step.number for step in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[1].makes == ("x",) and set(steps[1].reads) == {"g", "h"}
    assert steps[5].reads == ()


def test_files_that_are_no_notebooks(tmp_path: Path) -> None:
    (tmp_path / "nightly.ipynb").write_text("{}")
    (tmp_path / "text.ipynb").write_text("hello")
    with pytest.raises(NotFoundError, match="no notebook") as error:
        document.read(tmp_path / "nightli.ipynb")
    assert "nightly.ipynb" in error.value.hint
    for name in ("nightly.ipynb", "text.ipynb"):
        with pytest.raises(InvalidInputError, match="is not a notebook"):
            document.read(tmp_path / name)


def test_cells_that_only_look_are_no_part_of_the_notebook() -> None:
    assert record.looks_only(document.python_of("snap = %mlp_snapshot\nsnap"))
    assert not record.looks_only(document.python_of("%mlp_snapshot\n%mlp_train Net --data t"))
    assert not record.looks_only("x = 1")


def test_a_saved_notebook_says_how_it_ran() -> None:
    made = notebook("a = 1", "b = 2", "c = b", "b = 3")
    for cell, count in zip(made.node.cells, (2, 1, 4, 3), strict=True):
        cell.execution_count = count
    found = record.of_file(made)
    assert [cell.state.state for cell in found.cells] == ["valid", "valid", "out of order", "valid"]
    assert found.reasons == ("cell 3 is out of order: it read b from cell 4, which stands below it",)
    made.node.cells[3].execution_count = None
    assert record.of_file(made).reasons == ("cell 4 is unknown: it has not run",)
