"""Times in a question: versions by parameter, and values that mean another moment each time. No Spark is started."""

import datetime
import time
from typing import Any

import pandas as pd
import pytest

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store import moments, questions
from jupyter_mlp.store.questions import Question
from jupyter_mlp.store.workspace import Workspace


@pytest.fixture
def lake(workspace: Workspace) -> Workspace:
    mlp.write_table("lake.people", pd.DataFrame({"user": ["a"], "k": [1], "d": [datetime.date(2013, 1, 1)]}))
    mlp.write_table("lake.others", pd.DataFrame({"k": [1]}))
    return workspace


def ask(workspace: Workspace, text: str, **parameters: Any) -> Question:
    return questions.ask(workspace, text, parameters)


def test_a_parameter_says_the_version(lake: Workspace) -> None:
    first = str(lake.lake.current("lake.others"))
    between = datetime.datetime.now().astimezone()
    time.sleep(0.01)
    mlp.write_table("lake.others", pd.DataFrame({"k": [2]}))
    values: list[Any] = [int(first), first]
    for value in values:
        assert ask(lake, "SELECT k FROM lake.others VERSION AS OF :v", v=value).inputs[0].version == first
    for value in (between, between.isoformat(), between.replace(tzinfo=None)):
        assert ask(lake, "SELECT k FROM lake.others TIMESTAMP AS OF :v", v=value).inputs[0].version == first
    assert ask(lake, "SELECT k FROM IDENTIFIER(:t) VERSION AS OF :v", t="lake.others", v=first).inputs[0].version == first


@pytest.mark.parametrize(
    ("clause", "parameters", "says", "hint"),
    [
        ("VERSION AS OF :v", {}, "The parameter :v has no value.", "-p v=VALUE"),
        ("VERSION AS OF :v", {"v": 1.5}, "needs a number or a tag; the parameter is 1.5", "VERSION AS OF"),
        ("VERSION AS OF 1 + 1", {}, "VERSION AS OF takes no expression like 1 + 1.", "a parameter"),
        ("TIMESTAMP AS OF :v", {"v": [1]}, "needs a time; the parameter is [1]", "TIMESTAMP AS OF '"),
        ("TIMESTAMP AS OF :v", {"v": "soon"}, "'soon' is no time.", "TIMESTAMP AS OF '"),
    ],
)
def test_what_is_no_version_is_refused_in_a_sentence(lake: Workspace, clause: str, parameters: Any, says: str, hint: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        ask(lake, f"SELECT k FROM lake.others {clause}", **parameters)
    assert says in refused.value.message and hint in refused.value.hint


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("EXECUTE IMMEDIATE 'SELECT 1'", "IDENTIFIER(:table)"),
        ("-- why\nEXECUTE IMMEDIATE 'SELECT 1'", "IDENTIFIER(:table)"),
        ("BEGIN SELECT 1; END", "a cell of its own, without BEGIN and END"),
    ],
)
def test_what_is_no_query_says_what_to_type(lake: Workspace, text: str, says: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        ask(lake, text)
    assert says in refused.value.hint


@pytest.mark.parametrize(
    "text", ["SELECT CAST(:d AS DATE)", "SELECT :d::date", "SELECT k FROM lake.people WHERE d < :d", "SELECT date_add(:d, 1)"]
)
def test_a_parameter_that_is_a_moment_is_never_reused(lake: Workspace, text: str) -> None:
    for value in ("today", " NOW", "Yesterday", "tomorrow UTC", ["x", "today"], {"a": "today"}):
        found = ask(lake, text, d=value)
        assert found.key is None and "the parameter d is" in found.why[0] and "another moment each time" in found.why[0]
    for value in ("2013-01-01", "epoch", "nowhere", 1, None, datetime.date(2013, 1, 1)):
        assert ask(lake, text, d=value).key


def test_a_parameter_may_complete_a_moment(lake: Workspace) -> None:
    assert ask(lake, "SELECT CAST('to' || :rest AS DATE)", rest="day").why == ("'today' may be another moment each time",)
    assert ask(lake, "SELECT CAST('to' || :rest AS DATE)", rest="2").key
    assert ask(lake, "SELECT IDENTIFIER(:name) FROM lake.others", name="user").key is None
    assert ask(lake, "SELECT IDENTIFIER(:name) FROM lake.others", name="k").key


@pytest.mark.parametrize("name", ["user", "current_time", "localtime", "current_path", "`user`"])
def test_a_function_without_parentheses_is_never_reused(lake: Workspace, name: str) -> None:
    for text in (f"SELECT {name}", f"SELECT {name} FROM lake.others", f"SELECT (SELECT max(k) FROM lake.people), {name} FROM lake.others"):
        found = ask(lake, text)
        assert found.key is None and f"{name.strip('`')} is Spark's function" in found.why[0]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT user FROM lake.people",
        "SELECT user FROM lake.others JOIN lake.people USING (k) WHERE `user` = 'a' ORDER BY USER",
        "SELECT user FROM (SELECT * FROM lake.people)",
        "WITH c AS (SELECT user, k FROM lake.people) SELECT count(*) FROM c GROUP BY user",
        "FROM lake.people |> WHERE user = 'a' |> SELECT user",
    ],
)
def test_a_column_of_that_name_is_a_column(lake: Workspace, text: str) -> None:
    assert ask(lake, text).why == ()


def test_an_unversioned_source_behind_a_comma_is_never_reused(lake: Workspace) -> None:
    found = ask(lake, "SELECT k FROM lake.others, IDENTIFIER('parquet.`/x`')")
    assert found.key is None and "is not versioned here" in found.why[0]
    assert ask(lake, "SELECT k, IDENTIFIER('k') FROM lake.others, IDENTIFIER('lake.people')").key


def test_a_variable_that_is_a_moment_is_never_reused(lake: Workspace) -> None:
    lake.engine.variables.update(v=moments.VARIABLE, w="a digest")
    assert ask(lake, "SELECT CAST(v AS DATE)").why == ("the variable v may be another moment each time",)
    assert ask(lake, "SELECT CAST(w AS DATE)").key


def test_a_text_beyond_the_reader_says_that_its_inputs_are_found_by_words(lake: Workspace) -> None:
    found = ask(lake, "SELECT k FROM lake.others MATCH_NOTHING ((( ")
    assert [ref.name for ref in found.inputs] == ["lake.others"] and found.key is None
    assert "what it reads was found by its words" in found.why[0]
