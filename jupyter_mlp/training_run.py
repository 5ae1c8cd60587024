"""A training run as the notebook holds it: a handle on a job that lives without this kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.cards import Card, Shown
from jupyter_mlp.core.clusters import Sight
from jupyter_mlp.core.entities import CANCELLED, FAILED, RUNNING, Activity
from jupyter_mlp.core.errors import DetachedError, JobError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.reports import runs
from jupyter_mlp.store import attempts, clusters, jobs, queue, usage
from jupyter_mlp.store.attempts import Attempt
from jupyter_mlp.store.jobs import RunFolder
from jupyter_mlp.store.usage import Use
from jupyter_mlp.store.workspace import Workspace

Progress = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, repr=False)
class Run(Shown):
    """A training run: a handle on a job that lives without this kernel. Everything it says is true now.

    Attributes:
        reused: whether the same code, data and settings had been trained before.
    """

    id: str
    workspace: Workspace
    reused: bool = False

    @property
    def ref(self) -> str:
        """The exact reference, as text."""
        return f"run:{self.id}"

    @property
    def state(self) -> str:
        """`queued`, `running`, `finished`, `failed`, `cancelled`; `unreachable` while its cluster does not answer."""
        state = self._activity.state
        return clusters.sight(self._folder).state if state == RUNNING else state

    @property
    def error(self) -> str | None:
        """Why it failed, or None."""
        return self._activity.error

    @property
    def metrics(self) -> dict[str, float]:
        """The newest value of every metric that the model logged."""
        return {name: points[-1][1] for name, points in jobs.metric_series(self._folder).items()}

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Its starts: more than one where something was killed, each with the reason and the step it went on from."""
        return tuple(attempts.attempts(self._folder))

    @property
    def usage(self) -> tuple[Use, ...]:
        """What its processes used of processor, memory and GPU, every few seconds, oldest first."""
        return tuple(usage.said(self._folder))

    @property
    def inputs(self) -> tuple[Ref, ...]:
        """The exact dataset versions it learns from."""
        return tuple(ref for ref in self._activity.used if ref.kind not in ("recipe", "run"))

    @property
    def recipe(self) -> str | None:
        """The reference of the fitted recipe that made its features."""
        return next((str(ref) for ref in self._activity.used if ref.kind == "recipe"), None)

    @property
    def model(self) -> str | None:
        """The reference of the model it made; None before it has finished."""
        return next((str(ref) for ref in self._activity.made if ref.kind == "model"), None)

    def logs(self) -> str:
        """Return everything the job printed so far, each line once, however often it was killed and went on."""
        return attempts.log(self._folder)

    def wait(self, progress: Progress | None = None) -> Run:
        """Wait for the end and return the run.

        Raises:
            JobError: it failed (the message says why) or was cancelled.
            DetachedError: waiting was interrupted; the job goes on.
        """
        now: dict[str, Any] = {"text": "starting"}
        try:
            for events in jobs.follow(self._folder):
                now = next((shown for shown in map(runs.news, reversed(events)) if shown), now)
                if progress:  # also when nothing is new, so that the clock goes on
                    seen = clusters.sight(self._folder)
                    progress({"text": seen.why} if seen.why else now)
        except KeyboardInterrupt:
            raise DetachedError(
                f"Waiting for {self.ref} was interrupted; the training goes on.",
                f"%mlp_attach {self.ref} --wait waits again; with --cancel it stops the training.",
            ) from None
        state = self.state
        if state == FAILED:
            ended = self._folder.read("exit.json") or {}
            raise JobError(f"{self.ref} failed: {self.error}", str(ended.get("hint", "")))
        if state == CANCELLED:
            goes_on = runs.goes_on(self.ref, self._folder)
            raise JobError(f"{self.ref} was cancelled.", goes_on or "Train again, or with --fresh where another run is reused.")
        return self

    def cancel(self) -> None:
        """Stop the job; a run that has ended stays as it is."""
        if self._activity.state == RUNNING:
            jobs.cancel(self._folder)

    @property
    def _folder(self) -> RunFolder:
        return jobs.folder_of(self.workspace, self.id)

    @property
    def _activity(self) -> Activity:
        return jobs.fold(self.workspace, self.id)

    def to_dict(self) -> dict[str, Any]:
        """Return state, metrics and references as JSON types."""
        activity = self._activity
        return {
            "ref": self.ref,
            "kind": "run",
            "name": activity.name,
            "state": self.state,
            "model": self.model,
            "data": activity.parameters["data"],
            "inputs": [str(ref) for ref in self.inputs],
            "recipe": self.recipe,
            "parameters": dict(activity.parameters),
            "metrics": self.metrics,
            "error": activity.error,
            "attempts": [vars(attempt) for attempt in self.attempts],
            "usage": [vars(use) for use in self.usage],
            "reused": self.reused,
            "seconds": activity.seconds,
        }

    def card(self) -> Card:
        """Return state, metrics and how they came about."""
        activity = self._activity
        if activity.state != RUNNING:
            return runs.card(self, activity, self._folder, None, Sight())
        return runs.card(self, activity, self._folder, queue.places(self.workspace).get(self.id), clusters.sight(self._folder))
