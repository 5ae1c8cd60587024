"""A model folder as something that answers: the recipe makes features, ONNX Runtime or the author's code runs, labels come out.

The same class serves requests, scores datasets and evaluates, so that all three give the same numbers.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from jupyter_mlp.core.errors import InvalidInputError, StorageError
from jupyter_mlp.core.online import MOST_ROWS, OnlineRecipe
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.values import json_ready as json_ready  # what `answer` reads
from jupyter_mlp.serving.columns import Columns
from jupyter_mlp.store import registry
from jupyter_mlp.store.artifacts import sha256_of

if TYPE_CHECKING:
    import pyarrow as pa

_INSTANT_S = 0.0002  # a row that takes longer is worth queueing: other requests come in meanwhile, and share the call


class Runner(Protocol):
    """Runs the network on features."""

    quick: bool  # fast enough to run in the event loop

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the raw outputs, [n] or [n, k]."""
        ...

    def close(self) -> None:
        """Free what the runner holds."""
        ...


@dataclass(frozen=True)
class Prediction:
    """Answers for n rows: numbers, or labels with their probabilities ([n] for the second of two classes, else [n, k])."""

    values: list[Any]
    scores: np.ndarray
    probabilities: np.ndarray | None = None

    def part(self, start: int, stop: int) -> Prediction:
        """Return the answers of some rows."""
        probabilities = None if self.probabilities is None else self.probabilities[start:stop]
        return Prediction(self.values[start:stop], self.scores[start:stop], probabilities)

    @property
    def finite(self) -> bool:
        """Whether every number is one."""
        if self.scores.size <= 8:  # numpy's way costs more than the model
            return all(map(math.isfinite, self.scores.ravel().tolist()))
        return bool(np.isfinite(self.scores).all())


class Predictor:
    """Answers rows and columns with one model.

    Example:
        >>> predictor = Predictor.load(workspace.models / uuid)
        >>> predictor.predict_rows([{"dep_delay": 4.0, "carrier": "UA"}])
        [1.7]
    """

    def __init__(self, card: Mapping[str, Any], recipe: Recipe, runner: Runner) -> None:
        self.card = card
        self.recipe = recipe
        self.runner = runner
        self._online = OnlineRecipe(recipe)
        self.model: str = card["uuid"]
        self.task: str | None = card.get("task") or recipe.task
        classes = card.get("classes") or recipe.classes
        self.classes: list[Any] | None = list(classes) if classes else None
        self.shape: tuple[int, ...] = ()  # of one row's answer; `check` finds out
        self.instant = False  # a few rows take less time than queueing them; `check` finds out
        self.shares: bool = card.get("runtime", {}).get("share", True)  # one call may answer several requests

    @classmethod
    def load(cls, folder: Path) -> Predictor:
        """Return the predictor of a model folder.

        Raises:
            StorageError: files are missing or were changed since the model was registered.
        """
        try:
            card = json.loads((folder / "model.json").read_bytes())
        except (OSError, json.JSONDecodeError) as error:
            raise StorageError(f"The model folder {folder} cannot be read: {error}.", "Restore it from a backup or train again.") from error
        recipe = registry.recipe_of(card)
        if card["export"]["kind"] == "onnx":
            return cls(card, recipe, OnnxRunner(folder, card))
        from jupyter_mlp.serving.source import SourceRunner

        return cls(card, recipe, SourceRunner(folder))

    def predict_columns(self, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> Prediction:
        """Return the answers for rows given as columns."""
        return self.decode(self.runner(self.recipe.features(columns)))

    def answer(self, rows: Sequence[Mapping[str, Any]] | Columns) -> Prediction:
        """Return the answers for rows given as dictionaries, or as the columns of a request.

        Raises:
            InvalidInputError: names the field that is missing, unknown or of the wrong type.
        """
        if isinstance(rows, Columns):
            return self.predict_columns(rows.fitting(self.recipe))
        features = self._online.rows(rows) if len(rows) <= MOST_ROWS else None
        if features is None:
            try:
                features = self.recipe.rows(rows)
            except (OverflowError, ValueError) as error:
                if isinstance(error, InvalidInputError):
                    raise
                raise InvalidInputError(
                    f"instances hold a value that is out of range: {error}", "Check the largest numbers and the times."
                ) from None
        return self.decode(self.runner(features))

    def predict_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Return one value or label per row."""
        return self.answer(rows).values

    def decode(self, outputs: np.ndarray) -> Prediction:
        """Return raw outputs as answers."""
        if outputs.ndim == 2 and outputs.shape[1] == 1:
            outputs = outputs[:, 0]
        if self.task == "binary":
            chance = _sigmoid(outputs) if outputs.ndim == 1 else _softmax(outputs)[:, 1]
            classes = self.classes or [0, 1]
            return Prediction([classes[int(p >= 0.5)] for p in chance.tolist()], outputs, chance)
        if self.task == "multiclass":
            chances = _softmax(outputs)
            classes = self.classes or list(range(chances.shape[1]))
            return Prediction([classes[i] for i in chances.argmax(axis=1).tolist()], outputs, chances)
        return Prediction(outputs.tolist(), outputs)

    def check(self) -> None:
        """Answer the example of the model card: warms the model and proves that it works.

        Raises:
            InvalidInputError: it fails or answers with something that is no finite number.
        """
        example = self.card.get("example")
        if not example:
            return
        took = []
        for _ in range(5):  # the first runs allocate
            begun = time.perf_counter()
            found = self.answer([example])
            took.append(time.perf_counter() - begun)
        self.shape = found.scores.shape[1:]
        self.instant = self.runner.quick and min(took) < _INSTANT_S
        if not found.finite or len(found.values) != 1:
            raise InvalidInputError(
                f"Model {self.model[:8]} answers its own example with {found.scores.tolist()}, which is no finite number.",
                "Train it again with a smaller learning rate, or deploy another model.",
            )

    def close(self) -> None:
        """Free the model."""
        self.runner.close()


class OnnxRunner:
    """The exported graph in ONNX Runtime, on one thread unless the card says otherwise: for small models more only add waiting."""

    quick = True

    def __init__(self, folder: Path, card: Mapping[str, Any]) -> None:
        import onnxruntime

        graph = folder / "model.onnx"
        wanted = _recorded_hash(card)
        if wanted and sha256_of(graph) != wanted:
            raise StorageError(f"{graph} was changed since the model was registered.", "Restore it from a backup or train again.")
        options = onnxruntime.SessionOptions()
        runtime = card.get("runtime", {})
        options.intra_op_num_threads = runtime.get("threads", 1)
        if runtime.get("graph", "all") == "basic":
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, one per status code
            raise StorageError(f"{graph} cannot be loaded: {str(error)[:200]}", "Train the model again.") from error
        self._input = self._session.get_inputs()[0].name
        self._outputs = [self._session.get_outputs()[0].name]  # to look them up at each call takes as long as a small model

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the raw outputs of the graph."""
        found: np.ndarray = self._session.run(self._outputs, {self._input: features})[0]
        return found

    def close(self) -> None:
        """Nothing to do: the session goes with its last reference."""


def columns_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return rows as columns, absent values as None."""
    return {name: [row.get(name) for row in rows] for name in names}


def _recorded_hash(card: Mapping[str, Any]) -> str | None:
    found = card.get("sha256", {}).get("model.onnx")
    return str(found) if found else None


def _sigmoid(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    chance: np.ndarray = np.exp(-np.logaddexp(0, -x))
    return chance


def _softmax(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    chance: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return chance
