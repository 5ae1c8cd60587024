"""Which strategy is picked and what it says; the Trainer's names; what of the notebook changed a variable."""

from __future__ import annotations

import inspect
from pathlib import Path

import lightning as L  # noqa: N812 - how everybody writes it
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from jupyter_mlp.backends import lightning_strategies as strategies
from jupyter_mlp.backends.lightning_resuming import Pace
from jupyter_mlp.core import parallelism, trainer_arguments
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.parallelism import Choice, Machines, Model, check_size, chosen
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
        (30 * GB, 80 * GB, "GPU", 8, "fsdp", "a part of the model on each of 8 GPUs, about 15.0 GB"),
        (30 * GB, 80 * GB, "GPU", 2, "fsdp", "about 60.0 GB, although even that is much of 80.0 GB on each GPU; more --gpus"),
        (5 * GB, 16 * GB, "CPU", 2, "fsdp", "a part of the model on each of 2 CPUs, about 10.0 GB"),
    ],
)
def test_the_strategy_follows_from_size_and_memory(weights: int, memory: int, where: str, world: int, picked: str, said: str) -> None:
    choice = chosen("auto", None, Model(weights), Machines(world, world, memory, where))
    assert choice.strategy == picked and said in choice.why and bool(choice.why) is bool(said)
    assert choice.tensor_parallel_size == 1


def test_activations_count_where_they_are_known() -> None:
    """Sharing the weights does not make them less; fewer rows do."""
    eight = Machines(8, 8, 80 * GB, "GPU")
    assert chosen("auto", None, Model(10 * GB, 30 * GB), eight).strategy == "ddp"
    shared = chosen("auto", None, Model(10 * GB, 50 * GB), eight)
    assert shared.strategy == "fsdp" and "optimiser and activations need about 90.0 GB of 80.0 GB" in shared.why
    much = chosen("auto", None, Model(10 * GB, 90 * GB), eight)
    assert "about 95.0 GB, although even that is much" in much.why and "a smaller --batch-size" in much.why
    assert parallelism.depends_on_activations(5 * GB, eight) and not parallelism.depends_on_activations(3 * GB, eight)


def test_activations_are_counted_without_memory() -> None:
    class Net(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(100, 1000), nn.BatchNorm1d(1000), nn.Tanh(), nn.Linear(1000, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

    class Looks(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) if float(x.sum()) > 0 else -self.net(x)

    rows = 10**7  # input, what comes of the first layer, and of the tanh: real ones would take 80 GB
    model, before = Net(), torch.get_rng_state()
    found = strategies.activations(model, (rows, 100))
    assert torch.equal(before, torch.get_rng_state()) and not any(one.is_meta for one in model.parameters())
    assert found is not None and 0 <= found - rows * 4 * (100 + 1000 + 1000) < 1e5
    assert strategies.activations(Looks(), (rows, 100)) is None


def test_a_model_that_spreads_itself_does_so() -> None:
    """With Lightning's own sizes, unless others are given; in one process, too, where its code asks for the mesh as well."""
    model = Model(GB, spreads_itself=True)
    for asked, size, world, local, wanted in (
        ("auto", None, 8, 4, 4),
        ("model_parallel", None, 8, 8, 8),
        ("auto", 2, 8, 8, 2),
        ("fsdp", None, 8, 8, 1),
        ("auto", None, 1, 1, 1),
    ):
        choice = chosen(asked, size, model, Machines(world, local, 80 * GB, "GPU"))
        assert choice.strategy == "model_parallel" and choice.tensor_parallel_size == wanted
        assert f"data_parallel_size={world // wanted}, tensor_parallel_size={wanted}" in choice.why


def test_what_does_not_go_together_is_refused_and_what_is_useless_is_said() -> None:
    eight = Machines(8, 8, 80 * GB, "GPU")
    with pytest.raises(InvalidInputError, match="strategy ddp knows no --tensor-parallel-size"):
        check_size("ddp", 2, 8)
    with pytest.raises(InvalidInputError, match="8 processes cannot be divided") as refused:
        check_size("auto", 3, 8)
    assert refused.value.hint.startswith("Give --gpus 9")
    with pytest.raises(InvalidInputError, match="How the model's layers are split") as refused:
        chosen("auto", 2, Model(GB), eight)
    assert "parallelize_module" in refused.value.hint
    assert chosen("fsdp", None, Model(GB), eight) == Choice("fsdp")
    alone = chosen("fsdp", None, Model(GB), Machines(1, 1, 80 * GB, "GPU"))
    assert alone.strategy == "auto" and "--gpus 2" in alone.why
    steps = chosen("auto", None, Model(30 * GB, steps_itself=True), eight)
    assert steps.strategy == "ddp" and "cannot share a model that steps its optimisers itself" in steps.why


def test_what_is_known_of_a_model() -> None:
    """Whether its own code asks for the mesh, in whatever method; a configure_model() that only makes layers does not."""

    class Lazy(L.LightningModule):
        def configure_model(self) -> None:
            self.net = nn.Linear(1, 1)

    class Spread(Lazy):
        def configure_model(self) -> None:
            self._split()

        def _split(self) -> None:
            assert self.device_mesh

    assert strategies.chosen("auto", None, Lazy(), 1, (4, 1)) == Choice("auto")
    assert strategies.chosen("auto", None, Spread(), 1).strategy == "model_parallel"
    assert "saved at the end only" in strategies.chosen("fsdp_cpu_offload", None, Lazy(), 2).why
    assert strategies.pace("fsdp_cpu_offload", Pace(steps=3)) == Pace() and strategies.pace("fsdp", Pace(steps=3)) == Pace(steps=3)


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
