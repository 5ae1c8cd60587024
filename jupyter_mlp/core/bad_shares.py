"""What can be said of a share that one sees request by request, and stays true however often one looks.

A fixed test that is looked at every second refutes a share that is kept sooner or later. Here is an average of likelihood ratios
against "at most this share is bad": while that is true no request makes any of them larger on average, so all looks together see 20
with a chance of one in twenty at most (Ville's inequality; Robbins: "Statistical methods related to the law of the iterated
logarithm", Annals of Mathematical Statistics 1970). The shares that are not refuted are a confidence sequence (Howard, Ramdas,
McAuliffe, Sekhon: "Time-uniform, nonparametric, nonasymptotic confidence sequences", Annals of Statistics 2021, arXiv:1810.08240),
and one of the values that half of the requests exceed is one of the median (Howard, Ramdas: "Sequential estimation of quantiles with
applications to A/B testing and best-arm identification", Bernoulli 2022, arXiv:1906.09712).

What it takes for granted: whatever happened before, the next request is bad with at most that chance. A pause in which everybody
waits makes many slow at once, and counts for more than it should.
"""

from __future__ import annotations

import math

ALPHA = 0.05
# By how much the odds of the shares are larger that the one in question is compared with: from a little more to nearly all.
_ODDS = (1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1000.0)


def evidence(bad: int, asked: int, share: float) -> float:
    """Return the logarithm of the evidence that more than `share` is bad; above log(1 / alpha) that is settled, at any look."""
    terms = [bad * math.log(ratio) - asked * math.log1p(share * (ratio - 1)) for ratio in _ODDS]
    largest = max(terms)
    return largest + math.log(sum(math.exp(term - largest) for term in terms) / len(terms))


def is_more(bad: int, asked: int, share: float, alpha: float = ALPHA) -> bool:
    """Whether so many of so many refute that at most `share` is bad."""
    if not share:
        return bad > 0
    return evidence(bad, asked, share) > -math.log(alpha)


def lowest(bad: int, asked: int, alpha: float = ALPHA) -> float:
    """Return the least share that so many of so many do not refute."""
    low, high = 0.0, bad / max(1, asked)
    for _ in range(40):  # the evidence falls as the share grows, so halving finds where it is enough no more
        middle = (low + high) / 2
        low, high = (middle, high) if middle and is_more(bad, asked, middle, alpha) else (low, middle)
    return low


def highest(bad: int, asked: int, alpha: float = ALPHA) -> float:
    """Return the largest share that so many of so many do not refute."""
    return 1 - lowest(asked - bad, asked, alpha)


def fewest(asked: int, share: float, alpha: float = ALPHA) -> int:
    """Return how many bad ones of so many settle that more than `share` is bad; more than were asked where none do."""
    low, high = 0, asked + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_more(middle, asked, share, alpha) else (middle, high)
    return high


def spent(look: int, alpha: float = ALPHA) -> float:
    """Return the part of `alpha` that the first, second, ... of any number of looks may use: together they use no more than all of it.

    The looks may be at the same requests or at others (Lan, DeMets: "Discrete sequential boundaries for clinical trials", Biometrika
    1983, with a series that never ends); each has less than the one before, of which a real change makes little, since it falls with
    the square of the looks and the chance of what is not there falls exponentially with the requests.
    """
    return alpha / (look * (look + 1))
