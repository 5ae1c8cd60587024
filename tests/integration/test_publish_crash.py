"""`kill -9` at any moment, a full, failing or read-only disk, a power cut: a reader finds the old or the new, never a mix.

tests/crash_sweep.py says how; `make proof` prints the whole table.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))
from crash_sweep import CAUGHT_BY, SCENARIOS, Sweep, places

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="the crash sweep needs strace: apt-get install strace"),
]
PLACES = places()


@pytest.fixture
def sweep(request: pytest.FixtureRequest) -> Iterator[Sweep]:
    made = Sweep(*request.param)
    yield made
    made.close()


@pytest.mark.parametrize("sweep", [(name, PLACES["disk"]) for name in SCENARIOS], indirect=True, ids=SCENARIOS)
def test_killed_at_every_call(sweep: Sweep) -> None:
    """Of the long ones only the calls that change the disk: between two of those a kill leaves the same."""
    done = sweep.kills(quick=len(sweep.calls) > 120)
    assert not done.wrong
    assert done.points == sum(call.changes for call in sweep.calls) if len(sweep.calls) > 120 else len(sweep.calls)
    assert done.found["old"] and (done.found["new"] or sweep.scenario == "folder-again")


@pytest.mark.skipif("memory" not in PLACES, reason="needs a second filesystem at /dev/shm")
@pytest.mark.parametrize("sweep", [(name, PLACES.get("memory")) for name in SCENARIOS[:3]], indirect=True, ids=SCENARIOS[:3])
def test_killed_where_temporary_files_are_on_another_filesystem(sweep: Sweep) -> None:
    assert not sweep.kills(quick=True).wrong


@pytest.mark.parametrize("sweep", [(name, PLACES["disk"]) for name in SCENARIOS], indirect=True, ids=SCENARIOS)
def test_each_call_refused(sweep: Sweep) -> None:
    """Disk full, broken or read-only in turn: two lines to the user, the old content, nothing left behind."""
    assert not sweep.refused(quick=True).wrong


@pytest.mark.parametrize("sweep", [(name, PLACES["disk"]) for name in SCENARIOS], indirect=True, ids=SCENARIOS)
def test_synced_before_it_shows(sweep: Sweep) -> None:
    assert sweep.promises() == []


@pytest.mark.parametrize(
    "sweep",
    [(scenario, PLACES.get("memory", PLACES["disk"]), defect) for defect, scenario in CAUGHT_BY.items()],
    indirect=True,
    ids=list(CAUGHT_BY),
)
def test_the_sweep_sees_a_defect(sweep: Sweep) -> None:
    if sweep.defect == "moved from another filesystem" and "memory" not in PLACES:
        pytest.skip("needs a second filesystem at /dev/shm")
    assert sweep.seen_wrong()
