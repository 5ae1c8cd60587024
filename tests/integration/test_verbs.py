"""Every verb through its magic and through its command line, on the real local backends; and what is typed wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import Notebook
from test_training import NET

import jupyter_mlp as mlp
from jupyter_mlp import scheduler
from jupyter_mlp.core.errors import MLPError
from jupyter_mlp.frontends import cli
from jupyter_mlp.frontends.verbs import VERBS
from jupyter_mlp.serving import places
from jupyter_mlp.store.workspace import Workspace

QUERY = "SELECT x, letter, y FROM lake.t WHERE x > :low"


@pytest.fixture(autouse=True)
def no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedules are made and looked at here; test_schedules.py lets them run."""
    monkeypatch.setattr(scheduler, "ensure", lambda workspace: None)


def csv(folder: Path) -> Path:
    random = np.random.default_rng(3)
    x, letter = random.normal(10, 5, 4000), random.choice(list("abc"), 4000)
    path = folder / "t.csv"
    pd.DataFrame({"x": x, "letter": letter, "y": 3 * x + 7 * (letter == "a")}).to_csv(path, index=False)
    return path


def test_every_magic(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    typed: set[str] = set()

    def cell(text: str) -> Any:
        typed.add(text.split("mlp_", 1)[1].split()[0])
        return notebook.cell(text)

    try:
        assert cell(f"%mlp_table lake.t {csv(tmp_path)}").rows == 4000
        notebook.cell("low = -100.0")
        assert cell(f"%%mlp_data rows -p low\n{QUERY}").rows == 4000
        assert cell("%mlp_data rows").reused
        assert cell("%%mlp_recipe lines --data rows\nx: impute median | scale\nletter: one-hot 2\ny: target").fitted.width == 3
        notebook.cell(NET)
        assert cell("run = %mlp_train Net --data rows --target y --max-epochs 2 --batch-size 64\nrun").state == "finished"
        assert cell("%mlp_attach run --wait").model == notebook.shell.user_ns["run"].model
        assert "max_epochs=2" in cell("%mlp_attach run --logs")
        assert cell("%mlp_evaluate run --data rows").beats_baseline
        assert cell("%mlp_deploy run --to lines").state == "ready"
        notebook.cell("asked = [{'x': 1.0, 'letter': 'a'}]")
        assert len(cell("%mlp_predict endpoint:lines --data asked")) == 1
        assert cell("%mlp_predict run --data rows --into said").rows == 4000
        assert notebook.shell.user_ns["said"].schema.names[0] == "prediction"
        assert cell("%mlp_monitor lines").metrics["requests"] == 1
        assert cell("%mlp_endpoint lines").state == "ready"
        assert [step.name for step in cell("%mlp_pipeline").steps][-3:] == ["predict run", "monitor lines", "endpoint lines"]
        assert cell("%mlp_graph run").edges and cell("%mlp_status").recent and cell("%mlp_doctor").ok and cell("%mlp_clusters").places
        assert cell("snap = %mlp_snapshot\nsnap").made
        found = cell("%mlp_verify snap")
        assert found.ok, found
        assert cell("%mlp_explain run --data rows --row 17").sentences[0].startswith("predicted ")
        assert [row["state"] for row in cell("%mlp_runs").rows] == ["finished"]
        assert cell("%mlp_alias champion run").model == cell("%mlp_models champion")[0].ref
        notebook.cell("happened = [{'id': 'unknown', 'value': 1.0}]")
        assert cell("%mlp_outcomes lines --data happened").rows == 1
        assert {one.ref.kind for one in cell("%mlp_impact lake.t.letter").dependants} >= {"dataset", "run", "model", "endpoint", "snapshot"}
        assert cell("pinned = %mlp_pin rows --reason 'in the paper'\npinned").pinned.name == "rows"
        assert not cell("%mlp_compact lake.t").found.changed
        assert [one.kind for one in cell("%mlp_forget pinned").refs] == ["pin"]
        assert cell("%mlp_gc --yes").freed == 0
        path = tmp_path / "small.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")]), path)
        assert cell(f"%mlp_run {path}").state == "completed"
        assert cell("%mlp_diff snap snap").changes == ()
        assert len(cell(f"%mlp_schedule {path} --cron '0 3 * * *'").next) == 3
        dags = cell(f"%mlp_schedule {path} --cron '0 3 * * *' --template airflow --output dags")
        assert [one.name for one in dags.files] == ["small.py"]
        assert cell("%mlp_schedules small --pause").state == "paused" and cell("%mlp_history").ticks == ()
        assert "kind: InferenceService" in cell("%mlp_endpoint lines --manifest kserve").text
        assert cell(f"%mlp_table lake.t {csv(tmp_path)} --append").rows == 8000
        again = cell("%mlp_retrain lines")  # its query is asked again, of the newest table
        assert again.data != notebook.shell.user_ns["run"].inputs[0] and again.endpoint.variants[1].shadow
        assert typed == {verb.name for verb in VERBS}
        for verb in VERBS:
            assert verb.summary in " ".join(repr(notebook.cell(f"%mlp_{verb.name} --help")).split())
    finally:
        places.stop_all(workspace)


def test_every_command(workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed: set[str] = set()

    def mlp_(*words: str) -> dict[str, Any]:
        typed.add(words[0])
        assert cli.main([*words, "--json"]) == 0, capsys.readouterr().err
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert cli.main(list(words)) == 0 and capsys.readouterr().out.strip()
        return told

    try:
        assert mlp_("table", "lake.t", str(csv(tmp_path)))["rows"] == 4000
        (tmp_path / "q.sql").write_text(QUERY)
        assert mlp_("data", "rows", "-f", str(tmp_path / "q.sql"), "-p", "low=-100.0")["rows"] == 4000
        assert mlp_("data", "rows")["reused"]
        assert mlp_("recipe", "--data", "rows", "--target", "y")["text"] == "*: default"
        (tmp_path / "net.py").write_text(NET)
        model = f"{tmp_path / 'net.py'}:Net"
        run = mlp_("train", model, "--data", "rows", "--target", "y", "--max-epochs", "2", "--batch-size", "64")
        assert mlp_("attach", "run:" + run["ref"][-8:], "--wait")["model"] == run["model"]
        assert mlp_("evaluate", "Net", "--data", "rows", "--by", "letter")["beats_baseline"]
        assert set(mlp_("explain", "Net", "--data", "rows")["effects"]) == {"x", "letter"}
        assert mlp_("deploy", run["model"], "--to", "lines")["state"] == "ready"
        assert mlp_("predict", "endpoint:lines", "--data", "rows")["rows"] == 4000
        assert mlp_("predict", "Net", "--data", "rows", "--into", "said")["rows"] == 4000
        assert mlp_("monitor", "lines")["metrics"]["rows"] == 8000
        assert mlp_("alias", "champion", "Net")["history"] and len(mlp_("models", "Net")["models"]) == 1
        (tmp_path / "o.sql").write_text("SELECT 'a' AS id, 1.0D AS value")
        assert mlp_("data", "happened", "-f", str(tmp_path / "o.sql"))["rows"] == 1
        assert mlp_("outcomes", "lines", "--data", "happened")["rows"] == 1
        assert mlp_("endpoint", "lines", "--manifest", "systemd")["text"].splitlines()[-1] == "WantedBy=default.target"
        assert mlp_("endpoint", "lines", "--stop")["state"] == "stopped"
        path = tmp_path / "small.ipynb"
        cells = [
            nbformat.v4.new_code_cell("low = 0.0", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell("%load_ext jupyter_mlp"),
            nbformat.v4.new_code_cell(f"%%mlp_data rows -p low\n{QUERY}"),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        assert len(mlp_("pipeline", str(path))["steps"]) == 3
        done = mlp_("run", str(path), "-p", "low=5", "--output", str(tmp_path / "done.ipynb"))
        assert done["state"] == "completed"
        snap = mlp_("snapshot", done["notebook"])
        assert [one.split("@")[0] for one in snap["inputs"]] == ["table:lake.t"]
        assert mlp_("verify", snap["ref"])["ok"] and mlp_("diff", snap["ref"], snap["ref"])["changes"] == []
        assert mlp_("schedule", str(path), "--cron", "@daily", "--tz", "UTC")["cron"] == "0 0 * * *"
        assert [row["state"] for row in mlp_("runs")["rows"]] == ["finished"]
        assert (
            mlp_("schedule", str(path), "--cron", "@daily", "--template", "slurm", "--output", str(tmp_path / "jobs"))["template"]
            == "slurm"
        )
        assert len(mlp_("schedules")["schedules"]) == 1 and mlp_("history", "small")["ticks"] == []
        assert mlp_("graph", run["model"])["edges"] and mlp_("status")["recent"] and mlp_("doctor")["ok"] and mlp_("clusters")["clusters"]
        assert len(mlp_("impact", "lake.t.letter")["dependants"]) >= 7
        pinned = mlp_("pin", "rows")
        assert mlp_("compact", "lake.t")["changed"] is False
        assert cli.main(["forget", pinned["ref"]]) == 0 and capsys.readouterr().out.startswith("Forgotten: 1 thing")
        assert mlp_("gc")["dry"] and mlp_("gc", "--yes")["freed"] == 0
        assert cli.main(["forget", run["ref"]]) == 1 and "cannot be forgotten" in capsys.readouterr().err
        assert mlp_("table", "lake.t", str(csv(tmp_path)), "--append") and mlp_("deploy", run["model"], "--to", "lines")
        assert mlp_("retrain", "lines")["endpoint"]["variants"][1]["shadow"]  # twice: the second takes the first one's training
        assert typed | {"forget"} == {verb.name for verb in VERBS}
    finally:
        places.stop_all(workspace)


@pytest.mark.parametrize(
    ("words", "status", "said", "hint"),
    [
        (["data", "nowhere"], 1, "No dataset nowhere", ""),
        (["table", "lake.t", "missing.csv"], 1, "No Parquet, CSV or JSON file at missing.csv", "Check the path"),
        (["data", "x", "-f", "missing.sql"], 1, "missing.sql cannot be read", "path of a text file"),
        (["train", "x.py:Net", "--data", "d", "--gpsu", "2"], 2, "--gpsu", "Did you mean --gpus?"),
        (["train", "x.py:Net", "--data", "d", "--max-epochs", "0"], 2, "0 is below 1", "--help"),
        (["evaluate", "Net", "--data", "d"], 1, "no model Net", "Train one first"),
        (["deploy", "Net", "--to", "Bad Name"], 1, "cannot name an endpoint", "lower-case"),
        (["monitor", "nothing"], 1, "no endpoint nothing", "%mlp_deploy"),
        (["endpoint", "nothing"], 1, "no endpoint nothing", "%mlp_deploy"),
        (["attach", "run:nothing"], 1, "no run nothing", ""),
        (["verify", "snapshot:nothing"], 1, "no snapshot:nothing", ""),
        (["verify", "./nothing.mlp"], 1, "no file", "exported snapshot"),
        (["snapshot", "nothing.ipynb"], 1, "no notebook nothing.ipynb", ".ipynb"),
        (["run", "nothing.ipynb"], 1, "no notebook nothing.ipynb", ".ipynb"),
        (["graph", "model:"], 1, "is not a reference", "dataset:trips@1f3c"),
        (["graph", "nothing"], 1, "No dataset nothing", ""),
        (["impact", "lake.nothing.x"], 1, "No table lake.nothing", ""),
        (["impact", "nothing:x"], 1, "names nothing that can have dependants", "lake.flights.dep_delay"),
        (["forget", "nothing@1f3c"], 1, "No dataset nothing@1f3c", ""),
        (["pin", "lake.nothing"], 1, "No table lake.nothing", ""),
        (["compact", "nothing"], 1, "No table lake.nothing", ""),
        (["gc", "--now"], 2, "--now", "--yes"),
    ],
)
def test_what_is_typed_wrong_gets_two_lines(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], words: list[str], status: int, said: str, hint: str
) -> None:
    assert cli.main(words) == status
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2, lines
    assert said in lines[0] and hint in lines[1]


def test_a_failing_magic_fails_the_cell_in_two_lines(notebook: Notebook, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MLPError):
        notebook.cell("%%mlp_data bad\nSELECT * FROM lake.nowhere")
    shown = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert shown == ["No table or dataset lake.nowhere here.", "The lake is empty; make a table first: %mlp_table lake.NAME FILE_OR_FRAME"]


def in_a_small_filesystem(commands: str) -> subprocess.CompletedProcess[str]:
    """Run shell commands where ./disk is a file system of its own of 3 MiB, which only they see."""
    if not shutil.which("unshare"):
        pytest.skip("unshare (util-linux) is not installed")
    script = (
        f"set -e; cd $(mktemp -d); mkdir disk; mount -t tmpfs -o size=3m tmpfs disk; export MLP_WORKSPACE=$PWD/disk/workspace; {commands}"
    )
    unshare = ["unshare", "--mount"] + ([] if os.getuid() == 0 else ["--map-root-user"])
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("this machine lets no user make a mount of their own")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run([*unshare, "sh", "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path})


NOISE = (
    "python -c 'import numpy, pandas; pandas.DataFrame(numpy.random.rand(200000, 4)).rename(columns=str).to_csv(\"t.csv\", index=False)'"
)


def test_a_full_disk_is_two_lines_and_registers_nothing() -> None:
    small = 'printf "a\\n1\\n" > s.csv; mlp table lake.small s.csv >/dev/null'
    done = in_a_small_filesystem(f"{small}; {NOISE}; mlp table lake.t t.csv || echo status $?; mlp status --json; mlp data nowhere || true")
    assert "status 1" in done.stdout, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert "disk is full" in lines[0] and "nothing was registered" in lines[1], lines
    told = json.loads(done.stdout.split("status 1\n", 1)[1])
    assert told["counts"] == {"table": 1}
    assert not any(line.startswith("Traceback") for line in lines)


def test_a_read_only_disk_is_two_lines() -> None:
    small = 'printf "a\\n1\\n" > s.csv; mlp table lake.small s.csv >/dev/null; mount -o remount,ro disk'
    done = in_a_small_filesystem(f"{small}; mlp status >/dev/null; mlp table lake.other s.csv || echo status $?")
    assert "status 1" in done.stdout, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2 and ("read-only" in lines[0].lower() or "readonly" in lines[0].lower()), lines
    assert "MLP_WORKSPACE" in lines[1]
    fresh = in_a_small_filesystem("mount -o remount,ro disk; mlp status || echo status $?")
    assert "status 1" in fresh.stdout and "MLP_WORKSPACE" in fresh.stderr, fresh.stdout + fresh.stderr


def test_shown_objects_are_json_and_html(notebook: Notebook, workspace: Workspace, tmp_path: Path) -> None:
    """What a program reads is what a person sees, and no text of the data becomes markup."""
    notebook.cell("import pandas as pd\nrows = pd.DataFrame({'<b>a</b>': ['<script>alert(1)</script>']})")
    notebook.cell("%mlp_table lake.t rows")
    found = notebook.cell("%%mlp_data shown\nSELECT * FROM lake.t")
    bundle = notebook.shell.display_formatter.format(found)[0]
    assert json.loads(json.dumps(bundle["application/vnd.jupyter-mlp+json"]))["rows"] == 1
    assert "<script>" not in bundle["text/html"] and "&lt;script&gt;" in bundle["text/html"]
    assert mlp.dataset("shown").to_dict()["ref"] == found.ref
