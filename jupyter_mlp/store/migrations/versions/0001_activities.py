"""Activities and what they used and made."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "activities",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("identity", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("notebook", sa.Text),
        sa.Column("cell", sa.Text),
    )
    op.create_index("activities_by_identity", "activities", ["identity", "state", "seq"])
    op.create_index("activities_by_kind", "activities", ["kind", "seq"])
    op.create_index("activities_by_state", "activities", ["state", "seq"])
    op.create_table(
        "edges",
        sa.Column("activity", sa.Text, sa.ForeignKey("activities.id"), nullable=False),
        sa.Column("role", sa.Text, nullable=False),  # used | made
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),  # empty for things without versions
        sa.Column("seq", sa.BigInteger, nullable=False),  # of the activity, so that "newest" is one index look-up
        sa.PrimaryKeyConstraint("activity", "role", "position"),
    )
    op.create_index("edges_by_thing", "edges", ["role", "kind", "name", "seq"])
    op.create_index("edges_by_version", "edges", ["kind", "name", "version", "role"])
