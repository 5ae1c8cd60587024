"""What ran in this kernel, in what order, and what each cell showed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyter_mlp.store import modes


@dataclass(frozen=True)
class Cell:
    """One executed cell.

    Attributes:
        count: its execution count. `source`: as typed. `python`: with magics turned into calls.
        ok: whether it ended without an exception; `error`: what it said otherwise.
        outputs: what it showed, as nbformat output dicts.
        id: the cell's id in its notebook, where the front end says so.
        observed: names that mean something else since it ran, whatever its source says.
        at: when it began, seconds since 1970; 0 where nobody looked yet.
    """

    count: int
    source: str
    python: str
    ok: bool = True
    outputs: tuple[dict[str, Any], ...] = ()
    id: str = ""
    error: str = ""
    observed: frozenset[str] = frozenset()
    at: float = 0.0


@dataclass(repr=False, eq=False)
class _Log:
    """What is known of a cell, by its execution count."""

    failed: dict[int, str] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    observed: dict[int, frozenset[str]] = field(default_factory=dict)
    at: dict[int, float] = field(default_factory=dict)
    before: dict[str, int] | None = None  # name -> identity of its value, when the running cell began
    began: float = 0.0


def start(shell: Any) -> None:
    """Begin to note which cells fail, what each makes, and which cell of the notebook it is; IPython keeps the rest itself."""
    if getattr(shell, "_mlp_log", None) is not None:
        return
    log = shell._mlp_log = _Log()

    def look(info: Any = None) -> None:
        modes.note_cell_id(shell, getattr(info, "cell_id", None))
        log.before, log.began = _identities(shell), time.time()

    def note(result: Any) -> None:
        if result.info is None or not result.info.store_history:
            return
        count = modes.running_cell(shell)
        if log.before is not None:
            log.observed[count] = _changed(log.before, _identities(shell))
            log.at[count] = log.began
        if not result.success:
            error = result.error_before_exec or result.error_in_exec
            log.failed[count] = f"{type(error).__name__}: {error}".splitlines()[0][:120]
        if getattr(result.info, "cell_id", None):
            log.ids[count] = result.info.cell_id

    shell.events.register("pre_run_cell", look)
    shell.events.register("post_run_cell", note)
    register = getattr(shell.display_pub, "register_hook", None)  # kernels have it, terminals do not
    if register is not None:
        register(_keep_displays(shell))


def _identities(shell: Any) -> dict[str, int]:
    return {name: id(value) for name, value in shell.user_ns.items() if not name.startswith("_")}


def _changed(before: Mapping[str, int], after: Mapping[str, int]) -> frozenset[str]:
    """Names that mean something else now. A value's identity may be given again, but then the source names it anyway."""
    return frozenset(name for name in {*before, *after} if before.get(name) != after.get(name))


def _keep_displays(shell: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Put what a kernel displays into IPython's own record, which holds what is printed and returned only."""
    from IPython.core.history import HistoryOutput

    shown: dict[str, Any] = {}

    def keep(message: dict[str, Any]) -> dict[str, Any]:
        content, outputs, count = message["content"], shell.history_manager.outputs, modes.running_cell(shell)
        display_id = content.get("transient", {}).get("display_id")
        if message["msg_type"] == "clear_output":
            outputs.pop(count, None)
        elif message["msg_type"] == "update_display_data":
            if display_id in shown:
                shown[display_id].bundle = content["data"]
        else:
            output = HistoryOutput(output_type="display_data", bundle=content["data"])
            outputs[count].append(output)
            if display_id:
                shown[display_id] = output
        return message

    return keep


def executed_cells(shell: Any = None) -> list[Cell]:
    """Return the cells that ran in this kernel before the one that runs now; none outside IPython."""
    shell = shell or modes.running_shell()
    return [] if shell is None else _cells(shell, modes.running_cell(shell))


def finished_cells(shell: Any) -> list[Cell]:
    """Return the cells that ran in this kernel, asked between two of them: nothing runs now."""
    return _cells(shell, modes.running_cell(shell) + 1)


def _cells(shell: Any, end: int) -> list[Cell]:
    raw, python = shell.history_manager.input_hist_raw, shell.history_manager.input_hist_parsed
    log = getattr(shell, "_mlp_log", None) or _Log()
    return [
        Cell(
            count,
            raw[count],
            python[count],
            count not in log.failed,
            _outputs(shell, count),
            log.ids.get(count, ""),
            log.failed.get(count, ""),
            log.observed.get(count, frozenset()),
            log.at.get(count, 0.0),
        )
        for count in range(1, end)
        if raw[count].strip()
    ]


def sources(shell: Any = None) -> list[str]:
    """Return the python sources of all cells that ran in this kernel, the one that runs now included."""
    shell = shell or modes.running_shell()
    return [] if shell is None else list(shell.history_manager.input_hist_parsed[1:])


def variables(shell: Any = None) -> Mapping[str, Any]:
    """Return the notebook's variables; empty outside IPython."""
    shell = shell or modes.running_shell()
    found: Mapping[str, Any] = {} if shell is None else shell.user_ns
    return found


def _outputs(shell: Any, count: int) -> tuple[dict[str, Any], ...]:
    """Turn IPython's own record of what was shown into nbformat outputs."""
    found: list[dict[str, Any]] = []
    for output in getattr(shell.history_manager, "outputs", {}).get(count, ()):
        bundle = dict(output.bundle)
        if output.output_type in ("out_stream", "err_stream"):
            text = bundle.get("stream", "")
            name = "stdout" if output.output_type == "out_stream" else "stderr"
            found.append({"output_type": "stream", "name": name, "text": "".join(text) if isinstance(text, list) else text})
        elif output.output_type == "execute_result":
            found.append({"output_type": "execute_result", "execution_count": count, "data": bundle, "metadata": {}})
        else:
            found.append({"output_type": "display_data", "data": bundle, "metadata": {}})
    failed = shell.history_manager.exceptions.get(count)
    if failed:
        told = {name: failed[name] for name in ("ename", "evalue", "traceback")}
        found.append({"output_type": "error", **told})
    return tuple(found)
