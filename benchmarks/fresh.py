"""Fresh processes that time a piece of their own life, in a workspace of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

KERNEL = """
import time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
begun = time.perf_counter()
{code}
print("took", time.perf_counter() - begun)
"""


def kernel(code: str, workspace: Path) -> float:
    """Run `code` where IPython stands already, as in a kernel; return the seconds that it took itself."""
    return _took(KERNEL.format(code=code), workspace)


def process(code: str, workspace: Path) -> float:
    """Run `code` in a plain Python process; return the seconds that it took itself."""
    return _took(f"import time; begun = time.perf_counter()\n{code}\nprint('took', time.perf_counter() - begun)", workspace)


def _took(code: str, workspace: Path) -> float:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"MLP_WORKSPACE": str(workspace), "IPYTHONDIR": str(workspace.parent / "ipython"), "PYTHONPATH": paths}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # both sides are compiled, as for every user
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=workspace.parent)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.split("took")[-1])
