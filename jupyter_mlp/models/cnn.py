"""A small convolutional network for pictures."""

from __future__ import annotations

import math

import torch
from torch import nn

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.models.supervised import Supervised


class CNN(Supervised):
    """Convolutions with residual blocks, each stage half as large and twice as deep as the one before.

    Use it for small pictures (8x8 to 64x64): a column of bytes with the recipe step `image 32x32 rgb`, or columns that
    are the pixels themselves, row by row. Large pictures want a pretrained network of your own.

    Args:
        channels: 1 (gray) or 3 (rgb). `height`: rows of a picture; left out: it is as high as it is wide.
        hidden: features of the first stage. `stages`: how often the picture is halved.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        task: str | None = None,
        target_mean: float = 0.0,
        target_std: float = 1.0,
        channels: int = 1,
        height: int | None = None,
        hidden: int = 32,
        stages: int = 2,
        dropout: float = 0.2,
        lr: float = 3e-3,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(task, target_mean, target_std, lr, weight_decay)
        pixels = width // channels
        self.channels, self.height = channels, height or math.isqrt(pixels)
        if self.height * (pixels // self.height) * channels != width or pixels < 4:
            raise InvalidInputError(
                f"{width} features are no picture of {channels} channel{'s' if channels > 1 else ''}.",
                "Leave other columns out of the recipe, or write --set channels=3 or --set height=N.",
            )
        layers: list[nn.Module] = [nn.Conv2d(channels, hidden, 3, padding=1)]
        for stage in range(stages):
            size = hidden * 2**stage
            layers += [_Residual(size), nn.Conv2d(size, 2 * size, 3, stride=2, padding=1)]
        last = hidden * 2**stages
        self.network = nn.Sequential(
            *layers, _Residual(last), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(last, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one answer a picture; pixels stand row by row, the channels of one beside each other."""
        return self.answer(self.network(x.reshape(x.shape[0], self.height, -1, self.channels).permute(0, 3, 1, 2)))


class _Residual(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(size), nn.GELU(), nn.Conv2d(size, size, 3, padding=1),
            nn.BatchNorm2d(size), nn.GELU(), nn.Conv2d(size, size, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = x + self.layers(x)
        return found
