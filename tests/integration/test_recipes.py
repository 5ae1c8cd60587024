"""Recipes on the real Spark server, in a real training and in an exported model: one definition, the same numbers everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Notebook
from proof_recipes import counted_scans

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError
from jupyter_mlp.core.fitting import prepared
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.recipe_text import parse
from jupyter_mlp.core.references import Ref
from jupyter_mlp.core.statistics import measure
from jupyter_mlp.core.values import json_ready
from jupyter_mlp.serving.predictor import Predictor
from jupyter_mlp.store import batches, datasets, recipes, registry
from jupyter_mlp.store.workspace import Workspace

ROWS = 100_000
TEXT = """
delay:    impute median | log | scale
distance: scale min-max
visits:   bucket 10
big:      scale
hour:     cyclic 24
month:    one-hot 12
night:    default
carrier:  impute most-frequent | one-hot 20
dest:     vocabulary 30 | embedding
tail:     hash 500 | embedding
note:     tokens 6 5000
price:    bucket 7 | embedding
day:      time
local:    time
moment:   time America/New_York
again:    cyclic week Australia/Lord_Howe
arr:      target
"""


def mixed(rows: int, seed: int, unseen: bool = False) -> pa.Table:
    """Rows of all types with gaps, infinities, NaN, odd texts, integers beyond 2^53 and times in and out of summer time."""
    random = np.random.default_rng(seed)

    def gaps(values: Any, kind: pa.DataType | None = None) -> pa.Array:
        return pa.array(values, mask=random.random(rows) < 0.07, type=kind)

    delay = random.normal(5, 40, rows)
    for value in (np.inf, -np.inf, np.nan, 1e300, -1e299, 0.0, -0.0):
        delay[random.integers(0, rows, 50)] = value
    words = ["UA", "AA", "", "é", "日本", " x ", "UA\n"] + (["neu", "\N{PILE OF POO}", "ua"] if unseen else [])
    micros = random.integers(1_350_000_000_000_000, 1_400_000_000_000_000, rows)
    near = rows // 50
    micros[:near] = 1_362_898_800_000_000 + random.integers(-3, 3, near) * 1_800_000_000  # around 10 March 2013, 3:00 in New York
    micros[-5:] = -5_000_000_000_000_001
    return pa.table(
        {
            "row": np.arange(rows),
            "delay": gaps(delay),
            "distance": gaps(random.gamma(2, 500, rows).astype(np.float32)),
            "visits": gaps(random.poisson(3, rows)),
            "big": gaps(random.integers(-(2**62), 2**62, rows)),
            "hour": gaps(random.integers(0, 24, rows).astype(np.int8)),
            "month": gaps(random.integers(1, 14 if unseen else 13, rows)),
            "night": gaps(random.random(rows) < 0.3),
            "carrier": gaps(random.choice(words, rows)),
            "dest": gaps([f"D{int(n)}" for n in random.gamma(1, 30, rows)]),
            "tail": gaps([f"N{n}" for n in random.integers(0, 4000, rows)]),
            "note": gaps([f"{random.choice(words)} Flug {n % 90} VERSPÄTET" for n in range(rows)]),
            "price": gaps(random.integers(0, 10**6, rows) / 1000).cast(pa.decimal128(18, 3), safe=False),
            "day": gaps(micros // 86_400_000_000, pa.int64()).cast(pa.int32()).cast(pa.date32()),
            "local": gaps(micros).cast(pa.timestamp("us")),
            "moment": gaps(micros).cast(pa.timestamp("us", "UTC")),
            "again": gaps(micros).cast(pa.timestamp("us", "UTC")),
            "arr": random.normal(0, 1, rows),
        }
    )


def published(workspace: Workspace, table: pa.Table, name: str) -> datasets.DatasetVersion:
    with workspace.activities.recording("query", name=name) as draft:
        ref = datasets.publish_table(workspace, draft, name, table)
    return datasets.load(workspace, ref, lambda: workspace.engine)


def test_spark_training_and_the_exported_model_make_the_same_features(workspace: Workspace, tmp_path: Path) -> None:
    learned = mlp.recipe("all", TEXT, data=published(workspace, mixed(ROWS, 1), "learned")).fitted
    assert learned is not None and learned.rows_seen == ROWS
    data = published(workspace, mixed(ROWS, 2, unseen=True), "asked")

    from jupyter_mlp.backends import spark_recipe

    workspace.engine.session.conf.set("spark.sql.session.timeZone", "Asia/Kathmandu")
    found = spark_recipe.apply(workspace.engine.frame(data.files, data.schema), learned, keep=["row"]).toArrow().sort_by("row")
    in_batch = found["features"].combine_chunks().values.to_numpy().reshape(ROWS, learned.width)

    plan = batches.split(data.files, learned, 0.0, seed=7)
    streamed = list(batches.stream(plan, learned, batches.TRAIN, 8192, shuffle=False))
    in_training = np.concatenate([x for x, _ in streamed])
    assert np.allclose(found["label"].to_numpy(), np.concatenate([y for _, y in streamed if y is not None]), rtol=1e-6)

    predictor = _handing_on(tmp_path, learned)
    rows = data.to_arrow(learned.columns).to_pylist()
    sent = json.loads(json.dumps([{name: json_ready(value) for name, value in row.items()} for row in rows]))
    online = np.concatenate([predictor.answer(sent[at : at + 50]).scores for at in range(0, ROWS, 50)])
    in_bulk = predictor.answer(sent).scores

    assert in_batch.shape == in_training.shape == online.shape == (ROWS, learned.width)
    assert np.isfinite(in_training).all()
    for other in (in_batch, online, in_bulk):
        wrong = ~np.isclose(other, in_training, rtol=1e-6, atol=1e-6)
        assert not wrong.any(), (int(wrong.sum()), {learned.names[at] for at in np.flatnonzero(wrong.any(axis=0))})


def _handing_on(folder: Path, recipe: Recipe) -> Predictor:
    """An exported model whose network gives its features back: what the endpoint computes is what it answers."""
    import torch

    path = folder / "model.onnx"
    sample = torch.zeros(2, recipe.width)
    rows = ({0: torch.export.Dim("rows")},)
    torch.onnx.export(torch.nn.Identity(), (sample,), path, output_names=["output"], dynamic_shapes=rows, dynamo=True, verbose=False)
    card = {"uuid": "1", "task": None, "export": {"kind": "onnx"}, "recipe": {**recipe.to_dict(), "task": None, "target": None}}
    (folder / "model.json").write_text(json.dumps(card))
    return Predictor.load(folder)


def test_spark_and_this_process_learn_the_same_numbers(workspace: Workspace) -> None:
    data = published(workspace, mixed(20_000, 3), "learned")
    unfitted = prepared(parse(TEXT), data.schema)
    here = unfitted.learned(measure(data.batches(), unfitted.needs, unfitted.target))
    workspace.engine.session.conf.set("spark.sql.session.timeZone", "America/New_York")
    with counted_scans() as scans:
        facts, passes = workspace.engine.measure(data.files, data.schema, unfitted.needs, unfitted.needs[-1])
    assert scans == [(1, 20_000), (1, 20_000)] and passes == 2
    there = unfitted.learned(facts)
    assert there.inputs == here.inputs and there.to_dict() == here.to_dict()


def test_a_changed_text_or_dataset_is_a_new_version_and_the_same_is_known(notebook: Notebook, workspace: Workspace) -> None:
    first = published(workspace, mixed(500, 1), "trips")
    written = notebook.cell("%%mlp_recipe delays\ndelay: scale  # minutes\ncarrier: one-hot 3\narr: target")
    assert written.ref.startswith("recipe:delays@") and written.fitted is None and not written.reused
    assert notebook.cell("%%mlp_recipe delays\ndelay:   scale\n\ncarrier: one-hot 3\narr: target").reused
    fitted = notebook.cell("%mlp_recipe delays --data trips")
    assert fitted.fitted.width == 4 and fitted.data == first.reference and "1 pass over the rows" in repr(fitted)
    again = notebook.cell("%mlp_recipe delays --data trips")
    assert again.reused and again.ref == fitted.ref and again.fitted == fitted.fitted
    maker = workspace.activities.maker(fitted.reference)
    assert maker is not None and set(maker.used) == {first.reference, written.reference}
    assert notebook.cell("%mlp_recipe delays").ref == fitted.ref  # the newest of that name, shown
    changed = notebook.cell("%%mlp_recipe delays --data trips\ndelay: scale\ncarrier: one-hot 4\narr: target")
    published(workspace, mixed(500, 2), "trips")
    moved = notebook.cell("%mlp_recipe delays --data trips")
    assert len({fitted.ref, changed.ref, moved.ref}) == 3 and not changed.reused and not moved.reused
    assert notebook.cell(f"%mlp_recipe delays@{fitted.reference.version[:8]}").fitted == fitted.fitted
    with pytest.raises(InvalidInputError, match=r"Line 1, column 8: there is no step scael\."):
        notebook.cell("%%mlp_recipe delays\ndelay: scael")
    with pytest.raises(NotFoundError, match="No recipe delayz"):
        notebook.cell("%mlp_recipe delayz")


EMBEDS = """
import lightning as L
import torch
from torch import nn

class Embeds(L.LightningModule):
    def __init__(self, width, cardinalities, positions):
        super().__init__()
        self.places = [positions[name][0] for name in cardinalities]
        self.tables = nn.ModuleList(nn.Embedding(size, 4) for size in cardinalities.values())
        self.plain = [place for place in range(width) if place not in self.places]
        self.net = nn.Linear(len(self.plain) + 4 * len(self.places), 1)

    def forward(self, x):
        found = [table(x[:, place].long()) for place, table in zip(self.places, self.tables)]
        return self.net(torch.cat([x[:, self.plain], *found], dim=1))[:, 0]

    def training_step(self, batch, index):
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.05)
"""


def test_a_model_with_embeddings_names_the_recipe_it_was_trained_with(notebook: Notebook, workspace: Workspace) -> None:
    codes = np.arange(3000) % 7
    table = mixed(3000, 4).select(["delay", "tail"])
    table = table.append_column("dest", pa.array([f"D{code}" for code in codes])).append_column("arr", pa.array(codes * 2.0))
    published(workspace, table, "trips")
    notebook.cell("%%mlp_recipe delays\ndelay: impute median | scale\ndest: embedding 30\ntail: hash 50 | embedding\narr: target")
    notebook.cell(EMBEDS)
    run = notebook.cell("run = %mlp_train Embeds --data trips --recipe delays --max-epochs 20 --batch-size 128\nrun")
    recipe = recipes.load(workspace, run.recipe)
    assert recipe.reference.name == "delays" and recipe.data == run.inputs[0] and "delays@" in repr(run)
    model = registry.load(workspace, run.model)
    assert model.card_data["prepared_by"] == run.recipe and model.recipe == recipe.fitted
    maker = workspace.activities.maker(Ref.parse(model.ref))
    assert maker is not None and recipe.reference in maker.used
    assert model.card_data["export"]["kind"] == "onnx"
    assert model.card_data["arguments"] == {"width": 3, "cardinalities": {"dest": 8, "tail": 51}, "positions": recipe.fitted.positions}
    assert notebook.cell("%mlp_evaluate run --data trips").metrics["mae"] < 0.5  # only the embedding can know it
    assert notebook.cell("%mlp_train Embeds --data trips --recipe delays --max-epochs 20 --batch-size 128").reused
    features = notebook.cell("%mlp_recipe delays --data trips --into numbers")
    assert features.rows == 3000 and features.schema.names == ["features", "label"]
    assert [edge for edge in mlp.graph(run.model).edges if edge[0] == run.recipe]
