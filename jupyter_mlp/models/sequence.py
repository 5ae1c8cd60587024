"""A transformer over time or over words."""

from __future__ import annotations

import torch
from torch import nn

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.models.supervised import Supervised


class Sequence(Supervised):
    """Steps that attend to each other: the columns of a row in their order, several a step, or the words of a text.

    Use it for the last N measurements before what is to be predicted (one column each, oldest first: `lag` in the
    query makes them), or for text, with `tokens 64` in the recipe as its only column. For columns without an order take
    mlp:transformer.

    Args:
        channels: features of one step: 2 when columns come as a1, b1, a2, b2 ...
        size: length of a step's vector. `heads`, `depth`: of the transformer.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        cardinalities: dict[str, int],
        task: str | None = None,
        target_mean: float = 0.0,
        target_std: float = 1.0,
        channels: int = 1,
        size: int = 32,
        heads: int = 4,
        depth: int = 2,
        dropout: float = 0.1,
        lr: float = 2e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(task, target_mean, target_std, lr, weight_decay)
        if width % channels or len(cardinalities) > 1:
            raise InvalidInputError(
                f"{width} features are no sequence of {channels} a step.", "Write --set channels=N, and one column of tokens or none."
            )
        self.channels, steps = channels, width // channels
        words = next(iter(cardinalities.values()), 0)
        self.words = nn.Embedding(words, size) if words else None
        self.numbers = nn.Linear(channels, size)
        self.where = nn.Parameter(torch.randn(1, steps, size) * 0.1)
        layer = nn.TransformerEncoderLayer(size, heads, 2 * size, dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.network = nn.Sequential(nn.LayerNorm(2 * size), nn.Linear(2 * size, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one answer a row, from the last step and the mean of all."""
        steps = self.words(x.long()) if self.words is not None else self.numbers(x.reshape(x.shape[0], -1, self.channels))
        found = self.layers(steps + self.where)
        return self.answer(self.network(torch.cat([found[:, -1], found.mean(1)], dim=1)))
