"""The notebook ${name} as a DAG of Airflow 3; the file belongs into its folder of DAGs."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta

import pendulum
from airflow.sdk import dag, task

# Nothing of these is a template of Airflow's: values reach the notebook as they stand here.
COMMAND = ${command}
WORKSPACE = ${workspace}


@dag(
    dag_id=${dag},
    schedule=${cron},
    start_date=pendulum.datetime(2026, 1, 1, tz=${zone}),
    catchup=${catch_up},
    max_active_runs=${max_running},
    default_args={
        "retries": ${retries},
        "retry_delay": timedelta(seconds=${backoff}),
        "retry_exponential_backoff": True,
        "execution_timeout": ${timeout},
    },
    tags=["jupyter_mlp"],
)
def notebook() -> None:
    @task
    def run() -> None:
        """Run it from top to bottom; a cell that fails fails the task, and its log says which."""
        subprocess.run(COMMAND, check=True, env={**os.environ, "MLP_WORKSPACE": WORKSPACE})

    run()


notebook()
