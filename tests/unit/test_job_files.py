"""The same schedule for other schedulers: each file is read by its scheduler's own parser, and values come through as they were."""

from __future__ import annotations

import ast
import json
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

import jupyter_mlp as mlp
from jupyter_mlp.core import cron
from jupyter_mlp.core.errors import InvalidInputError
from jupyter_mlp.core.systemd import calendars
from jupyter_mlp.frontends import cli
from jupyter_mlp.store.workspace import Workspace

ODD = """it's 100% "$HOME" `id` $(id) {{ds}} \\ ; # <b>"""
WHEN = {"cron": "0 3 * * 1-5", "tz": "Europe/Zurich"}


@pytest.fixture
def nightly(workspace: Workspace, tmp_path: Path) -> Path:
    cell = nbformat.v4.new_code_cell("month: int = 1\nlabel = 'x'", metadata={"tags": ["parameters"]})
    folder = tmp_path / "a study"
    folder.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell("print(month, label)")]), folder / "nightly.ipynb")
    return folder / "nightly.ipynb"


def files(nightly: Path, template: str, **more: Any) -> list[Path]:
    made = mlp.schedule(
        nightly, **{**WHEN, "parameters": {"month": 2, "label": ODD}, **more}, template=template, output=nightly.parent / "jobs"
    )
    assert mlp.schedules().all == (), "nothing is scheduled here"
    return list(made.files)  # type: ignore[union-attr]


def wanted(nightly: Path, label: str = ODD) -> list[str]:
    return ["run", str(nightly), "-p", "month=2", "-p", f"label={label}"]


def test_a_crontab_line_is_one_command_of_the_shell(nightly: Path) -> None:
    lines = files(nightly, "cron", timeout="2h")[0].read_text().splitlines()
    when, command = lines[-1][: len("0 3 * * 1-5")], lines[-1][len("0 3 * * 1-5") + 1 :]
    assert when == "0 3 * * 1-5" and "%" not in command.replace(r"\%", "")
    words = shlex.split(command.replace(r"\%", "%"))  # what cron gives to the shell
    assert words[:2] == ["flock", "-n"] and words[3:5] == ["timeout", "7200"]
    assert words[8:14] == wanted(nightly) and words[14].startswith(">>")
    with pytest.raises(InvalidInputError, match="cannot hold"):
        files(nightly, "cron", parameters={"label": "a\nb"})


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd")
def test_systemd_takes_service_and_timer(nightly: Path) -> None:
    service, timer = files(nightly, "systemd", retries=2, timeout="2h")
    assert (service.name, timer.name) == ("mlp-nightly.service", "mlp-nightly.timer")
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", str(service), str(timer)], capture_output=True, text=True)
    assert said.returncode == 0 and said.stderr == "", said.stderr
    assert "100%%" in service.read_text() and "$$HOME" in service.read_text() and "StartLimitBurst=3" in service.read_text()
    service.write_text(service.read_text().replace("oneshot", "onehsot"))
    assert "onehsot" in subprocess.run(["systemd-analyze", "verify", "--man=no", str(service)], capture_output=True, text=True).stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd")
@pytest.mark.parametrize("line", ["0 3 * * 1-5", "*/15 8-18 1,15 * *", "30 4 1 * 0", "0 0 29 2 *", "5 0 * 1-3 7", "0 */6 * * *"])
def test_a_calendar_of_systemd_has_the_moments_of_the_cron_line(line: str) -> None:
    count = 6
    begun = datetime(2026, 1, 15, 12, 30, tzinfo=UTC)
    ours = [moment for moment, _ in zip(cron.moments(line, "UTC", begun.timestamp()), range(count), strict=False)]
    found = set()
    for one in calendars(line, "UTC"):
        command = ["systemd-analyze", "calendar", f"--iterations={count}", f"--base-time={begun:%Y-%m-%d %H:%M:%S} UTC", one]
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, env={"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"}
        ).stdout
        texts = [text.split(": ", 1)[1] for text in said.splitlines() if "Next elapse:" in text or "Iter" in text]
        found |= {datetime.strptime(text.strip(), "%a %Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp() for text in texts}
    assert sorted(found)[:count] == ours


def test_a_dag_is_python_whose_values_are_literals(nightly: Path) -> None:
    text = files(nightly, "airflow", retries=3, backoff="5min", catch_up="all")[0].read_text()
    tree = ast.parse(text)
    values = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)}  # type: ignore[attr-defined]
    assert values["COMMAND"] == [sys.executable, "-m", "jupyter_mlp.frontends.cli", *wanted(nightly)]
    decorator = next(node for node in tree.body if isinstance(node, ast.FunctionDef)).decorator_list[0]
    told = {word.arg: word.value for word in decorator.keywords}  # type: ignore[attr-defined]
    assert ast.literal_eval(told["schedule"]) == "0 3 * * 1-5" and ast.literal_eval(told["catchup"]) is True


def test_a_cron_workflow_is_yaml_with_the_words_of_argo(nightly: Path) -> None:
    with pytest.raises(InvalidInputError, match="Argo would take"):
        files(nightly, "argo")
    label = ODD.replace("{{", "{").replace("}}", "}")
    told = yaml.safe_load(files(nightly, "argo", parameters={"month": 2, "label": label}, retries=2, timeout="1h")[0].read_text())
    assert told["kind"] == "CronWorkflow" and told["spec"]["schedules"] == ["0 3 * * 1-5"] and told["spec"]["timezone"] == "Europe/Zurich"
    container = told["spec"]["workflowSpec"]["templates"][0]["container"]
    assert container["args"] == wanted(nightly, label) and told["spec"]["workflowSpec"]["activeDeadlineSeconds"] == 3600


def test_a_batch_script_is_one_command_of_the_shell(nightly: Path) -> None:
    script, table = files(nightly, "slurm", timeout="90min")
    words = shlex.split(next(line for line in script.read_text().splitlines() if line.startswith("exec")))
    assert words[1:] == [sys.executable, "-m", "jupyter_mlp.frontends.cli", *wanted(nightly)]
    assert "#SBATCH --time=90" in script.read_text() and table.read_text().splitlines()[-1].startswith("0 3 * * 1-5 ")
    assert subprocess.run(["sh", "-n", str(script)]).returncode == 0


def test_the_command_runs_the_notebook_with_the_values(nightly: Path) -> None:
    """What every file ends in, as the shell runs it."""
    script = files(nightly, "slurm")[0]
    done = subprocess.run(["sh", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = next((Path(mlp.schedules().all == () and nightly.parent.parent) / "workspace" / "pipelines").rglob("*.ipynb"))
    shown = nbformat.read(ran, 4).cells[-1].outputs[0].text
    assert shown == f"2 {ODD}\n"


def test_it_is_written_by_the_command_line(nightly: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["schedule", str(nightly), "--cron", "@daily", "--tz", "UTC", "--template", "airflow", "--output", str(tmp_path / "dags")]
    assert cli.main([*words, "--retries", "1", "--notify", "mailto:a@b.ch", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"] == [str(tmp_path / "dags" / "nightly.py")]
    for given, said in (
        ({"template": "airflo", "cron": "@daily"}, "no template 'airflo'"),
        ({"template": "cron", "on": "lake.t"}, "knows no tables"),
        ({"output": "dags", "cron": "@daily"}, "files of another scheduler"),
        ({"template": "systemd", "cron": "0 3 L * *"}, "no word for the cron line"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            mlp.schedule(nightly, **given)  # type: ignore[arg-type]


def test_a_site_has_its_own(nightly: Path, tmp_path: Path) -> None:
    own = tmp_path / "own" / "slurm"
    own.mkdir(parents=True)
    (own / "NAME.sh").write_text("#!/bin/sh\n# costs $$5, ${name}\n${command}\n")
    assert files(nightly, str(own))[0].read_text().startswith("#!/bin/sh\n# costs $5, nightly\n")
