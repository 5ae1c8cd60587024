"""A multilayer perceptron for tables, with embeddings."""

from __future__ import annotations

import torch
from torch import nn

from jupyter_mlp.models.supervised import Embedded, Supervised


class Tabular(Supervised):
    """The default for tables: numbers and embeddings through a few layers with a short cut around each.

    Use it for most tables, from a thousand rows up. Columns of many values (airports, products) want
    `vocabulary 1000 | embedding` in the recipe: each value then gets a vector of its own.

    Args:
        hidden: width of the layers. `depth`: how many. `dropout`: share of what is left out in each step; more for few rows.
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
        hidden: int = 128,
        depth: int = 2,
        dropout: float = 0.1,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(task, target_mean, target_std, lr, weight_decay)
        self.columns = Embedded(cardinalities, positions, width)
        self.first = nn.Linear(self.columns.width, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(hidden), nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * hidden, hidden)
            )
            for _ in range(depth)
        )
        self.network = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one answer a row."""
        found = self.first(self.columns(x))
        for block in self.blocks:
            found = found + block(found)
        return self.answer(self.network(found))
