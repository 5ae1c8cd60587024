"""Running a notebook from top to bottom in a fresh process, and what became of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp.core.errors import MissingPackageError
from jupyter_mlp.notebook import document
from jupyter_mlp.notebook.cell_tags import RAISES
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.processes import identify

COMPLETED, FAILED, INCOMPLETE, DIED = "completed", "failed", "incomplete", "died"
TIMED_OUT = "timed out"

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Ending:
    """How a run of a notebook ended.

    Attributes:
        state: completed (every cell ran), failed, incomplete (it ended itself early), died (its kernel did) or
            timed out.
        output: the executed notebook, as far as it came. `error`: what a failed cell said.
        cell: the source of the cell where it ended early.
    """

    state: str
    output: Document
    error: str = ""
    cell: str = ""


def run(
    source: Document,
    output: Path,
    *,
    parameters: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout_s: float | None = None,
    progress: Progress | None = None,
    work: Mapping[str, Any] | None = None,
    python: Path | None = None,
) -> Ending:
    """Run a notebook with papermill, in a process and kernels of its own, and return how it ended.

    Args:
        output: where the executed notebook is written as it goes.
        parameters: values for its parameters, checked before.
        environment: variables of the new process, beside those of this one.
        folder: its working directory; the notebook's own when left out.
        timeout_s: seconds after which the run is ended, whatever it is doing.
        python: the interpreter; this process's own when left out.
        work: what the engine `mlp` keeps and knows of the run; without, every cell runs, in one kernel.

    Raises:
        MissingPackageError: papermill or a kernel is not installed.
    """
    import nbformat

    here = folder or (source.path.parent if source.path else Path.cwd())
    given = output.with_name(f".{output.stem}.input.ipynb")
    publish_bytes(given, nbformat.writes(source.node).encode())
    request = output.with_name(f".{output.stem}.request.json")
    asked = {"input": str(given), "output": str(output), "parameters": dict(parameters or {}), "folder": str(here), "work": work}
    publish_bytes(request, json.dumps(asked).encode())
    log = output.with_name(f".{output.stem}.log")
    told = {**os.environ, "MLP_NOTEBOOK": str(source.path or ""), **(environment or {})}
    argv = [str(python or sys.executable), "-m", "jupyter_mlp.notebook.execute", str(request)]
    try:
        said = _supervised(argv, log, told, timeout_s, progress)
    finally:
        given.unlink(missing_ok=True)
        request.unlink(missing_ok=True)
    return _ending(said, output, source, log)


def _supervised(
    argv: Sequence[str], log: Path, environment: Mapping[str, str], timeout_s: float | None, progress: Progress | None
) -> dict[str, Any]:
    """Follow the process line by line; whatever interrupts this one ends that one too."""
    said: dict[str, Any] = {}
    with log.open("wb") as errors:
        # A session of its own: an interrupt of this kernel must reach it through us only.
        process = subprocess.Popen(
            argv, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        identity = identify(process.pid)
        assert process.stdout is not None
        late = threading.Event()

        def end() -> None:
            late.set()
            identity.stop()

        alarm = threading.Timer(timeout_s or 0, end)
        alarm.daemon = True
        if timeout_s is not None:
            alarm.start()
        assert process.stdin is not None  # held open, never written to: it ends when this process does
        with process.stdin, process.stdout as lines:
            try:
                for line in lines:
                    said = json.loads(line)
                    if progress and "step" in said:
                        told = f"step {said['step']} of {said['of']}, {said['source']}"
                        progress({"text": told, "share": (said["step"] - 1) / said["of"]})
                process.wait()
            except BaseException:
                identity.stop()
                process.wait()
                raise
            finally:
                alarm.cancel()
    return {"ended": TIMED_OUT, "error": f"It was ended after {timeout_s:g} s."} if late.is_set() and timeout_s else said


def _ending(said: Mapping[str, Any], output: Path, source: Document, log: Path) -> Ending:
    if "ended" not in said:
        text = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if any("No module named" in line and ("papermill" in line or "nbclient" in line) for line in text[-3:]):
            raise MissingPackageError("papermill is not installed.", "pip install 'jupyter_mlp[notebook]'")
        done = document.read(output) if output.exists() else source
        return Ending(DIED, done, f"The process that ran the notebook died. {text[-1] if text else ''}".strip())
    log.unlink(missing_ok=True)
    done = document.read(output) if output.exists() else source
    return Ending(str(said["ended"]), done, str(said.get("error", "")), _last_cell(done))


def _last_cell(done: Document) -> str:
    """The source of the cell that failed, or of the last one that ran."""
    ran = ""
    for cell in done.node.cells:
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        meant = RAISES in cell.metadata.get("tags", ())
        if not meant and any(output.output_type == "error" for output in cell.outputs):
            return str(cell.source)
        if cell.metadata.get("papermill", {}).get("status") == "running":
            return str(cell.source)
        if cell.execution_count is not None:
            ran = str(cell.source)
    return ran
