"""A training whose numbers are none any more ends with a sentence, also where its steps return no loss (a GAN's)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import lightning as L  # noqa: N812 - how everybody writes it
import torch
from torch import nn

from jupyter_mlp.backends.lightning_placements import own_part
from jupyter_mlp.core.errors import JobError

_HINT = "Try a smaller learning rate, or look for a logarithm or division that can be of zero."


class Finite(L.Callback):
    """Looks at the weights of this rank when an epoch has ended: what comes of others than finite ones is nothing."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Fail the run where a weight is not finite."""
        check_weights(pl_module, trainer.global_step)


def check_weights(module: nn.Module, step: int) -> None:
    """Refuse weights that learn and are not finite any more.

    Raises:
        JobError: names the first.
    """
    parts = ((name, own_part(one.detach())) for name, one in module.named_parameters() if one.requires_grad)
    learning = [(name, one) for name, one in parts if one.numel()]  # a small parameter may have no part here
    if not learning:
        return
    by_device: dict[torch.device, list[torch.Tensor]] = {}
    for _, one in learning:
        by_device.setdefault(one.device, []).append(_largest(one))
    if all(bool(torch.isfinite(torch.stack(found)).all()) for found in by_device.values()):  # one look at each device
        return
    name = next(name for name, one in learning if not bool(torch.isfinite(_largest(one))))
    raise JobError(f"The weights are not finite any more at step {step:,}: {name}.", _HINT)


def _largest(weights: torch.Tensor) -> torch.Tensor:
    """Return the largest of absolute values, and NaN where one is: no memory is taken for it, which may be full."""
    return torch.linalg.vector_norm(weights, ord=math.inf).float()


def check_loss(name: str, value: float, where: str) -> None:
    """Refuse a loss that is not a number.

    Raises:
        JobError: it is not.
    """
    if math.isnan(value):
        raise JobError(f"{name} is not a number any more {where}.", _HINT)


def without(metrics: Mapping[str, float]) -> tuple[dict[str, float], list[str]]:
    """Return the metrics that are finite, and the names of those that are not."""
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return finite, [name for name in metrics if name not in finite]
