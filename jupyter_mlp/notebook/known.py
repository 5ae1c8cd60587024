"""What a run knows before it begins: the cells that it, or the run before it, has done already, and behind which of them it can go on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_mlp.notebook import journal, state
from jupyter_mlp.notebook.steps import Chain

KERNELS_LOCK, RUN_LOCK = "kernels.lock", "run.lock"


@dataclass
class Known:
    """Lines of journals by their keys."""

    lines: dict[str, dict[str, Any]]
    _read: dict[Path, tuple[int, set[int]]] = field(default_factory=dict)

    def reused(self, chain: Chain) -> int:
        """Return how many of a chain's first cells need not run: all, or up to the last one behind which a kernel can go on."""
        done = next((at for at, key in enumerate(chain.keys) if key not in self.lines), len(chain.keys))
        if done == len(chain.keys):
            return done
        while done and self.left(chain.keys[done - 1]) is None:
            done -= 1
        return done

    def left(self, key: str) -> tuple[Path, int] | None:
        """Return where it is written what a kernel held behind a cell; None where no other can go on there."""
        line = self.lines.get(key)
        if line is None:
            return None
        path = Path(line["state"])
        return (path, line["at"]) if line["at"] in self._ends(path) else None

    def _ends(self, path: Path) -> set[int]:
        """Behind which cells of a file a kernel can go on; read again where it grew."""
        size = path.stat().st_size if path.is_file() else 0
        if self._read.get(path, (-1, set()))[0] != size:
            self._read[path] = (size, state.ends(path))
        return self._read[path][1]


@dataclass(frozen=True)
class Work:
    """What a run works with.

    Attributes:
        run: its id. `folder`: its journal and its states. `attempt`: which try of the run it is.
        cut: what names of the platform meant when it began. `around`: its surroundings then. `kernels`: how many may run at once.
    """

    run: str
    folder: Path
    notebook: Path | None
    attempt: int
    cut: Mapping[str, str]
    around: Mapping[str, object]
    kernels: int
    known: Known = field(compare=False)


def put(node: Any, line: Mapping[str, Any], count: int) -> None:
    """Put what is known of a cell into it, as if it had run."""
    import nbformat

    node.outputs = [nbformat.from_dict(output) for output in line["outputs"]]
    number(node, count)
    node.metadata["papermill"] = nbformat.from_dict(line["papermill"])
    node.metadata["execution"] = nbformat.from_dict(line["execution"])


def number(node: Any, count: int) -> None:
    """Give a cell and its results the number that they have in a run from top to bottom."""
    node.execution_count = count
    for output in node.outputs:
        if output.output_type == "execute_result":
            output.execution_count = count


def write(node: Any, path: Path) -> None:
    """Write a notebook in one piece."""
    import nbformat

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(nbformat.writes(node), encoding="utf-8")
    temporary.replace(path)


def of(folder: Path, before: Sequence[Path] = ()) -> Known:
    """Return what the journals of a run and of those before it say, its own word last."""
    found: dict[str, dict[str, Any]] = {}
    for one in before:
        found |= journal.read(one / journal.NAME)
    own = {key: {**line, "own": True} for key, line in journal.read(folder / journal.NAME).items()}
    return Known(found | own)
