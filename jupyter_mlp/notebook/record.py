"""The cells that ran in this kernel, put back into the notebook they belong to, and whether a clean run would do the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.notebook import cell_tags, document, graph, history, validity
from jupyter_mlp.notebook.cell_tags import RAISES, SKIPPED
from jupyter_mlp.notebook.document import CodeCell, Document
from jupyter_mlp.notebook.flow import flow_of
from jupyter_mlp.notebook.history import Cell
from jupyter_mlp.notebook.validity import CellState, Run, Standing

_LOOKING = frozenset({"snapshot", "verify", "diff", "graph", "status", "doctor", "history", "schedules"})  # they look, and make nothing


@dataclass(frozen=True)
class Judged:
    """A cell of the notebook and what is known of it. `number`: its place among the code cells, from 1."""

    number: int
    source: str
    state: CellState
    kept: bool  # whether it is part of the recorded document


@dataclass(frozen=True)
class Recorded:
    """A notebook as it ran.

    Attributes:
        cells: what is known of every code cell; those that are `kept` are the cells of `document`, in order.
    """

    document: Document
    cells: tuple[Judged, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why a clean run may give something else; empty when it should not."""
        return tuple(validity.reasons((cell.number, cell.state) for cell in self.cells))


def of_kernel(file: Document | None = None) -> Recorded:
    """Return the notebook that this kernel ran so far, with its outputs; text cells and the order come from its file."""
    ran = [cell for cell in history.executed_cells() if not looks_only(cell.python)]
    return _in_file(ran, file) if file is not None else _alone(ran)


def of_file(file: Document) -> Recorded:
    """Return a saved notebook as it is: its cells and the outputs that were saved with them."""
    cells = [cell for cell in file.cells if not _asks(cell, SKIPPED)]
    counted = [(file.node.cells[cell.index].execution_count, cell) for cell in cells]
    order = sorted((count, place) for place, (count, _) in enumerate(counted) if count is not None)
    runs = [Run(str(place), cells[place].source, flow_of(cells[place].python), error=_error(cells[place])) for _, place in order]
    standing = [Standing(str(place), cell.source, flow_of(cell.python)) for place, cell in enumerate(cells)]
    states = dict(zip((cell.index for cell in cells), validity.states(standing, runs), strict=True))
    judged = [
        Judged(number, cell.source, states.get(cell.index, CellState(validity.VALID, "it is tagged to be skipped")), True)
        for number, cell in enumerate(file.cells, 1)
    ]
    return Recorded(file, tuple(judged))


@dataclass(frozen=True)
class Shown:
    """A code cell as it stands in an editor, saved or not."""

    id: str
    source: str
    tags: frozenset[str] = frozenset()


def of_editor(shown: Sequence[Shown], ran: Sequence[Cell]) -> dict[str, CellState]:
    """Return the state of every code cell of a notebook that is open, by id; cells that only look at the notebook have none.

    Args:
        ran: everything that ran in its kernel, oldest first.
    """
    pythons = {one.id: document.python_of(one.source) for one in shown}
    stands = [one for one in shown if one.source.strip() and not _asks(one, SKIPPED) and not looks_only(pythons[one.id])]
    meant = {one.id for one in shown if _asks(one, RAISES)}
    by_source = {one.source.strip(): one.id for one in reversed(stands)}
    known = {one.id for one in shown}
    kept = [run for run in ran if not looks_only(run.python)]
    ids = {run.count: run.id if run.id in known else by_source.get(run.source.strip()) or f"gone {_id(run)}" for run in kept}
    newest = {ids[run.count]: run for run in kept}
    standing = []
    for one in stands:
        run = newest.get(one.id)
        same = run is not None and run.source.strip() == one.source.strip()
        # The kernel's text where it is the same: of a magic the two may differ in a line's end.
        source, python = (run.source, run.python) if run is not None and same else (one.source, pythons[one.id])
        standing.append(Standing(one.id, source, flow_of(python), edited=run is not None and not same))
    runs = [_run(run, ids[run.count], meant=ids[run.count] in meant) for run in kept]
    return dict(zip((one.id for one in standing), validity.states(standing, runs), strict=True))


def looks_only(python: str) -> bool:
    """Whether a cell does nothing but look at the notebook."""
    verbs = graph.verbs_of(python)
    return bool(verbs) and set(verbs) <= _LOOKING


def _alone(ran: Sequence[Cell]) -> Recorded:
    """Without a file the cells stand in the order in which they last ran, and what failed is left out."""
    newest = {_id(cell): cell for cell in ran}
    kept = sorted((cell for cell in newest.values() if cell.ok), key=lambda cell: cell.count)
    standing = [Standing(_id(cell), cell.source, flow_of(cell.python)) for cell in kept]
    states = validity.states(standing, [_run(cell, _id(cell)) for cell in ran])
    judged = [Judged(number, cell.source, state, True) for number, (cell, state) in enumerate(zip(kept, states, strict=True), 1)]
    return Recorded(document.new([_code(cell) for cell in kept]), tuple(judged))


def _in_file(ran: Sequence[Cell], file: Document) -> Recorded:
    stands = [cell for cell in file.cells if not looks_only(cell.python) and not _asks(cell, SKIPPED)]
    ids = _matched(ran, stands, file)
    newest = {ids[run.count]: run for run in ran}
    standing = [_standing(cell, newest.get(str(cell.index)), file) for cell in stands]
    runs = [_run(run, ids[run.count], meant=_meant(ids[run.count], file)) for run in ran]
    states = dict(zip((one.id for one in standing), validity.states(standing, runs), strict=True))
    last = max((cell.index for cell in stands if str(cell.index) in newest), default=-1)
    places = {cell.index: number for number, cell in enumerate(file.cells, 1)}
    judged, cells = [], []
    for index, cell in enumerate(file.node.cells[: last + 1]):
        if cell.cell_type != "code":
            cells.append(cell)
        elif str(index) in states:
            run = newest.get(str(index))
            keep = run is not None and (run.ok or _meant(str(index), file))
            judged.append(Judged(places[index], cell.source, states[str(index)], keep))
            if run is not None and keep:
                cells.append(_code(run, cell))
    metadata = {key: value for key, value in file.node.metadata.items() if key != "papermill"}
    return Recorded(document.new(cells, metadata), tuple(judged))


def _matched(ran: Sequence[Cell], stands: Sequence[CodeCell], file: Document) -> dict[int, str]:
    """Which cell of the file each run was, by the cell's id or else by its source: execution count -> position in the file."""
    by_id = {file.node.cells[cell.index].get("id"): str(cell.index) for cell in stands}
    by_source = {cell.source.strip(): str(cell.index) for cell in reversed(stands)}
    return {run.count: by_id.get(run.id or None) or by_source.get(run.source.strip()) or f"gone {_id(run)}" for run in ran}


def _standing(cell: CodeCell, run: Cell | None, file: Document) -> Standing:
    """The cell in the file; where the file was saved before the cell last ran, the kernel knows the newer source."""
    if run is None:
        return Standing(str(cell.index), cell.source, flow_of(cell.python))
    saved = file.path.stat().st_mtime if file.path and file.path.exists() else 0.0
    if run.source.strip() != cell.source.strip() and run.at < saved:
        return Standing(str(cell.index), cell.source, flow_of(cell.python), edited=True)
    # The kernel's text also where the file has the same: of a magic the two may differ in a line's end.
    return Standing(str(cell.index), run.source, flow_of(run.python))


def _run(cell: Cell, cell_id: str, meant: bool = False) -> Run:
    error = "" if cell.ok or meant else cell.error or "it raised an exception"
    return Run(cell_id, cell.source, flow_of(cell.python), cell.observed, error)


def _meant(cell_id: str, file: Document) -> bool:
    """Whether the cell is tagged as one that raises an exception."""
    if not cell_id.isdigit():
        return False
    cell = file.node.cells[int(cell_id)]
    return RAISES in cell_tags.asked(cell.source, cell.metadata.get("tags", ()))


def _asks(cell: CodeCell | Shown, what: str) -> bool:
    return what in cell_tags.asked(cell.source, cell.tags)


def _error(cell: CodeCell) -> str:
    failed = next((output for output in cell.outputs if output["output_type"] == "error"), None)
    return "" if failed is None or _asks(cell, RAISES) else f"{failed['ename']}: {failed['evalue']}".splitlines()[0][:120]


def _id(cell: Cell) -> str:
    return cell.id or f"run {cell.count}"


def _code(cell: Cell, stands: Any = None) -> Any:
    import nbformat

    made = nbformat.v4.new_code_cell(cell.source, execution_count=cell.count, outputs=[nbformat.from_dict(one) for one in cell.outputs])
    if stands is not None:
        made.metadata = nbformat.from_dict({key: value for key, value in stands.metadata.items() if key not in ("papermill", "execution")})
        made.id = stands.get("id") or made.id
    return made


def unsound(recorded: Recorded) -> Iterator[Judged]:
    """Yield the cells that a clean run may not give as they are shown."""
    yield from (cell for cell in recorded.cells if not cell.state.sound)
