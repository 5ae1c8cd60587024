"""Spark through Spark Connect: the warm local server of this environment, or the cluster that the settings name.

Every query runs in this kernel's session under a tag, so that it can be interrupted.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jupyter_mlp.backends import spark_renewal
from jupyter_mlp.backends.spark_errors import refusal, task_failure
from jupyter_mlp.backends.spark_renewal import Held
from jupyter_mlp.backends.spark_runtime import runtime_folder, touch
from jupyter_mlp.backends.spark_session import Opened, connect, connect_class
from jupyter_mlp.backends.spark_types import storable
from jupyter_mlp.core import queries
from jupyter_mlp.core.config import Settings
from jupyter_mlp.core.errors import InvalidInputError, JobError
from jupyter_mlp.core.imports import beside

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_mlp.core.recipe import Recipe
    from jupyter_mlp.core.statistics import Facts, Need

Progress = Callable[[int, int, int], None]  # (tasks done, tasks in all, bytes read)

_log = logging.getLogger(__name__)
_SETS = re.compile(r"\b(declare|variable|var|execute|begin)\b", re.I)
_HIDES = re.compile(r"\b(execute|begin)\b", re.I)  # what they set has a name that need not stand in the text


class SparkEngine:
    """One kernel's Spark session, made at first use.

    Args:
        settings: `spark` names the master ("local[*]") or a Connect address ("sc://host:port").

    Attributes:
        views: the temporary views that cells made -> what is known of them; None: something else changed it since.
        variables: the session's variables that cells declared -> type and value; "" stands for those whose names are not known.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._opened: Opened | None = None
        self._pinned: set[str] = set()
        self._defaults: Mapping[str, str] = {}
        self._run: Callable[..., Any]
        self.views: dict[str, Any] = {}
        self.variables: dict[str, str] = {}

    @staticmethod
    def describe_java() -> str:
        """Return which Java a local server would run on."""
        from jupyter_mlp.backends import java

        chosen = java.choose(runtime_folder())
        return f"{chosen.version} ({chosen.origin}, {chosen.home})"

    @staticmethod
    def java_version() -> str:
        """Return the version of that Java; empty where there is none."""
        from jupyter_mlp.backends import java

        return java.version()

    @property
    def started(self) -> bool:
        """Whether this kernel has a session."""
        return self._opened is not None

    @property
    def session(self) -> Any:
        """The Spark Connect session of this kernel, started when needed."""
        return self._current().session

    def _current(self) -> Opened:
        opened = self._opened
        if opened is None or opened.session.is_stopped:
            opened = connect(self._settings)
            self._begin(opened)
            opened.names.changed = self._forget
            self._watch(opened.session)
            self._defaults = opened.settings.read(opened.session)
        return opened

    def _begin(self, opened: Opened | None) -> None:
        self._opened = opened
        for kept in (self._pinned, self.views, self.variables):
            kept.clear()

    def renew(self) -> None:
        """Where the session was lost with its server, say so in a line, and make the views of cells in another; without any it waits."""
        lost = self._opened
        if lost is None or lost.session.is_stopped or not lost.gone:
            return
        changed = {name for name, value in lost.settings.last.items() if self._defaults.get(name) != value}
        held = Held(dict(self.views), tuple(changed), lost.names.last_functions, frozenset(self.variables))
        lost.close()
        self._begin(None)
        _log.warning("%s", spark_renewal.told(held, spark_renewal.made_again(held)))

    def overrides(self) -> dict[str, str]:
        """Return the session settings that the user changed in this kernel."""
        if self._opened is None:
            return {}
        found = self._opened.settings.read(self._opened.session)
        return {name: value for name, value in found.items() if self._defaults.get(name) != value}

    def user_functions(self) -> frozenset[str]:
        """Return the functions that the user registered in this session, lower case; Spark is asked after they may have changed."""
        return self._opened.names.functions(self._opened.session) if self._opened else frozenset()

    def holds_view(self, name: str) -> bool:
        """Whether the session has a temporary view of this name that a cell made, whatever changed it since."""
        if name in self.views and self.views[name] is None and not self.knows(name):
            del self.views[name]
        return name in self.views

    def _forget(self, name: str | None) -> None:
        """Know no longer what a view means, or any: something that is no cell of ours may have made it anew."""
        for one in list(self.views) if name is None else [name]:
            if one in self.views:
                self.views[one] = None

    def knows(self, table: str) -> bool:
        """Whether Spark itself has a table or view of that name, or may have: one it cannot look up it answers itself."""
        from pyspark.errors import PySparkException

        try:
            return bool(self.session.catalog.tableExists(table))
        except PySparkException:
            return True

    def files_of(self, table: str) -> list[tuple[str, int, float]]:
        """Return path, size in bytes and time of the files behind a table or view of the catalog; empty where Spark cannot say."""
        from pyspark.errors import PySparkException

        try:
            paths = [unquote(path) for path in self.session.table(table).inputFiles()]
            if not paths:
                return []
            found = self.session.read.format("binaryFile").load(paths).select("path", "length", "modificationTime").collect()
        except PySparkException:
            return []
        return [(row.path, row.length, row.modificationTime.timestamp()) for row in found]

    def frame(self, files: Sequence[str], schema: pa.Schema) -> Any:
        """Return a Spark DataFrame over exactly these Parquet files, for the user, who then has the session too."""
        self.renew()
        return self._frame(files, schema)

    def _frame(self, files: Sequence[str], schema: pa.Schema) -> Any:
        from pyspark.sql.pandas.types import from_arrow_schema

        spark_schema = from_arrow_schema(schema, prefer_timestamp_ntz=True)
        if not files:
            return self.session.createDataFrame([], spark_schema)
        return self.session.read.schema(spark_schema).parquet(*files)

    def view(self, name: str, rows: Callable[[], tuple[Sequence[str], pa.Schema]]) -> None:
        """Make the temporary view `name` over exactly the Parquet files and columns that `rows` names, once per session."""
        session = self.session
        if name not in self._pinned:
            self._frame(*rows()).createOrReplaceTempView(name)
            self._pinned.add(name)
        assert session is self.session

    def write(
        self,
        sql: str,
        parameters: Mapping[str, Any],
        folder: Path,
        progress: Progress | None = None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> list[str]:
        """Run one query and let the executors write its rows as Parquet files in `folder`.

        Args:
            meanwhile: what is to be done anyhow, done here while Spark works; it must not need Spark.

        Returns:
            Notes about what had to be changed to store the rows.

        Raises:
            InvalidInputError: Spark refused or failed the query: its sentence, error class, and position in the text sent.
        """
        connect_class()  # before `meanwhile`: it, too, may import, and only one thread at a time can
        with beside(meanwhile), self._interruptible(progress):
            try:
                frame, notes = storable(self.session.sql(sql, args=dict(parameters) or None))
                _write(frame, folder)
                return notes
            except Exception as error:
                raise self._refused(error, sql, parameters) from error

    def measure(
        self, files: Sequence[str], schema: pa.Schema, needs: Sequence[Need], target: Need | None, progress: Progress | None = None
    ) -> tuple[dict[str, Facts], int]:
        """Return what a recipe must know of these files' columns, and how many passes over the rows that took."""
        from jupyter_mlp.backends import spark_recipe

        self.renew()
        with self._interruptible(progress):
            try:
                return spark_recipe.measure(self._frame(files, schema), needs, target)
            except Exception as error:
                raise self._told(refusal(error)) from error

    def write_features(
        self, files: Sequence[str], schema: pa.Schema, recipe: Recipe, folder: Path, progress: Progress | None = None
    ) -> None:
        """Let the executors apply a fitted recipe to these files and write the features as Parquet files in `folder`."""
        from jupyter_mlp.backends import spark_recipe

        self.renew()
        with self._interruptible(progress):
            try:
                _write(spark_recipe.apply(self._frame(files, schema), recipe), folder)
            except Exception as error:
                raise self._told(refusal(error)) from error

    def each(self, count: int, work: Callable[[int], None], progress: Progress | None = None) -> None:
        """Let the executors call `work` with every number below `count`, each in a task of its own.

        Raises:
            InvalidInputError: `work` raised something; its message.
            JobError: a task's process was lost. Other tasks may have done their work.
        """
        from jupyter_mlp.backends import spark_tasks

        self.renew()
        with self._interruptible(progress):
            try:
                spark_tasks.each(self.session, count, work)
            except Exception as error:
                raise self._told(task_failure(error)) from error

    def analyse(self, sql: str, parameters: Mapping[str, Any]) -> None:
        """Let Spark look at a query without running it.

        Raises:
            InvalidInputError: Spark refuses it.
        """
        try:
            _ = self.session.sql(sql, args=dict(parameters) or None).schema
        except Exception as error:
            raise self._refused(error, sql, parameters) from error

    def statement(self, sql: str, parameters: Mapping[str, Any]) -> None:
        """Run a statement that changes the session and gives no rows.

        Raises:
            InvalidInputError: Spark refuses it.
        """
        with self._interruptible(None):
            try:
                _ = self.session
                self._run(sql, args=dict(parameters) or None)
            except Exception as error:
                raise self._refused(error, sql, parameters) from error

    def _refused(self, error: Exception, sql: str, parameters: Mapping[str, Any]) -> Exception:
        """What Spark says, with the place; a text with parameters that it cannot parse it places only without them."""
        from pyspark.errors import PySparkException

        found = self._told(refusal(error, sql))
        if isinstance(found, InvalidInputError) and found.position is None and parameters:
            try:
                _ = self.session.sql(sql).schema
            except PySparkException as again:
                placed = refusal(again, sql)
                if isinstance(placed, InvalidInputError) and placed.condition == found.condition:
                    return placed
        return found

    def _told(self, found: Exception) -> Exception:
        """What is to be told: that the server ended in the midst of it, where it did, rather than how its client noticed."""
        if self._opened is None or self._opened.server is None or not self._opened.gone:
            return found
        log = self._opened.server.runtime / "logs"
        return JobError(
            "The local Spark server ended while it worked on this.", f"Run it again: Spark is started anew. Its log is in {log}."
        )

    @contextmanager
    def _interruptible(self, progress: Progress | None) -> Iterator[None]:
        session = self.session
        touch(runtime_folder())
        tag = f"mlp-{os.urandom(16).hex()}"
        handler = _handler(progress)
        session.addTag(tag)
        session.registerProgressHandler(handler)
        try:
            yield
        except KeyboardInterrupt:
            session.interruptTag(tag)
            raise
        finally:
            session.removeTag(tag)
            session.removeProgressHandler(handler)

    def _watch(self, session: Any) -> None:
        """What the user declares or sets in the session that was handed out changes what its variables mean."""
        run = self._run = session.sql

        def watched(text: str, *rest: Any, **more: Any) -> Any:
            if _SETS.search(text) and not queries.is_query(text):
                for word in {*re.findall(r"\w+", text.lower()), *([""] if _HIDES.search(text) else [])}:
                    self.variables[word] = os.urandom(16).hex()
            return run(text, *rest, **more)

        session.sql = watched


def _write(frame: Any, folder: Path) -> None:
    """Let the executors write a frame as Parquet: small row groups, so that they can be shuffled; zstd where it is fastest.

    Numbers with a point seldom repeat: a dictionary of them is built and thrown away again, a third of the time.
    """
    from pyspark.sql.types import DoubleType, FloatType

    pointed = [column.name for column in frame.schema.fields if isinstance(column.dataType, FloatType | DoubleType)]
    options = {
        "compression": "zstd",
        "parquet.compression.codec.zstd.level": "1",
        "parquet.block.size": str(32 * 2**20),
        **{f"parquet.enable.dictionary#{name}": "false" for name in pointed},
    }
    frame.write.options(**options).parquet(folder.as_uri())


def _handler(progress: Progress | None) -> Callable[..., None]:
    """What Spark calls with its stages: it tells of tasks, stages and bytes, and of no rows."""
    tell_stages = getattr(progress, "stages", None)

    def handle(stages: Any = None, **_: Any) -> None:
        touch(runtime_folder())  # while it works it is in use, whoever listens
        if progress is None:
            return
        found = list(stages or ())
        if tell_stages:
            tell_stages(sum(stage.done for stage in found), len(found))
        finished, total = sum(stage.num_completed_tasks for stage in found), sum(stage.num_tasks for stage in found)
        progress(finished, total, sum(stage.num_bytes_read for stage in found))

    return handle
