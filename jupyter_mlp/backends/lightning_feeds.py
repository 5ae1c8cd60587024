"""Where a training's batches come from: a dataset version, or the user's own data module, loaders or train_dataloader()."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
from lightning.pytorch.callbacks import EarlyStopping

from jupyter_mlp.backends.lightning_resuming import Positioned
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.metric_names import rises


@dataclass(frozen=True)
class Feed:
    """What a trainer is given.

    Attributes:
        positioned: begins anywhere in an epoch; None where only the user's code can begin.
        steps, rows: batches of an epoch, and rows of one on this rank; 0 where the user's code decides.
        all_rows, held: rows of training and of validation, over all ranks.
    """

    train: Any = None
    validation: Any = None
    module: Any = None
    positioned: Positioned | None = None
    steps: int = 0
    rows: int = 0
    all_rows: int | None = None
    held: int = 0


def own_feed(captured: ModuleType, own: Mapping[str, Any]) -> Feed:
    """Return the batches that the user's own code makes; with no data named, those of the model's own methods.

    Raises:
        InvalidInputError: what is named is no data module and gives no batches.
    """
    if own["data"] is None:
        return Feed(held=1)
    found = getattr(captured, own["data"])
    if isinstance(found, type) and issubclass(found, L.LightningDataModule):
        found = found()
    if isinstance(found, L.LightningDataModule):
        return Feed(module=found, held=1)
    if isinstance(found, type) or not hasattr(found, "__iter__"):
        raise InvalidInputError(
            f"{own['data']} is neither a LightningDataModule nor a DataLoader.", "Give one of those, or the name of a dataset."
        )
    return Feed(train=found, validation=getattr(captured, own["validation"]) if own["validation"] else None, held=1)


def own_callbacks(captured: ModuleType, spec: Mapping[str, Any]) -> list[L.Callback]:
    """Return the callbacks that the user named, and the one that stops early where he named a metric."""
    found = getattr(captured, spec["callbacks"]) if spec.get("callbacks") else []
    callbacks = list(found) if isinstance(found, list | tuple) else [found]
    if metric := spec.get("early_stopping"):
        callbacks.append(EarlyStopping(metric, mode="max" if rises(metric) else "min"))
    return callbacks
