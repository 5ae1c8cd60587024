"""TAB and help in SQL cells, asked as IPython and the kernel ask."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends import sql_words
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    mlp.write_table("lake.flights", pd.DataFrame({"dep_delay": [1.0], "carrier": ["UA"], "odd name": [1]}))
    mlp.write_table("lake.planes", pd.DataFrame({"tailnum": ["N1"], "seats": [1]}))
    preview = {"columns": [{"name": "month", "type": "int64"}]}
    with workspace.activities.recording("query", name="trips") as draft:
        draft.made.append(Ref("dataset", "trips", "1"))
        draft.facts["dataset"] = {"rows": 3, "preview": preview}
    return workspace


def _offered(workspace: Workspace, text: str) -> tuple[str, dict[str, str]]:
    """What is offered where the text has its |."""
    at = text.index("|")
    begun, found = sql_words.words(workspace, text.replace("|", ""), at)
    return begun, {one.text: one.kind for one in found}


CASES: list[tuple[str, str, set[str], set[str]]] = [
    ("%%mlp_data x\nSELECT * FROM |", "", {"lake.flights", "lake.planes", "trips"}, {"SELECT", "dep_delay"}),
    ("%%mlp_data x\nSELECT * FROM lake.fl|", "lake.fl", {"lake.flights"}, {"lake.planes", "trips"}),
    ("%%mlp_data x\nSELECT | FROM lake.flights", "", {"dep_delay", "carrier", "`odd name`", "flights"}, {"seats", "SELECT"}),
    ("%%mlp_data x\nSELECT de| FROM lake.flights", "de", {"dep_delay", "desc", "degrees"}, {"carrier"}),
    ("%%mlp_data x\nSELECT f.| FROM lake.flights f, lake.planes AS p", "f.", {"f.dep_delay", "f.carrier"}, {"f.seats"}),
    ("%%mlp_data x\nSELECT p.s| FROM lake.flights f JOIN lake.planes p ON f.x = p.y", "p.s", {"p.seats"}, {"f.dep_delay"}),
    ("%%mlp_data x\nSELECT * FROM lake.flights, |", "", {"lake.planes"}, {"dep_delay"}),
    ("%%mlp_data x\nSELECT * FROM lake.flights WHERE |", "", {"dep_delay"}, {"lake.planes"}),
    ("%%mlp_data x\nSELECT * FROM trips WHERE mo|", "mo", {"month", "mode"}, set()),
    ("%%mlp_data x -p month=1 --params city\nSELECT * FROM trips WHERE month = :|", ":", {":month", ":city"}, {"month"}),
    ("%%mlp_data x -p month=1\nSELECT * FROM trips WHERE month = :m|", ":m", {":month"}, set()),
    ("%%mlp_data x -p month=1\nSELECT dep_delay:|", ":", {":month"}, set()),
    ("%%mlp_data x\nSEL|", "SEL", {"SELECT"}, set()),
    ("%%mlp_data x\nselect date_t| from trips", "date_t", {"date_trunc"}, {"DATE_TRUNC"}),
]


def test_what_may_stand_there(filled: Workspace) -> None:
    for text, begun, expected, missing in CASES:
        found_begun, found = _offered(filled, text)
        assert found_begun == begun, text
        assert expected <= set(found), text
        assert not missing & set(found), text


def test_inside_a_text_or_a_comment_nothing_is_offered(filled: Workspace) -> None:
    for text in ("SELECT 'FROM |", "SELECT 1 -- FROM |", "SELECT /* FROM |", 'SELECT "a |'):
        assert _offered(filled, f"%%mlp_data x\n{text}") == ("", {}), text


def test_ipython_offers_it_in_sql_cells_only(filled: Workspace, notebook: Any) -> None:
    from IPython.core.completer import provisionalcompleter

    def offered(code: str) -> list[tuple[str, str]]:
        at = code.index("|")
        code = code.replace("|", "")
        with provisionalcompleter():
            return [(code[: one.start] + one.text, one.type) for one in notebook.shell.Completer.completions(code, at)]

    cell = "%%mlp_data few\nSELECT *\nFROM lake.f|"
    assert offered(cell) == [("%%mlp_data few\nSELECT *\nFROM lake.flights", "table")]
    assert ("%%mlp_data few\nSELECT dep_delay", "column") in offered("%%mlp_data few\nSELECT dep| FROM lake.flights")
    assert all("dep_delay" not in text for text, _ in offered("dep|"))
    notebook.cell("%reload_ext jupyter_mlp")
    assert len(offered(cell)) == 1


def test_help_tells_of_tables_and_magics(filled: Workspace, notebook: Any) -> None:
    table = notebook.shell.object_inspect_mime("lake.flights")["text/plain"]
    assert "1 row x 3 columns" in table and "dep_delay  double" in table
    assert "month  int64" in notebook.shell.object_inspect_mime("trips")["text/plain"]
    assert "lake.planes" in notebook.shell.object_inspect_mime("lake")["text/plain"]
    magic = notebook.shell.object_inspect_mime("mlp_train")["text/plain"]
    assert "--gpus" in magic and "%mlp_train --help" in magic
    with pytest.raises(KeyError):
        notebook.shell.object_inspect_mime("lake.nothing")


def test_functions_are_those_of_sql() -> None:
    assert {"date_trunc", "percentile_approx", "count"} <= set(sql_words.functions())
    assert not {"col", "lit", "udf"} & set(sql_words.functions())
