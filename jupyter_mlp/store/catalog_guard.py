"""A catalog that refuses to drop or rename a table while records refer to it, whoever asks.

Tags keep an expiry away from a version, but nothing in Iceberg keeps a `drop table` (or a purge, which drops first) away
from a table. Our catalog is a SQL database, so the database itself says no: `mlp_held` names the tables that records
refer to, and a trigger on the catalog's own table looks there. It holds for every client of that database.
"""

from __future__ import annotations

from jupyter_mlp.store import catalog_sql
from jupyter_mlp.store.catalog_sql import NAME, Place

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


def hold(place: Place, space: str, name: str) -> None:
    """Let the catalog refuse to drop or rename a table; twice is as good as once."""
    row = {"catalog": NAME, "space": space, "name": name}
    if catalog_sql.rows(place, "mlp_held", f"SELECT 1 FROM mlp_held WHERE {_WHERE}", row):
        return
    with catalog_sql.transaction(place) as execute:
        for statement in _POSTGRES if isinstance(place, str) else _SQLITE:
            execute(statement, {})
        execute("INSERT INTO mlp_held VALUES (:catalog, :space, :name) ON CONFLICT DO NOTHING", row)


def release(place: Place, space: str, name: str) -> None:
    """Let a table be dropped by whoever wants to: no record refers to it any more."""
    row = {"catalog": NAME, "space": space, "name": name}
    if catalog_sql.rows(place, "mlp_held", f"SELECT 1 FROM mlp_held WHERE {_WHERE}", row):
        with catalog_sql.transaction(place) as execute:
            execute(f"DELETE FROM mlp_held WHERE {_WHERE}", row)


def drop(place: Place, space: str, name: str, metadata_location: str) -> bool:
    """Drop a table from the catalog, held or not, unless somebody has committed to it since; return whether it went."""
    row = {"catalog": NAME, "space": space, "name": name, "location": metadata_location}
    same = f"{_WHERE} AND metadata_location = :location"
    is_guarded = catalog_sql.has(place, "mlp_held")
    with catalog_sql.transaction(place) as execute:
        if is_guarded:  # a table that others moved on stays held
            execute(f"DELETE FROM mlp_held WHERE {_WHERE} AND EXISTS (SELECT 1 FROM iceberg_tables WHERE {same})", row)
        return bool(execute(f"DELETE FROM iceberg_tables WHERE {same}", row).rowcount == 1)
