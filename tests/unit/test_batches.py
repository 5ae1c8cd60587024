"""Which rows a job reads, in which order, by which rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store import batches
from jupyter_mlp.store.batches import HELD_OUT, TRAIN, Plan


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three files of several row groups; the column `row` names each row, every 10th target is missing."""
    paths = []
    for number in range(3):
        rows = np.arange(number * 1000, number * 1000 + 700 + number)
        target = [None if row % 10 == 0 else float("nan") if row % 10 == 1 else float(row) for row in rows]
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"row": rows, "y": pa.array(target, pa.float64())}), path, row_group_size=256)
        paths.append(str(path))
    return paths


def prepare(files: list[str], target: str, task: str | None, share: float, seed: int) -> tuple[Recipe, Plan]:
    """The default recipe of the files, and the plan of their rows."""
    table = pq.ParquetDataset(files).read()
    recipe = Recipe.infer(table.schema, target, task).fit(table.to_batches())
    return recipe, batches.split(files, recipe, share, seed)


def read(plan: Plan, recipe: object, part: str, **more: int | bool) -> tuple[np.ndarray, list[int]]:
    """The rows of a part in the order they come, and the sizes of the batches."""
    found = list(batches.stream(plan, recipe, part, 100, **more))  # type: ignore[arg-type]
    assert all(x.dtype == np.float32 and x.shape[1] == 1 for x, _ in found)
    return np.concatenate([y for _, y in found if y is not None]).astype(int), [len(x) for x, _ in found]


def test_every_usable_row_is_in_exactly_one_part(files: list[str]) -> None:
    recipe, plan = prepare(files, "y", None, 0.1, 7)
    train, _ = read(plan, recipe, TRAIN)
    held, _ = read(plan, recipe, HELD_OUT)
    everything = [row for number in range(3) for row in range(number * 1000, number * 1000 + 700 + number) if row % 10 > 1]
    assert sorted([*train, *held]) == everything
    assert plan.rows(TRAIN) == len(train) and plan.rows(HELD_OUT) == len(held)
    assert 0.05 < len(held) / len(everything) < 0.15


def test_ranks_share_the_rows_in_equal_steps(files: list[str]) -> None:
    recipe, plan = prepare(files, "y", None, 0.1, 7)
    parts = [read(plan, recipe, TRAIN, rank=rank, world=3, epoch=2) for rank in range(3)]
    assert len({tuple(sizes) for _, sizes in parts}) == 1
    assert len(parts[0][1]) == plan.steps(TRAIN, 3, 100)
    rows = np.concatenate([rows for rows, _ in parts])
    assert len(set(rows.tolist())) == len(rows) == plan.rows(TRAIN) // 3 * 3


def test_the_order_comes_from_seed_and_epoch(files: list[str]) -> None:
    recipe, plan = prepare(files, "y", None, 0.1, 7)
    first, _ = read(plan, recipe, TRAIN, epoch=0)
    assert read(Plan.from_dict(plan.to_dict()), recipe, TRAIN, epoch=0)[0].tolist() == first.tolist()
    assert read(plan, recipe, TRAIN, epoch=1)[0].tolist() != first.tolist()
    assert sorted(read(plan, recipe, TRAIN, epoch=1)[0]) == sorted(first)
    assert read(plan, recipe, TRAIN, shuffle=False)[0].tolist() == sorted(first)
    other = prepare(files, "y", None, 0.1, 8)[1]
    assert read(other, recipe, TRAIN)[0].tolist() != first.tolist()


def test_windows_keep_memory_flat_and_lose_no_row(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, plan = prepare(files, "y", None, 0.1, 7)
    expected = sorted(read(plan, recipe, TRAIN)[0])
    monkeypatch.setattr(batches, "_WINDOW", 300)
    rows, sizes = read(plan, recipe, TRAIN)
    assert sorted(rows) == expected
    assert set(sizes[:-1]) == {100}


def test_classes_that_training_never_saw_are_left_out_of_validation(tmp_path: Path) -> None:
    path = tmp_path / "classes.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0, 4.0] * 50, "y": ["a", "b", "c", "b"] * 50}), path)
    recipe, plan = prepare([str(path)], "y", "multiclass", 0.2, 7)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0, 3.0], "y": ["a", "new", None]}), other)
    held = batches.whole([str(other)], recipe, 7)
    assert held.rows(HELD_OUT) == 1
    assert plan.rows(TRAIN) + plan.rows(HELD_OUT) == 200


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    path = tmp_path / "empty.parquet"
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": pa.array([None, None], pa.float64())}), path)
    with pytest.raises(InvalidInputError, match="no row to learn from"):
        prepare([str(path)], "y", None, 0.0, 7)


def test_a_reader_that_stops_early_leaves_no_thread(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import threading
    import time

    monkeypatch.setattr(batches, "_WINDOW", 100)
    recipe, plan = prepare(files, "y", None, 0.1, 7)
    reading = batches.stream(plan, recipe, TRAIN, 10)
    next(reading)
    reading.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("mlp-") for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
