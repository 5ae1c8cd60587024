"""papermill's own public test notebooks, run by papermill and by us: the same ending and the same outputs, where papermill's are right.

python tests/proof_papermill.py

The notebooks come out of papermill's source distribution, in the version that is installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import nbformat

LEFT_OUT = {
    "binder.ipynb": "it runs papermill on a path of its repository",
    "keyboard_interrupt.ipynb": "it waits for somebody to interrupt it",
    "notimplemented_translator.ipynb": "it is in R",
}
# A notebook that ends itself is complete for papermill, though cells of it never ran: there ours says what happened.
ENDS_ITSELF = {"sysexit.ipynb", "sysexit0.ipynb", "systemexit.ipynb"}


def notebooks(folder: Path) -> list[Path]:
    """Fetch papermill's sources, and return the notebooks of its tests."""
    wanted = f"papermill=={metadata.version('papermill')}"
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--quiet", "--dest", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, wanted], check=True, stderr=subprocess.DEVNULL)
    with tarfile.open(next(folder.glob("papermill-*.tar.gz"))) as packed:
        packed.extractall(folder, filter="data")
    return sorted(folder.glob("papermill-*/papermill/tests/notebooks/**/*.ipynb"))


def outputs(path: Path) -> list[Any]:
    """What each cell shows, without what says where and when it ran."""
    found = []
    for cell in nbformat.read(path, 4).cells:
        if cell.cell_type != "code" or "injected-parameters" in cell.metadata.get("tags", ()):
            continue
        shown = [(one.get("name"), one.get("text"), one.get("data"), one.get("ename"), one.get("evalue")) for one in cell.outputs]
        streams = {name: "".join(text for other, text, *_ in shown if other == name) for name in ("stdout", "stderr")}
        found.append([streams, [rest for name, _, *rest in shown if not name]])
    return found


def theirs(path: Path, output: Path) -> tuple[str, list[Any]]:
    """How papermill alone ends with it."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        papermill.execute_notebook(
            str(path), str(output), kernel_name="python3", language="python", progress_bar=False, cwd=str(path.parent)
        )
    except PapermillExecutionError as error:
        _take_marks_away(output)
        return f"failed with {error.ename}", outputs(output)
    except DeadKernelError:
        return "died", outputs(output)
    return "completed", outputs(output)


def ours(path: Path, output: Path) -> tuple[str, list[Any]]:
    """How `mlp run` ends with it."""
    import jupyter_mlp as mlp
    from jupyter_mlp.core.errors import JobError

    try:
        mlp.run_notebook(path, output=output, fresh=True)
    except JobError as error:
        for words, ending in (("ended itself", "ended itself"), ("The kernel died", "died")):
            if words in error.message:
                return ending, outputs(output)
        _take_marks_away(output)
        failed = [one.ename for cell in nbformat.read(output, 4).cells for one in cell.get("outputs", ()) if one.output_type == "error"]
        return f"failed with {[*failed, 'CellExecutionError'][0]}", outputs(output)  # papermill's word where no error was shown
    return "completed", outputs(output)


def _take_marks_away(path: Path) -> None:
    """papermill puts a cell on top of a notebook that failed, which says where."""
    from papermill.execute import remove_error_markers

    nbformat.write(remove_error_markers(nbformat.read(path, 4)), path)


def main() -> int:
    """Run them all; 1 when one ends or shows otherwise."""
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        os.environ["MLP_WORKSPACE"] = str(Path(place, "workspace"))
        found = notebooks(Path(place))
        for path in found:
            if path.name in LEFT_OUT:
                print(f"{path.name}: left out, {LEFT_OUT[path.name]}")
                continue
            (ending, shown), (own_ending, own_shown) = theirs(path, Path(place, "theirs.ipynb")), ours(path, Path(place, "ours.ipynb"))
            wanted = "ended itself" if path.name in ENDS_ITSELF and ending == "completed" else ending
            same = own_ending == wanted and own_shown == shown
            wrong += not same
            print(f"{path.name}: papermill {ending}, ours {own_ending}" + ("" if same else f"; {shown} | {own_shown}"), flush=True)
        print(f"{len(found) - len(LEFT_OUT) - wrong} of {len(found) - len(LEFT_OUT)} ended and showed the same")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
