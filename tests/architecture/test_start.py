"""A notebook's first magic does not keep people waiting: `make bench` has the whole table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_first_magic_beside_the_import_of_pyspark() -> None:
    """A ratio, taken in interleaved rounds, so that a busy machine slows both."""
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "run.py", "start"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
