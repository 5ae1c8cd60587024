"""Every canonical model has a starter notebook, whose magics are lines that the verbs take."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

from jupyter_mlp import models
from jupyter_mlp.core import recipe_text
from jupyter_mlp.frontends.arguments import parse
from jupyter_mlp.frontends.verbs import VERBS

FOLDER = Path(__file__).parents[2] / "templates" / "notebooks"
KNOWN = {verb.name: verb for verb in VERBS}


@pytest.mark.parametrize("name", [name for name in models.names() if name != "logistic"])
def test_a_starter_notebook_is_made_of_lines_that_the_verbs_take(name: str) -> None:
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    used = set()
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "code" else ():
            if "%mlp_" in line:
                verb, _, rest = line.partition("%mlp_")[2].partition(" ")
                given = parse(KNOWN[verb], rest, verb)
                used.add(verb)
                assert verb != "train" or given.model == f"mlp:{name}"
        if cell.source.startswith("%%mlp_recipe"):
            recipe_text.parse(cell.source.split("\n", 1)[1])
    assert {"table", "data", "train", "evaluate", "runs"} <= used
