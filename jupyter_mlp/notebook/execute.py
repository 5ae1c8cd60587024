"""Runs one notebook through papermill, in a process of its own; says on standard output what happens.

    python -m jupyter_mlp.notebook.execute REQUEST.json

    {"step": 3, "of": 12, "source": "%%mlp_data trips"}      one line when a code cell begins
    {"ended": "completed"}                                   or failed, incomplete, died, with "error"

Nothing that the notebook prints comes here: it is in the output notebook, which is written as it goes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from jupyter_mlp.notebook import journal
from jupyter_mlp.notebook.cell_tags import RAISES, SKIPPED

Say = Any


def main(request: Path) -> int:
    """Run the notebook that the request names; return the exit status."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what papermill or a kernel prints must not get between the lines
    # jsonschema builds a grammar of IRIs when it is imported, for more than a second, unless its package is missing; no notebook has any.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    # papermill would import it for notebooks on HDFS, for a fifth of a second; ours are files.
    sys.modules["pyarrow"] = None  # type: ignore[assignment]

    def say(**line: Any) -> None:
        told.write(json.dumps(line) + "\n")

    _end_with_the_parent()
    given = json.loads(request.read_text(encoding="utf-8"))
    say(**_ended(given, say))
    return 0


def _ended(given: dict[str, Any], say: Say) -> dict[str, Any]:
    kernel = _kernel(given)  # it starts while everything else is imported
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    from jupyter_mlp.notebook.engine import CannotGoOnError

    output = Path(given["output"])
    try:
        _run(given, say, kernel)
    except PapermillExecutionError as error:
        if not _all_meant(output):
            return {"ended": "failed", "error": f"{error.ename}: {error.evalue}" if error.evalue else _last_said(output) or error.ename}
    except CannotGoOnError as error:
        return {"ended": "failed", "error": str(error)}
    except DeadKernelError:
        return {"ended": "died", "error": "The kernel died."}
    except CellTimeoutError as error:
        return {"ended": "failed", "error": str(error).splitlines()[0]}
    cells = nbformat.read(output, as_version=4).cells
    left = [cell for cell in cells if _is_to_run(cell) and cell.execution_count is None]
    if left:
        # papermill takes sys.exit(0) for a good end; a notebook is complete when every cell of it ran.
        return {
            "ended": "incomplete",
            "error": f"The notebook ended itself (exit) with {len(left)} {'cell' if len(left) == 1 else 'cells'} not run.",
        }
    return {"ended": "completed"}


def _last_said(output: Path) -> str:
    """What a failed cell said that raised nothing: an unknown magic writes its line to the standard error."""
    import nbformat

    failed = [cell for cell in nbformat.read(output, as_version=4).cells if cell.metadata.get("papermill", {}).get("exception")]
    lines = [line for cell in failed for one in cell.outputs if one.get("name") == "stderr" for line in one.text.strip().splitlines()]
    return lines[-1] if lines else ""


def _all_meant(output: Path) -> bool:
    """Whether only cells failed that are tagged to: papermill ran all cells, and then put a mark of failure on top, which goes."""
    import nbformat
    from papermill.execute import remove_error_markers

    from jupyter_mlp.notebook import known

    node = remove_error_markers(nbformat.read(output, as_version=4))
    failed = [cell for cell in node.cells if any(one.output_type == "error" for one in cell.get("outputs", ()))]
    meant = bool(failed) and all(RAISES in cell.metadata.get("tags", ()) for cell in failed)
    if meant:
        known.write(node, output)
    return meant


def _is_to_run(cell: Any) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip()) and SKIPPED not in cell.metadata.get("tags", ())


def _run(given: dict[str, Any], say: Say, kernel: Any) -> None:
    import nbformat
    import papermill
    from papermill.engines import papermill_engines

    from jupyter_mlp.notebook.engine import JournalEngine

    papermill_engines.register("mlp", JournalEngine)
    papermill.execute_notebook(
        nbformat.read(given["input"], as_version=4),
        given["output"].replace("{", "{{").replace("}", "}}"),  # papermill would look for parameters in the path
        parameters=given["parameters"],
        engine_name="mlp",
        kernel_name="python3",
        language="python",
        progress_bar=False,
        cwd=given["folder"],
        execution_timeout=given.get("timeout_s"),
        work=_work(given["work"]),
        say=say,
        started=kernel,
    )


def _kernel(given: dict[str, Any]) -> Any:
    """Start a kernel for a run that knows nothing yet, and so needs one whatever its cells are; None for others."""
    work = given["work"]
    if work is None or work["before"] or (Path(work["folder"]) / journal.NAME).exists():
        return None
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_core.utils import run_sync

    manager = AsyncKernelManager(kernel_name="python3")
    run_sync(manager.start_kernel)(cwd=given["folder"], extra_arguments=["--HistoryManager.hist_file=:memory:"])  # as nbclient does
    return manager


def _work(told: dict[str, Any] | None) -> Any:
    """What the run works with; nobody else works at the same run while this process lives."""
    from jupyter_mlp.notebook import known
    from jupyter_mlp.store.leases import Lease

    if told is None:
        return None
    folder = Path(told["folder"])
    if Lease(folder / known.RUN_LOCK).take() is None:
        raise RuntimeError("Another process is at work on this run.")
    found = known.of(folder, [Path(one) for one in told["before"]])
    return known.Work(told["run"], folder, Path(told["notebook"]), told["attempt"], told["cut"], told["around"], told["kernels"], found)


def _end_with_the_parent() -> None:
    """When whoever started this is killed, nobody waits for the run: it ends, and is resumed when somebody asks."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        os._exit(1)  # the kernels see that their parent is gone, and end too

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    os._exit(main(Path(sys.argv[1])))  # all is written; tearing down what was imported takes a quarter of a second, for nobody
