"""How the ranks share an epoch: in equal parts from its beginning, or what ranks of another number have left of it.

    rows of the epoch, in order                0 ............................................. n
    two ranks have taken three batches each    [###.................. | ###.................]
    three ranks go on                             [a..............b...........   ..c..........]

So every row is taken once in an epoch, whoever began it; as always, those few that cannot be divided equally are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError

Pieces = list[tuple[int, int]]  # from a row up to another, in the order of the epoch


@dataclass(frozen=True)
class Taken:
    """What so many ranks have taken of an epoch: each as many batches of so many rows."""

    world: int
    rows: int
    batches: int


@dataclass(frozen=True)
class Share:
    """How `world` ranks share an epoch.

    Attributes:
        rows: of a batch of one rank. `first`: the number that their first batch has in the epoch.
        before: what ranks of other numbers had taken of it.
    """

    world: int
    rows: int
    first: int = 0
    before: tuple[Taken, ...] = ()

    def steps(self, total: int) -> int:
        """Return the number behind that of the last batch, of `total` rows."""
        return self.first - (-self._part(total) // self.rows)

    def pieces(self, total: int, rank: int, batch: int) -> Pieces:
        """Return the rows that a rank takes from this batch on."""
        left, part = _left(total, self.before), self._part(total)
        begins = rank * part
        if (size := _size(left)) < self.world and size and self.before:
            begins = rank % size  # fewer rows are left than there are ranks: each takes one, some the same
        return list(_slice(left, begins + (batch - self.first) * self.rows, begins + part))

    def continued(self, total: int, batch: int, regular: Share) -> Share:
        """Return how the ranks of `regular` go on in the epoch of which these have taken all before `batch`.

        The numbers of their batches end as those of any other epoch of theirs.

        Raises:
            InvalidInputError: their epochs are too short for a place in the middle of one.
        """
        before = (*self.before, Taken(self.world, self.rows, batch - self.first))
        most = regular.steps(total) - 1
        if most < 1:
            raise InvalidInputError(
                f"{regular.world} processes take all {total:,} rows of an epoch in one step, and cannot go on in the middle of one.",
                f"Give --gpus {self.world}, as before.",
            )
        part = Share(regular.world, regular.rows, 0, before)._part(total)
        rows = max(regular.rows, -(-part // most))
        return Share(regular.world, rows, regular.steps(total) - -(-part // rows), before)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {**asdict(self), "before": [asdict(one) for one in self.before]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Share:
        """Read what `to_dict` wrote."""
        return cls(**{**value, "before": tuple(Taken(**one) for one in value["before"])})

    def _part(self, total: int) -> int:
        """Rows of one rank."""
        size = _size(_left(total, self.before))
        return max(size // self.world, 1 if size and self.before else 0)


def regular(batch_size: int, world: int) -> Share:
    """Return how so many ranks share an epoch from its beginning, `batch_size` rows a step over all of them."""
    return Share(world, max(1, batch_size // world))


def _left(total: int, before: Sequence[Taken]) -> Pieces:
    left = [(0, total)]
    for one in before:
        size = _size(left)
        part = size // one.world
        taken = one.batches * one.rows
        ranges = [*((rank * part + taken, (rank + 1) * part) for rank in range(one.world)), (one.world * part, size)]
        left = [piece for low, high in ranges for piece in _slice(left, low, high)]
    return left


def _slice(pieces: Pieces, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Yield what stands between two places of some pieces that are counted through."""
    at = 0
    for begin, end in pieces:
        one, other = begin + max(low - at, 0), min(end, begin + high - at)
        if one < other:
            yield one, other
        at += end - begin


def _size(pieces: Pieces) -> int:
    return sum(end - begin for begin, end in pieces)
