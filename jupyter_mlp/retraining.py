"""From step 6 back to step 2: the model behind an endpoint trained again on the newest data, and put beside it as a shadow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from jupyter_mlp import data, deployment, evaluation, training
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import ConflictError, InvalidInputError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.deployment import Deployment
from jupyter_mlp.evaluation import Evaluation
from jupyter_mlp.serving import routing
from jupyter_mlp.store import datasets, deployments, elsewhere, held_out, recipes, registry
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.registry import Model
from jupyter_mlp.store.workspace import Workspace, current

_ROWS = 100_000  # that both models are judged on
_AS_BEFORE = ("target", "task", "gpus", "cluster", "settings", "max_epochs", "batch_size", "seed", "strategy", "tensor_parallel_size",
              "trainer", "callbacks", "early_stopping")  # fmt: skip


@dataclass(frozen=True, repr=False)
class Retraining(Shown):
    """A model trained again, beside the one it may replace.

    Attributes:
        was, now: how good both are on the same rows: those that the new one's training held out.
        endpoint: the endpoint with the new model as its shadow.
        replaced: the shadows of earlier retrainings, whose place it took.
    """

    reference: Ref
    run: str
    data: str
    was: Evaluation
    now: Evaluation
    endpoint: Deployment
    replaced: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    @property
    def model(self) -> str:
        """The reference of the new model."""
        return str(self.now.model)

    def to_dict(self) -> dict[str, Any]:
        """Return the retraining as JSON types."""
        return {
            "ref": self.ref,
            "kind": "retraining",
            "run": self.run,
            "data": self.data,
            "model": self.model,
            "was": self.was.to_dict(),
            "now": self.now.to_dict(),
            "endpoint": self.endpoint.to_dict(),
            "replaced": list(self.replaced),
        }

    def card(self) -> Card:
        """Return both models on the same rows, and what to type next."""
        name = self.endpoint.name
        rows = [[metric, self.was.metrics.get(metric), value] for metric, value in self.now.metrics.items()]
        table = Table(["metric", self.was.model.short, f"{self.now.model.short} (new)"], rows, f"on the same {self.now.rows:,} rows")
        facts = [("trained on", self.data), ("by", self.run), ("rows of both", str(self.now.data)), ("new model", self.model)]
        replaced = [f"It took the place of {Ref.parse(one).short}, the shadow of an earlier retraining." for one in self.replaced]
        notes = [
            *replaced,
            f"It answers copies of the requests for the log only. %mlp_monitor {name} says which is better once outcomes are known;",
            f"%mlp_deploy {self.model} --to {name} --ramp 10,50,100 lets it answer;",
            f"%mlp_endpoint {name} --remove {self.model} takes it out again.",
        ]
        return Card(f"endpoint:{name} has a retrained shadow", facts, [table], notes=notes)


def retrain(endpoint: str, *, progress: Callable[..., None] | None = None) -> Retraining:
    """Train the model behind an endpoint again on the newest version of its data, and let it answer there as a shadow.

    Code, settings and the recipe's text are those of the training that made it; its query is asked again, of the newest
    tables. Both models are evaluated on the rows that the new training held out. A shadow that an earlier retraining put there
    goes; one that somebody deployed by hand stays.

    Raises:
        NotFoundError: there is no such endpoint.
        ConflictError: there is no newer data. InvalidInputError: nobody knows how the model was trained.
        StorageError: its code was edited since. JobError: training failed.

    Example:
        >>> mlp.retrain("delays").model
        'model:eac3a9c7-3a4a-4ea4-b7bd-6356fbbee48e'
    """
    workspace = current()
    reference = deployments.newest(workspace, endpoint)
    served, trained, made = _origin(workspace, deployments.folder(workspace, reference.name))
    used = [reference, Ref("model", served.uuid)]
    with workspace.activities.recording("retrain", name=reference.name, used=used, parameters={"endpoint": endpoint}) as draft:
        told = made.parameters
        newest = _newest(workspace, told["data"], progress)
        validation = _newest(workspace, told["validation"], progress) if told.get("validation") else None
        if newest.ref == told["data"] and (validation is None or validation.ref == told["validation"]):
            raise ConflictError(
                f"{trained.name} learned from {newest.reference.short}, and there is no newer data.",
                f"Write new rows to what it is computed from; %mlp_monitor {reference.name} says when there are some.",
            )
        draft.used.append(newest.reference)
        registry.check_source(trained.folder, trained.card_data)
        run = training.train(
            f"{trained.folder / 'code' / 'captured.py'}:{told['model']}",
            data=newest,
            validation=validation,
            recipe=_recipe(workspace, told.get("recipe")),
            progress=progress,
            **{name: told[name] for name in _AS_BEFORE if name in told},
        )
        assert run.model is not None, "a training that was waited for has made its model"
        judged_on = _held_out(workspace, registry.load(workspace, run.model))
        was, now = (evaluation.evaluate(one, data=judged_on) for one in (served.ref, run.model))
        at, replaced = deployment.deploy_retrained(run.model, to=reference.name)
        draft.used += [now.model, now.data, was.reference, now.reference, at.reference]
        draft.made.append(Ref("report", draft.activity.id))
        found = Retraining(draft.made[0], run.ref, newest.ref, was, now, at, replaced)
        draft.facts.update(found.to_dict())
    return found


def _origin(workspace: Workspace, folder: deployments.EndpointFolder) -> tuple[Model, Model, Activity]:
    """The model that an endpoint serves most, the trained one that it is or was made of, and its training."""
    best = routing.champion(routing.read(folder.wanted()["variants"]))
    assert best is not None
    served = trained = registry.load(workspace, Ref("model", best.model))
    while "derived_from" in trained.card_data:
        trained = registry.load(workspace, trained.card_data["derived_from"])
    made = workspace.activities.maker(Ref("model", trained.uuid))
    if made is None or made.kind != "train" or not made.parameters.get("data"):
        raise InvalidInputError(f"How {trained.name} was trained is not known here.", "Train it with %mlp_train, and deploy that model.")
    return served, trained, made


def _newest(workspace: Workspace, ref: str, progress: Callable[..., None] | None) -> DatasetVersion:
    """The newest version of a dataset: its query asked again where it has one, which reads the newest tables."""
    known = Ref.parse(ref)
    if known.kind == "file":  # the files of a URL, as they are now
        return elsewhere.load(workspace, unquote(known.name))
    dataset = elsewhere.load(workspace, Ref(known.kind, known.name))
    if not dataset.sql:
        return dataset
    return data.query(dataset.sql, name=dataset.reference.name, params=dataset.parameters, progress=progress)


def _recipe(workspace: Workspace, fitted: str | None) -> str | None:
    """The definition to fit again on the newest data; None for the default."""
    origin = recipes.load(workspace, fitted).origin if fitted else None
    return str(origin) if origin else None


def _held_out(workspace: Workspace, model: Model) -> DatasetVersion:
    """Publish the rows that a training held out, for both models to be judged on; a validation dataset is one already."""
    reference, rows = held_out.rows(workspace, model, _ROWS)
    if reference.version != Ref.parse(str(model.card_data["data"])).version:
        return elsewhere.load(workspace, reference)
    used = [reference, Ref("model", model.uuid)]
    name = f"{elsewhere.load(workspace, reference).stem}_held_out"
    with workspace.activities.recording("split", name=name, used=used, parameters={"of": str(reference), "rows": len(rows)}) as draft:
        made = datasets.publish_table(workspace, draft, name, rows)
    return datasets.load(workspace, made)
