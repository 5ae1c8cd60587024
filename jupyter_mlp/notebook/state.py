"""Inside the kernel of a run: what each cell changed is written down after it, and given back to another kernel later.

One line of JSON a cell, appended before the kernel says that the cell is done:

    {"at": 4, "set": {"rows": {...}}, "gone": ["x"], "random": {...}, "cwd": "...", "blocked": {"model": "a Ridge cannot cross"}}

Where nothing is blocked, a new kernel can go on behind that cell. Modules, functions and classes are not written down:
the statements that define them run again, for they define the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import re
import sys
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_mlp.notebook import secrets
from jupyter_mlp.notebook.crossing import SECRET, SECRET_NAME, CannotCrossError, Encoder, decode

VALUES = "values"  # the folder of arrays and tables, beside the files of lines
_OWN = re.compile(r"_+|_i+|_[ido]?h|_i?\d+|In|Out|exit|quit|get_ipython|open")
OVER = "This cell did not run: the one before it ended the run."
_LOOKED_AT = 100_000  # characters of a text
_FREE_S, _SHARE = 0.3, 0.2  # writing may take so many seconds, and beyond that so much of the run's time


class Keeper:
    """Writes down what cells change.

    Args:
        cells: what is known of each cell, by its source: {"names" (what it touches; None: anything), "makes", "defines" (those of
            them that a definition binds), "blocks" (why nothing can go on behind it), "sets_environment", "may_fail"}.
        defined: names that definitions have bound before.
    """

    def __init__(self, shell: Any, path: Path, cells: Mapping[str, Mapping[str, Any]], defined: Sequence[str] = ()) -> None:
        self.shell, self.cells = shell, cells
        self.at = 0
        self.folder = path.parent / VALUES
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.begun, self.spent = time.perf_counter(), 0.0
        self.seen: dict[str, Any] = {}
        self.stored: dict[str, Any] = {}
        self.things: dict[str, set[int]] = {}
        self.blocked: dict[str, str] = {}
        self.late: set[str] = set()  # changed, and not yet written for want of time
        self.defined = set(defined)
        self.always = ""
        self.environment = dict(os.environ)
        self.secrets = frozenset(secrets.sensitive().values())
        self.random: dict[str, Any] = {}
        self.cwd = ""
        self.over = False

    def accept(self, lines: list[str]) -> list[str]:
        """Refuse what was sent ahead of a cell that ended the run; IPython calls it before it runs anything."""
        from IPython.core.error import InputRejected

        if self.over or self.shell.exit_now:
            raise InputRejected(OVER)
        return lines

    def note(self, result: Any) -> None:
        """Write down what the cell that just ended changed; the kernel calls it."""
        told = self.cells.get(result.info.raw_cell) if result.info is not None and result.info.store_history else None
        if told is None:
            return
        self.over = not result.success and not told["may_fail"]
        begun = time.perf_counter()
        self.at += 1
        self.defined = (self.defined - set(told["makes"])) | set(told["defines"])
        self.always = self.always or told["blocks"]
        if dict(os.environ) != self.environment:
            self.environment = dict(os.environ)
            self.always = self.always or ("" if told["sets_environment"] else "it changed the environment")
        touched = None if told["names"] is None else set(told["names"])
        line = self._changes(touched, begun)
        self._write({"at": self.at, **line})
        self.spent += time.perf_counter() - begun

    def _changes(self, touched: set[str] | None, begun: float) -> dict[str, Any]:
        now = dict(_variables(self.shell))
        gone = [name for name in self.seen if name not in now]
        for name in gone:
            self._forget(name)
        if self.always:
            return {"set": {}, "gone": gone, "blocked": {"": self.always}}
        changed = {name for name, value in now.items() if name not in self.seen or self.seen[name] is not value}
        again = now.keys() if touched is None else touched & now.keys()
        changed |= {name for name in again if not isinstance(now[name], int | float | str | bool | types.ModuleType | None)} | self.late
        allowed = _FREE_S + _SHARE * (begun - self.begun) - self.spent
        written: dict[str, Any] = {}
        self.late = set()
        for name in changed & now.keys():
            if time.perf_counter() - begun > allowed:
                self.late.add(name)
                continue
            before = self.stored.get(name)
            self._keep(name, now[name])
            if name in self.stored and self.stored[name] != before:
                written[name] = self.stored[name]
        line = {"set": written, "gone": gone, "blocked": self._blocked()}
        return line | self._surroundings()

    def _keep(self, name: str, value: Any) -> None:
        self._forget(name)
        self.seen[name] = value
        if getattr(value, "__module__", None) == "__main__" and isinstance(getattr(value, "__name__", None), str):
            if name in self.defined and value.__name__ == name:
                self.stored[name] = {"t": "defined", "v": name}
            else:
                self.blocked[name] = f"no statement of a cell defines {name}"
            return
        encoder = Encoder(self.folder, self.secrets)
        try:
            if isinstance(value, str) and (SECRET_NAME.search(name) or next(secrets.in_values({name: value[:_LOOKED_AT]}, "", {}), None)):
                raise CannotCrossError(SECRET)
            self.stored[name] = encoder.encode(value)
            self.things[name] = encoder.things
        except CannotCrossError as error:
            self.blocked[name] = f"{name}: {error}"
        except (OSError, MemoryError) as error:  # a full disk is no mistake of the cell
            self.blocked[name] = f"{name} could not be written: {error}"

    def _forget(self, name: str) -> None:
        for kept in (self.seen, self.stored, self.things, self.blocked):
            kept.pop(name, None)

    def _blocked(self) -> dict[str, str]:
        """Why nothing can go on behind this cell; one thing with two names would be two things afterwards."""
        found = {**self.blocked, **dict.fromkeys(self.late, "there was no time to write it")}
        owner: dict[int, str] = {}
        for name, things in self.things.items():
            for thing in things:
                other = owner.setdefault(thing, name)
                if other != name:
                    found[name] = f"{name} and {other} are one thing"
        return found

    def _surroundings(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        drawn = {name: state for name, state in _random_states() if self.random.get(name) != state}
        if drawn:
            self.random |= drawn
            found["random"] = {name: Encoder(self.folder).encode(state) for name, state in drawn.items()}
        if os.getcwd() != self.cwd:
            found["cwd"] = self.cwd = os.getcwd()
        return found

    def _write(self, line: Mapping[str, Any]) -> None:
        try:
            os.write(self.file, b"\n" + json.dumps(line, separators=(",", ":")).encode("utf-8", "surrogatepass"))
        except OSError as error:
            self.always = self.always or f"what it left could not be written: {error}"


def keep(request: str) -> None:
    """Begin to write down what cells change, after giving this kernel what earlier cells left; the run calls it.

    Args:
        request: a file of JSON: {"path", "cells", "defined", "count", "fresh", "lock", "behind": [[path, cell], ...], "replay", "ran"}.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    asked = json.loads(Path(request).read_text(encoding="utf-8"))
    before: Keeper | None = getattr(shell, "_mlp_keeper", None)
    if before is None:  # whoever goes on with the run waits until the kernels of the try before have ended
        shell._mlp_lock = os.open(asked["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(shell._mlp_lock, fcntl.LOCK_SH)
    else:
        shell.events.unregister("post_run_cell", before.note)
        shell.input_transformers_cleanup.remove(before.accept)
        os.close(before.file)
    if asked["behind"]:
        _restore(shell, asked)
    keeper = Keeper(shell, Path(asked["path"]), asked["cells"], asked["defined"])
    shell._mlp_keeper = keeper
    _count_on(shell, asked["count"])
    shell.events.register("post_run_cell", keeper.note)
    shell.input_transformers_cleanup.append(keeper.accept)


def ends(path: Path) -> set[int]:
    """Return the numbers of the cells behind which another kernel can go on."""
    return {line["at"] for line in _lines(path) if not line["blocked"]}


def behind(path: Path, at: int) -> dict[str, Any]:
    """Return what a kernel held behind its cell number `at`, as it is stored.

    Raises:
        LookupError: nothing can go on there.
    """
    found: dict[str, Any] = {"values": {}, "random": {}, "cwd": ""}
    for line in _lines(path):
        for name in line["gone"]:
            found["values"].pop(name, None)
        found["values"] |= line["set"]
        found["random"] |= line.get("random", {})
        found["cwd"] = line.get("cwd", found["cwd"])
        if line["at"] == at and not line["blocked"]:
            return found
    raise LookupError(f"Nothing can go on behind cell {at} of {path}.")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    texts = path.read_bytes().splitlines() if path.is_file() else []
    for text in texts:
        with contextlib.suppress(ValueError):  # the kernel was killed while it wrote
            yield json.loads(text)


def _restore(shell: Any, asked: Mapping[str, Any]) -> None:
    from IPython.utils.capture import capture_output

    with capture_output():
        for source in asked["replay"]:
            done = shell.run_cell(source, store_history=False, silent=True)
            if not done.success:
                raise RuntimeError(f"What defined names once does not any more: {source[:80]!r}")
    found = [(Path(path), behind(Path(path), at)) for path, at in asked["behind"]]
    if asked["fresh"]:
        has = {name for _, left in found for name in left["values"]}
        for name in [name for name, _ in _variables(shell) if name not in has]:
            del shell.user_ns[name]  # deleted since
    for path, left in found:
        values = path.parent / VALUES
        for name, stored in left["values"].items():
            if not (isinstance(stored, dict) and stored["t"] == "defined"):
                shell.user_ns[name] = decode(stored, values)
        _set_random({name: decode(stored, values) for name, stored in left["random"].items()})
        os.chdir(left["cwd"] or ".")
    if asked["fresh"]:
        history = shell.history_manager  # what trainings and snapshots take from the cells that ran
        history.input_hist_parsed[1:] = [python for _, python in asked["ran"]]
        history.input_hist_raw[1:] = [source for source, _ in asked["ran"]]


def _count_on(shell: Any, count: int) -> None:
    """Go on counting as if the cells that others run had run here."""
    shell.execution_count = count
    for kept in (shell.history_manager.input_hist_parsed, shell.history_manager.input_hist_raw):
        kept.extend([""] * (count - len(kept)))


def _variables(shell: Any) -> Iterator[tuple[str, Any]]:
    hidden = shell.user_ns_hidden
    for name, value in list(shell.user_ns.items()):
        if not _is_own(name) and hidden.get(name, hidden) is not value:
            yield name, value


@functools.lru_cache(maxsize=100_000)  # IPython keeps a name or two for every cell, and all are looked at after each
def _is_own(name: str) -> bool:
    return bool(_OWN.fullmatch(name)) or name.startswith("__")


def _random_states() -> Iterator[tuple[str, Any]]:
    for name in ("random", "numpy", "torch"):
        module = sys.modules.get(name)
        if module is None:
            continue
        if name == "random":
            yield name, module.getstate()
        elif name == "numpy" and "numpy.random" in sys.modules:
            kind, keys, *rest = module.random.get_state()
            yield name, (kind, keys.tobytes(), *rest)
        elif name == "torch" and hasattr(module, "get_rng_state"):
            yield name, module.get_rng_state().numpy().tobytes()


def _set_random(states: Mapping[str, Any]) -> None:
    for name, state in states.items():
        if name == "random":
            import random

            random.setstate(state)
        elif name == "numpy":
            import numpy

            numpy.random.set_state((state[0], numpy.frombuffer(state[1], dtype=numpy.uint32), *state[2:]))
        else:
            import torch

            torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
