"""Why a cell may show something else: what it draws, asks and reads, through the notebook's own imports and what cells take from others."""

from __future__ import annotations

from pathlib import Path

import faults
import nbformat
import pytest

from jupyter_mlp.notebook import causes, document, files
from jupyter_mlp.notebook.flow import Scope, flow_of


def first(*sources: str, place: int = -1, **told: object) -> str:
    """The likeliest cause for one of these cells, the last."""
    cells = document.new([nbformat.v4.new_code_cell(source) for source in sources]).cells
    found = causes.suspects(cells, **told)[place]  # type: ignore[arg-type]
    return found[0].cause if found else ""


@pytest.mark.parametrize(("setup", "value"), faults.CHANCES)
@pytest.mark.parametrize("shape", faults.SHAPES)
def test_a_draw_is_known_wherever_its_value_goes(setup: str, value: str, shape: str) -> None:
    cells = [setup, *faults.SHAPES[shape](value)]
    assert first(*cells) == causes.CHANCE
    assert first(setup, "print('nothing of it')") in ("", causes.CHANCE if "rng" in setup else "")


@pytest.mark.parametrize(("setup", "value"), faults.CLOCKS)
def test_a_clock_is_known(setup: str, value: str) -> None:
    assert first(setup, value.replace("address", "'http://somewhere/'")) == causes.CLOCK


@pytest.mark.parametrize(
    "cells",
    [
        ("import random\nrandom.seed(3)", "random.random()"),
        ("from random import seed, choice", "seed(1)", "choice([1, 2])"),
        ("import numpy as np\nnp.random.seed(0)", "np.random.rand(3)"),
        ("import numpy as np", "rng = np.random.default_rng(7)", "rng.random()"),
        ("import random", "random.Random(3).random()"),
        ("import pandas as pd\nframe = pd.DataFrame({'x': [1]})", "frame.sample(1, random_state=3)"),
        ("from sklearn.model_selection import train_test_split", "train_test_split([1, 2], random_state=0)"),
        ("import torch\ntorch.manual_seed(1)", "torch.rand(2)"),
        ("import lightning as L\nL.seed_everything(1)", "import numpy as np\nnp.random.rand()"),
        ("import time\ntime.sleep(0)", "'random.random() in a text, time.time() too'"),
        ("random = 4\nnow = 5", "random + now"),
        ("from datetime import datetime", "datetime(2020, 1, 1)"),
    ],
)
def test_what_repeats_is_not_suspected(cells: tuple[str, ...]) -> None:
    assert first(*cells) == ""


def test_a_seed_counts_for_its_own_generator_and_for_what_comes_after_it() -> None:
    assert first("import random, numpy as np\nrandom.seed(1)", "np.random.rand()") == causes.CHANCE
    assert first("import random", "random.random()", "random.seed(1)", place=1) == causes.CHANCE
    assert first("import random", "random.random()", "random.seed(1)", "random.random()") == ""


def test_what_is_known_goes_before_what_is_possible() -> None:
    cells = ("import random", "x = random.random()\nx", "y = 1", "print(x, y)")
    assert first(*cells, unsound=[2]) == causes.ORDER
    assert first(*cells, other_data=[2]) == causes.DATA
    assert first(*cells, unsound=[1]) == causes.ORDER and first(*cells, unsound=[1], place=2) == ""


@pytest.mark.parametrize(("setup", "value"), faults.FILES)
def test_files_are_found_as_cells_name_them(tmp_path: Path, setup: str, value: str) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    faults._write(folder)
    cells = document.new([nbformat.v4.new_code_cell(source) for source in (setup, value)]).cells
    before = files.contents(cells, {}, folder)
    assert before and files.changed(before, folder) == {}
    faults._write(folder, 2.0)
    changed = files.changed(before, folder)
    found = causes.suspects(cells, changed_files=changed)[1]
    assert found[0].cause == causes.DATA and "is not what it was" in found[0].detail
    faults._remove(folder)
    assert any("is missing" in told for told in files.changed(before, folder).values())


def test_files_that_nobody_means_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "password.txt").write_text("hunter2")
    (tmp_path / ".env").write_text("A=1")
    cells = document.new(
        [nbformat.v4.new_code_cell("a = ['', '.', '/', '..', '*', 'password.txt', '.env', '/dev/zero', 'x' * 3, '\\0', '~']")]
    ).cells
    assert files.contents(cells, {}, tmp_path) == {}
    assert files.changed({"/dev/zero": "0" * 64, "a\0b": "1 bytes"}, tmp_path).keys() == {"/dev/zero", "a\0b"}


def test_an_update_changes_what_is_updated_also_where_it_stands_last() -> None:
    needs, made = Scope().cell(flow_of("told.update(a=2)"))
    assert needs == {"told"} and made == {"told"}
    modules = Scope()
    modules.cell(flow_of("import matplotlib.pyplot as plt"))
    assert modules.cell(flow_of("plt.rcParams.update(a=2)"))[1] == set()


def test_an_address_that_another_cell_names_is_known() -> None:
    cells = ("address = 'https://somewhere/rows.csv'", "import pandas as pd\nrows = pd.read_csv(address)", "rows")
    assert first(*cells) == causes.CLOCK


def test_seeds_are_told_as_they_are_written() -> None:
    sources = (
        "import random, torch\nimport numpy as np\nfrom numpy.random import default_rng\nrandom.seed(4); np.random.seed(seed=1)",
        "rng = default_rng(0); loose = default_rng(); torch.manual_seed(7)\nrandom.random()",
        "from sklearn.cluster import KMeans\nKMeans(20, random_state=k)\nKMeans(random_state=None)",
    )
    cells = document.new([nbformat.v4.new_code_cell(source) for source in sources]).cells
    assert causes.seeds(cells) == ["random.seed(4)", "np.random.seed(seed=1)", "default_rng(0)", "torch.manual_seed(7)", "random_state=k"]
