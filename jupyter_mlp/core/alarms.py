"""What of an endpoint somebody should be told: drift, errors, slow answers, stale data, settled verdicts, lost requests, no answer.

Of an endpoint that is well and looked at every hour for years something odd is seen at some look. Each look may therefore use its part
of the chance of a false alarm only (`bad_shares.spent`): errors, slow answers and drift together raise one with 5 % chance at most, however
often one looks; drift beside drift that is real, one in twenty alarms at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jupyter_mlp.core import bad_shares, guards, ramps
from jupyter_mlp.core.guards import Guard
from jupyter_mlp.core.tallies import Tally

LATELY = 1000  # requests that are judged; those before say what is usual
_ERRORS = guards.read("error_rate<=2%")


@dataclass(frozen=True)
class Alarm:
    """One alarm: its name, which stays the same while it stands, and a sentence."""

    name: str
    says: str


class Settled(Protocol):
    """What is read of a verdict."""

    @property
    def sentence(self) -> str:
        """It in words."""

    @property
    def b(self) -> str:
        """The challenger."""

    @property
    def winner(self) -> str | None:
        """A, B or nobody yet."""

    @property
    def split_wrong(self) -> bool:
        """Whether the requests were not split as planned."""


def raised(
    state: str, metrics: Mapping[str, Any], drifted: Sequence[Mapping[str, Any]], verdicts: Sequence[Settled], limits: Sequence[Alarm]
) -> list[Alarm]:
    """Return the alarms that stand now.

    Args:
        state: of the endpoint. `metrics`: as the report has them. `limits`: what `traffic` said.
    """
    found = [Alarm("state", f"It is {state}.")] if state not in ("running", "stopped") else []
    for one in drifted:
        found.append(
            Alarm(f"drift {one['name']}", f"{one['name']} drifted: PSI {one['psi']:.2f}, {one['training']} then, {one['now']} now.")
        )
    found += limits
    if metrics["newer_data"]:
        found.append(Alarm(f"stale {metrics['newer_data']}", f"There is newer data than the model learned from: {metrics['newer_data']}."))
    if metrics["lost"]:
        found.append(Alarm(f"lost {metrics['lost']}", f"{metrics['lost']:,} requests were lost before they reached the lake."))
    for verdict in verdicts:
        if verdict.winner or verdict.split_wrong:
            found.append(Alarm(f"verdict {verdict.b} {verdict.winner or 'split'}", verdict.sentence))
    return found


def at_look(look: int) -> float:
    """Return the chance of a false alarm that each of three may use at a look: the limits, the times beside those before, and drift."""
    return bad_shares.spent(look, bad_shares.ALPHA) / 3


def traffic(failed: Sequence[bool], times_ms: Sequence[float], asked: Sequence[Guard], alpha: float) -> list[Alarm]:
    """Return what is wrong with the newest requests; where no limits are asked for, beside those before them.

    Args:
        failed: per request, oldest first; `times_ms` are of the same.
        alpha: the chance of a false alarm that the limits may use, and the comparison.
    """
    found = []
    limits = list(asked) or [_ERRORS]
    now = _tally(failed[-LATELY:], times_ms[-LATELY:], limits)
    for guard in limits:
        why = guards.broken([guard], now, alpha / len(limits))
        if why:
            found.append(Alarm(f"guard {guard.said}", f"Lately {why}."))
    before = _tally(failed[:-LATELY], times_ms[:-LATELY], [])
    if not asked and ramps.is_slower(before, now, alpha):
        says = f"The newest answers take {now.median_ms:.0f} ms in the middle, those before {before.median_ms:.1f} ms."
        found.append(Alarm("latency", says))
    return found


def _tally(failed: Sequence[bool], times_ms: Sequence[float], limits: Sequence[Guard]) -> Tally:
    answered = [ms for ms, bad in zip(times_ms, failed, strict=True) if not bad]
    return Tally.of(sum(failed), answered, guards.limits_ms(limits))
