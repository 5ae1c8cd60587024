"""What ran in this kernel, in what order, and what each cell showed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyter_mlp.store import modes


@dataclass(frozen=True)
class Cell:
    """One executed cell.

    Attributes:
        count: its execution count. `source`: as typed. `python`: with magics turned into calls.
        ok: whether it ended without an exception; `outputs`: what it showed, as nbformat output dicts.
        id: the cell's id in its notebook, where the front end says so.
    """

    count: int
    source: str
    python: str
    ok: bool = True
    outputs: tuple[dict[str, Any], ...] = ()
    id: str = ""


@dataclass
class _Log:
    failed: set[int] = field(default_factory=set)
    ids: dict[int, str] = field(default_factory=dict)


def start(shell: Any) -> None:
    """Begin to note which cells fail and which cell of the notebook each is; IPython keeps the rest itself."""
    if getattr(shell, "_mlp_log", None) is not None:
        return
    log = shell._mlp_log = _Log()

    def note(result: Any) -> None:
        if result.info is None or not result.info.store_history:
            return
        count = modes.running_cell(shell)
        if not result.success:
            log.failed.add(count)
        if getattr(result.info, "cell_id", None):
            log.ids[count] = result.info.cell_id

    shell.events.register("post_run_cell", note)
    register = getattr(shell.display_pub, "register_hook", None)  # kernels have it, terminals do not
    if register is not None:
        register(_keep_displays(shell))


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
    if shell is None:
        return []
    raw, python = shell.history_manager.input_hist_raw, shell.history_manager.input_hist_parsed
    log = getattr(shell, "_mlp_log", None) or _Log()
    return [
        Cell(count, raw[count], python[count], count not in log.failed, _outputs(shell, count), log.ids.get(count, ""))
        for count in range(1, modes.running_cell(shell))
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
