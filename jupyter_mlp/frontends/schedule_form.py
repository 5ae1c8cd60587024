"""The form that schedules a notebook: its fields, what is wrong in which of them, and the schedule that it makes.

The fields are the keyword arguments of `mlp.schedule`, as text; `parameters.NAME` is a parameter of the notebook.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jupyter_mlp import scheduling
from jupyter_mlp.core import clock, cron
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.notebook import notify
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.store import schedules as stored
from jupyter_mlp.store.workspace import Workspace

_PARAMETER = "parameters."
_FIELDS = ("name", "cron", "on", "tz", "catch_up", "retries", "backoff", "timeout", "max_running", "notify")
_COMING = 3  # next moments told


class WrongFieldsError(InvalidInputError):
    """Fields of a form cannot work; `fields`: what is wrong with each."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("Some fields cannot work yet.", "Correct what is marked.")
        self.fields = dict(fields)


def form(workspace: Workspace, file: Document) -> dict[str, Any]:
    """Return what the form of a notebook asks for, and what it says at first: of its own schedule, where it has one."""
    known = stored.every(workspace.database)
    own = next((one for one in known if one.spec.get("notebook") == str(file.path)), None)
    spec = dict(own.spec) if own else {}
    given = spec.get("parameters", {})
    return {
        "notebook": file.name,
        "name": own.name if own else _free(file.name, {one.name for one in known}),
        "exists": own is not None,
        "taken": [one.name for one in known if one is not own],
        "tables": workspace.lake.names(),
        "cron": spec.get("cron") or ("" if spec.get("on") else "0 3 * * *"),
        "on": spec.get("on") or "",
        "tz": spec.get("tz") or cron.local_zone(),
        "catch_up": spec.get("catch_up", cron.LATEST),
        "retries": str(spec.get("retries", 0)),
        "backoff": _time(spec.get("backoff_s", 60.0)),
        "timeout": _time(spec.get("timeout_s")),
        "max_running": str(spec.get("max_running", 1)),
        "notify": "\n".join(spec.get("notify", ())),
        "parameters": [
            {
                "name": one.name,
                "type": one.type.__name__ if one.type else None,
                "default": _text(one.default),
                "value": _text(given[one.name]) if one.name in given else "",
            }
            for one in file.parameters.values()
        ],
    }


def check(workspace: Workspace, file: Document, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is wrong with each field, and the next moments at which it would be due; nothing is recorded."""
    fields = _texts(file, given)
    wrong: dict[str, str] = {}

    def look(name: str, at: Callable[[], Any]) -> None:
        try:
            at()
        except InvalidInputError as error:
            hint = error.hint.replace("--cron ", "").replace("--name ", "")  # a form has no flags
            wrong.setdefault(name, f"{error.message}\n{hint}".strip())

    look("name", partial(_name, workspace, file, fields.get("name", "")))
    if fields.get("on"):
        look("on", partial(_table, workspace, fields["on"]))
    else:
        look("tz", partial(clock.check, fields.get("tz") or cron.local_zone()))
        look("cron", partial(cron.check, fields.get("cron", ""), "UTC"))
    look("catch_up", partial(_one_of, fields.get("catch_up") or cron.LATEST))
    for name, low in (("retries", 0), ("max_running", 1)):
        look(name, partial(_number, fields.get(name, ""), low))
    for name in ("backoff", "timeout"):
        if fields.get(name):
            look(name, partial(cron.seconds, fields[name], name))
    for target in _lines(fields.get("notify", "")):
        look("notify", partial(notify.check, target))
    for name, text in _parameters(fields).items():
        look(f"{_PARAMETER}{name}", partial(file.checked, {name: text}))
    return {"fields": wrong, "next": [] if wrong or fields.get("on") else _coming(fields)}


def make(workspace: Workspace, file: Document, given: Mapping[str, Any]) -> dict[str, Any]:
    """Schedule the notebook as the form says, and return the schedule.

    Raises:
        WrongFieldsError: a field cannot work; nothing is recorded then.
    """
    wrong = check(workspace, file, given)["fields"]
    if wrong:
        raise WrongFieldsError(wrong)
    fields = _texts(file, given)
    assert file.path is not None
    made = scheduling.schedule(
        file.path,
        cron=None if fields.get("on") else fields["cron"],
        on=fields.get("on") or None,
        tz=fields.get("tz") or None,
        parameters=_parameters(fields),
        name=fields.get("name") or None,
        catch_up=fields.get("catch_up") or cron.LATEST,
        retries=_number(fields.get("retries", ""), 0),
        backoff=fields.get("backoff") or "1min",
        timeout=fields.get("timeout") or None,
        max_running=_number(fields.get("max_running", ""), 1),
        notify=_lines(fields.get("notify", "")),
    )
    return made.to_dict()


def _texts(file: Document, given: Mapping[str, Any]) -> dict[str, str]:
    """The fields as text, without those that say nothing."""
    unknown = [name for name in given if name not in _FIELDS and not name.startswith(_PARAMETER)]
    if unknown:
        raise InvalidInputError(f"The form has no field {unknown[0]!r:.60}.", f"It has: {', '.join(_FIELDS)}, {_PARAMETER}NAME.")
    texts = {name: "" if value is None else str(value) for name, value in given.items()}
    return {name: text if name.startswith(_PARAMETER) else text.strip() for name, text in texts.items() if text.strip()}


def _parameters(fields: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(_PARAMETER): text for name, text in fields.items() if name.startswith(_PARAMETER)}


def _name(workspace: Workspace, file: Document, name: str) -> None:
    scheduling.checked_name(name or file.name)
    other = next((one for one in stored.every(workspace.database) if one.name == (name or file.name)), None)
    if other is not None and other.spec.get("notebook") != str(file.path):
        raise InvalidInputError(f"Another notebook's schedule is named {other.name}.", "Choose another name.")


def _table(workspace: Workspace, name: str) -> None:
    if workspace.lake.current(name.removeprefix("table:")) is None:
        raise InvalidInputError(f"There is no table {name:.80}.", f"Tables: {', '.join(workspace.lake.names()[:5]) or 'none yet'}.")


def _one_of(policy: str) -> None:
    if policy not in cron.CATCH_UP:
        raise InvalidInputError(f"{policy!r:.60} is no choice.", f"Choose from {', '.join(cron.CATCH_UP)}.")


def _number(text: str, low: int) -> int:
    if not text:
        return low
    if not (text.isascii() and text.isdigit() and len(text) < 7 and int(text) >= low):
        raise InvalidInputError(f"{text!r:.40} is not a whole number from {low} up.", f"Leave it empty for {low}.")
    return int(text)


def _coming(fields: Mapping[str, str]) -> list[str]:
    zone = fields.get("tz") or cron.local_zone()
    moments = cron.moments(cron.check(fields["cron"], zone), zone, time.time())
    return [cron.shown(moment, zone) for moment, _ in zip(moments, range(_COMING), strict=False)]


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _free(name: str, taken: set[str]) -> str:
    """The notebook's name, made one that a schedule may have and none has."""
    plain = (
        "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "-" for letter in name).strip("-._") or "notebook"
    )
    return next(one for one in (plain[:50], *(f"{plain[:50]}-{number}" for number in range(2, 10_000))) if one not in taken)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    unit, size = next(((unit, size) for unit, size in (("d", 86400), ("h", 3600), ("min", 60)) if seconds % size == 0), ("s", 1))
    return f"{seconds / size:g}{unit}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
