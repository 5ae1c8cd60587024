"""Simulated models on a ramp, and endpoints that are monitored: who is sent back, and what raises an alarm, at any of many looks.

kept       exactly what the guard allows fails, or is slow: sent back at any look?                        at most 5 %
alike      challenger and champion fail alike, or are slow alike: sent back?                              at most 5 %
bad        more fails than is allowed, from the first request on or after 100,000 good ones: found soon?  at least 95 %
monitored  errors as often as is allowed, inputs as in training, asked every time anew: any alarm?        at most 5 %

The arithmetic for many streams at once is numpy's; that it says what `ramp_keeper` says is checked on streams of single requests.

python tests/proof_guards.py [--streams 4000] [--drifts 200]
"""

from __future__ import annotations

import argparse
import math
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
from proof_verdicts import Seen

from jupyter_mlp.core import alarms, bad_shares, drift, guards
from jupyter_mlp.serving import ramp_keeper, tallying
from jupyter_mlp.serving.requests_log import Brief
from jupyter_mlp.serving.tallying import Counted

STEP = 20  # requests between two looks
Counts = NDArray[np.int64]


@cache
def fewest(asked: int, share: float, alpha: float) -> int:
    return bad_shares.fewest(asked, share, alpha)


def limits(asked: Counts, share: float, alpha: float) -> Counts:
    """What refutes the share, at each of many counts."""
    known, place = np.unique(asked, return_inverse=True)
    return np.array([fewest(int(one), share, alpha) for one in known])[place].reshape(asked.shape)


def sent_back(rates: NDArray[np.float64], share: float, streams: int, seed: int, alpha: float = bad_shares.ALPHA) -> Counts:
    """Return per stream after how many requests a guard on a model that gets half of the traffic is broken; -1 where it never is.

    Args:
        rates: how likely a request of the model is bad, between each two looks.
    """
    bad = np.random.default_rng(seed).binomial(STEP, rates, (streams, len(rates))).cumsum(axis=1)
    asked = np.arange(1, len(rates) + 1) * STEP
    broken = bad >= limits(asked, share, alpha / 2)
    block = tallying.BLOCK // 2
    for blocks in range(1, int(asked[-1]) // block + 1):
        here = (asked >= blocks * block) & (asked < (blocks + 1) * block)
        start = (blocks - 1) * block // STEP
        before = bad[:, start - 1] if start else 0
        lately = bad[:, here] - np.reshape(before, (-1, 1))
        broken[:, here] |= lately >= limits(asked[here] - start * STEP, share, bad_shares.spent(blocks, alpha / 2))
    first = broken.argmax(axis=1)
    return np.where(broken.any(axis=1), asked[first], -1)


def evidence(bad: Counts, asked: Counts, share: NDArray[np.float64]) -> NDArray[np.float64]:
    """`bad_shares.evidence` of many at once."""
    terms = np.stack([bad * math.log(r) - asked * np.log1p(share * (r - 1)) for r in bad_shares._ODDS])
    largest = terms.max(axis=0)
    return np.asarray(largest + np.log(np.exp(terms - largest).mean(axis=0)))


def alike(champion: float, challenger: float, share: float, streams: int, looks: Counts, seed: int) -> Counts:
    """Return per stream after how many requests of both the challenger is sent back for its failures; -1 where it never is."""
    random = np.random.default_rng(seed)
    steps = np.diff(looks, prepend=0)
    asked = random.binomial(steps, share, (streams, len(looks)))
    bad = [random.binomial(n, rate).cumsum(axis=1) for n, rate in ((steps - asked, champion), (asked, challenger))]
    of = [(steps - asked).cumsum(axis=1), asked.cumsum(axis=1)]
    sure = -math.log(bad_shares.ALPHA / 2 / 4)
    low, high = bad[0] / np.maximum(1, of[0]), np.ones(bad[0].shape)
    for _ in range(20):  # the largest share of the champion that is not refuted
        middle = (low + high) / 2
        refuted = evidence(of[0] - bad[0], of[0], 1 - middle) > sure
        low, high = np.where(refuted, low, middle), np.where(refuted, middle, high)
    surely = evidence(bad[1], of[1], np.clip(high, 0.02, 1 - 1e-9)) > sure
    back = (bad[1] >= 5) & surely & (bad[1] / np.maximum(1, of[1]) > 3 * bad[0] / np.maximum(1, of[0]))
    return np.where(back.any(axis=1), looks[back.argmax(axis=1)], -1)


def slow_alike(slow: float, share: float, streams: int, looks: Counts, seed: int) -> float:
    """Return the share of streams sent back where both models take long for that share of their answers, 500 ms instead of 5."""
    random = np.random.default_rng(seed)
    steps = np.diff(looks, prepend=0)
    asked = random.binomial(steps, share, (streams, len(looks)))
    late = [random.binomial(n, slow).cumsum(axis=1) for n in (steps - asked, asked)]
    of = [(steps - asked).cumsum(axis=1), asked.cumsum(axis=1)]
    sure = bad_shares.ALPHA / 2 / 4
    quick = of[0] - late[0] >= limits(of[0], 0.5, sure)
    return float((quick & (late[1] >= limits(of[1], 0.5, sure)) & (np.minimum(*of) >= 50)).any(axis=1).mean())


def agrees(seed: int) -> bool:
    """Whether `ramp_keeper` says of single requests, at every look, what the arithmetic above says."""
    random = np.random.default_rng(seed)
    guard = guards.read("error_rate<=1%")
    counted = Counted(1, {}, [])
    bad = random.random(6000) < np.where(np.arange(6000) < 3000, 0.008, 0.05)
    expected = _first(np.asarray(bad.reshape(-1, STEP).sum(axis=1)), guard.share)
    for number, failed in enumerate(bad, 1):
        counted.add(Brief(float(number), 500 if failed else 200, 5.0, "b"))
        counted.add(Brief(float(number), 500 if failed else 200, 5.0, "a"))  # as often, so that only the guard speaks
        if number % STEP == 0 and ramp_keeper._why(counted, "a", "b", [guard], 2 * bad_shares.ALPHA):  # its half goes to the comparison
            return bool(number == expected)
    return expected == -1


def _first(bad: Counts, share: float) -> int:
    """The same by the arithmetic, for one stream."""
    total, block = bad.cumsum(), tallying.BLOCK // 2
    for at in range(len(bad)):
        asked, blocks = (at + 1) * STEP, (at + 1) * STEP // block
        lately = total[at] - (total[(blocks - 1) * block // STEP - 1] if blocks > 1 else 0)
        window = asked - (blocks - 1) * block
        if total[at] >= fewest(asked, share, bad_shares.ALPHA / 2):
            return asked
        if blocks and lately >= fewest(window, share, bad_shares.spent(blocks, bad_shares.ALPHA / 2)):
            return asked
    return -1


def monitored(rate: float, share: float, looks: int, streams: int, seed: int) -> NDArray[np.bool_]:
    """Return per stream and look whether the newest thousand requests raise an alarm; a look comes after every 200."""
    bad = np.random.default_rng(seed).binomial(200, rate, (streams, looks + 4)).cumsum(axis=1)
    lately = bad[:, 4:] - np.concatenate([np.zeros((streams, 1), np.int64), bad], axis=1)[:, :looks]
    found = [lately[:, look - 1] >= fewest(alarms.LATELY, share, alarms.at_look(look)) for look in range(1, looks + 1)]
    return np.stack(found, axis=1)


def drifting(streams: int, looks: int, moved: float, seed: int) -> tuple[float, float]:
    """Return the share of streams where a test finds drift of one of four columns at any look: each with its part of 5 %, and all of it."""
    random = np.random.default_rng(seed)
    spent, naive = 0, 0
    for _ in range(streams):
        known = [drift.described(column, number > 1) for number, column in enumerate(columns(random, 5000, 0.0))]
        now = columns(random, 200 * looks, moved)
        found = []
        for look in range(1, looks + 1):
            compared = [drift.compare("x", one, column[: 200 * look]) for one, column in zip(known, now, strict=True)]
            found.append([one.p for one in compared if one is not None])
        spent += any(any(drift.benjamini_hochberg(one, alarms.at_look(look))) for look, one in enumerate(found, 1))
        naive += any(any(drift.benjamini_hochberg(one, drift.FALSE_ALARMS)) for one in found)
    return spent / streams, naive / streams


def columns(random: np.random.Generator, rows: int, moved: float) -> list[list[Any]]:
    """Two columns of numbers, the first of which may have moved, and two of words."""
    words = [random.choice(["UA", "AA", "DL"], rows, p=[0.5, 0.3, 0.2]).tolist() for _ in range(2)]
    return [random.normal(moved, 1, rows).tolist(), random.normal(0, 1, rows).tolist(), *words]


def late(rate: float, good: int, then: int, allowed: float) -> NDArray[np.float64]:
    """So many good requests, then bad ones."""
    return np.concatenate([np.full(good // STEP, allowed / 2), np.full(then // STEP, rate)])


def run(streams: int, drifts: int, seed: int = 7) -> list[Seen]:
    """Simulate everything and return what was seen."""
    return [*_healthy(streams, seed), *_bad(streams, seed), *_watched(streams, drifts, seed)]


def _healthy(streams: int, seed: int) -> list[Seen]:
    found = []
    for share in (0.01, 0.001, 0.5):
        back = sent_back(np.full(5000, share), share, streams, seed)
        found.append(Seen(f"exactly {share:.1%} bad where so many may be, 5,000 looks, 100,000 requests: sent back", _of(back), 0.05, True))
    looks = np.concatenate([np.arange(20, 4001, 20), np.arange(4200, 40_001, 200)])
    for rate in (0.01, 0.02, 0.05):
        for part in (0.1, 0.5):
            back = alike(rate, rate, part, streams, looks, seed)
            found.append(Seen(f"both fail on {rate:.0%}, {part:.0%} to the challenger, 40,000 requests: sent back", _of(back), 0.05, True))
    for slow in (0.4, 0.45):
        what = f"both take long for {slow:.0%} of their answers, 10 % to the challenger: sent back"
        found.append(Seen(what, slow_alike(slow, 0.1, streams, looks, seed), 0.05, True))
    return found


def _bad(streams: int, seed: int) -> list[Seen]:
    found = []
    for rate, within in ((1.0, 20), (0.2, 60), (0.05, 500), (0.02, 5000)):
        back = sent_back(np.full(within // STEP, rate), 0.01, streams, seed)
        found.append(Seen(f"{rate:.0%} bad where 1 % may be: sent back within {within:,} of its requests", _of(back), 0.95, False))
    for rate, within in ((1.0, 60), (0.2, 400), (0.05, 3000)):
        back = sent_back(late(rate, 100_000, within, 0.01), 0.01, streams, seed)
        found.append(Seen(f"the same after 100,000 good requests, {rate:.0%} bad: within {within:,}", _of(back), 0.95, False))
    for rate, part, within in ((1.0, 0.5, 60), (0.2, 0.5, 300), (0.1, 0.1, 2000)):
        back = alike(0.0, rate, part, streams, np.arange(STEP, within + 1, STEP), seed)
        what = f"the challenger fails on {rate:.0%}, the champion never, {part:.0%} to it: within {within:,} of both"
        found.append(Seen(what, _of(back), 0.95, False))
    what = "ramp_keeper says of single requests what the arithmetic says, 20 streams"
    return [*found, Seen(what, float(np.mean([agrees(seed) for seed in range(20)])), 1.0, False)]


def _watched(streams: int, drifts: int, seed: int) -> list[Seen]:
    kept, broken = monitored(0.02, 0.02, 1000, streams, seed), monitored(0.1, 0.02, 1000, streams, seed)
    spent, naive = drifting(drifts, 40, 0.0, seed)
    moved, _ = drifting(drifts, 2, 0.7, seed)
    return [
        Seen("monitored 1,000 times, 2 % of errors where 2 % may be: alarms", float(kept.any(axis=1).mean()), 0.05, True),
        Seen("    10 % of errors, looked at for the 1,000th time: found", float(broken[:, -1].mean()), 0.95, False),
        Seen(f"monitored 40 times, inputs as in training: drift (with 5 % at each look {naive:.0%})", spent, 0.05, True),
        Seen("    one column moved by 0.7 standard deviations: found by the 2nd look", moved, 0.95, False),
    ]


def _of(back: Counts) -> float:
    return float((back >= 0).mean())


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=4000)
    parser.add_argument("--drifts", type=int, default=200)
    given = parser.parse_args()
    found = run(given.streams, given.drifts)
    print(f"{given.streams:,} streams each, {given.drifts:,} of inputs")
    for one in found:
        print(one)
    return 0 if all(one.ok for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
