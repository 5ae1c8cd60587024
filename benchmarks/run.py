"""`make bench`: ours, the peer and the limit in one run, rounds interleaved, medians; the ratio is what counts.

Each file `row_*.py` beside this one is one row. It has

    WHAT            one line
    LIMIT, TARGET   ratios ours/peer: more than LIMIT fails the run; TARGET is where we want to be (either may be None)
    LIMIT_S         seconds that ours may take (or None), where no ratio says it
    ROUNDS          so many rounds where --rounds is not given: fewer where one takes long, more where the limit is close
                    (optional); note() says more about the figure (optional);
                    broken() whether another limit, which that note names, was passed (optional)
    sides()         a context manager that gives {"ours": callable, "peer": callable, "floor": callable}; each returns
                    seconds, or None after which it is timed from outside; "peer" and "floor" (the physical limit) are optional

    python benchmarks/run.py [--rounds N] [NAME ...]      NAME: start, second_notebook, ...
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from jupyter_mlp.store import gpus  # noqa: E402 - found by the line above

COLUMNS = "{:<46} {:>10} {:>10} {:>10} {:>7} {:>14}  {}"


@dataclass(frozen=True)
class Row:
    """One line of the table; times are medians in seconds."""

    what: str
    ours: float
    peer: float | None
    floor: float | None
    limit: float | None
    target: float | None
    limit_s: float | None

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return self.ours / self.peer if self.peer else None

    @property
    def ok(self) -> bool:
        """Whether the limits are kept."""
        slow = self.ratio is not None and self.limit is not None and self.ratio > self.limit
        return not slow and not (self.limit_s is not None and self.ours > self.limit_s)

    def __str__(self) -> str:
        limits = [f"<= {self.limit}" if self.limit else "", f"<= {self.limit_s} s" if self.limit_s else ""]
        ratio = f"{self.ratio:#.3g}" if self.ratio is not None else "-"
        reached = self.ratio is not None and self.target is not None and self.ratio <= self.target
        verdict = ("ok, target reached" if reached else "ok") if self.ok else "OVER THE LIMIT"
        if self.target and not reached:
            verdict += f" (target {self.target})"
        return COLUMNS.format(
            self.what, _s(self.ours), _s(self.peer), _s(self.floor), ratio, ", ".join(filter(None, limits)) or "-", verdict
        )


def measure(row: ModuleType, rounds: int) -> Row:
    """Run all sides of a row in turn, `rounds` times."""
    times: dict[str, list[float]] = {}
    with row.sides() as sides:
        for number in range(rounds):
            # Forwards, then backwards: what the machine does beside us hits every side alike.
            for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
                times.setdefault(name, []).append(_timed(sides[name]))
    medians: Mapping[str, float] = {name: statistics.median(values) for name, values in times.items()}
    return Row(row.WHAT, medians["ours"], medians.get("peer"), medians.get("floor"), row.LIMIT, row.TARGET, row.LIMIT_S)


def _timed(side: Callable[[], float | None]) -> float:
    begun = time.perf_counter()
    told = side()
    return time.perf_counter() - begun if told is None else told


def _s(value: float | None) -> str:
    return "-" if value is None else f"{value * 1000:,.1f} ms" if value < 10 else f"{value:,.1f} s"


def main() -> int:
    """Print the table; 1 when a limit is not kept."""
    known = {path.stem.removeprefix("row_"): path.stem for path in sorted(HERE.glob("row_*.py"))}
    parser = argparse.ArgumentParser(description="Ours beside the peer and the limit.")
    parser.add_argument("rows", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--rounds", type=int, help="5, or what the row says")
    given = parser.parse_args()
    unknown = [name for name in given.rows if name not in known]
    if unknown:
        print(f"No row {unknown[0]}.\nKnown: {', '.join(known)}.", file=sys.stderr)
        return 2
    machine = ", ".join([f"Python {platform.python_version()}", f"{os.cpu_count()} cores", *(gpus.names() or ["no GPU"])])
    print(f"{machine}; medians of interleaved rounds")
    print(COLUMNS.format("what", "ours", "peer", "floor", "ratio", "limit", ""))
    rows, broken = [], False
    for name in given.rows or known:
        module = importlib.import_module(known[name])
        rows.append(measure(module, given.rounds or getattr(module, "ROUNDS", 5)))
        print(rows[-1], flush=True)
        if hasattr(module, "note"):
            print(f"    {module.note()}")
        broken |= hasattr(module, "broken") and module.broken()
    return 0 if all(row.ok for row in rows) and not broken else 1


if __name__ == "__main__":
    sys.exit(main())
