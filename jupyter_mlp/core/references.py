r"""References: how every versioned thing is named, in cells, on the command line, in records and in URLs.

table:lake.flights@8213...   dataset:trips@1f3c...   run:20261124-...   model:<uuid>   endpoint:delays
\___/ \__________/ \____/
kind      name      version (absent means: the newest)
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError

KINDS = (
    "table",
    "dataset",
    "file",
    "recipe",
    "run",
    "model",
    "evaluation",
    "explanation",
    "endpoint",
    "report",
    "snapshot",
    "verification",
    "pipeline",
    "schedule",
    "pin",
)
_ID = re.compile(r"\d{8}-\d{6}-([0-9a-f]{8})|([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|([0-9a-f]{8})[0-9a-f]{24}")
_TEXT = re.compile(r"^(?P<kind>[a-z]+):(?P<name>[^@\s]+)(?:@(?P<version>[^@\s]+))?$")


@dataclass(frozen=True)
class Ref:
    """One versioned thing. Without a version it means the newest; records hold exact ones only."""

    kind: str
    name: str
    version: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}" + (f"@{self.version}" if self.version else "")

    def __lt__(self, other: Ref) -> bool:
        return (self.kind, self.name, self.version or "") < (other.kind, other.name, other.version or "")

    @property
    def short(self) -> str:
        """The reference with ids cut to eight characters and a file's folder left out, for reading only."""
        name = self.name.rsplit("/", 1)[-1] if self.kind == "file" else _brief(self.name)
        return f"{self.kind}:{name}" + (f"@{_brief(self.version)[:8]}" if self.version else "")

    @classmethod
    def parse(cls, text: str, kind: str | None = None) -> Ref:
        """Read a reference; with `kind` given, the leading `kind:` may be left out.

        Raises:
            InvalidInputError: the text is no reference, or one of another kind.

        Example:
            >>> Ref.parse("trips@1f3c", kind="dataset")
            Ref(kind='dataset', name='trips', version='1f3c')
        """
        full = text if ":" in text.split("@")[0] or kind is None else f"{kind}:{text}"
        found = _TEXT.match(full.strip())
        if not found or found["kind"] not in KINDS:
            example = f"{kind or 'dataset'}:trips@1f3c"
            raise InvalidInputError(f"{text!r} is not a reference.", f"Write it like {example}; kinds: {', '.join(KINDS)}.")
        if kind and found["kind"] != kind:
            raise InvalidInputError(f"{text!r} names a {found['kind']}, not a {kind}.", f"Give a {kind}, like {kind}:NAME.")
        return cls(found["kind"], found["name"], found["version"])


def named(what: Any) -> str:
    """Return the text that names a thing: itself, a path, or the exact reference of one of the objects that the verbs return.

    Raises:
        InvalidInputError: it is none of these.
    """
    if isinstance(what, str | os.PathLike | Ref):
        return str(what)
    text = getattr(what, "ref", None)
    if not isinstance(text, str):
        hint = "Give a name or reference in quotation marks, like 'dataset:trips@1f3c', or what a verb returned."
        raise InvalidInputError(f"{what!r:.60} names nothing here.", hint)
    return text


def _brief(text: str) -> str:
    """Cut an id of ours (time and random part, UUID, digest) to the eight characters that tell it apart; names stay."""
    found = _ID.fullmatch(text)
    return next(filter(None, found.groups())) if found else text
