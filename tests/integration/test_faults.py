"""One notebook of each kind of fault is verified: the cause is named, and its clean twin repeats; `make proof ARGS=faults` has all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import faults
import proof_faults
import pytest

from jupyter_mlp.store.workspace import Workspace

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def known() -> Iterator[list[faults.Case]]:
    with proof_faults.changing() as address:
        yield list(faults.cases(address))


@pytest.mark.parametrize("kind", faults.KINDS)
def test_the_cause_of_a_fault_is_named(workspace: Workspace, tmp_path: Path, known: list[faults.Case], kind: str) -> None:
    case = next(case for case in known if case.kind == kind)
    assert proof_faults.fault(case, tmp_path / "study") == ""


def test_notebooks_without_a_fault_repeat(workspace: Workspace, tmp_path: Path, known: list[faults.Case]) -> None:
    twins = proof_faults.clean_cases(known, 1000)
    assert len(known) >= 100 and len(twins) >= 50
    assert proof_faults.clean(next(case for case in twins if case.kind == "random"), tmp_path / "study", 1) == ""
