"""Accuracy against cost: of measured ways to serve a model, the one that keeps to the limits, or the nearest to it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError

_ALIKE = 1.1  # times closer together than this are the same on a shared machine; the plainer way is taken


@dataclass(frozen=True)
class Limits:
    """What a way of serving must keep to; None is no limit. `loss` is a share: 0.005 for half a percent."""

    p99_ms: float | None = None
    loss: float | None = None

    def to_dict(self) -> dict[str, float | None]:
        """Return the limits as JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        said = [f"p99 of at most {self.p99_ms:g} ms"] if self.p99_ms is not None else []
        return " and ".join([*said, *([f"a loss of at most {percent(self.loss)}"] if self.loss is not None else [])])


@dataclass(frozen=True)
class Point:
    """One way to serve a model, as it was measured.

    Attributes:
        runtime: precision, threads, graph, share: what a model's card says of how it is run.
        p50_ms, p99_ms: of an answer over HTTP. `rate`: answers a second.
        metric: the model's main metric on the rows. `loss`: how much worse that is than the original's, as a share;
            `loss_high`: what it is not above, 95 % sure. This is what is held against the limit.
    """

    name: str
    runtime: Mapping[str, Any]
    p50_ms: float
    p99_ms: float
    rate: float
    metric: float
    loss: float
    loss_high: float

    def to_dict(self) -> dict[str, Any]:
        """Return the point as JSON types."""
        return {**asdict(self), "runtime": dict(self.runtime)}


def limits(max_p99: str | float | None, max_loss: str | float | None) -> Limits | None:
    """Read `5ms` and `0.5%`; None where neither is given.

    Raises:
        InvalidInputError: they cannot be read.
    """
    if max_p99 is None and max_loss is None:
        return None
    return Limits(_milliseconds(max_p99), _share(max_loss))


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both time and loss, the fastest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.p99_ms, one.loss_high)):
        if not found or point.loss_high < found[-1].loss_high:
            found.append(point)
    return found


def choose(points: Sequence[Point], limits: Limits) -> Point | None:
    """Return the fastest point within the limits, or with no limit of loss the most accurate; of those alike the first named.

    Args:
        points: the plainest way to serve first.
    """
    within = [point for point in points if _excess(point, limits) <= 1.0]
    if not within:
        return None
    if limits.loss is None:
        least = min(point.loss_high for point in within)
        within = [point for point in within if point.loss_high <= least]
    fastest = min(point.p99_ms for point in within)
    return next(point for point in within if point.p99_ms <= _ALIKE * fastest)


def nearest(points: Sequence[Point], limits: Limits) -> Point:
    """Return the point that is least beyond the limits."""
    return min(points, key=lambda point: (_excess(point, limits), point.p99_ms))


def percent(share: float) -> str:
    """Return a share as a person writes it."""
    return f"{100 * share:.3g} %"


def _excess(point: Point, limits: Limits) -> float:
    """How many times the limits the point needs: 1 or less is within them."""
    time = point.p99_ms / limits.p99_ms if limits.p99_ms is not None else 0.0
    loss = 0.0
    if limits.loss is not None and point.loss_high > limits.loss:
        loss = point.loss_high / limits.loss if limits.loss > 0 else float("inf")
    return max(time, loss)


def _milliseconds(text: str | float | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s)?", str(text).strip())
    value = float(found[1]) * (1000 if found[2] == "s" else 1) if found else 0.0
    if not value:
        raise InvalidInputError(f"max_p99 is {text!r}, which is no time.", "Write --max-p99 5ms.")
    return value


def _share(text: str | float | None) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e-?\d+)?)\s*(%?)", str(text).strip())
    value = float(found[1]) / (100 if found[2] else 1) if found else 1.0
    if not value < 1:
        raise InvalidInputError(f"max_loss is {text!r}, which is no part of a metric.", "Write --max-loss 0.5%, or max_loss=0.005.")
    return value
