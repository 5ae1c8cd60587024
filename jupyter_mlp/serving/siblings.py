"""What the serving processes of one endpoint on this machine say of themselves, and for all of them.

One alone writes actual.json. Of several each writes replicas/SLOT.json, and who is the last to follow writes actual.json for all: whoever
waits for a deploy, a rollback or a ramp waits until every process has followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jupyter_mlp.store.deployments import EndpointFolder


class Sibling:
    """One of the serving processes of an endpoint.

    Args:
        slot: its place among them. `of`: how many they are.

    Attributes:
        silent: it has a successor, which speaks for this place.
    """

    def __init__(self, folder: EndpointFolder, slot: int, of: int) -> None:
        self._folder = folder
        self._slot = slot
        self._of = of
        self.silent = False

    @property
    def writer(self) -> str:
        """What its files of the log are named by; nothing where it is alone."""
        return str(self._slot) if self._of > 1 else ""

    def report(self, told: Mapping[str, Any]) -> None:
        """Say what this process does now, and what all do once they do the same.

        None says it before its own word is written, so the last one finds the words of all; and none speaks of a later generation
        before it is done with this one, so nothing newer is overwritten.
        """
        if self.silent:
            return
        told = {**told, "processes": self._of}
        if self._of == 1:
            self._folder.report(told)
            return
        self._folder.report_of(str(self._slot), told)
        words = [self._said(slot) for slot in range(self._of)]
        if all(one.get("generation") == told["generation"] for one in words):
            self._folder.report(next((one for one in words if one.get("error")), told))

    def is_succeeded(self, pid: int) -> bool:
        """Whether another process than `pid`, this one's, has followed in its place, or another number of them in that of all."""
        actual = self._folder.actual()
        said = actual if self._of == 1 else self._said(self._slot)
        return said.get("pid") not in (None, pid) or actual.get("processes") not in (None, self._of)

    def _said(self, slot: int) -> dict[str, Any]:
        return self._folder.replica(str(slot))
