"""The cells that ran in this kernel, put back into the notebook they belong to, and whether a clean run would do the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.notebook import document, graph, history
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.notebook.history import Cell

_LOOKING = frozenset({"snapshot", "verify"})  # magics that look at the notebook and are no part of it


@dataclass(frozen=True)
class Recorded:
    """A notebook as it ran.

    Attributes:
        reasons: why a clean run may give something else; empty when it should not.
    """

    document: Document
    reasons: tuple[str, ...]


def of_kernel(file: Document | None = None) -> Recorded:
    """Return the notebook that this kernel ran so far, with its outputs; text cells come from its file."""
    ran = [cell for cell in history.executed_cells() if not looks_only(cell.python)]
    kept, reasons = _last_runs(ran)
    if file is None:
        return Recorded(document.new([_code(cell) for cell in kept]), tuple(reasons))
    return _in_file(kept, reasons, file)


def of_file(file: Document) -> Recorded:
    """Return a saved notebook as it is: its cells and the outputs that were saved with them."""
    counts = [cell.execution_count for cell in file.node.cells if cell.cell_type == "code" and cell.source.strip()]
    reasons = []
    if any(count is None for count in counts):
        reasons.append(f"{sum(count is None for count in counts)} cells have not run")
    known = [count for count in counts if count is not None]
    if known != sorted(known):
        reasons.append("the cells ran in another order than they stand")
    return Recorded(file, tuple(reasons))


def looks_only(python: str) -> bool:
    """Whether a cell does nothing but look at the notebook."""
    verbs = graph.verbs_of(python)
    return bool(verbs) and set(verbs) <= _LOOKING


def _last_runs(ran: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """Keep the last run of every cell, and only what ended well."""
    reasons = []
    failed = [cell for cell in ran if not cell.ok]
    well = [cell for cell in ran if cell.ok]
    if failed:
        reasons.append(
            f"cell [{failed[0].count}] failed and is left out" if len(failed) == 1 else f"{len(failed)} failed cells are left out"
        )
    newest = {cell.id or str(cell.count): cell for cell in well}
    again = len(well) - len(newest)
    if again:
        reasons.append(f"cells ran more than once ({again} earlier runs may have left something behind)")
    return sorted(newest.values(), key=lambda cell: cell.count), reasons


def _in_file(kept: Sequence[Cell], reasons: list[str], file: Document) -> Recorded:
    waiting = list(kept)
    cells: list[Any] = []
    last = 0
    counts: list[int] = []
    for cell in file.node.cells:
        if cell.cell_type != "code":
            cells.append(cell)
            continue
        found = next((one for one in waiting if one.id and one.id == cell.get("id")), None)
        found = found or next((one for one in waiting if one.source.strip() == cell.source.strip()), None)
        if found is not None:
            waiting.remove(found)
            cells.append(_code(found, cell))
            counts.append(found.count)
            last = len(cells)
    if counts != sorted(counts):
        reasons.append("the cells ran in another order than they stand")
    if waiting:
        reasons.append(f"{len(waiting)} cells ran that are not in the notebook (any more)")
    metadata = {key: value for key, value in file.node.metadata.items() if key != "papermill"}
    return Recorded(document.new([*cells[:last], *(_code(cell) for cell in waiting)], metadata), tuple(reasons))


def _code(cell: Cell, stands: Any = None) -> Any:
    import nbformat

    made = nbformat.v4.new_code_cell(cell.source, execution_count=cell.count, outputs=[nbformat.from_dict(one) for one in cell.outputs])
    if stands is not None:
        made.metadata = nbformat.from_dict({key: value for key, value in stands.metadata.items() if key not in ("papermill", "execution")})
        made.id = stands.get("id") or made.id
    return made
