"""The dashboard of a Ray cluster, over HTTP: what jobs and endpoints are sent to and asked of, with no Ray in the notebook.

Whoever reaches a Ray dashboard may run code there, so one that is not on this machine is only spoken to with a token, unless
the settings say that its network is trusted.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jupyter_mlp.core.clusters import Cluster
from jupyter_mlp.core.errors import InvalidInputError, JobError, UnreachableError

_DEFAULT = "http://127.0.0.1:8265"
_ANSWER_S = 15.0


class Dashboard:
    """Asks the dashboard of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.address = (cluster.address or os.environ.get("RAY_API_SERVER_ADDRESS") or _DEFAULT).rstrip("/")

    @property
    def is_here(self) -> bool:
        """Whether only this machine reaches it."""
        host = urlsplit(self.address).hostname or ""
        try:
            return host == "localhost" or ipaddress.ip_address(host).is_loopback
        except ValueError:
            return False

    def refuse_open(self) -> None:
        """Refuse to send code where anybody could.

        Raises:
            InvalidInputError: the dashboard is elsewhere and takes what it is sent without a token.
        """
        if self._cluster.trusted or _token() or self.is_here:
            return
        name = self._cluster.name
        raise InvalidInputError(
            f"The Ray cluster {name} at {self.address} would be sent code without a token, as anybody could.",
            f"Start it with RAY_AUTH_MODE=token and set RAY_AUTH_TOKEN here; or say [cluster.{name}] trusted = true.",
        )

    def asked(self, method: str, path: str, body: Any = None, absent: Any = None, timeout_s: float = _ANSWER_S) -> Any:
        """Return what the dashboard answers, as JSON types; None for no words.

        Args:
            absent: the answer where it knows nothing of that name.

        Raises:
            UnreachableError: it does not answer. JobError: it refuses.
        """
        token = _token()
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}{path}", data, headers, method=method)
        try:
            with _OPENER.open(request, timeout=timeout_s) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code == 404 and absent is not None:
                return absent
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UnreachableError(
                f"The Ray cluster {self._cluster.name} does not answer at {self.address}: {reason}.",
                "Look whether its head is up; what it still runs goes on.",
            ) from None

    def _refused(self, error: urllib.error.HTTPError) -> JobError:
        said = " ".join(error.read().decode(errors="replace").strip().splitlines()[-1:])[:300]
        name = self._cluster.name
        if error.code in (401, 403):
            return JobError(f"The Ray cluster {name} wants another token: {said}", "Set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH.")
        if error.code == 501:
            return JobError(f"The Ray cluster {name} lacks a part of Ray: {said}", "On its nodes: pip install 'jupyter_mlp[ray]'")
        if error.code >= 500:
            return UnreachableError(f"The Ray cluster {name} cannot answer now ({error.code}): {said}", "Try again in a moment.")
        return JobError(f"The Ray cluster {name} refused ({error.code}): {said}", "Look at [cluster.NAME] address.")


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a dashboard is not behind the proxy to the world


def _token() -> str:
    """Return Ray's token, from where Ray itself looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
