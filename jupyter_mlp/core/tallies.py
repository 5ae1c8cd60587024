"""What one model did, added up request by request: enough to judge it by, and as small after a million requests as after a hundred."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jupyter_mlp.core import bad_shares

_STEPS = 64  # kinds of times between one and twice as much: they are one percent apart


@dataclass
class Tally:
    """Answers and failures of a model since its share of the requests is what it is.

    Attributes:
        slower: of the answers those that took more than so many ms, by each limit that somebody asked for.
        times: how many answers took so long, by the logarithm of the time.
    """

    answers: int = 0
    failures: int = 0
    slower: dict[float, int] = field(default_factory=dict)
    times: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, failures: int, times_ms: Iterable[float], limits_ms: Sequence[float] = ()) -> Tally:
        """Add up what is known already."""
        found = cls(failures=failures, slower=dict.fromkeys(limits_ms, 0))
        for ms in times_ms:
            found.add(True, ms)
        return found

    def add(self, answered: bool, ms: float) -> None:
        """Count a request."""
        if not answered:
            self.failures += 1
            return
        self.answers += 1
        self.times[math.floor(_STEPS * math.log2(max(ms, 1e-6)))] += 1
        for limit in self.slower:
            self.slower[limit] += ms > limit

    def __add__(self, other: Tally) -> Tally:
        slower = {limit: self.slower.get(limit, 0) + other.slower.get(limit, 0) for limit in {**self.slower, **other.slower}}
        return Tally(self.answers + other.answers, self.failures + other.failures, slower, self.times + other.times)

    @property
    def asked(self) -> int:
        """All its requests."""
        return self.answers + self.failures

    @property
    def median_ms(self) -> float:
        """The time of the answer in the middle, to a percent; 0 where there is none."""
        return _ms(self._at((self.answers + 1) // 2) + 0.5) if self.answers else 0.0

    def median_between(self, alpha: float = bad_shares.ALPHA) -> tuple[float, float]:
        """Return what the time that half of its answers exceed is at least, and at most, as sure as that at any look; each for itself."""
        least = bad_shares.fewest(self.answers, 0.5, alpha)
        if least > self.answers:
            return 0.0, math.inf
        return _ms(self._at(self.answers - least + 1)), _ms(self._at(least) + 1)

    def _at(self, rank: int) -> int:
        """The kind of time of the answer with that rank, the quickest first."""
        return next(kind for kind, upto in self._ranks() if upto >= rank)

    def _ranks(self) -> Iterator[tuple[int, int]]:
        upto = 0
        for kind in sorted(self.times):
            upto += self.times[kind]
            yield kind, upto

    def to_dict(self) -> dict[str, Any]:
        """Return the tally as JSON types."""
        return {"answers": self.answers, "failures": self.failures, "slower": [*self.slower.items()], "times": [*self.times.items()]}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Tally:
        """Read what `to_dict` wrote."""
        return cls(int(value["answers"]), int(value["failures"]), dict(value["slower"]), Counter(dict(value["times"])))


def _ms(kind: float) -> float:
    return float(2 ** (kind / _STEPS))
