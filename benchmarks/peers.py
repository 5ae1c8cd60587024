"""Where the peers are: some in the development environment, those that want versions of their own in environments of their own.

python benchmarks/peers.py FOLDER       makes these; then MLP_BENCH_PEERS=FOLDER make bench ARGS="serve_peers input"
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ENVIRONMENTS = {
    "litserve": ("litserve",),
    "bentoml": ("bentoml",),
    "mlflow": ("mlflow",),
    "datasets": ("datasets",),
    "litdata": ("litdata", "polars", "pyarrow"),
}


def python_of(package: str) -> str | None:
    """Return the interpreter that has the package, or None."""
    if package not in ENVIRONMENTS:
        return sys.executable if importlib.util.find_spec(package) else None
    found = Path(os.environ.get("MLP_BENCH_PEERS", "/nowhere"), package, "bin", "python")
    return str(found) if found.exists() else None


def install(folder: Path) -> None:
    """Make an environment for each peer that wants one, with the torch that we have."""
    torch = f"torch=={importlib.metadata.version('torch').partition('+')[0]}"
    for name, packages in ENVIRONMENTS.items():
        place = folder / name
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "python", "-m", "pip", "install", "--quiet", torch, "numpy", *packages], check=True)
        print(f"{name}: {place}")


if __name__ == "__main__":
    install(Path(sys.argv[1]))
