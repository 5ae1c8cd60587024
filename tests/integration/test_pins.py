"""Random lives of a lake with kills between any two lines, a few of them; `make proof ARGS=pins` lives five hundred."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
import pins_proof


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 106))
def test_nothing_held_is_lost_and_nothing_else_stays(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLP_WORKSPACE", "MLP_GC_GRACE_S", "MLP_KEEP_DAYS", "MLP_KEEP_GB"):
        monkeypatch.setenv(name, "0")  # set by the lives; put back afterwards
    counts: Counter[str] = Counter()
    assert pins_proof.live(seed, 12, counts)[1] == ""
    assert counts["clean-ups counted"] >= 2
