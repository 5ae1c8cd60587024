"""Notebooks run again: as pipelines through papermill, as snapshots verified cell by cell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import psutil
import pytest
from conftest import Notebook

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, JobError, NotFoundError, StorageError
from jupyter_mlp.frontends import cli
from jupyter_mlp.notebook.compare import DIFFERENT, IDENTICAL
from jupyter_mlp.notebook.verdicts import FAILED, NOT_RUN
from jupyter_mlp.store.workspace import Workspace

ROWS = pd.DataFrame({"month": [1, 2, 3], "value": [1.0, 2.0, 4.0]})
SETUP = "%load_ext jupyter_mlp\nimport pandas as pd"


def write(path: Path, *cells: str, parameters: str = "") -> Path:
    """A notebook file with these code cells."""
    made = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    made += [nbformat.v4.new_code_cell(cell) for cell in cells]
    node = nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
    nbformat.write(node, path)
    return path


def shown(path: Path) -> str:
    """Everything an executed notebook shows, as text."""
    return json.dumps([cell.get("outputs") for cell in nbformat.read(path, 4).cells])


# -- pipelines


def test_a_notebook_runs_with_typed_parameters(workspace: Workspace, tmp_path: Path) -> None:
    mlp.write_table("lake.t", ROWS)
    query = "%%mlp_data part -p month\nSELECT * FROM lake.t WHERE month >= :month"
    path = write(
        tmp_path / "nightly.ipynb",
        SETUP,
        query,
        "print('sum', part.to_pandas().value.sum(), label)",
        parameters="month: int = 1\nlabel = 'x'",
    )
    seen: list[dict[str, Any]] = []
    pipeline = mlp.to_pipeline(path)
    assert [step.name for step in pipeline.steps[:3]] == ["parameters", "imports", "data part"]
    assert pipeline.parameters["month"].type is int and "lake.t" in repr(pipeline)
    done = mlp.run_notebook(path, {"month": "2", "label": "b"}, output=tmp_path / "out" / "{done}.ipynb", progress=seen.append)
    assert done.state == "completed" and done.notebook.name == "{done}.ipynb"
    assert "sum 6.0 b" in shown(done.notebook)
    assert [str(ref) for ref in done.inputs] == [f"table:lake.t@{workspace.lake.current('lake.t')}"]
    assert seen and seen[0]["text"].startswith("step 1 of 5")
    assert workspace.activities.recent(["pipeline"])[0].parameters["parameters"] == {"month": 2, "label": "b"}
    assert "sum 7.0 x" in shown(pipeline.run().notebook)


def test_a_run_reads_one_cut_of_the_lake_and_its_own_writes(workspace: Workspace, tmp_path: Path) -> None:
    mlp.write_table("lake.t", ROWS)
    mlp.write_table("lake.u", ROWS)
    outside = (
        "import subprocess, sys, os\n"
        "env = {k: v for k, v in os.environ.items() if k != 'MLP_PINS'}\n"
        "code = \"import pandas as pd, jupyter_mlp as mlp; mlp.write_table('lake.t', pd.DataFrame({'month': [9], 'value': [9.0]}))\"\n"
        "print(subprocess.run([sys.executable, '-c', code], env=env, check=True).returncode)"
    )
    count = "%%mlp_data counted\nSELECT count(*) AS n FROM lake.t"
    own, again = "%mlp_table lake.u frame", "%%mlp_data counted\nSELECT count(*) AS n FROM lake.u"
    path = write(
        tmp_path / "cut.ipynb", SETUP, outside, count, "print('first', counted.to_pandas().n[0])",
        "frame = pd.DataFrame({'month': [1, 2], 'value': [0.0, 0.0]})", own, again, "print('then', counted.to_pandas().n[0])",
        "%mlp_table lake.t frame",
    )  # fmt: skip
    with pytest.raises(JobError, match=r"written by .* after you last looked"):  # never over what the run has not seen
        mlp.run_notebook(path)
    text = shown(next(workspace.pipelines.rglob("*.ipynb")))
    assert "first 3" in text and "then 2" in text


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("%%mlp_data bad\nSELECT nothing FROM lake.t", "failed at step 2 .*%%mlp_data bad.*nothing"),
        ("%mlp_data nowhere", "failed at step 2 .*No dataset nowhere"),
        ("%mlp_train Net --data rows --gpus 0", "failed at step 2 .*0 is below 1"),
        ("1 / 0", "failed at step 2 .*ZeroDivisionError"),
        ("%no_such_magic", "failed at step 2 .*UsageError: Line magic function .*no_such_magic. not found"),
        ("import sys\nsys.exit(0)", "ended early after step 2 .*1 cell not run"),
        ("import sys\nsys.exit(3)", "failed at step 2 .*SystemExit: 3"),
        ("import os\nos.kill(os.getpid(), 9)", "died at .*kernel died"),
    ],
)
def test_every_ending_is_true(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], cell: str, said: str) -> None:
    mlp.write_table("lake.t", ROWS)
    path = write(tmp_path / "broken.ipynb", SETUP, cell, "open('after', 'w')")
    with pytest.raises(JobError, match=said):
        mlp.run_notebook(path)
    assert cli.main(["run", str(path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 2
    assert not (tmp_path / "after").exists()
    assert workspace.activities.names("dataset") == [] and workspace.activities.names("pipeline") == []


def test_a_cell_that_is_tagged_to_fail_fails_no_run(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "shows.ipynb", "x = 1", "1 / 0", "print('after', x)")
    node = nbformat.read(path, 4)
    node.cells[1].metadata.tags = ["raises-exception"]
    nbformat.write(node, path)
    done = mlp.run_notebook(path)
    assert done.state == "completed" and "after 1" in shown(done.notebook) and "ZeroDivisionError" in shown(done.notebook)
    assert [cell.cell_type for cell in nbformat.read(done.notebook, 4).cells] == ["code"] * 3, "papermill's mark of failure is taken away"
    assert mlp.verify(mlp.snapshot(done.notebook).ref).ok
    node.cells[2].source = "print(nothing)"
    nbformat.write(node, path)
    with pytest.raises(JobError, match="failed at step 3"):
        mlp.run_notebook(path)


def test_papermill_itself_fails_when_a_magic_does(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "bad.ipynb", SETUP, "%%mlp_data bad\nSELECT * FROM lake.nowhere", "open('after', 'w')")
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "out.ipynb"), "--cwd", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and "No table or dataset lake.nowhere" in done.stderr
    assert not (tmp_path / "after").exists() and workspace.activities.names("dataset") == []


def test_nothing_runs_when_a_parameter_is_wrong(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "nightly.ipynb", "open('ran', 'w')", parameters="month: int = 1")
    for given in ({"mont": 2}, {"month": "x"}, {"month = 1\nopen('ran', 'w')\nx": 1}):
        with pytest.raises(InvalidInputError):
            mlp.run_notebook(path, given)
    assert not (tmp_path / "ran").exists() and workspace.activities.recent() == []


# -- snapshots


def test_a_notebook_that_repeats_is_verified(notebook: Notebook, workspace: Workspace) -> None:
    notebook.cell("import pandas as pd, random\nrows = pd.DataFrame({'month': [1, 2, 3], 'value': [1.0, 2.0, 4.0]})")
    notebook.cell("%mlp_table lake.t rows")
    notebook.cell("%%mlp_data part\nSELECT * FROM lake.t WHERE month > 1")
    notebook.cell("part.to_pandas().value.sum()")
    notebook.cell("print(random.random())")
    mlp.write_table("lake.t", ROWS.assign(value=0.0))  # the world goes on; the snapshot does not
    snap = notebook.cell("snap = %mlp_snapshot\nsnap")
    assert snap.validity == "strong" and len(snap.cells) == 6
    assert {ref.kind for ref in snap.made} == {"table", "dataset"}
    found = notebook.cell("%mlp_verify snap")
    assert [cell.verdict for cell in found.cells] == [IDENTICAL, IDENTICAL, IDENTICAL, IDENTICAL, IDENTICAL, DIFFERENT]
    assert found.cells[-1].cause == "randomness" and not found.ok
    assert found.report is not None and "randomness" in found.report.read_text()
    assert not list((workspace.root / "scratch").glob("*")), "a scratch workspace is dropped"
    assert cli.main(["verify", f"snapshot:{snap.reference.name[:8]}"]) == 1
    assert mlp.dataset("part").to_pandas().value.tolist() == [2.0, 4.0]


def test_a_saved_notebook_is_verified_from_its_exported_file(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mlp.write_table("lake.t", ROWS)
    (tmp_path / "helper.py").write_text("def double(x):\n    return 2 * x\n")
    query = "%%mlp_data part -p month\nSELECT * FROM lake.t WHERE month >= :month"
    path = write(tmp_path / "study.ipynb", SETUP, "from helper import double", query, "print(double(part.rows))", parameters="month = 2")
    done = mlp.run_notebook(path, output=tmp_path / "done.ipynb").notebook
    assert cli.main(["snapshot", str(done), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    version = workspace.lake.current("lake.t")
    assert told["inputs"] == [f"table:lake.t@{version}"] and told["validity"] == "strong"
    mlp.write_table("lake.t", ROWS.head(1))
    (tmp_path / "helper.py").write_text("def double(x):\n    return 0\n")
    exported = tmp_path / "study.mlp"
    assert cli.main(["snapshot", told["ref"], "--export", str(exported)]) == 0
    assert "not inside" in capsys.readouterr().out
    found = mlp.verify(str(exported))
    assert found.ok, found
    assert cli.main(["verify", str(exported)]) == 0
    changed = tmp_path / "changed.mlp"
    with zipfile.ZipFile(exported) as source, zipfile.ZipFile(changed, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, data.replace(b"double(part", b"triple(part") if name != "manifest.json" else data)
    with pytest.raises(InvalidInputError, match="was changed"):
        mlp.verify(str(changed))
    with pytest.raises(InvalidInputError, match="is not a snapshot"):
        mlp.verify(str(tmp_path / "helper.py"))


def test_what_changed_outside_is_found(notebook: Notebook, tmp_path: Path) -> None:
    (tmp_path / "limit.txt").write_text("1")
    notebook.cell("limit = int(open('limit.txt').read())\nlimit")
    notebook.cell("assert limit < 5\nprint('small')")
    notebook.cell("'fine'")
    notebook.cell("import time\ntime.time()")
    snap = notebook.cell("%mlp_snapshot")
    (tmp_path / "limit.txt").write_text("7")
    found = mlp.verify(snap.ref)
    assert [cell.verdict for cell in found.cells] == [IDENTICAL, DIFFERENT, FAILED, NOT_RUN, NOT_RUN]
    assert "AssertionError" in found.cells[2].detail
    (tmp_path / "limit.txt").write_text("1")
    found = mlp.verify(snap.ref)
    assert [cell.verdict for cell in found.cells] == [IDENTICAL] * 4 + [DIFFERENT]
    assert found.cells[-1].cause == "clock or network"


def test_what_cells_ask_for_by_their_tags_is_kept(workspace: Workspace, tmp_path: Path) -> None:
    from nbclient import NotebookClient

    cells = [
        "import time",
        "# NBVAL_IGNORE_OUTPUT\ntime.time()",
        "1 / 0",
        "print('after')",
        "# NBVAL_SKIP\nopen('ran', 'w')",
        "open('ran', 'w')",
    ]
    path = write(tmp_path / "tagged.ipynb", *cells)
    node = nbformat.read(path, 4)
    node.cells[2].metadata["tags"], node.cells[5].metadata["tags"] = ["nbval-raises-exception"], ["skip-execution"]
    NotebookClient(node, allow_errors=True, resources={"metadata": {"path": str(tmp_path)}}).execute()
    nbformat.write(node, path)
    (tmp_path / "ran").unlink()
    found = mlp.verify(mlp.snapshot(path))
    assert [cell.verdict for cell in found.cells] == [IDENTICAL, "not comparable", IDENTICAL, IDENTICAL, "not comparable", "not comparable"]
    assert found.ok and not (tmp_path / "ran").exists()


def test_a_snapshot_refuses_what_a_clean_run_would_not_give(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    """As JupyterLab does it: cells have ids, and the file says how they stand."""
    path = write(tmp_path / "study.ipynb", "%load_ext jupyter_mlp", "n = 1", "n = n + 1\nn", "print(late)", "late = 5")
    node = nbformat.read(path, 4)
    ids = [cell.id for cell in node.cells]
    os.environ["MLP_NOTEBOOK"] = str(path)

    def run(number: int) -> None:
        notebook.shell.run_cell(node.cells[number].source, store_history=True, cell_id=ids[number])

    try:
        for number in (0, 1, 2, 2):
            run(number)
        with pytest.raises(InvalidInputError, match="cell 3 is out of order: it read n as its own earlier run had left it"):
            notebook.cell("%mlp_snapshot")
        for number in (1, 2):
            run(number)
        assert notebook.cell("%mlp_snapshot").validity == "strong"
        for number in (4, 3):
            run(number)
        with pytest.raises(InvalidInputError, match="cell 4 is out of order: it read late from cell 5, which stands below it") as refused:
            notebook.cell("%mlp_snapshot")
        assert "--weak" in refused.value.hint and "%mlp_graph" in refused.value.hint
        cells = notebook.cell("%mlp_graph").cells
        assert [cell[2] for cell in cells] == ["valid", "valid", "valid", "out of order", "valid"]
        snap = notebook.cell("%mlp_snapshot --weak")
        assert snap.validity == "weak" and snap.reasons == ("cell 4 is out of order: it read late from cell 5, which stands below it",)
        run(1)
        assert [cell[2] for cell in notebook.cell("%mlp_graph").cells][:3] == ["valid"] * 3, "the same value again changes nothing"
        node.cells[1].source = "n = 10"
        nbformat.write(node, path)
        run(1)
        assert [cell[2:] for cell in notebook.cell("%mlp_graph").cells][2] == ("stale", "n was made anew by cell 2 after it ran")
    finally:
        del os.environ["MLP_NOTEBOOK"]


def test_noting_what_ran_costs_less_than_5_ms_a_cell(notebook: Notebook) -> None:
    notebook.cell("\n".join(f"name_{n} = {n}" for n in range(2000)))

    def seconds(cells: int) -> float:
        begun = time.perf_counter()
        for _ in range(cells):
            notebook.cell("x = 1")
        return (time.perf_counter() - begun) / cells

    with_it = min(seconds(30) for _ in range(3))
    notebook.shell.events.callbacks["pre_run_cell"].clear()
    notebook.shell.events.callbacks["post_run_cell"].clear()
    assert with_it - min(seconds(30) for _ in range(3)) < 0.005


def test_a_version_that_is_gone_stops_it_before_the_first_cell(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    made = mlp.write_table("lake.t", ROWS)
    workspace.activities.session.clear()  # somebody else wrote it
    notebook.cell("%%mlp_data part\nSELECT * FROM lake.t")
    notebook.cell(f"open({str(tmp_path / 'ran')!r}, 'a').write('x')")
    snap = notebook.cell("%mlp_snapshot")
    assert [str(ref) for ref in snap.inputs] == [made.ref]
    assert mlp.verify(snap.ref).ok
    shutil.rmtree(workspace.root / "lake" / "lake" / "t" / "data")
    with pytest.raises(StorageError, match=f"{made.ref} is gone"):
        mlp.verify(snap.ref)
    assert (tmp_path / "ran").read_text() == "xx"
    with pytest.raises(NotFoundError, match="no snapshot"):
        mlp.verify("snapshot:0000")


def test_verifying_touches_nothing_real(notebook: Notebook, workspace: Workspace) -> None:
    """Tables, datasets, endpoints of a verification live in its scratch workspace, appends on top of what was recorded."""
    mlp.write_table("lake.log", ROWS)
    workspace.activities.session.clear()  # somebody else wrote it
    notebook.cell("import pandas as pd\nmore = pd.DataFrame({'month': [4], 'value': [8.0]})")
    notebook.cell("%mlp_table lake.log more --append")
    notebook.cell("%%mlp_data total\nSELECT count(*) AS n, sum(value) AS v FROM lake.log")
    snap = notebook.cell("%mlp_snapshot")
    before = workspace.lake.current("lake.log"), len(workspace.activities.recent(limit=100))
    found = mlp.verify(snap.ref)
    assert found.ok, found
    assert (workspace.lake.current("lake.log"), len(workspace.activities.recent(limit=100))) == (before[0], before[1] + 1)


def test_the_notebook_is_recorded_in_a_real_kernel(workspace: Workspace, tmp_path: Path) -> None:
    """What a kernel displays, prints, returns and draws is in its snapshot, and text cells come from its file."""
    cells = [
        SETUP, "print('a')\ndisplay(3)\n'b'", "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()", "snap = %mlp_snapshot\nsnap",
        "'later'",
    ]  # fmt: skip
    path = write(tmp_path / "kernel.ipynb", *cells)
    node = nbformat.read(path, 4)
    node.cells.insert(1, nbformat.v4.new_markdown_cell("# Title"))
    nbformat.write(node, path)
    mlp.run_notebook(path)
    snap = workspace.activities.recent(["snapshot"])[0]
    manifest = json.loads(workspace.artifacts.get(snap.facts["manifest"]))
    kept = nbformat.reads(workspace.artifacts.get(manifest["notebook"]).decode(), 4)
    assert [cell.cell_type for cell in kept.cells] == ["code", "markdown", "code", "code"]
    assert [output.output_type for output in kept.cells[2].outputs] == ["stream", "display_data", "execute_result"]
    assert "image/png" in kept.cells[3].outputs[0].data
    found = mlp.verify(str(snap.made[0]))
    assert [cell.verdict for cell in found.cells] == [IDENTICAL] * 3


def test_interrupting_a_run_ends_its_kernel(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "long.ipynb", "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)")
    code = f"import jupyter_mlp as mlp\nmlp.run_notebook({str(path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) != 0
    kernel = int((tmp_path / "pid").read_text())
    while psutil.pid_exists(kernel) and psutil.Process(kernel).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert workspace.activities.recent(["pipeline"])[0].state == "cancelled"


def test_training_is_replayed_or_with_full_done_again(notebook: Notebook, workspace: Workspace) -> None:
    from test_training import NET, frame

    mlp.write_table("lake.rows", frame())
    workspace.activities.session.clear()  # somebody else wrote it
    notebook.cell("%%mlp_data rows\nSELECT * FROM lake.rows")
    notebook.cell(NET)
    notebook.cell("run = %mlp_train Net --data rows --target y --max-epochs 2 --batch-size 64\nrun")
    notebook.cell("%mlp_evaluate run --data rows")
    notebook.cell("%mlp_deploy run --to lines --port 18231")
    try:
        snap = notebook.cell("%mlp_snapshot")
        before = len(workspace.activities.recent(["train"], limit=100))
        for full in (False, True):
            found = mlp.verify(snap.ref, full=full)
            assert found.ok and [cell.verdict for cell in found.cells] == [IDENTICAL] * 6, found
            assert len(workspace.activities.recent(["train"], limit=100)) == before
            assert mlp.endpoint("lines").state == "ready", "the real endpoint is not touched"
    finally:
        mlp.endpoint("lines").stop()


def test_two_snapshots_are_compared_in_the_words_of_the_field(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def taken(source: str, month: int, rows: pd.DataFrame) -> str:
        made = mlp.write_table("lake.t", rows)
        path = write(tmp_path / "study.ipynb", "a = 1", source, "print('kept')", parameters=f"month = {month}")
        node = nbformat.read(path, 4)
        for count, cell in enumerate(node.cells, 1):
            cell.execution_count = count
        told = {"ref": made.ref, "kind": "table", "metrics": {"mae": float(month)}}
        node.cells[1].outputs = [nbformat.v4.new_output("display_data", data={"application/vnd.jupyter-mlp+json": told})]
        nbformat.write(node, path)
        return mlp.snapshot(path).ref

    one = taken("b = 2", 1, ROWS)
    other = taken("b = 3", 2, ROWS.assign(more=1))
    changes = {(change.kind, change.name): (change.before, change.after) for change in mlp.diff(one, other).changes}
    assert changes[("parameter", "month")] == ("1", "2")
    assert changes[("cell", "source of cell 3")] == ("b = 2", "b = 3")
    assert changes[("metric", "mae (cell 2)")] == ("1.0", "2.0")
    assert mlp.diff(one, one).changes == ()
    assert cli.main(["diff", one, other]) == 0
    assert "source of cell 3" in capsys.readouterr().out
