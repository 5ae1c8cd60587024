"""What became of every cell of a notebook that was run again, and why where it is not the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jupyter_mlp.notebook import causes, cell_tags, compare, graph, record
from jupyter_mlp.notebook.compare import DIFFERENT, EQUAL, IDENTICAL, NOT_COMPARABLE, Comparison
from jupyter_mlp.notebook.document import CodeCell, Document

FAILED, NOT_RUN = "failed", "not run"
ENVIRONMENT, HARDWARE, UNKNOWN = "environment", "hardware", "unknown"
ADDED = "mlp-verify"  # tag of a cell that verification put into the notebook itself
GOOD = (IDENTICAL, EQUAL, NOT_COMPARABLE)


@dataclass(frozen=True)
class CellVerdict:
    """What became of one cell.

    Attributes:
        verdict: identical, equal (within tolerance), different, not comparable, failed or not run.
        cause: for a difference: data version, environment, order or code, randomness, clock or network, hardware, or
            unknown.
    """

    number: int
    source: str
    verdict: str
    cause: str = ""
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON types."""
        return dict(vars(self))


def verdicts(
    before: Document, after: Document, otherwise: str, unsound: Collection[int] = (), changed_files: Mapping[str, str] | None = None
) -> Iterator[CellVerdict]:
    """Yield a verdict for every code cell of `before`, in order.

    Args:
        after: the same cells, run again as far as it went.
        otherwise: the cause of what nothing in the notebook explains: ENVIRONMENT, HARDWARE or UNKNOWN.
        unsound: places (from 0) of cells of which the snapshot itself says that a clean run may not give what they show.
        changed_files: files that the notebook names and that are not what they were, and what became of them.
    """
    again = [cell for cell in after.cells if ADDED not in cell.tags]
    pairs = list(zip(before.cells, again, strict=True))
    other_data = [place for place in range(len(pairs)) if _other_data(pairs[: place + 1])]
    possible = causes.suspects(before.cells, other_data, unsound, changed_files)
    names: dict[str, str] = {}  # exact references of what was made again, and what they are of before
    for number, ((one, newer), suspected) in enumerate(zip(pairs, possible, strict=True), 1):
        other = replace(newer, outputs=_called(newer.outputs, names))
        names |= compare.same_things(one.outputs, other.outputs)
        found = _verdict(number, one, other, after.node.cells[other.index].execution_count is not None, suspected)
        if found.verdict not in (DIFFERENT, FAILED):
            yield found
        elif suspected:
            detail = "; ".join(filter(None, (found.detail, suspected[0].detail)))
            yield replace(found, cause=suspected[0].cause, detail=detail)
        else:
            yield replace(found, cause=otherwise)


def _verdict(number: int, before: CodeCell, after: CodeCell, ran: bool, suspected: Collection[causes.Suspect]) -> CellVerdict:
    if record.looks_only(before.python):
        return CellVerdict(number, before.source, NOT_COMPARABLE, detail="it looks at the notebook itself")
    wishes = cell_tags.asked(before.source, before.tags)
    if cell_tags.SKIPPED in wishes:
        return CellVerdict(number, before.source, NOT_COMPARABLE, detail="its tag says that it is not run")
    if not ran:
        return CellVerdict(number, before.source, NOT_RUN)
    errors = [output for output in after.outputs if output["output_type"] == "error"]
    if errors and cell_tags.RAISES not in wishes and not any(output["output_type"] == "error" for output in before.outputs):
        return CellVerdict(number, before.source, FAILED, detail=f"{errors[0]['ename']}: {errors[0]['evalue']}".splitlines()[0])
    if cell_tags.UNCOMPARED in wishes:
        return CellVerdict(number, before.source, NOT_COMPARABLE, detail="its tag says that what it shows is not compared")
    found = compare.outputs(before.outputs, after.outputs)
    if found.verdict == EQUAL and causes.Suspect(causes.CLOCK) in suspected:
        found = Comparison(DIFFERENT, "numbers that are nearly the same, beside a clock")  # two moments of one day differ by little
    return CellVerdict(number, before.source, found.verdict, detail=found.detail)


def _called(outputs: Sequence[Any], names: Mapping[str, str]) -> list[Any]:
    """Outputs that call what was made again by its names of before: elsewhere the same table gets another version."""
    text = json.dumps(outputs, ensure_ascii=False)
    for now, before in names.items():
        text = text.replace(now, before)
    found: list[Any] = json.loads(text)
    return found


def _other_data(pairs: Sequence[tuple[CodeCell, CodeCell]]) -> bool:
    """Whether the last cell read versions that it had not read, of what the notebook has not made itself."""
    one, other = pairs[-1]
    now = set(_data_of(other))
    made = {name for cell, _ in pairs for name in graph.platform_of(cell.python)[1]}
    return bool(now) and any(ref.split("@")[0] not in made for ref in now ^ set(_data_of(one)))


def _data_of(cell: CodeCell) -> list[str]:
    shown = [output["data"][compare.OURS] for output in cell.outputs if compare.OURS in output.get("data", {})]
    read = [one.get("inputs") or one.get("data") or () for one in shown if isinstance(one, Mapping)]
    return [str(ref) for refs in read for ref in ([refs] if isinstance(refs, str) else refs if isinstance(refs, list) else ())]
