"""`spark.newSession()` on a session of ours: one of its own, which ours knows nothing of, and the other way round."""

from __future__ import annotations

import pytest
from pyspark.sql.types import DoubleType

from jupyter_mlp.backends.spark import SparkEngine
from jupyter_mlp.store.workspace import Workspace

pytestmark = pytest.mark.slow


def test_it_is_empty_and_changes_nothing_in_ours(workspace: Workspace) -> None:
    assert workspace.engine.session  # the one that Spark takes for the process' own, where there was none
    engine = SparkEngine(workspace.settings)
    spark = engine.session
    engine.statement("CREATE TEMPORARY VIEW mine AS SELECT 1 AS a", {})
    engine.views["mine"] = "known"
    spark.udf.register("half", lambda x: x / 2, DoubleType())
    beside = spark.newSession()
    assert not beside.catalog.tableExists("mine")
    beside.sql("CREATE TEMPORARY VIEW mine AS SELECT 2 AS a")
    beside.conf.set("spark.sql.ansi.enabled", "false")
    assert spark.table("mine").collect()[0].a == 1
    assert engine.views == {"mine": "known"} and not engine.overrides()
    assert engine.user_functions() == {"half"} and not workspace.engine.user_functions()
