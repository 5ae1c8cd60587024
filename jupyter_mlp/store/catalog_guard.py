"""A catalog that refuses to drop or rename a table while records refer to it, whoever asks.

Tags keep an expiry away from a version, but nothing in Iceberg keeps a `drop table` (or a purge, which drops first) away
from a table. Our catalog is a SQL database, so the database itself says no: `mlp_held` names the tables that records
refer to, and a trigger on the catalog's own table looks there. It holds for every client of that database.
"""

from __future__ import annotations

from functools import cache
from typing import Any

_SAID = "this table holds versions that records refer to; mlp forget NAME --all shows which, and drops it"
_TABLE = """
CREATE TABLE IF NOT EXISTS mlp_held (
  catalog_name VARCHAR(255) NOT NULL, table_namespace VARCHAR(255) NOT NULL, table_name VARCHAR(255) NOT NULL,
  PRIMARY KEY (catalog_name, table_namespace, table_name))
"""
_IS_HELD = """EXISTS (SELECT 1 FROM mlp_held h WHERE h.catalog_name = OLD.catalog_name
  AND h.table_namespace = OLD.table_namespace AND h.table_name = OLD.table_name)"""
_MOVED = "(NEW.table_name <> OLD.table_name OR NEW.table_namespace <> OLD.table_namespace)"
_SQLITE = (
    _TABLE,
    f"CREATE TRIGGER IF NOT EXISTS mlp_no_drop BEFORE DELETE ON iceberg_tables WHEN {_IS_HELD} BEGIN SELECT RAISE(ABORT, '{_SAID}'); END",
    "CREATE TRIGGER IF NOT EXISTS mlp_no_rename BEFORE UPDATE ON iceberg_tables "
    f"WHEN {_MOVED} AND {_IS_HELD} BEGIN SELECT RAISE(ABORT, '{_SAID}'); END",
)
_POSTGRES = (
    "SELECT pg_advisory_xact_lock(7237112)",
    _TABLE,
    f"""CREATE OR REPLACE FUNCTION mlp_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF {_IS_HELD} THEN RAISE EXCEPTION '{_SAID}'; END IF;
    IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
    RETURN NEW; END $$""",
    "DROP TRIGGER IF EXISTS mlp_no_drop ON iceberg_tables",
    "CREATE TRIGGER mlp_no_drop BEFORE DELETE ON iceberg_tables FOR EACH ROW EXECUTE FUNCTION mlp_refuse()",
    "DROP TRIGGER IF EXISTS mlp_no_rename ON iceberg_tables",
    "CREATE TRIGGER mlp_no_rename BEFORE UPDATE OF table_name, table_namespace ON iceberg_tables "
    f"FOR EACH ROW WHEN {_MOVED} EXECUTE FUNCTION mlp_refuse()",
)
_WHERE = "catalog_name = :catalog AND table_namespace = :space AND table_name = :name"


def hold(catalog: Any, space: str, name: str) -> None:
    """Let the catalog refuse to drop or rename a table; twice is as good as once."""
    from sqlalchemy import text

    engine = catalog.engine
    row = {"catalog": catalog.name, "space": space, "name": name}
    if not _installed(engine):
        with engine.begin() as connection:
            for statement in _POSTGRES if engine.dialect.name == "postgresql" else _SQLITE:
                connection.execute(text(statement))
        _installed.cache_clear()
    with engine.connect() as connection:
        known = connection.execute(text(f"SELECT 1 FROM mlp_held WHERE {_WHERE}"), row).first()
    if known is None:
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO mlp_held VALUES (:catalog, :space, :name) ON CONFLICT DO NOTHING"), row)


def release(catalog: Any, space: str, name: str) -> None:
    """Let a table be dropped by whoever wants to: no record refers to it any more."""
    from sqlalchemy import text

    if _installed(catalog.engine):
        with catalog.engine.begin() as connection:
            connection.execute(text(f"DELETE FROM mlp_held WHERE {_WHERE}"), {"catalog": catalog.name, "space": space, "name": name})


def drop(catalog: Any, space: str, name: str, metadata_location: str) -> bool:
    """Drop a table from the catalog, held or not, unless somebody has committed to it since; return whether it went."""
    from sqlalchemy import text

    row = {"catalog": catalog.name, "space": space, "name": name, "location": metadata_location}
    is_guarded = _installed(catalog.engine)
    with catalog.engine.begin() as connection:
        same = connection.execute(text(f"SELECT 1 FROM iceberg_tables WHERE {_WHERE} AND metadata_location = :location"), row).first()
        if same is None:
            return False
        if is_guarded:
            connection.execute(text(f"DELETE FROM mlp_held WHERE {_WHERE}"), row)
        gone = connection.execute(text(f"DELETE FROM iceberg_tables WHERE {_WHERE} AND metadata_location = :location"), row)
        if gone.rowcount < 1:
            connection.rollback()
            return False
    return True


@cache
def _installed(engine: Any) -> bool:
    from sqlalchemy import inspect

    return bool(inspect(engine).has_table("mlp_held"))
