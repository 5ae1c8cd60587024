"""The ranks of one machine average their gradients in memory that they share: the same numbers on each, and no wait for the dead."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

_RANK = """
import os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from jupyter_mlp.backends.lightning_exchange import Circle, Exchange, averaged, suits

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
torch.set_num_threads(1)
assert suits("ddp", world) or torch.accelerator.is_available()
"""
_MEANS = (
    _RANK
    + """
exchange = Exchange(Circle())
for count in (1, 7, 4096, 100_003, 5):  # fewer than ranks, no multiple of them, growing and again small
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        parts = [torch.arange(count, dtype=kind) % 251 * (one + 1) for one in range(world)]
        mine = parts[rank].clone()
        exchange.average(mine)
        exact = torch.stack(parts).double().mean(0)
        assert torch.allclose(mine.double(), exact, rtol=torch.finfo(kind).eps), (count, kind)
        everybody = [torch.empty_like(mine) for _ in range(world)]
        dist.all_gather(everybody, mine)
        assert all(torch.equal(one, mine) for one in everybody), (count, kind)

def trained(hook, sparse):
    torch.manual_seed(3)
    net = nn.Sequential(nn.EmbeddingBag(50, 16, sparse=sparse), nn.Linear(16, 300), nn.ReLU(), nn.Linear(300, 1))
    model = DistributedDataParallel(net)
    if hook:
        model.register_comm_hook(Exchange(Circle()), averaged)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    torch.manual_seed(rank)
    for _ in range(12):
        optimizer.zero_grad()
        model(torch.randint(50, (8, 3))).square().mean().backward()
        optimizer.step()
    return [one.detach().clone() for one in net.parameters()]

for sparse in (False, True):
    ours, gloos = trained(True, sparse), trained(False, sparse)
    assert all(torch.equal(a, b) for a, b in zip(ours, gloos)) if world == 2 else all(torch.allclose(a, b) for a, b in zip(ours, gloos))
print("the same", flush=True)
dist.destroy_process_group()  # as Lightning does at exit: gloo's threads are joined before they are taken apart
"""
)
_KILLED = (
    _RANK
    + """
model = DistributedDataParallel(nn.Linear(4, 1))
model.register_comm_hook(Exchange(Circle()), averaged)
for step in range(10):
    if step == 5 and rank == int(os.environ["DIES"]):
        os.kill(os.getpid(), 9)
    try:
        model(torch.ones(2, 4)).sum().backward()
    except dist.DistError as error:
        print("gone at", step, error, flush=True)
        os._exit(7)
"""
)


def _ranks(code: str, world: int, folder: Path, **more: str) -> list[subprocess.Popen[str]]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    told = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    told |= {"XDG_RUNTIME_DIR": str(folder), "CUDA_VISIBLE_DEVICES": "", **more}
    return [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env={**os.environ, **told, "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(world)
    ]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("r")  # the path of a socket has 108 bytes


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_the_same_mean_on_each_and_what_gloo_gives(world: int, folder: Path) -> None:
    ranks = _ranks(_MEANS, world, folder)
    said = [rank.communicate(timeout=120)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world and all("the same" in one for one in said), "\n".join(said)
    assert list((folder / f"jupyter-mlp-{os.getuid()}" / "ranks").iterdir()) == [], "a way to meet is left"


@pytest.mark.slow
@pytest.mark.parametrize("dies", ["0", "1"])
def test_nobody_waits_for_a_rank_that_was_killed(dies: str, folder: Path) -> None:
    ranks = _ranks(_KILLED, 3, folder, DIES=dies)
    said = [rank.communicate(timeout=60)[0] for rank in ranks]
    assert ranks[int(dies)].returncode == -signal.SIGKILL
    left = [number for number in range(3) if number != int(dies)]
    assert all(ranks[number].returncode == 7 and "gone at 5 Connection closed by peer" in said[number] for number in left), "\n".join(said)
