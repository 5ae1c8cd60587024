"""Which variant answers a request: by weight, sticky by key where one is given.

weights   champion 90           challenger 10      shadow (no weight)
          |-------------------------|----|         gets a copy, answers nobody
          0                        90  100
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError


@dataclass(frozen=True)
class Variant:
    """A model behind an endpoint and its share of the requests, in percent; a shadow answers nobody."""

    model: str
    weight: int = 100
    shadow: bool = False

    def __str__(self) -> str:
        """Its model's first eight digits and what it is given."""
        return f"{self.model[:8]} {'shadow' if self.shadow else f'{self.weight} %'}"

    def to_dict(self) -> dict[str, Any]:
        """Return the variant as JSON types."""
        return {"model": self.model, "weight": self.weight, "shadow": self.shadow}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Variant:
        """Read what `to_dict` wrote."""
        return cls(str(value["model"]), int(value["weight"]), bool(value["shadow"]))


def read(values: Sequence[Mapping[str, Any]]) -> tuple[Variant, ...]:
    """Read variants from JSON and check that they can be routed to."""
    return checked([Variant.from_dict(value) for value in values])


def checked(variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """Return the variants if every model is named once and the weights of those that answer make 100."""
    models = [variant.model for variant in variants]
    if len(set(models)) < len(models):
        raise InvalidInputError("A model is named twice among the variants.", "Name each model once.")
    answering = [variant.weight for variant in variants if not variant.shadow]
    if sum(answering) != 100 or min(answering) < 1:
        raise InvalidInputError(f"The weights are {answering}; they must be at least 1 each and make 100.", "Give weights like 90 and 10.")
    return tuple(variants)


def champion(variants: Sequence[Variant]) -> Variant | None:
    """Return the variant with the largest share, or None."""
    answering = [variant for variant in variants if not variant.shadow]
    return max(answering, key=lambda variant: variant.weight, default=None)


def with_model(variants: Sequence[Variant], model: str, traffic: int | None = None, shadow: bool = False) -> tuple[Variant, ...]:
    """Return the variants after `model` is deployed beside them.

    Args:
        variants: what is served now; empty for a new endpoint.
        model: the UUID of the new one.
        traffic: percent for the model, the champion keeps the rest; None gives it everything.
        shadow: the model gets a copy of every request and answers none.
    """
    if traffic is not None and not 1 <= traffic <= 100:
        raise InvalidInputError(
            f"traffic is {traffic}, not a percentage from 1 to 100.", "Write traffic=10, or shadow=True for no answers at all."
        )
    if shadow and traffic is not None:
        raise InvalidInputError("A shadow takes no traffic.", "Write shadow=True or traffic=10, not both.")
    others = [variant for variant in variants if variant.model != model]
    if not shadow and traffic in (None, 100):
        return (Variant(model),)
    best = champion(others)
    if best is None:
        raise InvalidInputError(
            "There is no other model on this endpoint to keep the rest of the traffic.", "Deploy without traffic= or shadow= first."
        )
    if shadow:
        return checked([*_rescaled(others), Variant(model, 0, shadow=True)])
    assert traffic is not None
    kept = [variant for variant in others if variant.shadow]
    return checked([Variant(best.model, 100 - traffic), Variant(model, traffic), *kept])


def without_model(variants: Sequence[Variant], model: str) -> tuple[Variant, ...]:
    """Return the variants after `model` is taken out: the champion takes over its share.

    Raises:
        NotFoundError: it is not served. InvalidInputError: nobody else answers.
    """
    others = [variant for variant in variants if variant.model != model]
    if len(others) == len(variants):
        served = ", ".join(f"model:{variant.model}" for variant in variants) or "nothing"
        raise NotFoundError(f"The model {model} is not behind this endpoint.", f"Served are: {served}.")
    if champion(others) is None:
        raise InvalidInputError("No other model answers at this endpoint.", "Deploy another in its place, or stop the endpoint: --stop")
    return checked(_rescaled(others))


def _rescaled(variants: Sequence[Variant]) -> list[Variant]:
    """When a model that had answered becomes a shadow, the champion takes over its share."""
    best = champion(variants)
    missing = 100 - sum(variant.weight for variant in variants if not variant.shadow)
    return [Variant(v.model, v.weight + missing) if v == best else v for v in variants]


class Router:
    """Chooses among variants; immutable, so that replacing one reference switches all traffic at once."""

    def __init__(self, variants: Sequence[Variant], endpoint: str = "") -> None:
        self._endpoint = endpoint
        self.variants = tuple(variants)
        self.shadows = tuple(variant.model for variant in variants if variant.shadow)
        self._steps: list[tuple[float, str]] = []
        total = 0.0
        for variant in variants:
            if not variant.shadow:
                total += variant.weight / 100
                self._steps.append((total, variant.model))

    def choose(self, key: str | int | None = None) -> str:
        """Return the model that answers: the same one for the same key as long as the variants stay, else at random."""
        if len(self._steps) == 1:
            return self._steps[0][1]
        point = random.random() if key is None else position(key, self._endpoint)
        for end, model in self._steps:
            if point < end:
                return model
        return self._steps[-1][1]


def position(key: str | int, endpoint: str = "") -> float:
    """Return where a key lies between 0 and 1: evenly spread, the same in every process, another at every endpoint.

    The endpoint is part of it, or those who get the challenger here would get it everywhere.
    """
    digest = hashlib.blake2b(f"{endpoint}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
