"""Runs of notebooks: known cells are not run again, a killed run goes on, independent branches run at once."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from test_repeat import SETUP, shown, write

import jupyter_mlp as mlp
from jupyter_mlp.core.errors import InvalidInputError, JobError, NotFoundError
from jupyter_mlp.frontends import cli
from jupyter_mlp.store.workspace import Workspace

NOTE = "open('ran', 'a').write('{0}\\n')\n"


def ran(folder: Path) -> list[str]:
    """Which cells really ran, in order."""
    return (folder / "ran").read_text().split() if (folder / "ran").exists() else []


def states(run: mlp.pipelines.PipelineRun) -> list[str]:
    return [str(step["state"]) for step in run.steps]


def outputs(path: Path) -> str:
    """What an executed notebook shows, and in which state its cells are."""
    cells = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return json.dumps([[cell.execution_count, cell.outputs, cell.metadata.papermill.status] for cell in cells])


def test_a_failed_run_goes_on_from_the_failed_step(workspace: Workspace, tmp_path: Path) -> None:
    cells = [
        NOTE.format("a") + "import numpy as np, pandas as pd\nnp.random.seed(3)\nrows = [1, 2]",
        "frame = pd.DataFrame({'x': [1.5, 2.5], 'y': ['a', None]})",
        NOTE.format("b") + "rows.append(3)\ndef double(x):\n    return 2 * x * factor\nfactor = 10; noise = np.random.rand(3); noise.sum()",
        NOTE.format("c") + "if not __import__('os').path.exists('mended'): 1 / 0\nprint(double(rows), frame.x.sum(), frame.y.isna().sum())",
        NOTE.format("d") + "print(noise.sum() == noise.sum(), np.random.rand() > 2, len(rows))\nrows",
    ]
    path = write(tmp_path / "steps.ipynb", *cells, parameters="month: int = 1")
    with pytest.raises(JobError) as failed:
        mlp.run_notebook(path, {"month": 5})
    run_id = re.search(r"--resume (\S+)", failed.value.hint).group(1)  # type: ignore[union-attr]
    (tmp_path / "mended").touch()
    done = mlp.run_notebook(resume=run_id)
    assert ran(tmp_path) == ["a", "b", "c", "c", "d"] and done.state == "completed" and done.id == run_id
    assert done.parameters == {"month": 5}
    (tmp_path / "ran").unlink()
    assert outputs(done.notebook) == outputs(mlp.run_notebook(path, {"month": 5}, fresh=True).notebook)
    assert "[1, 2, 3" in shown(done.notebook) and "4.0 1" in shown(done.notebook)


def test_where_a_kernel_flushed_is_no_part_of_what_a_cell_shows(workspace: Workspace, tmp_path: Path) -> None:
    cell = "import time\nprint('a', end='', flush=True)\ntime.sleep(0.5)\nprint('b', flush=True)\ntime.sleep(0.3)\ndisplay(1)\nprint('c')"
    done = mlp.run_notebook(write(tmp_path / "slow.ipynb", cell)).notebook
    shown_now = [output.get("text") for output in nbformat.read(done, 4).cells[0].outputs]
    assert shown_now == ["ab\n", None, "c\n"]


def test_what_kernels_held_does_not_pile_up(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jupyter_mlp.notebook import runs

    path = write(tmp_path / "often.ipynb", "import numpy as np\nrows = np.arange(100_000.0)", "import time\nprint(time.time(), rows.sum())")
    first, second = mlp.run_notebook(path, fresh=True), mlp.run_notebook(path, fresh=True)
    states = {run.id: workspace.pipelines / run.id / "state" for run in (first, second)}
    assert all(state.is_dir() for state in states.values()), "the run before is young: another may just begin with what it left"
    monkeypatch.setattr(runs, "_STATE_S", -1.0)
    third = mlp.run_notebook(path)
    assert [step["state"] for step in third.steps] == ["reused", "completed"]
    assert [state.is_dir() for state in states.values()] == [False, True], "what the third was answered with stays"
    assert [step["state"] for step in mlp.run_notebook(path).steps] == ["reused", "completed"]


def test_a_cell_sent_ahead_of_one_that_fails_does_not_run(workspace: Workspace, tmp_path: Path) -> None:
    fails = write(tmp_path / "fails.ipynb", NOTE.format("a"), "1 / 0", NOTE.format("c"))
    with pytest.raises(JobError, match="ZeroDivisionError"):
        mlp.run_notebook(fails)
    assert ran(tmp_path) == ["a"]
    path = write(
        tmp_path / "meant.ipynb", "1 / 0", NOTE.format("b"), "def leave():\n    get_ipython().ask_exit()\nleave()", NOTE.format("d")
    )
    node = nbformat.read(path, 4)
    node.cells[0].metadata["tags"] = ["raises-exception"]
    nbformat.write(node, path)
    with pytest.raises(JobError, match=r"ended itself .*with 1 cell not run"):
        mlp.run_notebook(path)
    assert ran(tmp_path) == ["a", "b"]


def test_the_kernel_has_the_next_cell_before_it_is_done_with_one(workspace: Workspace, tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(1)\nended = time.time()"
    ask = "sent = get_ipython().parent_header['header']['date'].timestamp()\nprint('ahead', sent < ended)"
    assert "ahead True" in shown(mlp.run_notebook(write(tmp_path / "ahead.ipynb", slow, ask)).notebook)


def test_what_comes_late_behind_a_failed_cell_is_refused_by_the_kernel(tmp_path: Path) -> None:
    from jupyter_client.manager import start_new_kernel

    told = {"names": None, "makes": [], "defines": [], "blocks": "", "sets_environment": False, "may_fail": False}
    asked = {"path": str(tmp_path / "s.jsonl"), "lock": str(tmp_path / "lock"), "cells": {"1 / 0": told, "open('late', 'w')": told}}
    asked |= {"defined": [], "count": 1, "fresh": True, "behind": [], "replay": [], "ran": []}
    (tmp_path / "request").write_text(json.dumps(asked))
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        keep = f"__import__('jupyter_mlp.notebook.state', fromlist=['keep']).keep({str(tmp_path / 'request')!r})"
        said = [client.execute_interactive(code, timeout=60, silent=code is keep) for code in (keep, "1 / 0", "open('late', 'w')")]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert [one["content"].get("ename") for one in said] == [None, "ZeroDivisionError", "InputRejected"]
    assert not (tmp_path / "late").exists()


def test_long_texts_are_no_names_of_files(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "long.ipynb", f"query = '{'a' * 400}'", "other = 'nul\\0' + '/' * 9000", "print(len(query))")
    assert states(mlp.run_notebook(path)) == ["completed"] * 3


def test_what_cannot_cross_stays_in_one_step(workspace: Workspace, tmp_path: Path) -> None:
    cells = [
        NOTE.format("a") + "first = 1",
        NOTE.format("b") + "numbers = (n for n in range(10)); next(numbers)",
        NOTE.format("c") + "one = []; two = one",
        NOTE.format("d") + "if not __import__('os').path.exists('mended'): 1 / 0\ntwo.append(next(numbers)); print(one, first)",
    ]
    path = write(tmp_path / "live.ipynb", *cells)
    with pytest.raises(JobError):
        mlp.run_notebook(path)
    (tmp_path / "mended").touch()
    done = mlp.run_notebook(resume=next(workspace.pipelines.glob("*/run.json")).parent.name)
    assert ran(tmp_path) == ["a", "b", "c", "d", "b", "c", "d"] and "[1] 1" in shown(done.notebook)


def test_nothing_changed_nothing_runs(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("x\n1\n2\n")
    write(
        tmp_path / "again.ipynb",
        "import pandas as pd\nrows = pd.read_csv('rows.csv')",
        "total = rows.x.sum() * k",
        "print('total', total)",
        parameters="k = 1",
    )
    path = tmp_path / "again.ipynb"
    first = mlp.run_notebook(path, {"k": 2})
    again = mlp.run_notebook(path, {"k": 2})
    assert states(first) == ["completed"] * 5 and states(again) == ["reused"] * 5
    assert outputs(first.notebook) == outputs(again.notebook) and again.id != first.id
    assert states(mlp.run_notebook(path, {"k": 3}))[1] == "completed"
    (tmp_path / "rows.csv").write_text("x\n1\n5\n")
    assert "total 12" in shown(mlp.run_notebook(path, {"k": 2}).notebook)
    write(
        path, "import pandas as pd\nrows = pd.read_csv('rows.csv')", "total = rows.x.sum() * k", "print('sum', total)", parameters="k = 1"
    )
    assert states(mlp.run_notebook(path, {"k": 2})) == ["reused"] * 4 + ["completed"]


@pytest.mark.parametrize(
    "cell",
    [
        "import random\nprint(random.random())",
        "from datetime import datetime\nprint(datetime.now())",
        "import time\nprint(time.time())",
        "import os\nprint(os.listdir())",
        "open('out.txt', 'w').write('x'); __import__('pathlib').Path('n').write_text('1')",
        "!date",
        "import uuid\nuuid.uuid4()",
        "import idna\nprint(idna.encode('a.b'))",  # what it does nobody knows
        "from idna import encode as e\ndef f(x):\n    return e(x)\nprint(f('a.b'))",
    ],
)
def test_what_depends_on_the_world_runs_again(workspace: Workspace, tmp_path: Path, cell: str) -> None:
    path = write(tmp_path / "world.ipynb", "x = 1", cell)
    mlp.run_notebook(path)
    assert states(mlp.run_notebook(path)) == ["reused", "completed"]


def test_new_data_is_read_and_effects_happen_again(workspace: Workspace, tmp_path: Path) -> None:
    import pandas as pd

    mlp.write_table("lake.t", pd.DataFrame({"x": [1, 2]}))
    path = write(tmp_path / "data.ipynb", SETUP, "%%mlp_data part\nSELECT sum(x) AS s FROM lake.t", "print('sum', part.to_pandas().s[0])")
    assert "sum 3" in shown(mlp.run_notebook(path).notebook)
    assert set(states(mlp.run_notebook(path))) == {"reused"}
    mlp.write_table("lake.t", pd.DataFrame({"x": [7]}), append=True)
    assert "sum 10" in shown(mlp.run_notebook(path).notebook)
    writes = write(tmp_path / "writes.ipynb", SETUP, "rows = pd.DataFrame({'x': [1]})", "%mlp_table lake.log rows --append")
    mlp.run_notebook(writes)
    assert states(mlp.run_notebook(writes)) == ["reused", "reused", "completed"]
    assert mlp.query("SELECT count(*) AS n FROM lake.log").to_pandas().n[0] == 2


def test_skipped_cells_and_early_ends_are_said(workspace: Workspace, tmp_path: Path) -> None:
    path = write(tmp_path / "skips.ipynb", "x = 1", "open('skipped', 'w')", "print(x)")
    node = nbformat.read(path, 4)
    node.cells[1].metadata["tags"] = ["skip-execution"]
    nbformat.write(node, path)
    assert states(mlp.run_notebook(path)) == ["completed", "skipped", "completed"] and not (tmp_path / "skipped").exists()
    late = write(tmp_path / "late.ipynb", "import time; print('begun')", "time.sleep(60)")
    with pytest.raises(JobError, match="took too long at step"):
        mlp.run_notebook(late, timeout=10)


def test_independent_branches_run_at_once_and_meet(workspace: Workspace, tmp_path: Path) -> None:
    cells = [
        "left = sum(range(10))\ntime.sleep(2)",
        "right = [2, 3]\ntime.sleep(2)",
        "right.append(left)\nprint(left, right)",
    ]
    path = write(tmp_path / "branches.ipynb", *cells, parameters="import time\nk = 1")
    done = mlp.run_notebook(path)
    assert "45 [2, 3, 45]" in shown(done.notebook)
    cells_done = [cell.metadata.papermill for cell in nbformat.read(done.notebook, 4).cells]
    assert cells_done[2].start_time < cells_done[1].end_time, "the second branch began before the first had ended"


def test_resuming_says_what_is_wrong(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "x.ipynb", "1 / 0", parameters="k = 1")
    with pytest.raises(NotFoundError, match="There is no run nowhere"):
        mlp.run_notebook(resume="nowhere")
    with pytest.raises(JobError):
        mlp.run_notebook(path, output=tmp_path / "out.ipynb")
    with pytest.raises(InvalidInputError, match="its own parameters"):
        mlp.run_notebook(parameters={"k": 2}, resume=tmp_path / "out.ipynb")
    assert cli.main(["run", "--resume", str(tmp_path / "out.ipynb")]) == 1
    assert "--resume" in capsys.readouterr().err
    with pytest.raises(InvalidInputError, match="No notebook"):
        mlp.run_notebook()


def test_papermill_takes_the_engine(tmp_path: Path) -> None:
    path = write(tmp_path / "p.ipynb", "print(k + 1)", parameters="k = 1")
    code = (
        "import papermill\nfrom papermill.engines import papermill_engines\nfrom jupyter_mlp.notebook.engine import JournalEngine\n"
        "papermill_engines.register('mlp', JournalEngine)\n"
        f"papermill.execute_notebook({str(path)!r}, {str(tmp_path / 'o.ipynb')!r}, {{'k': 4}},\n"
        "    engine_name='mlp', kernel_name='python3', language='python', progress_bar=False)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert "5" in shown(tmp_path / "o.ipynb") and not list(tmp_path.glob("*.journal"))


def test_a_killed_run_goes_on_to_the_same_outputs(workspace: Workspace, tmp_path: Path) -> None:
    import proof_resume

    assert proof_resume.prove(tmp_path / "proof", times=3, seed=random.randrange(1000)) == 3
    assert os.environ["MLP_WORKSPACE"] == str(workspace.root)
