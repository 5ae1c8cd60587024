"""What is written for other schedulers, given to them: Airflow executes the DAG, Argo's models and Slurm take theirs."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import airflow_server
import nbformat
import pytest
import slurm_server

import jupyter_mlp as mlp
from jupyter_mlp.store.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ARGO = """
import sys, yaml
from hera.workflows.models import CronWorkflow
told = yaml.safe_load(open(sys.argv[1]))
read = CronWorkflow.model_validate(told)
kept = read.model_dump(by_alias=True, exclude_none=True, mode="json")

def lost(one, other, at=""):
    if isinstance(one, dict):
        return [name for key in one for name in lost(one[key], (other or {}).get(key), f"{at}.{key}") if one[key] is not None]
    return [] if other is not None else [at]

print(lost(told, kept), read.spec.workflow_spec.templates[0].container.args)
"""


@pytest.fixture
def nightly(workspace: Workspace, tmp_path: Path) -> Path:
    cell = nbformat.v4.new_code_cell("month: int = 1\nlabel = 'x'", metadata={"tags": ["parameters"]})
    wrong = nbformat.v4.new_code_cell("assert month < 5\nopen('ran', 'w').write(f'{month} {label}')")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, wrong]), tmp_path / "nightly.ipynb")
    return tmp_path / "nightly.ipynb"


def written(nightly: Path, template: str, name: str = "nightly", **parameters: Any) -> tuple[Path, ...]:
    made = mlp.schedule(
        nightly, cron="0 3 * * *", tz="Europe/Zurich", name=name, parameters=parameters, timeout="1h", template=template,
        output=nightly.parent / template,
    )  # fmt: skip
    return made.files  # type: ignore[union-attr]


def test_airflow_executes_the_dag(nightly: Path, workspace: Workspace, tmp_path: Path) -> None:
    written(nightly, "airflow", month=2, label="{{ ds }} 'a'")
    done = airflow_server.dags_test(tmp_path / "airflow", tmp_path / "home", "nightly")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (tmp_path / "ran").read_text() == "2 {{ ds }} 'a'"
    assert workspace.activities.recent(["pipeline"])[0].state == "finished"
    assert "state=success" in done.stdout + done.stderr


def test_argo_knows_every_word(nightly: Path) -> None:
    python = airflow_server.environment() / "bin" / "python"
    path = written(nightly, "argo", month=2, label='a "b"')[0]
    said = subprocess.run([python, "-c", ARGO, str(path)], capture_output=True, text=True, check=True).stdout
    assert said.startswith("[] ") and "label=a \"b\"" in said  # fmt: skip
    path.write_text(path.read_text().replace("concurrencyPolicy", "concurencyPolicy"))
    assert "concurencyPolicy" in subprocess.run([python, "-c", ARGO, str(path)], capture_output=True, text=True).stdout


def test_slurm_takes_and_runs_the_job(nightly: Path, tmp_path: Path) -> None:
    if lacks := slurm_server.missing():
        pytest.skip(f"no {', '.join(lacks)}: apt-get install slurm-wlm munge, and be root")
    script = written(nightly, "slurm", month=3, label="$HOME `id` 'a'")[0]
    with slurm_server.running(tmp_path / "slurm") as slurm:
        assert "to start at" in slurm.says("sbatch", "--test-only", str(script))
        assert "Submitted" in slurm.says("sbatch", f"--output={tmp_path}/job.log", str(script))
        deadline = time.monotonic() + 120
        while slurm.says("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.5)
        assert (tmp_path / "ran").read_text() == "3 $HOME `id` 'a'", slurm.says("squeue")
        script.write_text(script.read_text().replace("--time=60", "--time=soon"))
        assert "to start at" not in slurm.says("sbatch", "--test-only", str(script))
