"""Models: immutable, named by UUID, saved as weights and an exported graph, never as a pickle.

<workspace>/models/<uuid>/
  model.json           card: task, signature, recipe, metrics, data, run
  weights.safetensors  the parameters
  model.onnx           features float32 [n, width] -> raw output of forward(); absent when it cannot be exported
  code/                the captured module
"""

from __future__ import annotations

import json
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError, nearest
from jupyter_mlp.core.recipe import Recipe
from jupyter_mlp.core.references import Ref
from jupyter_mlp.store import aliases
from jupyter_mlp.store.artifacts import publish_folder, sha256_of
from jupyter_mlp.store.workspace import Workspace

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CARD = "card.json"  # what a job says of its model; completed here to model.json
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, repr=False)
class Model(Shown):
    """A trained model.

    Attributes:
        folder: its files. `card_data`: the content of model.json.
    """

    folder: Path
    card_data: Mapping[str, Any]

    @property
    def uuid(self) -> str:
        """Its identity."""
        return str(self.card_data["uuid"])

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return f"model:{self.uuid}"

    @property
    def name(self) -> str:
        """The class it was made from."""
        return str(self.card_data["name"])

    @property
    def recipe(self) -> Recipe:
        """How its input columns become features.

        Raises:
            InvalidInputError: it learned from batches of its author's code, not from columns.
        """
        return recipe_of(self.card_data)

    @property
    def task(self) -> str | None:
        """regression, binary, multiclass, or None."""
        return self.card_data["task"]

    @property
    def target(self) -> str | None:
        """The column it predicts."""
        return self.card_data["target"]

    @property
    def metrics(self) -> dict[str, float]:
        """The last values of what it logged while training."""
        return dict(self.card_data["metrics"])

    @property
    def inputs(self) -> list[str]:
        """Names of the columns it reads."""
        return [column["name"] for column in self.card_data["signature"]["inputs"]]

    def to_dict(self) -> dict[str, Any]:
        """Return the card without the training statistics."""
        kept = {key: value for key, value in self.card_data.items() if key != "recipe"}
        return {"ref": self.ref, "kind": "model", **kept}

    def card(self) -> Card:
        """Return what it predicts, from what, and how it was made."""
        export = self.card_data["export"]
        served = {"onnx": "ONNX, in the server's process", "weights": f"nothing: {export.get('why')}"}.get(
            export["kind"], f"from its source, in a process of its own ({export.get('why')})"
        )
        facts = [
            ("predicts", f"{self.target} ({self.task})" if self.target else "-"),
            ("trained on", self.card_data["data"]),
            *([("prepared by", self.card_data["prepared_by"])] if "prepared_by" in self.card_data else []),
            ("by", self.card_data["run"]),
            ("served as", served),
            *([("made of", self.card_data["derived_from"])] if "derived_from" in self.card_data else []),
        ]
        metrics = Table(["metric", "value"], sorted(self.metrics.items()))
        columns = Table(["input", "type"], [(column["name"], column["type"]) for column in self.card_data["signature"]["inputs"]])
        return Card(f"{self.name}  model:{self.uuid[:8]}", facts, [metrics, columns])


def recipe_of(card: Mapping[str, Any]) -> Recipe:
    """Return the recipe in a model's card.

    Raises:
        InvalidInputError: it has none, because the model learned from batches of its author's code.
    """
    if card.get("recipe") is None:
        raise InvalidInputError(
            f"{card['name']} learned from batches of its own code, not from a dataset's columns, so nobody knows what its inputs are.",
            "Train it with --data DATASET --target COLUMN to evaluate, deploy or predict. Its weights are in the model's folder.",
        )
    return Recipe.from_dict(card["recipe"])


def register(workspace: Workspace, result: Path, card: Mapping[str, Any], identity: str | None = None) -> str:
    """Publish the files in `result` as a new model and return its UUID; its activity records it afterwards.

    Under an `identity` that is given, publishing twice makes one model: the first one stays.
    """
    identity = identity or str(uuid.uuid4())
    complete = {
        **card,
        "uuid": identity,
        "created_at": time.time(),
        "sha256": {name: sha256_of(path) for name, path in _files(result).items() if name != CARD},
    }

    def write(folder: Path) -> None:
        shutil.copytree(result, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CARD))
        (folder / "model.json").write_text(json.dumps(complete, ensure_ascii=False, indent=1), encoding="utf-8")

    publish_folder(workspace.models / identity, write)
    return identity


def check_source(folder: Path, card: Mapping[str, Any]) -> None:
    """See that a model's weights and code are those that were registered, before they are run.

    Raises:
        StorageError: a file was changed, taken away, or put beside the code.
    """
    recorded = {name: sha256 for name, sha256 in card.get("sha256", {}).items() if name == WEIGHTS or name.startswith("code/")}
    hint = f"Restore {folder} from a backup, or train again: edited code makes another model."
    for name, sha256 in recorded.items():
        if not (folder / name).is_file():
            raise StorageError(f"{folder / name} is gone since the model was registered.", hint)
        if sha256_of(folder / name) != sha256:
            raise StorageError(f"{folder / name} was changed since the model was registered.", hint)
    if any(name != WEIGHTS for name in recorded):  # models made before code was recorded have weights only
        added = sorted(_files(folder / "code", "code/").keys() - recorded.keys())
        if added:
            raise StorageError(f"{folder / added[0]} was not there when the model was registered.", hint)


def load(workspace: Workspace, ref: Ref | str) -> Model:
    """Return a model by `model:<uuid>`, the first characters of its UUID, an alias, `run:<id>`, or its name (the newest).

    Raises:
        NotFoundError: there is none; the hint names the nearest.
    """
    identity = _uuid_of(workspace, str(ref))
    path = workspace.find("models", identity, "model.json")
    try:
        return Model(path.parent, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StorageError(
            f"The files of model:{identity} are gone from {path.parent}.", "Restore them from a backup, or train again."
        ) from None


def is_uuid(text: str) -> bool:
    """Whether a text can be the identity of a model."""
    return bool(_UUID.fullmatch(text))


def _files(folder: Path, prefix: str = "") -> dict[str, Path]:
    """Every file below a folder, by its path from there."""
    return {prefix + path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def _uuid_of(workspace: Workspace, text: str) -> str:
    kind, _, name = text.rpartition(":")
    if kind == "run":
        activity = workspace.activities.get(name)
        found = [ref.name for ref in activity.made if ref.kind == "model"]
        if not found:
            raise NotFoundError(f"{text} made no model: it is {activity.state}.", f"mlp attach {text} shows what it did.")
        return found[0]
    known = workspace.activities.names("model")
    if name in known:
        return name
    pinned = str(workspace.activities.pins.get(f"model:{name}"))
    if is_uuid(pinned):  # what the alias meant when the snapshot was taken that is verified here
        return pinned
    pointed = aliases.find(workspace, name)
    if pointed:
        return pointed
    starting = [one for one in known if len(name) >= 4 and one.startswith(name)]
    if len(starting) == 1:
        return starting[0]
    if kind == "":
        trained = workspace.activities.latest("train", name)
        if trained:
            return next(ref.name for ref in trained.made if ref.kind == "model")
    names = set(aliases.all_of(workspace)) | {a.name for a in workspace.activities.recent(["train"], limit=500, state="finished") if a.name}
    raise NotFoundError(
        f"There is no model {text} here.", nearest(text, names) or "Train one first: %mlp_train CLASS --data DATASET --target COLUMN"
    )
