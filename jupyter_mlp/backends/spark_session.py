"""Connects to Spark: a session of this kernel's, what watches its requests, and how to know that its server is gone."""

from __future__ import annotations

import atexit
import logging
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_mlp.backends.spark_errors import first_line
from jupyter_mlp.backends.spark_server import Server, runs, start_local
from jupyter_mlp.core.config import Settings
from jupyter_mlp.core.errors import JobError, MissingPackageError
from jupyter_mlp.core.imports import importing
from jupyter_mlp.core.zone import local_zone

if TYPE_CHECKING:
    from jupyter_mlp.backends.spark_names import SessionNames
    from jupyter_mlp.backends.spark_settings import SessionSettings

# What changes answers is fixed here, so that a key can name it without asking the server.
SESSION = {
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


class Opened(NamedTuple):
    """A session and what watches it.

    Attributes:
        server: the warm local server it is of; None for a cluster's.
    """

    session: Any
    settings: SessionSettings
    names: SessionNames
    server: Server | None

    @property
    def gone(self) -> bool:
        """Whether the session is lost with its server, or because that forgot it; asked of the server only after a long pause."""
        if self.server is not None and not runs(self.server):
            return True
        return self.names.long_quiet and self._forgotten()

    def _forgotten(self) -> bool:
        """A server ends a session that was quiet for an hour."""
        from pyspark.errors import PySparkException

        try:
            self.session.conf.get("spark.sql.session.timeZone")
        except PySparkException as error:
            if self.session.is_stopped or str(error.getCondition()).startswith("INVALID_HANDLE."):
                return True
            raise JobError(f"Spark does not answer: {first_line(error)}", "mlp doctor shows how Spark is.") from error
        return False

    def close(self) -> None:
        """Let go of a session that is lost: what is asked of its frames fails at once."""
        self.session.release_session_on_close = False  # there is nobody to release it
        self.session.stop()


def connect(settings: Settings) -> Opened:
    """Return a new session, on the warm local server where the settings name no cluster.

    Raises:
        JobError: Spark cannot be reached.
    """
    # Refusals reach the user as two lines; Spark's own logger would print the JVM's stack beside them.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
    server = None if settings.spark.startswith("sc://") else start_local(settings)
    address = server.address if server else settings.spark
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = _made(address, server)
            # At exit it would try for minutes to tidy up on a server that has stopped since.
            atexit.unregister(opened.session.client._on_exit)
            for name, value in {**SESSION, "spark.sql.session.timeZone": local_zone()}.items():
                opened.session.conf.set(name, value)
        except Exception as error:
            raise JobError(
                f"Spark at {address} cannot be reached: {first_line(error)}", "Check the setting `spark` (mlp doctor shows it)."
            ) from error
    return opened


def _made(address: str, server: Server | None) -> Opened:
    builder = connect_class().builder
    from pyspark.sql.connect.client import DefaultChannelBuilder

    # They import grpc, as Spark's client does.
    from jupyter_mlp.backends.spark_names import SessionNames
    from jupyter_mlp.backends.spark_settings import SessionSettings

    settings, names = SessionSettings(), SessionNames()
    channel = DefaultChannelBuilder(address)
    channel.add_interceptor(settings)
    channel.add_interceptor(names)
    session = builder.channelBuilder(channel).create()
    if server is not None:
        session.client.set_retry_policies([_while_it_runs(server)])
    return Opened(session, settings, names, server)


def _while_it_runs(server: Server) -> Any:
    """Spark's own patience of ten minutes with a server that does not answer, but none with one that is gone."""
    from pyspark.sql.connect.client.retries import DefaultPolicy

    class WhileItRuns(DefaultPolicy):
        def can_retry(self, e: BaseException) -> bool:
            return bool(super().can_retry(e)) and runs(server)

    return WhileItRuns()


def connect_class() -> Any:
    """Return Spark's class of sessions.

    Raises:
        MissingPackageError: Spark is not installed.
    """
    try:
        with importing():
            from pyspark.sql.connect.session import SparkSession
    except ImportError as error:
        raise MissingPackageError("Spark is not installed.", "pip install 'jupyter_mlp[spark]'") from error
    return SparkSession
