"""Two towers: a user's side and an item's side that meet in one product."""

from __future__ import annotations

import torch
from torch import nn

from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.models.supervised import Embedded, Supervised


class TwoTower(Supervised):
    """A vector for who asks and one for what is asked about; their product is the answer (a rating, a chance to click).

    Use it to recommend: items' vectors do not depend on the user, so they can be computed ahead and the nearest looked
    up. Columns of the user's side come first; `user` names them:

        %mlp_train mlp:two_tower --data ratings --target stars --recipe pairs --set "user=['user_id', 'age']"

    and the recipe gives ids a vector: `user_id: hash 100000 | embedding`.

    Args:
        user: names of the columns of the user's side; all others are the item's. Left out: the first column alone.
        size: length of the two vectors. `hidden`: width of the layer before.
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
        user: list[str] | None = None,
        size: int = 32,
        hidden: int = 64,
        lr: float = 5e-3,
        weight_decay: float = 1e-3,
    ) -> None:
        super().__init__(task, target_mean, target_std, lr, weight_decay)
        users = [user] if isinstance(user, str) else user or list(positions)[:1]
        unknown = [name for name in users if name not in positions]
        if unknown or len(users) == len(positions):
            raise InvalidInputError(
                f"mlp:two_tower finds {f'no column {unknown[0]}' if unknown else 'no column for the item'}.",
                f"Write --set \"user=['NAME', ...]\" with some of: {', '.join(positions)}.",
            )
        if task == "multiclass":
            raise InvalidInputError("mlp:two_tower answers with one number.", "Use --task binary or regression, or mlp:tabular.")
        sides = [[name for name in positions if (name in users) == first] for first in (True, False)]
        self.places = [[place for name in side for place in positions[name]] for side in sides]
        self.columns, self.towers = nn.ModuleList(), nn.ModuleList()
        for side, places in zip(sides, self.places, strict=True):
            here = {name: [places.index(place) for place in positions[name]] for name in side}
            columns = Embedded({name: cardinalities[name] for name in side if name in cardinalities}, here, len(places), size)
            self.columns.append(columns)
            self.towers.append(nn.Sequential(nn.Linear(columns.width, hidden), nn.GELU(), nn.Linear(hidden, size + 1)))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the product of the two vectors, with what each side is worth by itself."""
        user, item = (tower(columns(x[:, places])) for tower, columns, places in zip(self.towers, self.columns, self.places, strict=True))
        product = (user[:, :-1] * item[:, :-1]).sum(1, keepdim=True) / user.shape[1] ** 0.5
        return self.answer(product + user[:, -1:] + item[:, -1:] + self.bias)
