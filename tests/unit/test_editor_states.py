"""The marks of a notebook that is open: asked between two cells, with what stands in the editor, saved or not."""

from __future__ import annotations

from typing import Any

from jupyter_mlp.frontends import marks


def _states(notebook: Any, *cells: tuple[str, str]) -> dict[str, str]:
    asked = {"cells": [{"id": cell, "source": source, "tags": []} for cell, source in cells]}
    found = marks.states(notebook.shell, asked)["cells"]
    return {cell: f"{one['state']}: {one['reason']}".rstrip(": ") for cell, one in found.items()}


def test_marks_follow_what_ran_and_what_stands_there(notebook: Any) -> None:
    def run(cell: str, source: str) -> None:
        notebook.shell.run_cell(source, store_history=True, cell_id=cell)

    one, two, three = ("a", "x = 1"), ("b", "y = x + 1"), ("c", "print(y)")
    run(*one)
    run(*two)
    assert _states(notebook, one, two, three) == {"a": "valid", "b": "valid", "c": "unknown: it has not run"}
    assert _states(notebook, ("a", "x = 2"), two)["a"] == "stale: its source was edited after it ran"
    run("a", "x = 2")
    assert _states(notebook, ("a", "x = 2"), two)["b"].startswith("stale: x was made anew by cell 1")
    run(*two)
    assert _states(notebook, ("a", "x = 2"), two) == {"a": "valid", "b": "valid"}
    # the cell is moved above what it reads
    assert _states(notebook, two, ("a", "x = 2"))["b"] == "out of order: it read x from cell 2, which stands below it"
    run("d", "1 / 0")
    assert _states(notebook, ("d", "1 / 0"))["d"] == "unknown: it failed: ZeroDivisionError: division by zero"
    notebook.cell("%mlp_status")
    assert "e" not in _states(notebook, ("e", "%mlp_status"), ("f", ""))


def test_a_cell_says_what_was_made_from_its_dataset(notebook: Any) -> None:
    import pyarrow as pa

    from jupyter_mlp.store import datasets
    from jupyter_mlp.store.workspace import current

    def publish(name: str, number: int, *used: Any) -> Any:
        with current().activities.recording("query", name=name, used=used) as draft:
            return datasets.publish_table(current(), draft, name, pa.table({"n": [number]}))

    def used() -> str | None:
        asked = {"cells": [{"id": "a", "source": "%%mlp_data trips\nSELECT 1"}, {"id": "b", "source": "x = 'mlp'"}]}
        return marks.states(notebook.shell, asked)["used"].get("a")

    notebook.shell.run_cell("%load_ext jupyter_mlp")
    assert used() is None
    first = publish("trips", 1)
    assert used() is None
    publish("late", 2, first)
    publish("later", 3, first)
    assert used() == "used by 2 datasets"
    publish("trips", 2)
    assert used() == "earlier versions are used by 2 datasets, this one by nothing yet"


def test_a_name_that_is_half_typed_takes_no_marks_away(notebook: Any) -> None:
    notebook.shell.run_cell("x = 1", store_history=True, cell_id="a")
    for half in ("%%mlp_data @\nSELECT 1", "%%mlp_data 'tr\nSELECT 1", "%%mlp_data a:b@\nSELECT 1"):
        assert _states(notebook, ("a", "x = 1"), ("b", half))["a"] == "valid"
