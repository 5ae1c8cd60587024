"""Never stale, and a hit whenever the meaning is the same: a thousand generated changes to a question or to what it reads."""

from __future__ import annotations

import datetime
import multiprocessing
import random
import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import tpch

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store import questions
from jupyter_mlp.store.workspace import Workspace, current

ROWS = 20_000
BASES = (
    "SELECT k, sum(v) AS s FROM lake.facts WHERE k > {n} GROUP BY k",
    "WITH a AS (SELECT k, v FROM lake.facts WHERE v < {n}), b AS (SELECT k, w FROM lake.others) SELECT a.k, b.w FROM a JOIN b USING (k)",
    "SELECT f.k, o.w FROM lake.facts f LEFT JOIN lake.others AS o ON f.k = o.k WHERE f.t >= TIMESTAMP '2013-01-0{d} 00:00:00'",
    "SELECT * FROM (SELECT k, row_number() OVER (PARTITION BY k ORDER BY v DESC) AS r FROM lake.facts) WHERE r <= {n}",
    "SELECT k FROM lake.facts WHERE k IN (SELECT k FROM lake.others WHERE w = 'w{n}') UNION ALL SELECT {n}",
    "FROM lake.facts |> WHERE k > {n} |> AGGREGATE count(*) AS n GROUP BY k",
    "SELECT CAST(t AS STRING) AS s, k / {n} AS q FROM lake.facts LIMIT {n}",
)


def facts(seed: int = 0) -> pa.Table:
    values = np.random.default_rng(seed)
    times = [datetime.datetime(2013, 1, 1) + datetime.timedelta(seconds=i) for i in range(ROWS)]
    return pa.table(
        {"k": values.integers(0, 50, ROWS).astype(np.int32), "v": values.random(ROWS), "t": pa.array(times, pa.timestamp("us"))}
    )


def others() -> pa.Table:
    return pa.table({"k": np.arange(50), "w": [f"w{i}" for i in range(50)]})


@pytest.fixture
def lake(workspace: Workspace) -> Workspace:
    mlp.write_table("lake.facts", facts())
    mlp.write_table("lake.others", others())
    _ = workspace.engine.session
    return workspace


def base(luck: random.Random) -> str:
    return luck.choice(BASES).format(n=luck.randint(1, 9), d=luck.randint(1, 9))


def key(text: str, **params: Any) -> str | None:
    return questions.ask(current(), text, params).key


# -- the same meaning


def spaced(text: str, luck: random.Random) -> str:
    gaps = [" ", "  ", "\n", "\t ", " /* FROM lake.none */ ", " -- why\n"]
    parts = text.split("'")  # not inside of texts
    return "'".join("".join(luck.choice(gaps) if c == " " else c for c in part) if i % 2 == 0 else part for i, part in enumerate(parts))


def keywords(text: str, luck: random.Random) -> str:
    words = {"SELECT", "FROM", "WHERE", "GROUP", "BY", "JOIN", "ON", "AS", "USING", "LEFT", "IN", "UNION", "ALL", "WITH", "OVER", "ORDER"}
    return " ".join(w.lower() if w in words and luck.random() < 0.7 else w for w in text.split(" "))


def reordered(text: str, luck: random.Random) -> str:
    if not text.startswith("WITH a"):
        return text + luck.choice([" ;", "\n", " -- end"])
    first, second = text.index("a AS"), text.index("b AS")
    rest = text.index(" SELECT a.k")
    return f"WITH {text[second:rest]}, {text[first : second - 2]}{text[rest:]}"


@pytest.mark.parametrize("edit", [spaced, keywords, reordered])
def test_meaning_preserving_edits_are_hits(lake: Workspace, edit: Callable[[str, random.Random], str]) -> None:
    luck = random.Random(1)
    hits = 0
    for _ in range(200):
        text = base(luck)
        hits += key(text) == key(edit(text, luck)) is not None
    assert hits >= 190, f"{hits} of 200 edits are hits"


# -- another meaning


def _number(text: str, luck: random.Random) -> str:
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    at = luck.choice(digits)
    return text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :]


def _word(text: str, luck: random.Random) -> str:
    swaps = [
        ("sum(", "avg("),
        ("LEFT JOIN", "JOIN"),
        ("UNION ALL", "UNION"),
        (" > ", " >= "),
        (" < ", " <= "),
        ("DESC", "ASC"),
        ("f.k", "f.v"),
    ]
    swaps += [("AS s", "AS S"), ("lake.others", "lake.facts"), ("count(*)", "count(v)"), ("row_number", "rank"), (" IN ", " NOT IN ")]
    usable = [swap for swap in swaps if swap[0] in text]
    before, after = luck.choice(usable or [("SELECT", "SELECT DISTINCT")])
    return text.replace(before, after, 1)


@pytest.mark.parametrize("edit", [_number, _word])
def test_other_meanings_are_misses(lake: Workspace, edit: Callable[[str, random.Random], str]) -> None:
    luck = random.Random(2)
    for _ in range(300):
        text = base(luck)
        changed = edit(text, luck)
        if changed != text:
            assert key(text) != key(changed), f"{text}\n{changed}"


def _row(table: pa.Table, luck: random.Random) -> pa.Table:
    v = table["v"].to_numpy().copy()
    v[10_001] += luck.random() + 1e-9
    return table.set_column(1, "v", pa.array(v))


def _moment(table: pa.Table, luck: random.Random) -> pa.Table:
    t = table["t"].to_numpy().copy()
    t[luck.randrange(ROWS)] += np.timedelta64(luck.randint(1, 999), "us")
    return table.set_column(2, "t", pa.array(t))


def _type(table: pa.Table, luck: random.Random) -> pa.Table:
    return table.set_column(0, "k", table["k"].cast(pa.int64()))


def _column(table: pa.Table, luck: random.Random) -> pa.Table:
    return table.append_column(f"c{luck.randrange(10**6)}", pa.nulls(ROWS, pa.int32()))


@pytest.mark.parametrize("change", [_row, _moment, _type, _column])
def test_changed_data_is_a_miss(lake: Workspace, change: Callable[[pa.Table, random.Random], pa.Table]) -> None:
    luck = random.Random(3)
    texts = [base(luck).replace("lake.others", "lake.facts").replace("w = 'w", "k = '") for _ in range(25)]
    texts = [text.replace("b.w", "b.v").replace("o.w", "o.v").replace("k, w FROM", "k, v FROM") for text in texts]
    for _ in range(4):
        before = [key(text) for text in texts]
        mlp.write_table("lake.facts", change(facts(), luck))
        after = [key(text) for text in texts]
        assert not {*before} & {*after}
        mlp.write_table("lake.facts", facts(luck.randrange(10**6)))


def test_a_table_dropped_and_made_again_is_another(lake: Workspace) -> None:
    before = key(BASES[0].format(n=1))
    mlp.forget("table:lake.facts", all=True, cascade=True)
    mlp.write_table("lake.facts", facts(9))
    assert key(BASES[0].format(n=1)) != before


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("SET TIME ZONE 'Asia/Tokyo'", BASES[6]),
        ("SET spark.sql.ansi.enabled = false", BASES[6]),
        ("SET spark.sql.caseSensitive = true", BASES[0]),
        ("SET VAR low = 7", "SELECT k FROM lake.facts WHERE k > low + {n}"),
        ("CREATE OR REPLACE TEMP VIEW seen AS SELECT 2 AS k", "SELECT k FROM seen WHERE k > {n}"),
    ],
)
def test_another_session_is_another_question(lake: Workspace, statement: str, text: str) -> None:
    mlp.statement("DECLARE OR REPLACE VARIABLE low INT DEFAULT 1")
    mlp.statement("CREATE OR REPLACE TEMP VIEW seen AS SELECT 1 AS k")
    texts = [text.format(n=n, d=1) for n in range(1, 10)]
    before = [key(one) for one in texts]
    assert before == [key(one) for one in texts] and None not in before
    mlp.statement(statement)
    assert not {*before} & {key(one) for one in texts}


def test_parameters_count_with_their_types(lake: Workspace) -> None:
    values = [
        1,
        1.0,
        True,
        "1",
        Decimal("1"),
        datetime.date(2013, 1, 1),
        "2013-01-01",
        datetime.datetime(2013, 1, 1),
        b"1",
        None,
        [1],
        [1.0],
    ]
    keys = [key("SELECT :a AS a FROM lake.facts", a=value) for value in values]
    assert len(set(keys)) == len(values)
    assert key("SELECT :a AS a", a=np.int64(3)) == key("SELECT :a AS a", a=3)


HINTS = ("BROADCAST(o)", "MERGE(f, o)", "REPARTITION(4)", "REPARTITION(2, k)", "COALESCE(1)", "REBALANCE(k)", "SHUFFLE_HASH(others)")


def hinted(text: str, luck: random.Random) -> str:
    hint = f"/*+ {', '.join(luck.sample(HINTS, luck.randint(1, 3)))} */"
    selects = [i for i in range(len(text)) if text.startswith("SELECT", i)]
    if not selects:
        return text
    at = luck.choice(selects) + len("SELECT")
    return f"{text[:at]} {hint}{text[at:]}"


def test_a_query_with_a_hint_is_a_question_of_its_own_and_reused(lake: Workspace) -> None:
    luck = random.Random(4)
    for _ in range(200):
        text = base(luck)
        changed = hinted(text, luck)
        asked = questions.ask(lake, changed, {})
        assert asked.why == () and asked.inputs == questions.ask(lake, text, {}).inputs, changed
        assert (asked.key == key(text)) == (changed == text)
        assert asked.key == key(changed.replace(" FROM ", "  from -- why\n "))


MOMENTS = ("today", "now", "Yesterday", " tomorrow", "TODAY UTC")


def _parenless(luck: random.Random) -> str:
    names = ["user", "current_user", "session_user", "current_date", "current_timestamp", "current_time", "current_path"]
    name = luck.choice(names)
    return luck.choice([name, name.upper(), f"`{name}`" if name == "user" else name])


def _pieced(luck: random.Random) -> str:
    word = luck.choice(MOMENTS)
    at = luck.randint(1, len(word) - 1)
    one, other = f"'{word[:at]}'", f"'{word[at:]}'"
    whole = luck.choice([f"{one} || {other}", f"concat({one}, {other})", f"{one} {other}", f"lower({one}) || upper({other})"])
    kind = luck.choice(["DATE", "TIMESTAMP", "TIMESTAMP_NTZ"])
    return luck.choice([f"CAST({whole} AS {kind})", f"try_cast({whole} AS {kind})", f"to_date({whole})", f"date_add({whole}, 1)"])


def _worked_out(luck: random.Random) -> str:
    word = luck.choice(MOMENTS)
    made = [
        f"reverse('{word[::-1]}')",
        f"substr('x{word}', 2)",
        f"replace('{word[0]}_{word[1:]}', '_', '')",
        f"unhex('{word.encode().hex()}')",
    ]
    return f"CAST({luck.choice(made)} AS STRING)::DATE"


def _called(luck: random.Random) -> str:
    calls = ["localtime()", "current_path()", "now()", "uuid()", "rand(1)", "unix_timestamp()", "current_schema()", "session_user()"]
    return luck.choice(calls)


def _unversioned(luck: random.Random) -> str:
    of = luck.choice(["parquet", "csv", "json"])
    return f"(SELECT count(*) FROM lake.others, IDENTIFIER('{of}.`/tmp/{luck.randrange(9)}`'))"


@pytest.mark.parametrize("make", [_parenless, _pieced, _worked_out, _called, _unversioned])
def test_what_is_another_answer_each_time_is_never_reused(lake: Workspace, make: Callable[[random.Random], str]) -> None:
    luck = random.Random(5)
    for _ in range(60):
        text = base(luck)
        while "UNION" in text or "|>" in text or "*" in text:
            text = base(luck)
        start = text.rindex("SELECT") + len("SELECT")
        changed = f"{text[:start]} {make(luck)} AS volatile,{text[start:]}"
        asked = questions.ask(lake, changed, {})
        assert asked.key is None and asked.why, changed


def test_a_parameter_or_variable_that_is_a_moment_is_never_reused(lake: Workspace) -> None:
    luck = random.Random(6)
    texts = [base(luck) for _ in range(60)]
    for text in texts:
        for value in MOMENTS:
            asked = questions.ask(lake, text, {"d": value})
            assert asked.key is None and "another moment" in asked.why[0]
        assert key(text, d="2013-01-01") is not None
    for value, reused in (("'2013-01-01'", True), ("'today'", False), ("'to' || 'day'", False), ("reverse('yadot')", False)):
        mlp.statement(f"DECLARE OR REPLACE VARIABLE since STRING DEFAULT {value}")
        assert (key("SELECT k FROM lake.facts WHERE t > since") is not None) == reused
        assert key("SELECT k FROM lake.facts") is not None
    mlp.statement("DECLARE OR REPLACE VARIABLE since STRING DEFAULT '2013-01-01'")
    assert key("SELECT k FROM lake.facts WHERE t > since") is not None


def test_spark_takes_hints_and_works_times_out(lake: Workspace) -> None:
    hinted = "SELECT /*+ BROADCAST(lake.others), REPARTITION(2) */ count(*) AS n FROM lake.facts f JOIN lake.others USING (k)"
    found = mlp.query(hinted, name="hinted")
    assert found.to_pandas()["n"].tolist() == [ROWS] and len(found.inputs) == 2 and found.notes == ()
    assert mlp.query(hinted, name="hinted").reused

    before = lake.lake.current("lake.others")
    time.sleep(0.01)
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    time.sleep(0.01)
    mlp.write_table("lake.others", others().slice(0, 10))
    timed = "SELECT count(*) AS n FROM lake.others TIMESTAMP AS OF CAST(:at AS TIMESTAMP) - INTERVAL 1 HOUR o"
    old = mlp.query(timed, name="timed", params={"at": moment})
    assert old.inputs[0].version == before and old.to_pandas()["n"].tolist() == [50]
    assert mlp.query(timed, name="timed", params={"at": moment}).reused
    new = mlp.query("SELECT count(*) AS n FROM lake.others TIMESTAMP AS OF current_timestamp() + INTERVAL '1' DAY", name="timed")
    assert new.to_pandas()["n"].tolist() == [10] and new.notes == ()
    for expression, says in (
        ("date_add(k, 1)", "is no time"),
        ("CAST(NULL AS TIMESTAMP)", "it is NULL"),
        ("CAST('x' AS DATE)", "no time: "),
    ):
        with pytest.raises(InvalidInputError, match=says) as refused:
            mlp.query(f"SELECT 1 FROM lake.others TIMESTAMP AS OF {expression}", name="timed")
        assert "TIMESTAMP AS OF '2026" in refused.value.hint and "\n" not in refused.value.message


@pytest.mark.parametrize("call", ["now()", "rand()", "mine(1)", "DATE 'today'", "(SELECT count(*) FROM parquet.`/tmp/none`)"])
def test_what_has_no_version_is_never_reused_and_says_why(lake: Workspace, call: str) -> None:
    question = questions.ask(lake, f"SELECT {call} AS a FROM lake.facts", {})
    assert question.key is None and question.why


def test_a_changed_function_body_is_computed_again(lake: Workspace) -> None:
    from pyspark.sql.types import LongType

    session = mlp.query("SELECT 1 AS a", name="one").spark().sparkSession
    for factor in (2, 3):
        session.udf.register("times", lambda k, factor=factor: k * factor, LongType())
        found = mlp.query("SELECT times(k) AS t FROM lake.others WHERE k = 1", name="scaled")
        assert not found.reused and found.to_pandas()["t"].tolist() == [factor]


def _asks(root: str, start: Any, out: Any) -> None:
    import os

    os.environ["MLP_WORKSPACE"] = root
    _ = current().engine.session
    start.wait()
    found = mlp.query("SELECT count(*) AS n FROM range(30000000) WHERE hash(id) % 7 = 1", name="heavy")
    out.put((found.reused, found.ref))


def test_asked_at_once_it_is_computed_once(workspace: Workspace) -> None:
    context = multiprocessing.get_context("spawn")
    start, out = context.Event(), context.Queue()
    kernels = [context.Process(target=_asks, args=(str(workspace.root), start, out)) for _ in range(3)]
    for kernel in kernels:
        kernel.start()
    time.sleep(0.1)
    start.set()
    answers = [out.get(timeout=120) for _ in kernels]
    for kernel in kernels:
        kernel.join()
    assert sorted(reused for reused, _ in answers) == [False, True, True] and len({ref for _, ref in answers}) == 1


def test_understanding_a_query_is_quick(workspace: Workspace, tmp_path: Path) -> None:
    from jupyter_mlp.core import sql_reader

    times = []
    for sql in tpch.QUERIES.values():
        begun = time.thread_time()
        sql_reader.read(sql)
        times.append(time.thread_time() - begun)
    assert statistics.median(times) < 0.1  # 5 ms here; a query that takes tenths of a second to read is a mistake of ours


def test_a_table_that_a_table_function_is_given_is_pinned(lake: Workspace) -> None:
    from pyspark.sql.connect.functions import udtf

    class Doubled:
        def eval(self, row: Any) -> Any:
            yield (row["k"] * 2,)

    before = lake.lake.current("lake.others")
    session = mlp.query("SELECT 1 AS a", name="one").spark().sparkSession
    session.udtf.register("doubled", udtf(Doubled, returnType="k2: bigint"))
    for argument in ("TABLE(lake.others)", "TABLE(others)"):
        rows = mlp.query(f"SELECT count(*) AS n, max(k2) AS m FROM doubled({argument})", name="doubled")
        assert [ref.version for ref in rows.inputs] == [before] and rows.to_pandas().to_numpy().tolist() == [[50, 98]]
        assert rows.notes and not rows.reused
