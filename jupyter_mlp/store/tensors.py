"""Batches of a dataset version as torch tensors, never row by row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_mlp.core.errors import InvalidInputError, MissingPackageError

if TYPE_CHECKING:
    from jupyter_mlp.store.datasets import DatasetVersion


def batch_loader(dataset: DatasetVersion, batch_size: int, columns: Sequence[str] | None) -> Any:
    """Return a torch DataLoader of dicts {column: tensor [batch]}; nulls become NaN.

    Raises:
        InvalidInputError: a column holds no numbers, or `batch_size` is below 1.
    """
    try:
        from torch.utils.data import DataLoader, IterableDataset
    except ImportError as error:
        raise MissingPackageError("torch is not installed.", "pip install 'jupyter_mlp[train]'") from error
    import pyarrow as pa

    names = list(columns or dataset.schema.names)
    if batch_size < 1:
        raise InvalidInputError(f"batch_size is {batch_size}.", "Give a number of rows from 1 up.")
    for name in names:
        kind = dataset.schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            numbers = [f.name for f in dataset.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
            raise InvalidInputError(
                f"The column {name} holds {kind}, not numbers.", f"Choose columns: loader(columns={numbers[:6]}), or train with a recipe."
            )

    class Batches(IterableDataset):
        def __iter__(self) -> Iterator[dict[str, Any]]:
            import torch

            for batch in dataset.batches(names, batch_size):
                yield {name: torch.as_tensor(batch.column(name).to_numpy(zero_copy_only=False).copy()) for name in names}

    return DataLoader(Batches(), batch_size=None)
