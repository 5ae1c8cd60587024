"""What cells give to our Python API, as Python would follow their imports."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from jupyter_mlp.notebook import api_calls, document, steps


@pytest.mark.parametrize(
    "cells",
    [
        ["mlp.dataset('trips')"],  # a startup file imported it
        ["import jupyter_mlp as mlp", "mlp.dataset('trips')"],
        ["import jupyter_mlp as m", "rows = m.dataset('trips').to_pandas()"],
        ["import jupyter_mlp", "jupyter_mlp.dataset(ref='trips')"],
        ["import jupyter_mlp.data", "jupyter_mlp.data.dataset('trips')"],
        ["import jupyter_mlp.data as d", "d.dataset('trips')"],
        ["from jupyter_mlp import dataset\ndataset('trips')"],
        ["from jupyter_mlp.data import dataset as get", "get('trips')"],
        ["from jupyter_mlp import *", "dataset('trips')"],
        ["def rows():\n    from jupyter_mlp import dataset\n    return dataset('trips')", "rows()"],
        ["import jupyter_mlp as m\nget = m.dataset", "dataset = get('trips')"],
        ["import jupyter_mlp as m", "def broken(:", "m.dataset('trips')"],
        ["NAME = 'trips'", "mlp.dataset(NAME)"],
        ["NAME: str = 'trips'\nrows = mlp.dataset(ref=NAME)\nNAME = 'later'"],
        ["NAME = 'first'", "NAME = 'trips'  # injected", "mlp.dataset(NAME)", "NAME = 'later'"],
    ],
)
def test_names_are_followed(cells: list[str]) -> None:
    assert [text for uses in api_calls.of_cells(cells) for text in uses.texts] == ["trips"]


@pytest.mark.parametrize(
    "cells",
    [
        ["from elsewhere import dataset", "dataset('trips')"],
        ["from jupyter_mlp import dataset", "from elsewhere import dataset", "dataset('trips')"],
        ["from jupyter_mlp import dataset", "def dataset(name): ...", "dataset('trips')"],
        ["from jupyter_mlp import dataset", "dataset = dict", "dataset('trips')"],
        ["import jupyter_mlp as m", "other.m('trips')", "print('trips')"],
        ["from . import dataset", "dataset('trips')"],
        ["NAME = 'trips'", "for NAME in names:\n    pass", "mlp.dataset(NAME)"],
        ["NAME = 'trips'", "NAME = chosen()", "mlp.dataset(NAME)"],
        ["mlp.dataset(NAME)", "NAME = 'trips'"],
    ],
)
def test_what_is_not_ours_is_not(cells: list[str]) -> None:
    assert [text for uses in api_calls.of_cells(cells) for text in uses.texts] == []


def test_cells_that_name_anything_of_ours_touch_it() -> None:
    cells = [
        "import jupyter_mlp as m",
        "m",
        "x = 1",
        "from jupyter_mlp import dataset as get\nrows = get('trips')",
        "rows",
        "get = 1",
        "get",
    ]
    assert [uses.touches for uses in api_calls.of_cells(cells)] == [False, True, False, True, False, False, False]


def test_a_module_beside_the_notebook_that_calls_the_platform_is_not_answered_from_before(tmp_path: Path) -> None:
    cells = ["from helper import rows", "rows()"]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in cells]), tmp_path / "study.ipynb")
    for text, why in (
        ("def rows():\n    return 1\n", ""),
        ("from jupyter_mlp import dataset\nrows = lambda: dataset('trips')\n", "helper.py"),
    ):
        (tmp_path / "helper.py").write_text(text)
        assert why in steps.cells_of(document.read(tmp_path / "study.ipynb"))[1].world
        assert bool(why) == bool(steps.cells_of(document.read(tmp_path / "study.ipynb"))[1].world)
