"""What became of every cell of a notebook that was run again, and why where it is not the same."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from jupyter_mlp.notebook import compare, record
from jupyter_mlp.notebook.compare import DIFFERENT, EQUAL, IDENTICAL, NOT_COMPARABLE, Comparison
from jupyter_mlp.notebook.document import CodeCell, Document

FAILED, NOT_RUN = "failed", "not run"
ORDER = "order or code"
ADDED = "mlp-verify"  # tag of a cell that verification put into the notebook itself
GOOD = (IDENTICAL, EQUAL, NOT_COMPARABLE)
_CHANCE = re.compile(r"\brandom\b|\brand\w*\(|\bshuffle|\bsample\(|\bpermutation|uuid|secrets\.")
_CLOCK = re.compile(r"\btime\.|\bdatetime\.|\bnow\(|\btoday\(|perf_counter|%time|requests\.|urllib|urlopen")


@dataclass(frozen=True)
class CellVerdict:
    """What became of one cell.

    Attributes:
        verdict: identical, equal (within tolerance), different, not comparable, failed or not run.
        cause: for a difference: data version, environment, order or code, randomness, clock or network, or unknown.
    """

    number: int
    source: str
    verdict: str
    cause: str = ""
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return dict(vars(self))


def verdicts(before: Document, after: Document, changed: str, unsound: Collection[int] = ()) -> Iterator[CellVerdict]:
    """Yield a verdict for every code cell of `before`, in order.

    Args:
        after: the same cells, run again as far as it went.
        changed: what differs between the two environments; empty when nothing does.
        unsound: places (from 0) of cells of which the snapshot itself says that a clean run may not give what they show.
    """
    again = [cell for cell in after.cells if ADDED not in cell.tags]
    for number, (one, other) in enumerate(zip(before.cells, again, strict=True), 1):
        found = _verdict(number, one, other, after.node.cells[other.index].execution_count is not None, changed)
        known = found.cause in ("", "data version") or number - 1 not in unsound
        yield found if known else replace(found, cause=ORDER)


def _verdict(number: int, before: CodeCell, after: CodeCell, ran: bool, changed: str) -> CellVerdict:
    if record.looks_only(before.python):
        return CellVerdict(number, before.source, NOT_COMPARABLE, detail="it looks at the notebook itself")
    if not ran:
        return CellVerdict(number, before.source, NOT_RUN)
    errors = [output for output in after.outputs if output["output_type"] == "error"]
    if errors and not any(output["output_type"] == "error" for output in before.outputs):
        detail = f"{errors[0]['ename']}: {errors[0]['evalue']}".splitlines()[0]
        return CellVerdict(number, before.source, FAILED, _cause(before, after, changed), detail)
    found = compare.outputs(before.outputs, after.outputs)
    if found.verdict == EQUAL and _CLOCK.search(before.source):
        found = Comparison(DIFFERENT, "numbers that are nearly the same, beside a clock")  # two moments of one day differ by little
    cause = _cause(before, after, changed) if found.verdict == DIFFERENT else ""
    return CellVerdict(number, before.source, found.verdict, cause, found.detail)


def _cause(before: CodeCell, after: CodeCell, changed: str) -> str:
    if _data_of(before) != _data_of(after):
        return "data version"
    if _CHANCE.search(before.source) and "seed" not in before.source:
        return "randomness"
    if _CLOCK.search(before.source):
        return "clock or network"
    return "environment" if changed else "unknown"


def _data_of(cell: CodeCell) -> list[Any]:
    shown = [output["data"][compare.OURS] for output in cell.outputs if compare.OURS in output.get("data", {})]
    return [one.get("inputs") or one.get("data") for one in shown]
