"""The models of a workspace: found, compared, and named by aliases that move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table, size_text
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import NotFoundError, nearest
from jupyter_mlp.core.references import Ref, named
from jupyter_mlp.store import aliases, licenses, registry
from jupyter_mlp.store.registry import Model
from jupyter_mlp.store.workspace import Workspace, current

_MOST = 1000
_COMPARED = 5  # comparisons of a model that its card shows


@dataclass(frozen=True, repr=False)
class Alias(Shown):
    """A name that points at a model.

    Attributes:
        model: the reference it points at, or None. `history`: its moves, newest first, as dictionaries.
    """

    name: str
    model: str | None
    history: tuple[dict[str, Any], ...]

    @property
    def ref(self) -> str:
        """How it is used wherever a model is named."""
        return f"model:{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return the alias as JSON types."""
        return {"ref": self.ref, "kind": "alias", "name": self.name, "model": self.model, "history": list(self.history)}

    def card(self) -> Card:
        """Return where it points and where it pointed before."""
        rows = [[one["when"], one["model"] or "removed", one["by"], one["notebook"]] for one in self.history]
        facts = [("points at", self.model or "nothing"), ("use it as", self.ref)]
        return Card(f"alias {self.name}", facts, [Table(["when", "model", "by", "notebook"], rows)])


@dataclass(frozen=True)
class Entry:
    """A model with what the records know of it.

    Attributes:
        made_by: the training that made it. `evaluations`: newest first; `comparisons`: those with another model.
    """

    model: Model
    aliases: tuple[str, ...]
    made_by: Activity | None
    evaluations: tuple[Activity, ...]
    comparisons: tuple[Activity, ...]
    endpoints: tuple[str, ...]
    license: str | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """What it logged while training, under what its newest evaluation measured."""
        measured = dict(self.evaluations[0].facts.get("metrics", {})) if self.evaluations else {}
        return {**self.model.metrics, **measured}

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.model.folder.rglob("*") if path.is_file())

    def to_dict(self) -> dict[str, Any]:
        """Return the model's card with its lineage, as JSON types."""
        made = self.made_by
        return {
            **self.model.to_dict(),
            "aliases": list(self.aliases),
            "license": self.license,
            "size": self.size,
            "used": [str(ref) for ref in made.used] if made else [],
            "by": made.user if made else None,
            "at": made.started_at if made else None,
            "notebook": made.notebook if made else None,
            "evaluations": [{"data": e.facts.get("data"), "metrics": e.facts.get("metrics")} for e in self.evaluations],
            "comparisons": [{"data": c.facts.get("data"), "sentence": c.facts.get("sentence")} for c in self.comparisons],
            "endpoints": list(self.endpoints),
        }


@dataclass(frozen=True, repr=False)
class Models(Shown):
    """Models side by side, newest first."""

    entries: tuple[Entry, ...]
    words: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """A list has no reference."""
        return ""

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Model:
        return self.entries[index].model

    def to_dict(self) -> dict[str, Any]:
        """Return every model with its lineage, as JSON types."""
        return {"kind": "models", "models": [entry.to_dict() for entry in self.entries]}

    def card(self) -> Card:
        """Return one model in full, several as a table whose columns are what can be compared."""
        if len(self.entries) == 1:
            return _full(self.entries[0])
        said = f"{len(self.entries)} models" + (f" for {' '.join(self.words)}" if self.words else "")
        if not self.entries:
            return Card(said, notes=["Train one: %mlp_train CLASS --data DATASET --target COLUMN"])
        names = _shared_metrics(self.entries)
        head = ["model", "name", "alias", *names, "data", "size", "when", "by", "served by"]
        rows = [
            [
                f"model:{e.model.uuid[:8]}", e.model.name, ", ".join(e.aliases), *(e.metrics.get(name) for name in names),
                _short(e.model.card_data.get("data")), size_text(e.size), _when(e.made_by), e.made_by.user if e.made_by else None,
                ", ".join(e.endpoints),
            ]
            for e in self.entries
        ]  # fmt: skip
        return Card(said, tables=[Table(head, rows)])


def alias(name: str, model: str | None = None, *, remove: bool = False) -> Alias:
    """Point an alias at a model and return it; without a model only look where it points.

    `model:champion` then stands wherever a model is named. Moving is atomic, and every move is kept.

    Raises:
        NotFoundError: there is no such model, or no such alias to look at or remove.

    Example:
        >>> mlp.alias("champion", "DelayModel").model
        'model:eac3a9c7-3a4a-4ea4-b7bd-6356fbbee48e'
    """
    workspace = current()
    name = name.removeprefix("model:")
    if model is not None:
        aliases.move(workspace, name, registry.load(workspace, model).uuid, model)
    elif remove or aliases.find(workspace, name) is None:
        if aliases.find(workspace, name) is None:
            hint = nearest(name, aliases.all_of(workspace)) or f"Make it: %mlp_alias {name} MODEL"
            raise NotFoundError(f"There is no alias {name}.", hint)
        aliases.move(workspace, name, None)
    found = aliases.find(workspace, name)
    return Alias(name, f"model:{found}" if found else None, tuple(map(_move, aliases.history(workspace, name))))


def set_license(model: str | Shown, license: str) -> Models:
    """Say under which license a model is, and return its card; models made of it for serving have the same one.

    The model stays as it is: the license is a record of its own, which the next one replaces.

    Args:
        license: an SPDX identifier or expression, like MIT, Apache-2.0 or LicenseRef-internal.

    Raises:
        NotFoundError: there is no such model. InvalidInputError: that names no license.

    Example:
        >>> mlp.set_license("DelayModel", "Apache-2.0").entries[0].license
        'Apache-2.0'
    """
    workspace = current()
    found = registry.load(workspace, named(model))
    licenses.put(workspace, found, license)
    return find_models(found.ref)


def find_models(*words: str, sort: str | None = None) -> Models:
    """Return the models that match every word, newest first; of one model everything that is known.

    Args:
        words: an alias, a model's reference or name, or parts of names, tasks, targets, data and licenses. Several references compare them.
        sort: a metric, like mae; those that have it come first, the best ahead.

    Example:
        >>> mlp.find_models("DelayModel", sort="mae")
    """
    from jupyter_mlp.core.metrics import lower_is_better

    workspace = current()
    pointing = aliases.all_of(workspace)
    exact = [found for word in words if (found := _exactly(workspace, word, pointing))]
    known = exact if words and len(exact) == len(words) else list(_known(workspace))
    served = _served(workspace)
    entries = [_entry(workspace, model, pointing, served) for model in known]
    if known is not exact:
        entries = [entry for entry in entries if all(word.lower() in _text(entry) for word in words)]
    if sort is not None:
        if not any(sort in entry.metrics for entry in entries):
            have = {name for entry in entries for name in entry.metrics}
            raise NotFoundError(f"None of these models has a metric {sort}.", nearest(sort, have) or "Evaluate one: %mlp_evaluate MODEL")
        sign = 1 if lower_is_better(sort) or "loss" in sort else -1
        entries.sort(key=lambda entry: sign * entry.metrics[sort] if sort in entry.metrics else float("inf"))
    return Models(tuple(entries), words)


def _exactly(workspace: Workspace, word: str, pointing: dict[str, str]) -> Model | None:
    """The model that a word names beyond doubt; a trained name may mean many."""
    name = word.removeprefix("model:")
    if name not in pointing and not word.startswith(("model:", "run:")):
        return None
    return registry.load(workspace, word)


def _known(workspace: Workspace) -> Iterable[Model]:
    for trained in workspace.activities.recent(["train", "deploy"], limit=_MOST, state="finished"):  # a deploy may derive one
        for ref in trained.made:
            if ref.kind == "model" and workspace.find("models", ref.name, "model.json").exists():
                yield registry.load(workspace, ref)


def _entry(workspace: Workspace, model: Model, pointing: dict[str, str], served: dict[str, list[str]]) -> Entry:
    reference = Ref("model", model.uuid)
    called = tuple(name for name, uuid in pointing.items() if uuid == model.uuid)
    judged = [a for a in workspace.activities.users(reference) if a.kind == "evaluate" and a.state == "finished"]
    alone, beside = (tuple(a for a in judged if ("against" in a.facts) == paired) for paired in (False, True))
    return Entry(
        model,
        called,
        workspace.activities.maker(reference),
        alone,
        beside,
        tuple(served.get(model.uuid, ())),
        licenses.find(workspace, model.uuid),
    )


def _served(workspace: Workspace) -> dict[str, list[str]]:
    from jupyter_mlp.store import deployments

    found: dict[str, list[str]] = {}
    for name in deployments.names(workspace):
        wanted = deployments.folder(workspace, name).wanted()
        for variant in [] if wanted.get("stopped") else wanted.get("variants", []):
            found.setdefault(variant["model"], []).append(name)
    return found


def _text(entry: Entry) -> str:
    model = entry.model
    parts = [model.uuid, model.name, model.task, model.target, model.card_data.get("data"), entry.license, *entry.aliases]
    return " ".join(str(part) for part in parts if part).lower()


def _shared_metrics(entries: Sequence[Entry]) -> list[str]:
    """The metrics that most of them have, the evaluated ones first."""
    counted: dict[str, int] = {}
    for entry in entries:
        for name in [*(entry.evaluations[0].facts.get("metrics", {}) if entry.evaluations else {}), *entry.model.metrics]:
            counted[name] = counted.get(name, 0) + 1
    return sorted(counted, key=lambda name: -counted[name])[:4]


def _full(entry: Entry) -> Card:
    card, made = entry.model.card(), entry.made_by
    facts = [
        *card.facts,
        ("aliases", ", ".join(entry.aliases) or "-"),
        ("size", size_text(entry.size)),
        ("license", entry.license or f"not given: %mlp_models model:{entry.model.uuid[:8]} --license MIT"),
        ("made", f"{_when(made)} by {made.user} on {made.host}" if made else "-"),
        ("in", (made.notebook or "-") if made else "-"),
        ("from", ", ".join(ref.short for ref in made.used) if made else "-"),
        ("served by", ", ".join(f"endpoint:{name}" for name in entry.endpoints) or "-"),
    ]
    judged = [
        [_short(e.facts.get("data")), *(f"{name} {value:.4g}" for name, value in list(e.facts.get("metrics", {}).items())[:3])]
        for e in entry.evaluations
    ]
    wide = max(map(len, judged), default=0)
    tables = [Table(["evaluated on", *[""] * (wide - 1)], [row + [""] * (wide - len(row)) for row in judged])] if judged else []
    compared = [f"{one.facts['sentence']} ({_short(one.facts.get('data'))})" for one in entry.comparisons[:_COMPARED]]
    example = entry.model.card_data.get("example")
    notes = [*card.notes, *compared, *([f"example: {example}"] if example else [])]
    return Card(card.title, facts, [*card.tables, *tables], card.figures, notes)


def _move(activity: Activity) -> dict[str, Any]:
    model = activity.facts.get("model")
    return {"when": _when(activity), "model": f"model:{model}" if model else None, "by": activity.user, "notebook": activity.notebook}


def _when(activity: Activity | None) -> str:
    return datetime.fromtimestamp(activity.started_at, UTC).strftime("%Y-%m-%d %H:%M:%S") if activity else "-"


def _short(text: Any) -> str:
    return Ref.parse(text).short if isinstance(text, str) and ":" in text else str(text or "-")
