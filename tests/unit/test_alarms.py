"""Alarms: raised for what is wrong, told once to each receiver, and again when they come back."""

from __future__ import annotations

import pytest
from receivers import receiver

from jupyter_mlp.core import alarms, guards
from jupyter_mlp.core.alarms import Alarm
from jupyter_mlp.core.errors import JobError
from jupyter_mlp.notebook.alarms import tell
from jupyter_mlp.store import deployments
from jupyter_mlp.store.workspace import Workspace

QUIET = {"newer_data": None, "lost": 0}


def test_each_alarm_is_told_once_while_it_stands_and_again_when_it_is_back(workspace: Workspace) -> None:
    folder = deployments.folder(workspace, "delays")
    drift, slow = Alarm("drift x", "x drifted."), Alarm("latency", "It is slow.")
    with receiver() as (url, came, statuses), receiver() as (other, others, _):
        assert tell(folder, [url], [], {}, workspace.settings) == 0 and came == []
        for _ in range(3):
            tell(folder, [url], [drift], {"report": "page.html"}, workspace.settings)
        assert came == [{"endpoint": "delays", "state": "alarm", "new": ["x drifted."], "standing": ["x drifted."], "report": "page.html"}]
        statuses.append(500)
        with pytest.raises(JobError, match="did not take it"):
            tell(folder, [url], [drift, slow], {}, workspace.settings)
        tell(folder, [url, other], [drift, slow], {}, workspace.settings)
        assert came[1]["new"] == ["It is slow."] and came[1]["standing"] == ["x drifted.", "It is slow."]
        assert others[0]["new"] == ["x drifted.", "It is slow."], "another receiver is told of all"
        tell(folder, [url], [slow], {}, workspace.settings)
        assert len(came) == 2, "one less is no news"
        tell(folder, [url], [drift, slow], {}, workspace.settings)
        assert came[2]["new"] == ["x drifted."] and len(came) == 3
    assert url not in (folder.path / "alarms.json").read_text()


def test_errors_and_slow_answers_of_late_are_alarms() -> None:
    well = [False] * 3000
    first = alarms.at_look(1)
    assert alarms.traffic([], [], [], first) == [] and alarms.traffic(well, [5.0] * 3000, [], first) == []
    (errors,) = alarms.traffic([*well[:-60], *[True] * 60], [5.0] * 3000, [], first)
    assert errors == Alarm("guard error_rate<=2%", "Lately 60 of 1,000 requests failed (error_rate<=2%).")
    assert alarms.traffic([*[True] * 60, *well], [5.0] * 3060, [], first) == [], "long ago"
    (slow,) = alarms.traffic(well, [*[5.0] * 2000, *[80.0] * 1000], [], first)
    assert slow.name == "latency" and "80 ms" in slow.says
    (asked,) = alarms.traffic(well, [80.0] * 3000, [guards.read("p99<=50ms"), guards.read("error_rate<=1%")], first)
    assert asked.name == "guard p99<=50ms"


def test_what_is_no_news_at_the_hundredth_look_is_some_at_the_first() -> None:
    odd = [*[False] * 2960, *[True] * 40]
    assert [one.name for one in alarms.traffic(odd, [5.0] * 3000, [], alarms.at_look(1))] == ["guard error_rate<=2%"]
    assert alarms.traffic(odd, [5.0] * 3000, [], alarms.at_look(100)) == []
    assert sum(alarms.at_look(look) for look in range(1, 10_000)) < 0.05 / 3


def test_everything_that_is_wrong_has_a_name_that_stays() -> None:
    metrics = {"newer_data": "dataset:x@2", "lost": 7}
    drifted = [{"name": "x", "psi": 0.5, "training": "mean 1", "now": "mean 2"}]
    found = alarms.raised("down", metrics, drifted, [], [])
    assert [one.name for one in found] == ["state", "drift x", "stale dataset:x@2", "lost 7"]
    assert alarms.raised("running", QUIET, [], [], []) == alarms.raised("stopped", QUIET, [], [], []) == []
