"""The base of every route: who may come in is the server's decision, and mistakes are answered in two lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from jupyter_server.base.handlers import APIHandler
from tornado import web

from jupyter_mlp.core.errors import ConflictError, InvalidInputError, JobError, MissingPackageError, MLPError, NotFoundError
from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends import remote
from jupyter_mlp.frontends.schedule_form import WrongFieldsError

RESOURCE = "jupyter_mlp"  # what an authorizer is asked about
_STATUS: tuple[tuple[type[MLPError], int], ...] = (
    (NotFoundError, 404),
    (InvalidInputError, 400),
    (ConflictError, 409),
    (JobError, 409),
    (MissingPackageError, 409),
)


class Door(APIHandler):
    """Base of every route: who may come in is the server's decision, and mistakes are answered in two lines."""

    auth_resource = RESOURCE

    async def answer(self, do: Callable[[], Any]) -> None:
        """Run `do` in a thread, so that no other tab waits for it, and send what it returns as JSON."""
        self.finish(json.dumps(await asyncio.to_thread(do), ensure_ascii=False, default=str))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what is wrong and what to try; never a stack."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        message, hint = getattr(error, "reason", None) or "The request failed.", ""
        if isinstance(error, MLPError):
            self.set_status(next((code for kind, code in _STATUS if isinstance(error, kind)), 503))
            message, hint = error.message, error.hint
        elif isinstance(error, web.HTTPError):
            message = error.log_message or error.reason or f"HTTP {status_code}"
        self.set_header("Content-Type", "application/json")
        self.finish(
            json.dumps({"message": str(message), "hint": hint, **({"fields": error.fields} if isinstance(error, WrongFieldsError) else {})})
        )

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """A user's mistake is the user's to read; the server's log has the defects."""
        if not isinstance(value, MLPError):
            super().log_exception(typ, value, tb)

    def text(self, name: str, default: str | None = None) -> str:
        """Return one argument of the query as text that every database takes."""
        found = self.get_query_argument(name, default, strip=False)
        if found is None or (default is None and not found):
            raise InvalidInputError(f"The request lacks {name}.", f"Write ?{name}=...")
        return remote.clean(found)

    def number(self, name: str, default: int, most: int) -> int:
        """Return one argument of the query as a number from 1 to `most`."""
        text = self.text(name, str(default))
        if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
            raise InvalidInputError(f"{name} is {text[:40]!r}, not a number from 1 to {most}.", f"Leave it out for {default}.")
        return int(text)

    def ref(self, name: str = "ref") -> Ref:
        """Return the reference that the query names."""
        return Ref.parse(self.text(name))
