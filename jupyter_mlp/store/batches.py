"""What a training job reads: which rows, in which order, by which rank. The plan is made once and kept with the run.

    row groups of the files       g3 g0 g2 g1          order of an epoch, from seed and epoch
    their rows, in windows        [........][....]     shuffled inside a window
    one sequence in equal parts   rank 0   | rank 1    every rank takes the same number of steps

Nothing here knows torch: batches are numpy arrays (features float32 [rows, width], target [rows]).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.store.ahead import ahead
from jupyter_mlp.store.row_groups import RowGroups
from jupyter_mlp.store.shares import Pieces, Share

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

TRAIN, HELD_OUT = "train", "held_out"
SHARE_HELD_OUT = 0.1  # of the rows, for validation, where no validation dataset is given
_WINDOW = 262_144  # rows that are shuffled together: what memory bears, not what the data set has
_BYTES, _LEAST = 2**27, 8_192  # of features in a window; fewer rows together than that would be no shuffle

Said = Mapping[str, str]
Window = tuple["np.ndarray", "np.ndarray | None", "np.ndarray"]  # features, labels, and the numbers of the rows in order


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
        pins: what files that are not ours were when they were taken: what has changed since is not read.
        folders: columns that only names of folders say, and their types.
    """

    groups: tuple[Group, ...]
    seed: int
    share: float
    pins: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)

    def rows(self, part: str) -> int:
        """Return how many rows a part has."""
        return sum(getattr(group, part) for group in self.groups)

    def steps(self, part: str, world: int, batch_rows: int) -> int:
        """Return how many batches of `batch_rows` each of `world` ranks takes in an epoch."""
        return Share(world, batch_rows).steps(self.rows(part))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON types."""
        groups = [vars(group) for group in self.groups]
        return {"seed": self.seed, "share": self.share, "groups": groups, "pins": dict(self.pins), "folders": dict(self.folders)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Plan:
        """Read what `to_dict` wrote."""
        groups = tuple(Group(**group) for group in value["groups"])
        return cls(groups, value["seed"], value["share"], value.get("pins", {}), value.get("folders", {}))


def split(files: Sequence[str], recipe: Recipe, share: float, seed: int, pins: Said | None = None, folders: Said | None = None) -> Plan:
    """Return the plan of rows that holds a share of them out."""
    groups = []
    for path, footer in zip(files, RowGroups(pins or {}).footers(files), strict=True):
        groups += [Group(path, index, footer.row_group(index).num_rows) for index in range(footer.num_row_groups)]
    return counted(Plan(tuple(group for group in groups if group.rows), seed, share, pins or {}, folders or {}), recipe)


def whole(files: Sequence[str], recipe: Recipe, seed: int, pins: Said | None = None, folders: Said | None = None) -> Plan:
    """Return a plan that holds every row out: that of a validation dataset of its own."""
    return split(files, recipe, 1.0, seed, pins, folders)


def counted(plan: Plan, recipe: Recipe) -> Plan:
    """Return the plan with the number of usable rows of every group; reads the target only."""
    groups = []
    targets = _tables(plan, range(len(plan.groups)), [recipe.target]) if recipe.target else None
    for number, group in enumerate(plan.groups):
        held = _held_out(plan, number)
        usable = _usable(recipe, next(targets).column(0)) if targets else held | True
        groups.append(replace(group, train=int((usable & ~held).sum()), held_out=int((usable & held).sum())))
    return replace(plan, groups=tuple(groups))


def raw(plan: Plan, part: str, columns: Sequence[str], most: int) -> pa.Table:
    """Return some columns of a part's rows as they lie in the files, about `most` of them at the most."""
    import pyarrow as pa

    found, rows = [], 0
    for number, table in enumerate(_tables(plan, range(len(plan.groups)), columns)):
        held = _held_out(plan, number)
        found.append(table.filter(pa.array(held if part == HELD_OUT else ~held)))
        rows += len(found[-1])
        if rows >= most:
            break
    return pa.concat_tables(found).slice(0, most)


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
    share: Share | None = None,
    take: Callable[[np.ndarray, np.ndarray], Any] | None = None,
    join: Callable[[list[Any]], Any] | None = None,
) -> Iterator[Any]:
    """Yield one rank's batches of one epoch from number `start` on: `plan.steps(...)` in all, the last one shorter.

    The rows ahead are decoded by one thread and made features by another while a batch is used; memory does not grow with
    the data set.

    Args:
        share: how the ranks share this epoch, where they do not share it from its beginning; its batches may be larger.
        take: copies the rows of an array with these numbers; numpy's own when left out.
        join: makes one of several such copies.
    """
    import numpy as np

    take = take or (lambda values, rows: values.take(rows, axis=0))
    join = join or np.concatenate
    share = share or Share(world, batch_rows)
    mine, batch_rows = share.pieces(plan.rows(part), rank, start), share.rows
    held: list[tuple[Any, Any]] = []  # the rows of a window that were too few for a batch
    count = 0
    for x, y, rows in ahead(_windows(plan, recipe, part, mine, epoch, shuffle), "mlp-features"):
        at = 0
        while len(rows) - at + count >= batch_rows:
            chosen = rows[at : at + batch_rows - count]
            held.append((take(x, chosen), None if y is None else take(y, chosen)))
            yield _joined(held, join)
            at, count, held = at + len(chosen), 0, []
        if at < len(rows):
            held.append((take(x, rows[at:]), None if y is None else take(y, rows[at:])))
            count += len(rows) - at
    if held:
        yield _joined(held, join)


def _windows(plan: Plan, recipe: Recipe, part: str, mine: Pieces, epoch: int, shuffle: bool) -> Iterator[Window]:
    """Yield the rows of the epoch that are `mine`, window by window, with the order in which they are taken.

    The arrays are used again for the window after the next two: nobody but `ahead` and its user holds them.
    """
    import numpy as np

    order = np.arange(len(plan.groups))
    if shuffle:
        order = np.random.default_rng([plan.seed, epoch, 0]).permutation(order)
    start, wanted = 0, []
    for number, groups in enumerate(_in_windows(plan, part, order.tolist(), _rows_together(recipe))):
        size = sum(getattr(plan.groups[group], part) for group in groups)
        if here := _within(mine, start, size):
            wanted.append((number, groups, size, here))
        start += size
    tables = ahead(_tables(plan, [group for _, groups, *_ in wanted for group in groups], _columns(recipe)), "mlp-decode")
    ring = [_Space() for _ in range(3)]
    for turn, (number, groups, size, here) in enumerate(wanted):
        x, y = ring[turn % len(ring)].arrays(size, recipe)
        at = 0
        for group in groups:
            at += _fill(plan, recipe, part, group, next(tables), x[at:], None if y is None else y[at:])
        rows = np.random.default_rng([plan.seed, epoch, 1 + number]).permutation(size) if shuffle else np.arange(size)
        yield x, y, rows[slice(*here[0])] if len(here) == 1 else np.concatenate([rows[low:high] for low, high in here])


def _within(pieces: Pieces, start: int, size: int) -> Pieces:
    """Return what of some pieces lies in a window of the epoch, counted from the window's first row."""
    cut = [(max(low - start, 0), min(high - start, size)) for low, high in pieces]
    return [(low, high) for low, high in cut if low < high]


def _in_windows(plan: Plan, part: str, order: Sequence[int], together: int) -> Iterator[list[int]]:
    window: list[int] = []
    rows = 0
    for group in order:
        window.append(group)
        rows += getattr(plan.groups[group], part)
        if rows >= together:
            yield window
            window, rows = [], 0
    if window:
        yield window


def _rows_together(recipe: Recipe) -> int:
    return max(_LEAST, min(_WINDOW, _BYTES // (4 * max(1, recipe.width))))


class _Space:
    """Memory of a window, kept for another: fresh pages cost more than the numbers that are written to them."""

    def __init__(self) -> None:
        self._x: Any = None
        self._y: Any = None

    def arrays(self, rows: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray | None]:
        import numpy as np

        if self._x is None or len(self._x) < rows:
            self._x = np.empty((rows, recipe.width), np.float32)
            self._y = np.empty(rows, np.int64 if recipe.task == "multiclass" else np.float32) if recipe.target else None
        return self._x[:rows], None if self._y is None else self._y[:rows]


def _columns(recipe: Recipe) -> list[str]:
    return [*recipe.columns, *([recipe.target] if recipe.target else [])]


def _fill(plan: Plan, recipe: Recipe, part: str, number: int, table: pa.Table, x: np.ndarray, y: np.ndarray | None) -> int:
    """Write the features of a group's rows to the beginning of `x` and `y`, and return how many rows they are."""
    mask = _held_out(plan, number) if part == HELD_OUT else ~_held_out(plan, number)
    labels = recipe.labels(table.column(recipe.target)) if recipe.target else None
    if labels is not None:
        mask &= _known(recipe, labels)
    if not mask.all():
        table = table.filter(mask)
        labels = None if labels is None else labels[mask]
    rows = table.num_rows
    recipe.features({name: table.column(name) for name in recipe.columns}, x[:rows])
    if y is not None:
        y[:rows] = labels
    return rows


def _held_out(plan: Plan, number: int) -> NDArray[np.bool_]:
    import numpy as np

    random = np.random.default_rng([plan.seed, number])
    held: NDArray[np.bool_] = random.random(plan.groups[number].rows) < plan.share
    return held


def _usable(recipe: Recipe, target: Any) -> NDArray[np.bool_]:
    """Rows whose target is known: a finite number, or a class that training saw."""
    return _known(recipe, recipe.labels(target))


def _known(recipe: Recipe, labels: np.ndarray) -> NDArray[np.bool_]:
    import numpy as np

    found: NDArray[np.bool_] = np.isfinite(labels) if recipe.task == "regression" else labels >= 0
    return found


def _tables(plan: Plan, numbers: Sequence[int], columns: Sequence[str]) -> Iterator[pa.Table]:
    groups = [plan.groups[number] for number in numbers]
    return RowGroups(plan.pins, plan.folders).tables([(group.path, group.index) for group in groups], columns)


def _joined(parts: Sequence[tuple[Any, Any]], join: Callable[[list[Any]], Any]) -> tuple[Any, Any]:
    if len(parts) == 1:
        return parts[0]
    targets = [y for _, y in parts if y is not None]
    return join([x for x, _ in parts]), join(targets) if targets else None
