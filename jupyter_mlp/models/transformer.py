"""A transformer over the columns of a table."""

from __future__ import annotations

import torch
from torch import nn

from jupyter_mlp.models.supervised import Supervised


class TabularTransformer(Supervised):
    """Every column becomes a token, and tokens attend to each other: what a column means may depend on the others.

    Use it where mlp:tabular has levelled off and there are 100,000 rows or more; it costs five to twenty times as much
    a step. It is the FT-Transformer: Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, 2021.

    Args:
        size: length of a token. `heads`: parts of it that attend on their own. `depth`: layers.
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
        size: int = 32,
        heads: int = 4,
        depth: int = 2,
        dropout: float = 0.1,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(task, target_mean, target_std, lr, weight_decay)
        self.indexed = [place for name in cardinalities for place in positions[name]]
        self.owners = [number for number, name in enumerate(cardinalities) for _ in positions[name]]
        self.plain = [place for place in range(width) if place not in set(self.indexed)]
        self.tables = nn.ModuleList(nn.Embedding(count, size) for count in cardinalities.values())
        self.slopes = nn.Parameter(torch.randn(len(self.plain), size) * size**-0.5)
        self.offsets = nn.Parameter(torch.randn(len(self.plain) + len(self.indexed), size) * size**-0.5)
        self.summary = nn.Parameter(torch.zeros(1, 1, size))
        layer = nn.TransformerEncoderLayer(size, heads, 2 * size, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.network = nn.Sequential(nn.LayerNorm(size), nn.GELU(), nn.Linear(size, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one answer a row."""
        numbers = x[:, self.plain].unsqueeze(-1) * self.slopes
        found = [self.tables[owner](x[:, place].long()).unsqueeze(1) for owner, place in zip(self.owners, self.indexed, strict=True)]
        tokens = torch.cat([numbers, *found], dim=1) + self.offsets
        whole = torch.cat([self.summary.expand(x.shape[0], -1, -1), tokens], dim=1)
        return self.answer(self.network(self.layers(whole)[:, 0]))
