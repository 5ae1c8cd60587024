"""Spark through Spark Connect: the warm local server of this environment, or the cluster that the settings name.

The local server is Spark's own reusable one (loopback only, token); it is shared by all kernels of this environment
and stops by itself when idle. Every query runs in this kernel's session under a tag, so that it can be interrupted.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
import tempfile
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jupyter_mlp.backends import java
from jupyter_mlp.core.config import Settings
from jupyter_mlp.core.errors import InvalidInputError, JobError, MissingPackageError
from jupyter_mlp.core.identity import digest
from jupyter_mlp.core.zone import local_zone
from jupyter_mlp.store.processes import spawn

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_mlp.core.recipe import Recipe
    from jupyter_mlp.core.statistics import Facts, Need

Progress = Callable[[int, int, int], None]  # (tasks done, tasks in all, bytes read)

# What changes answers is fixed here, so that a key can name it without asking the server.
SESSION = {
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}
_starting = threading.Lock()
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
        self._defaults: dict[str, str] = {}
        self._handed_out = False
        self._run: Callable[..., Any]
        self.views: dict[str, Any] = {}
        self.variables: dict[str, str] = {}

    @staticmethod
    def describe_java() -> str:
        """Return which Java a local server would run on."""
        chosen = java.choose(runtime_folder())
        return f"{chosen.version} ({chosen.origin}, {chosen.home})"

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
            self._defaults = _sql_settings(self._session)
        return self._session

    def overrides(self) -> dict[str, str]:
        """Return the session settings that the user changed in this kernel."""
        if self._session is None:
            return {}
        return {name: value for name, value in _sql_settings(self._session).items() if self._defaults.get(name) != value}

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

    def write(self, sql: str, parameters: Mapping[str, Any], folder: Path, progress: Progress | None = None) -> list[str]:
        """Run one query and let the executors write its rows as Parquet files in `folder`.

        Returns:
            Notes about what had to be changed to store the rows.

        Raises:
            InvalidInputError: Spark refused or failed the query: its sentence, error class, and position in the text sent.
        """
        with self._interruptible(progress):
            try:
                frame, notes = storable(self.session.sql(sql, args=dict(parameters) or None))
                frame.write.parquet(folder.as_uri())
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
                raise _refusal(error) from error

    def write_features(
        self, files: Sequence[str], schema: pa.Schema, recipe: Recipe, folder: Path, progress: Progress | None = None
    ) -> None:
        """Let the executors apply a fitted recipe to these files and write the features as Parquet files in `folder`."""
        from jupyter_mlp.backends import spark_recipe

        with self._interruptible(progress):
            try:
                spark_recipe.apply(self._frame(files, schema), recipe).write.parquet(folder.as_uri())
            except Exception as error:
                raise _refusal(error) from error

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

        refusal = _refusal(error, sql)
        if isinstance(refusal, InvalidInputError) and refusal.position is None and parameters:
            try:
                _ = self.session.sql(sql).schema
            except PySparkException as again:
                placed = _refusal(again, sql)
                if isinstance(placed, InvalidInputError) and placed.condition == refusal.condition:
                    return placed
        return refusal

    @contextmanager
    def _interruptible(self, progress: Progress | None) -> Iterator[None]:
        session = self.session
        touch(runtime_folder())
        tag = f"mlp-{uuid.uuid4().hex}"
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
                    self.variables[word] = uuid.uuid4().hex
            return run(text, *rest, **more)

        session.sql = watched

    def _connect(self) -> Any:
        try:
            from pyspark.sql.connect.session import SparkSession
        except ImportError as error:
            raise MissingPackageError("Spark is not installed.", "pip install 'jupyter_mlp[spark]'") from error
        # Refusals reach the user as two lines; Spark's own logger would print the JVM's stack beside them.
        logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
        address = self._settings.spark
        if not address.startswith("sc://"):
            address = start_local(self._settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                session = SparkSession.builder.remote(address).create()
                # At exit it would try for minutes to tidy up on a server that has stopped since.
                atexit.unregister(session.client._on_exit)
                for name, value in {**SESSION, "spark.sql.session.timeZone": local_zone()}.items():
                    session.conf.set(name, value)
            except Exception as error:
                raise JobError(
                    f"Spark at {address} cannot be reached: {_first_line(error)}", "Check the setting `spark` (mlp doctor shows it)."
                ) from error
        return session


def start_local(settings: Settings) -> str:
    """Return the address of this environment's warm local server, starting it when needed."""
    from pyspark.errors import PySparkException
    from pyspark.sql.connect import local_server

    runtime = runtime_folder()
    with _starting, _environment(SPARK_LOCAL_CONNECT_DISCOVERY=str(runtime / "connect.json")):
        touch(runtime)
        with local_server.Discovery() as discovery:
            server = local_server.LocalConnectServer(discovery)
            if server.is_reusable():
                os.environ["SPARK_CONNECT_AUTHENTICATE_TOKEN"] = str(server.token)
                return server.url
        chosen = java.choose(runtime)
        with _environment(
            JAVA_HOME=chosen.home, PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_DIRS=str(runtime / "scratch"), SPARK_TESTING=None
        ):
            try:
                address = local_server.reuse_or_start_local_connect_server(settings.spark, _server_options(settings, runtime))
            except PySparkException as error:
                raise JobError(
                    f"The local Spark server did not start: {_first_line(error)}", f"Its log is in {runtime / 'logs'}."
                ) from error
    command = [sys.executable, "-m", "jupyter_mlp.backends.spark_idle", str(runtime), str(settings.idle_stop_s)]
    spawn(command, runtime / "idle.log")
    return str(address)


def runtime_folder() -> Path:
    """Return the private folder of this environment's server: two environments never meet in one server."""
    import pyspark

    environment = digest(sys.prefix, sys.version_info[:2], pyspark.__version__)[:12]
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"jupyter-mlp-{os.getuid()}" / f"spark-{environment}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    owner = folder.parent.stat()
    if owner.st_uid != os.getuid():
        raise JobError(f"{folder.parent} belongs to another user.", "Set XDG_RUNTIME_DIR to a folder of your own.")
    os.chmod(folder.parent, 0o700)
    return folder


def touch(runtime: Path) -> None:
    """Say that the server is in use."""
    (runtime / "used").touch()


def _sql_settings(session: Any) -> dict[str, str]:
    return {name: value for name, value in session.conf.getAll.items() if name.startswith("spark.sql.")}


def _server_options(settings: Settings, runtime: Path) -> dict[str, str]:
    return {
        "spark.driver.memory": settings.spark_memory,
        "spark.driver.extraJavaOptions": f"-XX:+UseParallelGC -Dderby.system.home={runtime / 'derby'}",
        "spark.ui.enabled": "false",
        "spark.sql.warehouse.dir": str(runtime / "warehouse"),
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.parquet.compression.codec": "lz4_raw",  # zstd takes 1.4 times as long to write, and saves a quarter
        "spark.driver.maxResultSize": "0",
        "spark.log.level": "ERROR",
        "spark.hadoop.parquet.block.size": str(32 * 2**20),
    }


def _handler(progress: Progress) -> Callable[..., None]:
    def handle(stages: Any = None, inflight_tasks: int = 0, done: bool = False, **_: Any) -> None:
        finished = sum(stage.num_completed_tasks for stage in stages or ())
        progress(finished, sum(stage.num_tasks for stage in stages or ()), sum(stage.num_bytes_read for stage in stages or ()))
        touch(runtime_folder())

    return handle


def storable(frame: Any) -> tuple[Any, list[str]]:
    """Rename and cast what a table cannot hold, and say so."""
    from pyspark.sql.connect.functions import col, lit

    notes: list[str] = []
    if not frame.columns:
        frame = frame.select(lit(None).cast("string").alias("no_column"))
        notes.append("the result has no column; an empty one stands for its rows")
    names: list[str] = []
    for position, column in enumerate(frame.schema.fields, 1):
        name = column.name or f"column_{position}"
        while name.lower() in (n.lower() for n in names):
            name += "_2"
        if name != column.name:
            notes.append(f"column {position} ({column.name or 'no name'}) is stored as {name}")
        names.append(name)
    if names != frame.columns:
        frame = frame.toDF(*names)
    for column in frame.schema.fields:
        held = _held(column.dataType)
        if held != column.dataType:
            frame = frame.withColumn(column.name, col(f"`{column.name.replace('`', '``')}`").cast(held))
            notes.append(f"{column.name} ({column.dataType.simpleString()}) is stored as {held.simpleString()}")
    return frame, notes


def _held(kind: Any) -> Any:
    """The nearest type that a table holds: text for nothing, intervals and variants, also inside of others."""
    from pyspark.sql import types as t

    if isinstance(kind, t.ArrayType):
        inner = _held(kind.elementType)
        return kind if inner == kind.elementType else t.ArrayType(inner, True)  # a cast to text may give NULL
    if isinstance(kind, t.MapType):
        key, value = _held(kind.keyType), _held(kind.valueType)
        return kind if (key, value) == (kind.keyType, kind.valueType) else t.MapType(key, value, True)
    if isinstance(kind, t.StructType):
        fields = [t.StructField(f.name, _held(f.dataType), f.nullable or _held(f.dataType) != f.dataType) for f in kind.fields]
        return t.StructType(fields)
    unheld = (t.NullType, t.DayTimeIntervalType, t.YearMonthIntervalType, t.CalendarIntervalType, t.VariantType)
    return t.StringType() if isinstance(kind, unheld) else kind


def _refusal(error: Exception, sql: str = "") -> Exception:
    from pyspark.errors import PySparkException

    if not isinstance(error, PySparkException):
        return error
    sentence = re.split(r"\s*SQLSTATE:|\n\s*\n|\n==|\nJVM stacktrace|;\n", str(error).strip())[0].strip()
    sentence = re.sub(r"\s+", " ", re.sub(r"^\([\w.]+\)\s*", "", sentence))
    return InvalidInputError(sentence, condition=error.getCondition() or type(error).__name__, position=_position(error, sql))


def _position(error: Any, sql: str) -> tuple[int, int] | None:
    """Where in the text the matter lies; Spark's own "line, pos" is of the text after values took the place of their marks."""
    units = sql.encode("utf-16-le")  # Java counts these
    for context in error.getQueryContext():
        start, stop = context.startIndex(), context.stopIndex()
        if 0 <= start <= stop < len(units) // 2 and stop - start + 1 < len(units) // 2:
            before = units[: 2 * start].decode("utf-16-le", "ignore")
            return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
    found = re.search(r"\(?line (\d+),? (pos|position) (\d+)\)?", str(error))
    # Spark counts columns from 0 when it says "pos" and from 1 when it says "position".
    return (int(found[1]), int(found[3]) + (found[2] == "pos")) if found else None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def _environment(**values: str | None) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    try:
        _set_environment(values)
        yield
    finally:
        _set_environment(before)


def _set_environment(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
