"""Notebooks with one planted fault each: verification names the cause, calls no faulty one identical and no clean one different.

python tests/proof_faults.py [--most 100] [--runs 3] [--kind file]
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import itertools
import os
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import faults
import nbformat
from faults import STOPPED, Case


@contextlib.contextmanager
def changing() -> Iterator[str]:
    """A server that answers with another number each time; yields its address."""
    numbers = itertools.count(1)

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(str(next(numbers)).encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@contextlib.contextmanager
def visible(place: Path) -> Iterator[None]:
    """What is installed there is installed for this process and those that it starts."""
    before = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(place), str(Path(__file__).resolve().parent.parent), before]))
    sys.path.insert(0, str(place))
    try:
        yield
    finally:
        sys.path.remove(str(place))
        os.environ["PYTHONPATH"] = before


def taken(case: Case, folder: Path) -> str:
    """Run the notebook in a kernel of its own, save it, and return its snapshot."""
    from nbclient import NotebookClient

    import jupyter_mlp as mlp

    folder.mkdir()
    case.before(folder)
    node = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in case.cells])
    client = NotebookClient(node, kernel_name="python3", resources={"metadata": {"path": str(folder)}}, timeout=120)
    with client.setup_kernel():
        for place, cell in enumerate(node.cells):
            case.between.get(place, lambda folder: None)(folder)
            client.execute_cell(cell, place)
    if case.swap:
        one, other = case.swap
        node.cells[one], node.cells[other] = node.cells[other], node.cells[one]
    nbformat.write(node, folder / "study.ipynb")
    (folder / "ran").unlink(missing_ok=True)
    return mlp.snapshot(folder / "study.ipynb", weak=case.swap is not None).ref


def fault(case: Case, folder: Path) -> str:
    """Plant it and verify; return what was wrong with what was said, empty when it was right."""
    import jupyter_mlp as mlp
    from jupyter_mlp.core.errors import StorageError

    with visible(faults.site(folder)):
        ref = taken(case, folder)
        case.after(folder)
        try:
            found = mlp.verify(ref)
        except StorageError as error:
            named = re.search(r"table:lake\.\w+@\d+ is gone", error.message)
            ran = (folder / "ran").exists()
            return "" if case.cause == STOPPED and named and not ran else f"stopped: {error.message}; something had run: {ran}"
    told = [(cell.number, cell.verdict, cell.cause) for cell in found.cells if cell.verdict in ("different", "failed")]
    if found.ok:
        return "called identical"
    return "" if told and {cause for _, _, cause in told} == {case.cause} else f"said {told}"


def clean(case: Case, folder: Path, runs: int) -> str:
    """Verify the same notebook without its fault so often; return what was wrong."""
    import jupyter_mlp as mlp

    with visible(faults.site(folder)):
        ref = taken(Case(case.kind, case.name, case.cells, "", case.before), folder)
        if case.kind in ("table", "deleted"):  # the world goes on, and the snapshot does not
            faults.move_on(case)
        for run in range(1, runs + 1):
            found = mlp.verify(ref)
            if not found.ok:
                return f"run {run}: {[(cell.number, cell.verdict, cell.cause, cell.detail) for cell in found.cells if cell.detail]}"
    return ""


def clean_cases(all_cases: list[Case], most: int) -> list[Case]:
    """The clean twins: of what is drawn with a seed; of the others without what happens to them. Clocks have none."""
    twins = [faults.seeded(case) if case.kind == "random" else case for case in all_cases if case.kind != "clock"]
    return [case for case in twins if case is not None][:most]


def main() -> int:
    """Plant all faults; 1 when too many causes are wrong, a faulty notebook passed, or a clean one did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=1000, help="faulty notebooks")
    parser.add_argument("--clean", type=int, default=24, help="clean notebooks")
    parser.add_argument("--runs", type=int, default=3, help="of each clean notebook")
    parser.add_argument("--kind", choices=faults.KINDS)
    given = parser.parse_args()
    begun = time.perf_counter()
    right, of, passed = Counter[str](), Counter[str](), 0
    with tempfile.TemporaryDirectory() as place, changing() as address:
        os.environ["MLP_WORKSPACE"] = str(Path(place, "workspace"))
        known = [case for case in faults.cases(address) if given.kind in (None, case.kind)]
        for number, case in enumerate(known[: given.most]):
            said = fault(case, Path(place, f"faulty-{number}"))
            of[case.kind] += 1
            right[case.kind] += not said
            passed += said == "called identical"
            if said:
                print(f"{case.kind}, {case.name}: {said}", flush=True)
        os.environ["MLP_WORKSPACE"] = str(Path(place, "clean"))  # another one: what was deleted there stays deleted
        twins = clean_cases(known, given.clean)
        different = 0
        for number, case in enumerate(twins):
            said = clean(case, Path(place, f"clean-{number}"), given.runs)
            different += bool(said)
            if said:
                print(f"clean, {case.kind}, {case.name}: {said}", flush=True)
    for kind in of:
        print(f"  {kind:<8} {right[kind]:>3} of {of[kind]:>3} named rightly")
    share = right.total() / max(of.total(), 1)
    print(f"{right.total()} of {of.total()} causes named rightly ({share:.1%}), {passed} faulty notebooks called identical,")
    print(f"{different} of {len(twins)} clean ones called different in {given.runs} runs each; {time.perf_counter() - begun:,.0f} s")
    return int(share < 0.95 or passed > 0 or different > 0)


if __name__ == "__main__":
    sys.exit(main())
