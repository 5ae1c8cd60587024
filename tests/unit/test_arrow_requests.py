"""Rows in and predictions out as Arrow streams, asked of real models in this process; and streams that want to do harm."""

from __future__ import annotations

import datetime
import io
import json
import random
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from arrow_bytes import KIND, broken, stream, table
from in_process import TOKEN, Ask, with_endpoint
from models import make_model, rows_of

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.serving import arrow_stream, columns
from jupyter_mlp.serving.columns import Columns
from jupyter_mlp.serving.protocols import Refusal
from jupyter_mlp.serving.requests_log import entries
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.store.workspace import Workspace

GIVEN = {**TOKEN, "content-type": KIND}
BOTH = {**GIVEN, "accept": f"{KIND}, application/json;q=0.5"}
ROWS = rows_of(1500).drop_columns(["target"])


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_arrow_and_json_give_the_same_answers_in_both_forms(workspace: Workspace, task: str) -> None:
    model = make_model(workspace, task=task)
    few = ROWS.slice(0, 200)

    async def use(ask: Ask) -> None:
        told = (await ask("/predict", {"instances": few.to_pylist()})).json
        for path in ("/predict", "/v1/models/delays:predict"):
            answer = await ask(path, stream(few, rows=30), BOTH)
            assert (answer.status, answer.headers["content-type"]) == (200, KIND)
            found = table(answer.body)
            assert found["predictions"].to_pylist() == told["predictions"] or np.allclose(found["predictions"], told["predictions"], 1e-5)
            assert found.schema.metadata[b"model"].decode() == model and found.schema.metadata[b"id"]
            if task != "regression":
                assert np.allclose(found["probabilities"].to_pylist(), told["probabilities"], atol=1e-6)
        as_json = await ask("/predict", stream(few), GIVEN)
        assert as_json.headers["content-type"] == "application/json" and len(as_json.json["predictions"]) == 200
        as_arrow = await ask("/predict", {"instances": few.to_pylist()}, {**TOKEN, "accept": KIND})
        assert table(as_arrow.body)["predictions"].to_pylist() == told["predictions"]
        assert (await ask("/predict", {"instances": few.to_pylist()}, {**TOKEN, "accept": f"{KIND};q=0"})).json["predictions"]
        assert (await ask("/predict", stream(few), {"content-type": KIND})).status == 401

    with_endpoint(workspace, [Variant(model)], use)


def test_the_log_and_the_shadow_get_the_rows_as_of_json(workspace: Workspace) -> None:
    model, shadow = make_model(workspace), make_model(workspace, constant=1.0)
    named = ROWS.replace_schema_metadata({"id": "mine", "key": "caller"})

    async def use(ask: Ask) -> None:
        assert table((await ask("/predict", stream(named), BOTH)).body).schema.metadata[b"id"] == b"mine"
        assert (await ask("/predict", {"instances": ROWS.to_pylist(), "id": "json", "key": "caller"})).status == 200
        assert (await ask("/predict", b"nothing", GIVEN)).status == 400

    with_endpoint(workspace, [Variant(model), Variant(shadow, 0, shadow=True)], use)
    found = {(one.id, one.shadow): one for one in entries(workspace.root / "requests")}
    for is_shadow in (False, True):
        ours, theirs = found["mine", is_shadow], found["json", is_shadow]
        assert (ours.instances, ours.rows, ours.key) == (theirs.instances, 1500, "caller")
        assert np.allclose(ours.predictions, theirs.predictions, 1e-5) and len(ours.predictions) == 1000
    assert Counter(one.status for one in found.values()) == {200: 4, 400: 1}


_FLAT = ROWS.slice(0, 3)
_BIG = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int8()), pa.array(["x" * 10_000]))
_SINK = io.BytesIO()
with pa.ipc.new_stream(_SINK, _FLAT.schema, options=pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)) as _writer:
    _writer.write_batch(_FLAT.combine_chunks().to_batches()[0], custom_metadata={"ARROW:experimental_compression": "zstd"})
_NULLS = stream(pa.table({"dep_delay": pa.nulls(12_345), "carrier": pa.nulls(12_345)}))


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        (stream(_FLAT.drop_columns(["carrier"])), 422, "instances[0].carrier"),
        (stream(_FLAT.append_column("gate", pa.array([1, 2, 3]))), 422, "instances[0].gate"),
        (stream(_FLAT.append_column("target", pa.array([1, 2, 3]))), 422, "instances[0].target"),
        (stream(_FLAT.set_column(0, "dep_delay", pa.array(["a", "b", "c"]))), 422, "instances.dep_delay"),
        (stream(_FLAT.set_column(0, "dep_delay", pa.array([1.0, float("inf"), 2.0]))), 422, "instances[1].dep_delay"),
        (stream(_FLAT.set_column(1, "carrier", pa.array([1, 2, 3]))), 422, "instances.carrier"),
        (stream(_FLAT.set_column(1, "carrier", pa.array([["UA"]] * 3))), 422, "instances.carrier"),
        (stream(_FLAT.set_column(1, "carrier", pa.array(["UA"] * 3, pa.string_view()))), 422, "instances.carrier"),
        (stream(_FLAT.append_column("carrier", pa.array(["UA"] * 3))), 422, "instances.carrier"),
        (stream(_FLAT.slice(0, 0)), 422, "instances"),
        (stream(pa.table({"dep_delay": [1.0] * 200_000, "carrier": _BIG})), 422, "instances.carrier"),
        (_NULLS.replace(struct.pack("<q", 12_345), struct.pack("<q", 2**40)), 413, "body"),  # rows that take no bytes
        (stream(pa.table({"dep_delay": [0.0] * 500_000, "carrier": ["UA"] * 500_000}), "zstd"), 422, "body"),
        (_SINK.getvalue(), 422, "body"),  # compressed, as Arrow said it once
        (stream(_FLAT)[:-8], 400, "body"),
        (stream(_FLAT)[:-30], 400, "body"),
        (b"", 400, "body"),
        (b'{"instances": []}', 400, "body"),
        (stream(_FLAT.set_column(1, "carrier", pa.array([b"\xff"] * 3).view(pa.string()))), 400, "body"),
        (b" " * (17 * 2**20), 413, "body"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(workspace: Workspace, body: bytes, status: int, named: str) -> None:
    async def use(ask: Ask) -> None:
        answer = await ask("/predict", body, BOTH)
        assert (answer.status, answer.json["field"]) == (status, named), answer
        assert answer.json["error"] and answer.json["hint"] and answer.headers["content-type"] == "application/json"

    with_endpoint(workspace, [Variant(make_model(workspace))], use)


def _every_kind(count: int) -> pa.Table:
    chooser = np.random.default_rng(1)
    moments = [datetime.datetime(2013, 1, 1) + datetime.timedelta(hours=int(hours)) for hours in chooser.integers(0, 9000, count)]
    return pa.table(
        {
            "number": chooser.normal(0, 5, count),
            "whole": chooser.integers(0, 50, count),
            "flag": chooser.random(count) < 0.5,
            "text": pa.array(chooser.choice(["UA", "AA", None], count)),
            "word": pa.array(chooser.choice(["UA", "AA"], count)).dictionary_encode(),
            "date": pa.array([moment.date() for moment in moments]),
            "time": pa.array(moments, pa.timestamp("us")),
            "instant": pa.array(moments, pa.timestamp("us", tz="UTC")),
        }
    )


def _recipe(rows: pa.Table) -> Recipe:
    full = rows.append_column("target", pa.array(np.arange(len(rows), dtype=float)))
    return Recipe.infer(full.schema, "target", "regression").fit(full.to_batches())


def test_columns_make_the_features_that_rows_make() -> None:
    rows = _every_kind(300)
    recipe = _recipe(rows)
    found = arrow_stream.read(stream(rows, rows=70)).instances
    features = recipe.features(found.fitting(recipe))
    assert np.allclose(features, recipe.rows(found[:300]), atol=1e-6)
    other = rows.set_column(6, "time", rows["time"].cast(pa.timestamp("ns"))).set_column(5, "date", rows["date"].cast(pa.date64()))
    other = other.set_column(7, "instant", rows["instant"].cast(pa.timestamp("ms", tz="America/New_York")))
    assert (recipe.features(arrow_stream.read(stream(other)).instances.fitting(recipe)) == features).all()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("time", pa.array([0, 2**60], pa.timestamp("s"))),
        ("time", pa.array([0, 2**62], pa.timestamp("us"))),
        ("instant", pa.array([0, 2**62], pa.timestamp("us", tz="No/Where"))),
        ("date", pa.array([0, 2**31 - 1], pa.int32()).view(pa.date32())),
        ("time", pa.array([0, 1], pa.timestamp("us", tz="UTC"))),
        ("flag", pa.array([0, 1])),
    ],
)
def test_times_out_of_range_and_other_kinds_are_named(name: str, values: pa.Array) -> None:
    rows = _every_kind(300)
    wrong = rows.slice(0, 2).set_column(rows.column_names.index(name), name, values)
    with pytest.raises(InvalidInputError, match=rf"^instances(\[1\])?\.{name} is "):
        arrow_stream.read(stream(wrong)).instances.fitting(_recipe(rows))


def test_a_dictionary_is_measured_before_it_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _every_kind(300)
    monkeypatch.setattr(columns, "_MOST_WORDS", 100)
    with pytest.raises(InvalidInputError, match=r"instances\.word is larger"):
        Columns(dict(zip(rows.column_names, rows.columns, strict=True)), 300).fitting(_recipe(rows))


def test_no_bytes_do_harm() -> None:
    rows = _every_kind(50)
    recipe, chooser = _recipe(rows), random.Random(11)
    good = [stream(rows), stream(rows, rows=7), stream(rows.slice(0, 3)), stream(rows, "zstd")]
    seen: Counter[object] = Counter()
    for _ in range(5000):
        try:
            found = arrow_stream.read(broken(chooser.choice(good), chooser)).instances
            seen[recipe.features(found.fitting(recipe)).shape == (len(found), recipe.width) and len(found[:1000]) > 0] += 1
        except Refusal as refusal:
            seen[refusal.status] += 1
        except InvalidInputError as error:
            seen["named"] += error.message.startswith("instances")
    assert seen.keys() <= {True, 400, 413, 422, "named"} and min(seen[True], seen[400], seen[422], seen["named"]) > 20, seen


_LAZY = """
import sys, json
from pathlib import Path
import jupyter_mlp.serving.child as child
child._import_the_rest()
from jupyter_mlp.serving import arrow_stream
assert "pyarrow" not in sys.modules
found = arrow_stream.read(Path(sys.argv[1]).read_bytes()).instances
assert "pandas" not in sys.modules and len(found) == 3
print(json.dumps(found[:1]))
"""


def test_arrow_is_loaded_by_the_first_stream_and_brings_no_pandas(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(stream(_FLAT))
    done = subprocess.run([sys.executable, "-c", _LAZY, str(tmp_path / "body")], capture_output=True, text=True)
    assert done.returncode == 0 and json.loads(done.stdout) == _FLAT.slice(0, 1).to_pylist(), done.stderr
