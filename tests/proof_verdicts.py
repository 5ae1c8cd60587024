"""Ten thousand simulated streams of two models, looked at after every batch; what is said of them is counted.

equal models         heavy-tailed losses: how often is one of them called better?            at most 5 %
a planned effect     the losses of B smaller by it: found within the units that were planned?  at least 80 %
a wrong split        51 % instead of 50 %, 50.5 % instead of 50 %, 11 % instead of 10 %: caught?      at least 99 %
the right split      called wrong?                                                           at most 1 %

The simulated losses go through `core.experiments` like those of an endpoint: sums, means, variances, boundary.

python tests/proof_verdicts.py [--streams 10000]
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from jupyter_mlp.core import experiments

BATCH, LOOKS = 500, 100


@dataclass(frozen=True)
class Seen:
    """One line: what was simulated, how often it was said, and the bound."""

    what: str
    share: float
    bound: float
    at_most: bool

    @property
    def ok(self) -> bool:
        return self.share <= self.bound if self.at_most else self.share >= self.bound

    def __str__(self) -> str:
        sign = "<=" if self.at_most else ">="
        return f"{self.what:<78} {self.share:7.2%}  ({sign} {self.bound:.0%}) {'ok' if self.ok else 'WRONG'}"


def losses(kind: str, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Losses as models have them: absolute errors, with tails; and 0/1 errors that are rare."""
    if kind == "absolute errors":
        return np.abs(random.normal(0, 12, shape))
    if kind == "log-normal errors":
        return random.lognormal(0, 1, shape)
    return (random.random(shape) < 0.1).astype(float)


def winners(kind: str, streams: int, effect: float, share_b: float, batches: int, batch: int, seed: int) -> np.ndarray:
    """Return per stream 0 (nothing said), 1 (A was called better first) or 2 (B was): every stream is looked at after every batch."""
    random = np.random.default_rng(seed)
    said = np.zeros(streams, dtype=np.int64)
    n, s, q = np.zeros((2, streams)), np.zeros((2, streams)), np.zeros((2, streams))
    for _ in range(batches):
        is_b = random.random((streams, batch)) < share_b
        y = losses(kind, random, (streams, batch))
        y = np.where(is_b, y * (1 - effect), y) if kind != "0/1 errors" else np.where(is_b & (random.random(y.shape) < effect), 0.0, y)
        for arm, mine in enumerate((~is_b, is_b)):
            n[arm] += mine.sum(axis=1)
            s[arm] += (y * mine).sum(axis=1)
            q[arm] += (y * y * mine).sum(axis=1)
        mean = s / np.maximum(n, 1)
        variance = (q - n * mean**2) / np.maximum(n - 1, 1)
        width = experiments.boundary(n.sum(axis=0)) * np.sqrt((variance / np.maximum(n, 1)).sum(axis=0))
        difference = mean[0] - mean[1]
        enough = n.min(axis=0) >= experiments.FEWEST
        said = np.where((said == 0) & enough & (np.abs(difference) > width), np.where(difference > 0, 2, 1), said)
    return said


def agrees(kind: str, seed: int) -> bool:
    """Whether `compare` says of one stream, at every look, what the arithmetic above says."""
    random = np.random.default_rng(seed)
    a, b = losses(kind, random, (1, 4000))[0], losses(kind, random, (1, 4000))[0] * 0.9
    for count in range(200, 4001, 200):
        one, two = experiments.arm(a[:count]), experiments.arm(b[:count])
        width = float(experiments.boundary(2 * count)) * math.sqrt((one.variance + two.variance) / count)
        expected = None if abs(one.mean - two.mean) <= width else "B" if one.mean > two.mean else "A"
        if experiments.compare(one, two).winner != expected:
            return False
    return True


def caught(streams: int, planned: float, real: float, units: int, seed: int, batch: int = 2000) -> float:
    """Return the share of streams whose split is called wrong at one of the looks."""
    random = np.random.default_rng(seed)
    b = np.zeros(streams)
    alarm = np.zeros(streams, dtype=bool)
    for look in range(1, units // batch + 1):
        b += random.binomial(batch, real, streams)
        alarm |= experiments.split_evidence(look * batch - b, b, planned) > -math.log(experiments.SPLIT_ALPHA)
    return float(alarm.mean())


def run(streams: int, seed: int = 7) -> list[Seen]:
    """Simulate everything and return what was seen."""
    found = []
    for kind in ("absolute errors", "log-normal errors", "0/1 errors"):
        for share in (0.5, 0.1):
            said = winners(kind, streams, 0.0, share, LOOKS, BATCH, seed)
            what = f"equal models, {kind}, {share:.0%} to B, {LOOKS} looks, {LOOKS * BATCH:,} requests"
            found.append(Seen(f"{what}: called better", float((said > 0).mean()), 0.05, True))
    for kind, effect in (("absolute errors", 0.05), ("0/1 errors", 0.2)):
        y = losses(kind, np.random.default_rng(seed), (1, 1_000_000))[0]
        units = experiments.needed(effect * float(y.mean()), float(y.var()), float(y.var()), 0.5)
        said = winners(kind, streams, effect, 0.5, math.ceil(units / BATCH), BATCH, seed + 1)
        found.append(Seen(f"B better by {effect:.0%} on {kind}, found within {units:,} requests", float((said == 2).mean()), 0.8, False))
        found.append(Seen("    of these, A called better", float((said == 1).mean()), 0.05, True))
    for planned, real, units in ((0.5, 0.51, 200_000), (0.1, 0.11, 100_000), (0.5, 0.505, 800_000)):
        share = caught(streams, planned, real, units, seed)
        found.append(Seen(f"split {real:.1%} instead of {planned:.0%}, caught within {units:,}", share, 0.99, False))
        found.append(
            Seen(f"    split as planned, called wrong within {units:,}", caught(streams, planned, planned, units, seed), 0.01, True)
        )
    found.append(Seen("compare() says the same as the arithmetic, 20 looks at 60 streams", _agreement(), 1.0, False))
    return found


def _agreement() -> float:
    kinds = ("absolute errors", "log-normal errors", "0/1 errors")
    return float(np.mean([agrees(kind, seed) for kind in kinds for seed in range(20)]))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=10_000)
    given = parser.parse_args()
    found = run(given.streams)
    print(f"{given.streams:,} streams each")
    for one in found:
        print(one)
    return 0 if all(one.ok for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
