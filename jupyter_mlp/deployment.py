"""Step 4, deploy: models behind HTTP endpoints in processes that outlive the kernel; a second deploy is a hot swap.

Where they run, on this machine or on a cluster, is the endpoint's place (serving/places.py); nothing here depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jupyter_mlp.core import guards, plugins, ramps
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.clusters import LOCAL
from jupyter_mlp.core.entities import FINISHED
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.frontier import Limits, limits
from jupyter_mlp.core.manifests import Manifest
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.serving import keeper, lookups, names, places, routing, swaps
from jupyter_mlp.serving.routing import Variant
from jupyter_mlp.serving.swaps import Swap
from jupyter_mlp.store import datasets, deployments, modes, registry
from jupyter_mlp.store.activities import Draft
from jupyter_mlp.store.datasets import DatasetVersion
from jupyter_mlp.store.deployments import EndpointFolder
from jupyter_mlp.store.registry import Model
from jupyter_mlp.store.workspace import Workspace, current

if TYPE_CHECKING:
    from jupyter_mlp.serving.tuning import NoWayError

_RETRAINING = "retrain"  # who deployed a model, where nobody did by hand


@dataclass(frozen=True, repr=False)
class Deployment(Shown):
    """An endpoint as one deploy left it: where it is, and which models answer.

    Attributes:
        variants: the models with their shares of the requests.
        seconds: how long the deploy took; 0 when it was only looked up.
        proof: where limits were given, the ways to serve the model as they were measured, and which was chosen.
    """

    name: str
    reference: Ref
    variants: tuple[Variant, ...]
    address: str
    workspace: Workspace
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    proof: Mapping[str, Any] | None = None

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    @property
    def url(self) -> str:
        """Where to POST `{"instances": [{...}]}`."""
        return f"{self.address}/v1/models/{self.name}:predict"

    @property
    def port(self) -> int:
        """The port of the url."""
        return urlsplit(self.address).port or 80

    @property
    def listen(self) -> str | None:
        """The address of this machine that it listens on; None on a cluster."""
        return self._folder.listen if self._folder.where == LOCAL else None

    @property
    def where(self) -> str:
        """The cluster that it runs on; local for this machine."""
        return self._folder.where.name

    @property
    def replicas(self) -> int:
        """How many processes share the requests."""
        return self._folder.processes

    @property
    def headers(self) -> dict[str, str]:
        """What a request must carry; the token is a secret, so it is not part of any display."""
        return {"Authorization": f"Bearer {self._folder.token()}"}

    @property
    def state(self) -> str:
        """`ready`, `cold`, `starting`, `stopped`, `down` or `unreachable` - as it is now, not as it was when this object was made."""
        return places.state(self.workspace, self._folder)

    def predict(self, rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> list[Any]:
        """Return one prediction per row, asked over HTTP.

        Example:
            >>> mlp.endpoint("delays").predict([{"dep_delay": 4.0, "carrier": "UA"}])
        """
        from jupyter_mlp.serving.client import Client

        given = [rows] if isinstance(rows, Mapping) else list(rows)
        with Client(self.address, self.name, self._folder.token()) as client:
            return [value for answer in client.ask_all(given) for value in answer.predictions]

    def rollback(self) -> Deployment:
        """Serve again what the deploy before this one served, without dropping a request."""
        return _deployed(self.workspace, swaps.rollback(self.workspace, self.name))

    def remove(self, model: str) -> Deployment:
        """Take a model out that is tried beside others, without dropping a request; the champion takes over its share.

        Args:
            model: `model:<uuid>`, `run:<id>` or a model's name.

        Raises:
            NotFoundError: it is not behind this endpoint. InvalidInputError: no other model answers.

        Example:
            >>> mlp.endpoint("delays").remove("model:8c1d...").variants
        """
        return _deployed(self.workspace, swaps.remove(self.workspace, self.name, model))

    def manifest(self, form: str) -> Manifest:
        """Return what tells another service manager to run this endpoint: a unit for systemd, an InferenceService for kserve.

        Example:
            >>> mlp.endpoint("delays").manifest("systemd").text
        """
        write = plugins.load("manifests", form)
        return Manifest(self.ref, form, write(self.workspace, self._folder, self.ref))

    def start(self) -> Deployment:
        """Serve again exactly what was served before it was stopped, or before the machine was; one that runs is left alone.

        Example:
            >>> mlp.endpoint("delays").start().state
            'ready'
        """
        if self.state in ("stopped", "down"):
            return _deployed(self.workspace, swaps.start(self.workspace, self.name))
        return self

    def stop(self) -> None:
        """End the endpoint's processes; its log of requests stays, and `start` serves again what was served."""
        places.stop(self.workspace, self._folder)

    @property
    def _folder(self) -> EndpointFolder:
        return deployments.folder(self.workspace, self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return the deployment as JSON types, without its token."""
        return {
            "ref": self.ref,
            "kind": "endpoint",
            "name": self.name,
            "url": self.url,
            "state": self.state,
            "port": self.port,
            "listen": self.listen,
            "where": self.where,
            "replicas": self.replicas,
            "variants": [variant.to_dict() for variant in self.variants],
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            **({"proof": dict(self.proof)} if self.proof else {}),
        }

    def card(self) -> Card:
        """Return where it is and who answers."""
        rows = [[v.model, "shadow" if v.shadow else f"{v.weight} %"] for v in self.variants]
        facts: list[tuple[str, Any]] = [("url", self.url), ("state", places.said(self.state))]
        if self.listen not in (None, deployments.LOOPBACK):
            facts.append(("listens on", self.listen))
        if self.where != LOCAL.name:
            facts.append(("cluster", self.where))
        if self.replicas > 1:
            facts.append(("processes", self.replicas))
        if self.seconds:
            facts.append(("took", f"{self.seconds:,.2f} s"))
        notes = [*self.notes, f"Requests need the header Authorization: Bearer ...; mlp.endpoint('{self.name}').headers has it."]
        tables, figures = [Table(["model", "traffic"], rows)], []
        if self.proof:
            from jupyter_mlp.reports import costs

            facts.append(("served as", f"{self.proof['chosen']}, of {self.proof['of']}"))
            tables.append(costs.table(self.proof))
            figures.append(costs.figure(self.proof))
        return Card(f"endpoint:{self.name}", facts, tables, figures, notes)


def deploy(
    model: str | Shown,
    *,
    to: str,
    traffic: int | None = None,
    shadow: bool = False,
    ramp: str | None = None,
    every: str = "10m",
    guard: Sequence[str] = (),
    port: int | None = None,
    listen: str | None = None,
    cluster: str | None = None,
    replicas: int | None = None,
    serve_from: str | None = None,
    data: str | DatasetVersion | None = None,
    key: str | None = None,
    max_p99: str | float | None = None,
    max_loss: str | float | None = None,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Deployment:
    """Serve a model at the endpoint `to` and return the deployment; on a running endpoint this is a hot swap.

    Args:
        model: `model:<uuid>`, `run:<id>` or a model's name.
        to: the endpoint's name.
        traffic: percent of the requests for this model, the champion keeps the rest; all of them when left out.
        shadow: let the model answer copies of the requests for the log only.
        ramp: percentages that the traffic grows by, like "10,50,100"; the endpoint moves on by itself, and back if the model fails.
        every: time between the steps of the ramp, like 30s, 10m, 2h.
        guard: what its answers must keep to meanwhile, or it gives its traffic back: "error_rate<=1%", "p99<=50ms".
        port: where a new endpoint listens; a free one when left out.
        listen: the address of this machine where a new endpoint listens, 0.0.0.0 for all of them; as before when left out, and
            loopback at first. Requests need the token wherever they come from, and travel as they are: put TLS before what others reach.
        cluster: a Ray cluster of the settings file, where Ray Serve runs the endpoint; where it ran before when left out, and local
            is this machine. In a verification all endpoints are on this machine.
        replicas: processes that share the requests, on this machine at most one a core; as before when left out, and 1 at first.
        serve_from: "store" publishes predictions of this model by key into the online store of the settings, so that the endpoint
            answers `{"keys": [...]}` as well; until the model is swapped out.
        data, key: the dataset of predictions for it, and the column that names them.
        max_p99, max_loss: try precisions, threads, graph optimisation and sharing of calls on real rows, and serve the fastest way
            whose answers take at most "5ms" in 99 of 100 and whose main metric is at most "0.5%" worse. The rows are those that training
            held out, or those of `data`. A way other than the registered one is a model of its own, derived from it.

    Raises:
        InvalidInputError: no way to serve the model keeps to the limits; the message has the nearest.
        ConflictError: the name or the port is taken.
        JobError: the model does not load or fails on its own example; what was served still is.
        UnreachableError: the cluster does not answer.

    Example:
        >>> mlp.deploy("DelayModel", to="delays").url
        'http://127.0.0.1:40213/v1/models/delays:predict'
    """
    workspace, model = current(), named(model)
    folder = deployments.folder(workspace, to)
    found = registry.load(workspace, model)
    registry.recipe_of(found.card_data)  # what has none is refused here, before a process is started for it
    parameters: dict[str, Any] = {
        "model": model,
        "to": to,
        "traffic": traffic,
        "shadow": shadow,
        "ramp": ramp,
        "every": every,
        "port": port,
        **({"guard": list(guard)} if guard else {}),
        **({"listen": listen} if listen is not None else {}),
        **({"cluster": cluster} if cluster is not None else {}),
        **({"replicas": replicas} if replicas is not None else {}),
    }
    parameters |= {"serve_from": serve_from, "data": str(data) if data is not None else None, "key": key} if serve_from else {}
    within = limits(max_p99, max_loss)
    if within is None:
        lookups.check_asked(serve_from, data, key)
    elif serve_from is not None or key is not None:
        raise InvalidInputError(
            "Predictions by key take no time of the model.", "Deploy with the limits first, then with --serve-from store."
        )
    else:
        parameters |= {"max_p99": max_p99, "max_loss": max_loss, "data": str(data) if data is not None else None}
    if ramp is not None and (traffic is not None or shadow):
        raise InvalidInputError("A ramp says itself how much traffic the model gets.", "Leave out --traffic and --shadow.")
    guarded = [guards.read(text).said for text in guard]
    if guarded and ramp is None:
        raise InvalidInputError("A guard watches a ramp, and there is none.", "Add --ramp 10,50,100.")
    steps, every_s = ramps.steps(ramp) if ramp is not None else (), ramps.seconds(every)
    with swaps.recording(workspace, folder, [found.uuid], parameters) as draft:
        names.check_free(workspace, folder, found)
        if within is not None:
            found = _tuned(workspace, found, within, data, draft, progress)
        before = names.served(folder)
        variants = routing.with_model(before, found.uuid, steps[0] if steps else traffic, shadow)
        plan = swaps.ramp_of_others(folder, found.uuid) if shadow else swaps.ramp_to(found.uuid, before, steps, every_s, guarded)
        # The endpoint that is verified may have them.
        asked = swaps.Asked() if modes.verifying() else swaps.Asked(port, cluster, replicas, listen)
        store = lookups.kept(folder.wanted().get("store"), variants)
        if data is not None and key is not None:
            predictions = _dataset(workspace, data)
            draft.used.append(predictions.reference)
            store = lookups.publish(workspace.root, to, predictions, key, found.uuid)
        try:
            made = swaps.bring(workspace, folder, draft, variants, asked, swaps.newest_deploy(workspace, to), plan, store)
        except BaseException:
            lookups.forget(workspace.root, store, folder.wanted().get("store"))
            raise
    return _deployed(workspace, made)


def deploy_retrained(model: str, *, to: str) -> tuple[Deployment, tuple[str, ...]]:
    """Let a model that was trained again answer as a shadow, in the place of what retraining put there before, in one swap.

    Return the deployment, and the models that went. A shadow that somebody deployed by hand stays.
    """
    workspace = current()
    folder = deployments.folder(workspace, to)
    found = registry.load(workspace, model)
    with swaps.recording(workspace, folder, [found.uuid], {"model": model, "to": to, "shadow": True, "by": _RETRAINING}) as draft:
        names.check_free(workspace, folder, found)
        before = names.served(folder)
        shadows = [variant.model for variant in before if variant.shadow and variant.model != found.uuid]
        gone = tuple(f"model:{one}" for one in shadows if _by_retraining(workspace, to, one))
        kept = [variant for variant in before if f"model:{variant.model}" not in gone]
        variants = routing.with_model(kept, found.uuid, shadow=True)
        ramp, store = swaps.ramp_of_others(folder, found.uuid), lookups.kept(folder.wanted().get("store"), variants)
        made = swaps.bring(workspace, folder, draft, variants, swaps.Asked(), swaps.newest_deploy(workspace, to), ramp, store)
    return _deployed(workspace, made), gone


def _by_retraining(workspace: Workspace, name: str, model: str) -> bool:
    """Whether it was retraining that deployed a model to an endpoint last."""
    used = workspace.activities.users(Ref("model", model))
    deploys = (one for one in used if one.kind == "deploy" and one.name == name and one.state == FINISHED and one.parameters.get("model"))
    return next((one.parameters.get("by") == _RETRAINING for one in deploys), False)


def endpoint(name: str) -> Deployment:
    """Return the endpoint of that name as it is now.

    Raises:
        NotFoundError: nothing was deployed under that name.
    """
    workspace = current()
    reference = deployments.newest(workspace, name)
    made = workspace.activities.maker(reference)
    folder = deployments.folder(workspace, reference.name)
    assert made is not None
    keeper.ensure(folder)
    address = folder.address or made.facts.get("address") or f"http://127.0.0.1:{made.facts['port']}"
    return Deployment(reference.name, reference, routing.read(made.facts["variants"]), address, workspace, proof=made.facts.get("proof"))


def _deployed(workspace: Workspace, made: Swap) -> Deployment:
    return Deployment(made.reference.name, made.reference, made.variants, made.address, workspace, made.seconds, proof=made.proof)


def _tuned(
    workspace: Workspace,
    model: Model,
    within: Limits,
    data: str | DatasetVersion | None,
    draft: Draft,
    progress: Callable[[dict[str, Any]], None] | None,
) -> Model:
    """The way to serve a model within the limits, as a model; the draft keeps the proof and what it was measured on."""
    from jupyter_mlp.serving import tuning

    try:
        found = tuning.tune(workspace, model, within, None if data is None else _dataset(workspace, data), progress)
    except tuning.NoWayError as refused:
        report = _measured(workspace, model, refused)
        draft.lasting.update(proof=refused.proof, report=str(report))
        raise InvalidInputError(refused.message, f"{refused.hint} All that was measured: {report}") from refused
    draft.facts["proof"] = found.proof
    draft.used.append(Ref.parse(found.proof["data"]))
    if found.model.uuid != model.uuid:
        draft.made.append(Ref("model", found.model.uuid))
    return found.model


def _measured(workspace: Workspace, model: Model, refused: NoWayError) -> Path:
    """Publish what was measured before a refusal as a page: it took a while, and says which limits can be kept to."""
    from jupyter_mlp.reports import costs
    from jupyter_mlp.reports.pages import page

    facts = [("model", model.ref), ("asked for", refused.message.partition(". The nearest")[0])]
    card = Card(f"ways to serve {model.name}", facts, [costs.table(refused.proof)], [costs.figure(refused.proof)], [refused.hint])
    return workspace.artifacts.path(workspace.artifacts.put(page(card).encode(), ".html"), ".html")


def _dataset(workspace: Workspace, data: str | DatasetVersion) -> DatasetVersion:
    return datasets.load(workspace, data if isinstance(data, str) else data.ref)
