"""A step does not fault in again the memory that the step before has freed; in processes of their own, where malloc is fresh."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's malloc is Linux'")

_STEPS = """
import resource, sys
import torch
from jupyter_mlp.backends.keeping import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()

torch.manual_seed(7)
net = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 1))
optimizer = torch.optim.SGD(net.parameters(), 0.01)

def step():
    optimizer.zero_grad()
    net(torch.randn(1024, 64)).square().mean().backward()
    optimizer.step()

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def huge():
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("AnonHugePages"))

print(min(faults() for _ in range(4)), huge())  # the heap may still grow once or twice; what is given back comes again each time
"""


def test_freed_memory_is_kept_for_the_next_step() -> None:
    """malloc's own way takes 1,000 to 120,000 pages for the same 50 steps, as the heap happens to lie."""
    assert steps("kept")[0] < 100


def test_who_has_said_how_malloc_works_is_not_overruled() -> None:
    faults, huge = steps("kept", MALLOC_TRIM_THRESHOLD_="100000")
    assert faults > 1000 and (not huge or given() == "always")


def test_it_lies_in_huge_pages_where_the_system_has_them_for_who_asks() -> None:
    huge = steps("kept")[1]
    assert huge == 0 if given() == "never" else huge > 4096


def given() -> str:
    """Return to whom the system gives huge pages: always, madvise (who asks) or never."""
    try:
        said = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except FileNotFoundError:
        return "never"
    return said.partition("[")[2].partition("]")[0]


def steps(how: str, **more: str) -> list[int]:
    """Return how many pages 50 steps had to get from the system, and kB in huge pages."""
    unset = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    done = subprocess.run([sys.executable, "-c", _STEPS, how], capture_output=True, text=True, env={**unset, **more}, check=True)
    return [int(word) for word in done.stdout.split()]
