"""The language of recipes: what can be said, what is refused and where, and what each step learns and does."""

from __future__ import annotations

import io
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlp.core.clock import on_the_wall, shown_at
from jupyter_mlp.core.errors import InvalidInputError, MLPError, NotFoundError
from jupyter_mlp.core.fitting import prepared
from jupyter_mlp.core.online import OnlineRecipe
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.recipe_text import parse, spelled
from jupyter_mlp.core.statistics import Need, measure
from jupyter_mlp.core.values import json_ready

TABLE = pa.table(
    {
        "delay": pa.array([1.0, None, 3.0, math.nan, 5.0, math.inf]),
        "month": pa.array([1, 2, 2, None, 12, 2**60 + 1]),
        "night": pa.array([True, False, None, True, False, True]),
        "carrier": pa.array(["UA", "UA", None, "é", "", "AA"]),
        "on day": pa.array([date(2013, 1, 31), None, date(2013, 1, 31), date(1969, 7, 20), date(2013, 6, 1), date(2013, 6, 1)]),
        "local": pa.array([datetime(2013, 3, 10, 2, 30), None, *[datetime(2013, 7, 1, 12)] * 4]),
        "moment": pa.array([datetime(2013, 7, 1, 12, tzinfo=UTC)] * 6),
        "price": pa.array([Decimal("1.10"), Decimal("2.20"), None, Decimal("3.30"), Decimal("4.40"), Decimal("5.50")]),
        "y": pa.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    }
)


def fitted(text: str, table: pa.Table = TABLE, target: str | None = None) -> Recipe:
    return prepared(parse(text), table.schema, target).fit(table.to_batches())


def column(text: str, table: pa.Table = TABLE) -> np.ndarray:
    """The features of a recipe, the same from columns, from rows and from JSON as a request sends it."""
    recipe = fitted(text, table)
    found = recipe.features({name: table.column(name) for name in recipe.columns})
    rows = [{name: json_ready(value) for name, value in row.items()} for row in table.select(recipe.columns).to_pylist()]
    online = OnlineRecipe(recipe).rows(rows)
    assert online is not None
    assert np.allclose(found, recipe.rows(rows), atol=1e-6) and np.allclose(found, online, atol=1e-6)
    assert np.array_equal(found, Recipe.from_dict(recipe.to_dict()).features({name: table.column(name) for name in recipe.columns}))
    assert found.shape[1] == recipe.width == len(recipe.names)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("delay: impute median", [1, 3, 3, 3, 5, 3]),
        ("delay: impute mean | log", [math.log(2), math.log(4), math.log(4), math.log(4), math.log(6), math.log(4)]),
        ("delay: impute -7.5", [1, -7.5, 3, -7.5, 5, -7.5]),
        ("delay: scale min-max", [0, 0, 0.5, 0, 1, 0]),
        ("night: impute 0", [1, 0, 0, 1, 0, 1]),
        ("month: vocabulary 2 | embedding", [2, 1, 1, 0, 0, 0]),  # twice a 2; then digits in order: 1 before 1152921504606846977
        ("month: bucket 2 6 | embedding", [1, 2, 2, 0, 3, 3]),
        ("carrier: impute most-frequent | embedding 9", [1, 1, 1, 4, 2, 3]),
        ("carrier: impute UA | embedding 1", [1, 1, 1, 0, 0, 0]),
        ('"on day": embedding 9', [1, 0, 1, 3, 2, 2]),
        ("price: bucket 1.1 3.3 | embedding", [2, 2, 0, 3, 3, 3]),
    ],
)
def test_what_a_step_does(text: str, expected: list[float]) -> None:
    assert column(text)[:, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_scale_is_fitted_on_the_filled_column() -> None:
    found = column("delay: impute 9 | scale")[:, 0]
    filled = np.array([1, 9, 3, 9, 5, 9])
    assert np.allclose(found, (filled - filled.mean()) / filled.std(), atol=1e-6)
    logged = np.log1p(filled)
    assert np.allclose(column("delay: impute 9 | log | scale")[:, 0], (logged - logged.mean()) / logged.std(), atol=1e-6)


def test_several_features_have_names() -> None:
    assert fitted("carrier: one-hot 2\nmonth: bucket 2 6").names == ["month=<2", "month=2..6", "month=>=6", "carrier=UA", "carrier="]
    assert column("carrier: one-hot 2").tolist() == [[1, 0], [1, 0], [0, 0], [0, 0], [0, 1], [0, 0]]
    assert column("month: cyclic 12")[3].tolist() == [0, 0]
    assert column("carrier: hash 7 | one-hot").shape == (6, 7)
    recipe = fitted("carrier: hash 50 | embedding\ndelay: scale\nmonth: embedding 3")
    assert recipe.cardinalities == {"month": 4, "carrier": 51}
    assert recipe.positions == {"delay": [0], "month": [1], "carrier": [2]}


def test_tokens_and_pictures() -> None:
    from PIL import Image

    texts = pa.table({"note": ["Late again, LATE!", None, "späte Landung"], "n": [1, 2, 3]})
    found = column("note: tokens 4 1000", texts)
    assert found[0, 0] == found[0, 2] != 0 and found[0, 3] == 0 and not found[1].any() and (found <= 1000).all()
    assert fitted("note: tokens 4 1000", texts).cardinalities == {"note": 1001}
    stream = io.BytesIO()
    Image.new("RGB", (10, 6), (255, 0, 51)).save(stream, "PNG")
    pictures = pa.table({"photo": pa.array([stream.getvalue(), None])})
    found = column("photo: image 2x3", pictures)
    assert found[0].tolist() == pytest.approx([1, 0, 0.2] * 6) and not found[1].any()
    with pytest.raises(InvalidInputError, match="picture cannot be decoded"):
        fitted("photo: image 2x2", pictures).rows([{"photo": "bm8gcGljdHVyZQ=="}])


def test_the_clock_on_the_wall_knows_summer_time() -> None:
    zone = ZoneInfo("America/New_York")
    moments = [datetime(2013, 3, 10, 6, 59, 59, tzinfo=UTC), datetime(2013, 3, 10, 7, tzinfo=UTC), datetime(2013, 11, 3, 6, tzinfo=UTC)]
    seconds = np.array([moment.timestamp() for moment in moments])
    expected = [moment.astimezone(zone).replace(tzinfo=UTC).timestamp() for moment in moments]
    assert on_the_wall(seconds, zone.key).tolist() == expected == [shown_at(one, zone.key) for one in seconds.tolist()]
    winter, summer = (
        pa.table({"t": pa.array([datetime(2013, month, 1, 17 - (month == 7), tzinfo=UTC)])}) for month in (1, 7)
    )  # noon in New York both
    recipe = fitted("t: cyclic day America/New_York", winter)
    assert np.allclose(recipe.features({"t": winter["t"]}), recipe.features({"t": summer["t"]}), atol=1e-6)
    assert not np.allclose(*(fitted("t: cyclic day", one).features({"t": one["t"]}) for one in (winter, summer)))


@given(
    st.datetimes(datetime(1930, 1, 1), datetime(2090, 1, 1)), st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"])
)
def test_every_moment_of_a_zone_is_as_python_says(moment: datetime, zone: str) -> None:
    exact = moment.replace(tzinfo=UTC)
    expected = exact.astimezone(ZoneInfo(zone)).replace(tzinfo=UTC).timestamp()
    assert shown_at(exact.timestamp(), zone) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("carrier: one-hott 3", "Line 1, column 10: there is no step one-hott.", "Did you mean one-hot?"),
        ("\n# nothing\ndelay: scale | impute mean", "Line 3, column 16: impute comes after scale.", "first step"),
        ("delay scale", "Line 1, column 7: there is no colon after scale.", "delay:"),
        ("delay:", "Line 1, column 6: a step is missing after :", "Steps:"),
        ("delay: scale ||", "Line 1, column 15: a step is missing before |", ""),
        ("on day: time", "Line 1, column 4: day is one word too many.", "quotes"),
        ('"on day: time', "Line 1, column 1: the quotation is never closed.", "Close"),
        ("delay: scale\ndelay: log", "Line 2, column 1: delay was said in line 1 already.", "Keep one"),
        ("dellay: scale", "Line 1, column 1: the data has no column dellay.", "Did you mean delay?"),
        ("z*: scale", "Line 1, column 1: no column fits z*.", ""),
        ("delay: one-hot", "one-hot reads keys, and the column holds numbers with a fraction", "bucket"),
        ("carrier: scale", "scale reads numbers, and the column holds text", "one-hot"),
        ("carrier: vocabulary 10", "vocabulary alone makes no number", "| embedding"),
        ("carrier: one-hot | scale", "scale cannot follow one-hot", "Leave scale out"),
        ("delay: impute medain", "Line 1, column 15: medain is no number.", "Did you mean median?"),
        ("delay: bucket 1 1", "the edge 1 is not above", "ascending"),
        ("moment: time America/New_Yrok", "Line 1, column 14: there is no time zone America/New_Yrok.", "America/New_York"),
        ("local: time Europe/Berlin", "on the wall already", "Leave Europe/Berlin out"),
        ("delay: target | scale", "target stands alone", ""),
        ("y: target\ndelay: target", "y is the target already", "one target"),
        ("y: target median", "median is none of regression, binary, multiclass", ""),
        ("# only this", "The recipe says nothing.", "one line"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str, hint: str) -> None:
    with pytest.raises(MLPError) as error:
        fitted(text)
    assert said in error.value.message and hint in error.value.hint
    assert "\n" not in error.value.message


_WORDS = ["delay", "carrier", ":", "|", "scale", "impute", "mean", "one-hot", "3", "*", "default", "bucket", "time", "\n", ","]


@given(st.text("aé:,|#\"'* \n\\0-.x", max_size=40) | st.lists(st.sampled_from(_WORDS), max_size=14).map(" ".join))
def test_whatever_is_written_is_a_recipe_or_a_sentence(text: str) -> None:
    try:
        definition = parse(text)
        assert parse(definition.text).text == definition.text
        recipe = prepared(definition, TABLE.schema).fit(TABLE.to_batches())
    except (InvalidInputError, NotFoundError) as error:
        told = error.message
        assert told and "\n" not in told
    else:
        assert np.isfinite(recipe.features({name: TABLE.column(name) for name in recipe.columns})).all()


def test_comments_and_spaces_are_no_part_of_a_recipe() -> None:
    assert parse("a :  scale  # x\n\nb,c:log|scale").text == "a: scale\nb, c: log | scale"
    assert spelled({"on day": "time", "a*": "scale"}) == '"on day": time\na*: scale'


def test_an_exact_name_goes_before_a_pattern_and_what_nobody_names_is_left_out() -> None:
    recipe = fitted("de*: scale\ncarrier: drop\n*a*: default\nprice: drop\ndelay: log")
    assert recipe.columns == ["delay", "on day", "local"]
    assert recipe.text.splitlines()[0] == "delay: log"


def test_the_default_leaves_out_what_names_rows_and_says_so() -> None:
    table = pa.table({"id": [f"row {n}" for n in range(1000)], "x": np.arange(1000.0), "y": np.arange(1000.0)})
    recipe = Recipe.infer(table.schema, "y").fit(table.to_batches())
    assert recipe.columns == ["x"] and "id is left out" in recipe.notes[0]
    assert recipe.text == "x: impute mean | scale\ny: target regression"
    assert fitted("id: one-hot 5\nx: scale", table).columns == ["id", "x"]


def test_quantiles_depend_on_no_order_and_are_close() -> None:
    random = np.random.default_rng(5)
    values = np.concatenate([random.lognormal(3, 2, 50_000), -random.random(500), [0.0] * 7])
    need = [Need("x", "number", numbers=True)]
    one = measure(pa.table({"x": values}).to_batches(max_chunksize=1000), need)["x"]
    other = measure(pa.table({"x": random.permutation(values)}).to_batches(), need)["x"]
    for share in (0.01, 0.25, 0.5, 0.9, 0.999):
        assert one.quantile(share) == other.quantile(share) and one.quantile(share) in values
        assert one.quantile(share) == pytest.approx(np.quantile(values, share, method="inverted_cdf"), rel=1e-3)


def test_recipes_of_the_first_release_are_still_read() -> None:
    first = {
        "target": None, "task": None, "classes": None, "rows_seen": 6, "statistics": {},
        "steps": [
            {"column": "delay", "kind": "number", "mean": 3.0, "std": 2.0, "values": []},
            {"column": "night", "kind": "flag", "mean": 0.0, "std": 1.0, "values": []},
            {"column": "carrier", "kind": "category", "mean": 0.0, "std": 1.0, "values": ["AA", "UA"]},
            {"column": "local", "kind": "time", "mean": 0.0, "std": 1e9, "values": []},
        ],
    }  # fmt: skip
    recipe = Recipe.from_dict(first)
    assert recipe.names[:4] == ["delay", "night", "carrier=AA", "carrier=UA"] and recipe.width == 9
    assert recipe.features({name: TABLE.column(name) for name in recipe.columns})[0, :4].tolist() == [-1, 1, 0, 1]
