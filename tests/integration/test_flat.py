"""Looking and answering again cost the same, however much is on record: counted in steps of the database, not in time."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import many

import jupyter_mlp as mlp
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.workspace import Workspace, current

FEW, MANY = 100, 20_000
DATASET = "0" * 32


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count what the database does in the block, in hundreds of its instructions."""
    steps = [0]
    connect = sqlite3.connect

    def counting(*arguments: Any, **settings: Any) -> sqlite3.Connection:
        connection = connect(*arguments, **settings)

        def step() -> int:
            steps[0] += 1
            return 0

        connection.set_progress_handler(step, 10)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", counting)
        yield steps


def status() -> None:
    repr(mlp.status())


def again() -> None:
    """What an answer from the record asks of the records."""
    activities = current().activities
    ref = activities.resolve(Ref("dataset", "means"))
    known = activities.find("key")
    assert known is not None and ref in known.made
    assert activities.again(known).id == known.id
    assert activities.maker(activities.resolve(Ref("dataset", "means", DATASET))) is not None


@pytest.mark.parametrize("asked", [status, again])
def test_a_hundred_records_and_many_cost_the_same(
    asked: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workspace: Workspace
) -> None:
    cost = {}
    for count in (FEW, MANY):
        monkeypatch.setenv("MLP_WORKSPACE", str(tmp_path / str(count)))
        activities = current().activities
        with activities.recording("query", name="means", key="key") as draft:
            draft.made.append(Ref("dataset", "means", DATASET))
        many.fill(current(), count)
        asked()
        with counted(monkeypatch) as steps:
            asked()
        cost[count] = steps[0]
    assert cost[MANY] < 2 * cost[FEW], cost


def test_the_counts_are_what_there_is(workspace: Workspace) -> None:
    activities = workspace.activities
    for name in ("a", "b", "a", "c"):
        with activities.recording("query", name=name) as draft:
            draft.made.append(Ref("dataset", name, f"{len(activities.recent(limit=99)):032x}"))
    assert activities.count("dataset") == len(activities.names("dataset")) == 3
    mlp.forget("c")
    mlp.forget("a")
    assert activities.count("dataset") == len(activities.names("dataset")) == 2
    mlp.forget("a")
    assert activities.count("dataset") == len(activities.names("dataset")) == 1
    assert activities.count("model") == 0
