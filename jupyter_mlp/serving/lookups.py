"""Predictions that were made before and are asked for by key, behind the same endpoint as the model that made them.

    a dataset of predictions  --publish-->  space of an online store  --find-->  {"keys": ["UA 1"]} gets {"predictions": [12.5]}

A space is one dataset version at one endpoint and never changes; newer predictions are another space, and the endpoint moves
over to it as it swaps models. Which store it is, the settings say: SQLite in the workspace, or Redis.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from jupyter_mlp.core import config, plugins
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError, nearest
from jupyter_mlp.core.protocols import OnlineStore
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.serving.scoring import PREDICTION, PROBABILITY

if TYPE_CHECKING:
    from jupyter_mlp.store.datasets import DatasetVersion

_log = logging.getLogger(__name__)


class _Kept(msgspec.Struct, array_like=True):
    """What a key stands for."""

    prediction: Any
    probability: float | None = None


@dataclass(frozen=True)
class Found:
    """The answers for some keys; a key that is not known has None."""

    predictions: list[Any]
    probabilities: list[float | None] | None
    missing: list[str | int]


class Lookup:
    """One space of a store, as an endpoint asks it.

    Attributes:
        space: its name in the store. `model`: UUID of the model that made these predictions. `key`: the column that names them.
    """

    def __init__(self, store: OnlineStore, space: str, model: str, key: str) -> None:
        self._store = store
        self.key = key
        self.space = space
        self.model = model
        self._decode = msgspec.json.Decoder(_Kept).decode

    async def find(self, keys: Sequence[str | int]) -> Found:
        """Return the predictions of some keys.

        Raises:
            StorageError: the store does not answer.
        """
        texts = [str(key) for key in keys]
        if self._store.quick:
            values = self._store.get(self.space, texts)
        else:
            values = await asyncio.to_thread(self._store.get, self.space, texts)
        kept = [None if value is None else self._decode(value) for value in values]
        chances = [one.probability if one else None for one in kept]
        missing = [key for key, one in zip(keys, kept, strict=True) if one is None]
        return Found([one.prediction if one else None for one in kept], chances if any(c is not None for c in chances) else None, missing)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


def open_store(root: Path) -> OnlineStore:
    """Return the online store of a workspace: the one that its settings name, else a SQLite file in it.

    Raises:
        StorageError: it does not answer. MissingPackageError: its client is not installed.
    """
    address = config.load(root).store
    scheme = address.split("://", 1)[0] if "://" in address else "sqlite"
    store: Callable[[str], OnlineStore] = plugins.load("stores", "redis" if scheme in ("rediss", "unix") else scheme)
    return store(address or str(root / "online.db"))


def open_lookup(root: Path, described: Mapping[str, Any] | None) -> Lookup | None:
    """Return what a deployment describes, or None where it publishes nothing by key."""
    return Lookup(open_store(root), described["space"], described["model"], described["key"]) if described else None


def publish(root: Path, endpoint: str, dataset: DatasetVersion, key: str, model: str) -> dict[str, Any]:
    """Publish a dataset of predictions by one of its columns; return what describes it to the endpoint.

    Raises:
        NotFoundError: there is no such column.
        InvalidInputError: these are no predictions of that model, or the key is missing or the same in two rows.
    """
    _fits(dataset, key, model)
    space = f"{endpoint}:{dataset.reference.version}:{key}"
    store = open_store(root)
    try:
        store.publish(space, _rows(dataset, key))
    finally:
        store.close()
    return {"space": space, "model": model, "data": dataset.ref, "key": key, "rows": dataset.rows}


def drop(root: Path, described: Mapping[str, Any] | None) -> None:
    """Remove what no endpoint asks for any more."""
    if described:
        store = open_store(root)
        try:
            store.drop(described["space"])
        finally:
            store.close()


def forget(root: Path, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> None:
    """Take out of the store what this endpoint does not serve any more; a rollback publishes it again from its dataset."""
    if old and (not new or new["space"] != old["space"]):
        try:
            drop(root, old)
        except StorageError as error:
            _log.warning("what was published before stays in the store: %s", error.message)


def check_asked(serve_from: str | None, data: Any, key: str | None) -> None:
    """Refuse half of what predictions by key take.

    Raises:
        InvalidInputError: something is missing, or is too much.
    """
    if serve_from is None and data is None and key is None:
        return
    if serve_from != "store":
        raise InvalidInputError(f"serve_from is {serve_from!r}; an endpoint can serve from a store.", "Write --serve-from store.")
    if data is None or key is None:
        raise InvalidInputError("Which predictions, and by which column?", "Write --serve-from store --data PREDICTIONS --key COLUMN.")


def kept(store: Mapping[str, Any] | None, variants: Sequence[Variant]) -> Mapping[str, Any] | None:
    """What is published by key stays as long as the model that predicted it is served."""
    return store if store and any(variant.model == store["model"] for variant in variants) else None


def _fits(dataset: DatasetVersion, key: str, model: str) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = dataset.schema.names
    if key not in names:
        raise NotFoundError(f"{dataset.reference.short} has no column {key}.", nearest(key, names))
    if PREDICTION not in names or not any(ref.kind == "model" and ref.name == model for ref in dataset.inputs):
        raise InvalidInputError(
            f"{dataset.reference.short} holds no predictions of model:{model[:8]}.",
            f"Make them: %mlp_predict model:{model} --data DATASET --into NAME",
        )
    kind = dataset.schema.field(key).type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
        raise InvalidInputError(f"{key} holds {kind}; a key is text or a whole number.", "Name another column, or cast it in the query.")
    column = dataset.to_arrow([key]).column(key)
    if column.null_count:
        raise InvalidInputError(f"{key} is missing in {column.null_count:,} rows.", "A key must be there in every row.")
    counts = pc.value_counts(column)
    if len(counts) < len(column):
        twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
        raise InvalidInputError(f"{key} is no key: {twice!r} is in more than one row.", "Name a column whose values differ.")


def _rows(dataset: DatasetVersion, key: str) -> Iterator[tuple[str, bytes]]:
    encode = msgspec.json.Encoder().encode
    chances = PROBABILITY in dataset.schema.names
    for batch in dataset.batches(list(dict.fromkeys([key, PREDICTION, *([PROBABILITY] if chances else [])]))):
        values = batch.column(PREDICTION).to_pylist()
        told = batch.column(PROBABILITY).to_pylist() if chances else [None] * len(values)
        for name, value, chance in zip(batch.column(key).to_pylist(), values, told, strict=True):
            yield str(name), encode(_Kept(value, chance))
