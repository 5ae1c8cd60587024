"""Linear and logistic regression."""

from __future__ import annotations

import torch
from torch import nn

from jupyter_mlp.models.supervised import Embedded, Supervised


class Linear(Supervised):
    """A weighted sum of the features: linear regression for numbers, logistic regression for classes.

    Use it first. It trains in seconds, its weights can be read (`weights.safetensors`: one number a feature), and what
    it reaches is what any larger model has to beat. It cannot see that two columns matter together; give it such a
    column in the query, or take mlp:tabular.

    Args:
        lr, weight_decay: see Supervised; 0.05 is large because there is only one layer.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        cardinalities: dict[str, int],
        positions: dict[str, list[int]],
        task: str | None = None,
        target_mean: float = 0.0,
        target_std: float = 1.0,
        lr: float = 0.05,
        weight_decay: float = 1e-3,
    ) -> None:
        super().__init__(task, target_mean, target_std, lr, weight_decay)
        self.columns = Embedded(cardinalities, positions, width, size=1)
        self.network = nn.Linear(self.columns.width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one answer a row."""
        return self.answer(self.network(self.columns(x)))
