"""Ten kills at random, and twenty-five double submissions: the short forms of `make proof ARGS=kills` and `duplicates`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
import proof_duplicates
import proof_kills


@pytest.mark.slow
def test_ten_kills_cost_nothing_but_time(workspace: object, tmp_path: Path) -> None:
    found = proof_kills.Kills(tmp_path, kills=10, seed=3, ranks=1, nap_s=0.02).run()
    assert found.wrong == [] and sum(found.killed.values()) == 10 and set(found.killed) == {"worker", "supervisor", "kernel"}
    assert found.repeated, "no attempt went on from a checkpoint, so nothing was shown"


def test_the_same_submission_from_two_processes_is_one_job(workspace: object, tmp_path: Path) -> None:
    found = proof_duplicates.submitted(25, tmp_path)
    assert found.well, found
