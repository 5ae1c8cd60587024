"""Telling somebody that a scheduled run failed, or is well again, or of an endpoint's alarm: a webhook, an e-mail, or a command of theirs.

https://hooks.example.org/x     POST of a JSON object
mailto:team@example.org         through the setting `smtp` (smtp://user:password@host:587, smtps://host)
command:./page-me --now         the JSON object on its standard input, no shell
"""

from __future__ import annotations

import json
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any
from urllib.parse import unquote, urlsplit

from jupyter_mlp.core.config import Settings
from jupyter_mlp.core.errors import InvalidInputError, JobError

_PATIENCE_S = 20.0


def check(target: str) -> str:
    """Return the target.

    Raises:
        InvalidInputError: it is none of the three kinds.
    """
    kind, _, rest = target.partition(":")
    if kind in ("http", "https", "mailto", "command") and rest.strip("/ "):
        return target
    raise InvalidInputError(f"Nobody can be told at {target!r}.", "Give https://..., mailto:NAME@HOST, or 'command:PROGRAM ARGUMENT ...'.")


def send(target: str, told: Mapping[str, Any], settings: Settings) -> None:
    """Tell one target.

    Raises:
        JobError: it could not be told.
    """
    kind = check(target).partition(":")[0]
    {"mailto": _mail, "command": _command}.get(kind, _post)(target, told, settings)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is said goes where the user said, nowhere else."""

    def redirect_request(self, *given: Any) -> None:
        return None


def _post(target: str, told: Mapping[str, Any], settings: Settings) -> None:
    request = urllib.request.Request(target, json.dumps(told).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_PATIENCE_S):
            pass
    except (OSError, ValueError) as error:
        where = urlsplit(target).hostname
        raise JobError(f"The webhook at {where} did not take it: {error}.", "Check the URL of --notify.") from None


def _mail(target: str, told: Mapping[str, Any], settings: Settings) -> None:
    import smtplib

    server = urlsplit(settings.smtp)
    if not server.hostname:
        raise JobError("No mail server is set.", "Set smtp = 'smtp://HOST:PORT' in mlp.toml, or MLP_SMTP.")
    message = EmailMessage()
    message["Subject"] = (
        f"{told['schedule']} {told['state']} ({told['tick']})" if "schedule" in told else f"{told['endpoint']}: {told['state']}"
    )
    message["From"], message["To"] = settings.smtp_from or "jupyter_mlp@localhost", target.partition(":")[2]
    message.set_content("\n".join(f"{name}: {value}" for name, value in told.items()))
    connect = smtplib.SMTP_SSL if server.scheme == "smtps" else smtplib.SMTP
    try:
        with connect(server.hostname, server.port or 0, timeout=_PATIENCE_S) as smtp:
            if server.username:
                if server.scheme != "smtps":
                    smtp.starttls()
                smtp.login(unquote(server.username), unquote(server.password or ""))
            smtp.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise JobError(f"The mail server {server.hostname} did not take it: {error}.", "Check the setting smtp.") from None


def _command(target: str, told: Mapping[str, Any], settings: Settings) -> None:
    words = shlex.split(target.partition(":")[2])
    try:
        subprocess.run(words, input=json.dumps(told), text=True, check=True, timeout=_PATIENCE_S, stdout=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        raise JobError(f"The command {words[0]} failed: {error}.", "Check the command of --notify.") from None
