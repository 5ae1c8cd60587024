"""Ranks of another number go on in the middle of an epoch: every row is taken once, and their steps are those of any epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store import batches, shares
from jupyter_mlp.store.batches import TRAIN
from jupyter_mlp.store.shares import Share


def rows(share: Share, total: int, rank: int, batch: int) -> list[int]:
    return [row for low, high in share.pieces(total, rank, batch) for row in range(low, high)]


@given(
    total=some.integers(8, 200),
    batch_size=some.integers(1, 40),
    worlds=some.lists(some.integers(1, 6), min_size=2, max_size=4),
    places=some.lists(some.floats(0, 1), min_size=3, max_size=3),
)
def test_every_row_once_however_often_the_ranks_change(total: int, batch_size: int, worlds: list[int], places: list[float]) -> None:
    share, seen = shares.regular(batch_size, worlds[0]), []
    for world, place in zip(worlds[1:], places, strict=False):
        steps = share.steps(total)
        low = max(share.first, 1)
        assume(steps - 1 >= low)
        batch = low + int(place * (steps - 1 - low))
        taken = (batch - share.first) * share.rows
        seen += [row for rank in range(share.world) for row in rows(share, total, rank, share.first)[:taken]]
        regular = shares.regular(batch_size, world)
        assume(regular.steps(total) > 1)
        share = Share.from_dict(share.continued(total, batch, regular).to_dict())
        assert share.steps(total) == regular.steps(total) and share.first >= 1
    parts = [rows(share, total, rank, share.first) for rank in range(share.world)]
    assert len({len(part) for part in parts}) == 1, "every rank takes the same number of steps"
    assert all(rows(share, total, rank, share.steps(total) - 1) for rank in range(share.world)), "and has rows for each"
    left = [row for part in parts for row in part]
    assert not set(seen) & set(left) and len(set(seen)) == len(seen)
    assert len(set(left)) == len(left) or (len(set(left)) < share.world == len(left)), "doubled only where ranks outnumber rows"
    assert len({*seen, *left}) > total - share.world, "no more are left out than cannot be divided"


def test_an_epoch_of_one_step_has_no_middle() -> None:
    with pytest.raises(InvalidInputError, match="in one step") as error:
        shares.regular(1, 1).continued(6, 2, shares.regular(1, 4))
    assert "--gpus 1" in error.value.hint


def test_the_rows_themselves_come_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks, then three, over files whose windows are smaller than a rank's part."""
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"x": np.arange(1000.0), "y": np.arange(1000.0)}), path, row_group_size=90)
    monkeypatch.setattr(batches, "_WINDOW", 100)
    table = pq.read_table(path)
    recipe = Recipe.infer(table.schema, "y", None).fit(table.to_batches())
    plan = batches.split([str(path)], recipe, 0.1, 7)
    total, two = plan.rows(TRAIN), shares.regular(60, 2)

    def taken(share: Share, rank: int, start: int) -> list[list[int]]:
        found = batches.stream(plan, recipe, TRAIN, share.rows, rank=rank, epoch=1, start=start, share=share)
        return [y.astype(int).tolist() for _, y in found]

    before = [batch for rank in range(2) for batch in taken(two, rank, 0)[:5]]
    three = two.continued(total, 5, shares.regular(60, 3))
    after = [taken(three, rank, three.first) for rank in range(3)]
    assert [len(one) for one in after] == [three.steps(total) - three.first] * 3
    seen = [row for batch in [*before, *(batch for one in after for batch in one)] for row in batch]
    assert len(seen) == len(set(seen)) and total - 3 < len(seen) <= total
    assert taken(three, 1, three.first + 2) == after[1][2:], "and goes on at any batch of them"
