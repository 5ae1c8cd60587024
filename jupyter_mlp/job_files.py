"""The same scheduled notebook for another scheduler: the files of `templates/schedules`, filled in. Values are quoted, never executed."""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_mlp.core import systemd
from jupyter_mlp.core.cards import Card, Shown, Table
from jupyter_mlp.core.errors import InvalidInputError, nearest
from jupyter_mlp.notebook.document import Document
from jupyter_mlp.store import templates
from jupyter_mlp.store.artifacts import publish_bytes

_NEXT = {
    "cron": "crontab -l | cat - {0} | crontab -    (crontab {0} alone would take the place of all your other jobs)",
    "systemd": "cp {0} {1} ~/.config/systemd/user/ && systemctl --user enable --now {1.name}",
    "airflow": "Put {0} into Airflow's folder of DAGs; try it there: airflow dags test {0.stem}",
    "argo": "Name your image and claim in it, then: kubectl create -f {0}",
    "slurm": "scrontab -e, and add what {1} has",
}
_NO_RETRIES, _OWN_ORDER = ("cron", "slurm"), "the scheduler's own settings say whom to tell of failures"


@dataclass(frozen=True, repr=False)
class JobFiles(Shown):
    """The files that another scheduler takes.

    Attributes:
        template: for which scheduler. `files`: where they lie.
    """

    name: str
    template: str
    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def ref(self) -> str:
        """Files have no reference."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return name, template and paths as JSON types."""
        return {"kind": "job files", "name": self.name, "template": self.template, "files": [str(path) for path in self.files]}

    def card(self) -> Card:
        """Return the files and what to do with them."""
        return Card(f"{self.name} for {self.template}", tables=[Table(["file"], [[path] for path in self.files])], notes=self.notes)


def write(spec: Mapping[str, Any], file: Document, name: str, template: str, folder: Path, workspace: Path) -> JobFiles:
    """Write a schedule's files for another scheduler into a folder and return them.

    Args:
        spec: the schedule, checked. `template`: a name of ours, or the path of a site's own folder of that name.

    Raises:
        InvalidInputError: there is no such template, or it cannot say what the schedule says.
    """
    where = _folder(template)
    kind = where.name
    if not spec.get("cron"):
        raise InvalidInputError(f"{kind} knows no tables of ours.", "Give --cron, or schedule it without --template.")
    argv = ["run", str(spec["notebook"]), *_parameters(spec["parameters"], file)]
    words = _WORDS[kind](spec, name, argv, folder.absolute(), workspace)
    made = []
    for source in sorted(where.iterdir()):
        path = folder.absolute() / source.name.replace("NAME", name)
        publish_bytes(path, templates.rendered("", words | {"name": name, "file": path.name}, str(source)).encode())
        made.append(path)
    return JobFiles(name, kind, tuple(made), tuple(_notes(spec, kind, made if template == kind else ())))


def _folder(template: str) -> Path:
    folder = Path(template).expanduser() if "/" in template else templates.ours("schedules") / template
    if folder.name not in _WORDS or not folder.is_dir():
        raise InvalidInputError(f"There is no template {template!r:.80}.", nearest(folder.name, _WORDS) or f"Known: {', '.join(_WORDS)}.")
    return folder


def _parameters(given: Mapping[str, Any], file: Document) -> list[str]:
    """As they are typed: a text as it is where the notebook says that it is one, anything else as Python writes it."""
    shown = {name: value if file.parameters[name].type is str else repr(value) for name, value in given.items()}
    return [word for name, value in shown.items() for word in ("-p", f"{name}={value}")]


def _notes(spec: Mapping[str, Any], kind: str, made: Sequence[Path]) -> list[str]:
    found = [_NEXT[kind].format(*made)] if made else []  # a site knows what to do with its own
    if spec["retries"] and kind in _NO_RETRIES:
        found.append(f"{kind} tries nothing again: --retries is left out")
    return [*found, *([f"--notify is left out: {_OWN_ORDER}"] if spec["notify"] else [])]


def _one_line(text: str, kind: str) -> str:
    if re.search(r"[\r\n\0]", text):
        raise InvalidInputError(f"A line of {kind} cannot hold {text!r:.60}.", "Give a value without line breaks, or another --template.")
    return text


def _command() -> list[str]:
    return [sys.executable, "-m", "jupyter_mlp.frontends.cli"]


def _cron(spec: Mapping[str, Any], name: str, argv: list[str], folder: Path, workspace: Path) -> dict[str, str]:
    limit = [] if spec["timeout_s"] is None else ["timeout", f"{spec['timeout_s']:g}"]
    alone = ["flock", "-n", str(folder / f".{name}.lock")] if spec["max_running"] == 1 else []
    line = f"{shlex.join([*alone, *limit, *_command(), *argv])} >>{shlex.quote(str(folder / f'{name}.log'))} 2>&1"
    return {
        "cron": spec["cron"],
        "zone": spec["tz"],
        "workspace": _one_line(str(workspace), "cron"),
        "command": _one_line(line, "cron").replace("%", r"\%"),  # to cron a bare % ends the line
    }


def _systemd(spec: Mapping[str, Any], name: str, argv: list[str], folder: Path, workspace: Path) -> dict[str, str]:
    return {
        "command": systemd.quoted([*_command(), *argv]),
        "workspace": systemd.quoted([f"MLP_WORKSPACE={workspace}"], variables=False),
        "timeout": "infinity" if spec["timeout_s"] is None else f"{spec['timeout_s']:g}s",
        "restart": "on-failure" if spec["retries"] else "no",
        "backoff": f"{spec['backoff_s']:g}s",
        "starts": str(spec["retries"] + 1),
        "catch_up": "no" if spec["catch_up"] == "skip" else "yes",
        "calendar": "\n".join(f"OnCalendar={one}" for one in systemd.calendars(spec["cron"], spec["tz"])),
    }


def _airflow(spec: Mapping[str, Any], name: str, argv: list[str], folder: Path, workspace: Path) -> dict[str, str]:
    return {
        "command": repr([*_command(), *argv]),
        "workspace": repr(str(workspace)),
        "dag": repr(name),
        "cron": repr(spec["cron"]),
        "zone": repr(spec["tz"]),
        "catch_up": repr(spec["catch_up"] == "all"),
        "max_running": str(spec["max_running"]),
        "retries": str(spec["retries"]),
        "backoff": f"{spec['backoff_s']:g}",
        "timeout": "None" if spec["timeout_s"] is None else f"timedelta(seconds={spec['timeout_s']:g})",
    }


def _argo(spec: Mapping[str, Any], name: str, argv: list[str], folder: Path, workspace: Path) -> dict[str, str]:
    if any("{{" in word for word in argv):
        raise InvalidInputError("Argo would take {{ in a value for a word of its own.", "Give a value without {{, or another --template.")
    return {
        "arguments": json.dumps(argv),  # JSON is YAML
        "workspace": json.dumps(str(workspace)),
        "mount": json.dumps(str(workspace.parent)),
        "dag": json.dumps(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:52] or "notebook"),  # names of Kubernetes
        "cron": json.dumps(spec["cron"]),
        "zone": json.dumps(spec["tz"]),
        "concurrency": "Forbid" if spec["max_running"] == 1 else "Allow",
        "deadline": "0" if spec["catch_up"] == "skip" else "86400",
        "retries": str(spec["retries"]),
        "backoff": f"{math.ceil(spec['backoff_s'])}s",
        "timeout": "null" if spec["timeout_s"] is None else str(math.ceil(spec["timeout_s"])),
    }


def _slurm(spec: Mapping[str, Any], name: str, argv: list[str], folder: Path, workspace: Path) -> dict[str, str]:
    return {
        "command": shlex.join([*_command(), *argv]),
        "workspace": shlex.quote(str(workspace)),
        "minutes": "0" if spec["timeout_s"] is None else str(math.ceil(spec["timeout_s"] / 60)),  # 0: no limit
        "script": _one_line(shlex.quote(str(folder / f"{name}.sbatch")), "slurm"),
        "cron": spec["cron"],
    }


_WORDS: dict[str, Callable[[Mapping[str, Any], str, list[str], Path, Path], dict[str, str]]] = {
    "cron": _cron,
    "systemd": _systemd,
    "airflow": _airflow,
    "argo": _argo,
    "slurm": _slurm,
}
