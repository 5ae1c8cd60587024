"""What ran in this kernel, in what order, and what each cell showed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One executed cell.

    Attributes:
        count: its execution count. `source`: as typed. `python`: with magics turned into calls.
        ok: whether it ended without an exception; `outputs`: what it showed, as nbformat output dicts.
    """

    count: int
    source: str
    python: str
    ok: bool = True
    outputs: tuple[dict[str, Any], ...] = ()


@dataclass
class _Log:
    failed: set[int] = field(default_factory=set)


def start(shell: Any) -> None:
    """Begin to note which cells fail; IPython keeps the rest itself. Starting twice changes nothing."""
    if getattr(shell, "_mlp_log", None) is not None:
        return
    log = shell._mlp_log = _Log()

    def note(result: Any) -> None:
        if not result.success:
            log.failed.add(shell.execution_count)

    shell.events.register("post_run_cell", note)


def executed_cells(shell: Any = None) -> list[Cell]:
    """Return the cells that ran in this kernel before the one that runs now; none outside IPython."""
    shell = shell or running_shell()
    if shell is None:
        return []
    raw, python = shell.history_manager.input_hist_raw, shell.history_manager.input_hist_parsed
    failed: set[int] = getattr(getattr(shell, "_mlp_log", None), "failed", set())
    return [
        Cell(count, raw[count], python[count], count not in failed, _outputs(shell, count))
        for count in range(1, min(len(raw), shell.execution_count))
        if raw[count].strip()
    ]


def sources(shell: Any = None) -> list[str]:
    """Return the python sources of all cells that ran in this kernel, the one that runs now included."""
    shell = shell or running_shell()
    return [] if shell is None else list(shell.history_manager.input_hist_parsed[1 : shell.execution_count + 1])


def variables(shell: Any = None) -> Mapping[str, Any]:
    """Return the notebook's variables; empty outside IPython."""
    shell = shell or running_shell()
    found: Mapping[str, Any] = {} if shell is None else shell.user_ns
    return found


def running_shell() -> Any:
    """Return the IPython shell of this process, or None, without importing IPython."""
    import sys

    module = sys.modules.get("IPython")
    return module.get_ipython() if module else None


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
    return tuple(found)
