"""The verbs for those who are not in a kernel: called by name with JSON, checked by the same table as magics and commands.

What reads files by their path, or runs for minutes, is not among them: a cell is the place for it.
"""

from __future__ import annotations

import json
import math
import time
from typing import Any

from jupyter_mlp.core.errors import InvalidInputError, NotFoundError, nearest
from jupyter_mlp.core.references import Ref
from jupyter_mlp.frontends.arguments import Context, Option, Verb, parse
from jupyter_mlp.frontends.verbs import VERBS
from jupyter_mlp.store.workspace import Workspace

# verb -> the arguments it takes here
TAKEN: dict[str, tuple[str, ...]] = {
    "status": (),
    "doctor": (),
    "graph": ("ref",),
    "impact": ("what",),
    "attach": ("run", "cancel"),
    "deploy": ("model", "to", "traffic", "shadow"),
    "endpoint": ("endpoint", "rollback", "start", "stop"),
    "monitor": ("endpoint",),
    "pin": ("ref", "reason"),
    "forget": ("ref", "cascade"),
    "schedules": ("name", "pause", "resume", "remove", "run"),
    "history": ("schedule", "limit"),
}
_LONGEST = 10_000  # characters of one argument
_LOG = 200_000  # characters told of a log
_LATELY_S, _BARS, _TAIL = 300.0, 30, 2**20  # seconds told of, bars drawn, bytes read of an endpoint's log


def arguments(body: bytes) -> dict[str, Any]:
    """Return the arguments in the body of a request.

    Raises:
        InvalidInputError: it is no JSON object of texts, numbers and booleans.
    """
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise InvalidInputError("The body is not JSON.", 'Send {"name": value, ...}.') from None
    if not isinstance(found, dict) or not all(isinstance(one, str | int | bool | None) for one in found.values()):
        raise InvalidInputError("The body is not an object of texts, whole numbers and booleans.", 'Send {"name": value, ...}.')
    return {clean(name): clean(value) if isinstance(value, str) else value for name, value in found.items()}


def call(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Call a verb and return its result as JSON types.

    Raises:
        NotFoundError: there is no such verb here. InvalidInputError: an argument is unknown or wrong.
    """
    verb = next((one for one in VERBS if one.name == name and name in TAKEN), None)
    if verb is None:
        raise NotFoundError(f"There is no verb {name[:40]!r} here.", nearest(name, TAKEN))
    result = verb.call(parse(verb, _words(verb, given), verb.name), Context())
    return result.to_dict() if hasattr(result, "to_dict") else {"text": str(result)}


def clean(text: str) -> str:
    """Return a text that every database takes.

    Raises:
        InvalidInputError: it is too long, or has characters that are none.
    """
    if len(text) > _LONGEST:
        raise InvalidInputError(f"A text of {len(text):,} characters is too long.", f"At most {_LONGEST:,} are taken.")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InvalidInputError("A text has characters that are none.", "Send it as UTF-8 without NUL.")
    return text


def difference(before: Ref, after: Ref) -> dict[str, Any]:
    """Return what is different between two snapshots of this workspace.

    Raises:
        InvalidInputError: one of them is something else. NotFoundError: there is no such snapshot.
    """
    from jupyter_mlp.differences import diff

    for ref in (before, after):
        if ref.kind != "snapshot":
            raise InvalidInputError(f"{ref.short} is no snapshot.", "Name two: snapshot:ID")
    return diff(str(before), str(after)).to_dict()


def traffic(workspace: Workspace, name: str) -> dict[str, Any]:
    """Return what an endpoint answered in the last minutes: rate, latency, errors, and requests by time and by model."""
    from jupyter_mlp.serving import requests_log
    from jupyter_mlp.store import deployments

    reference = deployments.newest(workspace, name)
    folder = deployments.folder(workspace, reference.name)
    now = time.time()
    entries = [one for one in requests_log.newest(folder.requests, _TAIL) if one.time > now - _LATELY_S]
    answered = sorted(one.ms for one in entries if one.status == 200 and not one.shadow)
    asked = [one for one in entries if not one.shadow]
    bars = [0] * _BARS
    for one in asked:
        bars[max(0, _BARS - 1 - int((now - one.time) / _LATELY_S * _BARS))] += 1
    return {
        "name": reference.name,
        "seconds": _LATELY_S,
        "requests": len(asked),
        "per_s": round(len(asked) / _LATELY_S, 3),
        "errors": sum(one.status != 200 for one in asked),
        "p50_ms": _at(answered, 0.5),
        "p95_ms": _at(answered, 0.95),
        "bars": bars,
        "models": {model: sum(one.model == model for one in asked) for model in {one.model for one in asked if one.model}},
    }


def end_of_log(workspace: Workspace, ref: Ref) -> str:
    """Return the end of what a run printed."""
    from jupyter_mlp.store import attempts, jobs

    if ref.kind != "run":
        raise InvalidInputError(f"{ref.short} has no log.", "Runs have one: run:ID.")
    return attempts.log(jobs.folder_of(workspace, ref.name))[-_LOG:]


def _words(verb: Verb, given: dict[str, Any]) -> list[str]:
    """Write the arguments as the words of a command line, which the verb's own table checks."""
    taken = {_name(one): one for one in verb.options if _name(one) in TAKEN[verb.name]}
    words: list[str] = []
    last: list[str] = []
    for name, value in given.items():
        option = taken.get(name)
        if option is None:
            raise InvalidInputError(f"{verb.name} takes no {name[:40]!r} here.", f"It takes: {', '.join(taken) or 'nothing'}.")
        if value is None or value is False:
            continue
        flag = option.flags[-1]
        if not flag.startswith("-"):
            last.append(str(value))
        elif option.settings.get("action") == "store_true":
            if value is not True:
                raise InvalidInputError(f"{name} is {value!r}, not true or false.", f'Write "{name}": true.')
            words.append(flag)
        else:
            words.append(f"{flag}={value}")
    return [*words, *(["--", *last] if last else [])]


def _name(option: Option) -> str:
    return option.flags[-1].lstrip("-").replace("-", "_")


def _at(values: list[float], share: float) -> float | None:
    return round(values[min(len(values) - 1, math.floor(len(values) * share))], 2) if values else None
