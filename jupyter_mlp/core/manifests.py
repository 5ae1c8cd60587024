"""What tells another service manager how to run an endpoint, as text for a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jupyter_mlp.core.cards import Card, Shown


@dataclass(frozen=True, repr=False)
class Manifest(Shown):
    """A filled-in template.

    Attributes:
        endpoint: the exact reference of what it describes. `form`: systemd, kserve. `text`: what belongs in the file.
    """

    endpoint: str
    form: str
    text: str

    @property
    def ref(self) -> str:
        """What it describes."""
        return self.endpoint

    def __repr__(self) -> str:
        return self.text.rstrip("\n")  # and no more than that: the command line prints it into a file

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as JSON types."""
        return {"ref": self.endpoint, "kind": "manifest", "form": self.form, "text": self.text}

    def card(self) -> Card:
        """Return the text."""
        return Card(f"{self.endpoint.split('@')[0]} for {self.form}", text=self.text)
