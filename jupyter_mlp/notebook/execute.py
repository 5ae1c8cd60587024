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
from pathlib import Path
from typing import Any

Say = Any


def main(request: Path) -> int:
    """Run the notebook that the request names; return the exit status."""
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what papermill or a kernel prints must not get between the lines
    # jsonschema builds a grammar of IRIs when it is imported, for more than a second, unless its package is missing; no notebook has any.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

    def say(**line: Any) -> None:
        told.write(json.dumps(line) + "\n")

    given = json.loads(request.read_text(encoding="utf-8"))
    say(**_ended(given, say))
    return 0


def _ended(given: dict[str, Any], say: Say) -> dict[str, Any]:
    import nbformat
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    output = Path(given["output"])
    try:
        _run(given, say)
    except PapermillExecutionError as error:
        return {"ended": "failed", "error": f"{error.ename}: {error.evalue}"}
    except DeadKernelError:
        return {"ended": "died", "error": "The kernel died."}
    except CellTimeoutError as error:
        return {"ended": "failed", "error": str(error).splitlines()[0]}
    cells = nbformat.read(output, as_version=4).cells
    left = [cell for cell in cells if cell.cell_type == "code" and cell.source.strip() and cell.execution_count is None]
    if left:
        # papermill takes sys.exit(0) for a good end; a notebook is complete when every cell of it ran.
        return {"ended": "incomplete", "error": f"The notebook ended itself (sys.exit) with {len(left)} cells not run."}
    return {"ended": "completed"}


def _run(given: dict[str, Any], say: Say) -> None:
    import nbformat
    import papermill
    from papermill.engines import NBClientEngine, papermill_engines

    class Telling(NBClientEngine):
        """papermill's own engine, which also says where it is."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **more: Any) -> Any:
            steps = [cell for cell in nb_man.nb.cells if cell.cell_type == "code" and cell.source.strip()]
            start = nb_man.cell_start

            def cell_start(cell: Any, *more: Any, **rest: Any) -> None:
                number = next((at for at, step in enumerate(steps, 1) if step is cell), None)
                if number is not None:
                    say(step=number, of=len(steps), source=cell.source.strip().splitlines()[0][:60])
                start(cell, *more, **rest)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **more)

    papermill_engines.register("telling", Telling)
    papermill.execute_notebook(
        nbformat.read(given["input"], as_version=4),
        given["output"].replace("{", "{{").replace("}", "}}"),  # papermill would look for parameters in the path
        parameters=given["parameters"],
        engine_name="telling",
        kernel_name="python3",
        language="python",
        progress_bar=False,
        cwd=given["folder"],
        execution_timeout=given.get("timeout_s"),
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
