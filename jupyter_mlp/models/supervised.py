"""What the canonical models share: a loss for the task, targets of a learnable size, AdamW with a warm start and a slow end."""

from __future__ import annotations

import math
from typing import Any

import lightning as L  # noqa: N812 - how everybody writes it
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - how everybody writes it


class Supervised(L.LightningModule):
    """A model with one target; `network` and `forward` are its own.

    Args:
        task: regression, binary or multiclass; decides the loss.
        target_mean, target_std: of the target in regression, which the network learns in units of its spread.
        lr: the largest learning rate. `weight_decay`: how strongly weights are pulled to 0.
    """

    def __init__(self, task: str | None, target_mean: float, target_std: float, lr: float, weight_decay: float) -> None:
        super().__init__()
        self.task, self.lr, self.weight_decay = task, lr, weight_decay
        numbers = task == "regression"
        self.shift, self.scale = (target_mean, target_std) if numbers else (0.0, 1.0)

    def answer(self, out: torch.Tensor) -> torch.Tensor:
        """Return the network's [rows, outputs] as answers: [rows] for one output, in the target's own unit."""
        return (out.squeeze(-1) if self.task != "multiclass" else out) * self.scale + self.shift

    def loss(self, answers: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return the mean loss: squared error (in units of the spread), or the logarithm of the missed chance."""
        if self.task == "multiclass":
            return F.cross_entropy(answers, y)
        if self.task == "binary":
            return F.binary_cross_entropy_with_logits(answers, y)
        return F.mse_loss(answers / self.scale, y / self.scale)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return the loss of a batch."""
        x, y = batch
        return self.loss(self(x), y)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss of the rows that were set aside, and how far off or how often right it is."""
        x, y = batch
        answers = self(x)
        self.log("val_loss", self.loss(answers, y), on_epoch=True, sync_dist=True)
        if self.task == "regression":
            self.log("val_mae", (answers - y).abs().mean(), on_epoch=True, sync_dist=True)
        else:
            said = answers.argmax(1) if self.task == "multiclass" else (answers > 0).float()
            self.log("val_accuracy", (said == y).float().mean(), on_epoch=True, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Return AdamW, whose rate rises over a tenth of the steps and falls to 0 along a cosine."""
        optimizer = torch.optim.AdamW(self.parameters(), self.lr, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warm = max(1, steps // 10)

        def rate(step: int) -> float:
            return (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, rate), "interval": "step"},
        }


class Embedded(nn.Module):
    """Features as numbers and vectors: columns of indices become rows of a table each, the others stay as they are.

    Args:
        cardinalities: {column: number of indices}. `positions`: {column: places in the features}.
        size: length of every vector; None takes one from the number of indices (up to 32).
    """

    def __init__(self, cardinalities: dict[str, int], positions: dict[str, list[int]], width: int, size: int | None = None) -> None:
        super().__init__()
        self.places = [positions[name] for name in cardinalities]
        taken = {place for places in self.places for place in places}
        self.plain = [place for place in range(width) if place not in taken]
        self.tables = nn.ModuleList(nn.Embedding(count, size or min(32, math.ceil(1.6 * count**0.56))) for count in cardinalities.values())
        self.width = len(self.plain) + sum(
            table.embedding_dim * len(places) for table, places in zip(self.tables, self.places, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [rows, self.width]."""
        found = [table(x[:, places].long()).flatten(1) for table, places in zip(self.tables, self.places, strict=True)]
        return torch.cat([x[:, self.plain], *found], dim=1) if found else x
