"""Checkpoints: what goes in comes out, a damaged one is never loaded, the last few are kept."""

from __future__ import annotations

import math
import random
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jupyter_mlp.backends.lightning_checkpoints import PLACE, AsyncCheckpoints, load
from jupyter_mlp.core.errors import Again
from jupyter_mlp.store import checkpoints


def write(folder: Path, step: int, state: dict[str, Any] | None = None) -> list[str]:
    """Write one checkpoint and return what was complained of."""
    said: list[str] = []
    writer = AsyncCheckpoints(said.append)
    place = {"step": step, "epoch": 1, "batch": 2, "events": 3, "logs": [4, 5]}
    writer.save_checkpoint({"state": state or {"w": torch.full((64,), float(step))}, PLACE: place}, folder)
    writer.teardown()
    return said


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    tied = torch.randn(3, 4)
    state = {
        "weights": OrderedDict(a=tied, b=tied, half=torch.ones(2, dtype=torch.bfloat16), none=None, empty=torch.zeros(0, 3)),
        "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "groups": [{"betas": (0.9, 0.999), "lr": 1e-3, "amsgrad": False}]},
        "milestones": Counter({3: 2}),
        "random": random.getstate(),
        "numpy": (np.arange(5, dtype=np.uint32), np.float32(1.5)),
        "best": math.inf,
    }
    assert write(tmp_path, 5, state) == []
    found, said = checkpoints.newest(tmp_path)
    assert found is not None and said == []
    assert (found.step, found.epoch, found.batch, found.events, found.logs) == (5, 1, 2, 3, (4, 5))
    back = load(found.path)["state"]
    assert torch.equal(back["weights"]["a"], tied) and torch.equal(back["weights"]["b"], tied)
    assert back["weights"]["half"].dtype == torch.bfloat16 and back["weights"]["empty"].shape == (0, 3)
    assert back["optimizer"]["groups"] == state["optimizer"]["groups"] and list(back["optimizer"]["state"]) == [0]
    assert back["milestones"] == Counter({3: 2}) and isinstance(back["milestones"], Counter)
    assert back["random"] == state["random"] and back["best"] == math.inf
    assert back["numpy"][0].dtype == np.uint32 and back["numpy"][1] == 1.5


def test_a_snapshot_is_of_its_moment(tmp_path: Path) -> None:
    weight = torch.zeros(1000)
    said: list[str] = []
    writer = AsyncCheckpoints(said.append)
    writer.save_checkpoint({"w": weight, PLACE: {"step": 1, "epoch": 0, "batch": 1, "events": 0, "logs": [0]}}, tmp_path)
    weight += 1  # the next step
    writer.wait()
    found, _ = checkpoints.newest(tmp_path)
    assert found is not None and float(load(found.path)["w"].sum()) == 0.0


def test_the_last_few_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 10, 11):
        write(tmp_path, step)
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["000000010", "000000011"]
    assert len(list(tmp_path.iterdir())) == 2 * checkpoints.KEPT


def test_what_is_no_number_is_named_and_training_goes_on(tmp_path: Path) -> None:
    [said] = write(tmp_path, 1, {"layers": [torch.ones(1), object()]})
    assert "holds a object at state.layers[1]" in said
    assert checkpoints.newest(tmp_path) == (None, [])


def test_a_full_disk_is_said_and_the_one_before_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    with monkeypatch.context() as broken:
        broken.setattr("safetensors.torch.save_file", full)
        [said] = write(tmp_path, 2)
    assert "step 2 was not written" in said and "disk is full" in said
    found, _ = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 1


def test_a_damaged_one_is_never_loaded(tmp_path: Path) -> None:
    """A flipped bit, a cut, a missing file, in the tensors or in the manifest: the one before is used, and it is said."""
    chance = random.Random(7)
    for trial in range(60):
        folder = tmp_path / str(trial)
        write(folder, 1)
        write(folder, 2)
        broken = folder / f"000000002.{chance.choice(['safetensors', 'json'])}"
        data = bytearray(broken.read_bytes())
        match chance.choice(["bit", "cut", "empty", *(["gone"] if broken.suffix == ".safetensors" else [])]):
            case "bit":
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            case "cut":
                del data[chance.randrange(len(data)) :]
            case "empty":
                data.clear()
            case "gone":
                broken.unlink()
        if broken.exists():
            broken.write_bytes(data)
        if (folder / "000000002.safetensors").exists():
            with pytest.raises(Again, match="changed on disk"):
                load(folder / "000000002.safetensors")
        found, said = checkpoints.newest(folder)
        assert found is not None and found.step == 1 and float(load(found.path)["state"]["w"][0]) == 1.0
        assert len(said) == 1 and said[0].startswith("The checkpoint of step 2 is not used")
        assert checkpoints.newest(folder)[1] == []


def test_parts_of_another_attempt_make_no_checkpoint(tmp_path: Path) -> None:
    """A killed attempt left one part of step 2; the next attempt's other part does not go with it."""
    place = {"step": 2, "epoch": 0, "batch": 2, "events": 0, "logs": [0, 0]}

    def part(rank: int, of: str, step: int = 2) -> None:
        checkpoints.publish_part(
            tmp_path, {**place, "step": step}, checkpoints.Part(rank, 2, of), lambda path: path.write_bytes(of.encode())
        )

    part(0, "killed")
    part(1, "next")
    assert checkpoints.newest(tmp_path) == (None, [])
    part(0, "next")
    found, said = checkpoints.newest(tmp_path)
    assert found is not None and said == [] and found.path == tmp_path / "000000002"
    files = [found.path / "00000.safetensors", found.path / "00001.safetensors", None]
    assert [checkpoints.part_of(found.path, rank) for rank in range(3)] == files
    part(0, "later", 1)  # of a step before, and never complete
    for step in (3, 4):
        part(0, "more", step)
        part(1, "more", step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000003", "000000003.json", "000000004", "000000004.json"]
    (tmp_path / "000000004" / "00001.safetensors").write_bytes(b"MORE")
    assert checkpoints.part_of(tmp_path / "000000004", 1) is None
    found, said = checkpoints.newest(tmp_path)
    assert found is not None and found.step == 3
    assert said == ["The checkpoint of step 4 is not used: in part 2 of 2, its bytes were changed on disk."]
