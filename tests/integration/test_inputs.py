"""Whatever is typed: no traceback of ours, no hang, no value bound to another place; every refusal is one sentence.

`MLP_PROOF_INPUTS=10000` (as `make proof ARGS=inputs` sets it) tries that many; a few hundred otherwise.
"""

from __future__ import annotations

import datetime
import math
import os
import re
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.frontends.arguments import assignments
from jupyter_mlp.store import questions
from jupyter_mlp.store.workspace import Workspace, current

COUNT = int(os.environ.get("MLP_PROOF_INPUTS", "300"))
LONGEST_S = 30.0
ANY = settings(
    max_examples=COUNT, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True
)
WORDS = (
    "SELECT FROM WHERE GROUP BY HAVING ORDER JOIN LEFT ON AS WITH UNION ALL EXCEPT VALUES TABLE LATERAL VIEW explode PIVOT OVER "
    "PARTITION CASE WHEN THEN ELSE END CAST INT STRING INTERVAL DAY NOT NULL IN EXISTS LIKE BETWEEN VERSION AS OF TIMESTAMP RECURSIVE "
    "lake.numbers numbers k v n lake `k` `a b` * , , ( ) ( ) . ; = < > >> |> + - / :a :b ? 1 2.5 1e3 10L 'x' \"y\" 'it''s' r'\\d' X'1F' "
    "-- /* */ /*+ x */ count(*) sum(k) rand() IDENTIFIER('k') '2013-01-01' 🦆 é \n \t \\ ' \" ` @ # $ % ^ & | ~ [ ] { } "
    "DROP INSERT SET EXPLAIN DESCRIBE SHOW"
).split(" ")
TEXTS = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join),
    st.lists(st.sampled_from(WORDS), max_size=12).map(lambda words: "SELECT " + " ".join(words)),
    st.lists(st.sampled_from(WORDS), max_size=8).map(lambda words: "SELECT k FROM lake.numbers " + " ".join(words)),
    st.text(max_size=60),
)
VALUES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.booleans(),
    st.none(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40),
    st.sampled_from(["'; DROP TABLE lake.numbers; --", ":a", "NULL", "\\", "'", "`", "1 OR 1=1", "${x}", "\u202e", "🦆"]),
    st.dates(datetime.date(1, 1, 1)),
    st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)),
    st.decimals(-(10**15), 10**15, places=3),
    st.lists(st.integers(-1000, 1000), min_size=1, max_size=4),
)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Any:
    import pandas as pd

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLP_WORKSPACE", str(tmp_path_factory.mktemp("inputs") / "workspace"))
        mlp.write_table("lake.numbers", pd.DataFrame({"k": [1, 2, 3], "v": ["a", "b", None]}))
        _ = current().engine.session
        yield current()


def refused(error: MLPError) -> None:
    """A refusal is one sentence that shows nothing of ours or of Java's."""
    assert error.message and "\n" not in error.message.strip(), repr(error.message)
    assert error.condition != "PARSE_SYNTAX_ERROR" or (error.position and error.hint.startswith("Line ")), error.hint
    assert not re.search(r"\bat org\.|mlp_numbers_|Traceback|\.py\b", str(error)), str(error)


@ANY
@given(text=TEXTS, a=VALUES)
def test_any_text_is_answered_or_refused(lake: Workspace, text: str, a: Any) -> None:
    from jupyter_mlp import data

    begun = time.perf_counter()
    try:
        question = questions.ask(lake, text, {"a": a})
        sent, edits, names = data._pinned_text(lake, question.query, question.pinned)
        data._in_the_users_words(question.query.text, sent, edits, names, lambda: lake.engine.analyse(sent, question.parameters))
    except MLPError as error:
        refused(error)
    assert time.perf_counter() - begun < LONGEST_S


@settings(ANY, max_examples=max(5, COUNT // 100))
@given(values=st.lists(VALUES, min_size=20, max_size=20))
def test_every_value_arrives_where_it_belongs(lake: Workspace, values: list[Any]) -> None:
    params = {f"p{i}": value for i, value in enumerate(values)}
    sql = "SELECT " + ", ".join(f":p{i} AS c{i}" for i in reversed(range(len(values))))
    row = mlp.query(sql, name="bound", params=params).to_arrow().to_pylist()[0]
    for i, value in enumerate(values):
        assert _same(row[f"c{i}"], value), f"{value!r} came back as {row[f'c{i}']!r}"


def _same(found: Any, given: Any) -> bool:
    if isinstance(given, float):
        return isinstance(found, float) and (found == given or math.isclose(found, given, rel_tol=0, abs_tol=0))
    if isinstance(given, datetime.datetime):
        return found.astimezone(datetime.UTC) == given.astimezone(datetime.UTC) if found.tzinfo else found == given
    if isinstance(given, Decimal):
        return Decimal(found) == given
    return type(found) is type(given) and found == given


@ANY
@given(words=st.lists(st.text(max_size=30), max_size=4))
def test_any_assignment_is_read_or_refused(words: list[str]) -> None:
    try:
        assignments(words, {}, "-p")
    except MLPError as error:
        refused(error)
