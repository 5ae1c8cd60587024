"""The column lineage of a query, found out while the engine works on it: what `mlp impact` answers from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store.questions import Question
from jupyter_mlp.store.workspace import Workspace


@contextmanager
def beside(workspace: Workspace, question: Question) -> Iterator[Callable[[], dict[str, Any] | None]]:
    """Find out what the columns depend on while the block waits for the engine; what it gives is asked for after the block."""
    found: list[dict[str, Any] | None] = []
    thread = threading.Thread(target=lambda: found.append(_of(workspace, question)), name="mlp-lineage", daemon=True)
    thread.start()

    def result() -> dict[str, Any] | None:
        thread.join()
        return found[0] if found else None

    yield result


def _of(workspace: Workspace, question: Question) -> dict[str, Any] | None:
    if question.through or not question.inputs:
        return None  # what the session's own views read is not in the text; and where nothing is read there is nothing to find
    from jupyter_mlp.core import column_lineage

    try:
        return column_lineage.recorded(question.query, question.pinned, lambda ref: columns_of(workspace, ref))
    except MLPError:
        return None  # a version that is gone; the query itself says so


def columns_of(workspace: Workspace, ref: Ref) -> Sequence[str]:
    """Return the names of the columns of a table's or a dataset's version."""
    from jupyter_mlp.store import datasets

    schema = datasets.load(workspace, ref).schema if ref.kind == "dataset" else workspace.lake.schema(ref.name, str(ref.version))
    return list(schema.names)
