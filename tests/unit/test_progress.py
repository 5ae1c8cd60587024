"""What the line says while Spark works."""

from __future__ import annotations

import pytest

from jupyter_mlp.backends.spark import _handler
from jupyter_mlp.frontends import progress


def test_tasks_stages_and_bytes_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyspark.sql.connect.shell.progress import StageInfo

    monkeypatch.setattr(progress, "_QUIET_S", 0.0)
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    said: list[tuple[str, float | None]] = []
    bar = progress.Bar("Spark", lambda text, share, last: said.append((text.split(" (")[0], share)))
    handle = _handler(bar)
    handle(stages=[], inflight_tasks=0, operation_id="x", done=False)
    handle(stages=[StageInfo(0, 4, 3, 2**20, False)], inflight_tasks=1, operation_id="x", done=False)
    handle(stages=[StageInfo(0, 4, 4, 2**20, True), StageInfo(1, 8, 2, 2**20, False)], inflight_tasks=1, operation_id="x", done=False)
    assert said == [
        ("Spark: starting", None),
        ("Spark: 3 of 4 tasks, 1.0 MB read", 0.75),
        ("Spark: 6 of 12 tasks, 1 of 2 stages, 2.0 MB read", 0.5),
    ]


def test_a_plain_function_is_called_as_ever() -> None:
    from pyspark.sql.connect.shell.progress import StageInfo

    seen: list[tuple[int, ...]] = []
    _handler(lambda *report: seen.append(report))(stages=[StageInfo(0, 4, 3, 5, False)], inflight_tasks=1, operation_id="x", done=False)
    assert seen == [(3, 4, 5)]
