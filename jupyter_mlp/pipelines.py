"""Repeat: a notebook as a pipeline - its steps before anything runs, and a run from top to bottom with typed parameters."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_mlp.core import layered
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, JobError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.notebook import document, graph, history, running, runs
from jupyter_mlp.notebook.cell_tags import SKIPPED
from jupyter_mlp.notebook.document import Document, Parameter
from jupyter_mlp.notebook.graph import Step
from jupyter_mlp.store.artifacts import publish_bytes
from jupyter_mlp.store.workspace import Workspace, current

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, repr=False)
class Pipeline(Shown):
    """A notebook as steps: what each reads and makes.

    Attributes:
        parameters: what a run may set, from the cell tagged `parameters`.
    """

    notebook: Document
    steps: tuple[Step, ...]
    parameters: Mapping[str, Parameter]

    @property
    def ref(self) -> str:
        """The notebook's file; a pipeline that has not run has no record."""
        return str(self.notebook.path or "")

    def run(self, **parameters: Any) -> PipelineRun:
        """Run it from top to bottom and return the run."""
        if self.notebook.path is None:
            raise InvalidInputError("This notebook has no file yet.", "Save it, then: mlp run NOTEBOOK.ipynb")
        return run_notebook(self.notebook.path, parameters)

    def to_dict(self) -> dict[str, Any]:
        """Return steps, links and parameters as JSON types."""
        return {
            "kind": "pipeline",
            "notebook": self.ref,
            "steps": [step.to_dict() for step in self.steps],
            "links": [{"from": a, "to": b, "what": what} for a, b, what in graph.links_of(self.steps)],
            "parameters": {p.name: {"type": p.type.__name__ if p.type else None, "default": p.default} for p in self.parameters.values()},
        }

    def card(self) -> Card:
        """Return the drawing, and the steps as a table."""
        links = graph.links_of(self.steps)
        rows = [[step.number, step.name, step.heading, _short(step.reads), _short(step.makes)] for step in self.steps]
        given = [[p.name, p.type.__name__ if p.type else "any", repr(p.default)] for p in self.parameters.values()]
        tables = [Table(["parameter", "type", "default"], given)] if given else []
        tables.append(Table(["step", "name", "part", "reads", "makes"], rows))
        drawn = layered.as_svg(links) if links else ""
        notes = [f"Run it: mlp run {self.ref} -p name=value"] if self.ref else []
        return Card(f"{self.notebook.name}: {len(self.steps)} steps", tables=tables, svg=drawn, notes=notes)


@dataclass(frozen=True, repr=False)
class PipelineRun(Shown):
    """One run of a notebook.

    Attributes:
        state: `completed`: every cell ran. `notebook`: the executed notebook. `steps`: its cells, each
            completed, reused or skipped, with its seconds.
        inputs: what names without a version meant when it began.
    """

    id: str
    state: str
    notebook: Path
    parameters: Mapping[str, Any]
    steps: tuple[dict[str, Any], ...]
    inputs: tuple[Ref, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return f"pipeline:{self.id}"

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON types."""
        return {
            "ref": self.ref,
            "kind": "pipeline run",
            "state": self.state,
            "notebook": str(self.notebook),
            "parameters": dict(self.parameters),
            "steps": list(self.steps),
            "inputs": [str(ref) for ref in self.inputs],
            "seconds": round(self.seconds, 3),
        }

    def card(self) -> Card:
        """Return how it went, step by step."""
        given = ", ".join(f"{name}={value!r}" for name, value in self.parameters.items()) or "the defaults"
        facts = [("state", self.state), ("parameters", given), ("notebook", self.notebook), ("took", f"{self.seconds:,.1f} s")]
        rows = [[step["number"], step["name"], step["state"], step["seconds"]] for step in self.steps]
        return Card(f"{self.ref}  {self.notebook.name}", facts, [Table(["step", "name", "state", "seconds"], rows)])


def to_pipeline(notebook: str | Path | None = None) -> Pipeline:
    """Return the steps of a notebook and what each reads and makes; nothing is run.

    Args:
        notebook: its file; left out inside a kernel: this notebook's file, or the cells that ran so far.

    Raises:
        NotFoundError: there is no such file.

    Example:
        >>> [step.name for step in mlp.to_pipeline("nightly.ipynb").steps]
    """
    found = _document(notebook)
    return Pipeline(found, tuple(graph.steps_of(found)), found.parameters)


def run_notebook(
    notebook: str | Path | None = None,
    parameters: Mapping[str, Any] | None = None,
    *,
    output: str | Path | None = None,
    timeout: float | None = None,
    key: str | None = None,
    resume: str | Path | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> PipelineRun:
    """Run a notebook from top to bottom in fresh kernels with papermill's semantics, and return the run once every cell ran.

    Names without a version mean, for the whole run, what they mean when it begins; what the run makes itself counts. Cells whose
    source, inputs and surroundings are those of the run before are not run again; what is independent runs at once.

    Args:
        parameters: values for the names that the cell tagged `parameters` declares, of their types.
        output: where the executed notebook goes; into the workspace when left out.
        timeout: seconds after which the run has failed.
        key: identity of the run in the records, for those who must not run it twice.
        resume: the id of a run that failed or was killed, or its output notebook: it goes on behind what was done, with its
            parameters and data; the notebook may have been corrected meanwhile.
        fresh: whether every cell runs, whatever is known.

    Raises:
        InvalidInputError: a parameter is unknown or has the wrong type; nothing has run then.
        NotFoundError: there is no such notebook, or no such run to resume. ConflictError: the run is still at work.
        JobError: a cell failed, the kernel died, or the notebook ended itself early; the message names the cell.

    Example:
        >>> mlp.run_notebook("nightly.ipynb", {"month": 2}).state
        'completed'
    """
    begun = time.perf_counter()
    workspace = current()
    asked = runs.begun(workspace, str(resume), notebook, parameters, output) if resume else None
    if asked is None and notebook is None:
        raise InvalidInputError("No notebook was named.", "mlp run NOTEBOOK.ipynb, or: mlp run --resume RUN_ID")
    source = document.read(asked.notebook if asked else str(notebook))
    asked = asked or runs.new(workspace, source, source.checked(parameters or {}), output)
    told = {"run": asked.id, **asked.to_dict()}
    first = None if resume else asked.id
    with workspace.activities.recording("pipeline", name=source.name, key=key, parameters=told, activity_id=first) as draft:
        work = asked.work(workspace, source, () if fresh or resume else runs.before(workspace, asked))
        ending = runs.known(work, asked, source) or running.run(
            source,
            asked.output,
            parameters=asked.parameters,
            environment={"MLP_PINS": str(_pins(workspace, asked.id, asked.cut))},
            timeout_s=timeout,
            progress=progress,
            work=work,
        )
        if ending.state != running.COMPLETED:
            raise _broken(source, ending, asked)
        draft.made.append(Ref("pipeline", asked.id))
        draft.facts.update(notebook=str(asked.output), steps=len(source.cells))
    runs.forget_states(workspace, asked)
    inputs = tuple(Ref.parse(f"{name}@{version}") for name, version in asked.cut.items())
    steps = _timed(ending.output, asked.reused())
    return PipelineRun(asked.id, ending.state, asked.output, asked.parameters, steps, inputs, time.perf_counter() - begun)


def _document(notebook: str | Path | None) -> Document:
    if notebook is not None:
        return document.read(notebook)
    path = document.running_path()
    if path is not None:
        return document.read(path)
    import nbformat

    cells = [nbformat.v4.new_code_cell(cell.source) for cell in history.executed_cells()]
    if not cells:
        raise InvalidInputError("There is no notebook here.", "Name its file: mlp pipeline NOTEBOOK.ipynb")
    return document.new(cells)


def _pins(workspace: Workspace, run_id: str, cut: Mapping[str, str]) -> Path:
    path = workspace.pipelines / run_id / "pins.json"
    publish_bytes(path, json.dumps(cut).encode())
    return path


def _broken(source: Document, ending: running.Ending, asked: runs.Run) -> JobError:
    number = next((index for index, cell in enumerate(source.cells, 1) if cell.source == ending.cell), None)
    where = f"step {number} ({ending.cell.strip().splitlines()[0][:60]})" if number else "a cell"
    what = {"failed": f"failed at {where}", "died": f"died at {where}", "timed out": f"took too long at {where}"}.get(
        ending.state, f"ended early after {where}"
    )
    hint = f"Executed as far as it came: {asked.output}; go on behind what was done: mlp run --resume {asked.id}"
    return JobError(f"{source.name} {what}: {ending.error}".replace("\n", " "), hint)


def _timed(done: Document, reused: Container[int]) -> tuple[dict[str, Any], ...]:
    found = []
    for step, cell in zip(graph.steps_of(done), done.cells, strict=True):
        seconds = done.node.cells[cell.index].metadata.get("papermill", {}).get("duration")
        state = "skipped" if SKIPPED in cell.tags else "reused" if cell.index in reused else "completed"
        found.append({"number": step.number, "name": step.name, "state": state, "seconds": seconds if state == "completed" else None})
    return tuple(found)


def _short(names: tuple[str, ...]) -> str:
    shown = [name for name in names if not name.startswith("_")]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")
