"""Spark through Spark Connect: the warm local server of this environment, or the cluster that the settings name.

Every query runs in this kernel's session under a tag, so that it can be interrupted.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jupyter_mlp.backends import java
from jupyter_mlp.backends.spark_errors import first_line, refusal, task_failure
from jupyter_mlp.backends.spark_server import runtime_folder, start_local, touch
from jupyter_mlp.backends.spark_types import storable
from jupyter_mlp.core.config import Settings
from jupyter_mlp.core.errors import InvalidInputError, JobError, MissingPackageError
from jupyter_mlp.core.imports import beside, importing
from jupyter_mlp.core.zone import local_zone

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_mlp.backends.spark_settings import SessionSettings
    from jupyter_mlp.core.recipe import Recipe
    from jupyter_mlp.core.statistics import Facts, Need

Progress = Callable[[int, int, int], None]  # (tasks done, tasks in all, bytes read)

# What changes answers is fixed here, so that a key can name it without asking the server.
SESSION = {
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_SETS = re.compile(r"\b(declare|variable|var|execute)\b", re.I)


class SparkEngine:
    """One kernel's Spark session, made at first use.

    Args:
        settings: `spark` names the master ("local[*]") or a Connect address ("sc://host:port").

    Attributes:
        views: the temporary views that cells made -> what is known of them.
        variables: the session's variables that cells declared -> type and value.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session: Any = None
        self._pinned: set[str] = set()
        self._defaults: Mapping[str, str] = {}
        self._known_settings: SessionSettings
        self._handed_out = False
        self._run: Callable[..., Any]
        self.views: dict[str, Any] = {}
        self.variables: dict[str, str] = {}

    @staticmethod
    def describe_java() -> str:
        """Return which Java a local server would run on."""
        chosen = java.choose(runtime_folder())
        return f"{chosen.version} ({chosen.origin}, {chosen.home})"

    @staticmethod
    def java_version() -> str:
        """Return the version of that Java; empty where there is none."""
        return java.version()

    @property
    def started(self) -> bool:
        """Whether this kernel has a session."""
        return self._session is not None

    @property
    def session(self) -> Any:
        """The Spark Connect session of this kernel, started when needed."""
        if self._session is None or self._session.is_stopped:
            self._session = self._connect()
            for kept in (self._pinned, self.views, self.variables):
                kept.clear()
            self._handed_out = False
            self._watch(self._session)
            self._defaults = self._known_settings.read(self._session)
        return self._session

    def overrides(self) -> dict[str, str]:
        """Return the session settings that the user changed in this kernel."""
        if self._session is None:
            return {}
        found = self._known_settings.read(self._session)
        return {name: value for name, value in found.items() if self._defaults.get(name) != value}

    def user_functions(self) -> frozenset[str]:
        """Return the functions that the user may have registered in this session, lower case."""
        if self._session is None or not self._handed_out:
            return frozenset()
        return frozenset(row[0].rsplit(".", 1)[-1].lower() for row in self._session.sql("SHOW USER FUNCTIONS").collect())

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
        self._handed_out = True
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
        assert session is self._session

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
        _connect_class()  # before `meanwhile`: it, too, may import, and only one thread at a time can
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

        with self._interruptible(progress):
            try:
                return spark_recipe.measure(self._frame(files, schema), needs, target)
            except Exception as error:
                raise refusal(error) from error

    def write_features(
        self, files: Sequence[str], schema: pa.Schema, recipe: Recipe, folder: Path, progress: Progress | None = None
    ) -> None:
        """Let the executors apply a fitted recipe to these files and write the features as Parquet files in `folder`."""
        from jupyter_mlp.backends import spark_recipe

        with self._interruptible(progress):
            try:
                _write(spark_recipe.apply(self._frame(files, schema), recipe), folder)
            except Exception as error:
                raise refusal(error) from error

    def each(self, count: int, work: Callable[[int], None], progress: Progress | None = None) -> None:
        """Let the executors call `work` with every number below `count`, each in a task of its own.

        Raises:
            InvalidInputError: `work` raised something; its message.
            JobError: a task's process was lost. Other tasks may have done their work.
        """
        from jupyter_mlp.backends import spark_tasks

        with self._interruptible(progress):
            try:
                spark_tasks.each(self.session, count, work)
            except Exception as error:
                raise task_failure(error) from error

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
        self._handed_out |= "function" in sql.lower()
        with self._interruptible(None):
            try:
                _ = self.session
                self._run(sql, args=dict(parameters) or None)
            except Exception as error:
                raise self._refused(error, sql, parameters) from error

    def _refused(self, error: Exception, sql: str, parameters: Mapping[str, Any]) -> Exception:
        """What Spark says, with the place; a text with parameters that it cannot parse it places only without them."""
        from pyspark.errors import PySparkException

        found = refusal(error, sql)
        if isinstance(found, InvalidInputError) and found.position is None and parameters:
            try:
                _ = self.session.sql(sql).schema
            except PySparkException as again:
                placed = refusal(again, sql)
                if isinstance(placed, InvalidInputError) and placed.condition == found.condition:
                    return placed
        return found

    @contextmanager
    def _interruptible(self, progress: Progress | None) -> Iterator[None]:
        session = self.session
        touch(runtime_folder())
        tag = f"mlp-{os.urandom(16).hex()}"
        handler = _handler(progress) if progress else None
        session.addTag(tag)
        if handler:
            session.registerProgressHandler(handler)
        try:
            yield
        except KeyboardInterrupt:
            session.interruptTag(tag)
            raise
        finally:
            session.removeTag(tag)
            if handler:
                session.removeProgressHandler(handler)

    def _watch(self, session: Any) -> None:
        """What the user declares or sets in the session that was handed out changes what its variables mean."""
        run = self._run = session.sql

        def watched(text: str, *rest: Any, **more: Any) -> Any:
            if _SETS.search(text):
                for word in set(re.findall(r"\w+", text.lower())):
                    self.variables[word] = os.urandom(16).hex()
            return run(text, *rest, **more)

        session.sql = watched

    def _connect(self) -> Any:
        # Refusals reach the user as two lines; Spark's own logger would print the JVM's stack beside them.
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
        address = self._settings.spark
        if not address.startswith("sc://"):
            address = start_local(self._settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                session = self._made(address)
                # At exit it would try for minutes to tidy up on a server that has stopped since.
                atexit.unregister(session.client._on_exit)
                for name, value in {**SESSION, "spark.sql.session.timeZone": local_zone()}.items():
                    session.conf.set(name, value)
            except Exception as error:
                raise JobError(
                    f"Spark at {address} cannot be reached: {first_line(error)}", "Check the setting `spark` (mlp doctor shows it)."
                ) from error
        return session

    def _made(self, address: str) -> Any:
        builder = _connect_class().builder
        from pyspark.sql.connect.client import DefaultChannelBuilder

        from jupyter_mlp.backends.spark_settings import SessionSettings  # imports grpc, as Spark's client does

        self._known_settings = SessionSettings()
        channel = DefaultChannelBuilder(address)
        channel.add_interceptor(self._known_settings)
        return builder.channelBuilder(channel).create()


def _connect_class() -> Any:
    try:
        with importing():
            from pyspark.sql.connect.session import SparkSession
    except ImportError as error:
        raise MissingPackageError("Spark is not installed.", "pip install 'jupyter_mlp[spark]'") from error
    return SparkSession


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


def _handler(progress: Progress) -> Callable[..., None]:
    def handle(stages: Any = None, inflight_tasks: int = 0, done: bool = False, **_: Any) -> None:
        finished = sum(stage.num_completed_tasks for stage in stages or ())
        progress(finished, sum(stage.num_tasks for stage in stages or ()), sum(stage.num_bytes_read for stage in stages or ()))
        touch(runtime_folder())

    return handle
