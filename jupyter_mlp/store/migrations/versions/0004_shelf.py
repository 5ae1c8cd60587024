"""A page of a list and a search are one look into an index, however many records there are: the tables of store/shelf.py."""

import sqlalchemy as sa
from alembic import op

from jupyter_mlp.store import shelf

revision = "0004"
down_revision = "0003"

# Beginnings of words are a range only where letters are compared by their numbers, as SQLite does by itself.
_WORD = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


class _Open:
    """The migration's own connection, as the store's functions want it."""

    def execute(self, sql, parameters=None):
        result = op.get_bind().execute(sa.text(sql), dict(parameters or {}))
        return [dict(row) for row in result.mappings()] if result.returns_rows else []

    def execute_many(self, sql, parameters):
        if parameters:
            op.get_bind().execute(sa.text(sql), [dict(one) for one in parameters])


def upgrade() -> None:
    op.create_table(
        "things",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("activity", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name"),
    )
    op.create_index("things_by_age", "things", ["kind", "seq", "name"])
    op.create_table(
        "words",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("word", _WORD, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", "word"),
    )
    op.create_index("words_by_age", "words", ["kind", "word", "seq", "name"])
    shelf.fill(_Open())
