"""Alembic's entry: connect to the URL we were called with and run the migrations in one transaction."""

from alembic import context
from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

url = context.config.attributes["url"]
engine = create_engine(url, poolclass=NullPool)

if url.startswith("sqlite"):
    # Two kernels may open a new workspace at once: take the write lock first, so that one migrates and one waits.
    @event.listens_for(engine, "connect")
    def _prepare(raw, _record):
        raw.isolation_level = None
        raw.execute("PRAGMA busy_timeout = 30000")
        raw.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _begin(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")


with engine.connect() as connection:
    context.configure(connection=connection, transactional_ddl=True)
    with context.begin_transaction():
        if not url.startswith("sqlite"):
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7237111)")
        context.run_migrations()
