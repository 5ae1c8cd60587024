"""A model that is spread over processes: trained to the same weights, put together again after a break to the bit."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.utils.data import DataLoader, IterableDataset

from jupyter_mlp.backends.lightning_checkpoints import AsyncCheckpoints, load
from jupyter_mlp.backends.lightning_placements import described, joined, meshes_of, spread_like
from jupyter_mlp.backends.lightning_resuming import Checkpointer, Pace
from jupyter_mlp.backends.lightning_sharding import Sharded, check_copies, filled, repeated_layers, shard, skeleton
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.store import checkpoints, shares
from jupyter_mlp.store.jobs import RunFolder

STEPS, EPOCHS = 4, 2
BROKEN = STEPS + 2
RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class Killed(Exception):
    pass


class Rows(IterableDataset):
    """Batches that follow from epoch and number; each group of ranks has its rows of them."""

    epoch = start = 0

    def __init__(self, groups: int) -> None:
        self.group, self.groups = RANK * groups // WORLD, groups
        self.total = 8 * STEPS
        self.share = self.regular = shares.regular(8, groups)

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[Any]:
        for number in range(self.start, STEPS):
            x = torch.randn(8, 6, generator=torch.Generator().manual_seed(100 * self.epoch + number))
            yield x[self.group :: self.groups], x.sum(1)[self.group :: self.groups]


class Deep(L.LightningModule):
    """Repeated layers, some of odd sizes, and a weight that a step uses outside of forward()."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 10)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(10, 10), nn.Tanh()) for _ in range(3))
        self.last = nn.Linear(10, 1)
        self.scale = nn.Parameter(torch.ones(1))
        self.killed_at = -1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x).squeeze(-1) * self.scale

    def training_step(self, batch: Any, index: int) -> torch.Tensor:
        if self.trainer.current_epoch * STEPS + index == self.killed_at:
            raise Killed
        chance = 1 + random.random()
        loss = nn.functional.mse_loss(self(batch[0]), batch[1]) * chance + self.penalty()
        self.log("loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def penalty(self) -> Any:
        return 0.01 * self.first.weight.pow(2).sum()

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), 0.02)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Halves(Deep):
    """Tensor parallel as Lightning's documentation writes it: half of each layer in each process."""

    def __init__(self) -> None:
        L.LightningModule.__init__(self)
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 1)
        self.killed_at = -1

    def configure_model(self) -> None:
        plan = {"first": ColwiseParallel(), "last": RowwiseParallel()}
        parallelize_module(self, self.device_mesh["tensor_parallel"], plan)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).tanh()).squeeze(-1)

    def penalty(self) -> float:
        return 0.0


class Both(Halves):
    """Tensor parallel, and FSDP over the groups of processes that are."""

    def configure_model(self) -> None:
        super().configure_model()
        for layer in (self.first, self.last):
            fully_shard(layer, mesh=self.device_mesh["data_parallel"])


class Plain(Halves):
    """What `Halves` is in one process."""

    def configure_model(self) -> None:
        pass


KINDS: dict[str, tuple[type[L.LightningModule], int, dict[str, Any]]] = {
    "fsdp": (Deep, 2, {"gradient_clip_val": 1.0}),
    "accumulated": (Deep, 2, {"accumulate_grad_batches": 3}),
    "tensor": (Halves, 1, {}),
    "both": (Both, 2, {}),
}
GROUPS_OF_FOUR = {"fsdp": 4, "accumulated": 4, "tensor": 1, "both": 2}


def fit(
    folder: Path, kind: type[L.LightningModule], groups: int, strategy: Any, killed_at: int = -1, resume: Path | None = None, **more: Any
) -> L.Trainer:
    torch.set_num_threads(1)
    L.seed_everything(3, verbose=False)
    model, rows, run = kind(), Rows(groups), RunFolder(folder)
    if resume is not None:
        L.seed_everything(99, verbose=False)  # another process draws other numbers while it starts
        for one in model.parameters():
            nn.init.zeros_(one)
    model.killed_at = killed_at
    writer = AsyncCheckpoints(lambda told: run.say({"note": told}))
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        devices=WORLD,
        strategy=strategy,
        callbacks=[Checkpointer(run, Pace(steps=1), writer, rows, STEPS)],
        plugins=[writer],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **more,
    )
    data = [DataLoader(one, batch_size=None, generator=torch.Generator()) for one in (rows, Rows(groups))]
    try:
        trainer.fit(model, *data, ckpt_path=resume)
    finally:
        writer.wait()
    return trainer


def as_rank(folder: Path) -> None:
    """What each of two ranks does: every kind straight through, then broken off and put together again."""
    AsyncCheckpoints.busy = False  # type: ignore[assignment, method-assign]
    for name, (kind, groups, more) in KINDS.items():
        straight, broken = folder / f"{name}.straight", folder / f"{name}.broken"
        left = folder / f"{name}.cut"
        for run in (straight, broken, left):
            run.mkdir(exist_ok=True)

        def spread(groups: int = groups) -> Sharded:
            return Sharded(groups, WORLD // groups)

        done = fit(straight, kind, groups, spread(), **more)
        saved(done, folder / f"{name}.straight.safetensors")
        done.save_checkpoint(folder / f"{name}.ckpt")  # as a ModelCheckpoint of the user's does
        with suppress(Killed):
            fit(broken, kind, groups, spread(), killed_at=BROKEN, **more)
        dist.barrier()
        found, said = checkpoints.newest(broken / "checkpoints") if RANK == 0 else (None, [])
        assert said == []
        told = [found]
        dist.broadcast_object_list(told)
        assert told[0] is not None and told[0].step == BROKEN, told
        saved(fit(broken, kind, groups, spread(), resume=told[0].path, **more), folder / f"{name}.again.safetensors")
        with suppress(Killed):
            fit(left, kind, groups, spread(), killed_at=STEPS, **more)
        dist.barrier()
        saved(fit(broken, kind, groups, spread(), resume=cut(folder / f"{name}.one"), **more), folder / f"{name}.one_two.safetensors")


def as_one_of_four(folder: Path) -> None:
    """What each of four ranks does: go on from what two have left."""
    for name, (kind, _, more) in KINDS.items():
        groups = GROUPS_OF_FOUR[name]
        run = folder / f"{name}.four"
        run.mkdir(exist_ok=True)
        done = fit(run, kind, groups, Sharded(groups, WORLD // groups), resume=cut(folder / f"{name}.cut"), **more)
        saved(done, folder / f"{name}.two_four.safetensors")


def cut(run: Path) -> Path:
    """The checkpoint at the end of the first epoch."""
    return next(one for one in (run / "checkpoints").glob(f"{STEPS:09}*") if one.suffix != ".json")


def saved(trainer: L.Trainer, path: Path) -> None:
    weights = trainer.strategy.lightning_module_state_dict()
    if RANK == 0:
        save_file({name: one.contiguous() for name, one in weights.items()}, path)


def started(folder: Path, world: int) -> None:
    """Run this file in so many processes, to the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    told = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    told |= {"TORCHELASTIC_RUN_ID": str(world), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, __file__, str(folder)]
    ranks = [subprocess.Popen(command, env={**os.environ, **told, "RANK": str(one), "LOCAL_RANK": str(one)}) for one in range(world)]
    assert [rank.wait(240) for rank in ranks] == [0] * world


def in_one(kind: type[L.LightningModule]) -> type[L.LightningModule]:
    return Plain if issubclass(kind, Halves) else kind


@pytest.mark.slow
def test_processes_with_a_part_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights are those of one process, up to rounding; after a break in the middle of an epoch they are the same bits.

    Other processes go on from the checkpoint, too: four from that of two, one from that of two, two from that of one.
    """
    monkeypatch.setattr(AsyncCheckpoints, "busy", False)  # none is left out because the one before is being written
    for name, (kind, _, more) in KINDS.items():
        (tmp_path / f"{name}.one").mkdir()
        with suppress(Killed):
            fit(tmp_path / f"{name}.one", in_one(kind), 1, "auto", killed_at=STEPS, **more)
    started(tmp_path, 2)
    started(tmp_path, 4)
    for name, (kind, _, more) in KINDS.items():
        straight, again = (load_file(tmp_path / f"{name}.{which}.safetensors") for which in ("straight", "again"))
        alone = tmp_path / name
        alone.mkdir()
        expected = fit(alone, in_one(kind), 1, "auto", **more).lightning_module.state_dict()
        assert straight.keys() == expected.keys() == again.keys()
        whole = torch.load(tmp_path / f"{name}.ckpt", weights_only=True)
        assert all(torch.equal(whole["state_dict"][one], straight[one]) for one in expected)
        assert len(whole["optimizer_states"][0]["state"]) == len(expected)
        for one, value in expected.items():
            torch.testing.assert_close(straight[one], value, atol=1e-4, rtol=1e-4)
            assert torch.equal(straight[one], again[one]), f"{one} of {name} is another after a restart"
        kept = sorted((tmp_path / f"{name}.broken" / "checkpoints").iterdir())
        assert [path.name for path in kept] == ["000000006", "000000006.json", "000000007", "000000007.json"]
        parts = [load_file(path) for path in sorted(kept[-2].glob("*.safetensors"))]
        sizes = [sum(one.numel() for one in part.values()) for part in parts]
        assert len(parts) == 2 and max(sizes) < 0.8 * sum(sizes), "one process wrote what both hold"
        state = next(one for one in load(kept[0]).values() if isinstance(one, dict) and "gradients" in one)
        shapes = {one: value.shape for one, value in state["gradients"][0].items()}
        assert shapes == ({one: value.shape for one, value in expected.items()} if name == "accumulated" else {})
        others = {which: load_file(tmp_path / f"{name}.{which}.safetensors") for which in ("two_four", "one_two")}
        (tmp_path / f"{name}.two_one").mkdir()
        model = fit(tmp_path / f"{name}.two_one", in_one(kind), 1, "auto", resume=cut(tmp_path / f"{name}.cut"), **more).lightning_module
        for which, found in {**others, "two_one": model.state_dict()}.items():
            assert found.keys() == expected.keys()
            for one, value in expected.items():
                torch.testing.assert_close(found[one], value, atol=1e-4, rtol=1e-4, msg=lambda said, at=(name, which, one): f"{at}: {said}")


class Manual(Deep):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class Single(Deep):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))


@pytest.mark.parametrize(("kind", "said"), [(Manual, "steps its optimisers itself"), (Single, "cannot shard scale of Single")])
def test_what_cannot_be_sharded_is_refused(kind: type[Deep], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as refused:
        shard(kind(), mesh=None)  # type: ignore[arg-type]  # it does not come that far
    assert "--strategy ddp" in refused.value.hint


def test_repeated_layers_that_are_called() -> None:
    model = Deep()
    assert repeated_layers(model) == list(model.blocks)
    model.blocks[1][0].weight = model.first.weight = nn.Parameter(torch.ones(10, 10))  # shared: no layer's own
    assert repeated_layers(model) == [model.blocks[0], model.blocks[2]]
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    assert repeated_layers(nn.Sequential(nn.Embedding(20, 8), encoder)) == list(encoder.layers)
    assert repeated_layers(nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))) == []


def test_a_skeleton_takes_no_memory_and_is_filled() -> None:
    model = Deep()
    bare = skeleton(model)
    assert all(one.is_meta for one in bare.parameters()) and not any(one.is_meta for one in model.parameters())
    whole = filled(bare, model.state_dict())
    assert whole is bare and torch.equal(whole(torch.ones(1, 6)), model(torch.ones(1, 6)))
    assert filled(skeleton(model), {"other.weight": torch.ones(1)}) is None
    model.lock = open(os.devnull)  # noqa: SIM115
    with model.lock, pytest.raises(InvalidInputError, match="Deep cannot be spread over processes, since it cannot be copied"):
        skeleton(model)


@contextmanager
def four_ranks() -> Iterator[None]:
    """Be the second of four ranks that do not exist: enough to say where parts belong."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=1, world_size=4, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_copies_that_never_hear_of_one_another_are_refused() -> None:
    """Two groups of two processes, and a model that is split within its group only."""
    with four_ranks():
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data_parallel", "tensor_parallel"))
        model = Halves()
        parallelize_module(model, mesh["tensor_parallel"], {"first": ColwiseParallel(), "last": RowwiseParallel()})
        with pytest.raises(InvalidInputError, match=r"configure_model\(\) of Halves leaves 2 copies of it") as refused:
            check_copies(model, mesh["data_parallel"])
        assert "fully_shard" in refused.value.hint and "--tensor-parallel-size" in refused.value.hint
        for layer in (model.first, model.last):
            fully_shard(layer, mesh=mesh["data_parallel"])
        check_copies(model, mesh["data_parallel"])


def test_where_a_part_belongs_is_kept() -> None:
    """Also of weights that FSDP and tensor parallelism split both."""
    with four_ranks():
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data_parallel", "tensor_parallel"))
        model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 5), nn.LayerNorm(5))
        parallelize_module(model, mesh["tensor_parallel"], {"0": ColwiseParallel(), "1": RowwiseParallel()})
        fully_shard(model, mesh=mesh["data_parallel"])
        meshes = meshes_of(model)
        for name, one in model.named_parameters():
            assert isinstance(one, DTensor)
            values = torch.arange(float(one.numel())).reshape(one.shape)
            part = spread_like(values, one)
            assert isinstance(part, DTensor) and part.to_local().shape == one.to_local().shape and part.placements == one.placements
            back = joined(described(one, name), one.to_local().clone(), meshes)
            assert back.placements == one.placements and back.shape == one.shape and back.stride() == one.stride()
            assert back.device_mesh == one.device_mesh and torch.equal(back.to_local(), one.to_local())


if __name__ == "__main__":
    (as_rank if WORLD == 2 else as_one_of_four)(Path(sys.argv[1]))
