"""What was made from the dataset that a cell makes, in a line below it: who may not be forgotten when the query changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jupyter_mlp.core.cards import count_text
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.core.references import KINDS, Ref

_SAID = ("dataset", "model", "endpoint", "snapshot", "schedule")  # a run is said by its model
_MOST = 200  # cells that make datasets


def of_cells(pythons: dict[str, str]) -> dict[str, str]:
    """Return "used by 2 models, 1 endpoint" for each cell that makes a dataset which something was made from, by the cell's id."""
    from jupyter_mlp.notebook import graph

    made = {cell: [name for name in graph.platform_of(python)[1] if name.startswith("dataset:")] for cell, python in pythons.items()}
    names = [(cell, name) for cell, found in made.items() for name in found][:_MOST]
    said = {name: _of(name) for name in {name for _, name in names}}
    return {cell: said[name] for cell, name in names if said[name]}


def _of(name: str) -> str:
    """What depends on the newest version, or, where nothing does yet, on earlier ones."""
    from jupyter_mlp.downstream import impact
    from jupyter_mlp.store.workspace import current

    try:
        ref = Ref.parse(name)
        newest = current().activities.resolve(ref)
        found = _counted(one.ref for one in impact(str(newest)).dependants)
        if found:
            return f"used by {found}"
        earlier = _counted(one.ref for one in impact(str(ref)).dependants)
    except MLPError:
        return ""  # it has not run yet, or its name is only half typed; running the cell says what is wrong
    return f"earlier versions are used by {earlier}, this one by nothing yet" if earlier else ""


def _counted(refs: Iterable[Ref]) -> str:
    counts = Counter(ref.kind for ref in refs)
    return ", ".join(count_text(counts[kind], kind) for kind in KINDS if kind in _SAID and counts[kind])
