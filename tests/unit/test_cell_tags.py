"""What cells ask of whoever verifies them."""

from __future__ import annotations

import nbformat
import pytest

from jupyter_mlp.notebook import cell_tags, document
from jupyter_mlp.notebook.cell_tags import RAISES, SKIPPED, UNCOMPARED


@pytest.mark.parametrize(
    ("source", "tags", "wanted"),
    [
        ("x", ["parameters", "remove-input"], set()),
        ("x", ["raises-exception"], {RAISES}),
        ("x", [3, "skip-execution", None], {SKIPPED}),
        ("x", ["nbval-raises-exception", "nbval-skip"], {RAISES, SKIPPED}),
        ("x", ["skip-execution"], {SKIPPED}),
        ("x", ["nbval-ignore-output"], {UNCOMPARED}),
        ("# NBVAL_IGNORE_OUTPUT\nx", [], {UNCOMPARED}),
        ("x\n  ## PYTEST_VALIDATE_IGNORE_OUTPUT", [], {UNCOMPARED}),
        ("# NBVAL_SKIP\n# NBVAL_RAISES_EXCEPTION\nx", [], {RAISES, SKIPPED}),
        ("# NBVAL_CHECK_OUTPUT\nx", ["nbval-ignore-output"], set()),
        ("# NBVAL_IGNORE_OUTPUT\nx", ["nbval-check-output"], {UNCOMPARED}),
        ("# nbval_skip, or not\n'# NBVAL_SKIP'\nx = 1  # NBVAL_SKIP", [], set()),
    ],
)
def test_tags_and_comments_are_read_as_their_tools_read_them(source: str, tags: list[object], wanted: set[str]) -> None:
    assert cell_tags.asked(source, tags) == wanted


def test_nbclient_is_told_in_its_own_words() -> None:
    cells = [nbformat.v4.new_code_cell(source) for source in ("# NBVAL_SKIP\nx", "y", "# NBVAL_RAISES_EXCEPTION\nz")]
    cells[1].metadata["tags"] = ["mine"]
    before = document.Document(nbformat.v4.new_notebook(cells=cells))
    after = cell_tags.in_nbclients_words(before)
    assert [cell.metadata.get("tags") for cell in after.node.cells] == [["skip-execution"], ["mine"], ["raises-exception"]]
    assert [cell.metadata.get("tags") for cell in before.node.cells] == [None, ["mine"], None], "the notebook itself stays"
