"""What really happened to what an endpoint predicted, sent to it: what the verdicts of `monitor` are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.cards import Card, Shown
from jupyter_mlp.core.errors import InvalidInputError, nearest
from jupyter_mlp.serving import experiment_tables
from jupyter_mlp.store import datasets, deployments
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.workspace import current

_CHUNK = 10_000


@dataclass(frozen=True, repr=False)
class Received(Shown):
    """Outcomes that an endpoint took.

    Attributes:
        rows: how many. `tables`: exact references of the tables with what was predicted and what happened.
    """

    endpoint: str
    rows: int
    tables: tuple[str, ...]

    @property
    def ref(self) -> str:
        """The endpoint they are about."""
        return f"endpoint:{self.endpoint}"

    def to_dict(self) -> dict[str, Any]:
        """Return the count and the tables as JSON types."""
        return {"ref": self.ref, "kind": "outcomes", "rows": self.rows, "tables": list(self.tables)}

    def card(self) -> Card:
        """Return how many, and where to ask for them."""
        facts = [("tables", ", ".join(self.tables)), ("verdict", f"%mlp_monitor {self.endpoint}")]
        return Card(f"{self.rows:,} outcomes for endpoint:{self.endpoint}", facts)


def outcomes(endpoint: str, *, data: Any) -> Received:
    """Say what really happened to what an endpoint predicted; it may be late, and said again the last word counts.

    Args:
        endpoint: its name.
        data: rows with `id` (of the answer; `Answers.ids` has them) and `value`: a dataset, a list of dictionaries, or a
            DataFrame; or a dictionary {id: value}.

    Raises:
        InvalidInputError: a column is missing or a value is none.

    Example:
        >>> answers = mlp.predict("endpoint:delays", data=rows)
        >>> mlp.outcomes("delays", data=dict(zip(answers.ids, [12.0, -3.0])))
    """
    from jupyter_mlp.serving.client import Client

    workspace = current()
    reference = deployments.newest(workspace, endpoint)
    folder = deployments.folder(workspace, reference.name)
    if not folder.running or folder.address is None:
        raise InvalidInputError(
            f"The endpoint {reference.name} is not running.", f"Deploy to it again: %mlp_deploy MODEL --to {reference.name}"
        )
    pairs = _pairs(data, reference.name)
    with Client(folder.address, reference.name, folder.token()) as client:
        for start in range(0, len(pairs), _CHUNK):
            client.tell([{"id": name, "value": value} for name, value in pairs[start : start + _CHUNK]])
    tables = experiment_tables.fold(workspace, folder)
    return Received(reference.name, len(pairs), tuple(str(ref) for ref in tables))


def _pairs(data: Any, endpoint: str) -> list[tuple[str, Any]]:
    from jupyter_mlp.core.values import json_ready

    if isinstance(data, Mapping):
        rows: Sequence[Mapping[str, Any]] = [{"id": name, "value": value} for name, value in data.items()]
    elif isinstance(data, str | DatasetVersion):
        found = datasets.load(current(), data if isinstance(data, str) else data.ref)
        missing = {"id", "value"} - set(found.schema.names)
        rows = [] if missing else found.to_arrow(["id", "value"]).to_pylist()
        if missing:
            raise _wrong(sorted(missing)[0], found.schema.names)
    else:
        rows = data.to_dict("records") if hasattr(data, "columns") and hasattr(data, "to_dict") else list(data)
    for row in rows:
        for column in ("id", "value"):
            if column not in row:
                raise _wrong(column, list(row))
    told = [(str(row["id"]), json_ready(row["value"])) for row in rows]
    return [(name, value) for name, value in told if value is not None]


def _wrong(column: str, names: Sequence[str]) -> InvalidInputError:
    return InvalidInputError(
        f"The outcomes have no column {column}.", f"{nearest(column, names)} Name them id and value: SELECT ... AS id, ... AS value"
    )
