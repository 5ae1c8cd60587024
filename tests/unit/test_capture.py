"""What the job makes of the notebook's variables is what they are: by value, or drawn again after the same seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.notebook.capture import capture
from jupyter_mlp.notebook.written import written

BASE = "import lightning as L\nimport numpy as np\nimport torch\n\nclass Base(L.LightningModule):\n    pass"


def both(*cells: str, uses: str, keep: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Run cells; return their variables, those of the module that the job imports, and its source."""
    here: dict[str, Any] = {"__name__": "__main__", **(keep or {})}
    all_cells = [BASE, *cells, f"class Net(Base):\n    def forward(self, x):\n        return {uses}"]
    for cell in all_cells:
        exec(cell, here)
    source = capture("Net", all_cells, here).source
    torch.manual_seed(99)
    there: dict[str, Any] = {"__name__": "captured"}
    exec(source, there)
    return here, there, source


@pytest.mark.parametrize(
    "value",
    [
        *(
            np.float64(0.1),
            np.float32(0.1),
            np.int64(-3),
            np.bool_(True),
            float("inf"),
            (1, np.float64(2.5)),
            [np.float32(0.3)],
            {"a": (0.1,)},
        ),
        *(np.linspace(0, 1, 7), np.arange(6, dtype=np.int8).reshape(2, 3), np.zeros((0, 3), np.float32), np.array([np.nan, -np.inf])),
        *(torch.linspace(0, 1, 7), torch.randn(2, 3).bfloat16(), torch.tensor(3), torch.tensor([True, False]), torch.randn(4, 4).T),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_written_to_the_bit(value: Any) -> None:
    text, made = written("v", value), {}
    assert text is not None
    exec(text, made)
    torch.testing.assert_close(made["v"], value, rtol=0, atol=0, equal_nan=True)
    assert type(made["v"]) is type(value) and getattr(made["v"], "dtype", None) == getattr(value, "dtype", None)


def test_what_is_more_than_its_numbers_is_not_written() -> None:
    holds_itself: list[Any] = []
    holds_itself.append(holds_itself)
    for value in (
        torch.ones(3, requires_grad=True),
        torch.nn.Parameter(torch.ones(3)),
        torch.zeros(90_000),
        [np.arange(9_000)] * 9_000,
        holds_itself,
        object(),
    ):
        assert written("v", value) is None
    assert written("v", torch.ones(2).to_sparse()) is None and written("v", np.array(["a", None], dtype=object)) is None


def test_a_random_tensor_is_the_same_in_the_job() -> None:
    here, there, source = both("w = torch.randn(3)", uses="x @ w")
    assert torch.equal(here["w"], there["w"]) and "randn" not in source


def test_a_seed_travels_with_what_is_drawn_again_after_it() -> None:
    cells = ("SEED = 3\nL.seed_everything(SEED)", "w = torch.randn(3)\nlarge = torch.randn(300, 300)", "net = torch.nn.Linear(3, 1)")
    here, there, source = both(*cells, uses="net(large * w)")
    assert torch.equal(here["w"], there["w"]) and torch.equal(here["large"], there["large"])
    assert torch.equal(here["net"].weight, there["net"].weight)
    assert source.index("seed_everything") < source.index("large = ") < source.index("net = ")


def test_a_function_of_the_notebook_that_seeds_and_a_cell_that_ran_twice() -> None:
    seeding = "def set_seed(n):\n    np.random.seed(n)\n    torch.manual_seed(n)\n"
    here, there, source = both(seeding, "set_seed(5)", "set_seed(5)", "net = torch.nn.Linear(3, 1)", "set_seed(6)", uses="net(x)")
    assert torch.equal(here["net"].weight, there["net"].weight)
    assert source.count("\nset_seed(5)") == 1 and "set_seed(6)" not in source  # the code stays the same however often a cell ran


def test_without_anything_to_draw_no_seed_travels() -> None:
    _, _, source = both("L.seed_everything(3)", "hidden = 16", uses="x * hidden")
    assert "seed" not in source


def test_a_number_that_was_computed_from_a_live_frame_travels_as_its_value() -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0, 4.0]})
    here, there, source = both("mean = df.a.mean()\nstats = (df.a.min(), df.a.std())", uses="x * mean * stats[0]", keep={"df": frame})
    assert there["mean"] == here["mean"] and there["stats"] == here["stats"] and "df" not in source
    with pytest.raises(InvalidInputError, match="live DataFrame"):
        both("half = df / 2", uses="len(half)", keep={"df": frame})


def test_two_names_of_one_statement_arrive_by_value_and_by_statement() -> None:
    _, there, _ = both("size, net = 3, torch.nn.Linear(3, 1)", uses="net(x) * size")
    assert there["size"] == 3 and there["net"].weight.shape == (1, 3)
