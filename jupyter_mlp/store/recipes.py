"""Recipe versions: definitions as they were written, and what they learned from exactly one dataset version.

    (text)                          --recipe-->  recipe:delays@<digest of the text>
    dataset:trips@.. + recipe:delays@..  --fit-->  recipe:delays@<digest of text, target and dataset version>

The same text, and the same text on the same data, is the same version: it is found in the record and nothing runs. What was
learned lies among the artifacts, by content. A recipe that nobody wrote is called after its data: recipe:trips-default.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.entities import Activity
from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, StorageError, nearest
from jupyter_mlp.core.fitting import Unfitted, prepared
from jupyter_mlp.core.identity import canonical, digest
from jupyter_mlp.core.recipe import DEFAULT, Recipe
from jupyter_mlp.core.recipe_text import Definition, parse
from jupyter_mlp.core.references import Ref
from jupyter_mlp.core.statistics import Facts, measure
from jupyter_mlp.core.values import same_kind
from jupyter_mlp.store import modes
from jupyter_mlp.store.artifacts import Artifacts
from jupyter_mlp.store.datasets import DatasetVersion, check_name
from jupyter_mlp.store.filesystems import is_remote
from jupyter_mlp.store.workspace import Workspace

HERE_ROWS = 1_000_000  # up to so many rows are measured in this process, in less time than Spark needs to plan
_MEANING = 1  # goes up when a word of the language comes to mean something else: then nothing earlier is reused
_WORDS_SHOWN = 4


@dataclass(frozen=True, repr=False)
class RecipeVersion(Shown):
    """A recipe: its text and, once fitted, what it learned.

    Attributes:
        text: the definition, in its one spelling.
        data: the exact dataset version it was fitted on; None for a definition.
        origin: the definition that was fitted; None for the default.
        fitted: what training, batch and endpoint apply; None for a definition.
        passes: how often the rows were read for it. `engine`: who read them, `spark` or `here`.
        reused: whether it was known already.
    """

    reference: Ref
    text: str
    data: Ref | None = None
    origin: Ref | None = None
    fitted: Recipe | None = None
    passes: int = 0
    engine: str = ""
    reused: bool = False
    seconds: float = field(default=0.0, compare=False)

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return str(self.reference)

    @property
    def definition(self) -> Definition:
        """The text, parsed."""
        return parse(self.text)

    def to_dict(self) -> dict[str, Any]:
        """Return text, data and learned numbers as JSON types."""
        found: dict[str, Any] = {"ref": self.ref, "kind": "recipe", "name": self.reference.name, "text": self.text}
        if self.fitted is not None:
            found |= {"data": str(self.data), "rows": self.fitted.rows_seen, "width": self.fitted.width, "columns": self.fitted.text}
            found |= {"target": self.fitted.target, "task": self.fitted.task, "cardinalities": self.fitted.cardinalities}
            found |= {"passes": self.passes, "engine": self.engine, "learned": self.fitted.to_dict()["inputs"]}
        return {**found, "reused": self.reused, "seconds": round(self.seconds, 4)}

    def card(self) -> Card:
        """Return the text; once fitted, every column with its steps and what they learned."""
        if self.fitted is None:
            notes = [f"Not fitted yet: %mlp_recipe {self.reference.name} --data DATASET, or %mlp_train ... --recipe {self.reference.name}"]
            return Card(self.reference.short, text=self.text, notes=notes)
        how = "known already" if self.reused else f"{self.passes} pass{'es' * (self.passes > 1)} over the rows, {self.seconds:,.2f} s"
        facts = [("fitted on", f"{self.data and self.data.short}, {self.fitted.rows_seen:,} rows"), ("took", how)]
        if self.fitted.target:
            facts.append(("target", f"{self.fitted.target} ({self.fitted.task})"))
        title = f"{self.reference.short}  {len(self.fitted.inputs)} columns -> {self.fitted.width:,} features"
        return Card(title, facts, [columns_table(self.fitted)], notes=self.fitted.notes)


def columns_table(recipe: Recipe) -> Table:
    """Return every column with its steps and what they learned, for people."""
    rows = [(one.column, one.kind, one.said, ", ".join(filter(None, map(_told, one.steps))), one.width) for one in recipe.inputs]
    return Table(["column", "holds", "steps", "learned", "features"], rows)


def define(workspace: Workspace, name: str, definition: Definition) -> RecipeVersion:
    """Record a definition and return its version; the same text again is the same version."""
    check_name(name, "recipe")
    ref = Ref("recipe", name, digest("recipe", _MEANING, definition.text))
    key = digest("recipe", _MEANING, name, definition.text)
    known = workspace.activities.find(key) if modes.reuses() else None
    if known is not None:
        workspace.activities.again(known)
        return RecipeVersion(ref, definition.text, reused=True)
    with workspace.activities.recording("recipe", name=name, key=key, parameters={"text": definition.text}) as draft:
        draft.made.append(ref)
    return RecipeVersion(ref, definition.text)


def fit(
    workspace: Workspace,
    recipe: RecipeVersion | None,
    dataset: DatasetVersion,
    target: str | None = None,
    task: str | None = None,
    progress: Any = None,
) -> RecipeVersion:
    """Return a recipe fitted on a dataset version: from the record where it is known, else measured and learned now.

    Args:
        recipe: a definition, or a fitted version whose definition is fitted anew; None for the default.

    Raises:
        NotFoundError: the recipe or the target names a column that there is not.
        InvalidInputError: a step does not fit its column, or there is nothing to learn from.
    """
    begun = time.perf_counter()
    definition = recipe.definition if recipe is not None else parse(DEFAULT)
    name = recipe.reference.name if recipe is not None else f"{dataset.stem}-default"
    unfitted = prepared(definition, dataset.schema, target, task)
    key = digest("fit", _MEANING, name, unfitted.text, dataset.ref)
    known = workspace.activities.find(key) if modes.reuses() else None
    if known is not None:
        workspace.activities.again(known)
        return replace(_of_activity(workspace, known), reused=True, seconds=time.perf_counter() - begun)
    origin = None if recipe is None else recipe.reference if recipe.fitted is None else recipe.origin
    used = [dataset.reference, *([origin] if origin else [])]
    parameters = {"text": definition.text, "target": target, "task": task, "origin": str(origin) if origin else None}
    with workspace.activities.recording("fit", name=name, key=key, used=used, parameters=parameters) as draft:
        facts, passes, engine = _measured(workspace, dataset, unfitted, progress)
        learned = unfitted.learned(facts)
        draft.made.append(Ref("recipe", name, digest("fit", _MEANING, unfitted.text, dataset.ref)))
        artifact = workspace.artifacts.put(canonical(learned.to_dict()).encode(), ".json")
        draft.facts["recipe"] = {"artifact": artifact, "data": dataset.ref, "passes": passes, "engine": engine, "rows": learned.rows_seen}
    return replace(_of_activity(workspace, draft.activity), seconds=time.perf_counter() - begun)


def load(workspace: Workspace, ref: Ref | str) -> RecipeVersion:
    """Return a recipe version; a name alone means the newest.

    Raises:
        NotFoundError: there is none of that name or version; the hint names the nearest.
    """
    exact = workspace.activities.resolve(Ref.parse(ref, kind="recipe") if isinstance(ref, str) else ref)
    maker = workspace.activities.maker(exact)
    if maker is None:
        raise StorageError(f"{exact} has no record.", "Restore the records database from a backup.")
    return replace(_of_activity(workspace, maker), reused=True)


def for_training(
    workspace: Workspace, recipe: RecipeVersion | str | None, dataset: DatasetVersion, target: str | None, task: str | None
) -> RecipeVersion:
    """Return the fitted recipe a training uses: an exact fitted version as it is, else the definition fitted on the data."""
    exact = not isinstance(recipe, str) or Ref.parse(recipe, kind="recipe").version is not None
    found = load(workspace, recipe) if isinstance(recipe, str) else recipe
    learned = found.fitted if found is not None and exact else None
    if found is None or learned is None or (learned.target is None and target is not None):
        return fit(workspace, found, dataset, target, task)
    if target not in (None, learned.target) or task not in (None, learned.task):
        raise InvalidInputError(
            f"{found.reference.short} was fitted for {learned.target} ({learned.task}).", "Leave --target and --task out."
        )
    for column in [*learned.columns, *([learned.target] if learned.target else [])]:
        if column not in dataset.schema.names:
            told = f"{dataset.reference.short} has no column {column}, which {found.reference.short} reads."
            raise NotFoundError(told, nearest(column, dataset.schema.names))
    for read in learned.inputs:
        field = dataset.schema.field(read.column)
        if not same_kind(field, read.kind):
            raise InvalidInputError(
                f"{read.column} is {field.type} in {dataset.reference.short}; {found.reference.short} was fitted on a {read.kind} column.",
                "Cast the column in the query, or fit the recipe on this data: name it without @.",
            )
    return found


def _measured(workspace: Workspace, dataset: DatasetVersion, unfitted: Unfitted, progress: Any) -> tuple[Mapping[str, Facts], int, str]:
    columns = [need.column for need in unfitted.needs]
    if dataset.rows <= HERE_ROWS or any(map(is_remote, dataset.files)):  # Spark has neither our filesystems nor their keys
        return measure(dataset.batches(columns), unfitted.needs, unfitted.target), 1, "here"
    target = unfitted.needs[-1] if unfitted.target else None
    facts, passes = workspace.engine.measure(dataset.files, dataset.schema, unfitted.needs, target, progress)
    return facts, passes, "spark"


def _of_activity(workspace: Workspace, activity: Activity) -> RecipeVersion:
    ref = next(ref for ref in activity.made if ref.kind == "recipe")
    text = str(activity.parameters["text"])
    if activity.kind == "recipe":
        return RecipeVersion(ref, text)
    facts = activity.facts["recipe"]
    path = workspace.find("artifacts", facts["artifact"][:2], f"{facts['artifact']}.json")
    learned = Recipe.from_dict(json.loads(Artifacts(path.parent.parent).get(facts["artifact"], ".json")))
    origin = activity.parameters["origin"]
    return RecipeVersion(
        ref, text, Ref.parse(facts["data"]), Ref.parse(origin) if origin else None, learned, facts["passes"], facts["engine"]
    )


def _told(step: Mapping[str, Any]) -> str:
    word = step["step"]
    if word == "impute":
        return f"gaps {step['value']:.4g}" if isinstance(step["value"], float) else f"gaps {step['value']}"
    if word in ("scale", "time"):
        return f"- {step['shift']:.4g}, / {step['by']:.4g}" if word == "scale" else ""
    if word == "vocabulary":
        more = len(step["values"]) - _WORDS_SHOWN
        return ", ".join(step["values"][:_WORDS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    return f"edges {', '.join(f'{edge:.4g}' for edge in step['edges'])}" if word == "bucket" else ""
