"""A session's settings are asked of Spark again after whatever may have changed them, and after nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from jupyter_mlp.store.workspace import Workspace

ZONE = "spark.sql.session.timeZone"


@pytest.mark.parametrize(
    "change",
    [
        lambda session: session.conf.set(ZONE, "Asia/Tokyo"),
        lambda session: session.sql(f"SET {ZONE} = Asia/Tokyo"),
        lambda session: session.sql("/* of Japan */ SET TIME ZONE 'Asia/Tokyo'"),
        lambda session: session.sql(f"EXECUTE IMMEDIATE 'SET {ZONE}=Asia/Tokyo'"),
        lambda session: session.sql(f"SET {ZONE} = Asia/Tokyo").collect(),
    ],
    ids=["conf", "SET", "a comment first", "EXECUTE IMMEDIATE", "collected"],
)
def test_whatever_changes_a_setting_is_seen(workspace: Workspace, change: Callable[[Any], Any]) -> None:
    engine = workspace.engine
    session = engine.session
    assert engine.overrides() == {}
    change(session)
    assert session.conf.get(ZONE) == "Asia/Tokyo"
    assert engine.overrides() == {ZONE: "Asia/Tokyo"}
    session.sql(f"RESET {ZONE}")
    session.conf.unset("spark.sql.ansi.enabled")
    assert engine.overrides().get(ZONE) != "Asia/Tokyo"


def test_queries_do_not_make_the_settings_be_asked_for_again(workspace: Workspace) -> None:
    engine = workspace.engine
    session = engine.session
    asked: list[Any] = []
    config = session.client.config

    def counted(operation: Any) -> Any:
        asked.append(operation)
        return config(operation)

    session.client.config = counted
    before = engine.overrides()
    assert len(asked) <= 1
    asked.clear()
    for text in ("SELECT 1", "WITH a AS (SELECT 2) SELECT * FROM a", "VALUES (3)", "  (SELECT 4)", "SHOW TABLES", "FROM range(5)"):
        session.sql(text).toPandas()
    assert session.range(5).count() == 5
    asked.clear()  # toPandas asks for settings of its own
    assert engine.overrides() == before and not asked
