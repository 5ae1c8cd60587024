"""Runs of notebooks as they are kept: what was asked, so that a killed run can go on, and what is known from runs before it.

pipelines/<id>/run.json         what was asked: notebook, parameters, output, what names meant when it began
pipelines/<id>/journal.jsonl    what each cell gave
pipelines/<id>/state/           what the kernels held between cells
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_mlp.core.entities import FINISHED
from jupyter_mlp.core.errors import ConflictError, InvalidInputError, NotFoundError, StorageError, nearest
from jupyter_mlp.notebook import document, journal, running, steps
from jupyter_mlp.notebook import known as knowing
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.store.activities import new_id
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.leases import Lease
from jupyter_mlp.store.workspace import Workspace

_ENDS_S = 20.0  # a killed run's kernels notice within seconds
_STATE_S = 3600.0  # after which nobody begins with what an older run left
_LOOK_BACK = 50  # records of runs that are looked through for one of the same notebook


@dataclass(frozen=True)
class Run:
    """What was asked. `attempt`: which try it is."""

    id: str
    folder: Path
    notebook: Path
    parameters: Mapping[str, Any]
    output: Path
    cut: Mapping[str, str]
    around: Mapping[str, object]
    attempt: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return what the records say of it."""
        told = {"notebook": str(self.notebook), "parameters": dict(self.parameters), "output": str(self.output)}
        return {**told, "cut": dict(self.cut), "attempt": self.attempt}

    def work(self, workspace: Workspace, source: Document, before: Sequence[Path]) -> dict[str, Any]:
        """Remember what was asked, and return what the process that runs it must know."""
        publish_bytes(self.folder / "run.json", json.dumps({**self.to_dict(), "around": dict(self.around)}).encode())
        try:
            self.output.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StorageError(f"{self.output} cannot be written: {error.strerror}.", "Name another place: --output FILE.ipynb") from error
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return {
            "run": self.id,
            "folder": str(self.folder),
            "notebook": str(source.path),
            "attempt": self.attempt,
            "cut": dict(self.cut),
            "around": dict(self.around),
            "kernels": cores,
            "before": [str(one) for one in before],
        }

    def reused(self) -> set[int]:
        """Return the positions of the cells that were answered from a run before."""
        lines = journal.read(self.folder / journal.NAME).values()
        return {line["cell"] for line in lines if line.get("reused")}


def new(workspace: Workspace, source: Document, parameters: Mapping[str, Any], output: str | Path | None) -> Run:
    """Return a run that nobody asked for before."""
    run_id = new_id()
    folder = workspace.pipelines / run_id
    target = Path(output).expanduser().absolute() if output else folder / f"{source.name}.ipynb"
    if target.is_dir():
        raise InvalidInputError(f"{target} is a folder.", f"Name a file: --output {target / source.name}.ipynb")
    assert source.path is not None, "it was read from a file"
    return Run(run_id, folder, source.path, parameters, target, workspace.cut(), steps.surroundings(source, parameters))


def begun(
    workspace: Workspace, named: str, notebook: str | Path | None, parameters: Mapping[str, Any] | None, output: str | Path | None
) -> Run:
    """Return a run that began before, for its next try.

    Raises:
        NotFoundError: there is none. ConflictError: it is at work. InvalidInputError: it was asked for other things.
    """
    run_id = _named(workspace, named)
    folder = workspace.pipelines / run_id
    told = json.loads((folder / "run.json").read_bytes())
    if parameters or output:
        raise InvalidInputError(
            "A run is resumed with its own parameters and output.", f"mlp run --resume {run_id}, without -p and --output."
        )
    if notebook is not None and Path(notebook).absolute() != Path(told["notebook"]):
        raise InvalidInputError(f"{run_id} is a run of {told['notebook']}.", f"mlp run --resume {run_id}")
    _wait_for_its_end(folder, run_id)
    output_path, attempt = Path(told["output"]), int(told["attempt"]) + 1
    found = Run(run_id, folder, Path(told["notebook"]), told["parameters"], output_path, told["cut"], told["around"], attempt)
    source = document.read(found.notebook)
    return replace(found, parameters=source.checked(found.parameters))


def _named(workspace: Workspace, named: str) -> str:
    run_id = named.removeprefix("pipeline:")
    known = [one.parent.name for one in workspace.pipelines.glob("*/run.json")]
    if run_id in known:
        return run_id
    ends = [one for one in known if one.endswith(f"-{run_id}")]
    path = Path(named).expanduser().absolute()
    of_path = [one for one in sorted(known, reverse=True) if _output(workspace.pipelines / one) == path] if named.endswith(".ipynb") else []
    for found in (ends, of_path):
        if found:
            return found[0]
    raise NotFoundError(f"There is no run {named} in this workspace.", nearest(run_id, known) or "mlp run NOTEBOOK.ipynb begins one.")


def _output(folder: Path) -> Path:
    return Path(json.loads((folder / "run.json").read_bytes())["output"])


def _wait_for_its_end(folder: Path, run_id: str) -> None:
    """Where the try before was killed, its kernels end by themselves; what still runs is not run twice."""
    deadline = time.monotonic() + _ENDS_S
    for name in (knowing.RUN_LOCK, knowing.KERNELS_LOCK):
        while (folder / name).exists() and (handle := Lease(folder / name).take()) is None:
            if time.monotonic() > deadline:
                raise ConflictError(f"The run {run_id} is at work.", "Wait for its end, or end it; then resume it.")
            time.sleep(0.05)
        if (folder / name).exists():
            os.close(handle)  # type: ignore[arg-type]


def before(workspace: Workspace, run: Run) -> list[Path]:
    """Return the folder of the run of this notebook before, where there is one."""
    for activity in workspace.activities.recent(["pipeline"], limit=_LOOK_BACK):
        told = activity.parameters
        folder = workspace.pipelines / str(told.get("run"))
        if told.get("notebook") == str(run.notebook) and told.get("run") != run.id and (folder / journal.NAME).exists():
            return [folder]
    return []


def cut_of(workspace: Workspace, output: Path | None) -> Mapping[str, str]:
    """Return what names meant in the run that wrote a notebook; nothing where none of the last ones did."""
    for activity in workspace.activities.recent(["pipeline"], limit=_LOOK_BACK):
        if output is not None and activity.parameters.get("output") == str(output):
            return dict(activity.parameters.get("cut", {}))
    return {}


def forget_states(workspace: Workspace, run: Run) -> None:
    """Remove what the kernels of older complete runs of this notebook held: the next run begins with what this one knows.

    What this one was answered with from them stays, and so does what a run that failed left: it may be resumed.
    """
    lines = journal.read(run.folder / journal.NAME).values()
    needed = {Path(line["state"]).parent for line in lines if line.get("state")}
    for activity in workspace.activities.recent(["pipeline"], limit=_LOOK_BACK):
        told = activity.parameters
        state = workspace.pipelines / str(told.get("run")) / "state"
        old = time.time() - (activity.ended_at or time.time()) > _STATE_S
        if told.get("notebook") == str(run.notebook) and activity.state == FINISHED and old and state not in needed:
            shutil.rmtree(state, ignore_errors=True)


def known(work: Mapping[str, Any], run: Run, source: Document) -> running.Ending | None:
    """Return the ending of a run of which every cell is known, with its notebook written; None where something must run."""
    if not work["before"]:
        return None
    found = knowing.of(run.folder, [Path(one) for one in work["before"]])
    node = _with_parameters(source, run)
    whole = Document(node, source.path)
    chains = steps.keyed(steps.chains_of(steps.cells_of(whole), work["kernels"]), whole, run.id, run.cut, run.around)
    if any(key not in found.lines for chain in chains for key in chain.keys):
        return None
    now = datetime.now(UTC).isoformat()
    for cell in node.cells:
        cell.metadata["papermill"] = {"exception": None, "start_time": None, "end_time": None, "duration": None, "status": "completed"}
    written = journal.Journal(run.folder / journal.NAME)
    for chain in chains:
        for cell, key in zip(chain.cells, chain.keys, strict=True):
            knowing.put(node.cells[cell.index], found.lines[key], cell.count)
            written.add({**found.lines[key], "cell": cell.index, "reused": True})
    written.close()
    told = node.metadata.setdefault("papermill", {})
    told.update(input_path=str(run.notebook), output_path=str(run.output), start_time=now, end_time=now, duration=0.0, exception=None)
    knowing.write(node, run.output)
    return running.Ending(running.COMPLETED, Document(node, run.output))


def _with_parameters(source: Document, run: Run) -> Any:
    """The notebook as papermill runs it."""
    if not run.parameters:
        return source.node
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    return parameterize_notebook(load_notebook_node(source.node), dict(run.parameters), kernel_name="python3", language="python")
