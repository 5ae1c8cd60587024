"""The history of an endpoint is read from its lake table: per hour, or per day where it is long."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from jupyter_mlp.core import drift
from jupyter_mlp.serving import experiment_tables, history
from jupyter_mlp.serving.requests_log import Entry, RequestLog
from jupyter_mlp.store import deployments
from jupyter_mlp.store.workspace import Workspace

START = datetime(2024, 5, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(("width", "count"), [(history.HOUR, 6), (history.DAY, 5), (history.DAY, 60)])
def test_answers_latency_and_drift_stand_in_their_period(workspace: Workspace, width: int, count: int) -> None:
    random = np.random.default_rng(1)
    folder = deployments.folder(workspace, "delays")
    log = RequestLog(folder.requests)
    for period in range(count):
        for number in range(30):
            values = random.normal(3.0 if period == count - 1 else 0.0, 1, 10)
            rows = [{"x": float(value)} for value in values]
            at, ms = START + period * width + number, 5.0 + period
            log.add(Entry(at, f"{period}-{number}", 200, ms, "m", rows=10, instances=rows, predictions=[1.0] * 10))
            log.add(Entry(at, f"{period}-{number}", 200, 900.0, "s", shadow=True, rows=10, instances=rows, predictions=[1.0] * 10))
    log.flush()
    assert history.periods(workspace, "delays", "m", {}) == []
    experiment_tables.fold(workspace, folder)
    known = {"x": drift.described(random.normal(0, 1, 3000).tolist(), False)}
    found = history.periods(workspace, "delays", "m", known)
    shown = min(count, 48)
    assert [one["from"] for one in found] == [datetime.fromtimestamp(START + at * width, UTC).isoformat() for at in range(count)][-shown:]
    assert {one["answers"] for one in found} == {300} and [one["p50_ms"] for one in found][-1] == 5.0 + count - 1
    assert found[-1]["psi"]["x"] > 1 and all(one["psi"]["x"] < 0.2 for one in found[:-1])
    assert max(psi for _, _, psi in history.drifted_most(found)) == found[-1]["psi"]["x"]
