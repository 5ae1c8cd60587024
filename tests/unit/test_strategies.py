"""Which strategy is picked and what it says; the Trainer's names; what of the notebook changed a variable."""

from __future__ import annotations

import inspect
from pathlib import Path

import lightning as L  # noqa: N812 - how everybody writes it
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jupyter_mlp.backends.lightning_strategies import by_size
from jupyter_mlp.core import trainer_arguments
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.notebook import own
from jupyter_mlp.store import batches

GB = 10**9


@pytest.mark.parametrize(
    ("weights", "memory", "where", "world", "picked", "said"),
    [
        (GB, 80 * GB, "GPU", 1, "auto", ""),
        (30 * GB, 80 * GB, "GPU", 1, "auto", "more --gpus let FSDP share them"),
        (GB, 80 * GB, "GPU", 8, "ddp", "about 4.0 GB of 80.0 GB on each GPU"),
        (30 * GB, 80 * GB, "GPU", 8, "fsdp", "a part of the model on each of 8 GPUs"),
        (30 * GB, 16 * GB, "CPU", 2, "ddp", "needs GPUs"),
    ],
)
def test_the_strategy_follows_from_size_and_memory(weights: int, memory: int, where: str, world: int, picked: str, said: str) -> None:
    strategy, why = by_size(weights, memory, where, world)
    assert strategy == picked and said in why and bool(why) is bool(said)


def test_every_argument_of_the_trainer_is_taken_or_said_otherwise() -> None:
    ours, theirs = {*trainer_arguments.NAMES, *trainer_arguments.OURS}, set(inspect.signature(L.Trainer).parameters)
    assert ours == theirs


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("layers.append(1)", {"layers"}),
        ("net.head = nn.Identity()", {"net"}),
        ("table['a'] = 1", {"table"}),
        ("for name in names:\n    found.setdefault(name, []).append(1)", {"found"}),
        ("trainer.fit(model, loader)", set()),
        ("model.eval()", set()),
        ("def grow():\n    layers.append(1)", set()),
    ],
)
def test_what_a_statement_changes(text: str, changed: set[str]) -> None:
    assert own.changed(text) == changed


def test_batches_are_the_same_rows_whatever_the_windows_memory_held_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows share their memory by turns: every row of an epoch still comes exactly once, and its own label with it."""
    monkeypatch.setattr(batches, "_WINDOW", 64)
    monkeypatch.setattr(batches, "_LEAST", 8)
    table = pa.table({"x": [float(i) for i in range(1000)], "y": [2.0 * i for i in range(1000)]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=50)
    recipe = Recipe.infer(table.schema, "y").fit(table.to_batches())
    plan = batches.split([str(tmp_path / "rows.parquet")], recipe, 0.1, 7)
    x_of = {round(float(x), 5): i for i, x in enumerate(recipe.features({"x": table.column("x")})[:, 0])}
    for world in (1, 2):
        seen = []
        for rank in range(world):
            for x, y in batches.stream(plan, recipe, batches.TRAIN, 37, rank=rank, world=world):
                assert [2.0 * x_of[round(float(one), 5)] for one in x[:, 0]] == y.tolist()
                seen += y.tolist()
        assert len(seen) == len(set(seen)) == plan.rows(batches.TRAIN) // world * world
