"""Would a clean run, from top to bottom, give what each cell shows now? Decided from what ran, and in which order.

Every statement's result is named by its text and the names of the results that it read: two runs of a cell that read equally
named results showed the same. So a cell is

    valid          its last run read what it would read in a clean run
    stale          it does not, because what it read was made anew after it ran, or its source was edited
    out of order   it does not, because it read what a clean run makes later, differently or not at all
    unknown        nobody can say, and why: it has not run, it failed, or it uses what no source names (exec, %run)

Nothing is run, nothing is read: the history comes in as data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jupyter_mlp.notebook.flow import SHOWN_LAST, Flow, Piece, Scope

VALID, STALE, OUT_OF_ORDER, UNKNOWN = "valid", "stale", "out of order", "unknown"


@dataclass(frozen=True)
class Standing:
    """A cell as it stands in the notebook; `edited`: since it ran."""

    id: str
    source: str
    flow: Flow
    edited: bool = False


@dataclass(frozen=True)
class Run:
    """One run of a cell, in the order of the kernel.

    Attributes:
        observed: names that meant something else after it, whatever its source says.
        error: what it failed with; empty when it ended well.
    """

    id: str
    source: str
    flow: Flow
    observed: frozenset[str] = frozenset()
    error: str = ""


@dataclass(frozen=True)
class CellState:
    """What is known of one cell, and why."""

    state: str
    reason: str = ""

    @property
    def sound(self) -> bool:
        """Whether a clean run would give what it shows."""
        return self.state == VALID


@dataclass
class _World:
    """A kernel in which results have names instead of values."""

    names: dict[object, int] = field(default_factory=dict)  # equal descriptions, equal numbers
    values: dict[str, int] = field(default_factory=dict)
    writer: dict[str, int] = field(default_factory=dict)  # name -> position of the run that made it
    scope: Scope = field(default_factory=Scope)
    fog: int = 0  # what cells that may have touched anything did, together

    def number(self, described: object) -> int:
        return self.names.setdefault(described, len(self.names))

    def value(self, name: str) -> int:
        known = name if name in self.values else name.partition(":")[2]  # `--data rows` may name a variable that holds rows
        return self.values.get(known, -1) if known else -1

    def wrote(self, name: str) -> int:
        return self.writer.get(name, self.writer.get(name.partition(":")[2], -1))


@dataclass(frozen=True)
class _Read:
    """What one run read: name -> (which result, position of the run that made it), and all of it as one number."""

    names: dict[str, tuple[int, int]]
    signature: int


def states(cells: Sequence[Standing], ran: Sequence[Run]) -> list[CellState]:
    """Return the state of every cell of a notebook, in order.

    Args:
        ran: everything that ran in the kernel, oldest first; cells that stand in the notebook no longer included.
    """
    numbers: dict[object, int] = {}
    kernel, clean = _World(numbers), _World(numbers)
    reads = [_run(kernel, run, position) for position, run in enumerate(ran)]
    last = {run.id: position for position, run in enumerate(ran)}
    # A clean run stops at nothing: a cell that has not run yet is no part of what the notebook shows.
    would = {}
    for place, cell in enumerate(cells):
        if cell.id in last:
            again = ran[last[cell.id]]
            same = again.source == cell.source
            would[cell.id] = _run(clean, Run(cell.id, cell.source, cell.flow, again.observed if same else frozenset()), place)
    titles = {cell.id: number for number, cell in enumerate(cells, 1)}
    found = []
    for cell in cells:
        position = last.get(cell.id)
        if position is None:
            found.append(CellState(UNKNOWN, "it has not run"))
        else:
            found.append(_state(cell, position, ran, reads, would[cell.id], kernel, titles))
    return found


def _run(world: _World, run: Run, position: int) -> _Read:
    """Let a run happen in a world of names, and return what it read."""
    read: dict[str, tuple[int, int]] = {}
    signatures: list[int] = [world.fog]
    made: set[str] = set()
    for piece in run.flow.pieces:
        signatures.append(_piece(world, piece, position, read, made))
    seen = (run.source if not run.flow.pieces else "", tuple(signatures), tuple(sorted(world.values.items())) if run.flow.blind else ())
    signature = world.number((seen, run.error and ("failed", position)))
    for name in run.observed - made:  # its source does not say that it makes this
        world.values[name] = world.number((signature, name))
        world.writer[name] = position
    if run.flow.blind:
        world.fog = world.number((world.fog, signature))
    if run.error:  # how far it came nobody knows
        for name in made:
            world.values[name] = world.number((signature, name, "half done"))
    world.values[SHOWN_LAST] = signature
    world.writer[SHOWN_LAST] = position
    return _Read(read, signature)


def _piece(world: _World, piece: Piece, position: int, read: dict[str, tuple[int, int]], made: set[str]) -> int:
    reads, makes = world.scope.step(piece)
    for name in reads - made:
        read.setdefault(name, (world.value(name), world.wrote(name)))
    signature = world.number((piece.text, tuple(sorted((name, world.value(name)) for name in reads))))
    for name in makes:
        world.values[name] = world.number((signature, name))
        world.writer[name] = position
    made |= makes
    return signature


def _state(
    cell: Standing, position: int, ran: Sequence[Run], reads: Sequence[_Read], would: _Read, kernel: _World, titles: dict[str, int]
) -> CellState:
    run, read = ran[position], reads[position]
    if cell.edited or run.source != cell.source:
        return CellState(STALE, "its source was edited after it ran")
    if run.error:
        return CellState(UNKNOWN, f"it failed: {run.error}")
    if read.signature == would.signature:
        return CellState(VALID)
    blind = next((other.flow.blind for other in (run, *ran[:position]) if other.flow.blind), "")
    anew = [name for name in read.names if kernel.wrote(name) > position and kernel.value(name) != read.names[name][0]]
    if anew and not run.flow.blind:
        names = ", ".join(sorted(anew)[:3])
        return CellState(STALE, f"{names} was made anew by {_whose(ran, kernel.wrote(anew[0]), titles)} after it ran")
    changed = [name for name in read.names if read.names[name][0] != would.names.get(name, (-2, 0))[0]]
    if blind or not changed:
        return CellState(UNKNOWN, blind or "what it reads is not known")
    name = min(changed)
    maker = ran[read.names[name][1]] if read.names[name][1] >= 0 else None
    if maker is not None and maker.error and maker.id != cell.id:
        return CellState(UNKNOWN, f"it read {name} after a cell that may have changed it failed: {maker.error}")
    return CellState(OUT_OF_ORDER, _why(name, read.names[name][1], cell, ran, titles))


def _why(name: str, writer: int, cell: Standing, ran: Sequence[Run], titles: dict[str, int]) -> str:
    if writer < 0:
        return f"{name} did not exist yet when it ran"
    maker = ran[writer]
    if maker.id == cell.id:
        return f"it read {name} as its own earlier run had left it"
    if maker.id not in titles:
        return f"it read {name} from a cell that is not in the notebook any more"
    if titles[maker.id] > titles[cell.id]:
        return f"it read {name} from cell {titles[maker.id]}, which stands below it"
    return f"it read {name} as cell {titles[maker.id]} had left it, which a clean run does otherwise"


def _whose(ran: Sequence[Run], position: int, titles: dict[str, int]) -> str:
    number = titles.get(ran[position].id)
    return f"cell {number}" if number else "a cell that is not in the notebook any more"


def reasons(cells: Iterable[tuple[int, CellState]]) -> list[str]:
    """Return a line for every cell that a clean run may not give as it is shown; `cells` are numbered from 1."""
    return [f"cell {number} is {one.state}: {one.reason}" for number, one in cells if not one.sound]
