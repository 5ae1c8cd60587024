"""What a training job reads: which rows, in which order, by which rank. The plan is made once and kept with the run.

    row groups of the files       g3 g0 g2 g1          order of an epoch, from seed and epoch
    their rows, in windows        [........][....]     shuffled inside a window
    one sequence in equal parts   rank 0   | rank 1    every rank takes the same number of steps

Nothing here knows torch: batches are numpy arrays (features float32 [rows, width], target [rows]).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

TRAIN, HELD_OUT = "train", "held_out"
_WINDOW = 262_144  # rows that are shuffled together: what memory bears, not what the data set has

Batch = tuple["np.ndarray", "np.ndarray | None"]


@dataclass(frozen=True)
class Group:
    """One row group of a Parquet file, and how many of its rows each part uses."""

    path: str
    index: int
    rows: int
    train: int = 0
    held_out: int = 0


@dataclass(frozen=True)
class Plan:
    """Which rows of a dataset version belong to which part.

    Attributes:
        share: part of the rows that is held out for validation, chosen by position and seed.
    """

    groups: tuple[Group, ...]
    seed: int
    share: float

    def rows(self, part: str) -> int:
        """Return how many rows a part has."""
        return sum(getattr(group, part) for group in self.groups)

    def steps(self, part: str, world: int, batch_rows: int) -> int:
        """Return how many batches of `batch_rows` each of `world` ranks takes in an epoch."""
        return -(-(self.rows(part) // world) // batch_rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        return {"seed": self.seed, "share": self.share, "groups": [vars(group) for group in self.groups]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Plan:
        """Read what `to_dict` wrote."""
        return cls(tuple(Group(**group) for group in value["groups"]), value["seed"], value["share"])


def split(files: Sequence[str], recipe: Recipe, share: float, seed: int) -> Plan:
    """Return the plan of rows that holds a share of them out."""
    return counted(_groups(files, seed, share), recipe)


def whole(files: Sequence[str], recipe: Recipe, seed: int) -> Plan:
    """Return a plan that holds every row out: that of a validation dataset of its own."""
    return counted(_groups(files, seed, 1.0), recipe)


def counted(plan: Plan, recipe: Recipe) -> Plan:
    """Return the plan with the number of usable rows of every group; reads the target only."""
    groups = []
    for number, group in enumerate(plan.groups):
        held = _held_out(plan, number)
        usable = _usable(recipe, _read(group, [recipe.target]).column(0)) if recipe.target else held | True
        groups.append(replace(group, train=int((usable & ~held).sum()), held_out=int((usable & held).sum())))
    return replace(plan, groups=tuple(groups))


def stream(
    plan: Plan,
    recipe: Recipe,
    part: str,
    batch_rows: int,
    *,
    rank: int = 0,
    world: int = 1,
    epoch: int = 0,
    shuffle: bool = True,
    start: int = 0,
) -> Iterator[Batch]:
    """Yield one rank's batches of one epoch from number `start` on: `plan.steps(...)` in all, the last one shorter.

    The windows ahead are decoded by a thread while a batch is used; memory does not grow with the data set.
    """
    import numpy as np

    share = plan.rows(part) // world
    parts = _ahead(_windows(plan, recipe, part, (rank * share + start * batch_rows, (rank + 1) * share), epoch, shuffle))
    held: list[Batch] = []
    for window in parts:
        held.append(window)
        count = sum(len(x) for x, _ in held)
        if count < batch_rows:
            continue
        x, y = _joined(held)
        whole_rows = count // batch_rows * batch_rows
        for start in range(0, whole_rows, batch_rows):
            yield x[start : start + batch_rows], None if y is None else y[start : start + batch_rows]
        held = [(x[whole_rows:], None if y is None else y[whole_rows:])] if whole_rows < count else []
    if held and sum(len(x) for x, _ in held):
        x, y = _joined(held)
        yield np.ascontiguousarray(x), y


def _windows(plan: Plan, recipe: Recipe, part: str, mine: tuple[int, int], epoch: int, shuffle: bool) -> Iterator[Batch]:
    import numpy as np

    order = np.arange(len(plan.groups))
    if shuffle:
        order = np.random.default_rng([plan.seed, epoch, 0]).permutation(order)
    start = 0
    for number, window in enumerate(_in_windows(plan, part, order.tolist())):
        size = sum(getattr(plan.groups[group], part) for group in window)
        low, high = max(mine[0] - start, 0), min(mine[1] - start, size)
        if low < high:
            x, y = _joined([_load(plan, recipe, part, group) for group in window])
            chosen = np.random.default_rng([plan.seed, epoch, 1 + number]).permutation(size) if shuffle else np.arange(size)
            chosen = chosen[low:high]
            yield x[chosen], None if y is None else y[chosen]
        start += size


def _in_windows(plan: Plan, part: str, order: Sequence[int]) -> Iterator[list[int]]:
    window: list[int] = []
    rows = 0
    for group in order:
        window.append(group)
        rows += getattr(plan.groups[group], part)
        if rows >= _WINDOW:
            yield window
            window, rows = [], 0
    if window:
        yield window


def _load(plan: Plan, recipe: Recipe, part: str, number: int) -> Batch:
    columns = [*recipe.columns, *([recipe.target] if recipe.target else [])]
    table = _read(plan.groups[number], columns)
    mask = _held_out(plan, number) if part == HELD_OUT else ~_held_out(plan, number)
    if recipe.target:
        mask &= _usable(recipe, table.column(recipe.target))
    if not mask.all():
        table = table.filter(mask)
    x = recipe.features({name: table.column(name) for name in recipe.columns})
    return x, recipe.labels(table.column(recipe.target)) if recipe.target else None


def _held_out(plan: Plan, number: int) -> NDArray[np.bool_]:
    import numpy as np

    random = np.random.default_rng([plan.seed, number])
    held: NDArray[np.bool_] = random.random(plan.groups[number].rows) < plan.share
    return held


def _usable(recipe: Recipe, target: Any) -> NDArray[np.bool_]:
    """Rows whose target is known: a finite number, or a class that training saw."""
    import numpy as np

    labels = recipe.labels(target)
    found: NDArray[np.bool_] = np.isfinite(labels) if recipe.task == "regression" else labels >= 0
    return found


def _groups(files: Sequence[str], seed: int, share: float) -> Plan:
    import pyarrow.parquet as pq

    found = []
    for path in files:
        meta = pq.read_metadata(path)
        found += [Group(path, index, meta.row_group(index).num_rows) for index in range(meta.num_row_groups)]
    return Plan(tuple(group for group in found if group.rows), seed, share)


def _read(group: Group, columns: Sequence[str] | None) -> pa.Table:
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(group.path).read_row_group(group.index, columns=list(columns) if columns else None)
    except FileNotFoundError as error:
        raise InvalidInputError(f"{group.path} is gone.", "Run the query of the dataset again with --fresh.") from error


def _joined(parts: Sequence[Batch]) -> Batch:
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    targets = [y for _, y in parts if y is not None]
    return np.concatenate([x for x, _ in parts]), np.concatenate(targets) if targets else None


def _ahead(windows: Iterable[Batch]) -> Iterator[Batch]:
    """Let a thread work one item ahead of the one in use."""
    ready: queue.Queue[tuple[Batch | None, BaseException | None]] = queue.Queue(maxsize=1)
    stopped = threading.Event()

    def work() -> None:
        error: BaseException | None = None
        try:
            for window in windows:
                if not _put(ready, (window, None), stopped):
                    return
        except BaseException as caught:  # noqa: BLE001 - raised again where the batches are used
            error = caught
        _put(ready, (None, error), stopped)

    threading.Thread(target=work, daemon=True, name="mlp-input").start()
    try:
        while True:
            window, error = ready.get()
            if error is not None:
                raise error
            if window is None:
                return
            yield window
    finally:
        stopped.set()


def _put(target: queue.Queue[Any], item: Any, stopped: threading.Event) -> bool:
    while not stopped.is_set():
        try:
            target.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False
